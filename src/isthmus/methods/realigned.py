"""Concept realignment: a fitted bottleneck, and a network that moves the other concepts after a correction.

Singhi, Kim, Roth, Akata 2024, Improving Intervention Efficacy via Concept Realignment in Concept Bottleneck Models, ECCV.
"""

from __future__ import annotations

from typing import Any

from isthmus import losses, registry
from isthmus.errors import DataError, OptionError
from isthmus.model import ConceptModel, feedforward
from isthmus.realign import Realigner, UpToAll
from isthmus.registry import Card, Count, Rate, Share, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.train import Fold, Learn, Plan

CARD = Card(
    title="Concept bottleneck with realignment",
    paper="Singhi et al., Improving Intervention Efficacy via Concept Realignment, ECCV 2024, arXiv 2405.01531",
    year=2024,
    family="correlated",
    code="ExplainableML/concept_realignment (MIT)",
    tasks=("classes", "labels", "value"),
    tune={"lr": (1e-3, 1e-2)},
    notes="As sealed as its base ('cbm' by default). Takes any base whose corrections are in concept units and whose inference "
    "is one pass; realign(model, data) does it for a fitted model. Blocks and numbers are ours.",
)


@method(CARD)
def realigned(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    base: str = "cbm",
    base_options: dict[str, Any] | None = None,
    layers: Whole = 2,
    hidden: Whole = 128,
    dropout: Share = 0.2,
    lr: Rate = 1e-3,
    weight_decay: Weight = 5e-6,
    epochs: Whole = 100,
    batch_size: Whole = 512,
    patience: Count = 15,
) -> Plan:
    """``base`` is fitted first (with ``base_options``, and the same most ``epochs``), then the network on top of it.

    ``layers`` (1 to 3), ``hidden``, ``lr`` and ``weight_decay`` were searched in the authors' code; dropout .2 and batches
    of 512 are theirs.
    """
    found, own = registry.get(base), dict(base_options or {})
    if "epochs" in found.options:
        own.setdefault("epochs", epochs)
    plan = found.build(features, space, task, **found.checked(own))
    model = plan.model
    if model.solver is not feedforward or not len(space) or model.space != space:
        raise OptionError(f"realigned: expected a base that reads the data's concepts in one pass, got {base!r}; use 'cbm'")
    model.solver = Realigner(space, hidden, layers, dropout)
    how = dict[str, Any](lr=lr, weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, patience=patience)
    realigner = Learn(losses.concept, ("solver",), given=UpToAll(), through="solver", name="realignment", **how)
    return Plan(model, [*plan.stages, realigner])


def realign(model: ConceptModel, data: Fold, *, seed: int = 0, **options: Any) -> ConceptModel:
    """A fitted model of any method, realigned: the same weights, and the network fitted on ``data``; not changed itself.

    ``options`` are those of ``realigned`` but the base. Raises ``DataError`` when the data has other concepts.
    """
    if not model.origin:
        raise OptionError("realign: expected a model built by a registered method, got one put together by hand; register it")
    if getattr(data, "space", model.space) != model.space:
        raise DataError("realign: expected the concepts that the model was fitted on, got others")
    base = {"base": model.origin["method"], "base_options": model.origin["options"]}
    plan = registry.get("realigned").make(model.features, model.space, model.task, seed=seed, **base, **options)
    weights = model.state_dict()
    plan.model.load_state_dict(plan.model.state_dict() | weights)
    return Plan(plan.model, plan.stages[-1:]).fit(data, seed)
