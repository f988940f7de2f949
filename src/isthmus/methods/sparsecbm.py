"""Sparse CBM: image-text similarities through a square layer with a loss of its own; and CMS, which learns nothing.

Semenov, Ivanov, Beznosikov, Gasnikov 2024, Sparse Concept Bottleneck Models, arXiv 2404.03323, sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus import losses
from isthmus.bottlenecks.directions import Directions
from isthmus.bottlenecks.gumbel import GumbelBottleneck, Matching
from isthmus.errors import OptionError
from isthmus.heads.association import Rule, Scaling, SignatureHead
from isthmus.heads.linear import LinearHead
from isthmus.model import ConceptModel
from isthmus.registry import Card, Count, Rate, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.train import Fold, Learn, Plan, Solve

PAPER = "Semenov et al., Sparse Concept Bottleneck Models: Gumbel Tricks in Contrastive Learning, 2024, arXiv 2404.03323"


@method(
    Card(
        title="Sparse concept bottleneck (Gumbel, contrastive, l1)",
        paper=PAPER,
        year=2024,
        family="language",
        code="Andron00e/SparseCBM (Apache-2.0)",
        needs=("vectors",),
        kinds=("binary",),
        tasks=("classes",),
        variants={name: {"loss": name} for name in ("gumbel", "contrastive", "l1")},
        tune={"lr": (3e-4, 3e-3), "weight": (1.0, 0.1)},
        notes="The paper's loss pairs image i with concept i and adds Gumbel noise to the scores; its code averages over all "
        "entries instead, which the constant matrix minimises (loss='gumbel_code'), and trains no head at HEAD, so its figures "
        "are not comparable. One optimiser for layer and head, as the two losses are added; noise at inference is off.",
    )
)
def sparsecbm(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    loss: Matching = "gumbel",
    weight: Weight = 1.0,
    lam: Weight = 1e-3,
    tau: Rate = 1.0,
    scale: Rate = 100.0,
    lr: Rate = 3e-4,
    epochs: Whole = 100,
    batch_size: Whole = 128,
    patience: Count = 15,
) -> Plan:
    """h = W phi, logits = V h, both without bias, learnt on cross-entropy + the layer's loss, ``weight`` times (l1: times
    ``lam``, which the other losses do not read).

    phi is ``scale`` * cosine, CLIP's exp(logit_scale). The paper trains 10 epochs of a large set.
    """
    part = GumbelBottleneck(
        features.dim,
        space,
        shared=getattr(features, "shared", None),
        loss=loss,
        weight=weight * lam if loss == "l1" else weight,
        tau=tau,
        scale=scale,
    )
    head = LinearHead(space, task)
    del head.map.bias
    head.map.register_buffer("bias", torch.zeros(task.width))  # the paper's head has none
    model = ConceptModel(features, part, head, space, task)
    how = dict[str, Any](lr=lr, epochs=epochs, batch_size=batch_size, patience=patience)
    return Plan(model, [Learn(losses.task, ("bottleneck", "head"), name="layer and head", **how), Solve("bottleneck")])


@dataclass(frozen=True)
class Describe:
    """Set the signatures of the classes: cosines of the texts of their names with those of the concepts."""

    vectors: Tensor | None

    @torch.no_grad()
    def __call__(self, model: ConceptModel, data: Fold) -> None:
        if self.vectors is None:
            raise OptionError("cms: expected class_vectors, the text embeddings of the class names; set it")
        part, head = model.bottleneck, model.head
        assert isinstance(part, Directions) and isinstance(head, SignatureHead)
        head.describe(F.normalize(part.shared.place(self.vectors.to(model.device)), dim=-1) @ part.rows.T)


@method(
    Card(
        title="Concept matrix search (CMS)",
        paper=PAPER + ", section 4",
        year=2024,
        family="language",
        code="Andron00e/SparseCBM (Apache-2.0)",
        needs=("vectors", "class_vectors"),
        zero_shot=True,
        kinds=("binary",),
        tasks=("classes",),
        variants={"similarity": {"rule": "similarity"}, "max": {"rule": "max"}},
        tune={"scaling": ("rows", "columns")},
        exempt={3: "cosines of whole rows are no sum over concepts"},
        notes="No training and no label, but the means and deviations of scaling='columns', read off training rows. Rows are "
        "divided by sums of absolute values: the paper's, where all cosines are positive, as CLIP's are.",
    )
)
def cms(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    rule: Rule = "similarity",
    scaling: Scaling = "rows",
    class_vectors: Tensor | None = None,
) -> Plan:
    """The class whose text is most like the image, both seen as similarities to the concepts.

    ``class_vectors`` (Y, d) are the text embeddings of the class names. ``rule`` 'similarity' takes the cosine of the two rows,
    'max' the class that is highest on the image's highest concept. ``scaling`` 'columns' is what helped on CIFAR-10.
    """
    part = Directions(features.dim, space, shared=getattr(features, "shared", None), cosine=True, standard=False)
    model = ConceptModel(features, part, SignatureHead(space, task, rule=rule, scaling=scaling), space, task)
    return Plan(model, [Describe(class_vectors), Solve("bottleneck"), Solve("head")])
