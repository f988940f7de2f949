"""ELUDE: a black box's decisions as a sparse labelled part plus a low-rank unlabelled rest, with the share each explains.

Ramaswamy, Kim, Meister, Fong, Russakovsky 2022, ELUDE: Generating Interpretable Explanations via a Decomposition into Labelled and
Unlabelled Features (arXiv 2206.07690). Our reconstruction from the abstract: the paper's formulas were not read, so what is
measured here says nothing against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import DataError, OptionError
from isthmus.metrics import METRICS, interval, resamples
from isthmus.model import ConceptModel
from isthmus.numerics import elastic_net, lowrank
from isthmus.train import CHUNK

CHOOSING = 0.25  # of the rows that are not held out: strength and rank are chosen on them
POINTS, LEAST = 25, 0.01  # of either path
RIDGE = 1e-3  # on the loadings of a rank, once its directions stand


@dataclass(frozen=True)
class Explanation:
    """Decisions as softmax(a @ weights.T + bias + ((f - center) / scale) @ directions.T @ loadings.T).

    ``weights`` (Y, K) on the attributes ``names``, sparse, and ``bias`` (Y,) for ``classes``, of strength ``l1`` (nats). ``chance``:
    the share of held-out decisions that are the commonest class. ``curve``: for each rank the ``share`` of held-out decisions
    reproduced, ``low`` to ``high`` its 95 % interval; rank 0 is the attributes alone (``alone``). ``rank`` is the one chosen:
    its ``directions`` (r, D), orthonormal on standardised features, ``loadings`` (Y, r), the strongest first, and
    ``top`` (r, T), for each the held-out rows (numbered as given) that lie farthest along it. ``held_out``: those rows.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    weights: Tensor
    bias: Tensor
    l1: float
    chance: float
    curve: tuple[dict[str, float], ...]
    rank: int
    directions: Tensor
    loadings: Tensor
    center: Tensor
    scale: Tensor
    top: Tensor
    held_out: Tensor

    @property
    def alone(self) -> float:
        """Share of held-out decisions that the attributes alone reproduce."""
        return self.curve[0]["share"]

    @property
    def share(self) -> float:
        """Share of held-out decisions that attributes and the chosen rank reproduce."""
        return next(row["share"] for row in self.curve if row["rank"] == self.rank)

    def reaches(self, share: float) -> int | None:
        """The smallest rank whose curve reaches a share (0 to 1), None where none does."""
        return next((int(row["rank"]) for row in self.curve if row["share"] >= share), None)

    def logits(self, attributes: Any, features: Any = None) -> Tensor:
        """(n, Y) of attributes (n, K), and the rest where ``features`` (n, D) are given."""
        found = torch.as_tensor(attributes).double() @ self.weights.T + self.bias
        if features is None:
            return found
        return found + (torch.as_tensor(features).double() - self.center) / self.scale @ self.directions.T @ self.loadings.T

    def words(self, most: int = 5) -> dict[str, dict[str, float]]:
        """For each class its attributes of largest weight, with the weight: at most ``most``, none that is 0."""
        found: dict[str, dict[str, float]] = {}
        for name, row in zip(self.classes, self.weights, strict=True):
            order = row.abs().argsort(dim=0, descending=True, stable=True)[:most].tolist()
            found[name] = {self.names[k]: float(row[k]) for k in order if float(row[k]) != 0}
        return found


