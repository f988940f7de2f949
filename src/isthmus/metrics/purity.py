"""Does one column know of its own concept alone? Purity, the oracle impurity score, niches, mispredicted concepts together.

Espinosa Zarlenga et al. 2023, Towards Robust Metrics for Concept Representation Evaluation, AAAI (OIS, NIS); Kazhdan et al.
2021, Is Disentanglement all you need?, arXiv 2104.06917 (purity, niches, MPO). 0 is pure: a wiki that says "higher is better"
of OIS errs. The AUC of a monotone map of one number is that number's own, so probes of columns are ranks and nothing is
trained; ``bins`` (quantiles) sees what ranks cannot, such as |x|; vectors are probed by ridge, fitted on one half of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from isthmus.errors import DataError, OptionError
from isthmus.metrics.core import Array, Metric, Sums

Probe = Literal["rank", "bins", "ridge"]
BINS, RIDGE = 20, 1e-3


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


def halves(n: int, seed: int = 0) -> tuple[Array, Array]:
    """Row numbers of the two halves: probes are fitted on the first and measured on the second."""
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def ridge(x: Array, t: Array, at: Array) -> Array:
    """(len(at), J) scores of rows ``at`` by ridge from the other rows' x (n, E) to labels t (n, J); unknown: the mean."""
    fit = np.setdiff1d(np.arange(len(x)), at)
    mean, scale = x[fit].mean(0), x[fit].std(0)
    z = (x - mean) / np.where(scale > 1e-12, scale, 1)
    goal = t[fit] - np.nanmean(np.where(np.isnan(t[fit]), np.nan, t[fit]), axis=0)
    gram = z[fit].T @ z[fit] + RIDGE * len(fit) * np.eye(x.shape[1])
    return z[at] @ np.linalg.solve(gram, z[fit].T @ np.nan_to_num(goal))


def _seen(representation: Array, probe: Probe, c: Array) -> tuple[list[Array], Array]:
    """Scores (rows, J) of each representation (n, I) or (n, I, E), and the rows that they are of."""
    vectors = representation.ndim == 3
    if probe not in ("rank", "bins", "ridge"):
        raise OptionError(f"purity, probe: expected 'rank', 'bins' or 'ridge', got {probe!r}")
    if probe == "rank" and not vectors:
        return [column[:, None] for column in representation.T], np.arange(len(c))
    _, at = halves(len(c))
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
        gap = np.nan_to_num(found - oracle)
        return 2 / gap.shape[1] * np.sqrt((gap**2).sum((1, 2)))


def _of(scores: Array, truth: Array) -> _Placed:
    return _placements(scores[:, 0], truth) if scores.shape[1] == 1 else _by_column(scores, truth)


def _ois(c: Array, representation: Array, probe: Probe = "rank") -> Impurity:
    if len(c) != len(representation) or representation.ndim not in (2, 3) or representation.shape[1] != c.shape[1]:
        raise DataError(f"OIS: expected a column of each concept, {c.shape}, got {representation.shape}")
    both = [k for k in range(c.shape[1]) if (c[:, k] > 0.5).any() and (c[:, k] <= 0.5).any()]
    if not both:
        return Impurity((), c, np.arange(len(c)), len(c))
    scores, at = _seen(representation[:, both], probe, c[:, both])
    return Impurity(tuple(scores), c[np.ix_(at, np.array(both))], at, len(c))


def _by_column(scores: Array, truth: Array) -> _Placed:
    """Placements where each label has a score of its own."""
    each = [_placements(scores[:, j], truth[:, j : j + 1]) for j in range(truth.shape[1])]
    return _Placed(*(np.concatenate([getattr(one, name) for one in each], 1) for name in ("beats", "yes", "no")))


def purity(c: Array, representation: Array, *, probe: Probe = "rank") -> tuple[Array, Array]:
    """(K, K) AUC of telling concept j from column i, and the same from the labels themselves (its diagonal is 1).

    Labels c (n, K) of 0 and 1, NaN unknown; representation (n, K) or vectors (n, K, E). Concepts without both answers are
    left out. Off the diagonal the second is above .5 where concepts are correlated: that is expected, and subtracted.
    """
    return _ois(c, representation, probe).plain()


def _nis(c: Array, representation: Array, step: float = 0.05) -> Sums:
    """Mean AUC over niches' outsides, as rows of placements: linear predictors of all columns, those of the niche silenced."""
    if representation.ndim == 3:
        representation = representation.reshape(len(representation), -1)
    _, at = halves(len(c))
    fit = np.setdiff1d(np.arange(len(c)), at)
    both = [k for k in range(c.shape[1]) if all(len(np.unique(np.nan_to_num(c[r, k], nan=-1) > 0.5)) > 1 for r in (fit, at))]
    if not both:
        return Sums(np.zeros((len(c), 1)), lambda s: np.full(len(s), np.nan))
    truth = c[:, both]
    mean, scale = representation[fit].mean(0), representation[fit].std(0)
    z = (representation - mean) / np.where(scale > 1e-12, scale, 1)
    goal = np.nan_to_num(truth[fit] - np.nanmean(truth[fit], axis=0))
    w = np.linalg.solve(z[fit].T @ z[fit] + RIDGE * len(fit) * np.eye(z.shape[1]), z[fit].T @ goal)
    spread = goal.std(0)
    nu = np.abs(z[fit].T @ goal) / len(fit) / np.where(spread > 0, spread, 1)
    betas = np.arange(0, 1, step)
    terms = np.zeros((len(c), 2))
    terms[at, 1] = 1
    for beta in betas:  # each row's part of the AUC: its mean is the AUC, its spread the AUC's to first order
        placed = _by_column(z[at] @ (w * (nu <= beta)), truth[at])
        area = _areas(placed, np.ones((1, len(at))))[0]
        parts = [kind / kind.mean(0) * (np.nan_to_num(placed.beats) - area) for kind in (placed.yes, placed.no)]
        terms[at, 0] += (area + parts[0] + parts[1]).mean(1) / len(betas)
    return Sums(terms, lambda s: s[:, 0] / s[:, 1])


def niches(c: Array, representation: Array, *, above: float = 0.5) -> Array:
    """(I, J) True where column i belongs to concept j's niche: |correlation| above ``above`` (0 to 1)."""
    found = np.zeros((representation.shape[1], c.shape[1]), dtype=bool)
    for j in range(c.shape[1]):
        rows = ~np.isnan(c[:, j])
        t, x = c[rows, j] - c[rows, j].mean(), representation[rows] - representation[rows].mean(0)
        norm = np.linalg.norm(x, axis=0) * np.linalg.norm(t)
        found[:, j] = np.abs(x.T @ t) / np.where(norm > 0, norm, 1) > above
    return found


def mispredicted(right: Array, known: Array) -> Array:
    """(M + 1,) MPO: share of rows with at least m of their known concepts wrong, m = 0 to M. right, known (n, M) bool."""
    wrong = (known & ~right).sum(1)
    return (wrong[:, None] >= np.arange(right.shape[1] + 1)).mean(0)


ois = Metric(
    _ois, "OIS", "distance of AUCs", 0, 1, "down", "strip",
    "oracle impurity: distance of what each column tells of each concept from what its label tells, 2/K times the norm",
    200, True,
)  # fmt: skip
nis = Metric(
    _nis, "NIS", "AUC", 0, 1, "down", "strip",
    "niche impurity: mean AUC of telling a concept from the columns outside its niche, over 20 widths of niche; .5 is none",
    200,
)  # fmt: skip
