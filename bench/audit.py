"""The audit's dear numbers against how they are published, at equal result, one thread.

OIS (concept-quality, concept-based-xai): a small network for each pair of column and concept, and again from the labels: an
MLP of 32 ReLU, Adam, 25 epochs, batches of 16, four fifths of the rows. NIS: one MLP of 20 and 20 on all columns, then two
predictions for each concept and each of 20 widths of niche. CTL and ICL (xai_concept_leakage): an estimate by neighbours for
each concept and each pair, on trees, as scikit-learn's own functions do it. Integrated gradients of a linear head over 50
steps, by captum; ours is its closed form. The values are those of a CBM: a monotone function of each concept, noise, and some
of the task. The incumbents are written from their descriptions with scikit-learn; OIS and ICL run on a part of the pairs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from bench.cases import Row, case
from bench.roof import against
from isthmus import metrics
from isthmus.heads.linear import LinearHead
from isthmus.metrics.concept import Kinds
from isthmus.metrics.purity import purity
from isthmus.model import Concepts
from isthmus.numerics.information import information, variable
from isthmus.space import ConceptSpace, Task

Floats = NDArray[Any]
MLP: Any = MLPClassifier  # its stub knows no batches of a number
CONCEPTS, ROWS, CLASSES, PAIRS, NEAR = 112, 2000, 10, 12, 3


def strip(rows: int, concepts: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Labels c (n, K), values v (n, K) in 0..1 that hold them and some of the task, classes y (n,)."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, CLASSES, rows)
    rate = draw.random((CLASSES, concepts)) * 0.8 + 0.1
    c = (draw.random((rows, concepts)) < rate[y]).astype(float)
    score = 2.5 * (2 * c - 1) + draw.normal(size=c.shape) + draw.normal(size=(CLASSES, concepts))[y] * 0.4
    return c, 1 / (1 + np.exp(-score)), y


def probe(x: Floats, t: Floats, cut: int) -> float:
    """AUC of the published network on the last fifth of the rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = MLP((32,), max_iter=25, batch_size=16, random_state=0).fit(x[:cut, None], t[:cut])
    return float(roc_auc_score(t[cut:], net.predict_proba(x[cut:, None])[:, 1]))


def published_ois(c: Floats, v: Floats, pairs: list[tuple[int, int]]) -> Floats:
    """(pairs, 2) AUC from the column, and from the label."""
    cut = len(c) * 4 // 5
    return np.array([[probe(v[:, i], c[:, j], cut), 1.0 if i == j else probe(c[:, i], c[:, j], cut)] for i, j in pairs])


def published_nis(c: Floats, v: Floats) -> float:
    """One MLP, its inputs inside the niche set to 0, for each concept and width; mean AUC over widths."""
    cut = len(c) * 4 // 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = MLP((20, 20), random_state=1, max_iter=1000, batch_size=512).fit(v[:cut], c[:cut])
    corr = np.abs(np.corrcoef(v[:cut].T, c[:cut].T)[: v.shape[1], v.shape[1] :])
    found: list[float] = []
    for beta in np.arange(0, 1, 0.05):
        niche = corr > beta
        said: list[Floats] = []
        for j in range(c.shape[1]):
            inside, outside = (np.where(keep[:, j], v[cut:], 0) for keep in (niche, ~niche))
            net.predict_proba(inside)  # their ratio's other half
            said.append(net.predict_proba(outside)[:, j])
        found.append(float(np.mean([roc_auc_score(c[cut:, j], s) for j, s in enumerate(said)])))
    return float(np.mean(found))


def published_ctl(y: Floats, v: Floats) -> Floats:
    """(K,) information of each value and the task, by trees."""
    from sklearn.feature_selection._mutual_info import _compute_mi_cd

    return np.array([_compute_mi_cd(column, y, NEAR) for column in v.T])


def published_icl(v: Floats, pairs: list[tuple[int, int]]) -> Floats:
    """(pairs,) information of two values, by trees."""
    from sklearn.feature_selection._mutual_info import _compute_mi_cc

    return np.array([_compute_mi_cc(v[:, i], v[:, j], NEAR) for i, j in pairs])


def ours_icl(v: Floats, pairs: list[tuple[int, int]]) -> Floats:
    """The same, by our estimator."""
    said = [variable(column, counted=False) for column in v.T]
    return np.array([information(said[i], said[j], k=NEAR).mean() for i, j in pairs])


