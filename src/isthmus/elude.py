"""ELUDE: what of a black box's answers labelled attributes explain, and how few unlabelled directions explain the rest.

Ramaswamy et al. 2022, ELUDE: Generating interpretable explanations via a decomposition into labelled and unlabelled features,
arXiv 2206.07690. Our reconstruction from the abstract (there is no code): stage 1 a sparse linear head on attributes, fitted
to the *model's* answers, not to the truth; stage 2 that head kept as it is, plus a remainder of low rank in the features. Both
are convex. A result that disappoints says nothing of theirs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from isthmus import metrics
from isthmus.errors import DataError, OptionError
from isthmus.metrics import interval, resamples
from isthmus.numerics import elastic_net

Array = NDArray[Any]
LARGEST = 10_000  # class numbers
PARTS = (0.5, 0.2, 0.3)  # rows that fit, that choose, that are reported
RANKS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Step:
    """With ``rank`` unlabelled directions: the share of answers explained on held-out rows, and its 95 % interval."""

    rank: int
    share: float
    low: float
    high: float
    strength: float  # the weight of the nuclear norm that gave it


@dataclass(frozen=True)
class Explanation:
    """A black box as a labelled part and a remainder.

    ``weights`` (Y, K) and ``bias`` (Y,): the labelled part, on attributes as they came. ``chance``: the commonest's share.
    ``curve``: rank 0 (attributes alone), then rising ranks. ``directions`` (r, D) and ``loadings`` (Y, r): the remainder at the
    last rank of the curve, strongest first, on features as they came, centred at ``mean`` (D,); ``top`` (r, m): rows of those
    given on which each direction is largest.
    """

    weights: Array
    bias: Array
    chance: float
    curve: tuple[Step, ...]
    directions: Array
    loadings: Array
    mean: Array
    top: NDArray[np.int64]

    @property
    def labelled(self) -> Step:
        """What attributes alone explain."""
        return self.curve[0]

    def rank_for(self, share: float) -> int | None:
        """The fewest directions with which at least ``share`` (0..1) of the answers is explained; None where none is enough."""
        return next((step.rank for step in self.curve if step.share >= share), None)

    def named(self, attributes: Sequence[str], classes: Sequence[str], most: int = 5) -> dict[str, list[tuple[str, float]]]:
        """For each class the attributes that speak most for or against it, with their weights."""
        found: dict[str, list[tuple[str, float]]] = {}
        for name, row in zip(classes, self.weights, strict=True):
            order = np.argsort(-np.abs(row), kind="stable")[:most]
            found[name] = [(attributes[int(k)], float(row[k])) for k in order if row[k] != 0]
        return found


def elude(
    said: Array, attributes: Array, features: Array, *, ranks: Sequence[int] = RANKS, slack: float = 0.01, top: int = 9,
    classes: int | None = None, seed: int = 0,
) -> Explanation:  # fmt: skip
    """Explain answers ``said``, class numbers (n,) or logits (n, Y), by attributes (n, K) and features (n, D) of the same rows.

    Half of the rows fit, a fifth chooses, the rest is reported. Stage 1: multinomial lasso on the attributes, the sparsest of
    the path whose agreement on the choosing rows is within ``slack`` of the best. Stage 2: cross-entropy plus M's nuclear norm,
    logits W a + b + M f, for falling strengths; for each of ``ranks`` the weakest strength whose M has at most that rank.
    Raises ``DataError`` for shapes that differ, numbers that are not finite, or a box that always says the same.
    """
    y, a, f = _checked(said, attributes, features)
    if f.shape[1] < 1 or a.shape[1] < 1:
        raise DataError(f"elude: expected attributes (n, K) and features (n, D) with columns, got {a.shape} and {f.shape}")
    if not ranks or not all(hasattr(rank, "__index__") for rank in ranks) or min(ranks) < 1 or not 0 <= slack < 1 or top < 1:
        raise OptionError(
            f"elude: expected ranks of at least 1, slack of 0..1 and top of at least 1, got {ranks}, {slack}, {top}"
        )
    width = int(classes or (np.asarray(said).shape[1] if np.asarray(said).ndim == 2 else y.max() + 1))
    fit, choose, held = _cut(len(y), seed)
    weights, bias = labelled(a[fit], y[fit], a[choose], y[choose], width, slack)
    offset = a @ weights.T + bias
    mean, scale = f[fit].mean(0), f[fit].std(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    z = (f - mean) / scale
    steps = [_step(0, y[held], offset[held].argmax(1), 0.0)]
    last = np.zeros((width, f.shape[1]))
    for rank, (strength, m) in remainders(z[fit], offset[fit], y[fit], sorted(set(ranks))).items():
        steps.append(_step(rank, y[held], (offset[held] + z[held] @ m.T).argmax(1), strength))
        last = m
    u, s, v = np.linalg.svd(last, full_matrices=False)
    kept = s > 1e-8 * max(s.max(), 1e-12)
    order = np.argsort(-(z @ v[kept].T), axis=0, kind="stable")[:top].T
    chance = float(np.bincount(y[held], minlength=width).max() / len(held))
    return Explanation(weights, bias, chance, tuple(steps), v[kept] / scale, u[:, kept] * s[kept], mean, order)


def _checked(said: Array, attributes: Array, features: Array) -> tuple[Array, Array, Array]:
    y = np.asarray(said)
    try:
        a, f = np.asarray(attributes, dtype=np.float64), np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("elude: expected attributes and features as numbers") from None
    if y.dtype.kind not in "biuf" or (y.dtype.kind == "f" and not np.isfinite(y).all()):
        raise DataError(f"elude: expected answers as class numbers or finite logits, got {y.dtype}, or NaN")
    y = y.argmax(1) if y.ndim == 2 else y
    if y.ndim == 1 and len(y) and (bool((y != np.floor(y)).any()) or y.min() < 0 or y.max() > LARGEST):
        raise DataError(f"elude: expected class numbers from 0 to {LARGEST:,}, whole; code names as numbers")
    if y.ndim != 1 or a.ndim != 2 or f.ndim != 2 or not len(y) == len(a) == len(f):
        raise DataError(
            f"elude: expected answers (n,) or (n, Y), attributes (n, K), features (n, D), got {y.shape}, {a.shape}, {f.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(f).all()):
        raise DataError("elude: expected finite numbers; leave rows with unknown attributes out")
    if len(y) < 20 or len(np.unique(y)) < 2:
        raise DataError(f"elude: expected 20 rows or more with two different answers, got {len(y)} and {len(np.unique(y))}")
    return y.astype(np.int64), a, f


def _cut(n: int, seed: int) -> tuple[Array, Array, Array]:
    order = np.random.default_rng(seed).permutation(n)
    first, second = round(n * PARTS[0]), round(n * (PARTS[0] + PARTS[1]))
    return order[:first], order[first:second], order[second:]


def labelled(a: Array, y: Array, at: Array, told: Array, width: int, slack: float) -> tuple[Array, Array]:
    """(Y, K) weights and (Y,) bias: the sparsest head of a lasso path whose agreement on rows ``at`` is nearly the best."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        heads = elastic_net.path(a, y, points=25, least=0.005, l1_ratio=1.0, classes=width)
    agree = [float(((at @ np.asarray(head.weights).T + np.asarray(head.bias)).argmax(1) == told).mean()) for head in heads]
    chosen = heads[next(i for i, each in enumerate(agree) if each >= max(agree) - slack)]
    return np.asarray(chosen.weights, dtype=np.float64), np.asarray(chosen.bias, dtype=np.float64)


