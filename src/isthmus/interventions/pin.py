"""Pinning weights of a linear head: they stay where a person put them, and the rest is fitted around them, to the optimum.

The problem is convex, so the answer does not depend on where it starts; a person's rule costs what it must and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from isthmus import losses
from isthmus.data.table import Splits, Table
from isthmus.errors import IsthmusError, OptionError
from isthmus.given import Batch
from isthmus.interventions.adapt import shown
from isthmus.interventions.handles import beside, bias_of, class_indices, one_column, splits, weights_of
from isthmus.interventions.record import What, edited
from isthmus.model import ConceptModel, Concepts, Output
from isthmus.space import Task


def pin(
    model: ConceptModel, weights: Mapping[tuple[Any, Any], float], data: Splits, *, l2: float = 1e-3, why: str,
    who: str | None = None, validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Set weights of a linear head, ``{(class, concept): weight}``, and fit its other weights and bias anew around them.

    Least mean loss of the task on ``data``'s training rows + ``l2`` / 2 * the sum of squares of the free weights. The pinned
    ones stay bit for bit; bottleneck, features and a side channel beside the head stay. A state is ``concept=state``;
    what a weight acts on is told at ``edit.reweight``, which sets weights and fits nothing. ``l2`` > 0 keeps weights finite
    where rows are told apart wholly. The entry has the objective with the new weights before and after the fit.
    """
    splits(model, data, "pin")
    if not isinstance(weights, Mapping) or not weights:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"pin: expected {{(class, concept): weight}}, got {weights or 'none'!r}")
    for key, weight in weights.items():
        if not isinstance(key, tuple) or len(key) != 2:  # pyright: ignore[reportUnnecessaryIsInstance, reportUnnecessaryComparison]
            raise OptionError(f"pin: expected keys (class, concept), got {key!r}")
        if isinstance(weight, bool) or not isinstance(weight, Real) or not isfinite(weight):
            raise OptionError(f"pin: expected a finite weight for {key[1]!r}, got {weight!r}")
    if isinstance(l2, bool) or not isinstance(l2, Real) or not (isfinite(l2) and l2 > 0):
        raise OptionError(f"pin: expected l2, a number above 0, got {l2!r}")

    def change(new: ConceptModel) -> What:
        w, bias = weights_of(new, "pin"), bias_of(new, "pin")
        free, told = torch.ones(w.shape, dtype=torch.bool), list[dict[str, Any]]()
        for (label, concept), weight in weights.items():
            (y,), k = class_indices(new.task, [label]), one_column(new.space, concept, "pin")
            row = {"class": new.task.names[y], "concept": new.space.columns[k], "from": float(w[y, k])}
            w[y, k], free[y, k] = weight, False
            told.append(row | {"to": float(w[y, k])})
        seen = shown(new, w, data.train)
        start = w.detach().cpu().double(), bias.detach().cpu().double()
        u, logits = seen.shown.double(), seen.logits.double()
        found = fitted(u, logits - u @ start[0].T - start[1], data.train.batch(u), new.task, free, start, l2)
        w.copy_(torch.where(free.to(w.device), found[0].to(w), w))
        bias.copy_(found[1])
        objective = {"before": found[2], "after": found[3]}
        return {"weights": told, "data": data.name, "rows": len(u), "l2": l2, "objective": objective, **beside(new)}

    return edited(model, "pin", change, why=why, who=who, validation=validation or data.validation)


def fitted(
    u: Tensor, rest: Tensor, rows: Batch, task: Task, free: Tensor, start: tuple[Tensor, Tensor], l2: float
) -> tuple[Tensor, Tensor, float, float]:  # fmt: skip
    """Weights (Y, K) and bias (Y,) of least objective, those where ``free`` (Y, K) is False as in ``start``; before, after.

    u (n, K) is what the head is shown, ``rest`` (n, Y) what else is in the logits; all float64. ``IsthmusError`` where the
    slope has not gone.
    """
    w, b = (part.clone().requires_grad_(True) for part in start)
    y = rows.y if task.kind == "classes" else rows.y.double()
    known = Batch(u, None, y, rows.space, None, None if rows.weight is None else rows.weight.double())
    optimizer = torch.optim.LBFGS(
        [w, b], max_iter=2000, history_size=20, tolerance_grad=1e-9, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        each = torch.where(free, w, start[0])
        logits = u @ each.T + b + rest
        value = losses.task(Output(Concepts(u), logits, u), known, task)["task"] + l2 / 2 * (each * free).square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        before = float(objective().detach())
        optimizer.step(objective)  # type: ignore[arg-type]
        after = float(objective().detach())
    slope = max(float(part.grad.abs().max()) for part in (w, b) if part.grad is not None)
    if not isfinite(after) or slope > 1e-4:
        raise IsthmusError(f"pin: the fit stopped at a slope of {slope:g}, short of the optimum; raise l2 ({l2:g})")
    return torch.where(free, w.detach(), start[0]), b.detach(), before, after
