"""An edit on a copy of a model, what it did to the answers, and its entry in the history."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.data.table import Table
from isthmus.errors import DataError
from isthmus.interventions import chain
from isthmus.interventions.checks import table_of
from isthmus.interventions.holds import undone
from isthmus.metrics import MAIN, METRICS, interval, resamples
from isthmus.model import ConceptModel
from isthmus.train import CHUNK, encode

What = dict[str, Any]


def record(
    old: ConceptModel, new: ConceptModel, edit: str, what: Mapping[str, Any], *, why: str, who: str | None = None,
    validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """``new`` with an entry for an edit that you made by hand on a copy of ``old``; ``what`` says it in JSON values.

    ``DataError`` where ``old`` was itself changed since its last edit, or ``new`` has not its history.
    """
    if reason := chain.broken(old):
        raise DataError(f"history: {reason}; load the model again, and edit it by isthmus.edit alone")
    if new.history[: len(old.history)] != old.history or len(chain.edits(new.history)) > len(chain.edits(old.history)):
        raise DataError("record: expected a copy of the old model with its history, got another; use copy.deepcopy")
    who, why = chain.line(chain.user() if who is None else who, "who"), chain.line(why, "why")
    told = None if validation is None else effect(old, new, validation)
    what = {**what, **undone(old, new, edit, what, validation)}
    new.eval().requires_grad_(False)
    new.history.append(chain.entry(old, new, edit, what, why=why, who=who, effect=told))
    return new


def edited(
    model: ConceptModel, edit: str, change: Callable[[ConceptModel], What], *, why: str, who: str | None,
    validation: Table | None,
) -> ConceptModel:  # fmt: skip
    """A copy of ``model`` on which ``change`` was made, with its entry; ``change`` returns what the entry says of it."""
    chain.line(why, "why")
    new = deepcopy(model)
    with torch.no_grad():
        what = change(new)
    return record(model, new, edit, what, why=why, who=who, validation=validation)


def features_of(model: ConceptModel, table: Table, name: str = "validation") -> Tensor:
    """Features (n, D) of rows labelled with the model's task, or ``DataError`` that calls them ``name``."""
    table = table_of(table, name, "labelled rows")
    if table.y is None or table.task is None:
        raise DataError(f"{name}: expected task labels to score the edit against, got a table without; pass y=")
    if (table.task.kind, table.task.names) != (model.task.kind, model.task.names):
        want, got = (f"{task.kind} {list(task.names[:4])}" for task in (model.task, table.task))
        raise DataError(f"{name}: the model decides {want}, got rows labelled with {got}; give its own task")
    return encode(model.features, table, model.device)


@torch.no_grad()
def answers(model: ConceptModel, z: Tensor) -> tuple[Tensor, Tensor]:
    """Decisions (n,) or (n, Y), and concept values (n, K), of features z (n, D)."""
    parts = [model.answer(part.to(model.device)) for part in z.split(CHUNK)]
    said = model.task.predict(torch.cat([part.logits for part in parts]))
    return said.cpu(), torch.cat([part.concepts.values for part in parts]).cpu()


def effect(old: ConceptModel, new: ConceptModel, table: Table) -> dict[str, Any]:
    """``score``, its value ``before`` and ``after``, a 95 % ``interval`` of the difference, ``changed``: a share of ``rows``.

    The score is ``evaluate``'s main one: accuracy of classes, macro F1 of labels, R2 of a number. The interval is a paired
    bootstrap over rows (whole groups, where there are any); None where it, or a score, is not defined. A number has
    changed when it moved by more than 1 % of the target's training deviation.
    """
    z = features_of(old, table)
    assert table.y is not None
    y, name = table.y.numpy(), MAIN[old.task.kind]
    a, b = (answers(model, z)[0].numpy() for model in (old, new))
    width = (old.task.width,) if name == "macro_f1" else ()
    forms = [METRICS[name].weighted(y, said, *width) for said in (a, b)]
    ones, weights = np.ones((1, len(y))), resamples(len(y), groups=None if table.group is None else list(table.group))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # resamples in which a score is not defined are NaN
        low, high = interval(forms[1].under(weights) - forms[0].under(weights))
    moved = np.abs(a - b) > 0.01 * old.task.scale if old.task.kind == "value" else a != b
    return {
        "rows": len(y),
        "score": name,
        "before": _finite(forms[0].under(ones)[0]),
        "after": _finite(forms[1].under(ones)[0]),
        "interval": None if _finite(low) is None else [_finite(low), _finite(high)],
        "changed": _finite((moved if moved.ndim == 1 else moved.any(1)).mean()),
    }


def _finite(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