def remainders(
    z: Array, offset: Array, y: Array, ranks: Sequence[int], *, points: int = 24, least: float = 0.002
) -> dict[int, tuple[float, Array]]:
    """For each rank that the path reaches: the weakest strength at which M (Y, D) has at most that rank, and that M."""
    hot = np.eye(offset.shape[1])[y]
    strongest = float(np.linalg.norm((softmax(offset, axis=1) - hot).T @ z / len(z), 2))
    if strongest <= 1e-12:
        return {}
    m, found = np.zeros((offset.shape[1], z.shape[1])), dict[int, tuple[float, Array]]()
    for strength in strongest * np.geomspace(1, least, points)[1:]:
        m = low_rank(z, offset, hot, float(strength), m)
        rank = int((np.linalg.svd(m, compute_uv=False) > 1e-8).sum())
        fits = [wanted for wanted in ranks if rank <= wanted]
        for wanted in fits:
            if rank > 0:
                found[wanted] = (float(strength), m.copy())
        if not fits:
            break
    return {rank: found[rank] for rank in ranks if rank in found}


def low_rank(
    z: Array, offset: Array, hot: Array, strength: float, start: Array, *, steps: int = 500, tol: float = 1e-6
) -> Array:
    """(Y, D) the M of least mean cross-entropy(offset + z M') + strength |M|_*, by accelerated proximal steps."""
    size = 0.5 * float(np.linalg.norm(z, 2)) ** 2 / len(z)
    m = ahead = start
    momentum, value = 1.0, objective(z, offset, hot, strength, start)
    for _ in range(steps):
        slope = (softmax(offset + z @ ahead.T, axis=1) - hot).T @ z / len(z)
        new = shrunk(ahead - slope / size, strength / size)
        told = objective(z, offset, hot, strength, new)
        if told > value:  # the momentum overshot: a plain step from where we were
            momentum, ahead = 1.0, m
            slope = (softmax(offset + z @ m.T, axis=1) - hot).T @ z / len(z)
            new = shrunk(m - slope / size, strength / size)
            told = objective(z, offset, hot, strength, new)
        faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / faster * (new - m)
        done = value - told <= tol * max(abs(value), 1e-12) * 1e-2
        m, momentum, value = new, faster, told
        if done:
            break
    return m


def shrunk(m: Array, by: float) -> Array:
    """Singular values smaller by ``by``, at least 0: the proximal step of the nuclear norm."""
    u, s, v = np.linalg.svd(m, full_matrices=False)
    return (u * np.maximum(s - by, 0)) @ v


def objective(z: Array, offset: Array, hot: Array, strength: float, m: Array) -> float:
    """Mean cross-entropy plus ``strength`` times the nuclear norm."""
    loss = -(hot * log_softmax(offset + z @ m.T, axis=1)).sum() / len(z)
    return float(loss + strength * np.linalg.svd(m, compute_uv=False).sum())


def _step(rank: int, y: Array, said: Array, strength: float) -> Step:
    form = metrics.accuracy.weighted(y, said)
    low, high = interval(form.under(resamples(len(y))))
    return Step(rank, float((y == said).mean()), low, high, strength)
