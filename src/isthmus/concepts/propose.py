"""Ask a language model for concepts of each class: unapproved phrases, each with its provenance, and what was refused.

LaBo (Yang et al., CVPR 2023), stage A: five questions about look, appearance, colour, pattern and shape. Label-free CBM
(Oikarinen et al., ICLR 2023), section 3.1: features, superclasses, surroundings. PEEB (Pham et al., NAACL 2024): one
phrase for each part of each class. Yan et al. 2023 (arXiv 2310.03182): clinical visual concepts. The wording is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel

from isthmus.concepts.book import Book, Phrase, merged
from isthmus.concepts.failures import ReplyError
from isthmus.concepts.letters import words
from isthmus.concepts.llm import Call, LanguageModel, Reply, model_of
from isthmus.concepts.safe import LONGEST, Refused, checked, quoted, shown, sieve
from isthmus.errors import OptionError, unknown

Style = Literal["labo", "labelfree", "parts", "medical"]
Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called with what is done, how many are done, how many in all, and numbers to show; ``isthmus.progress.Bar`` is one."""

PURPOSES: dict[str, tuple[str, ...]] = {
    "labo": (
        "what one of this class looks like as a whole",
        "the appearance of its surface, texture and details",
        "its colours, and where each colour is",
        "the pattern of markings on it",
        "its shape, size and proportions",
    ),
    "labelfree": (
        "the visible features that matter most for recognising this class",
        "wider kinds of thing that it belongs to",
        "things that are commonly seen around it in a picture",
    ),
    "medical": ("short clinical concepts: signs that can be seen in the image and speak for or against this diagnosis",),
}
_ASKED = (
    "Give {n} different short phrases of two to six plain words each, at most {longest} characters. Each names one attribute "
    "that can be seen in an image. None may contain the name of the class, or words that only an expert knows."
)


class Phrases(BaseModel):
    """Short phrases, one attribute each."""

    phrases: list[str]


class PartPhrase(BaseModel):
    """One part, and one short phrase about it."""

    part: str
    phrase: str


class PartPhrases(BaseModel):
    """One short phrase for each part."""

    parts: list[PartPhrase]


@dataclass(frozen=True)
class Proposal:
    """A book of phrases that nobody has approved, and the texts that were refused, with reasons."""

    book: Book
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True)
class Ask:
    """One question about one class."""

    owner: str
    prompt: str
    most: int


def propose(
    classes: Sequence[str],
    ask: LanguageModel | Call,
    *,
    style: Style = "labo",
    per_class: int = 10,
    parts: Sequence[str] = (),
    domain: str = "photographs",
    longest: int = LONGEST,
    progress: Progress | None = None,
) -> Proposal:
    """Ask ``ask`` for up to ``per_class`` phrases of each class, in a published ``style``; nothing in the book is approved.

    ``domain`` says what the images are ("chest X-rays"). ``parts`` belong to the style 'parts': one phrase for each part of
    each class, whatever ``per_class`` is. A question without a usable answer stands among the refused; when no question has
    one its ``ReplyError`` is raised. ``LanguageModelError`` and ``CostCap`` pass: what was answered stays in the cache.
    """
    classes = named_classes(classes)
    if style not in get_args(Style):
        raise unknown("style", str(style), get_args(Style))
    if (style == "parts") != bool(parts):
        raise OptionError("parts: expected the names of parts with style 'parts', and none with another style")
    if per_class < 1 or longest < 1:
        raise OptionError(f"per_class {per_class}, longest {longest}: expected at least 1")
    model, asks = model_of(ask), list(_asks(classes, style, per_class, tuple(parts), domain, longest))
    found: list[Phrase] = []
    refused: list[Refused] = []
    failed: list[ReplyError] = []
    for i, each in enumerate(asks):
        try:
            if style == "parts":
                reply = model.ask(each.prompt, PartPhrases)
                kept, out = _by_part(reply, each.owner, tuple(parts), classes, longest)
            else:
                kept, out = _phrases(model.ask(each.prompt, Phrases), each, classes, longest, found)
        except ReplyError as error:
            failed.append(error)
            kept, out = [], [Refused("", f"no usable answer: {error}", each.owner)]
        found += kept
        refused += out
        if progress is not None:
            progress("propose", i + 1, len(asks), {"kept": len(found), "refused": len(refused)})
    if failed and len(failed) == len(asks):
        raise failed[0]
    return Proposal(merged(found), tuple(refused))


