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
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from isthmus import metrics
from isthmus.errors import DataError, OptionError
from isthmus.metrics import interval, resamples
from isthmus.numerics import elastic_net

Array = NDArray[Any]
Rows = tuple[Array, Array, Array]  # features (n, D), what the labelled part says (n, Y), answers (n,)
LARGEST = 10_000  # class numbers
PARTS = (0.5, 0.2, 0.3)  # rows that fit, that choose, that are reported
RANKS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Step:
    """With at most ``rank`` unlabelled directions: the share of answers explained on held-out rows, and its 95 % interval."""

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
    last rank of the curve (r is less where more did not help), strongest first, on features as they came, centred at ``mean``
    (D,); ``top`` (r, m): rows of those given on which each direction is largest.
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
        if (len(classes), len(attributes)) != self.weights.shape:
            raise DataError(
                f"named: expected names of {self.weights.shape[1]} attributes and {len(self.weights)} classes, got "
                f"{len(attributes)} and {len(classes)}"
            )
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
    logits W a + b + M f, for falling strengths; for each of ``ranks`` the M of at most that rank that agrees most on the
    choosing rows, the strongest penalty among equals. A direction that does not help there is left out, so that a step may
    have fewer than its rank, or none.
    Raises ``DataError`` for shapes that differ, numbers that are not finite, or a box that always says the same,
    ``OptionError`` for options out of range.
    """
    _options(ranks, slack, top, classes, seed)
    y, a, f = _checked(said, attributes, features)
    if f.shape[1] < 1 or a.shape[1] < 1:
        raise DataError(f"elude: expected attributes (n, K) and features (n, D) with columns, got {a.shape} and {f.shape}")
    least = int(np.shape(said)[1] if np.ndim(said) == 2 else y.max() + 1)
    width = least if classes is None else int(classes)
    if width < least:
        raise OptionError(f"elude: expected at least {least} classes, the answers have so many, got classes={classes}")
    fit, choose, held = _cut(len(y), seed)
    if len(np.unique(y[fit])) < 2:
        raise DataError(
            "elude: expected two answers among the half of rows that fits, got one; give more rows, or another seed"
        )
    weights, bias = labelled(a[fit], y[fit], a[choose], y[choose], width, slack)
    offset = a @ weights.T + bias
    mean, scale = f[fit].mean(0), f[fit].std(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    z = (f - mean) / scale
    steps = [_step(0, y[held], offset[held].argmax(1), 0.0)]
    last = np.zeros((width, f.shape[1]))
    first, second = ((z[at], offset[at], y[at]) for at in (fit, choose))
    for rank, (strength, m) in remainders(first, second, sorted({int(rank) for rank in ranks})).items():
        steps.append(_step(rank, y[held], (offset[held] + z[held] @ m.T).argmax(1), strength))
        last = m
    u, s, v = np.linalg.svd(last, full_matrices=False)
    kept = s > 1e-8 * max(s.max(), 1e-12)
    order = np.argsort(-(z @ v[kept].T), axis=0, kind="stable")[:top].T
    chance = float(np.bincount(y[held], minlength=width).max() / len(held))
    return Explanation(weights, bias, chance, tuple(steps), v[kept] / scale, u[:, kept] * s[kept], mean, order)


def _options(ranks: Any, slack: Any, top: Any, classes: Any, seed: Any) -> None:
    """Refuse what no option can be; a single rank is no list."""
    listed = hasattr(ranks, "__len__") and not isinstance(ranks, str) and len(ranks) > 0
    if not listed or not all(_whole(rank, 1) for rank in ranks):
        raise OptionError(f"elude: expected ranks as whole numbers of at least 1, such as (1, 2, 4), got {ranks!r}")
    if isinstance(slack, bool) or not isinstance(slack, Real) or not 0 <= float(slack) < 1:
        raise OptionError(f"elude: expected slack from 0 to below 1, got {slack!r}")
    for name, value, least in (("top", top, 1), ("seed", seed, 0), ("classes", 2 if classes is None else classes, 2)):
        if not _whole(value, least):
            raise OptionError(f"elude: expected {name} as a whole number of at least {least}, got {value!r}")


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _plain(found: Any, dtype: Any = None) -> Array:
    """An array, of a tensor with a gradient or on a device too."""
    return np.asarray(found.detach().cpu() if hasattr(found, "detach") else found, dtype=dtype)


def _checked(said: Array, attributes: Array, features: Array) -> tuple[Array, Array, Array]:
    try:
        y, a, f = _plain(said), _plain(attributes, np.float64), _plain(features, np.float64)
    except (TypeError, ValueError):
        raise DataError("elude: expected answers, attributes and features as numbers, in rows of one length") from None
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
    fit: Rows, choose: Rows, ranks: Sequence[int], *, points: int = 24, least: float = 0.002
) -> dict[int, tuple[float, Array]]:
    """For each rank that the path reaches: of its M (Y, D) of at most that rank, 0 among them, the one that agrees most on
    the ``choose`` rows, the strongest penalty among equals; with its strength.
    """
    z, offset, y = fit
    hot = np.eye(offset.shape[1])[y]
    strongest = float(np.linalg.norm((softmax(offset, axis=1) - hot).T @ z / len(z), 2))
    if strongest <= 1e-12:
        return {}
    m = np.zeros((offset.shape[1], z.shape[1]))
    best, found = dict.fromkeys(ranks, (_agreement(choose, m), strongest, m)), dict[int, tuple[float, Array]]()
    for strength in strongest * np.geomspace(1, least, points)[1:]:
        m = low_rank(z, offset, hot, float(strength), m)
        reached = int((np.linalg.svd(m, compute_uv=False) > 1e-8).sum())
        if reached > max(ranks):
            break
        share = _agreement(choose, m)
        for wanted in ranks:
            if 0 < reached <= wanted:
                best[wanted] = max(best[wanted], (share, float(strength), m), key=lambda each: each[0])
                found[wanted] = best[wanted][1:]
    return {rank: found[rank] for rank in ranks if rank in found}


def _agreement(rows: Rows, m: Array) -> float:
    """The share of rows whose answer the labelled part and M give."""
    z, offset, y = rows
    return float(((offset + z @ m.T).argmax(1) == y).mean())


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
