"""Fine-tuning the head alone, with some concepts shut out of it or held as they are.

Yuksekgonul et al. 2023, Post-hoc Concept Bottleneck Models, section 4 (fine-tuning as a global edit).
"""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from isthmus import losses
from isthmus.data.table import Fold, Splits, Table
from isthmus.errors import OptionError
from isthmus.given import Batch
from isthmus.heads.residual import ResidualHead
from isthmus.interventions import chain
from isthmus.interventions.checks import rate_of, table_of, whole_of
from isthmus.interventions.handles import Names, beside, bias_of, columns_of, splits, weights_of
from isthmus.interventions.holds import Holds, Tied, held, loose, taught, ties
from isthmus.interventions.record import What, record
from isthmus.model import ConceptModel, feedforward
from isthmus.train import Learn, seeded


@dataclass(frozen=True)
class Held(Learn):
    """``Learn`` with a linear head some of whose weights stay.

    ``free`` (Y, K) is True where they may move, ``tied`` keeps sums of them at 0, ``still``: classes whose bias stays.
    """

    free: Tensor | None = field(default=None, repr=False)
    tied: Tied | None = field(default=None, repr=False)
    still: tuple[int, ...] = ()

    def step(self, model: ConceptModel, batch: Batch, optimizer: torch.optim.Optimizer) -> float:
        if self.free is None:
            return super().step(model, batch, optimizer)
        weights, free = weights_of(model, "finetune"), self.free

        def hold(*_: object) -> None:
            assert weights.grad is not None
            weights.grad.mul_(free.to(weights))
            if self.still and (gradient := bias_of(model, "finetune").grad) is not None:
                gradient[list(self.still)] = 0

        hook = optimizer.register_step_pre_hook(hold)
        try:
            value = super().step(model, batch, optimizer)
        finally:
            hook.remove()
        if self.tied is not None:
            weights.data.copy_(self.tied(weights.detach().cpu().double()))
        return value


def holding(model: ConceptModel, kept: Holds, still: Collection[int] = ()) -> dict[str, Any]:
    """``free``, ``tied`` and ``still`` of ``Held``: what is held of a model, and columns that are ``still`` beside it."""
    if not (kept.still or kept.pins or still) and not (kept.forgotten and hasattr(model.head, "weights")):
        return {}
    free, weights = kept.free(model), weights_of(model, "finetune")
    free[:, list(still)] = False
    pinned, alive = kept.pinned(model), kept.alive(model.task.width)
    pinned[:, list(still)] = False
    sums = ties(model, free, pinned, alive, loose(model, free, pinned, alive))
    tied = Tied(free, weights.detach().cpu().double(), sums) if sums else None
    return {"free": free, "tied": tied, "still": tuple(kept.forgotten)}


def finetune(
    model: ConceptModel, data: Splits, *, without: Names | None = None, freeze: Names | None = None, lr: float = 1e-3,
    epochs: int = 100, batch_size: int = 256, patience: int = 10, seed: int = 0, why: str, who: str | None = None,
    validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Learn the head again, from where it is, on ``data``'s training rows; features and bottleneck stay, bit for bit.

    ``without``: concepts whose weights are 0 before, while and after; ``freeze``: concepts whose weights stay as they are
    (both need a linear head). What earlier edits settled is held, too (``isthmus.interventions.holds``). Training stops as
    ``Learn`` says, on ``data``'s validation rows, which also give the effect unless ``validation`` is passed. Only the head
    over concepts learns: a side channel stays.
    """
    chain.line(why, "why")
    splits(model, data, "finetune")
    rate_of(lr, "finetune: lr")
    for name, value, least in (
        ("epochs", epochs, 1),
        ("batch_size", batch_size, 1),
        ("patience", patience, 0),
        ("seed", seed, 0),
    ):
        whole_of(value, f"finetune: {name}", least)
    judged = table_of(data.validation if validation is None else validation, "finetune: validation", "labelled rows")
    new = deepcopy(model)
    shut, still = ([] if names is None else columns_of(new.space, names) for names in (without, freeze))
    kept = held(new)
    if shut:
        weights_of(new, "finetune").data[:, shut] = 0
        kept = replace(kept, pins={place: weight for place, weight in kept.pins.items() if place[1] not in shut})
    fold = Fold(taught(new, data.train, kept), taught(new, data.validation, kept)) if kept.forgotten else data.fold
    part = "head.inner" if isinstance(new.head, ResidualHead) else "head"
    how = {"lr": lr, "epochs": epochs, "batch_size": batch_size, "patience": patience}
    learn = Held(
        losses.task, (part,), lr=lr, epochs=epochs, batch_size=batch_size, patience=patience, name="finetune",
        through="feedforward" if new.solver is feedforward else "solver", **holding(new, kept, [*shut, *still]),
    )  # fmt: skip
    with seeded(seed):
        learn(new, fold)
    rows = new.history[len(model.history) :]
    if not rows:
        raise OptionError(f"finetune: expected a head that learns, got {type(new.head).__name__}")
    names = [[new.space.columns[k] for k in columns] for columns in (shut, still)]
    what: What = {"data": data.name, "rows": len(fold.train), "without": names[0], "freeze": names[1], **how, "seed": seed}
    what |= {"ran": len(rows), "validation_loss": min((row["validation"] for row in rows), default=None), **beside(new)}
    what |= kept.told(new)
    return record(model, new, "finetune", what, why=why, who=who, validation=judged)
