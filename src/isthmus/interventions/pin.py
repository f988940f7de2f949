"""Pinning weights of a linear head: they stay where a person put them, and the rest is fitted around them, to the optimum.

The shield of a person's rule: a convex problem, so the answer does not depend on where it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from isthmus import losses
from isthmus.data.table import Splits
from isthmus.errors import DataError, IsthmusError, OptionError
from isthmus.given import Batch
from isthmus.interventions.handles import beside, class_indices, linear_of, one_column
from isthmus.interventions.record import What, edited, features_of
from isthmus.interventions.strip import strip
from isthmus.data.table import Table
from isthmus.model import ConceptModel, Concepts, Output
from isthmus.space import ConceptSpace, Task


def pin(
    model: ConceptModel, weights: Mapping[tuple[Any, Any], float], data: Splits, *, l2: float = 1e-4, why: str,
    who: str | None = None, validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Set weights of the head, ``{(class, concept): weight}``, and fit its other weights and bias anew with these held.

    Minimises the task's mean loss on ``data``'s training rows + ``l2`` / 2 * the sum of squares of the free weights, over
    the concepts as the model reads them; the bottleneck stays, and a side channel beside the head too. A state is
    ``concept=state``; a weight acts on what the head is shown (see ``reweight``). ``l2`` > 0 (ours) keeps weights finite
    where classes are told apart wholly. The entry has the objective before and after. Needs a linear head with a bias.
    """
    if not isinstance(data, Splits):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"pin: expected Splits, got {type(data).__name__}; isthmus.data.split cuts a Table")
    if not weights:
        raise OptionError("pin: expected {(class, concept): weight}, got none")
    if not (isfinite(l2) and l2 > 0):
        raise OptionError(f"pin: expected l2, a number above 0, got {l2!r}")

    def change(new: ConceptModel) -> What:
        layer = linear_of(new, "pin")
        free, rows = torch.ones(layer.weight.shape, dtype=torch.bool), []
        start = layer.weight.detach().cpu().double()
        for (label, concept), weight in weights.items():
            (y,), k = class_indices(new.task, [label]), one_column(new.space, concept, "pin")
            if not isfinite(weight):
                raise OptionError(f"pin: expected a finite weight for {new.space.columns[k]!r}, got {weight!r}")
            row = {"class": new.task.names[y], "concept": new.space.columns[k], "from": float(start[y, k])}
            layer.weight[y, k] = weight
            free[y, k] = False
            rows.append(row | {"to": float(layer.weight[y, k])})
        seen = strip(new, features_of(new, data.train, "train"), "pin")
        batch = data.train.batch(seen.u)
        bias = layer.bias.detach().cpu().double()
        found = refitted(seen.u, seen.rest - bias, batch, new.task, new.space, free, (seen.weights, bias), l2)
        layer.weight.copy_(found[0])
        layer.bias.copy_(found[1])
        told: What = {"weights": rows, "l2": l2, "rows": len(data.train), "objective": {"before": found[2], "after": found[3]}}
        return told | beside(new)

    return edited(model, "pin", change, why=why, who=who, validation=validation or data.validation)


def refitted(
    u: Tensor, beside: Tensor, batch: Batch, task: Task, space: ConceptSpace, free: Tensor, start: tuple[Tensor, Tensor], l2: float
) -> tuple[Tensor, Tensor, float, float]:  # fmt: skip
    """Weights (Y, K), bias (Y,), and the objective before and after; those where ``free`` (Y, K) is False stay.

    u (n, K) what the head is shown, ``beside`` (n, Y) what else is in the logits; float64.
    """
    w, b = (part.clone().requires_grad_(True) for part in start)
    held = start[0]
    optimizer = torch.optim.LBFGS(
        [w, b], max_iter=2000, history_size=20, tolerance_grad=1e-9, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )
    y = batch.y if task.kind == "classes" else batch.y.double()
    rows = Batch(u, None, y, space, None, None if batch.weight is None else batch.weight.double())

    def objective() -> Tensor:
        each = torch.where(free, w, held)
        logits = u @ each.T + b + beside
        return losses.task(Output(Concepts(u), logits, u), rows, task)["task"] + l2 / 2 * (each * free).square().sum()

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward()
        return value

    with torch.enable_grad():
        before = float(objective().detach())
        optimizer.step(closure)
        after = float(closure().detach())
    slope = max(float(part.grad.abs().max()) for part in (w, b) if part.grad is not None)
    if not isfinite(after) or slope > 1e-4:
        raise IsthmusError(f"pin: the fit stopped at a slope of {slope:g}, not at the optimum; raise l2 ({l2:g})")
    return torch.where(free, w.detach(), held), b.detach(), before, after
