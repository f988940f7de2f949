"""Does one column know of its own concept alone? Purity, the oracle impurity score, niches, mispredicted concepts together.

Espinosa Zarlenga et al. 2023, Towards Robust Metrics for Concept Representation Evaluation, AAAI (OIS, NIS); Kazhdan et al.
2021, Is Disentanglement all you need?, arXiv 2104.06917 (purity, niches, MPO). 0 is pure: a wiki that says "higher is better"
of OIS errs. The AUC of a monotone map of one number is that number's own, so probes of columns are ranks and nothing is
trained; ``bins`` (quantiles) sees what ranks cannot, such as |x|; vectors are probed by ridge, fitted on one half of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from isthmus.errors import DataError, OptionError
from isthmus.metrics.core import Array, Metric, Sums, alike, array, mean_known, sound

Probe = Literal["rank", "bins", "ridge"]
BINS, RIDGE = 20, 1e-3
ROUNDING = 1e-9  # a correlation of 0, or at a niche's very edge, is no matter of the order of columns


def aucs(scores: Array, truth: Array) -> Array:
    """(I, J) area under the ROC curve of scores (n, I) for labels (n, J) of 0 and 1, NaN unknown; ties half; NaN undefined.

    Labels that are all known share one product of ranks.
    """
    whole = ~np.isnan(truth).any(0)
    found = np.empty((scores.shape[1], truth.shape[1]))
    yes = (truth[:, whole] > 0.5).astype(float)
    up = yes.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found[:, whole] = (rankdata(scores, axis=0).T @ yes - up * (up + 1) / 2) / (up * (len(yes) - up))
    for j in np.flatnonzero(~whole):
        rows = ~np.isnan(truth[:, j])
        found[:, [j]] = aucs(scores[rows], truth[rows, j : j + 1])
    return found


@dataclass(frozen=True)
class _Placed:
    """Of one score: for each row and label, its share of rows of the other kind that it beats, and which kinds are known."""

    beats: Array  # (n, J)
    yes: Array  # (n, J)
    no: Array


def _placements(score: Array, truth: Array) -> _Placed:
    yes, no = (truth > 0.5).astype(float), (truth <= 0.5).astype(float)  # NaN is neither
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    tie = np.cumsum(np.r_[False, np.diff(score[order]) != 0])

    def below(kind: Array) -> Array:
        each = np.add.reduceat(kind[order], starts, axis=0)
        whole = each.cumsum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((whole - 0.5 * each) / whole[-1])[tie]

    beats = np.empty(truth.shape)
    beats[order] = np.where(yes[order] > 0, below(no), 1 - below(yes))
    return _Placed(beats, yes, no)


def _areas(placed: _Placed, weights: Array) -> Array:
    """(R, J) AUC under row weights (R, n), to first order: exact at weights of 1."""
    known = np.nan_to_num(placed.beats)
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = (known * placed.yes).sum(0) / placed.yes.sum(0)
        up = weights @ (known * placed.yes) / (weights @ placed.yes)
        down = weights @ (known * placed.no) / (weights @ placed.no)
    empty = (placed.yes.sum(0) == 0) | (placed.no.sum(0) == 0)
    return np.where(empty, np.nan, up + down - plain)


def halves(n: int, seed: int | Sequence[int] = 0, groups: Sequence[str] | None = None) -> tuple[Array, Array]:
    """Row numbers of the two halves: probes are fitted on the first and measured on the second.

    Whole ``groups`` (n names, patients) go to one of them, cut as near the middle as they allow; one group alone cannot be
    cut: the first half is empty then, and nothing can be fitted.
    """
    draw = np.random.default_rng(seed)
    if groups is None:
        order = draw.permutation(n)
        return np.sort(order[: n // 2]), np.sort(order[n // 2 :])
    if len(groups) != n:
        raise DataError(
            f"halves, groups: expected a group for each of {n} rows, got {len(groups)}; give groups of the same rows"
        )
    code = np.unique(np.asarray(groups), return_inverse=True)[1]
    sizes = np.bincount(code)
    order = draw.permutation(len(sizes))
    ends = sizes[order].cumsum()[:-1]
    first = np.isin(code, order[: np.abs(ends - n / 2).argmin() + 1] if len(ends) else [])
    return np.flatnonzero(first), np.flatnonzero(~first)


def _alike(t: Array) -> list[tuple[Array, Array]]:
    """Columns of labels t (n, J) that are known on the same rows, and those rows; of columns known nowhere nothing."""
    patterns, code = np.unique(~np.isnan(t), axis=1, return_inverse=True)
    each = enumerate(patterns.T)
    return [(np.flatnonzero(code.reshape(-1) == k), np.flatnonzero(rows)) for k, rows in each if rows.any()]


def _weights(z: Array, t: Array) -> Array:
    """(E, J) ridge from z (n, E), of spread 1, to labels t (n, J), each fitted on the rows on which it is known."""
    found = np.zeros((z.shape[1], t.shape[1]))
    for columns, rows in _alike(t):
        x, goal = z[rows] - z[rows].mean(0), t[np.ix_(rows, columns)]
        gram = x.T @ x + RIDGE * len(rows) * np.eye(x.shape[1])
        found[:, columns] = np.linalg.solve(gram, x.T @ (goal - goal.mean(0)))
    return found


def _standard(x: Array, fit: Array, like: Array) -> Array:
    """x (n, E) less the mean of ``like`` (n, E) on rows ``fit``, by its spread there."""
    mean, scale = like[fit].mean(0), like[fit].std(0)
    return (x - mean) / np.where(scale > 1e-12, scale, 1)


def ridge(x: Array, t: Array, at: Array) -> Array:
    """(len(at), J) scores of rows ``at`` by ridge from the other rows' x (n, E) to labels t (n, J), each where it is known."""
    fit = np.setdiff1d(np.arange(len(x)), at)
    z = _standard(x, fit, x)
    return z[at] @ _weights(z[fit], t[fit])


