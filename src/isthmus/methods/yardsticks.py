"""The rows every bottleneck is read against: black box, linear probe, and as many random directions.

No concept is involved in the first two (K = 0); the third is the random-concept control of VLG-CBM (Srivastava et al. 2024).
"""

from __future__ import annotations

from typing import Any, Literal

from isthmus import losses
from isthmus.bottlenecks.directions import Directions
from isthmus.bottlenecks.empty import EmptyBottleneck
from isthmus.heads.linear import Kind, make_head
from isthmus.heads.residual import FeatureHead
from isthmus.model import ConceptModel
from isthmus.registry import Card, Count, Rate, Weight, Whole, method
from isthmus.space import EMPTY, Concept, ConceptSpace, Task
from isthmus.train import Learn, Plan, Solve

BESIDE = {5: "there are no concepts: everything passes beside the strip"}
TUNE: dict[str, tuple[Any, ...]] = {"lr": (1e-3, 1e-2), "weight_decay": (0.0, 4e-5)}


def _features_only(features: Any, task: Task, kind: Literal["linear", "mlp"], hidden: int, learn: Learn) -> Plan:
    head = FeatureHead(features.dim, task, kind, hidden)
    return Plan(ConceptModel(features, EmptyBottleneck(), head, EMPTY, task), [learn])


@method(
    Card(
        title="Black box",
        paper="a network without concepts: one hidden layer on the features, and the features' own training",
        year=0,
        family="yardstick",
        needs=(),
        tasks=("classes", "labels", "value"),
        exempt=BESIDE,
        tune=TUNE,
        encoder="task",
    )
)
def blackbox(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    hidden: Whole = 128,
    lr: Rate = 1e-3,
    weight_decay: Weight = 4e-5,
    epochs: Whole = 100,
    batch_size: Whole = 64,
    patience: Count = 15,
) -> Plan:
    """Features and a hidden layer learn the task; a frozen encoder stays frozen."""
    how = dict[str, Any](lr=lr, weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, patience=patience)
    return _features_only(features, task, "mlp", hidden, Learn(losses.task, name="task", **how))


@method(
    Card(
        title="Linear probe",
        paper="a linear map from frozen features to the task",
        year=0,
        family="yardstick",
        needs=(),
        tasks=("classes", "labels", "value"),
        exempt=BESIDE,
        tune=TUNE,
        encoder="task",
    )
)
def linear_probe(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    lr: Rate = 1e-3,
    weight_decay: Weight = 4e-5,
    epochs: Whole = 100,
    batch_size: Whole = 64,
    patience: Count = 15,
) -> Plan:
    """Only the linear head learns; the features stay as they came."""
    how = dict[str, Any](lr=lr, weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, patience=patience)
    return _features_only(features, task, "linear", 0, Learn(losses.task, ("head",), name="task", **how))


@method(
    Card(
        title="Random concepts",
        paper="random-concept control, Srivastava et al., VLG-CBM, NeurIPS 2024, section 4",
        year=2024,
        family="yardstick",
        needs=("words",),
        tune=TUNE,
        tasks=("classes", "labels", "value"),
        notes="As many random unit directions as the space has columns, the same head and tuning; they mean nothing.",
    )
)
def random_concepts(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    head: Kind = "linear",
    hidden: Whole = 128,
    lr: Rate = 1e-3,
    weight_decay: Weight = 4e-5,
    epochs: Whole = 100,
    batch_size: Whole = 64,
    patience: Count = 15,
) -> Plan:
    """Random unit directions of the features, standardised on train, then the head learns on them."""
    names = (f"random direction {k + 1}" for k in range(len(space)))
    drawn = ConceptSpace(tuple(Concept(name, "continuous", unit="sd") for name in names))
    model = ConceptModel(features, Directions(features.dim, drawn), make_head(head, drawn, task, hidden), drawn, task)
    how = dict[str, Any](lr=lr, weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, patience=patience)
    return Plan(model, [Solve("bottleneck"), Learn(losses.task, ("head",), name="head", **how)])