def elude(
    decisions: Any, attributes: Any, features: Any, *, names: Sequence[str] | None = None, classes: Sequence[str] | None = None,
    l1: float | None = None, ranks: Sequence[int] | None = None, held_out: float = 0.3, top: int = 10, seed: int = 0,
) -> Explanation:  # fmt: skip
    """Explain what a model decides, not the truth: by attributes first, then by what they leave, as few directions as do.

    ``decisions``: class indices (n,), or a ``ConceptModel``, which then decides on ``features`` as it encodes them.
    ``attributes`` (n, K) are labels from 0 to 1 without NaN, ``features`` (n, D) the black box's last ones. First W and bias
    by cross-entropy + ``l1`` * |W|_1 (columns at deviation 1); None: the sparsest whose share on a quarter of the rows is
    within a standard error of the best. Then, W held, M by cross-entropy + mu * |M|_*, a path in mu: for each of ``ranks``
    (default: 0 to one less than the classes, at most 10) the span of the path's last M of no more than that rank,
    its loadings fitted once more. ``rank`` is the least within a standard error of the best on that quarter. Shares
    are of the ``held_out`` share of rows, drawn by ``seed``, which nothing was chosen on. ``top`` rows a direction.
    """
    y, a, f = _rows(decisions, attributes, features)
    count = len(decisions.task.names) if isinstance(decisions, ConceptModel) else int(y.max()) + 1
    given = decisions.task.names if classes is None and isinstance(decisions, ConceptModel) else classes
    labels = tuple(given) if given is not None else tuple(str(t) for t in range(count))
    columns = tuple(names) if names is not None else tuple(f"attribute {k}" for k in range(a.shape[1]))
    wanted = sorted({0, *(range(min(len(labels), 11)) if ranks is None else ranks)})
    _checked(y, a, labels, columns, wanted, held_out, l1)
    learn, choose, test = _parts(len(y), held_out, seed)

    weights, bias, strength = _labelled(a, y, learn, choose, len(labels), l1)
    base = a @ weights.T + bias
    center, scale = f[learn].mean(0), f[learn].std(0)
    scale = torch.where(scale > 1e-6 * (1 + center.abs()), scale, torch.inf)  # what does not vary says nothing
    x = (f - center) / scale
    spans = _spans(x[learn], y[learn], base[learn], wanted)
    hits = {r: ((base + x @ v.T @ u.T).argmax(1) == y) for r, (v, u) in spans.items()}
    rank = _least([(r, float(hit[choose].double().mean())) for r, hit in hits.items()], len(choose))
    directions, loadings = spans[rank]
    along = x[test] @ directions.T
    first = along.argsort(dim=0, descending=True)[:top].T
    return Explanation(
        labels, columns, weights, bias, strength, float((y[test] == y[learn].mode().values).double().mean()),
        tuple({"rank": r, **_share(hit[test])} for r, hit in hits.items()), rank, directions, loadings, center, scale,
        test[first], test,
    )  # fmt: skip


def _labelled(
    a: Tensor, y: Tensor, learn: Tensor, choose: Tensor, count: int, l1: float | None
) -> tuple[Tensor, Tensor, float]:
    """Sparse weights (Y, K), bias (Y,) and strength; chosen on rows ``choose`` where ``l1`` is None."""
    if l1 is not None:
        found = elastic_net.fit(a[learn], y[learn], lam=l1, l1_ratio=1.0, classes=count)
        return found.weights, found.bias, l1
    if not bool((a[learn].std(0) > 1e-12).any()):
        raise DataError("elude: expected attributes of which some vary, got constant ones")
    fits = elastic_net.path(a[learn], y[learn], points=POINTS, least=LEAST, l1_ratio=1.0, classes=count, tol=1e-3)
    scores = [
        float(((a[choose] @ each.weights.T + each.bias).argmax(1) == y[choose]).double().mean()) for each in fits
    ]
    best = fits[_least(list(enumerate(scores)), len(choose))]
    return best.weights, best.bias, best.lam


