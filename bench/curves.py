"""Correction curves at CUB's size: 5,794 rows, 112 concepts, 200 classes, a linear head, single concepts, float32.

The incumbent is the published way (Shin et al. 2023), written from its description: for each step, a loop over images that
collects what to replace, true labels from a list, the whole head anew, top-1; for ECTP and EUDTP, for each concept, such a
loop, the head twice and SciPy's entropies. Beside it stands the same repaired: no loop over images and no list. They run on a
part of the rows, and their time is scaled up. Ours runs on all rows: scores, order and curve.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import entropy
from torch import nn

from bench.cases import Row, case
from bench.roof import against
from isthmus.numerics import _outcomes, _walk, curves
from isthmus.numerics._jit import jitted

Floats = NDArray[Any]
ROWS, CONCEPTS, CLASSES, NOISE = 5794, 112, 200, 6.0
CHEAP = ("random", "ucp", "cctp")  # nothing but the curve costs


@dataclass(frozen=True)
class World:
    """p, c (n, k) chances and truth, y (n,), weight (Y, k) and bias (Y,)."""

    p: Floats
    c: Floats
    y: Floats
    weight: Floats
    bias: Floats

    def first(self, rows: int) -> World:
        """The first rows."""
        return World(self.p[:rows], self.c[:rows], self.y[:rows], self.weight, self.bias)


def world(scale: float = 1.0) -> World:
    """Classes with a pattern of concepts each, true rows that keep to it, and a noisy prediction: accuracy from .2 to 1."""
    draw = np.random.default_rng(0)
    pattern = draw.random((CLASSES, CONCEPTS)) < 0.3
    y = draw.integers(0, CLASSES, ROWS)
    c = pattern[y].astype(float)
    p = 1 / (1 + np.exp(-(2 * (2 * c - 1) + NOISE * draw.normal(size=c.shape))))
    weight = scale * (2.0 * pattern - 1 + 0.1 * draw.normal(size=pattern.shape))
    bias = -weight.sum(1) / 2
    p, c, weight, bias = (a.astype(np.float32) for a in (p, c, weight, bias))
    return World(p, c, y, weight, bias)


def head_of(w: World) -> nn.Linear:
    """The head as a module."""
    head = nn.Linear(CONCEPTS, CLASSES)
    head.weight.data, head.bias.data = torch.from_numpy(w.weight), torch.from_numpy(w.bias)
    return head


def published_scores(w: World, criterion: str, head: nn.Linear, repaired: bool = False) -> Floats:
    """(n, k), larger first: concept by concept, a loop over images, the head evaluated for either value."""
    if criterion == "ucp":
        return -np.abs(w.p - 0.5) if repaired else np.stack([-np.abs(row - 0.5) for row in w.p])
    if criterion == "cctp":
        weight = np.abs(w.weight).sum(0)
        return weight * w.p if repaired else np.stack([weight * row for row in w.p])
    flat = w.p.ravel()
    with torch.no_grad():
        old = softmax(head(torch.from_numpy(w.p)).numpy(), axis=1)
    scores = np.zeros(w.p.shape)
    for j in range(CONCEPTS):
        if repaired:
            index, p = np.arange(len(w.p)) * CONCEPTS + j, w.p[:, j]
        else:
            index, p = looped(flat, j, len(w.p))
        parts: list[Any] = []
        for value in (0.0, 1.0):
            new = flat.copy()
            new[index] = value
            with torch.no_grad():
                q = softmax(head(torch.from_numpy(new.reshape(-1, CONCEPTS))).numpy(), axis=1)
            parts.append(entropy(q, old, axis=1) if criterion == "ectp" else entropy(q, axis=1))
        mean = parts[0] * (1 - p) + parts[1] * p
        scores[:, j] = mean if criterion == "ectp" else entropy(old, axis=1) - mean
    return scores


def looped(flat: Floats, j: int, images: int) -> tuple[Any, Floats]:
    """What to replace for concept j, and its chances, image by image."""
    index: list[int] = []
    chance: list[float] = []
    for image in range(images):
        index.extend(np.array([j]) + image * CONCEPTS)
        chance.append(flat[image * CONCEPTS + j])
    return index, np.array(chance)


def published_curve(w: World, order: Floats, head: nn.Linear, repaired: bool = False) -> Floats:
    """(k + 1,) accuracy: for each step a loop over images, then the whole head."""
    new, truth = w.p.ravel().copy(), w.c.ravel() if repaired else list(w.c.ravel())
    found: list[float] = []
    for t in range(CONCEPTS + 1):
        if t:
            index: Any = []
            if repaired:
                index = order[:, t - 1] + np.arange(len(w.p)) * CONCEPTS
            else:
                for image in range(len(w.p)):
                    index.extend(np.array([order[image][t - 1]]) + image * CONCEPTS)
            new[index] = np.array(truth)[index]
        with torch.no_grad():
            _, best = head(torch.from_numpy(new.reshape(-1, CONCEPTS))).topk(1, 1, True, True)
        found.append(float((best.numpy().squeeze() == w.y).mean()))
    return np.array(found)


def published(w: World, criterion: str, head: nn.Linear, repaired: bool = False) -> Floats:
    """The curve from scratch; 'random' draws an order for each image."""
    if criterion == "random":
        draw = np.random.default_rng(0)
        order = np.stack([draw.permutation(CONCEPTS) for _ in w.p])
    else:
        order = np.argsort(-published_scores(w, criterion, head, repaired), axis=1, kind="stable")
    return published_curve(w, order, head, repaired)


def uncertain(w: World) -> torch.Tensor:
    """(n, k) UCP's scores: the nearer a chance to one half, the earlier."""
    return -(torch.from_numpy(w.p) - 0.5).abs()


