"""Which phrases of a list are worth keeping for each class, seen on training images: LaBo's choice, V2C's, and controls.

Yang et al. 2023, Language in a Bottle, section 3.2; He et al. 2025, V2C-CBM. The sums are ``numerics.words``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from isthmus.concepts.book import Book
from isthmus.errors import DataError
from isthmus.numerics import words
from isthmus.space import Task

Rule = Literal["submodular", "group_mi", "group_clip", "random"]


def by_class(
    book: Book,
    vectors: Tensor,
    images: Tensor,
    y: Tensor,
    task: Task,
    each: int,
    *,
    rule: Rule = "submodular",
    score: words.Score = "mi",
    beta: float = 1.0,
    scale: float | None = None,
    seed: int = 0,
) -> Book:
    """At most ``each`` of every class's own phrases; images (n, d) of training rows and vectors (K, d) in one text space.

    Rules and scores as in ``numerics.words.choose``; ``scale`` None brings scores to the scale of coverage in any text space
    (LaBo's 1e7 does in CLIP's). A phrase of several classes is a candidate of the first, as in LaBo.
    """
    owned = _owned(book, task)
    similarity = words.by_class(images, vectors, y, task.width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chosen = words.choose(similarity, vectors, owned, each, rule=rule, score=score, beta=beta, scale=scale)
    return book.keep(sorted({k for own in chosen for k in own}))


def by_frequency(
    book: Book, vectors: Tensor, images: Tensor, y: Tensor, task: Task, each: int = 50, *, near: int = 5, pool: int = 500
) -> dict[str, list[str]]:
    """V2C: for each class the ``each`` words that are most often among the ``near`` nearest of its images, in that order."""
    chosen = words.tokenised(images, vectors, y, task.width, near=near, each=each, pool=pool)
    return {name: [book.phrases[k].text for k in own] for name, own in zip(task.names, chosen, strict=True)}


def _owned(book: Book, task: Task) -> Tensor:
    table = torch.zeros(task.width, len(book))
    for k, phrase in enumerate(book):
        table[[task.names.index(owner) for owner in phrase.owners if owner in task.names], k] = 1.0
    if not bool(table.any()):
        raise DataError("select: expected phrases written for the classes, got none; give {class: [phrases]}")
    return table