def _spans(x: Tensor, y: Tensor, base: Tensor, wanted: Sequence[int]) -> dict[int, tuple[Tensor, Tensor]]:
    """For each rank: directions (r, D) and loadings (Y, r), r at most the rank, from one path of the nuclear norm."""
    found: dict[int, tuple[Tensor, Tensor]] = {0: (x.new_zeros(0, x.shape[1]), x.new_zeros(base.shape[1], 0))}
    walked = lowrank.path(x, y, base, points=POINTS, least=LEAST, most=max(wanted)) if max(wanted) else ()
    for rank in wanted:
        low = [each for each in walked if 0 < each.rank <= rank]
        if not rank or not low:
            found[rank] = found[0]
            continue
        _, s, v = torch.linalg.svd(low[-1].weights, full_matrices=False)
        v = v[: int((s > 1e-10 * s[0]).sum())]
        u = lowrank.refit(x @ v.T, y, base, l2=RIDGE)
        # rotate so that directions stand apart, the strongest first
        p, s, q = torch.linalg.svd(u, full_matrices=False)
        found[rank] = (q @ v, p * s)
    return found


def _least(scores: Sequence[tuple[int, float]], rows: int) -> int:
    """The first whose score (a share of ``rows``) is within a standard error of the best."""
    best = max(score for _, score in scores)
    slack = (best * (1 - best) / rows) ** 0.5
    return next(at for at, score in scores if score >= best - slack)


def _share(hit: Tensor) -> dict[str, float]:
    rows = np.ones(len(hit)), hit.double().numpy()
    low, high = interval(METRICS["agreement"].weighted(*rows).under(resamples(len(hit))))
    return {"share": float(hit.double().mean()), "low": low, "high": high}


def _parts(n: int, held_out: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows to learn on, to choose on, held out."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    test = round(held_out * n)
    choose = round(CHOOSING * (n - test))
    if min(test, choose, n - test - choose) < 2:
        raise DataError(f"elude: expected rows to learn on, to choose on and to hold out, got {n}; give more rows")
    return order[test + choose :], order[test : test + choose], order[:test]


@torch.no_grad()
def _rows(decisions: Any, attributes: Any, features: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Decisions (n,), attributes (n, K) and features (n, D) in float64, on the CPU."""
    a, f = (torch.as_tensor(part).detach().cpu() for part in (attributes, features))
    if isinstance(decisions, ConceptModel):
        if decisions.task.kind != "classes":
            raise OptionError(f"elude: expected a model that decides classes, got {decisions.task.kind}")
        decisions = torch.cat([decisions.answer(z.to(decisions.device)).logits.argmax(1).cpu() for z in f.split(CHUNK)])
    y = torch.as_tensor(decisions).detach().cpu()
    if y.ndim != 1 or y.is_floating_point():
        raise DataError(f"elude: expected decisions as class indices (n,), got {y.dtype} of shape {tuple(y.shape)}; take argmax")
    f = f.flatten(1) if f.ndim > 2 else f
    if a.ndim != 2 or f.ndim != 2 or not len(y) == len(a) == len(f):
        shapes = [tuple(part.shape) for part in (y, a, f)]
        raise DataError(f"elude: expected decisions (n,), attributes (n, K) and features (n, D), got {shapes}")
    for name, part in (("attributes", a), ("features", f)):
        if not bool(part.double().isfinite().all()):
            raise DataError(f"elude: expected finite {name}, got NaN or infinity; leave out rows whose labels are unknown")
    return y.long(), a.double(), f.double()


def _checked(
    y: Tensor, a: Tensor, labels: tuple[str, ...], columns: tuple[str, ...], ranks: Sequence[int], held_out: float,
    l1: float | None,
) -> None:  # fmt: skip
    if len(labels) < 2 or int(y.min()) < 0 or int(y.max()) >= len(labels):
        raise DataError(f"elude: expected decisions 0 to {len(labels) - 1}, got {int(y.min())} to {int(y.max())}; name classes=")
    if len(columns) != a.shape[1]:
        raise DataError(f"elude: expected {a.shape[1]} names, one for each attribute, got {len(columns)}")
    if any(isinstance(r, bool) or not isinstance(r, int) or r < 0 for r in ranks):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"elude: expected ranks, whole numbers of at least 0, got {list(ranks)}")
    if not 0 < held_out < 1 or (l1 is not None and not l1 > 0):
        raise OptionError(f"elude: expected held_out between 0 and 1 and l1 above 0, got {held_out!r} and {l1!r}")
