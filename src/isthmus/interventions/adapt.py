"""Test-time repair from a few images for each class: confounders are masked, under-activated concepts amplified, no training.

He et al. 2025, Training-free Test-time Improvement for Explainable Medical Image Classification, MICCAI (arXiv 2506.18070). Our
reconstruction from the abstract: the paper's formulas were not read, so what is measured here says nothing against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite

import torch
from torch import Tensor

from isthmus.data.table import Table
from isthmus.errors import DataError, OptionError
from isthmus.interventions.handles import beside
from isthmus.interventions.record import What, edited, features_of
from isthmus.interventions.strip import Strip, absent, fold, strip
from isthmus.model import ConceptModel


@dataclass(frozen=True)
class Anchors:
    """What the source says of each concept, as the head is shown it: ``mean`` (K,), ``of`` (Y, K) by class, ``absent`` (K,)."""

    mean: Tensor
    of: Tensor
    absent: Tensor


@dataclass(frozen=True)
class Repair:
    """Concepts to mask and to amplify, (R, K) bool, and by how much: one repair for all rows (R = 1) or one for each."""

    masked: Tensor
    amplified: Tensor
    gamma: float

    def scale(self) -> Tensor:
        """(R, K) what is shown is multiplied by this,"""
        return torch.where(self.masked, 0.0, torch.where(self.amplified, self.gamma, 1.0)).double()

    def shift(self, source: Anchors) -> Tensor:
        """(R, K) and this is added."""
        raised = torch.where(self.amplified, (1 - self.gamma) * source.absent, 0.0)
        return torch.where(self.masked, source.mean, raised)


def adapt(
    model: ConceptModel, support: Table, *, source: Table, most_masked: int = 5, most_amplified: int = 5,
    gamma: Sequence[float] = (1.25, 1.5, 2.0), tolerance: float = 0.01, why: str, who: str | None = None,
    validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Fit a model to a new domain by a few labelled rows of it, ``support``, without training and without concept labels.

    Rows that are decided wrong accuse the concepts that spoke for the wrong class against the right one by more than the source's
    mean would have; each row accuses the concepts that tell its class and are lower than they are in that class in the
    ``source`` (its validation rows). A masked concept is shown at its source mean; of an amplified one, what lies above
    "absent" is multiplied by ``gamma`` (each at least 1). Up to ``most_masked`` and ``most_amplified`` columns are
    tried; leaving out one support row at a time chooses the numbers and gamma, ties going to the smallest change; what
    would lower accuracy on the source by more than ``tolerance`` (a share) is not taken. Where nothing does better,
    the weights stay and the entry says so.

    The change is written into the linear head: a masked concept then moves no answer, corrected or not, and a
    correction of an amplified one counts gamma times. Defaults are ours. Needs classes and a linear head with a bias.
    """
    _checked(model, most_masked, most_amplified, gamma, tolerance)

    def change(new: ConceptModel) -> What:
        rows, base = strip(new, features_of(new, support, "support"), "adapt"), strip(new, features_of(new, source, "source"), "adapt")
        assert support.y is not None and source.y is not None
        anchors = _anchors(new, base, source.y.cpu())
        points = product(range(most_masked + 1), range(most_amplified + 1), {float(g) for g in gamma})
        grid = sorted({(m, a, g if a else 1.0) for m, a, g in points}, key=_size)
        found, what = choose(rows, support.y.cpu(), base, source.y.cpu(), anchors, grid, tolerance)
        fold(new, found.scale()[0], found.shift(anchors)[0], "adapt")
        names = [[new.space.columns[k] for k in picked[0].nonzero()[:, 0]] for picked in (found.masked, found.amplified)]
        told: What = {"masked": names[0], "amplified": names[1], "gamma": found.gamma if names[1] else 1.0, **what}
        if not names[0] and not names[1]:
            told["kept"] = "no change did better on the support rows; the weights are as they were"
        return {**told, "tolerance": tolerance, "tried": len(grid), **beside(new)}

    return edited(model, "adapt", change, why=why, who=who, validation=validation)


