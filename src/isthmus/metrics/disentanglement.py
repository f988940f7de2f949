"""How codes and factors line up: DCI, MIG, SAP, modularity, the alignment of clusters (CAS), and completeness.

Eastwood & Williams 2018 (DCI); Chen et al. 2018 (MIG); Kumar et al. 2018 (SAP); Ridgeway & Mozer 2018 (modularity); Espinosa
Zarlenga et al. 2022, Concept Embedding Models (CAS); Yeh et al. 2020, On Completeness-aware Concept-Based Explanations. Codes
are what a strip holds, one column each (n, I), or a list of I blocks (n, d): a concept of states is one code, else its own
columns tell what each other tell. Factors (n, J) are what is true: states as whole numbers, NaN unknown. Rows of which a factor
is unknown do not count for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from isthmus.errors import DataError
from isthmus.metrics.core import Array, Sums, array, mean_known, sound
from isthmus.numerics.information import entropy, information, variable

Codes = ArrayLike | Sequence[ArrayLike]  # (n, I), or a list of I blocks (n, d)


def informations(codes: Codes, factors: ArrayLike, *, k: int = 3) -> tuple[Array, Array]:
    """I (I, J) of each code and factor (n, J), in nats, and the factors' entropies (J,); counted or by k neighbours."""
    each, factors = _blocks(codes, factors)
    found, whole = np.zeros((len(each), factors.shape[1])), np.zeros(factors.shape[1])
    for j, factor in enumerate(factors.T):
        rows = ~np.isnan(factor)
        if rows.sum() <= k:
            found[:, j], whole[j] = np.nan, np.nan
            continue
        told = variable(factor[rows], counted=True)
        whole[j] = entropy(told).mean()
        found[:, j] = [max(float(information(variable(code[rows]), told, k=k).mean()), 0.0) for code in each]
    return found, whole


def _blocks(codes: Codes, factors: ArrayLike) -> tuple[list[Array], Array]:
    """Each code (n, d), finite and of the rows of factors (n, J), and those."""
    if isinstance(codes, Sequence):
        each = list(codes)
    else:
        whole = np.atleast_1d(array("codes and factors", "codes", codes))
        each = list(whole[:, :, None].swapaxes(0, 1) if whole.ndim == 2 else whole)
    made = {name: array("codes and factors", name, code) for name, code in _named(each).items()}
    told = array("codes and factors", "factors", factors)
    if told.ndim != 2 or not told.shape[1] or not made or any(code.ndim != 2 or not code.shape[1] for code in made.values()):
        got = f"{[code.shape for code in made.values()]} and {told.shape}"
        raise DataError(f"expected codes (n, I), or blocks (n, d), and factors (n, J) of the same rows, got {got}")
    sound("codes and factors", {"factors": told, **made})
    return list(made.values()), told


def _named(codes: Iterable[ArrayLike]) -> dict[str, ArrayLike]:
    return {f"code {at}": code for at, code in enumerate(codes)}


def mig(information: Array, whole: Array) -> float:
    """Mutual information gap, 0..1, up: mean over factors of (first - second code's information) / the factor's entropy.

    ``information`` (I, J) and ``whole`` (J,) as from ``informations``. One code alone has no second: its own share.
    """
    top = np.sort(np.vstack([information, np.zeros((1, information.shape[1]))]), axis=0)
    known = whole > 0
    return float(((top[-1] - top[-2])[known] / whole[known]).mean()) if known.any() else float("nan")


def modularity(information: Array) -> float:
    """0..1, up: 1 - mean over codes of the squared information that lies outside the code's one best factor.

    ``information`` (I, J); a code that tells nothing of any factor is left out; with one factor every code is modular. It
    is about .9 of noise, whose estimates are seldom 0 and one of which chance makes the largest, and correlated factors lower
    it: read it beside that of codes which hold their own factor alone, and beside how much codes tell at all.
    """
    best = information.max(1)
    used = best > 0
    if information.shape[1] < 2 or not used.any():
        return 1.0 if used.any() else float("nan")
    square = information[used] ** 2
    outside = (square.sum(1) - best[used] ** 2) / (best[used] ** 2 * (information.shape[1] - 1))
    return float((1 - outside).mean())


