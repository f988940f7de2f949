"""Concept bottleneck with a side channel: what the concepts miss may pass beside them, and is counted apart.

Havasi, Parbhoo, Doshi-Velez 2022, Addressing Leakage in Concept Bottleneck Models, NeurIPS, section 4 (side-channel model).
"""

from __future__ import annotations

from typing import Any

from isthmus import losses
from isthmus.bottlenecks.linear import LinearBottleneck, Reading
from isthmus.heads.linear import Kind, make_head
from isthmus.heads.residual import ResidualHead
from isthmus.model import ConceptModel
from isthmus.registry import Card, Count, Rate, Share, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.train import Learn, Plan

CARD = Card(
    title="Concept bottleneck with a side channel",
    paper="Havasi et al., Addressing Leakage in Concept Bottleneck Models, NeurIPS 2022",
    year=2022,
    exempt={5: "the side channel carries features past the concepts; its share is the remainder bar"},
    tune={"lr": (1e-3, 1e-2), "dropout": (0.0, 0.5)},
    notes="Our reading: a linear channel added to the head's logits, lost by each training row with probability dropout.",
)


@method(CARD)
def sidechannel(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    dropout: Share = 0.5,
    reading: Reading = "soft",
    head: Kind = "linear",
    hidden: Whole = 128,
    concept_weight: Weight = 1.0,
    lr: Rate = 1e-3,
    weight_decay: Weight = 4e-5,
    epochs: Whole = 100,
    batch_size: Whole = 64,
    patience: Count = 15,
) -> Plan:
    """Joint training; ``dropout`` is the chance that a training row must do without the channel (0 = never)."""
    inner = make_head(head, space, task, hidden)
    model = ConceptModel(
        features,
        LinearBottleneck(features.dim, space, reading),
        ResidualHead(inner, features.dim, task, dropout),
        space,
        task,
    )
    learn = Learn(
        losses.Both(concept_weight),
        lr=lr,
        weight_decay=weight_decay,
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        name="joint",
    )
    return Plan(model, [learn])