def _seen(representation: Array, probe: Probe, c: Array, groups: Sequence[str] | None) -> tuple[list[Array], Array]:
    """Scores (rows, J) of each representation (n, I) or (n, I, E), and the rows that they are of."""
    vectors = representation.ndim == 3
    if probe not in ("rank", "bins", "ridge"):
        raise OptionError(f"purity, probe: expected 'rank', 'bins' or 'ridge', got {probe!r}")
    if probe == "rank" and not vectors:
        return [column[:, None] for column in representation.T], np.arange(len(c))
    fit, at = halves(len(c), groups=groups)
    if not len(fit):
        return [], at
    if probe == "bins" and not vectors:
        edges = np.quantile(representation, np.linspace(0, 1, BINS + 1)[1:-1], axis=0)
        inputs = [np.eye(BINS)[np.searchsorted(edges[:, i], column)] for i, column in enumerate(representation.T)]
    else:
        inputs = [representation[:, i] if vectors else representation[:, i, None] for i in range(representation.shape[1])]
    return [ridge(x, c, at) for x in inputs], at


@dataclass(frozen=True, eq=False)
class Impurity:
    """The score as a function of row weights. ``scores``: for each column (rows, J) or (rows, 1) what it says of each label."""

    scores: tuple[Array, ...]
    truth: Array  # (rows, J)
    at: Array
    n: int

    @property
    def oracle(self) -> tuple[Array, ...]:
        """What each label says of the others; an unknown one says nothing either way."""
        return tuple(np.where(np.isnan(column), 0.5, column)[:, None] for column in self.truth.T)

    def plain(self) -> tuple[Array, Array]:
        """(I, J) purity and (J, J) oracle matrix of all rows; a column that is turned over counts as it is read right."""
        made: list[Array] = []
        for said in (self.scores, self.oracle):
            if all(each.shape[1] == 1 for each in said):
                found = aucs(np.concatenate(said, 1), self.truth)
            else:
                found = np.stack([np.diagonal(aucs(each, self.truth)) for each in said])
            made.append(np.maximum(found, 1 - found))
        return made[0], made[1]

    @cached_property
    def placed(self) -> tuple[tuple[_Placed, ...], tuple[_Placed, ...]]:
        """Places of the rows, which the bootstrap weighs; made when it is asked for."""
        return tuple(_of(each, self.truth) for each in self.scores), tuple(_of(each, self.truth) for each in self.oracle)

    def under(self, weights: Array) -> Array:
        if not self.scores:
            return np.full(len(weights), np.nan)
        w = weights[:, self.at]
        if len(w) == 1 and (w == 1).all():
            found, oracle = (each[None] for each in self.plain())
        else:
            found, oracle = (np.stack([_areas(each, w) for each in side], 1) for side in self.placed)
            found, oracle = np.maximum(found, 1 - found), np.maximum(oracle, 1 - oracle)
        gap = found - oracle
        lost = np.asarray(np.isnan(gap).all(1))[:, :, None]  # concepts without both answers: their columns, too, are left out
        square = np.where(lost, np.nan, gap) ** 2
        return 2 * np.sqrt(mean_known(square.reshape(len(square), -1)))