def ours(w: World, criterion: str) -> torch.Tensor:
    """(k + 1,) accuracy."""
    if criterion == "random":
        order = torch.rand(w.p.shape, generator=torch.Generator().manual_seed(0)).argsort(1)
    elif criterion == "ucp":
        order = curves.order(uncertain(w))
    else:
        order = curves.order(curves.scores(w.p, w.weight, criterion, bias=w.bias))
    return curves.corrected(w.p, w.c, w.weight, w.y, order, bias=w.bias).double().mean(0)


def without(w: World, criterion: str) -> torch.Tensor:
    """Ours as it runs without numba."""
    kept = _outcomes.jitted, _walk.jitted
    _outcomes.jitted = _walk.jitted = lambda function, **options: None  # type: ignore[assignment]
    try:
        return ours(w, criterion)
    finally:
        _outcomes.jitted, _walk.jitted = kept


KNOWN = {"random": 4.5, "ucp": 4.5, "cctp": 5.1, "eudtp": 19.9, "ectp": 24.9}  # seconds of the authors' functions, as they are


def timed(w: World, criterion: str, repeats: int, part: int) -> Iterator[Row]:
    """The time rows of one criterion; products of order n k Y are what cannot be left out."""
    head, few = head_of(w), w.first(part)
    incumbent = {
        name: (lambda repaired=repaired: published(few, criterion, head, repaired), len(w.p) / part)
        for name, repaired in (("published", False), ("repaired", True))
    }
    passes, known = 1 if criterion in CHEAP else 7, {"published": KNOWN[criterion]}
    operations = 2.0 * passes * ROWS * CONCEPTS * CLASSES
    if jitted(_walk._compiled, loose=True) is not None:
        limit = {"published": 1 / 50 if passes == 1 else 1 / 25}
        run = lambda: ours(w, criterion)  # noqa: E731
        yield from against(
            f"{criterion}, with numba", run, incumbent, repeats=repeats, operations=operations, limits=limit, known=known
        )
    limit, run = {"published": 1 / 12}, lambda: without(w, criterion)
    yield from against(f"{criterion}, without numba", run, incumbent, repeats=repeats, operations=operations, limits=limit)


