"""Letting phrases in, and taking a few of each class: the steps between a proposal and a concept space.

``RULES`` is the seam for choosing: a rule is a function (book, per_class, seed) -> book. Rules that look at data (Label-free
CBM's filters, LaBo's submodular choice) need features and stand elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from isthmus.concepts.book import Book, Phrase
from isthmus.concepts.safe import Refused, checked, shown
from isthmus.errors import DataError, OptionError, unknown

Rule = Callable[[Book, int, int], Book]


def approve(book: Book, index: Collection[int], who: str) -> Book:
    """The book with the phrases at ``index`` (from 0) let in by ``who``.

    Each text and part, and the classes' names, are checked again, for the file may have been changed since; ``DataError`` names
    the first that is not safe.
    """
    if not who.strip() or not who.isprintable() or len(who) > 80:
        raise OptionError(f"who {shown(who)!r}: expected the name of the person who lets them in, at most 80 characters")
    chosen = _inside(book, index)
    for i in sorted(chosen):
        phrase = book.phrases[i]
        part = [] if phrase.part is None else [checked(phrase.part, longest=200)]
        for found in (checked(phrase.text, classes=book.classes, longest=10**4), *part):
            if isinstance(found, Refused):
                raise DataError(f"phrase {i + 1} {found.text!r} cannot be let in: {found.reason}; refuse it")
        if bad := [owner for owner in phrase.owners if len(owner) > 200 or not owner.strip() or not owner.isprintable()]:
            raise DataError(f"phrase {i + 1}, class {shown(bad[0])!r}: expected a printable name of at most 200 characters")
    return Book(tuple(replace(p, approved=who.strip()) if i in chosen else p for i, p in enumerate(book)), book.measured)


def refuse(book: Book, index: Collection[int]) -> Book:
    """The book without the phrases at ``index`` (from 0)."""
    out = _inside(book, index)
    return book.keep(i for i in range(len(book)) if i not in out)


def _inside(book: Book, index: Iterable[int]) -> set[int]:
    chosen = set(index)
    if bad := sorted(i for i in chosen if not 0 <= i < len(book)):
        raise OptionError(f"phrase {bad[0] + 1}: expected numbers from 1 to {len(book)}")
    return chosen


def first(book: Book, per_class: int, seed: int = 0) -> Book:
    """The first phrases of the book, each taken while a class of its has fewer than ``per_class``; in the order of the book."""
    return _taken(book, per_class, range(len(book)))


def at_random(book: Book, per_class: int, seed: int = 0) -> Book:
    """As ``first`` does, of the phrases in an order drawn with ``seed``; in the order of the book."""
    order = list(range(len(book)))
    random.Random(seed).shuffle(order)
    return _taken(book, per_class, order)


def _taken(book: Book, per_class: int, order: Iterable[int]) -> Book:
    """A phrase is taken while one of its classes has room; it counts for each class that it was written for.

    So no class lacks a phrase that the book has for it; a class goes over ``per_class`` by phrases taken for another.
    """
    count: dict[str, int] = {}
    taken: list[int] = []
    for i in order:
        owners = _owners(book.phrases[i])
        if any(count.get(owner, 0) < per_class for owner in owners):
            taken.append(i)
            for owner in owners:
                count[owner] = count.get(owner, 0) + 1
    return book.keep(sorted(taken))


def _owners(phrase: Phrase) -> tuple[str, ...]:
    return phrase.owners or ("",)


RULES: Mapping[str, Rule] = {"first": first, "random": at_random}


def pick(book: Book, *, per_class: int | None = None, rule: str = "first", seed: int = 0) -> Book:
    """The approved phrases of a book, ``per_class`` of each class (None: all) by a rule of ``RULES``.

    A class has fewer only where the book has no more, and more only by phrases that it shares with a class that had fewer.
    Phrases of no class are counted as one class. ``OptionError`` for ``per_class`` below 1, ``DataError`` where nothing is
    approved.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    if per_class is not None and per_class < 1:
        raise OptionError(f"per_class {per_class}: expected at least 1")
    let_in = book.approved
    if not len(let_in):
        raise DataError(f"expected approved phrases, got {len(book)} that nobody let in; run isthmus concepts review")
    return let_in if per_class is None else RULES[rule](let_in, per_class, seed)
