"""Recalibrating concepts on labelled rows, and pinning weights of a linear head while the rest is learnt again.

Platt 1999, Probabilistic outputs for support vector machines (the scale and shift, folded into the bottleneck's last layer).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from isthmus import losses
from isthmus.data.table import Splits, Table
from isthmus.errors import DataError, OptionError
from isthmus.heads.residual import ResidualHead
from isthmus.interventions import chain
from isthmus.interventions.handles import Names, beside, class_indices, columns_of, one_column, weights_of
from isthmus.interventions.record import What, edited, features_of, record
from isthmus.interventions.refit import Held
from isthmus.metrics import METRICS
from isthmus.model import ConceptModel, feedforward
from isthmus.train import seeded


def recalibrate(
    model: ConceptModel, rows: Table, concepts: Names | None = None, *, why: str, who: str | None = None,
    validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Scale and shift concepts' logits so that 80 % means 80 % on labelled ``rows`` (not those it was fitted on).

    All concepts, or those named. Needs a bottleneck that can be calibrated (``calibrate``: a linear last layer, as ``cbm``'s);
    what a correction writes moves with it, and no other concept changes. The entry says the concepts' ECE before and after, on
    ``validation`` rows with concept labels, else on ``rows`` themselves. Answers may change: the head reads the new values.
    """

    def change(new: ConceptModel) -> What:
        part = new.bottleneck
        if not hasattr(part, "calibrate"):
            raise OptionError(f"recalibrate: {type(part).__name__} has no layer that a scale could be folded into")
        c = rows.labels_for(new.space)
        if c is None:
            raise DataError("recalibrate: expected labels of the model's concepts, got a table without them; pass c=")
        chosen = columns_of(new.space, list(new.space.names) if concepts is None else concepts)
        z, was = features_of(new, rows), deepcopy(part.state_dict())
        batch = rows.replace(c=c, space=new.space, where=None, askable=None).batch(z)
        part.calibrate(z.to(new.device), batch)  # type: ignore[operator]
        kept = torch.tensor([k not in chosen for k in range(len(new.space))], device=new.device)
        scale, shift = _affine(was, part.state_dict(), z.to(new.device), part)
        with torch.no_grad():
            for name, value in part.state_dict().items():
                if name in ("low", "high"):  # a scale below 0 turns them over
                    ends = [was[end] * scale + shift for end in ("low", "high")]
                    value.copy_(torch.minimum(*ends) if name == "low" else torch.maximum(*ends))
                if value.ndim and len(value) == len(new.space):
                    value[kept] = was[name][kept]
        judged = rows if validation is None or validation.labels_for(new.space) is None else validation
        told = {name: _ece(each, judged) for name, each in (("before", model), ("after", new))}
        return {
            "concepts": [new.space.columns[k] for k in chosen], "rows": len(rows), "concept_ece": told,
            "judged_on": "validation" if judged is not rows else "the rows it was calibrated on",
        }  # fmt: skip

    return edited(model, "recalibrate", change, why=why, who=who, validation=validation)


@torch.no_grad()
def _affine(was: Mapping[str, Tensor], now: Mapping[str, Tensor], z: Tensor, part: Any) -> tuple[Tensor, Tensor]:
    """(K,) scale and shift by which each column's logits were moved."""
    after = part(z).logits
    held = {name: value.clone() for name, value in now.items()}
    part.load_state_dict(was)
    before = part(z).logits
    part.load_state_dict(held)
    spread = (before - before.mean(0)).square().sum(0)
    slope = ((before - before.mean(0)) * (after - after.mean(0))).sum(0) / spread.clamp(min=1e-12)
    scale = torch.where(spread > 1e-12, slope, torch.ones_like(slope))
    return scale, after.mean(0) - scale * before.mean(0)


@torch.no_grad()
def _ece(model: ConceptModel, rows: Table) -> float | None:
    """The concepts' calibration error on labelled rows; None where no column is a probability."""
    values = (
        model.bottleneck.read(model.answer(features_of(model, rows).to(model.device)).concepts.values).cpu().double().numpy()
    )
    c, discrete = rows.labels_for(model.space), ~model.space.continuous.numpy()
    if c is None or not discrete.any() or values[:, discrete].min() < 0 or values[:, discrete].max() > 1:
        return None
    return round(METRICS["concept_ece"](c.double().numpy()[:, discrete], values[:, discrete]), 6)


def pin(
    model: ConceptModel, weights: Mapping[tuple[Any, Any], float], data: Splits, *, lr: float = 1e-3, epochs: int = 100,
    batch_size: int = 256, patience: int = 10, seed: int = 0, why: str, who: str | None = None, validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Set weights of a linear head, ``{(class, concept): weight}``, and learn the rest again around them, on training rows.

    The pinned weights stay bit for bit; bottleneck and features stay. ``reweight`` sets them and learns nothing.
    """
    chain.line(why, "why")
    if not weights:
        raise OptionError("pin: expected {(class, concept): weight}, got none")
    if (data.task.kind, data.task.names) != (model.task.kind, model.task.names):
        raise DataError(f"pin: expected the task {list(model.task.names[:4])}, got {list(data.task.names[:4])}")
    new = deepcopy(model)
    w = weights_of(new, "pin")
    free, rows = torch.ones_like(w), list[dict[str, Any]]()
    for (label, concept), weight in weights.items():
        (y,), k = class_indices(new.task, [label]), one_column(new.space, concept, "pin")
        if not torch.isfinite(torch.tensor(float(weight))):
            raise OptionError(f"pin: expected a finite weight for {new.space.columns[k]!r}, got {weight!r}")
        row = {"class": new.task.names[y], "concept": new.space.columns[k], "from": float(w[y, k])}
        with torch.no_grad():
            w[y, k], free[y, k] = weight, 0
        rows.append(row | {"to": float(w[y, k])})
    part = "head.inner" if isinstance(new.head, ResidualHead) else "head"
    learn = Held(
        losses.task, (part,), lr=lr, epochs=epochs, batch_size=batch_size, patience=patience, name="pin", free=free,
        through="feedforward" if new.solver is feedforward else "solver",
    )  # fmt: skip
    with seeded(seed):
        learn(new, data.fold)
    what: What = {"weights": rows, "data": data.name, "lr": lr, "epochs": epochs, "seed": seed, **beside(new)}
    return record(model, new, "pin", what, why=why, who=who, validation=validation or data.validation)