def named_classes(classes: Sequence[str]) -> list[str]:
    """Class names as given, if there are any, each a text of one line and none twice."""
    names = list(classes)
    if not names or isinstance(classes, str) or any(not isinstance(name, str) or not name.strip() for name in names):
        raise OptionError(f"classes: expected a list of names, got {shown(classes)!r}")
    if bad := [name for name in names if len(name) > 200 or not name.isprintable()]:
        raise OptionError(f"class {shown(bad[0])!r}: expected a printable name of at most 200 characters")
    if len(set(names)) < len(names):
        raise OptionError(f"class {shown(next(n for n in names if names.count(n) > 1))!r}: expected each name once")
    return names


def _asks(classes: list[str], style: str, per_class: int, parts: tuple[str, ...], domain: str, longest: int) -> Iterator[Ask]:
    """The questions, class by class; each prompt is made anew from its own class."""
    about = f"The images are: {quoted(domain)}."
    for owner in classes:
        head = f"Describe one class of things for a program that recognises it in images. {about}\nClass: {quoted(owner)}\n"
        if style == "parts":
            listed = ", ".join(map(quoted, parts))
            yield Ask(
                owner,
                f"{head}Parts: {listed}\nGive one short phrase for each of these parts, of two to six plain words, "
                "saying how this part of this class looks. No phrase may contain the name of the class.",
                len(parts),
            )
            continue
        purposes = PURPOSES[style]
        n = math.ceil(per_class / len(purposes))
        for i, purpose in enumerate(purposes[: math.ceil(per_class / n)]):
            most = min(n, per_class - i * n)
            yield Ask(owner, f"{head}Describe {purpose}.\n{_ASKED.format(n=most, longest=longest)}", most)


def _phrases(
    reply: Reply[Phrases], each: Ask, classes: list[str], longest: int, before: list[Phrase]
) -> tuple[list[Phrase], list[Refused]]:
    """Phrases of one answer, as many as were asked for, without those that the class has already."""
    texts, out = sieve(reply.output.phrases[: 10 * each.most], classes=classes, longest=longest, owner=each.owner)
    has = {phrase.text.casefold() for phrase in before if each.owner in phrase.owners}
    new = [text for text in texts if text.casefold() not in has]
    out += [Refused(shown(text), "it stands there already", each.owner) for text in texts if text.casefold() in has]
    if (more := len(new) - each.most + max(0, len(reply.output.phrases) - 10 * each.most)) > 0:
        out.append(Refused("", f"{more} more than the {each.most} asked for were left out", each.owner))
    return [Phrase(text, (each.owner,), None, reply.source) for text in new[: each.most]], out


def _by_part(
    reply: Reply[PartPhrases], owner: str, parts: tuple[str, ...], classes: list[str], longest: int
) -> tuple[list[Phrase], list[Refused]]:
    """One phrase for each part that was asked for; the first where a part is described twice."""
    known = {" ".join(words(part.casefold())): part for part in parts}
    found: dict[str, Phrase] = {}
    out: list[Refused] = []
    for given in reply.output.parts[: 10 * len(parts)]:
        part = known.get(" ".join(words(given.part.casefold())))
        text = checked(given.phrase, classes=classes, longest=longest)
        if part is None:
            out.append(Refused(shown(given.phrase), f"the part {shown(given.part, 40)!r} was not asked for", owner))
        elif isinstance(text, Refused):
            out.append(Refused(text.text, text.reason, owner))
        elif part in found:
            out.append(Refused(shown(text), f"the part {part!r} is described already", owner))
        else:
            found[part] = Phrase(text, (owner,), part, reply.source)
    out += [Refused("", f"no phrase for the part {part!r}", owner) for part in parts if part not in found]
    return [found[part] for part in parts if part in found], out
