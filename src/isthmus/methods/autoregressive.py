"""Autoregressive concept bottleneck: hard concepts, each predicted from the features and the concepts before it.

Havasi, Parbhoo, Doshi-Velez 2022, Addressing Leakage in Concept Bottleneck Models, NeurIPS.
"""

from __future__ import annotations

from typing import Any

from isthmus import losses
from isthmus.bottlenecks.autoregressive import AutoregressiveBottleneck
from isthmus.given import everything
from isthmus.heads.linear import Kind, make_head
from isthmus.heads.montecarlo import MonteCarloHead
from isthmus.model import ConceptModel
from isthmus.registry import Card, Count, Rate, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.train import Learn, Plan

CARD = Card(
    title="Autoregressive concept bottleneck model",
    paper="Havasi et al., Addressing Leakage in Concept Bottleneck Models, NeurIPS 2022",
    year=2022,
    family="correlated",
    code="dtak/addressing-leakage (MIT)",
    tasks=("classes", "labels", "value"),
    tune={"lr": (1e-3, 5e-3), "weight_decay": (0.0, 4e-5)},
    notes="Sealed and ordered: concepts are predicted in the order of the space, a permutation carries the order along "
    "(law 7 holds), and a concept cannot be dropped before one that is predicted from it. Blocks and numbers are ours.",
)


@method(CARD)
def autoregressive(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    hidden_concept: Whole = 50,
    draws: Whole = 200,
    exact: Count = 256,
    head: Kind = "mlp",
    hidden: Whole = 200,
    lr: Rate = 5e-3,
    weight_decay: Weight = 0.0,
    epochs: Whole = 100,
    batch_size: Whole = 64,
    patience: Count = 15,
) -> Plan:
    """Concepts learn with the true earlier ones (an unknown one is drawn), the head on true concepts. Defaults: authors' code.

    ``hidden_concept`` units for each concept. Inference sums over all assignments of the concepts where there are at most
    ``exact``, else over ``draws`` weighted samples.
    """
    bottleneck = AutoregressiveBottleneck(features.dim, space, hidden_concept, draws=draws, exact=exact)
    model = ConceptModel(features, bottleneck, MonteCarloHead(make_head(head, space, task, hidden), task), space, task)
    how = dict[str, Any](lr=lr, weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, patience=patience)
    reader = Learn(losses.concept, ("features", "bottleneck"), given=everything, name="concepts", **how)
    return Plan(model, [reader, Learn(losses.task, ("head",), given=everything, name="head", **how)])
