"""Recalibrating concepts: scale and shift of their logits, read off labelled rows and written into the bottleneck's weights.

Platt 1999, Probabilistic Outputs for Support Vector Machines; Guo et al. 2017, On Calibration of Modern Neural Networks, section 4
(temperature, for a block of states).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from isthmus.bottlenecks.linear import smoothed
from isthmus.data.table import Table
from isthmus.errors import DataError, OptionError
from isthmus.interventions.handles import Names, columns_of
from isthmus.interventions.record import What, edited, features_of
from isthmus.metrics import METRICS
from isthmus.model import ConceptModel, Concepts
from isthmus.space import ConceptSpace
from isthmus.train import CHUNK


def recalibrate(
    model: ConceptModel, rows: Table, concepts: Names | None = None, *, why: str, who: str | None = None,
    validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Make probabilities of concepts mean what they say: least loss on labelled ``rows``, held out from training.

    A binary concept's logits are scaled (by a number above 0, so that its order stays) and shifted (Platt); a categorical one's
    share one scale (a temperature) and each state has a shift. ``concepts``: names, all but numbers by default. Labels are
    smoothed as Platt's, (n + 1) / (n + 2), so that rows that are told apart wholly stay finite. The result is written into
    the bottleneck's last layer, so a correction writes what it wrote before. The entry has scale, shift and concept ECE on the
    rows, and on ``validation``'s where they are labelled: pass rows that ``rows`` has not.

    The head reads the new values, so answers move as well: the effect says how much. ``OptionError`` where logits are not
    linear in a layer of one row for each column (scores without probabilities, orders, shared scorers, joint normals).
    """
    space = model.space
    chosen = [m for m, each in enumerate(space.concepts) if each.kind != "continuous"]
    if concepts is not None:
        chosen = sorted({int(space.owner_of[k]) for k in columns_of(space, concepts)})
    numbers = [space.names[m] for m in chosen if space.concepts[m].kind == "continuous"]
    if numbers or not chosen:
        told = f"the number {numbers[0]!r}" if numbers else "none"
        raise OptionError(f"recalibrate: expected binary or categorical concepts, which have probabilities, got {told}")

    def change(new: ConceptModel) -> What:
        z, c = features_of(new, rows, "rows"), _labels(new, rows, chosen)
        logits, values = _read(new, z)
        layer = _layer(new)
        scale, shift = fitted(logits, c, space, chosen)
        before = layer[0].clone(), layer[1].clone()
        for part, was in zip(layer, before, strict=True):
            part.copy_(was * scale.to(was).reshape(-1, *([1] * (was.ndim - 1))))
        layer[1].add_(shift.to(layer[1]))
        now, after = _read(new, z)
        if not torch.allclose(now, logits * scale + shift, atol=1e-3 * (1 + float(now.abs().max())), rtol=0):
            raise _refused(new)
        names = [(space.names[m], space.slices[m]) for m in chosen]
        each = {
            name: {"scale": float(scale[part][0]), "shift": dict(zip(space.columns[part], shift[part].tolist(), strict=True))}
            for name, part in names
        }
        what: What = {"concepts": each, "rows": len(rows), "concept_ece": {"before": _ece(c, values), "after": _ece(c, after)}}
        if validation is not None and validation.labels_for(space) is not None:
            held, v = _labels(model, validation, chosen), features_of(model, validation)
            pair = (_ece(held, _read(each_model, v)[1]) for each_model in (model, new))
            what["concept_ece_held_out"] = dict(zip(("before", "after"), pair, strict=True))
        return what

    return edited(model, "recalibrate", change, why=why, who=who, validation=validation)


def fitted(logits: Tensor, c: Tensor, space: ConceptSpace, chosen: list[int]) -> tuple[Tensor, Tensor]:
    """Scale and shift (K,), float64, of the logits (n, K) of the ``chosen`` concepts with the least loss; 1 and 0 for others.

    c (n, K): labels, NaN = unknown.
    """
    known = ~c.isnan()
    soft = smoothed(c.nan_to_num().double(), space, known)
    picked = torch.zeros(space.count, dtype=torch.bool)
    picked[chosen] = True
    columns = space.widen(picked)
    log_scale = torch.zeros(space.count, dtype=torch.float64, requires_grad=True)  # positive, so the order of rows stays
    shift = torch.zeros(len(space), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_scale, shift], max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        made = logits * space.widen(log_scale).exp() + shift
        value = Concepts(made, made).nll(soft, space, known=known & columns) * space.count
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    scale = torch.where(columns, space.widen(log_scale.detach()).exp(), 1.0)
    return scale, torch.where(columns, shift.detach(), 0.0)


def _labels(model: ConceptModel, rows: Table, chosen: list[int]) -> Tensor:
    """(n, K) labels on the CPU, unknown but for the chosen concepts, each of which has two kinds of rows."""
    space, c = model.space, rows.labels_for(model.space)
    if c is None:
        raise DataError("recalibrate: expected rows with labels of the model's concepts, got a table without; pass c=")
    found = torch.full_like(c, torch.nan)
    at = space.columns_of(chosen)
    found[:, at] = c[:, at]
    for m in chosen:
        part = c[:, space.slices[m]]
        part = part[~part.isnan().any(1)]
        if not len(part) or bool((part == part[0]).all()):
            raise DataError(
                f"recalibrate: {space.names[m]!r} is unknown or never varies on these rows; give more rows, or leave it out"
            )
    return found.cpu()


@torch.no_grad()
def _read(model: ConceptModel, z: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, K) and probabilities (n, K), float64, on the CPU."""
    parts = [model.answer(part.to(model.device)).concepts for part in z.split(CHUNK)]
    if any(part.logits is None for part in parts):
        raise _refused(model)
    logits = torch.cat([cast("Tensor", part.logits) for part in parts]).cpu().double()
    return logits, torch.cat([model.bottleneck.read(part.values) for part in parts]).cpu().double()


def _layer(model: ConceptModel) -> tuple[Tensor, Tensor]:
    """Weight (K, ...) and bias (K,) of the layer that makes the logits: the bottleneck's ``score``, or its own."""
    part: Any = getattr(model.bottleneck, "score", None)
    part = part if isinstance(part, torch.nn.Module) else model.bottleneck
    weight, bias = getattr(part, "weight", None), getattr(part, "bias", None)
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor) or not len(weight) == len(bias) == len(model.space):
        raise _refused(model)
    return weight, bias


def _refused(model: ConceptModel) -> OptionError:
    kind = type(model.bottleneck).__name__
    return OptionError(
        f"recalibrate: expected concept logits that are linear in a last layer of one row for each column, got {kind}; "
        "fit cbm or another method with such a bottleneck"
    )


def _ece(c: Tensor, values: Tensor) -> float | None:
    """Concept ECE over the columns that have labels; None where values are no probabilities."""
    at = (~c.isnan()).any(0)
    if bool(((values[:, at] < 0) | (values[:, at] > 1)).any()):
        return None
    return round(float(np.asarray(METRICS["concept_ece"](c[:, at].numpy(), values[:, at].numpy()))), 6)
