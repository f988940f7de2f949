"""Pinning weights of a linear head: they stay where a person put them, and the rest is fitted around them, to the optimum.

The problem is convex, so the answer does not depend on where it starts; a person's rule costs what it must and no more.
Softmax does not change when a concept's weights move together for all classes: of one class's weight only its distance from
the others means something, so that a pinned weight counts from the mean over classes of its concept. Nor do the states of a
concept, which sum to 1, change the answer when their weights move together: a state's counts from the mean over states too.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus import losses
from isthmus.data.table import Splits, Table
from isthmus.errors import IsthmusError, OptionError
from isthmus.given import Batch, given
from isthmus.interventions import holds
from isthmus.interventions.adapt import shown
from isthmus.interventions.checks import table_of
from isthmus.interventions.handles import beside, bias_of, class_indices, one_column, splits, weight_of, weights_of
from isthmus.interventions.record import What, edited, effect, features_of
from isthmus.model import ConceptModel, Concepts, Output
from isthmus.space import Task
from isthmus.train import CHUNK


def pin(
    model: ConceptModel, weights: Mapping[tuple[Any, Any], float], data: Splits, *, l2: float = 1e-3, why: str,
    who: str | None = None, validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Set weights of a linear head, ``{(class, concept): weight}``, and fit its other weights and bias anew around them.

    Of a task of classes a weight counts from the mean over classes of its concept, whose weights therefore sum to 0: pinned to
    0 a concept speaks neither for nor against the class, next to the others' average. (Classes that it moves apart still take
    from, or leave to, this one; pin every class to 0 to shut it out. Where all classes of a concept are pinned, their weights
    are as given and only their distances mean something.) Of labels or a number a weight is what the logit or number gains.
    A state's counts from the mean over its concept's states, for that class, which then sum to 0 as well.
    Least mean loss of the task on ``data``'s training rows + ``l2`` / 2 * the sum of squares of the free weights. The pinned
    ones stay bit for bit; bottleneck, features and a side channel beside the head stay. A state is ``concept=state``;
    what a weight acts on is told at ``edit.reweight``, which sets weights and fits nothing. ``l2`` > 0 keeps weights finite
    where rows are told apart wholly. What earlier edits settled is held (``isthmus.interventions.holds``): earlier pins, pruned
    and masked concepts, a forgotten class, which cannot be pinned; the entry lists it under ``held``.

    The entry has the objective with the new weights before and after the fit, and on ``validation`` rows (``data``'s by
    default): ``effects``, what setting the concept from absent to present (a number: from its mean to one deviation above)
    adds to the class's probability (label's probability; the number, in its unit), mean of rows, before, after a fit with
    nothing pinned (``refit``), and after; ``refit``, what that fit does to the score, and ``pinning``, what the pins do to it
    beyond the fit. The entry's own effect is of both together.
    """
    splits(model, data, "pin")
    if not isinstance(weights, Mapping) or not weights:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"pin: expected {{(class, concept): weight}}, got {weights or 'none'!r}")
    for key, weight in weights.items():
        if not isinstance(key, tuple) or len(key) != 2:  # pyright: ignore[reportUnnecessaryIsInstance, reportUnnecessaryComparison]
            raise OptionError(f"pin: expected keys (class, concept), got {key!r}")
        weight_of(weight, next(iter(model.head.parameters()), torch.zeros(0)), f"pin: {key[1]!r}")
    if isinstance(l2, bool) or not isinstance(l2, Real) or not (isfinite(l2) and l2 > 0):
        raise OptionError(f"pin: expected l2, a number above 0, got {l2!r}")

    rows = table_of(data.validation if validation is None else validation, "pin: validation", "labelled rows")

    def change(new: ConceptModel) -> What:
        w, plain, tied, kept = weights_of(new, "pin"), deepcopy(new), new.task.kind == "classes", holds.held(new)
        base = w - w[kept.alive(len(w))].mean(0) if tied else w.clone()
        places = _places(new, weights, kept)
        middle = lambda y, k: base[y, holds.block(new.space, k)].mean() if holds.state(new.space, k) else 0.0  # noqa: E731
        was = {(y, k): float(base[y, k] - middle(y, k)) for y, k in places}
        loose = holds.loose(new, kept.free(new), kept.pinned(new), kept.alive(len(w)))
        train, kept = holds.taught(new, data.train, kept), _without(kept, places)
        for y, k in places:
            w[y, k] = places[y, k]
        objective = _around(new, train, kept, places, l2, loose)
        _around(plain, train, kept, {}, l2, loose)
        moves = [[float(moved(each, rows, y, k).mean()) for each in (model, plain, new)] for y, k in places]
        named = [{"class": new.task.names[y], "concept": new.space.columns[k]} for y, k in places]
        return {
            "weights": [
                name | {"from": was[y, k], "to": float(w[y, k])} for name, (y, k) in zip(named, places, strict=True)
            ],
            "from_mean": tied, "data": data.name, "rows": len(train), "l2": l2, "objective": objective,
            "effects": [
                name | {"before": before, "refit": between, "after": after}
                for name, (before, between, after) in zip(named, moves, strict=True)
            ],
            "refit": effect(model, plain, rows), "pinning": effect(plain, new, rows), **beside(new), **kept.told(new),
        }  # fmt: skip

    return edited(model, "pin", change, why=why, who=who, validation=rows)