@case("audit", "scores of an audit against their published way, one thread")
def run(quick: bool) -> Iterator[Row]:
    """OIS, NIS, CTL, ICL, integrated gradients."""
    concepts, rows, repeats = (20, 600, 2) if quick else (CONCEPTS, ROWS, 3)
    c, v, y = strip(rows, concepts)
    draw = np.random.default_rng(1)
    pairs = [(int(i), int(j)) for i, j in draw.integers(0, concepts, (PAIRS, 2))]
    size, share = f"{rows} rows, {concepts} concepts", concepts**2 / PAIRS
    theirs = published_ois(c, v, pairs)
    found, oracle = purity(c, v)
    yield from against(
        f"OIS, {size}", partial(metrics.ois, c, v), {"published": (partial(published_ois, c, v, pairs), share)},
        repeats=1 if quick else 2, operations=float(concepts) ** 2 * rows, limits={"published": 0.01},
        note=f"published: {PAIRS} of {concepts**2} pairs timed",
    )  # fmt: skip
    ours = np.array([[found[i, j], oracle[i, j]] for i, j in pairs])
    flat = np.maximum(theirs, 1 - theirs)
    yield Row(f"OIS, {size}: AUC against the published probe's", float(np.abs(ours - flat).mean()), "mean difference",
              limit=0.04, beside={"largest": float(np.abs(ours - flat).max())}, note="theirs: a fifth of rows")  # fmt: skip
    few = min(concepts, 30)
    yield from against(
        f"NIS, {rows} rows, {few} concepts", partial(metrics.nis, c[:, :few], v[:, :few]),
        {"published": (partial(published_nis, c[:, :few], v[:, :few]), 1.0)}, repeats=1 if quick else 2,
        operations=20.0 * few**2 * rows, limits={"published": 0.1},
    )  # fmt: skip
    apart = abs(metrics.nis(c[:, :few], v[:, :few]) - published_nis(c[:, :few], v[:, :few]))
    yield Row(f"NIS, {rows} rows, {few} concepts: against the published", apart, "AUC", limit=0.05)
    kinds = Kinds(tuple(range(concepts)), ())
    yield from against(
        f"CTL, {size}", partial(metrics.ctl, y, c, v, kinds), {"trees": (partial(published_ctl, y, v), 1.0)}, repeats=repeats,
        operations=float(concepts) * rows * np.log2(rows), limits={"trees": 1.0}, note="ours: labels, too",
    )  # fmt: skip
    task = variable(y, counted=True)
    mine = np.array([information(variable(column, counted=False), task, k=NEAR).mean() for column in v.T])
    yield Row(f"CTL, {size}: information against the trees'", float(np.abs(np.maximum(mine, 0) - published_ctl(y, v)).max()),
              "nats", limit=1e-3)  # fmt: skip
    some = [(int(i), int(j)) for i, j in draw.integers(0, concepts, (40 if quick else 200, 2)) if i != j]
    yield from against(
        f"ICL's information, {rows} rows, {len(some)} pairs", partial(ours_icl, v, some),
        {"trees": (partial(published_icl, v, some), 1.0)}, repeats=repeats, operations=len(some) * rows * np.log2(rows),
        limits={"trees": 1.0},
    )  # fmt: skip
    gap = np.abs(np.maximum(ours_icl(v, some), 0) - published_icl(v, some)).max()
    yield Row(f"ICL's information, {rows} rows, {len(some)} pairs: against the trees'", float(gap), "nats", limit=1e-3)
    yield from gradients(rows, concepts, repeats)


def gradients(rows: int, concepts: int, repeats: int) -> Iterator[Row]:
    """Integrated gradients of a linear head, all classes: 50 steps against W (c - c0)."""
    from captum.attr import IntegratedGradients

    torch.manual_seed(0)
    head = LinearHead(ConceptSpace.binary(f"c{k}" for k in range(concepts)), Task.classes(f"y{y}" for y in range(CLASSES)))
    head.requires_grad_(False)
    c, zero = torch.rand(rows, concepts), torch.zeros(1, concepts)

    def closed() -> torch.Tensor:
        return head.contributions(Concepts(c)) - head.contributions(Concepts(zero))

    def stepped() -> torch.Tensor:
        found = IntegratedGradients(lambda x: head(Concepts(x), x))
        return torch.stack([found.attribute(c, target=y, n_steps=50) for y in range(CLASSES)], 1)

    size = f"integrated gradients, {rows} rows, {concepts} concepts, {CLASSES} classes"
    yield from against(
        size, closed, {"captum, 50 steps": (stepped, 1.0)}, repeats=repeats, operations=2.0 * rows * concepts * CLASSES,
        limits={"captum, 50 steps": 0.02},
    )  # fmt: skip
    yield Row(f"{size}: against captum's", float((closed() - stepped()).abs().max()), "largest difference", limit=1e-5)
