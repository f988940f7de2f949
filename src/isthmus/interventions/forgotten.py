"""How well a class was forgotten: accuracy, membership inference, what a probe still finds, distance to a retrained model.

The scores are those of machine unlearning (arXiv 2405.15662 and what it compares with): see ``isthmus.metrics.forgetting``.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from isthmus.data.table import Splits, Table
from isthmus.errors import DataError, OptionError
from isthmus.interventions.handles import class_indices
from isthmus.interventions.record import answers, features_of
from isthmus.metrics import METRICS, Metric, interval, resamples
from isthmus.metrics.core import Array
from isthmus.model import ConceptModel
from isthmus.numerics import directions
from isthmus.train import CHUNK

Score = dict[str, float | None]


def forgotten(
    model: ConceptModel, data: Splits, cls: str | int, *, retrained: ConceptModel | None = None,
    original: ConceptModel | None = None, retrain_seconds: float | None = None, penalty: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Scores of a model that should not know class ``cls`` any more, on ``data``'s test rows, with 95 % intervals.

    ``forget_accuracy`` and ``retain_accuracy``: test rows of the class, and of the others. ``membership``: AUROC of the loss
    between the class's training rows and its test rows; .5 is wanted. ``probe_features`` and ``probe_concepts``: AUROC on
    test rows of a linear probe (ridge, ``penalty``, fitted on training rows) for the class. With ``retrained``, a model
    fitted without the class, or ``original``, the model before: ``agreement``, ``divergence`` (KL, nats, from the other's
    probabilities) and ``f1_gap``, each on test rows of the other classes ('retain') and on all. ``seconds``: what
    forgetting took, by the model's history; ``speed_up``: ``retrain_seconds`` over it. A score is
    {value, low, high}; None where it is not defined.
    """
    if not isinstance(data, Splits):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"forgotten: expected Splits, got {type(data).__name__}; isthmus.data.split cuts a Table")
    if model.task.kind != "classes":
        raise OptionError(f"forgotten: expected a model that decides classes, got {model.task.kind}")
    (label,) = class_indices(model.task, [cls])
    train, test = _Said(model, data.train, "train"), _Said(model, data.test, "test")
    mine, held = train.y == label, test.y == label
    if not mine.any() or not held.any() or held.all():
        raise DataError(f"forgotten: expected rows of {model.task.names[label]!r} in train and in test, and others in test")
    found: dict[str, Any] = {"class": model.task.names[label], "rows": {"forget": int(held.sum()), "retain": int((~held).sum())}}
    for name, rows in (("forget_accuracy", held), ("retain_accuracy", ~held)):
        found[name] = _score(METRICS["accuracy"], test.y[rows], test.answer[rows])
    loss, member = np.r_[train.loss[mine], test.loss[held]], np.r_[np.ones(mine.sum()), np.zeros(held.sum())]
    found["membership"] = _score(METRICS["membership"], loss, member)
    for name in ("features", "concepts"):
        scores = _probed(getattr(train, name), mine, getattr(test, name), penalty)
        found[f"probe_{name}"] = None if scores is None else _score(METRICS["probe"], scores, held)
    for name, other in (("retrained", retrained), ("original", original)):
        if other is not None:
            theirs = _Said(other, data.test, "test")
            found[name] = {part: _apart(test, theirs, at) for part, at in (("retain", ~held), ("all", held | ~held))}
    seconds = next((row["what"]["seconds"] for row in reversed(model.history) if row.get("edit") == "forget"), None)
    found["seconds"] = seconds
    found["speed_up"] = retrain_seconds / max(seconds, 1e-3) if seconds is not None and retrain_seconds is not None else None
    return found


class _Said:
    """What a model says of rows: ``y``, ``answer`` (n,), ``p`` (n, Y), ``loss`` (n,) nats, ``features``, ``concepts``."""

    @torch.no_grad()
    def __init__(self, model: ConceptModel, table: Table, name: Literal["train", "test"]) -> None:
        z = features_of(model, table, name)
        logits = torch.cat([model.answer(part.to(model.device)).logits.cpu() for part in z.split(CHUNK)]).double()
        self.y = cast("Tensor", table.y).cpu().numpy()
        self.answer, self.p = logits.argmax(1).numpy(), logits.softmax(1).numpy()
        self.loss = -logits.log_softmax(1).numpy()[np.arange(len(self.y)), self.y]
        self.features = z.flatten(1)
        self.concepts = answers(model, z)[1]
        self.width = model.task.width


def _probed(x: Tensor, present: Array, rows: Tensor, penalty: float) -> Array | None:
    """(n,) scores of a ridge probe, fitted on standardised training columns that vary; None where none does."""
    mean, std = x.mean(0), x.std(0)
    varies = std > 1e-6 * (1 + mean.abs())
    if not bool(varies.any()):
        return None
    a, b = (((part - mean) / std)[:, varies].double() for part in (x, rows))
    on = torch.from_numpy(present)
    fit = directions.ridge(directions.sets([a[on]], [a[~on]]), penalty=penalty)
    return (b @ fit.weight[0] + fit.bias[0]).numpy()


def _apart(mine: _Said, theirs: _Said, at: Array) -> dict[str, Score]:
    """How far two models are from each other on the rows at ``at`` (n,) bool."""
    return {
        "agreement": _score(METRICS["agreement"], mine.answer[at], theirs.answer[at]),
        "divergence": _score(METRICS["divergence"], theirs.p[at], mine.p[at]),
        "f1_gap": _score(METRICS["f1_gap"], mine.y[at], mine.answer[at], theirs.answer[at], mine.width),
    }


def _score(metric: Metric, *arrays: Any) -> Score:
    """The value with its percentile interval, rows drawn again."""
    form = metric.weighted(*arrays)
    low, high = interval(form.under(resamples(len(arrays[0]))))
    return {name: _finite(each) for name, each in (("value", metric(*arrays)), ("low", low), ("high", high))}


def _finite(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
