"""Concept bottleneck model: the input is read as concepts, the concepts decide. Joint, sequential or independent.

Koh, Nguyen, Tang et al. 2020, Concept Bottleneck Models, ICML, section 3.
"""

from __future__ import annotations

from typing import Any, Literal

from isthmus import losses
from isthmus.bottlenecks.linear import LinearBottleneck, Reading
from isthmus.errors import OptionError
from isthmus.given import everything
from isthmus.heads.linear import Kind, make_head
from isthmus.model import ConceptModel
from isthmus.registry import Card, Count, Rate, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.train import Learn, Plan, Solve, Stage

CARD = Card(
    title="Concept bottleneck model",
    paper="Koh et al., Concept Bottleneck Models, ICML 2020, arXiv 2007.04612",
    year=2020,
    code="yewsiang/ConceptBottleneck (MIT)",
    tasks=("classes", "labels", "value"),
    variants={mode: {"mode": mode} for mode in ("joint", "sequential", "independent")},
    tune={"lr": (1e-3, 1e-2), "weight_decay": (0.0, 4e-5)},
    notes="Probabilities feed the head by default; reading='logit' is the paper's, corrected at training percentiles.",
)


@method(CARD)
def cbm(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    mode: Literal["joint", "sequential", "independent"] = "joint",
    reading: Reading = "soft",
    head: Kind = "linear",
    hidden: Whole = 128,
    calibrate: bool = False,
    concept_weight: Weight = 1.0,
    lr: Rate = 1e-3,
    weight_decay: Weight = 4e-5,
    epochs: Whole = 100,
    batch_size: Whole = 64,
    patience: Count = 15,
) -> Plan:
    """One model; the three modes are three lists of stages.

    ``concept_weight`` multiplies the mean over concepts; the paper's lambda multiplies the sum, so its .01 on CUB's
    112 concepts (Table 1) is 1.12 here. 'independent' trains the head on true concepts, 'sequential' on predicted ones.
    ``calibrate`` rescales each concept's logits on validation rows before the head learns (not the paper's).
    """
    if mode == "independent" and reading == "logit":
        raise OptionError("cbm: an independent head learns from 0/1 concepts, so reading='logit' does not fit; use 'soft'")
    if mode == "joint" and calibrate:
        raise OptionError("cbm: a joint head has learnt on its logits; calibrate fits 'sequential' and 'independent'")
    bottleneck, made = LinearBottleneck(features.dim, space, reading), make_head(head, space, task, hidden)
    model = ConceptModel(features, bottleneck, made, space, task)
    how = dict[str, Any](lr=lr, weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, patience=patience)
    reader = Learn(losses.concept, ("features", "bottleneck"), name="concepts", **how)
    read = [reader, Solve("bottleneck", call="calibrate", rows="validation")] if calibrate else [reader]
    percentiles: list[Stage] = [Solve("bottleneck")] if reading == "logit" else []
    stages: dict[str, list[Stage]] = {
        "joint": [Learn(losses.Both(concept_weight), name="joint", **how), *percentiles],
        "sequential": [*read, *percentiles, Learn(losses.task, ("head",), name="head", **how)],
        "independent": [*read, Learn(losses.task, ("head",), given=everything, name="head", **how)],
    }
    return Plan(model, stages[mode])