def accused(rows: Strip, y: Tensor, source: Anchors) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row with class y (n,): how much each concept confounds and is missed, (n, K) each, and whether it was wrong.

    confound = relu((W[said] - W[y]) * (u - source mean)) on wrong rows, else 0; missed = relu(W[y] - mean of the other
    classes' W) * relu(source mean of class y - u).
    """
    w, said = rows.weights, rows.logits().argmax(1)
    wrong = said != y
    confound = ((w[said] - w[y]) * (rows.u - source.mean)).relu() * wrong[:, None]
    others = (w.sum(0) - w) / (len(w) - 1)
    missed = (w - others).relu()[y] * (source.of[y] - rows.u).relu()
    return confound, missed, wrong


def choose(
    rows: Strip, y: Tensor, base: Strip, base_y: Tensor, source: Anchors, grid: Sequence[tuple[int, int, float]],
    tolerance: float,
) -> tuple[Repair, What]:  # fmt: skip
    """The repair of ``grid`` (masked, amplified, gamma; smallest first) that is best by leaving one row out, and its scores."""
    confound, missed, wrong = accused(rows, y, source)
    left = [_others(confound, wrong), _others(missed, torch.ones_like(wrong))]  # (n, K): each row's say taken out
    whole = [confound.sum(0, keepdim=True) / wrong.sum().clamp(min=1), missed.mean(0, keepdim=True)]
    before, was = _right(rows.logits(), y), _right(base.logits(), base_y)
    best, held, found = before, was, _repair(whole, (0, 0, 1.0))
    for point in grid:
        own = _repair(left, point)
        score = _right(rows.logits(rows.u * own.scale() + own.shift(source)), y)
        if score <= best + 1e-12:
            continue
        one = _repair(whole, point)
        kept = _right(base.logits(base.u * one.scale() + one.shift(source)), base_y)
        if kept >= was - tolerance - 1e-12:
            best, held, found = score, kept, one
    return found, {
        "support": {"rows": len(y), "before": round(before, 6), "after": round(best, 6)},
        "source": {"rows": len(base_y), "before": round(was, 6), "after": round(held, 6)},
    }


def _repair(scores: Sequence[Tensor], point: tuple[int, int, float]) -> Repair:
    """The highest accused of each row of scores (R, K), where above 0; what is masked is not amplified."""
    confound, missed = scores
    masked = _top(confound, point[0])
    return Repair(masked, _top(missed.masked_fill(masked, 0.0), point[1]), point[2])


def _top(score: Tensor, count: int) -> Tensor:
    """(R, K) True at the ``count`` highest scores of each row that lie above 0."""
    picked = torch.zeros_like(score, dtype=torch.bool)
    at = score.argsort(dim=1, descending=True, stable=True)[:, :count]
    return picked.scatter_(1, at, True) & (score > 0)


def _others(scores: Tensor, counted: Tensor) -> Tensor:
    """(n, K) mean of the scores of all counted rows but the row itself; 0 where there are none."""
    count = (counted.sum() - counted.double()).clamp(min=1)
    return ((scores.sum(0) - scores) / count[:, None]).clamp(min=0)


def _right(logits: Tensor, y: Tensor) -> float:
    return float((logits.argmax(1) == y).double().mean())


def _size(point: tuple[int, int, float]) -> tuple[float, ...]:
    masked, amplified, gamma = point
    return (masked + amplified, gamma, masked)


def _anchors(model: ConceptModel, base: Strip, y: Tensor) -> Anchors:
    """Means over all source rows and by class; a class without rows takes that over all."""
    hot = torch.nn.functional.one_hot(y, model.task.width).double()
    mean, count = base.u.mean(0), hot.sum(0)[:, None]
    return Anchors(mean, torch.where(count > 0, hot.T @ base.u / count.clamp(min=1), mean), absent(model, "adapt"))


def _checked(model: ConceptModel, masked: int, amplified: int, gamma: Sequence[float], tolerance: float) -> None:
    if model.task.kind != "classes":
        raise OptionError(f"adapt: expected a model that decides classes, got {model.task.kind}")
    for name, count in (("most_masked", masked), ("most_amplified", amplified)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OptionError(f"adapt: expected {name}, a whole number of at least 0, got {count!r}")
    if not gamma or not all(isfinite(g) and g >= 1 for g in gamma):
        raise OptionError(f"adapt: expected gamma, one or more numbers of at least 1, got {gamma!r}")
    if not 0 <= tolerance <= 1:
        raise DataError(f"adapt: expected tolerance, a share from 0 to 1, got {tolerance!r}")
