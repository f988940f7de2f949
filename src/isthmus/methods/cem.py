"""Concept embedding model: each concept is a mixture of two learnt vectors, and training corrects it at random.

Espinosa Zarlenga et al. 2022, Concept Embedding Models: Beyond the Accuracy-Explainability Trade-Off, NeurIPS.
"""

from __future__ import annotations

from typing import Any, Literal

from isthmus import losses
from isthmus.bottlenecks.embedding import EmbeddingBottleneck
from isthmus.given import randomly
from isthmus.heads.vectors import MLPVectorHead, VectorHead
from isthmus.model import ConceptModel
from isthmus.registry import Card, Count, Rate, Share, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.train import Learn, Plan

CARD = Card(
    title="Concept embedding model",
    paper="Espinosa Zarlenga et al., Concept Embedding Models, NeurIPS 2022, arXiv 2209.09056",
    year=2022,
    family="embedding",
    code="mateoespinosa/cem (MIT)",
    kinds=("binary", "categorical"),
    exempt={5: "the two vectors of a concept are read from x, so x still reaches the task when every concept is given"},
    tune={"lr": (1e-3, 1e-2), "weight_decay": (0.0, 4e-5)},
    notes="RandInt's mask is drawn once for a batch, as in the authors' code; the concept loss never sees it.",
)


@method(CARD)
def cem(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    width: Whole = 16,
    randint: Share = 0.25,
    head: Literal["linear", "mlp"] = "linear",
    hidden: Whole = 128,
    concept_weight: Weight = 1.0,
    lr: Rate = 1e-3,
    weight_decay: Weight = 4e-5,
    epochs: Whole = 100,
    batch_size: Whole = 256,
    patience: Count = 15,
) -> Plan:
    """``width`` m = 16 and ``randint`` p = .25 are the paper's (section 4.2 and appendix); 0 turns RandInt off."""
    made = VectorHead(space, task, width) if head == "linear" else MLPVectorHead(space, task, width, (hidden,))
    model = ConceptModel(features, EmbeddingBottleneck(features.dim, space, width), made, space, task)
    learn = Learn(
        losses.Both(concept_weight),
        given=randomly(randint),
        lr=lr,
        weight_decay=weight_decay,
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        name="joint",
    )
    return Plan(model, [learn])
