"""Stochastic concept bottleneck: the concepts' logits are jointly normal, so one correction moves the others.

Vandenhirtz, Laguna, Marcinkevics, Vogt 2024, Stochastic Concept Bottleneck Models, NeurIPS.
"""

from __future__ import annotations

from typing import Any, Literal

from isthmus import losses
from isthmus.bottlenecks.correlated import Conditioning, CorrelatedBottleneck, Covariance
from isthmus.given import everything
from isthmus.heads.linear import Kind, make_head
from isthmus.heads.montecarlo import MonteCarloHead
from isthmus.model import ConceptModel
from isthmus.registry import Card, Count, Rate, Share, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.train import Learn, Plan, Stage

CARD = Card(
    title="Stochastic concept bottleneck model",
    paper="Vandenhirtz et al., Stochastic Concept Bottleneck Models, NeurIPS 2024, arXiv 2406.19272",
    year=2024,
    family="correlated",
    code="mvandenhi/SCBM (Apache-2.0)",
    tasks=("classes", "labels", "value"),
    tune={"lr": (1e-3, 1e-2), "precision_weight": (0.1, 1.0)},
    variants={name: {"covariance": name} for name in ("amortised", "global")},
    notes="Sealed. conditioning='mode' is ours (the posterior given the labels), 'region' the paper's (binary concepts only). "
    "The paper has binary concepts; blocks and numbers are ours.",
)


@method(CARD)
def scbm(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    mode: Literal["joint", "sequential", "independent"] = "joint",
    covariance: Covariance = "amortised",
    conditioning: Conditioning = "mode",
    level: Share = 0.99,
    draws: Whole = 100,
    head: Kind = "linear",
    hidden: Whole = 256,
    concept_weight: Weight = 1.0,
    precision_weight: Weight = 1.0,
    temperature: Rate = 0.5,
    lr: Rate = 1e-3,
    weight_decay: Weight = 0.0,
    epochs: Whole = 300,
    batch_size: Whole = 64,
    patience: Count = 15,
) -> Plan:
    """Defaults of the authors' code, but for ``lr`` (theirs, 1e-4, is for a residual network) and ``patience``.

    ``concept_weight`` multiplies the joint loss of a row, a sum over concepts; ``precision_weight`` the mean size of the
    precision matrix off its diagonal. ``level`` is that of the confidence region. Theirs anneals ``temperature``, that of
    the straight-through samples, from 1 to .5.
    """
    weighed = precision_weight if mode == "joint" else precision_weight / space.count  # against a mean over concepts
    bottleneck = CorrelatedBottleneck(
        features.dim, space, covariance=covariance, conditioning=conditioning, draws=draws, level=level,
        precision=weighed, temperature=temperature,
    )  # fmt: skip
    model = ConceptModel(features, bottleneck, MonteCarloHead(make_head(head, space, task, hidden), task), space, task)
    how = dict[str, Any](lr=lr, weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, patience=patience)
    reader = Learn(losses.concept, ("features", "bottleneck"), name="concepts", **how)
    stages: dict[str, list[Stage]] = {
        "joint": [Learn(losses.Both(concept_weight * space.count), name="joint", **how)],
        "sequential": [reader, Learn(losses.task, ("head",), name="head", **how)],
        "independent": [reader, Learn(losses.task, ("head",), given=everything, name="head", **how)],
    }
    return Plan(model, stages[mode])
