"""Documents to concepts: yes/no questions that a language model finds in retrieved passages, each with its quote.

KnoBo (Yang et al., NeurIPS 2024), section 3.1: a queue of queries that begins with the class names; BM25's 50 best passages,
10 unused ones; questions with document and quote; accepted if visual, new and answerable; then itself a query.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import BaseModel

from isthmus.concepts.answers import measured
from isthmus.concepts.book import Book, Phrase
from isthmus.concepts.documents import Library, Passage, clip, nearest
from isthmus.concepts.failures import ReplyError
from isthmus.concepts.llm import Call, LanguageModel, Reply, model_of
from isthmus.concepts.propose import Progress, Proposal, named_classes
from isthmus.concepts.safe import LONGEST, Refused, checked, quoted, shown
from isthmus.errors import DataError, OptionError

REPORTS = 100  # texts that a candidate is tried on
MINORITY = 0.1  # the least share of the rarer answer among them


class Question(BaseModel):
    """A yes/no question about an image, the number of the passage it comes from, and the words there that it comes from."""

    question: str
    passage: int
    quote: str


class Questions(BaseModel):
    """Questions found in the passages."""

    questions: list[Question]


class Judgement(BaseModel):
    """Whether one image alone can answer it, whether yes and no both occur, and whether a listed question asks the same."""

    visual: bool
    answerable: bool
    duplicate: bool


def questions(
    documents: Mapping[str, str],
    classes: Sequence[str],
    ask: LanguageModel | Call,
    *,
    most: int = 200,
    rounds: int = 2_000,
    best: int = 50,
    new: int = 10,
    reports: Sequence[str] = (),
    domain: str = "medical images",
    longest: int = LONGEST,
    progress: Progress | None = None,
) -> Proposal:
    """Up to ``most`` unapproved yes/no questions from ``documents`` {id: text}, each with document and quote.

    Each is written for the class whose query led to it (a language model's ``prior`` says more: ``told``). ``DataError`` where
    no passage is about any class: retrieval is by words, plurals aside.
    A query of the queue, at most ``rounds`` of them, brings the ``new`` first unused of its ``best`` passages. A question
    is refused when it is no safe text, names a class, or its quote does not stand in the passage's document; when it is
    there already; and when the model judges it not visual, not answerable or a duplicate. With ``reports`` (texts about
    images), answerable means measured: of 100 of them, the rarer of yes and no is at least 10 % of the answers.
    """
    names = named_classes(classes)
    if min(most, rounds, best, new) < 1:
        raise OptionError("most, rounds, best, new: expected at least 1 each")
    model, library = model_of(ask), Library(documents)
    known = _spoken_of(names, library)
    queue, found = deque((name, name) for name in known), list[Phrase]()
    refused = [Refused("", "no passage was found for it", name) for name in names if name not in known]
    asked = failed = 0
    last: ReplyError | None = None
    for _ in range(rounds):
        if not queue or len(found) >= most:
            break
        query, owner = queue.popleft()
        some = library.search(f"{query} visual findings, criteria of diagnosis, appearance", best=best, new=new)
        if not some:
            continue
        asked += 1
        try:
            reply = model.ask(_prompt(query, some, domain, longest), Questions)
        except ReplyError as error:
            last, failed = error, failed + 1
            refused.append(Refused("", f"no usable answer: {error}", query))
            continue
        for each in reply.output.questions[: 10 * new]:
            if len(found) >= most:
                break
            made = _candidate(each, reply, some, library, names, longest)
            if isinstance(made, Phrase):
                made = replace(made, owners=(owner,))
                reason = _reason(made.text, [p.text for p in found], model, reports, domain)
                made = made if reason is None else Refused(shown(made.text), reason)
            if isinstance(made, Refused):
                refused.append(made)
                continue
            found.append(made)
            queue.append((made.text, owner))
        if progress is not None:
            progress("questions", min(len(found), most), most, {"refused": len(refused), "queue": len(queue)})
    if last is not None and failed == asked:
        raise last
    return Proposal(Book(tuple(found)), tuple(refused))


def _spoken_of(names: Sequence[str], library: Library) -> list[str]:
    """The classes that some passage is about; ``DataError`` where there is none."""
    known = [name for name in names if library.about(name)]
    if not known:
        listed = ", ".join(shown(name, 40) for name in names[:5])
        raise DataError(f"documents: no passage was found for any class ({listed}); do the texts name them as the classes do?")
    return known


def _prompt(query: str, some: Sequence[Passage], domain: str, longest: int) -> str:
    listed = "\n".join(f"{i}. {quoted(passage.text)}" for i, passage in enumerate(some, 1))
    return (
        f"Find yes/no questions that help a person diagnose from an image. The images are: {quoted(domain)}.\n"
        f"The subject is: {quoted(query)}\nEach question must be answerable by looking at one image alone, be useful for "
        f"several diagnoses, not contain the name of a diagnosis, and have at most {longest} characters. For each give the "
        f"number of the passage that it comes from and the exact words there, copied.\nPassages:\n{listed}"
    )


def _candidate(
    each: Question, reply: Reply[Questions], some: Sequence[Passage], library: Library, classes: list[str], longest: int
) -> Phrase | Refused:
    """A question whose text is safe and whose quote stands where it says."""
    text = checked(each.question, classes=classes, longest=longest)
    if isinstance(text, Refused):
        return text
    if not 1 <= each.passage <= len(some):
        return Refused(shown(text), f"it names passage {each.passage}; expected 1 to {len(some)}")
    document = some[each.passage - 1].document
    if not library.holds(document, each.quote):
        return Refused(shown(text), f"its quote {shown(each.quote, 40)!r} does not stand in {shown(document, 40)!r}")
    return Phrase(text, source=replace(reply.source, kind="documents", document=shown(document, 200), quote=clip(each.quote)))


def _reason(text: str, before: list[str], model: LanguageModel, reports: Sequence[str], domain: str) -> str | None:
    """Why a question is not accepted, or None."""
    if text.casefold().rstrip("? .") in {each.casefold().rstrip("? .") for each in before}:
        return "it stands there already"
    known = "\n".join(f"- {quoted(each)}" for each in nearest(text, before, 30)) or "- none"
    prompt = (
        f"Judge one yes/no question about an image. The images are: {quoted(domain)}.\nQuestion: {quoted(text)}\n"
        "visual: can it be answered by looking at one image alone? answerable: would some images be a yes and some a no? "
        f"duplicate: does one of the questions below ask the same?\n{known}"
    )
    try:
        told = model.ask(prompt, Judgement, temperature=0.0).output
    except ReplyError as error:
        return f"it could not be judged: {error}"
    if not told.visual or not told.answerable or told.duplicate:
        same = "asks what another asks" if told.duplicate else "has one answer for all images"
        return f"the model says it {same if told.visual else 'cannot be seen in an image'}"
    if reports:
        try:
            values = measured(list(reports)[:REPORTS], [text], model, progress=None)
        except ReplyError as error:
            return f"it could not be tried on the reports: {error}"
        yes, no = int((values == 1).sum()), int((values == 0).sum())
        if min(yes, no) < MINORITY * len(values):
            return f"of {len(values)} reports {yes} say yes and {no} say no; expected {MINORITY:.0%} of the rarer answer"
    return None
