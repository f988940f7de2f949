"""KnoBo: questions from documents, each grounded in images by itself, and a linear head held to what the documents say.

Yang et al. 2024, A Textbook Remedy for Domain Shifts: Knowledge Priors for Medical Image Analysis, NeurIPS, section 3. The
questions, their labels and the prior come from ``isthmus.concepts`` (``questions``, ``measure``, ``prior``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isthmus import losses
from isthmus.bottlenecks.grounded import Grounded
from isthmus.errors import OptionError, unknown
from isthmus.heads.association import PriorHead, membership
from isthmus.model import ConceptModel
from isthmus.registry import Card, Count, Rate, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.stages import Keep, OnValues
from isthmus.train import Fold, Plan, Solve, encode


@dataclass(frozen=True)
class Best:
    """The ``most`` concepts that are right most often on validation rows, each kind of row counting alike, best first."""

    most: int

    @torch.no_grad()
    def __call__(self, model: ConceptModel, data: Fold) -> list[int]:
        part = model.bottleneck
        assert isinstance(part, Grounded)
        batch = data.validation.batch(encode(model.features, data.validation, model.device))
        c = batch.labels()
        known = torch.ones_like(c, dtype=torch.bool) if batch.known is None else batch.known
        right = (part(torch.as_tensor(batch.x).to(model.device)).values.cpu() > 0.5) == (c > 0.5)
        sides = [(right & known & ((c > 0.5) == side)).sum(0) / (known & ((c > 0.5) == side)).sum(0) for side in (True, False)]
        score = ((sides[0] + sides[1]) / 2).nan_to_num(0.0)
        order = score.argsort(descending=True, stable=True).tolist()
        kept = [k for k in order if bool(part.sure[k])][: self.most]
        model.history.append({"stage": "grounding", "known": {model.space.columns[k]: float(score[k]) for k in kept}})
        return kept


@dataclass(frozen=True)
class Believed:
    """Before a fit: is each concept of the prior one of the space's, and is anything known? A prior of nothing is said."""

    concepts: tuple[str, ...]
    anything: bool

    def __call__(self, model: ConceptModel, data: Fold) -> None:
        for name in self.concepts:
            if name not in model.space.names:
                raise unknown("concept of the prior", name, model.space.names)
        if not self.anything:
            note = "no concept was written for a class and no prior was given: the head learns without one"
            model.history.append({"stage": "prior", "note": note})


@method(
    Card(
        title="Knowledge-enhanced bottleneck (KnoBo)",
        paper="Yang et al., A Textbook Remedy for Domain Shifts, NeurIPS 2024, arXiv 2405.14839",
        year=2024,
        family="language",
        code="YueYANG1996/KnoBo (MIT)",
        kinds=("binary",),
        tasks=("classes",),
        tune={"lr": (1e-3, 1e-2), "strength": (1.0, 0.1)},
        notes="Labels of the concepts come from reports or captions that a language model reads; where the table has them "
        "already they are taken. Rows of the larger side are cut, which is the paper's balancing; up to 2,000 of each side "
        "are taken, where the paper samples 2,000 in all and then cuts. The head keeps the epoch of least validation loss "
        "(the code: highest accuracy). Concepts stand in the order of their validation accuracy.",
    )
)
def knobo(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    prior: dict[str, dict[str, int]] | None = None,
    most: Whole = 150,
    strength: Weight = 1.0,
    c: Rate = 1.0,
    lr: Rate = 1e-3,
    epochs: Whole = 200,
    batch_size: Whole = 64,
    patience: Count = 200,
) -> Plan:
    """P(concept | image) by logistic regressions, then CE + ``strength`` * mean |tanh(W) - prior|.

    ``prior``: {class: {concept: -1, 0 or 1}}, what is usually so; what it leaves out is 0, unknown. None takes 1 where a
    concept was written for the class. Where no concept was, the rule is off: 0 would pull every weight to 0.
    ``most`` concepts are kept. ``strength`` 0 is the same head without the prior.
    """
    believed = membership(space, task) if prior is None else told(prior, space, task)
    anything = prior is not None or bool(believed.any())
    head = PriorHead(space, task, strength=strength if anything else 0.0)
    head.believe(believed)
    model = ConceptModel(features, Grounded(features.dim, space, c=c), head, space, task)
    how = dict[str, Any](lr=lr, epochs=epochs, batch_size=batch_size, patience=patience)
    known = Believed(tuple(dict.fromkeys(c for row in (prior or {}).values() for c in row)), anything)
    return Plan(model, [known, Solve("bottleneck"), Keep(Best(most)), OnValues(losses.task, name="head", **how)])


def told(prior: dict[str, dict[str, int]], space: ConceptSpace, task: Task) -> Tensor:
    """(Y, K) the prior of the concepts in the space; those that a fit dropped are passed over (``Believed`` looks before)."""
    made = torch.zeros(task.width, len(space))
    for name, row in prior.items():
        if name not in task.names:
            raise unknown("class of the prior", name, task.names)
        for concept, value in row.items():
            if value not in (-1, 0, 1):
                raise OptionError(f"prior of {name!r}, {concept!r}: expected -1, 0 or 1, got {value!r}")
            if concept in space.names:
                made[task.names.index(name), space.columns_of([space.index(concept)])] = float(value)
    return made
