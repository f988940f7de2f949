"""What concept labels can teach at all, read before training: which occur apart, which give the class away, which repeat.

Furby et al. 2024, Can we constrain concept bottleneck models to learn semantically meaningful input features?, arXiv
2402.00912: a bottleneck finds a concept's place when its labels are each row's own and occur in many combinations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.table import Splits, Table
from isthmus.errors import DataError

NEAR = 0.95  # correlation from which two concepts say nearly the same
TOLD = 0.99  # share of a class's rows (and of no others) from which a concept is the class
FEWEST = 20  # rows known in both, below which two concepts are not compared
MOST = 100_000  # rows that are read for twins in two splits
ORDER = (
    "class level",
    "label in concept",
    "never apart",
    "few combinations",
    "twins",
    "near",
    "constant",
    "unknown",
    "implied",
)  # warnings, the gravest first
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """One thing to know: ``kind``, how bad, which concepts (columns), a ``value`` where there is one, and in words."""

    kind: str
    level: Literal["warning", "note"]
    concepts: tuple[str, ...]
    value: float | None
    words: str


def audit(data: Table | Splits) -> dict[str, Any]:
    """What the labels of ``data`` (of its training rows) can teach, as plain data (schema ``isthmus.data-audit/1``).

    Findings: ``constant`` concepts; pairs that ``never apart`` (always equal, or always opposite), ``near`` ones (correlation
    of at least .95) and ``implied`` ones (one never without the other); ``label in concept`` (a concept that is a class, to
    99 %); ``class level`` labels (one vector for each class); ``few combinations``; ``unknown`` labels; ``twins``, rows that
    stand in two splits. Continuous concepts are read for ``constant``, ``near`` and ``unknown`` only.
    """
    table = data.train if isinstance(data, Splits) else data
    if not isinstance(table, Table):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"data audit: expected Splits or a Table, got {type(table).__name__}")
    found: list[Finding] = []
    facts: dict[str, Any] = {"rows": len(table), "concepts": table.space.count, "columns": len(table.space)}
    if table.c is not None and len(table.space):
        c = table.c.double().numpy()
        found += [*_constant(table, c), *_pairs(table, c), *_told(table, c), *_unknown(table, c)]
        more, variety = _variety(table, c)
        found += more
        facts |= variety
    else:
        facts["labels"] = "none"
    if isinstance(data, Splits):
        found += _twins(data)
    found.sort(key=lambda f: ORDER.index(f.kind) if f.level == "warning" else len(ORDER))
    return {
        "schema": "isthmus.data-audit/1",
        "name": data.name if isinstance(data, Splits) else "data",
        "facts": facts,
        "findings": [asdict(f) | {"concepts": list(f.concepts)} for f in found],
    }


def _constant(table: Table, c: Floats) -> Iterator[Finding]:
    for k, name in enumerate(table.space.columns):
        known = c[~np.isnan(c[:, k]), k]
        if len(known) and np.ptp(known) == 0:
            words = f"{name} is {known[0]:g} on every known row: it cannot be learnt, and no score can be had for it"
            yield Finding("constant", "warning", (name,), float(known[0]), words)


def correlations(c: Floats) -> tuple[Floats, Floats]:
    """(K, K) correlation of labels over the rows known in both, and how many rows that is; NaN where one is constant there."""
    known = ~np.isnan(c)
    x, k = np.nan_to_num(c - np.nanmean(np.where(known.any(0), c, 0.0), axis=0)), known.astype(float)
    n, sx = k.T @ k, x.T @ k
    sxx, sxy = (x**2).T @ k, x.T @ x
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = sxx - sx**2 / n
        found = (sxy - sx * sx.T / n) / np.sqrt(spread * spread.T)
        tiny = np.minimum(spread, spread.T) < 1e-9 * n
    return np.where(tiny | (n < 2), np.nan, found), n


def _pairs(table: Table, c: Floats) -> Iterator[Finding]:
    columns, owner = table.space.columns, table.space.owner_of.numpy()
    phi, n = correlations(c)
    number = table.space.continuous.numpy()
    yes, no = np.nan_to_num(c > 0.5).astype(float) * ~np.isnan(c), (c <= 0.5).astype(float)
    only = yes.T @ no  # (K, K) rows with i and without j
    both = yes.T @ yes
    for i in range(len(columns)):
        for j in range(i):
            if owner[i] == owner[j] or np.isnan(phi[i, j]):
                continue
            pair, value = (columns[j], columns[i]), float(phi[i, j])
            if n[i, j] < FEWEST:
                continue
            if abs(value) > 1 - 1e-9:
                same = "equal" if value > 0 else "opposite"
                words = f"{pair[0]} and {pair[1]} never occur apart ({same} on every row): no model can tell which it learnt"
                yield Finding("never apart", "warning", pair, value, words)
            elif abs(value) >= NEAR:
                words = f"{pair[0]} and {pair[1]} say nearly the same (correlation {value:.3f}, {int(n[i, j]):,} rows)"
                yield Finding("near", "warning", pair, value, words)
            elif not (number[i] or number[j]):
                for a, b in ((i, j), (j, i)):
                    if only[a, b] == 0 and both[a, b] >= 10 and table.space.concepts[owner[a]].kind == "binary":
                        words = f"{columns[a]} never occurs without {columns[b]} ({int(both[a, b]):,} rows)"
                        yield Finding("implied", "note", (columns[a], columns[b]), value, words)


def _told(table: Table, c: Floats) -> Iterator[Finding]:
    """Concepts that are a class."""
    if table.y is None or table.task is None or table.task.kind == "value":
        return
    y = table.y.numpy()
    hot = np.eye(table.task.width)[y] if table.task.kind == "classes" else y
    for k, name in enumerate(table.space.columns):
        if table.space.continuous[k]:
            continue
        for label, truth in zip(table.task.names, hot.T, strict=True):
            rows = ~np.isnan(c[:, k]) & ~np.isnan(truth)
            agree = float(((c[rows, k] > 0.5) == (truth[rows] > 0.5)).mean()) if rows.any() else 0.0
            alone = bool(rows.any()) and 0 < truth[rows].mean() < 1
            own, told = c[rows, k] > 0.5, truth[rows] > 0.5
            sure, turned = (min(_agreement(side, told)) if alone else 0.0 for side in (own, ~own))
            turned = 0.0 if table.task.kind == "classes" and table.task.width == 2 else turned  # it is the other class
            if max(sure, turned) >= TOLD:
                itself = "itself" if sure >= turned else "turned over"
                agree = agree if sure >= turned else 1 - agree
                words = f"{name} is {label!r} {itself} ({agree:.1%} of rows agree): the label stands in the concepts"
                yield Finding("label in concept", "warning", (name,), agree, words)


def _agreement(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> tuple[float, float]:
    """Of rows with a the share with b, and of rows with b the share with a."""
    return float(b[a].mean()) if a.any() else 0.0, float(a[b].mean()) if b.any() else 0.0


def _unknown(table: Table, c: Floats) -> Iterator[Finding]:
    for concept, part in zip(table.space.concepts, table.space.slices, strict=True):
        share = float(np.isnan(c[:, part.start]).mean())
        if share > 0:
            level: Literal["warning", "note"] = "warning" if share > 0.5 else "note"
            yield Finding("unknown", level, (concept.name,), share, f"{concept.name} is unknown on {share:.1%} of rows")


def _variety(table: Table, c: Floats) -> tuple[list[Finding], dict[str, Any]]:
    """How many combinations of concepts occur, in all and in the class with fewest; are labels one vector for each class?"""
    discrete = ~table.space.continuous.numpy()
    whole = ~np.isnan(c[:, discrete]).any(1) if discrete.any() else np.zeros(len(c), dtype=bool)
    if not whole.any():
        return [], {}
    rows = (c[whole][:, discrete] > 0.5).astype(np.uint8)
    code = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    facts: dict[str, Any] = {"combinations": int(code.max()) + 1, "complete_rows": int(whole.sum())}
    if table.y is None or table.task is None or table.task.kind != "classes":
        return [], facts
    y = table.y.numpy()[whole]
    each = {table.task.names[label]: len(np.unique(code[y == label])) for label in np.unique(y)}
    facts["combinations_by_class"] = each
    fewest = min(each, key=lambda name: each[name])
    if max(each.values()) == 1 and len(code) > len(each):
        words = (
            "concept labels are one vector for each class: a concept and its class cannot be told apart, so nothing makes a "
            "model look at the concept's own place, and corrections reveal the class"
        )
        return [Finding("class level", "warning", (), 1.0, words)], facts
    mean = float(np.mean(list(each.values())))
    possible = float(np.prod([max(concept.width, 2) for concept in table.space.concepts if concept.kind != "continuous"]))
    if mean < min(10, possible / 2):
        words = f"few combinations of concepts occur: {mean:.1f} a class on average, {each[fewest]} in {fewest!r}"
        return [Finding("few combinations", "warning", (), mean, words)], facts
    return [], facts


def _twins(data: Splits) -> Iterator[Finding]:
    """Rows whose inputs stand in two splits, where inputs are in memory."""
    seen: dict[str, set[bytes]] = {}
    for part in ("train", "validation", "test"):
        x = getattr(data, part).x
        if not isinstance(x, torch.Tensor) or sum(len(getattr(data, p)) for p in ("train", "validation", "test")) > MOST:
            return
        flat = x.reshape(len(x), -1).contiguous().numpy()
        seen[part] = {hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in flat}
    for a, b in (("train", "test"), ("validation", "test"), ("train", "validation")):
        if count := len(seen[a] & seen[b]):
            share = count / max(len(seen[b]), 1)
            level: Literal["warning", "note"] = "warning" if b == "test" else "note"
            words = f"{count:,} rows of {b} have inputs that stand in {a}, too ({share:.1%} of its different ones)"
            yield Finding("twins", level, (), share, words)
