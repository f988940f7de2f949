"""What hides inside soft concept values: of the task (CTL) and of the other concepts (ICL), and a control without either.

Parisini et al. 2025, Leakage and Interpretability in Concept-Based Models, arXiv 2504.14094. Their estimators, with two slips
of the code put right: a vector's psi(n) is not psi(n d), and equal numbers get noise of their own. Say n and k beside each
value: concepts without leakage score .003 at n = 2000, k = 3, not 0, and the divisor of ICL for soft values is psi(n) - psi(k),
6.7 there. Labels are divided by their entropies, at most .69 for two states: where labels are correlated, what they share
counts about ten times what values share, and ICL of soft values can be near 0 though each holds every concept. ICL of ``hard``
values has entropies on both sides; read it beside. Both are cut at 0, concept by concept and pair by pair, so that resampled
rows score above all rows; intervals are centred on the value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isthmus.errors import DataError
from isthmus.metrics.concept import Kinds, fits
from isthmus.metrics.core import Array, Mean, Metric, Sums, Weighted, mean_known, sound
from isthmus.numerics.information import Variable, entropy, information, itself, variable

NEIGHBOURS = 3


@dataclass(frozen=True)
class Soft:
    """One concept: what the strip holds of it (n, d), what is true of it (n, d), and where that is known (n,)."""

    values: Array
    c: Array
    known: Array
    counted: bool


def concepts_of(c: Array, values: Array, kinds: Kinds) -> list[Soft]:
    """The M concepts of labels c (n, K, NaN unknown) and values (n, K): binary, then categorical, then continuous ones."""
    fits("leakage", c, values, kinds)
    blocks = [((k,), True) for k in kinds.binary] + [(tuple(b), True) for b in kinds.blocks]
    blocks += [((k,), False) for k, _ in kinds.continuous]
    return [Soft(values[:, at], c[:, at], ~np.isnan(c[:, at[0]]), counted) for at, counted in blocks]


def _said(one: Soft, rows: Array) -> tuple[Variable, Variable]:
    """What the strip holds, and what is true, on rows that are known."""
    c = one.c[rows]
    truth = variable(c.argmax(1) if c.shape[1] > 1 else c, counted=one.counted)
    return variable(one.values[rows]), truth


def _ctl(y: Array, c: Array, values: Array, kinds: Kinds, k: int = NEIGHBOURS) -> Weighted:
    y = np.asarray(y)
    if y.ndim == 2:
        parts = [_one(y[:, j], concepts_of(c, values, kinds), k) for j in range(y.shape[1])]
        return parts[0] if len(parts) == 1 else Mean(tuple(parts))
    if y.dtype.kind == "f":
        raise DataError("CTL: expected classes or labels, got numbers; it divides by H(y), which a number does not have")
    return _one(y, concepts_of(c, values, kinds), k)


def _one(y: Array, concepts: list[Soft], k: int) -> Sums:
    """Local terms of I(value; y), I(label; y) and H(y), a column of each for each concept."""
    cells = np.zeros((3, len(y), len(concepts)))
    for m, one in enumerate(concepts):
        rows = np.flatnonzero(one.known & ~np.isnan(y.astype(float)))
        if len(rows) <= k:
            continue
        task = variable(y[rows], counted=True)
        for at, said in enumerate(_said(one, rows)):
            cells[at, rows, m] = information(said, task, k=k)
        cells[2, rows, m] = entropy(task)
    return Sums(np.concatenate(list(cells), axis=1), lambda s: mean_known(_leaks(s)))


def _leaks(s: Array) -> Array:
    """(R, M) from sums (R, 3 M): max(0, [I(value; y) - I(label; y)] / H(y))."""
    hat, true, whole = np.split(s, 3, axis=1)
    return np.where(whole > 0, np.maximum(0.0, (hat - true) / np.where(whole > 0, whole, 1)), np.nan)


def task_leakage(form: Weighted, weights: Array | None = None) -> Array:
    """(M,) CTL of each concept, in the order of ``kinds``, or (R, M) under row weights (R, n); NaN where nothing is known.

    ``form``: ``ctl.weighted(y, c, values, kinds)``. Of several labels the mean, those that are constant left out; of one
    label the mean over concepts is ``ctl``.
    """
    parts: list[Sums] = list(form.parts) if isinstance(form, Mean) else [form]  # type: ignore[list-item]
    w = np.ones((1, len(parts[0].rows))) if weights is None else weights
    each = [_leaks(w @ part.rows) for part in parts]
    found = np.stack([mean_known(np.stack([one[:, m] for one in each], 1)) for m in range(each[0].shape[1])], 1)
    return found[0] if weights is None else found


def _icl(c: Array, values: Array, kinds: Kinds, k: int = NEIGHBOURS, most: int = 1000) -> Sums:
    concepts, n = concepts_of(c, values, kinds), len(c)
    pairs = [(i, j) for i in range(len(concepts)) for j in range(i)]
    cells = np.zeros((3, n, len(pairs)), dtype=np.float32)
    drawn = np.zeros(n, dtype=bool)
    drawn[np.random.default_rng(0).permutation(n)[:most]] = True
    for at, (i, j) in enumerate(pairs):
        rows = np.flatnonzero(concepts[i].known & concepts[j].known & drawn)
        if len(rows) <= k:
            continue
        for kind, (a, b) in enumerate(zip(_said(concepts[i], rows), _said(concepts[j], rows), strict=True)):
            scale = (itself(a, k=k) * itself(b, k=k)) ** 0.5
            cells[kind, rows, at] = information(a, b, k=k) / scale if scale > 0 else 0.0
        cells[2, rows, at] = 1
    if not pairs:
        return Sums(np.zeros((n, 1)), lambda s: np.full(len(s), np.nan))
    return Sums(np.concatenate(list(cells), axis=1), lambda s: mean_known(_between(s)))


def rows_of_pairs(form: Sums) -> int:
    """Rows that ICL's estimate of a pair is made of, in the middle of the pairs: drawn, and known of both."""
    return int(np.median(np.split(form.rows, 3, axis=1)[2].sum(0)))