def sap(codes: Codes, factors: ArrayLike) -> float:
    """Separated attribute predictability, 0..1, up: mean over factors of the gap between the two codes that tell it best.

    A column tells a factor of two states by the balanced accuracy of its best threshold (either way round); one of S states, as
    a block tells any, by that of the nearest state mean; as the lead over chance, (accuracy - 1/S) / (1 - 1/S), at least 0.
    """
    each, factors = _blocks(codes, factors)
    gaps: list[float] = []
    for factor in factors.T:
        rows = ~np.isnan(factor)
        states, told = np.unique(factor[rows], return_inverse=True)
        if len(states) < 2:
            continue
        score = [
            _threshold(code[rows, 0], told == 1) if len(states) == 2 and code.shape[1] == 1 else _nearest(code[rows], told)
            for code in each
        ]
        top = np.sort([0.0, *score])
        gaps.append(float(top[-1] - top[-2]))
    return float(np.mean(gaps)) if gaps else float("nan")


def _threshold(code: Array, yes: Array) -> float:
    order = np.argsort(code, kind="stable")
    up, down = np.cumsum(yes[order]) / yes.sum(), np.cumsum(~yes[order]) / (~yes).sum()
    ends = np.r_[np.diff(code[order]) != 0, True]
    return float(np.abs(up - down)[ends].max())  # balanced accuracy is (1 + this) / 2


def _nearest(code: Array, told: Array) -> float:
    states = int(told.max()) + 1
    hot = np.eye(states)[told]
    mean = hot.T @ code / hot.sum(0)[:, None]
    right = ((code[:, None] - mean[None]) ** 2).sum(-1).argmin(1) == told
    return max(0.0, float(((right @ hot / hot.sum(0)).mean() - 1 / states) / (1 - 1 / states)))


def _got(found: Array) -> str:
    return f"shape {found.shape}" + (f" from {found.min():g} to {found.max():g}" if found.size else "")


def dci(importance: ArrayLike) -> tuple[float, float]:
    """Disentanglement and completeness, each 0..1, up, from how much each code matters to each factor, R (I, J) >= 0.

    D = sum_i rho_i (1 - H_J(R_i.)), C = sum_j rho_j (1 - H_I(R_.j)); rho: a row's (column's) share of all importance; entropies
    to the base of their length. ``importances`` makes R, and what I, how well codes tell factors, is the mean of.
    """
    importance = array("DCI", "importance", importance)
    if importance.ndim != 2 or not (importance >= 0).all() or importance.sum() <= 0:
        raise DataError(
            f"DCI: expected importances (I, J) of at least 0, some above, got {_got(importance)}; make them by importances"
        )

    def one(r: Array) -> float:
        rows, base = r.sum(1), r.shape[1]
        p = r / np.where(rows > 0, rows, 1)[:, None]
        bits = -(p * np.log(np.where(p > 0, p, 1))).sum(1) / np.log(base) if base > 1 else np.zeros(len(r))
        return float(rows / rows.sum() @ np.clip(1 - bits, 0, 1))  # a hair outside by rounding

    return one(importance), one(importance.T)


def importances(codes: Codes, factors: ArrayLike, at: Array, *, seed: int = 0) -> tuple[Array, Array]:
    """R (I, J), what boosted trees make of each code, its columns added up, and (len(at), J) what they tell rightly.

    Fitted on the rows but ``at``, asked on rows ``at``: 1 and 0, NaN where a factor is unknown or nothing was fitted. The mean
    over rows, then factors, is the I of DCI (``informativeness``).
    """
    from sklearn.ensemble import GradientBoostingClassifier

    each, factors = _blocks(codes, factors)
    fit, columns = np.setdiff1d(np.arange(len(factors)), at), np.concatenate(each, 1)
    starts = np.cumsum([0, *(code.shape[1] for code in each[:-1])])
    # trees break ties by place: columns stand in the order of their numbers, so that the order of codes never matters
    order = np.lexsort(columns[fit][::-1]) if len(fit) else np.arange(columns.shape[1])
    columns, back = columns[:, order], np.argsort(order)
    found, right = np.zeros((len(each), factors.shape[1])), np.full((len(at), factors.shape[1]), np.nan)
    for j, factor in enumerate(factors.T):
        told, asked = fit[~np.isnan(factor[fit])], ~np.isnan(factor[at])
        if not asked.any() or len(np.unique(factor[told])) < 2:
            continue
        trees = GradientBoostingClassifier(n_estimators=50, max_depth=3, random_state=seed).fit(columns[told], factor[told])
        matter = np.maximum(np.nan_to_num(trees.feature_importances_), 0)[back]  # a hair below 0
        found[:, j] = np.add.reduceat(matter, starts)
        right[asked, j] = trees.predict(columns[at[asked]]) == factor[at[asked]]
    return found, right


