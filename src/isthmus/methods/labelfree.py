"""Label-free CBM: a projection of the backbone learns image-text similarities, then a sparse head.

Oikarinen, Das, Nguyen, Weng 2023, Label-Free Concept Bottleneck Models, ICLR, sections 3.1 to 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isthmus.bottlenecks.projection import Projection, cos_cubed
from isthmus.errors import DataError
from isthmus.heads.linear import LinearHead
from isthmus.model import ConceptModel
from isthmus.numerics import words
from isthmus.registry import Card, Rate, Share, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.stages import Keep, Sparse
from isthmus.train import RUN, Fold, Plan, Solve, encode


@dataclass(frozen=True)
class Project:
    """Maximise the mean cos-cubed similarity of projections and targets, by Adam on up to ``batch_size`` rows a step.

    Validation rows are looked at before the first step, then every ``check`` steps and at the end; the first look that is no
    better than the best stops the training, and the best weights stay.
    """

    lr: float
    steps: int
    batch_size: int = 50_000
    check: int = 50

    def __call__(self, model: ConceptModel, data: Fold) -> None:
        part, run = model.bottleneck, RUN.get()
        assert isinstance(part, Projection)
        with torch.no_grad():
            z, v = (encode(model.features, rows, model.device).to(model.device) for rows in (data.train, data.validation))
            p, q = part.target(z), part.target(v)
        part.map.requires_grad_(True)
        optimizer = torch.optim.Adam(part.map.parameters(), lr=self.lr)
        best, kept = -float("inf"), part.map.weight.detach().clone()
        for step in range(self.steps + 1):
            if step % self.check == 0 or step == self.steps:
                with torch.no_grad():
                    score = float(cos_cubed(part.map(v), q).mean())
                model.history.append({"stage": "projection", "epoch": step, "validation": -score})
                if run is not None and run.progress is not None:
                    run.progress("projection", step, self.steps, {"validation": -score})
                if score <= best:
                    break
                best, kept = score, part.map.weight.detach().clone()
            if step == self.steps:
                break
            index = torch.randperm(len(z))[: self.batch_size] if self.batch_size < len(z) else slice(None)
            loss = -cos_cubed(part.map(z[index]), p[index]).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            part.map.weight.copy_(kept)
        part.requires_grad_(False)


def above(score: Tensor, cutoff: float, option: str, what: str) -> list[int]:
    """The columns whose score lies above the cutoff; ``DataError`` names the option that would let some in."""
    kept: list[int] = (score > cutoff).nonzero().flatten().tolist()
    if not kept:
        best = float(score.nan_to_num(-1.0).max())
        raise DataError(f"labelfree: expected {what} above {option} {cutoff:g}, got none (best {best:.2f}); lower {option}")
    return kept


def activated(cutoff: float | None) -> Keep:
    """Keep concepts whose five highest training similarities have a mean above ``cutoff`` (None: all)."""

    def choose(model: ConceptModel, data: Fold) -> list[int]:
        if cutoff is None:
            return list(range(model.space.count))
        part = model.bottleneck
        assert isinstance(part, Projection)
        p = part.target(encode(model.features, data.train, model.device).to(part.rows))
        return above(words.highest(p), cutoff, "activation_cutoff", "concepts with high similarities on training rows")

    return Keep(choose)


def followed(cutoff: float) -> Keep:
    """Keep concepts whose projection follows the similarities of validation rows above ``cutoff``."""

    def choose(model: ConceptModel, data: Fold) -> list[int]:
        part = model.bottleneck
        assert isinstance(part, Projection)
        v = encode(model.features, data.validation, model.device).to(part.rows)
        with torch.no_grad():
            score: Tensor = cos_cubed(part.map(v), part.target(v))
        return above(score, cutoff, "similarity_cutoff", "concepts that the projection follows on validation rows")

    return Keep(choose)


@method(
    Card(
        title="Label-free concept bottleneck model",
        paper="Oikarinen et al., Label-Free Concept Bottleneck Models, ICLR 2023, arXiv 2304.06129",
        year=2023,
        family="language",
        code="Trustworthy-ML-Lab/Label-free-CBM (no licence; nothing taken)",
        needs=("vectors",),
        kinds=("binary",),
        tune={"lam": (7e-4, 2e-4, 1e-4)},
        notes="Its code stops and filters on test images; here on validation rows. activation_cutoff is .25 to .28 for CLIP "
        "ViT-B/16 and means nothing in another space: off unless set. Strength is its lambda divided by .99, as its solver "
        "takes it. Text filters (length, class names, near-duplicates) are isthmus.concepts.filter.",
    )
)
def labelfree(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    lam: Rate = 7e-4,
    l1_ratio: Share = 0.99,
    nec: Rate | None = None,
    activation_cutoff: float | None = None,
    similarity_cutoff: float = 0.45,
    lr: Rate = 1e-3,
    steps: Whole = 1000,
) -> Plan:
    """W z learns cos-cubed with the texts' similarities, is standardised, and a sparse head reads it.

    ``activation_cutoff``: the least mean of a concept's five highest training cosines; ``similarity_cutoff``: the least
    cos-cubed on validation rows (both section 3.2). ``lam`` 7e-4 is CIFAR's; CUB 2e-4, ImageNet 1e-4. ``nec`` replaces it.
    """
    part = Projection(features.dim, space, shared=getattr(features, "shared", None))
    model = ConceptModel(features, part, LinearHead(space, task), space, task)
    learn = Project(lr, steps)
    head = Sparse(lam / max(l1_ratio, 1e-3), nec, "multinomial", l1_ratio)
    return Plan(model, [activated(activation_cutoff), learn, followed(similarity_cutoff), Solve("bottleneck"), head])
