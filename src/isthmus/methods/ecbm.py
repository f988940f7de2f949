"""Energy-based concept bottleneck: one joint energy of input, concepts and class, of which every answer is a conditional.

Xu et al. 2024, Energy-Based Concept Bottleneck Models, ICLR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from isthmus import losses
from isthmus.bottlenecks.energy import EnergyBottleneck
from isthmus.errors import DataError, OptionError
from isthmus.given import Batch, everything
from isthmus.heads.energy import EnergyHead
from isthmus.model import ConceptModel, Output
from isthmus.registry import Card, Count, Rate, Share, Weight, Whole, method
from isthmus.solvers import Descent, MeanField, Weighing
from isthmus.space import ConceptSpace, Task
from isthmus.train import Learn, Plan

MOST = 4096  # joint assignments of concepts that are listed one by one

CARD = Card(
    title="Energy-based concept bottleneck model",
    paper="Xu et al., Energy-Based Concept Bottleneck Models, ICLR 2024, arXiv 2401.14142",
    year=2024,
    family="energy",
    code="xmed-lab/ECBM (MIT)",
    kinds=("binary", "categorical"),
    tasks=("classes",),
    exempt={5: "E(x, y) reads the class from the features, beside the concepts; its weight is an option"},
    tune={"lr": (1e-3, 3e-3)},
    notes="Not sealed. E(c, y) learns against other concepts as well as other classes, which we take for the paper's p(c, y), "
    "from memory; the authors' code has other classes alone, which leaves open what goes with what: no correction then "
    "mends another concept. Default inference is mean field, the paper's descent an option. Under a correction every "
    "factor has weight 1, as in the paper's joint energy; their code has 3 for E(c, y), 0 for the rest, and selects hard, "
    "which moves no other concept. Also unlike their code: each row stops by itself, on its own energy; one index "
    "convention, 0 absent and 1 present; unit embeddings in training and inference; weights stay fractions. Ours: "
    "categorical concepts; unknown labels enter E(c, y) as predicted; Adam with early stopping. Corrections cost the "
    "others accuracy on a small real set and where no class fixes concepts and few are told (claims: neighbours, energy).",
)


@method(CARD)
def ecbm(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    inference: Literal["mean field", "descent"] = "mean field",
    selection: Literal["soft", "hard"] = "soft",
    width: Whole = 512,
    dropout: Share = 0.2,
    flipped: Share = 0.2,
    class_weight: Weight = 3.0,
    concept_weight: Weight = 1.0,
    joint_weight: Weight = 1.0,
    xy: Weight = 1.0,
    xc: Weight = 1.0,
    cy: Weight = 0.01,
    corrected_xy: Weight = 1.0,
    corrected_cy: Weight = 1.0,
    lr: Rate = 1e-3,
    weight_decay: Weight = 4e-5,
    epochs: Whole = 300,
    batch_size: Whole = 64,
    patience: Count = 15,
) -> Plan:
    """Sizes, ``flipped`` negatives and the training weights 3, 1, 1 of E(x, y), E(x, c), E(c, y) are the authors' settings.

    ``xy``, ``xc`` and ``cy`` weigh the energies in prediction; in a row where a concept is given, ``corrected_xy`` and
    ``corrected_cy`` take the place of two (the authors' code: 0 and 3, and 0 for E(x, c)). ``inference='descent'`` is the
    paper's, with ``selection='hard'`` as in its code.
    """
    if inference == "mean field" and selection == "hard":
        raise OptionError("ecbm: mean field takes concepts by their probability; selection='hard' needs inference='descent'")
    weighing = Weighing((xy, xc, cy), (corrected_xy, xc, corrected_cy))
    solver = MeanField(weighing) if inference == "mean field" else Descent(weighing, selection)
    bottleneck = EnergyBottleneck(features.dim, space, width, dropout, flipped)
    model = ConceptModel(features, bottleneck, EnergyHead(features.dim, task, width, dropout), space, task, solver)
    learn = LearnEnergies(
        Energies(class_weight, concept_weight, joint_weight),
        given=everything,
        lr=lr,
        weight_decay=weight_decay,
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        name="energies",
    )
    return Plan(model, [learn])


@dataclass(slots=True)
class TwoAnswers(Output):
    """One pass while learning: ``logits`` (B, Y) are -E(x, y) alone, ``implied`` (B, Y) are -E(c, y).

    ``others`` (B, Y) are -E(c', y) of concepts c' that do not belong together.
    """

    implied: Tensor
    others: Tensor


@dataclass(frozen=True)
class LearnEnergies(Learn):
    """``Learn`` with both energies of the class kept apart, as the loss takes them."""

    def forward(self, model: ConceptModel, batch: Batch, validating: bool = False) -> Output:
        out, (part, head) = super().forward(model, batch, validating), _parts(model)
        assert out.concepts.vectors is not None
        mixed = part.apart(out.concepts.values, torch.Generator().manual_seed(0) if validating else None)
        others = head.implied(part.together(mixed, *part.table()))
        return TwoAnswers(out.concepts, head.seen(out.features), out.features, head.implied(out.concepts.vectors[:, 0]), others)


@dataclass(frozen=True)
class Energies:
    """a CE(-E(x, y)) + b sum_k CE(-E(x, c_k)) + g CE(-E(c, y)), each energy's cross-entropy.

    The last is over pairs: (c, y) of the row against c with every class and the batch's ``others`` (which a batch of one row
    has none of) with every class. The concepts' term is the mean over known labels times M: the paper's
    sum, where every label is known.
    """

    xy: float = 3.0
    xc: float = 1.0
    cy: float = 1.0

    def __call__(self, out: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
        seen = losses.task(out, batch, task)["task"]
        both = cast("TwoAnswers", out)
        others = both.others.flatten().logsumexp(0).expand(len(both.implied), 1)
        pairs = Output(out.concepts, torch.cat([both.implied, others], 1), out.features)
        implied = losses.task(pairs, batch, task)["task"]
        concept = losses.concept(out, batch, task)["concept"] * batch.space.count
        return {"task": self.xy * seen, "concept": self.xc * concept, "joint": self.cy * implied}


# what the energies say without inference: conditionals, by listing every assignment of the concepts


@torch.no_grad()
def class_given_concepts(model: ConceptModel, c: Tensor) -> Tensor:
    """p(y | c), (B, Y), for concepts c (B, K) in concept units: the softmax of -E(c, y)."""
    part, head = _parts(model)
    table, base = part.table()
    return head.implied(c.to(base) @ table + base).softmax(-1)


@torch.no_grad()
def joint(model: ConceptModel, x: Any, given: dict[str, Any] | None = None) -> tuple[Tensor, Tensor]:
    """Every assignment of the concepts (N, K), and p(c, y | what is given) (N, Y), over the rows x.

    p(c, y) is the mean over rows of prod_k p(c_k | x), times p(y | c). ``given`` by name as in ``isthmus.given``, but 0, 1 or a
    state alone. Raises ``DataError`` for soft values and above 4,096 assignments.
    """
    from isthmus.given import given as told

    part, space = _parts(model)[0], model.space
    count = 1
    for concept in space.concepts:
        count *= max(concept.width, 2)
    if count > MOST:
        raise DataError(f"concepts: expected at most {MOST} joint assignments to list, got {count}; keep fewer concepts")
    states = [torch.arange(max(concept.width, 2)) for concept in space.concepts]
    every = space.encode(torch.cartesian_prod(*states).view(-1, space.count)).to(model.device)
    p = space.activate(part.logits(model.encode(x)).double())  # (B, K)
    binary = part.binary().double()
    log_p, log_not = p.clamp(min=1e-300).log(), ((1 - p).clamp(min=1e-300).log() * binary)
    rows = every.double() @ log_p.T + (1 - every.double()) @ log_not.T  # (N, B)
    log_c = rows.logsumexp(1)
    if given:
        known = told(space, given).to(model.device)
        soft = known.mask & (known.values != 0) & (known.values != 1)
        if bool(soft.any()):
            name, value = space.columns[int(soft.nonzero()[0, 1])], known.values[soft][0].item()
            raise DataError(f"given {name!r}: expected 0, 1 or a state, got {value:g}; soft values are not taken, round it")
        fits = ((every == known.values) | ~known.mask).all(-1)
        log_c = log_c.masked_fill(~fits, -torch.inf)
    return every, log_c.softmax(0)[:, None] * class_given_concepts(model, every).double()


def concepts_given_class(model: ConceptModel, x: Any, given: dict[str, Any] | None = None) -> Tensor:
    """(Y, K) p(c_k = 1 | y), or p(c_k = 1 | y, what is given), over the rows x."""
    every, p = joint(model, x, given)
    return (p.T @ every.double()) / p.sum(0)[:, None]


def concepts_given_concepts(model: ConceptModel, x: Any, given: dict[str, Any]) -> Tensor:
    """(K,) p(c_k = 1 | what is given) over the rows x, every class allowed."""
    every, p = joint(model, x, given)
    return p.sum(1) @ every.double()


def _parts(model: ConceptModel) -> tuple[EnergyBottleneck, EnergyHead]:
    return cast("EnergyBottleneck", model.bottleneck), cast("EnergyHead", model.head)
