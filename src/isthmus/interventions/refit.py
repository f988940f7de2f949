"""Fine-tuning the head alone, with some concepts shut out of it or held as they are.

Yuksekgonul et al. 2023, Post-hoc Concept Bottleneck Models, section 4 (fine-tuning as a global edit).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from isthmus import losses
from isthmus.data.table import Splits, Table
from isthmus.errors import OptionError
from isthmus.given import Batch
from isthmus.heads.residual import ResidualHead
from isthmus.interventions import chain
from isthmus.interventions.handles import Names, beside, columns_of, splits, weights_of
from isthmus.interventions.record import What, record
from isthmus.model import ConceptModel, feedforward
from isthmus.train import Learn, seeded


@dataclass(frozen=True)
class Held(Learn):
    """``Learn`` on a linear head some of whose columns keep their weights: ``free`` (K,) is 1 where they may move."""

    free: Tensor | None = field(default=None, repr=False)

    def step(self, model: ConceptModel, batch: Batch, optimizer: torch.optim.Optimizer) -> float:
        def hold(*_: object) -> None:
            if self.free is not None:
                gradient = weights_of(model, "finetune").grad
                assert gradient is not None
                gradient.mul_(self.free)

        hook = optimizer.register_step_pre_hook(hold)
        try:
            return super().step(model, batch, optimizer)
        finally:
            hook.remove()


def finetune(
    model: ConceptModel, data: Splits, *, without: Names | None = None, freeze: Names | None = None, lr: float = 1e-3,
    epochs: int = 100, batch_size: int = 256, patience: int = 10, seed: int = 0, why: str, who: str | None = None,
    validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Learn the head again, from where it is, on ``data``'s training rows; features and bottleneck stay, bit for bit.

    ``without``: concepts whose weights are 0 before, while and after; ``freeze``: concepts whose weights stay as they are
    (both need a linear head). Training stops as ``Learn`` says, on ``data``'s validation rows, which also give the effect
    unless ``validation`` is passed. Only the head over concepts learns: a side channel stays.
    """
    chain.line(why, "why")
    splits(model, data, "finetune")
    new = deepcopy(model)
    shut, still = ([] if names is None else columns_of(new.space, names) for names in (without, freeze))
    free = None
    if shut or still:
        weights = weights_of(new, "finetune")
        weights.data[:, shut] = 0
        free = torch.ones(len(new.space), device=weights.device)
        free[[*shut, *still]] = 0
    part = "head.inner" if isinstance(new.head, ResidualHead) else "head"
    how = {"lr": lr, "epochs": epochs, "batch_size": batch_size, "patience": patience}
    learn = Held(
        losses.task, (part,), lr=lr, epochs=epochs, batch_size=batch_size, patience=patience, name="finetune", free=free,
        through="feedforward" if new.solver is feedforward else "solver",
    )  # fmt: skip
    with seeded(seed):
        learn(new, data.fold)
    rows = new.history[len(model.history) :]
    if not rows:
        raise OptionError(
            f"finetune: expected a head that learns and epochs of at least 1, got {type(new.head).__name__}, {epochs}"
        )
    names = [[new.space.columns[k] for k in columns] for columns in (shut, still)]
    what: What = {"data": data.name, "rows": len(data.train), "without": names[0], "freeze": names[1], **how, "seed": seed}
    what |= {"ran": len(rows), "validation_loss": min((row["validation"] for row in rows), default=None), **beside(new)}
    return record(model, new, "finetune", what, why=why, who=who, validation=validation or data.validation)