def _of(scores: Array, truth: Array) -> _Placed:
    return _placements(scores[:, 0], truth) if scores.shape[1] == 1 else _by_column(scores, truth)


def _ois(c: Array, representation: Array, probe: Probe = "rank", groups: Sequence[str] | None = None) -> Impurity:
    if len(c) != len(representation) or representation.ndim not in (2, 3) or representation.shape[1] != c.shape[1]:
        raise DataError(f"OIS: expected a column of each concept, {c.shape}, got {representation.shape}")
    both = np.flatnonzero(_both(c))
    if not len(both):
        return Impurity((), c, np.arange(len(c)), len(c))
    scores, at = _seen(representation[:, both], probe, c[:, both], groups)
    return Impurity(tuple(scores), c[np.ix_(at, both)], at, len(c))


def _by_column(scores: Array, truth: Array) -> _Placed:
    """Placements where each label has a score of its own."""
    each = [_placements(scores[:, j], truth[:, j : j + 1]) for j in range(truth.shape[1])]
    return _Placed(*(np.concatenate([getattr(one, name) for one in each], 1) for name in ("beats", "yes", "no")))


def purity(
    c: ArrayLike, representation: ArrayLike, *, probe: Probe = "rank", groups: Sequence[str] | None = None
) -> tuple[Array, Array]:
    """(K, K) AUC of telling concept j from column i, and the same from the labels themselves (its diagonal is 1).

    Labels c (n, K) of 0 and 1, NaN unknown; representation (n, K) or vectors (n, K, E). Concepts without both answers are
    left out. Off the diagonal the second is above .5 where concepts are correlated: that is expected, and subtracted. Probes
    that are fitted ('bins', 'ridge') read one half of the rows; ``groups`` of them stay whole.
    """
    form = _ois(**sound("purity", {"c": c, "representation": representation}), probe=probe, groups=groups)
    if not form.scores:
        say = "expected a concept with both answers among its known labels, and rows of two groups or more to cut, got none"
        raise DataError(f"purity: {say}; give more rows")
    return form.plain()


def _related(c: Array, representation: Array, blocks: Sequence[Sequence[int]]) -> Array:
    """(I, J) |correlation|, 0..1, of each column of representation (n, I) with each label of c (n, J), over its known rows.

    ``blocks``: columns of c that are the states of one concept. Columns that stand for them (as many for each label) are as
    related as the closest of them, to all states alike: a concept of states lies in a niche, or has one, as a whole.
    """
    found, each = np.zeros((representation.shape[1], c.shape[1])), representation.shape[1] // c.shape[1]
    for columns, rows in _alike(c):
        t, x = c[np.ix_(rows, columns)], representation[rows]
        t, x = t - t.mean(0), x - x.mean(0)
        norm = np.linalg.norm(x, axis=0)[:, None] * np.linalg.norm(t, axis=0)
        found[:, columns] = np.abs(x.T @ t) / np.where(norm > 0, norm, 1)
    if blocks and representation.shape[1] != each * c.shape[1]:
        got = f"got {representation.shape[1]}"
        raise DataError(f"niches, blocks: expected as many columns for each of {c.shape[1]} labels, {got}; leave blocks out")
    for block in blocks:
        found[:, block] = found[:, block].max(1, keepdims=True)
    for block in blocks:
        mine = [k * each + e for k in block for e in range(each)]
        found[mine] = found[mine].max(0)
    return found


