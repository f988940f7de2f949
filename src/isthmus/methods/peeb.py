"""PEEB: a class is the sum of how well its description of each part fits that part of the image; descriptions can be edited.

Pham, Chen, Nguyen, Nguyen 2024, PEEB, Findings of NAACL, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isthmus import losses
from isthmus.bottlenecks.match import PartMatch
from isthmus.given import Batch
from isthmus.heads.association import OwnedHead
from isthmus.model import ConceptModel, Output
from isthmus.registry import Card, Count, Rate, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.train import Learn, Plan, Solve

UNSEEN = ("not visible", "not present", "unknown", "n/a")  # descriptions that say nothing of an image


@dataclass(frozen=True)
class PartText:
    """Both-way cross-entropy of the parts of a batch (B P) with its classes' descriptions (C P), by class and part."""

    model: ConceptModel

    def __call__(self, out: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
        part, head = self.model.bottleneck, self.model.head
        assert isinstance(part, PartMatch) and isinstance(head, OwnedHead)
        seen, label = batch.y.unique(return_inverse=True)
        column = head.owned[seen].nonzero()  # (class in the batch, column)
        v, t = part.embedded(out.features), part.rows[column[:, 1]]
        if not len(column):
            return {"part-text": 0 * v.sum()}  # no class of the batch is described: nothing to match
        score = torch.einsum("bpe,ke->bpk", v, t).flatten(0, 1)
        rows = torch.arange(v.shape[1], device=v.device)
        same = (label[:, None, None] == column[:, 0]) & (rows[:, None] == part.owner[column[:, 1]])
        right = same.flatten(0, 1).to(score)
        each = right / right.sum(1, keepdim=True).clamp(min=1)
        back = right / right.sum(0, keepdim=True).clamp(min=1)
        ways = -(each * score.log_softmax(1)).sum() / len(score), -(back * score.log_softmax(0)).sum() / score.shape[1]
        return {"part-text": (ways[0] + ways[1]) / 2}


@method(
    Card(
        title="Part-based editable bottleneck (PEEB)",
        paper="Pham et al., PEEB, Findings of NAACL 2024, arXiv 2403.05297",
        year=2024,
        family="language",
        code="anguyen8/peeb (MIT)",
        needs=("texts", "owners", "parts", "patches"),
        kinds=("binary",),
        tasks=("classes",),
        tune={"lr": (1e-3, 3e-4)},
        notes="On any patch features (features.patches), with a learnt query for each part for the paper's OWL-ViT; boxes are "
        "not trained, so its box losses are left out. Descriptions that say a part is not visible count 0. Its code applies "
        "softmax twice in two losses; here once. Rates are for small encoders; the paper's are 2e-4, then 2e-5.",
    )
)
def peeb(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    scale: Rate = 1.0,
    contrastive_epochs: Count = 32,
    lr: Rate = 1e-3,
    weight_decay: Weight = 1e-3,
    epochs: Whole = 30,
    batch_size: Whole = 32,
    patience: Count = 5,
) -> Plan:
    """logit(y) = ``scale`` * sum over parts of cos(part of the image, description of that part of y); texts stay frozen.

    ``contrastive_epochs`` of part-text matching come first, then cross-entropy. A description edited afterwards takes effect at
    once (``isthmus.edit.retext``): it is one row of texts, and nothing is trained.
    """
    part = PartMatch(features.dim, space, patches=int(getattr(features, "patches", 1)))
    head = OwnedHead(space, task, scale=scale, skip=UNSEEN)
    model = ConceptModel(features, part, head, space, task)
    how = dict[str, Any](weight_decay=weight_decay, batch_size=batch_size, patience=patience)
    first = Learn(PartText(model), ("bottleneck",), lr=lr, epochs=max(contrastive_epochs, 1), name="parts and texts", **how)
    tuned = Learn(losses.task, ("bottleneck",), lr=lr, epochs=epochs, name="classes", **how)
    return Plan(model, [*([first] if contrastive_epochs else []), tuned, Solve("bottleneck")])
