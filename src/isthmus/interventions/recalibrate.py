"""Recalibrating concepts on labelled rows: 80 % means 80 %.

Platt 1999, Probabilistic outputs for support vector machines (the scale and shift, folded into the bottleneck's last layer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.bottlenecks.linear import smoothed
from isthmus.data.table import Table
from isthmus.errors import DataError, OptionError
from isthmus.interventions.handles import Names, columns_of
from isthmus.interventions.record import What, edited, features_of
from isthmus.metrics import METRICS, interval, resamples
from isthmus.model import ConceptModel, Concepts
from isthmus.space import ConceptSpace
from isthmus.train import CHUNK

ROWS = 10  # labelled rows of a concept below which nothing can be said of its probabilities


def recalibrate(
    model: ConceptModel, rows: Table, concepts: Names | None = None, *, why: str, who: str | None = None,
    validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Scale and shift concepts' logits so that 80 % means 80 % on labelled ``rows`` (not those it was fitted on).

    All concepts with probabilities, or those named (a state stands for its whole concept). A binary one gets a scale and a
    shift (Platt), a categorical one a temperature for its states and a shift for each. Scales are above 0, so that none is
    turned over (scores that run against the labels become flat); labels are smoothed as Platt's; fewer than 10 labelled
    rows of a concept are refused. Needs a bottleneck whose
    logits are linear in a last layer of one row a column (``cbm``, ``intcem``, ``knobo``); what a correction of a logit
    writes moves with it, and no other concept changes. The entry says scales, shifts and the concepts' ECE before and after,
    with an interval of the difference, on ``validation`` rows with concept labels, else on ``rows`` themselves. Answers may
    change: the head reads the new values.
    """

    def change(new: ConceptModel) -> What:
        chosen, z = _discrete(new.space, concepts), features_of(new, rows, "recalibrate: rows")
        c = _varied(new.space, rows, chosen)
        logits, layer = _logits(new, z), _layer(new)
        scale, shift = fitted(logits, c, new.space, chosen)
        with torch.no_grad():
            for part in layer:
                part.mul_(scale.to(part).reshape(-1, *([1] * (part.ndim - 1))))
            layer[1].add_(shift.to(layer[1]))
            for name in ("low", "high"):  # what a correction of a logit writes
                ends = getattr(new.bottleneck, name, None)
                if isinstance(ends, Tensor) and ends.shape == (len(new.space),):
                    ends.mul_(scale.to(ends)).add_(shift.to(ends))
        now = _logits(new, z)
        if float((now - (logits * scale + shift)).abs().max()) > 1e-3 * (1 + float(now.abs().max())):
            raise _refused(new)
        judged = rows if validation is None or validation.labels_for(new.space) is None else validation
        told = _ece(model, new, judged)
        columns = {part: new.space.slices[part] for part in chosen}
        return {
            "concepts": [name for part in columns.values() for name in new.space.columns[part]], "rows": len(rows),
            "scale": {new.space.names[m]: float(scale[part.start]) for m, part in columns.items()},
            "shift": {new.space.columns[k]: float(shift[k]) for part in columns.values() for k in range(part.start, part.stop)},
            "concept_ece": told, "judged_on": "validation" if judged is not rows else "the rows it was calibrated on",
        }  # fmt: skip

    return edited(model, "recalibrate", change, why=why, who=who, validation=validation)


