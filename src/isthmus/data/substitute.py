"""Rows with one attribute put in the place of another of its group: does a model see the new one, and let go of the old?

Bader et al., SUB: benchmarking CBM generalization via synthetic attribute substitutions, ICCV 2025 (the protocol).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.registry import datasets
from isthmus.data.table import Table
from isthmus.errors import OptionError, unknown

Whole = NDArray[np.int64]
WORLDS = ("poker", "robot")
PARTS = ("train", "validation", "test")
TWO_VALUED = ("head", "body", "knees", "antennae", "ears", "mouth")
"""Attributes of a robot that are one concept each, on or off; its feet are a concept or a group of them."""


def substitutes(name: str, *, part: str = "test", rows: int | None = 1000, **options: Any) -> Table:
    """Each of the first ``rows`` rows of a rendered world's ``part`` (None: all), with each of its concepts in turn swapped.

    name: 'poker' or 'robot', with the options of that data set. One attribute is replaced by another of the same group
    and the picture is rendered again; place, ground, noise and colours stay. poker: a card by a card of its rank not in
    the hand (``concepts='suit-rank'``: the rank, then the suit of each place by another); a hand that holds all four
    of a rank has none. robot: each attribute that the picture shows and a concept names, by another of its values.

    c and y are those of the new picture (robot: the likelier class by its rule). ``facts``: 'target' (n,) the column of
    what was put in (S+) and 'removed' (n, K) bool what was taken out (S-), -1 and nowhere where no concept names it;
    'row' (n,) the row of ``part``. Scores: ``metrics.s_plus`` and ``metrics.s_minus``.
    """
    if name not in WORLDS:
        raise unknown("rendered world", name, WORLDS)
    if part not in PARTS:
        raise unknown("part", part, PARTS)
    if rows is not None and rows < 1:
        raise OptionError(f"rows: expected at least 1, or None for all, got {rows}")
    known = datasets()[name].options
    for option in options:
        if option not in known:
            raise unknown(f"option of data set {name!r}", option, known)
    every = {key: each.default for key, each in known.items()} | options
    make = _poker if name == "poker" else _robot
    before, after, at = make(every, part, rows)
    return marked(after, before, at)


def marked(table: Table, before: Tensor, row: Whole) -> Table:
    """``table`` (n rows) with the facts of a swap, read off its c against c ``before`` (m, K) of the rows ``row`` (n,)."""
    assert table.c is not None
    change = table.c - before[torch.from_numpy(row)]
    target = torch.where((change > 0).any(1), change.argmax(1), -1)
    facts = {"target": target, "removed": change < 0, "row": torch.from_numpy(row)}
    return table.replace(facts={**(table.facts or {}), **facts})


def _poker(options: Mapping[str, Any], part: str, rows: int | None) -> tuple[Tensor, Table, Whole]:
    from isthmus.data.worlds.poker import CONCEPTS, scene, table_of

    concepts = options["concepts"]
    if concepts not in CONCEPTS:
        raise unknown("concepts", concepts, CONCEPTS)
    plain = {key: value for key, value in options.items() if key not in ("concepts", *PARTS)}
    world = scene(part, options[part], **plain)
    shown = np.arange(min(rows or options[part], options[part]))
    rng = np.random.default_rng([options["seed"], PARTS.index(part), 11])
    veiled = bool(options["ambiguous"])
    made: list[Table] = []
    at: list[Whole] = []
    for place in range(world.cards.shape[1]):
        for what in ("suit",) if concepts == "cards" else ("rank", "suit"):
            other, possible = _other_card(world.cards, place, what, rng)
            kept = shown[possible[shown]]
            if len(kept):
                made.append(table_of(world.show(other).take(kept), concepts, veiled=veiled))
                at.append(kept)
    before = table_of(world.show(world.cards).take(shown), concepts).c
    assert before is not None
    return before, *_in_order(made, at)


def _other_card(cards: Whole, place: int, what: str, rng: np.random.Generator) -> tuple[Whole, NDArray[np.bool_]]:
    """``cards`` (n, H) with another rank or suit at ``place``, evenly among the cards that the hand does not hold, and
    whether there is one (n,)."""
    rank, suit = cards[:, place, None] % 13, cards[:, place, None] // 13
    choice = 13 * np.arange(4) + rank if what == "suit" else 13 * suit + np.arange(13)  # (n, 4) or (n, 13)
    free = (choice[:, :, None] != cards[:, None]).all(-1)
    pick = np.where(free, rng.random(choice.shape), -1).argmax(1)
    other = cards.copy()
    possible = free.any(1)
    other[possible, place] = choice[np.arange(len(cards)), pick][possible]
    return other, possible


def _robot(options: Mapping[str, Any], part: str, rows: int | None) -> tuple[Tensor, Table, Whole]:
    from isthmus.data.worlds.figures import ATTRIBUTES
    from isthmus.data.worlds.robot import CLASSES, SHARES, Sample, concepts_of, draw, pointy, sample, score, space_of
    from isthmus.space import Task

    preset, space = options["preset"], space_of(options["preset"])
    drawn = sample(**{key: options[key] for key in (*PARTS, "seed", "skew")})[PARTS.index(part)]
    kept = np.arange(min(rows or len(drawn.y), len(drawn.y)))
    base = drawn.robots[kept]
    rng = np.random.default_rng([options["seed"], PARTS.index(part), 11])
    names = list(ATTRIBUTES)
    made: list[Table] = []
    at: list[Whole] = []
    for attribute in (*TWO_VALUED, "foot"):
        if attribute == "knees" and options["knees"] == "hidden":
            continue  # no picture shows them
        robots, column = base.copy(), names.index(attribute)
        if attribute == "foot":
            feet = np.arange(len(ATTRIBUTES["foot"]))
            as_robots = np.zeros((len(feet), len(names)), dtype=np.int64)
            as_robots[:, column] = feet
            sharp, named = pointy(as_robots), np.isin(ATTRIBUTES["foot"], list(SHARES))
            free = named & (feet != base[:, column, None]) if preset == "sub" else sharp != pointy(base)[:, None]
            robots[:, column] = np.where(free, rng.random(free.shape), -1).argmax(1)
        else:
            robots[:, column] ^= 1
        y = (score(robots) > 0).astype(np.int64)
        shown = Sample(robots, y, drawn.pair[kept], drawn.shift[kept])
        x, c = draw(shown, size=options["size"], knees=options["knees"]), concepts_of(robots, preset)
        task = Task.classes(CLASSES)
        made.append(Table(torch.from_numpy(x), c=torch.from_numpy(c), y=torch.from_numpy(y), space=space, task=task))
        at.append(kept)
    return torch.from_numpy(concepts_of(base, preset)), *_in_order(made, at)


def _in_order(made: list[Table], at: list[Whole]) -> tuple[Table, Whole]:
    """The tables as one, the swaps of a row behind one another."""
    if not made:
        raise OptionError("rows: no attribute of these rows can be swapped; pass more rows")
    row = np.concatenate(at)
    order = np.argsort(row, kind="stable")
    first = made[0]
    pick = torch.from_numpy(order)
    join = lambda name: None if getattr(first, name) is None else torch.cat([getattr(t, name) for t in made])[pick]  # noqa: E731
    tensors = [{k: fact for k, fact in (t.facts or {}).items() if isinstance(fact, Tensor)} for t in made]
    facts = {k: torch.cat([each[k] for each in tensors])[pick] for k in tensors[0]} or None
    whole = first.replace(facts=facts, **{name: join(name) for name in ("x", "c", "y", "where")})
    return whole, row[order]
