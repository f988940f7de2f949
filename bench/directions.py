"""Concept directions: sets for each concept against a loop of SVC, a shared table against a loop of logistic regressions.

The sets have two incumbents. 'Published' is what post-hoc CBM (Yuksekgonul et al. 2023) computes for a concept: an SVC, its
accuracy on its rows and on as many held out, and the signed distances of its rows from the plane (largest, least, mean of those
above 0, mean of those below); ours gives the same figures for all concepts. The bare loop of SVC, at the tolerance at which its
objective is as near the optimum as ours, is the same repaired.

Features are synthetic. For the shared table they come in two kinds: 'rectified' (64 latent factors, mixed and rectified, as
pooled features of a network are: correlated, not centred) and 'white' (independent normal: the easiest for the incumbent; the
limit on time does not hold there).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from bench.cases import Row, case
from bench.roof import against
from isthmus.numerics import _exact, _faces, _gram, _smo, directions

Floats = NDArray[Any]
COMPILED = (_exact, _faces, _gram, _smo)
CONCEPTS, EACH, ROWS, DIM, LABELS = 170, 50, 6000, 512, 312


def pairs(concepts: int, each: int, dim: int, held: bool = False) -> tuple[Floats, Floats]:
    """Positives and negatives (C, each, d) float32, a little apart, not centred; ``held``: others of the same concepts."""
    draw = np.random.default_rng(0)
    apart = 0.08 * draw.normal(size=(concepts, 1, dim))
    draw = np.random.default_rng(2) if held else draw
    return tuple((draw.normal(size=(concepts, each, dim)) + 0.5 + s * apart).astype(np.float32) for s in (1, -1))  # type: ignore[return-value]


def table(kind: str, rows: int = ROWS, dim: int = DIM, labels: int = LABELS) -> tuple[Floats, Floats]:
    """x (n, d) float32 and labels (n, C), about a fifth of them positive, noisy."""
    draw = np.random.default_rng(1)
    if kind == "white":
        x = draw.normal(size=(rows, dim))
    else:
        latent, mix = draw.normal(size=(rows, 64)), draw.normal(size=(64, dim)) / 8
        x = np.maximum(0, latent @ mix + 0.3 * draw.normal(size=(rows, dim)))
    score = (x - x.mean(0)) @ draw.normal(size=(dim, labels))
    score = score / score.std(0) + 0.3 * draw.normal(size=score.shape)
    return x.astype(np.float32), (score > 0.8).astype(np.float32)


def hinge(x: Floats, y: Floats, w: Floats, b: float, c: float) -> float:
    """The objective of an SVM, in float64."""
    w = w.astype(float)
    return float(0.5 * w @ w + c * np.maximum(0, 1 - y * (x.astype(float) @ w + b)).sum())


def logloss(x: Floats, t: Floats, w: Floats, b: float) -> float:
    """The objective of a logistic regression with c = 1, in float64."""
    w = w.astype(float)
    z = x.astype(float) @ w + b
    return float(0.5 * w @ w + (np.logaddexp(0, z) - t * z).sum())


def svm_rows(dim: int, repeats: int, part: int, concepts: int = CONCEPTS, each: int = EACH, c: float = 0.1) -> Iterator[Row]:
    """Against SVC as the field calls it (tol 1e-3), and at the tolerance at which its objective is as near the optimum."""
    positive, negative = pairs(concepts, each, dim)
    y = np.r_[np.ones(each), -np.ones(each)]
    x = np.concatenate([positive, negative], 1)

    def loop(tol: float) -> list[Any]:
        return [SVC(C=c, kernel="linear", tol=tol).fit(rows, y) for rows in x[:part]]

    def ours() -> directions.Directions:
        return directions.svm(directions.sets(positive, negative), c=c)

    def without() -> directions.Directions:
        kept = [module.jitted for module in COMPILED]
        for module in COMPILED:
            module.jitted = lambda *_, **__: None  # type: ignore[assignment]
        try:
            return ours()
        finally:
            for module, jitted in zip(COMPILED, kept, strict=True):
                module.jitted = jitted  # type: ignore[assignment]

    scale, size = concepts / part, f"SVM {concepts} x {2 * each} x {dim}"
    incumbents: dict[str, tuple[Callable[[], object], float]] = {
        "SVC": (lambda: loop(1e-3), scale),
        "SVC at equal objective": (lambda: loop(1e-5), scale),
        "without numba": (without, 1.0),
    }
    limits = {"SVC at equal objective": 1 / 8}
    operations = 1.0 * concepts * (2 * each) ** 2 * dim  # half of each product: it is symmetric
    note = "the roof counts half of each symmetric product"
    yield from against(size, ours, incumbents, repeats=repeats, operations=operations, limits=limits, note=note)
    found, plain = ours(), without()
    apart = float((plain.objective / found.objective - 1).abs().max())
    yield Row(f"{size}: objective without numba, either way", apart, "", limit=1e-5, note=f"largest of {concepts} concepts")
    for tol, limit in ((1e-3, None), (1e-5, 1e-4), (1e-7, 1e-4)):
        pairs_of = [
            hinge(x[k], y, found.weight[k].numpy(), float(found.bias[k]), c)
            / hinge(x[k], y, one.coef_[0], float(one.intercept_[0]), c)
            - 1
            for k, one in enumerate(loop(tol))
        ]
        note = f"largest of {part} concepts; least {min(pairs_of):.1e}"
        yield Row(f"{size}: objective over SVC's (tol {tol:g}) - 1", max(pairs_of), "", limit=limit, note=note)


def hard_rows(dim: int, part: int, concepts: int = CONCEPTS, each: int = EACH) -> Iterator[Row]:
    """Objectives where c is large, at the plane that is returned."""
    positive, negative = pairs(concepts, each, dim)
    x, y = np.concatenate([positive, negative], 1), np.r_[np.ones(each), -np.ones(each)]
    for c in (10.0, 100.0):
        found = directions.svm(directions.sets(positive, negative), c=c)
        ours = [hinge(x[k], y, found.weight[k].numpy(), float(found.bias[k]), c) for k in range(part)]
        loop = (SVC(C=c, kernel="linear", tol=1e-7).fit(rows, y) for rows in x[:part])
        over = [
            mine / hinge(x[k], y, one.coef_[0], float(one.intercept_[0]), c) - 1
            for k, (mine, one) in enumerate(zip(ours, loop, strict=True))
        ]
        note = f"largest of {part} concepts; least {min(over):.1e}; converged: {int(found.converged.sum())} of {concepts}"
        name = f"SVM {concepts} x {2 * each} x {dim}, c = {c:g}: objective over SVC's (tol 1e-07) - 1"
        yield Row(name, max(over), "", limit=1e-4, note=note)


def published(x: Floats, other: Floats, y: Floats, c: float, tol: float = 1e-3) -> Floats:
    """(C, 6) concept by concept: accuracy on its rows and on others; largest and least distance, mean above 0 and below."""
    found: list[tuple[float, ...]] = []
    for rows, held in zip(x, other, strict=True):
        one = SVC(C=c, kernel="linear", tol=tol).fit(rows, y)
        w, b = one.coef_, one.intercept_
        margin = ((rows @ w.T + b) / np.linalg.norm(w)).squeeze()
        means = margin[margin > 0].mean(), margin[margin < 0].mean()
        found.append((one.score(rows, y), one.score(held, y), margin.max(), margin.min(), *means))
    return np.array(found)


def batched(sets: tuple[Floats, Floats], held: tuple[Floats, Floats], c: float) -> Floats:
    """The same of all concepts at once."""
    found = directions.svm(directions.sets(*sets), c=c)
    w, b = found.weight.numpy()[:, :, None], found.bias.numpy()[:, None]
    yes, no, new_yes, new_no = ((part @ w)[..., 0] + b for part in (*sets, *held))
    margin = np.concatenate([yes, no], 1) / np.linalg.norm(w, axis=1)
    right, new = (((p > 0).mean(1) + (n <= 0).mean(1)) / 2 for p, n in ((yes, no), (new_yes, new_no)))
    above, below = (margin > 0).astype(margin.dtype), (margin < 0).astype(margin.dtype)
    means = ((margin * part).sum(1) / part.sum(1) for part in (above, below))
    return np.stack([right, new, margin.max(1), margin.min(1), *means], 1)


def cav_rows(dim: int, repeats: int, part: int, concepts: int = CONCEPTS, each: int = EACH, c: float = 0.1) -> Iterator[Row]:
    """Against the published routine: the same six figures for each concept."""
    sets, held = pairs(concepts, each, dim), pairs(concepts, each, dim, held=True)
    x, other = (np.concatenate(both, 1) for both in (sets, held))
    y = np.r_[np.ones(each), -np.ones(each)]

    def loop() -> Floats:
        return published(x[:part], other[:part], y, c)

    def ours() -> Floats:
        return batched(sets, held, c)

    size = f"CAVs {concepts} x {2 * each} x {dim}"
    incumbents: dict[str, tuple[Callable[[], object], float]] = {"published": (loop, concepts / part)}
    operations = concepts * 2 * each * dim * (2.0 * each + 1 + 4)
    note = "the roof counts half of each symmetric product"
    yield from against(size, ours, incumbents, repeats=repeats, operations=operations, limits={"published": 1 / 8}, note=note)
    exact, found = published(x[:part], other[:part], y, c, tol=1e-7), ours()[:part]
    apart = np.abs(found - exact)
    note = f"largest of {part} concepts"
    yield Row(f"{size}: accuracies against SVC's (tol 1e-07)", float(apart[:, :2].max()), "", limit=1 / (2 * each), note=note)
    far = float((apart[:, 2:].max(1) / np.abs(exact[:, 2:]).max(1)).max())
    yield Row(f"{size}: distances against SVC's (tol 1e-07)", far, "of the largest", limit=1e-3, note=note)


def logistic_rows(kind: str, repeats: int, part: int) -> Iterator[Row]:
    """Against a loop of scikit-learn's logistic regression, its defaults but for the cap on iterations."""
    x, labels = table(kind)

    def loop() -> list[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [LogisticRegression(max_iter=1000).fit(x, labels[:, k]) for k in range(part)]

    def ours() -> directions.Directions:
        return directions.logistic(directions.shared(x, labels))

    size = f"logistic {ROWS} x {DIM} x {LABELS}, {kind}"
    limits = {"scikit-learn": 1 / 12}
    incumbents: dict[str, tuple[Callable[[], object], float]] = {"scikit-learn": (loop, LABELS / part)}
    operations = 20 * 4.0 * ROWS * DIM * LABELS
    note = "operations: 20 steps of two products"
    yield from against(size, ours, incumbents, repeats=repeats, operations=operations, limits=limits, note=note)
    found = ours()
    worse = [
        logloss(x, labels[:, k], found.weight[k].numpy(), float(found.bias[k]))
        / logloss(x, labels[:, k], one.coef_[0], float(one.intercept_[0]))
        - 1
        for k, one in enumerate(loop())
    ]
    yield Row(f"{size}: objective over scikit-learn's - 1", max(worse), "", limit=0.0, note=f"largest of {part} concepts")


@case("directions", "concept directions against loops of scikit-learn, one thread")
def run(quick: bool) -> Iterator[Row]:
    """SVM sets at two widths, the shared table with two kinds of features."""
    for dim in (512,) if quick else (512, 2048):
        yield from svm_rows(dim, 3 if quick else 7, 10 if quick else CONCEPTS)
        yield from cav_rows(dim, 3 if quick else 7, 10 if quick else CONCEPTS)
    yield from hard_rows(512, 10 if quick else CONCEPTS)
    for kind in ("rectified",) if quick else ("rectified", "white"):
        yield from logistic_rows(kind, 1 if quick else 5, 2 if quick else 12)