def niches(
    c: ArrayLike, representation: ArrayLike, *, above: float | Sequence[float] = 0.5, blocks: Sequence[Sequence[int]] = ()
) -> Array:
    """(I, J) True where column i of representation (n, I) belongs to the niche of concept j of labels c (n, J, NaN unknown).

    It does where their |correlation| is above ``above`` (0 to 1) by more than rounding; of several widths (W,) the result is
    (W, I, J). ``blocks``: columns of c that are one concept's states.
    """
    related = _related(**sound("niches", {"c": c, "representation": representation}), blocks=blocks)
    return np.asarray(related > np.asarray(above)[..., None, None] + ROUNDING)


def _both(c: Array) -> Array:
    """(J,) True where labels c (n, J) have both answers among those that are known."""
    return np.asarray((c > 0.5).any(0) & (c <= 0.5).any(0))


def _nis(
    c: Array, representation: Array, step: float = 0.05, blocks: Sequence[Sequence[int]] = (),
    groups: Sequence[str] | None = None, asked: Array | None = None,
) -> Sums:  # fmt: skip
    """Mean AUC over niches' outsides, as rows of placements: linear predictors of all columns, those of the niche silenced.

    Labels c (n, K) of 0 and 1, NaN unknown; of each the known rows count alone. ``blocks``: columns of one concept's states.
    ``groups``: kept whole when the rows are halved. ``asked`` (as representation): values that the same predictors are asked
    on, with the same niches, instead; of ``unleaked`` values it is the control. NaN where no concept has both answers in both
    halves.
    """
    asked = representation if asked is None else asked
    if asked.shape != representation.shape:
        raise DataError(f"NIS, asked: expected the shape of representation, {representation.shape}, got {asked.shape}")
    x, other = representation.reshape(len(c), -1), asked.reshape(len(c), -1)
    fit, at = halves(len(c), groups=groups)
    both = np.flatnonzero(_both(c[fit]) & _both(c[at]))
    if not len(both):
        return Sums(np.zeros((len(c), 1)), lambda s: np.full(len(s), np.nan))
    betas, truth, z = np.arange(0, 1, step), c[:, both], _standard(x, fit, x)
    w, inside = _weights(z[fit], truth[fit]), niches(c[fit], z[fit], above=list(betas), blocks=blocks)[..., both]
    said = _standard(other, fit, x)[at]
    terms = np.zeros((len(c), 2))
    terms[at, 1] = 1
    for niche in inside:  # each row's part of the AUC: its mean is the AUC, its spread the AUC's to first order
        placed = _by_column(said @ (w * ~niche), truth[at])
        area = _areas(placed, np.ones((1, len(at))))[0]
        parts = [kind / kind.mean(0) * (np.nan_to_num(placed.beats) - area) for kind in (placed.yes, placed.no)]
        terms[at, 0] += (area + parts[0] + parts[1]).mean(1) / len(betas)
    return Sums(terms, lambda s: s[:, 0] / s[:, 1])


def mispredicted(right: ArrayLike, known: ArrayLike) -> Array:
    """(M + 1,) MPO: share of rows with at least m of their known concepts wrong, m = 0 to M. right, known (n, M) bool."""
    hit, seen = (array("MPO", name, each) != 0 for name, each in (("right", right), ("known", known)))
    alike("MPO", right=hit, known=seen)
    if hit.ndim != 2 or not len(hit):
        raise DataError(f"MPO: expected right and known (n, M) of one row or more, got {hit.shape}; a share needs rows")
    wrong = (seen & ~hit).sum(1)
    return (wrong[:, None] >= np.arange(hit.shape[1] + 1)).mean(0)


ois = Metric(
    _ois, "OIS", "distance of AUCs", 0, 1, "down", "strip",
    "oracle impurity: distance of what each column tells of each concept from what its label tells, 2/K times the norm",
    200, True,
)  # fmt: skip
nis = Metric(
    _nis, "NIS", "AUC", 0, 1, "down", "strip",
    "niche impurity: mean AUC that predictors of all columns keep of a concept when its niche is silenced, over 20 widths of "
    "niche; .5 is none; the states of one concept share a niche",
    200,
)  # fmt: skip