def apart(w: World, rows: int) -> Iterator[Row]:
    """Curves on equal orders, scores, and weights of 1000."""
    few = w.first(rows)
    head, worst = head_of(w), 0.0
    for criterion in ("ucp", *curves.CRITERIA):
        scores = published_scores(few, criterion, head)
        order = np.argsort(-scores, axis=1, kind="stable")
        found = curves.corrected(few.p, few.c, few.weight, few.y, order, bias=few.bias).double().mean(0).numpy()
        worst = max(worst, float(np.abs(found - published_curve(few, order, head)).max()))
        mine = uncertain(few) if criterion == "ucp" else curves.scores(few.p, few.weight, criterion, bias=few.bias)
        far = np.abs(mine.numpy() - scores)
        yield Row(f"{criterion}: score against published", float(far.max()), "nats, or weight", note=f"{rows} rows")
    yield Row("curves against published, equal orders", worst, "of accuracy", limit=1e-5, note=f"{rows} rows, four orders")
    coarse = World(few.p.round(1), few.c, few.y, few.weight, few.bias)
    apart_ = curves.order(uncertain(coarse)).numpy() != np.argsort(
        -published_scores(coarse, "ucp", head), axis=1, kind="stable"
    )
    yield Row("ties: positions that differ from a stable sort", float(apart_.sum()), "positions", limit=0, note="chances to .1")
    large = world(1000.0).first(200)
    exact = World(*(a.astype(float) if a.dtype == np.float32 else a for a in (getattr(large, f.name) for f in fields(World))))
    far = 0.0
    for criterion in ("ectp", "eudtp"):
        found = curves.scores(large.p, large.weight, criterion, bias=large.bias).numpy()
        with np.errstate(all="ignore"):
            expected = direct(exact, criterion)
        far = max(far, float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max()))
    yield Row("scores at |W| of 1000 against float64", far, "relative", limit=1e-5, note="200 rows; NaN or infinite fails")


def direct(w: World, criterion: str) -> Floats:
    """Scores in float64 from log-softmax, concept by concept."""
    weight, scores = torch.from_numpy(w.weight), torch.zeros(w.p.shape, dtype=torch.float64)
    p = torch.from_numpy(w.p)
    old = (p @ weight.T + torch.from_numpy(w.bias)).log_softmax(1)
    for j in range(CONCEPTS):
        for value, chance in ((0.0, 1 - p[:, j]), (1.0, p[:, j])):
            new = p.clone()
            new[:, j] = value
            log_q = (new @ weight.T + torch.from_numpy(w.bias)).log_softmax(1)
            part = log_q - old if criterion == "ectp" else log_q
            scores[:, j] += chance * (log_q.exp() * part).sum(1)
        if criterion == "eudtp":
            scores[:, j] -= (old.exp() * old).sum(1)
    return scores.numpy()


@case("curves", "correction curves against the published way, one thread")
def run(quick: bool) -> Iterator[Row]:
    """Random and four criteria with and without numba, what they agree on, and the greedy that scores anew."""
    w = world()
    for criterion in ("random", "ucp", "ectp") if quick else (*CHEAP, "ectp", "eudtp"):
        yield from timed(w, criterion, 1 if quick else 5, 50 if quick else 1000)
    yield from apart(w, 50 if quick else 2000)
    few, steps = w.first(100 if quick else 1000), 10 if quick else CONCEPTS
    once = lambda: ours(few, "ectp")  # noqa: E731
    again = lambda: curves.greedy(few.p, few.c, few.weight, "ectp", steps, bias=few.bias)  # noqa: E731
    note = f"{len(few.p)} rows, {steps} steps, each scored anew"
    yield from against(
        "greedy", again, {"scored once": (once, 1.0)}, repeats=1, operations=14.0 * steps * few.p.size * CLASSES, note=note
    )