def _places(model: ConceptModel, weights: Mapping[tuple[Any, Any], float], kept: holds.Holds) -> dict[holds.Place, float]:
    """(class, column) -> weight; refuses one named twice, and a forgotten class or shut out concept brought back."""
    found = dict[holds.Place, float]()
    for (label, concept), weight in weights.items():
        (y,), k = class_indices(model.task, [label]), one_column(model.space, concept, "pin")
        place, column = f"{model.space.columns[k]!r} for {model.task.names[y]!r}", model.space.columns[k]
        if (y, k) in found:
            raise OptionError(f"pin: expected each weight once, got {place} twice; name it once, by name or by index")
        if y in kept.forgotten:
            raise OptionError(
                f"pin: {model.task.names[y]!r} was forgotten, so no weight of it is set; pin the model before that"
            )
        if k in kept.shut and weight != 0:
            raise OptionError(
                f"pin: {column!r} was shut out (0 for every class), and a pin of {weight:g} would bring it back; pin the model "
                "before that, or set the weight by edit.reweight"
            )
        found[y, k] = float(weight)
    return found


def _without(kept: holds.Holds, places: Mapping[holds.Place, float]) -> holds.Holds:
    """What is held beside the weights that are pinned now; their concepts are fitted again, unless they are shut out."""
    freed = {k for _, k in places} - kept.shut
    pins = {place: weight for place, weight in kept.pins.items() if place not in places}
    return replace(kept, pins=pins, still=kept.still - freed)


def _around(
    model: ConceptModel, rows: Table, kept: holds.Holds, places: Mapping[holds.Place, float], l2: float, loose: set[int]
) -> dict[str, float]:
    """Fit the head in place around what is held and the weights at ``places``."""
    free, pinned = kept.free(model), kept.pinned(model)
    for place in places:
        free[place] = False
        pinned[place] = place[1] not in kept.still
    return refit(model, rows, free, l2, pinned=pinned, forgotten=tuple(kept.forgotten), loose=loose)


@torch.no_grad()
def refit(
    model: ConceptModel, rows: Table, free: Tensor, l2: float, *, pinned: Tensor | None = None,
    forgotten: Sequence[int] = (), loose: Container[int] = (),
) -> dict[str, float]:  # fmt: skip
    """Fit a linear head on ``rows``, in place, around the weights where ``free`` (Y, K) is False; the objective before, after.

    Of a task of classes the weights of a concept with a ``pinned`` (Y, K) one, by default any that is not free, sum to 0;
    those of a concept's states, for a class. The biases of ``forgotten`` classes stay, and these sums leave them out; those
    over classes leave out ``loose`` concepts.
    """
    w, bias = weights_of(model, "pin"), bias_of(model, "pin")
    seen, start = shown(model, w, rows, "pin: training rows"), (w.detach().cpu().double(), bias.detach().cpu().double())
    u = seen.shown.double()
    rest = seen.logits.double() - u @ start[0].T - start[1]
    alive = [y for y in range(len(w)) if y not in forgotten]
    sums = holds.ties(model, free, ~free if pinned is None else pinned, alive, loose)
    found = fitted(u, rest, rows.batch(u), model.task, free, start, l2, ties=sums, still=forgotten)
    w.copy_(torch.where(free.to(w.device), found[0].to(w), w))
    bias.copy_(found[1])
    return {"before": found[2], "after": found[3]}


@torch.no_grad()
def moved(model: ConceptModel, rows: Table, y: int, k: int) -> np.ndarray:
    """(n,) what column k of the concepts adds to class y's probability when it comes; the mean is CaCE (Goyal et al. 2019).

    From absent (0) to present (1); a number from its mean to one deviation above. -1..1; of a task of a number, in its unit.
    """
    z, space, name = features_of(model, rows), model.space, model.space.columns[k]
    concept, said = space.concepts[int(space.owner_of[k])], list[Tensor]()
    for end in (concept.center + concept.scale, concept.center) if concept.kind == "continuous" else (1, 0):
        known = given(space, {name: end}).to(model.device)
        logits = torch.cat([model.answer(part.to(model.device), known).logits for part in z.split(CHUNK)])
        said.append(model.task.probabilities(logits)[:, y].double())
    return (said[0] - said[1]).cpu().numpy()


def fitted(
    u: Tensor, rest: Tensor, rows: Batch, task: Task, free: Tensor, start: tuple[Tensor, Tensor], l2: float, *,
    ties: Sequence[Tensor] = (), still: Sequence[int] = (),
) -> tuple[Tensor, Tensor, float, float]:  # fmt: skip
    """Weights (Y, K) and bias (Y,) of least objective, those where ``free`` (Y, K) is False as in ``start``; before, after.

    ``ties``: sets of places in the flat (Y, K) array, some free, whose weights sum to 0. ``still``: classes whose bias stays.
    u (n, K) is what the head is shown, ``rest`` (n, Y) what else is in the logits; all float64. ``IsthmusError`` where the
    slope has not gone.
    """
    w, b = (part.clone().requires_grad_(True) for part in start)
    y = rows.y if task.kind == "classes" else rows.y.double()
    known = Batch(u, None, y, rows.space, None, None if rows.weight is None else rows.weight.double())
    optimizer = torch.optim.LBFGS(
        [w, b], max_iter=2000, history_size=20, tolerance_grad=1e-9, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )
    tied, moves = holds.Tied(free, start[0], ties), torch.ones(len(b), dtype=torch.bool)
    moves[list(still)] = False
    if tied.contradicted:
        raise OptionError(
            "pin: these weights, and those held since earlier edits, contradict each other: a concept's states and classes "
            "sum to 0; pin fewer"
        )

    def objective() -> Tensor:
        optimizer.zero_grad()
        each = tied(w)
        logits = u @ each.T + torch.where(moves, b, start[1]) + rest
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
    return tied(w).detach(), torch.where(moves, b, start[1]).detach(), before, after