def _between(s: Array) -> Array:
    hat, true, known = np.split(s, 3, axis=1)
    return np.where(known > 0, np.maximum(0.0, (hat - true) / np.where(known > 0, known, 1)), np.nan)


def unleaked(c: ArrayLike, values: ArrayLike, kinds: Kinds, *, seed: int = 0) -> Array:
    """Values (n, K) that leak nothing, the control: each concept's are dealt anew among rows with the same label.

    What they say of their own concept stays; what they say beyond it of the task and of others goes. A number's rows are
    alike when they lie in the same twentieth of its range of ranks; where the label is unknown, values are dealt among those.
    """
    c, values = sound("unleaked", {"c": c, "values": values}).values()
    fits("unleaked", c, values, kinds)
    found, numbers = values.copy(), [k for k, _ in kinds.continuous]
    for at in [[k] for k in kinds.binary] + [list(block) for block in kinds.blocks] + [[k] for k in numbers]:
        label = c[:, at]
        same = label.argmax(1).astype(float) if len(at) > 1 else label[:, 0].copy()
        if at[0] in numbers:
            same = np.floor(20 * np.argsort(np.argsort(same, kind="stable"), kind="stable") / len(same))
        same[np.isnan(label[:, 0])] = -1
        draw = np.random.default_rng([seed, _key(values[:, at])])
        for each in np.unique(same):
            rows = np.flatnonzero(same == each)
            found[np.ix_(rows, np.array(at))] = values[np.ix_(draw.permutation(rows), np.array(at))]
    return found


def _key(column: Array) -> int:
    """A seed from the numbers themselves, so that the order of columns never matters."""
    words = np.frombuffer(np.ascontiguousarray(column, dtype=np.float64).tobytes(), dtype=np.uint32)
    return int(words.sum(dtype=np.uint64) % 2**32)


ctl = Metric(
    _ctl, "CTL", "share of H(y)", 0, 1, "down", "strip",
    "concepts-task leakage: what a concept's value says of the task beyond its label, mean over concepts, k = 3 neighbours",
    200, True,
)  # fmt: skip
icl = Metric(
    _icl, "ICL", "normalised information", 0, 1, "down", "strip",
    "interconcept leakage: what two concepts' values share beyond their labels, mean over pairs, k = 3, at most 1000 rows; "
    "correlated labels can hide that of soft values: read it beside that of decided ones",
    200, True,
)  # fmt: skip
