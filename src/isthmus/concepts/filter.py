"""What is struck off a list of phrases before any model sees it, and why: length, class names, near-duplicates, cut-offs.

Oikarinen et al. 2023, Label-Free Concept Bottleneck Models, section 3.1; Yang et al. 2023, Language in a Bottle, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.concepts.book import Book, Phrase
from isthmus.errors import DataError, OptionError
from isthmus.numerics.words import highest

Texts = Callable[[Sequence[str]], Tensor]
Similarity = Callable[[Sequence[str], Sequence[str]], Tensor]
ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class Filtered:
    """The phrases that stay, and those that went with the reason of each."""

    book: Book
    dropped: tuple[tuple[Phrase, str], ...] = ()

    def then(self, step: Callable[[Book], Filtered]) -> Filtered:
        """Filter what stays by ``step``."""
        more = step(self.book)
        return Filtered(more.book, (*self.dropped, *more.dropped))


def _by(book: Book, reason: Callable[[Phrase], str | None]) -> Filtered:
    return _at(book, lambda i: reason(book.phrases[i]))


def _at(book: Book, reason: Callable[[int], str | None]) -> Filtered:
    said = [(i, phrase, reason(i)) for i, phrase in enumerate(book)]
    kept = book.keep(i for i, _, why in said if why is None)
    return Filtered(kept, tuple((p, why) for _, p, why in said if why is not None))


def length(book: Book, longest: int = 30) -> Filtered:
    """Drop phrases of more than ``longest`` characters (Label-free CBM: 30)."""
    return _by(book, lambda p: f"{len(p.text)} characters, at most {longest}" if len(p.text) > longest else None)


def class_names(book: Book, classes: Sequence[str]) -> Filtered:
    """Drop phrases that *are* a class name, as it is, in capitals, with a large first letter, or with a, an, the before it."""
    known: dict[str, str] = {}
    for name in classes:
        for article in ("", *ARTICLES):
            full = f"{article} {name}".strip()
            known |= dict.fromkeys((full, full.upper(), full[:1].upper() + full[1:]), name)
    return _by(book, lambda p: f"is the class name {known[p.text]!r}" if p.text in known else None)


def containing(book: Book, classes: Sequence[str], *, case: bool = False) -> Filtered:
    """Drop phrases that hold a class name anywhere (LaBo's option; with ``case`` only as it is spelt, as its code does)."""
    fold = (lambda text: text) if case else str.casefold

    def reason(phrase: Phrase) -> str | None:
        found = next((name for name in classes if name.strip() and fold(name) in fold(phrase.text)), None)
        return None if found is None else f"holds the class name {found!r}"

    return _by(book, reason)


def cosine(*encoders: tuple[Texts, float]) -> Similarity:
    """Weighted mean of cosines by several text encoders; Label-free CBM takes mpnet once and CLIP ViT-B/16 three times."""
    total = sum(weight for _, weight in encoders)
    if total <= 0:
        raise OptionError("cosine: expected at least one text encoder, with weights above 0 in sum")

    def similarity(a: Sequence[str], b: Sequence[str]) -> Tensor:
        parts = [weight * (F.normalize(e(a), dim=-1) @ F.normalize(e(b), dim=-1).T) for e, weight in encoders]
        return torch.stack(parts).sum(0) / total

    return similarity


def similar_to_class(book: Book, classes: Sequence[str], similarity: Similarity, most: float = 0.85) -> Filtered:
    """Drop phrases at least ``most`` similar to any class name (Label-free CBM: .85). One matrix, no loop over pairs."""
    if not len(book) or not len(classes):
        return Filtered(book)
    table = _table(similarity(book.texts, classes), len(book), len(classes))
    best = list(zip(*(t.tolist() for t in table.max(1)), strict=True))

    def reason(i: int) -> str | None:
        value, at = best[i]
        return f"{value:.2f} similar to the class {classes[at]!r}, below {most:g} asked" if value >= most else None

    return _at(book, reason)


def near_duplicates(book: Book, similarity: Similarity, most: float = 0.9) -> Filtered:
    """Of two phrases at least ``most`` similar drop the one less similar to all phrases together (Label-free CBM: .9).

    Pairs are looked at in alphabetical order of the first, then of the second; what is dropped already drops nothing. Sums are
    over the whole list, itself and the dropped included, as in the authors' code; of equal sums the second goes.
    """
    order = sorted(range(len(book)), key=lambda i: book.phrases[i].text)
    if len(order) < 2:
        return Filtered(book)
    texts = [book.phrases[i].text for i in order]
    table = _table(similarity(texts, texts), len(texts), len(texts))
    whole = table.sum(1)
    gone: dict[int, str] = {}
    for i, j in ((table >= most) & ~torch.eye(len(texts), dtype=torch.bool)).nonzero().tolist():
        if i in gone or j in gone:
            continue
        out, stays = (i, j) if whole[i] < whole[j] else (j, i)
        gone[out] = f"{float(table[i, j]):.2f} similar to {texts[stays]!r}, below {most:g} asked"
    why = {order[place]: reason for place, reason in gone.items()}
    return _at(book, why.get)


def labelfree(book: Book, classes: Sequence[str], similarity: Similarity | None, *, longest: int = 30) -> Filtered:
    """Label-free CBM's text filters in its order: length, class names, similarity to classes (.85), to one another (.9).

    ``similarity`` None leaves out the two that need text encoders.
    """
    found = length(book, longest).then(lambda b: class_names(b, classes))
    if similarity is None:
        return found
    return found.then(lambda b: similar_to_class(b, classes, similarity)).then(lambda b: near_duplicates(b, similarity))


def active(book: Book, similarities: Tensor, cutoff: float = 0.25) -> Filtered:
    """Drop phrases whose five highest similarities with training images (n, K) have a mean of at most ``cutoff``.

    .25 on CIFAR, .26 on CUB, .28 on ImageNet, for cosines of CLIP ViT-B/16 (Label-free CBM); other encoders need another.
    """
    table = _table(similarities, len(similarities), len(book))
    value = highest(table).tolist()
    return _at(book, lambda i: f"five highest similarities {value[i]:.3f} on average" if value[i] <= cutoff else None)


def predicted(book: Book, scores: Tensor, cutoff: float = 0.45) -> Filtered:
    """Drop phrases whose projection follows them with a validation score (K,) of at most ``cutoff`` (cos-cubed: .45)."""
    if scores.shape != (len(book),):
        raise DataError(f"scores: expected {len(book)}, one for each phrase, got shape {tuple(scores.shape)}")
    value = _table(scores[None], 1, len(book))[0].tolist()
    return _at(book, lambda i: f"predicted with {value[i]:.3f}, above {cutoff:g} asked" if value[i] <= cutoff else None)


def _table(found: Tensor, rows: int, columns: int) -> Tensor:
    if tuple(found.shape) != (rows, columns):
        raise DataError(f"similarity: expected shape ({rows}, {columns}), got {tuple(found.shape)}")
    if bool(found.isnan().any()):
        raise DataError("similarity: expected numbers, got NaN")
    return found