def fitted(logits: Tensor, c: Tensor, space: ConceptSpace, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Scale (K,) > 0 and shift (K,), float64, of logits (n, K): least loss of the ``chosen`` concepts; 1 and 0 for the others.

    c (n, K): labels, NaN = unknown.
    """
    known = ~c.isnan()
    soft = smoothed(c.nan_to_num().double(), space, known)
    picked = torch.zeros(space.count, dtype=torch.bool)
    picked[list(chosen)] = True
    columns = space.widen(picked)
    log_scale = torch.zeros(space.count, dtype=torch.float64, requires_grad=True)
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
        optimizer.step(loss)  # type: ignore[arg-type]
    one, none = torch.ones_like(shift.detach()), torch.zeros_like(shift.detach())
    return torch.where(columns, space.widen(log_scale.detach()).exp(), one), torch.where(columns, shift.detach(), none)


def _discrete(space: ConceptSpace, concepts: Names | None) -> list[int]:
    """Indices of the concepts to calibrate; numbers have no probabilities."""
    if concepts is None:
        chosen = [m for m, each in enumerate(space.concepts) if each.kind != "continuous"]
    else:
        chosen = sorted({int(space.owner_of[k]) for k in columns_of(space, concepts)})
    numbers = [space.names[m] for m in chosen if space.concepts[m].kind == "continuous"]
    if numbers or not chosen:
        told = f"the number {numbers[0]!r}" if numbers else "none"
        raise OptionError(f"recalibrate: expected binary or categorical concepts, which have probabilities, got {told}")
    return chosen


def _varied(space: ConceptSpace, rows: Table, chosen: Sequence[int]) -> Tensor:
    """(n, K) labels on the CPU, unknown but for the chosen concepts, each of which varies."""
    c = rows.labels_for(space)
    if c is None:
        raise DataError("recalibrate: expected labels of the model's concepts, got a table without them; pass c=")
    found = torch.full_like(c, torch.nan)
    for m in chosen:
        part = c[:, space.slices[m]]
        some = part[~part.isnan().any(1)]
        if len(some) < ROWS:
            raise DataError(
                f"recalibrate: expected at least {ROWS} rows with a label of {space.names[m]!r}, got {len(some)}; "
                "give more, or leave it out"
            )
        if bool((some == some[0]).all()):
            raise DataError(f"recalibrate: {space.names[m]!r} never varies on these rows; give others, or leave it out")
        found[:, space.slices[m]] = part
    return found.cpu()


@torch.no_grad()
def _logits(model: ConceptModel, z: Tensor) -> Tensor:
    """(n, K) concept logits, float64, on the CPU."""
    parts = [model.answer(part.to(model.device)).concepts.logits for part in z.split(CHUNK)]
    if any(part is None for part in parts):
        raise _refused(model)
    return torch.cat([part for part in parts if part is not None]).cpu().double()


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
    return OptionError(f"recalibrate: {kind} has no layer of one row a column that a scale of its logits could be folded into")


@torch.no_grad()
def _ece(old: ConceptModel, new: ConceptModel, rows: Table) -> dict[str, Any]:
    """The concepts' calibration error (0..1) on labelled rows ``before`` and ``after``, with a 95 % ``interval`` of after less
    before (paired bootstrap over rows, whole groups where there are any); None where a column is no probability.
    """  # fmt: skip
    c, discrete = rows.labels_for(old.space), ~old.space.continuous.numpy()
    if c is None or not discrete.any():
        return {"before": None, "after": None, "interval": None}
    truth = c.double().numpy()[:, discrete]
    forms = [METRICS["concept_ece"].weighted(truth, each) if _shares(each) else None
             for each in (_values(model, rows)[:, discrete] for model in (old, new))]  # fmt: skip
    ones = np.ones((1, len(rows)))
    values = [None if form is None else round(float(form.under(ones)[0]), 6) for form in forms]
    told: dict[str, Any] = {"before": values[0], "after": values[1], "interval": None}
    if forms[0] is not None and forms[1] is not None:
        weights = resamples(
            len(rows), METRICS["concept_ece"].replicates, groups=None if rows.group is None else list(rows.group)
        )
        low, high = interval(forms[1].under(weights) - forms[0].under(weights))
        told["interval"] = [round(low, 6), round(high, 6)] if np.isfinite(low) else None
    return told


def _shares(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1)


def _values(model: ConceptModel, rows: Table) -> np.ndarray:
    """(n, K) what the concepts say, as a person reads it."""
    z = features_of(model, rows).to(model.device)
    return model.bottleneck.read(model.answer(z).concepts.values).cpu().double().numpy()