def informativeness(right: Array) -> Sums:
    """DCI's I, 0..1, up, in the form that can be bootstrapped: mean over factors of the share told rightly, right (n, J)."""
    known = ~np.isnan(right)
    rows = np.concatenate([np.nan_to_num(right), known], 1).astype(float)
    return Sums(rows, lambda s: mean_known(np.divide(*np.split(s, 2, axis=1))))


def cas(factors: ArrayLike, representation: Codes, *, most: int = 400, points: int = 8, seed: int = 0) -> float:
    """Concept alignment score, 0..1, up: how pure the clusters of each concept's representation are in its label.

    factors (n, M) states, NaN unknown; representation (n, M), (n, M, E), or a list of (n, E).
    Mean over concepts of the mean homogeneity
    1 - H(label | cluster) / H(label) at ``points`` numbers of clusters, evenly from 2 to half of at most ``most`` rows, by
    k-medoids. Values of a constant are all it can hold: concepts of one state are left out.
    """
    if isinstance(representation, Sequence):
        factors, *each = sound("CAS", {"factors": factors, **_named(representation)}).values()
    else:
        factors, whole = sound("CAS", {"factors": factors, "representation": representation}).values()
        each = list(whole.swapaxes(0, 1))
    if len(each) != factors.shape[1]:
        got = f"got {len(each)}; give one for each column of factors"
        raise DataError(f"CAS, representation: expected that of each of {factors.shape[1]} concepts, {got}")
    scores: list[float] = []
    for m in range(factors.shape[1]):
        rows = np.flatnonzero(~np.isnan(factors[:, m]))
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
        told = np.unique(factors[rows, m], return_inverse=True)[1]
        if len(rows) < 4 or told.max() < 1:
            continue
        x = each[m][rows]
        x = x[:, None] if x.ndim == 1 else x
        apart = np.sqrt(np.maximum(((x[:, None] - x[None]) ** 2).sum(-1), 0)) if x.shape[1] <= 4 else _apart(x)
        counts = np.unique(np.linspace(2, len(rows) // 2, points).astype(int))
        scores.append(float(np.mean([_pure(medoids(apart, int(count), seed=seed), told) for count in counts])))
    return float(np.mean(scores)) if scores else float("nan")


def _apart(x: Array) -> Array:
    square = (x**2).sum(1)
    return np.sqrt(np.maximum(square[:, None] + square[None] - 2 * x @ x.T, 0))


def medoids(apart: Array, count: int, *, steps: int = 20, seed: int = 0) -> Array:
    """(n,) cluster of each row by k-medoids on distances (n, n): seeds far apart, then each cluster's most central row."""
    draw = np.random.default_rng(seed)
    chosen = [int(draw.integers(len(apart)))]
    near = apart[chosen[0]].copy()
    for _ in range(count - 1):
        weight = near**2
        total = weight.sum()
        chosen.append(int(draw.choice(len(apart), p=weight / total)) if total > 0 else int(draw.integers(len(apart))))
        near = np.minimum(near, apart[chosen[-1]])
    centres = np.array(chosen)
    for _ in range(steps):
        cluster = apart[:, centres].argmin(1)
        hot = np.eye(count)[cluster]
        cost = np.where(hot > 0, apart @ hot, np.inf)  # (n, count): a row's distance to all of its own cluster
        moved = np.where(hot.any(0), cost.argmin(0), centres)
        if (moved == centres).all():
            break
        centres = moved
    return apart[:, centres].argmin(1)


def _pure(cluster: Array, told: Array) -> float:
    table = np.zeros((cluster.max() + 1, told.max() + 1))
    np.add.at(table, (cluster, told), 1)
    p, q = table / table.sum(), table.sum(0) / table.sum()
    each = table.sum(1, keepdims=True) / table.sum()
    inside = -(p * np.log(np.where(p > 0, p / np.where(each > 0, each, 1), 1))).sum()
    return float(1 - inside / -(q * np.log(np.where(q > 0, q, 1))).sum())


def completeness(told: float, whole: float, chance: float) -> float:
    """eta = (told - chance) / (whole - chance), up, 1: the concepts say all: accuracies of the best predictor from concepts, of

    the model that is explained (or from the features), and of the commonest class (not 1/Y). NaN where nothing beats chance;
    above 1 where the concepts say more than the model does.
    """
    return float("nan") if whole <= chance else float((told - chance) / (whole - chance))
