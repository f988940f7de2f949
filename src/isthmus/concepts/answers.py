"""A language model as a measurer: which concepts a text says are there, and which concepts a class usually has.

KnoBo (Yang et al., NeurIPS 2024): section 3.2, yes/no/unknown about reports; section 3.3, the prior of the head.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, BeforeValidator
from torch import Tensor

from isthmus.concepts.book import Book, Measured
from isthmus.concepts.failures import ReplyError
from isthmus.concepts.llm import Call, LanguageModel, model_of
from isthmus.concepts.propose import Progress, named_classes
from isthmus.concepts.safe import quoted
from isthmus.errors import DataError, OptionError
from isthmus.progress import Bar

LONGEST_TEXT = 20_000  # characters of a text that is asked about
_VALUE = {"yes": 1.0, "no": 0.0}


def _bare(value: object) -> object:
    return value.strip().rstrip(".").lower() if isinstance(value, str) else value


class Answer(BaseModel):
    """The answer to the statement of this number."""

    number: int
    answer: Annotated[Literal["yes", "no", "unknown"], BeforeValidator(_bare)]


class Answers(BaseModel):
    """One answer for each number."""

    answers: list[Answer]


def measure(
    texts: Sequence[str], book: Book, ask: LanguageModel | Call, *, batch: int = 20, progress: Progress | None = None
) -> Tensor:
    """Whether each text (report, caption) says that each approved concept is there: (n, K), 1 yes, 0 no, NaN not said.

    One question holds one text and ``batch`` concepts: what a text says can reach no other text's answers. Answers come
    from the cache where they were asked before, so a run that was stopped goes on where it was. A question without a usable
    answer leaves NaN, with a warning. ``DataError``: a concept is not approved, or a text is longer than ``LONGEST_TEXT``.
    """
    _, said = _approved(book)
    if progress is not None:
        return measured(texts, said, ask, batch=batch, progress=progress)
    with Bar("measure") as bar:
        return measured(texts, said, ask, batch=batch, progress=bar)


def measured(
    texts: Sequence[str], concepts: Sequence[str], ask: LanguageModel | Call, *, batch: int = 20, progress: Progress | None
) -> Tensor:
    """``measure`` for phrases as they are; for candidates that are still being judged."""
    texts = _texts(texts)
    head = "A text describes one image. For each numbered statement or question below: does the text say that it is so for "
    head += "this image? Answer yes, no, or unknown where the text does not say.\n"
    prompts = [f"{head}Text: {quoted(text)}" for text in texts]
    return _table(prompts, concepts, ask, batch, progress, "measure")


def prior(
    book: Book, classes: Sequence[str], ask: LanguageModel | Call, *, batch: int = 20, progress: Progress | None = None
) -> dict[str, dict[str, int]]:
    """For each class, whether it usually has each approved concept: {class: {concept: 1 yes, -1 no, 0 unknown}}.

    Concepts are named as ``book.space()`` names them. KnoBo's loss holds |tanh(weight) - prior| (section 3.3).
    """
    concepts, said = _approved(book)
    names = named_classes(classes)
    head = "For each numbered statement or question below: is it usually so for an image of the class? Answer yes, no, or "
    head += "unknown where it differs from one to the next.\n"
    table = _table([f"{head}Class: {quoted(name)}" for name in names], said, ask, batch, progress, "prior")
    signs = torch.nan_to_num(2 * table - 1).int().tolist()
    return {name: dict(zip(concepts, row, strict=True)) for name, row in zip(names, signs, strict=True)}


def told(
    book: Book,
    texts: Sequence[str],
    classes: Sequence[str],
    ask: LanguageModel | Call,
    *,
    batch: int = 20,
    progress: Progress | None = None,
) -> Book:
    """The book with what ``measure`` says of texts (captions, reports) and ``prior`` of classes, as ``knobo`` needs them.

    Each different text is asked about once. The phrases stay as they were let in, classes too: which of them usually have one
    is for the prior to say. Rows whose caption is one of the texts are then labelled by ``worded``.
    """
    different = list(dict.fromkeys(texts))
    table = measure(different, book, ask, batch=batch, progress=progress)
    rows = [tuple(None if math.isnan(value) else value for value in row) for row in table.tolist()]
    signs = prior(book, classes, ask, batch=batch, progress=progress)
    return Book(book.phrases, Measured(dict(zip(different, rows, strict=True)), signs))


def _table(
    prompts: Sequence[str],
    concepts: Sequence[str],
    ask: LanguageModel | Call,
    batch: int,
    progress: Progress | None,
    stage: str,
) -> Tensor:
    """Answers to every concept under every prompt: 1, 0, or NaN."""
    if batch < 1:
        raise OptionError(f"batch {batch}: expected at least 1")
    model, made = model_of(ask), torch.full((len(prompts), len(concepts)), float("nan"))
    starts = range(0, len(concepts), batch)
    failed: list[ReplyError] = []
    done, every = 0, len(prompts) * len(starts)
    for row, prompt in enumerate(prompts):
        for start in starts:
            some = concepts[start : start + batch]
            listed = "\n".join(f"{i}. {quoted(text)}" for i, text in enumerate(some, 1))
            try:
                answers = model.ask(f"{prompt}\n{listed}", Answers, temperature=0.0).output
                made[row, start : start + len(some)] = _row(answers, len(some))
            except ReplyError as error:
                failed.append(error)
            done += 1
            if progress is not None:
                progress(stage, done, every, {"asked": model.spending.calls, "from cache": model.spending.cached})
    if failed and len(failed) == every:
        raise failed[0]
    if failed:
        warnings.warn(f"{stage}: {len(failed)} of {every} questions had no usable answer: left unknown", stacklevel=3)
    return made


def _row(answers: Answers, count: int) -> Tensor:
    """Answers 1 to ``count`` as numbers; NaN where one is unknown, missing, or answered in two ways."""
    found: dict[int, set[str]] = {}
    for each in answers.answers:
        found.setdefault(each.number, set()).add(each.answer)
    single = [next(iter(said)) if len(said := found.get(i, set())) == 1 else "" for i in range(1, count + 1)]
    return torch.tensor([_VALUE.get(said, float("nan")) for said in single])


def _approved(book: Book) -> tuple[tuple[str, ...], list[str]]:
    """The names of the concepts, and what is asked about each; ``DataError`` where one is not approved."""
    if not len(book):
        raise DataError("the book is empty: expected at least one approved concept")
    return book.space().names, [f"{p.part}: {p.text}" if p.part else p.text for p in book]


def _texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str) or any(not isinstance(text, str) for text in texts):
        raise DataError("texts: expected a list of texts")
    for i, text in enumerate(texts):
        if len(text) > LONGEST_TEXT:
            raise DataError(f"text {i}: it has {len(text):,} characters, expected at most {LONGEST_TEXT:,}; cut it")
    return list(texts)
