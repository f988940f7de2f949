"""Post-hoc CBM: directions of concepts in a frozen backbone, then a sparse head; and PCBM-h, with a residual beside it.

Yuksekgonul, Wang, Zou 2023, Post-hoc Concept Bottleneck Models, ICLR, sections 2 and 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from isthmus import losses
from isthmus.bottlenecks.directions import Directions
from isthmus.errors import DataError, OptionError
from isthmus.given import Batch
from isthmus.heads.linear import LinearHead
from isthmus.heads.residual import ResidualHead
from isthmus.model import ConceptModel, Output
from isthmus.numerics import directions
from isthmus.registry import Card, Rate, Share, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.stages import Keep, Sparse
from isthmus.train import Fold, Learn, Plan, Stage, encode

PAPER = "Yuksekgonul et al., Post-hoc Concept Bottleneck Models, ICLR 2023, arXiv 2205.15480"
GRID = (0.001, 0.01, 0.1, 1.0, 10.0)  # the values of C that the authors' script fits, of which validation takes one

CARD = Card(
    title="Post-hoc concept bottleneck model",
    paper=PAPER,
    year=2023,
    family="post-hoc",
    code="mertyg/post-hoc-cbm (MIT)",
    needs=("concepts or vectors",),
    kinds=("binary",),
    tune={"strength": (2e-4, 1e-5), "l1_ratio": (0.99, 0.5)},
    notes="Concept vectors are support vector machines on sets of training rows with and without the concept, or the texts "
    "wherever concepts have vectors (bank='auto'; 'images' takes rows). Projections use raw, not normalised, features, as the "
    "paper. The head is one logistic regression for each class on the projections as they are, which its code fits by "
    "stochastic steps and this solves to a certificate; the paper divides the strength by concepts times classes (not checked "
    "against the text), which tuning covers. Its CUB test rows were resampled.",
)


def drawn(rows: Tensor, count: int) -> Tensor:
    """``count`` of the rows, without replacement; with it where they are fewer."""
    return rows[torch.randperm(len(rows))[:count] if len(rows) >= count else torch.randint(len(rows), (count,))]


@dataclass(frozen=True)
class Bank:
    """Concept activation vectors from training rows with and without each concept; C is chosen on validation rows.

    ``samples`` rows of each kind are drawn for a concept, without replacement (with, where there are fewer). A row whose label
    is unknown is in no set. Concepts that the rows show on one side only keep their vector: they are named in the history,
    which has None for the accuracy of one that validation rows show on one side only.
    """

    samples: int = 50
    c: float | None = None

    @torch.no_grad()
    def __call__(self, model: ConceptModel, data: Fold) -> None:
        part = model.bottleneck
        assert isinstance(part, Directions)
        (z, seen), (v, held) = (self.read(model, rows) for rows in (data.train, data.validation))
        both = ((seen == 1).any(0) & (seen == 0).any(0)).nonzero().flatten()
        if not len(both):
            raise DataError("pcbm: expected concepts that some training rows have and some have not, got none")
        rows = {kind: [drawn((seen[:, k] == kind).nonzero().flatten(), self.samples) for k in both] for kind in (1.0, 0.0)}
        examples = directions.sets(*(torch.stack([z[own] for own in rows[kind]]) for kind in (1.0, 0.0)))
        found = {c: directions.svm(examples, c=c) for c in (GRID if self.c is None else (self.c,))}
        scores = {c: self.accuracy(fit, v, held[:, both]) for c, fit in found.items()}
        best = max(scores, key=lambda c: (float(scores[c].nanmean().nan_to_num(0.0)), -c))
        length = found[best].weight.norm(dim=-1).clamp(min=1e-12)
        vectors, bias = part.rows.clone(), part.bias.clone()
        vectors[both] = found[best].weight / length[:, None]
        bias[both] = found[best].bias / length
        part.point(vectors, bias)
        part.spread(z, torch.zeros_like(bias))
        names = [model.space.columns[k] for k in range(len(model.space)) if k not in both.tolist()]
        told = [None if math.isnan(value) else value for value in scores[best].tolist()]
        accuracy = dict(zip((model.space.columns[k] for k in both.tolist()), told, strict=True))
        model.history.append({"stage": "concept vectors", "c": best, "known": accuracy, "one_sided": names})

    @staticmethod
    def read(model: ConceptModel, rows: Any) -> tuple[Tensor, Tensor]:
        """Features and labels, NaN where unknown."""
        batch: Batch = rows.batch(encode(model.features, rows, model.device))
        c = batch.labels().clone()
        if batch.known is not None:
            c[~batch.known] = torch.nan
        return torch.as_tensor(batch.x).float(), c.float()

    @staticmethod
    def accuracy(fit: directions.Directions, z: Tensor, c: Tensor) -> Tensor:
        """(C,) share of rows on the right side, the mean of both kinds of rows; NaN where one kind is missing."""
        right = (z @ fit.weight.T + fit.bias > 0) == (c > 0.5)
        sides = [(right & (c == kind)).sum(0) / (c == kind).sum(0) for kind in (0.0, 1.0)]
        return (sides[0] + sides[1]) / 2


@dataclass(frozen=True)
class Spread:
    """Read how far training rows spread along text directions."""

    @torch.no_grad()
    def __call__(self, model: ConceptModel, data: Fold) -> None:
        part = model.bottleneck
        assert isinstance(part, Directions)
        part.spread(encode(model.features, data.train, model.device).to(part.rows.device))


def best_known(gate: float) -> Keep:
    """Keep the concepts whose vector is right on at least ``gate`` of validation rows, and those that these cannot judge."""

    def choose(model: ConceptModel, data: Fold) -> list[int]:
        found: dict[str, float | None] = next(row for row in reversed(model.history) if "known" in row)["known"]
        right = [found.get(name, 0.0) for name in model.space.columns]
        return [k for k, value in enumerate(right) if value is None or value >= gate]

    return Keep(choose)


Source = Literal["auto", "images", "words"]


def _bank(features: Any, space: ConceptSpace, source: Source, samples: int, c: float | None, gate: float) -> Any:
    """The bottleneck and the stages that point it: texts where the space has vectors, else labelled rows."""
    words = space.vectors is not None if source == "auto" else source == "words"
    if words and space.vectors is None:
        raise OptionError("pcbm: bank='words' needs concepts with text vectors; embed them, or use bank='images'")
    shared = getattr(features, "shared", None) if words else None
    part = Directions(features.dim, space, shared=shared, standard=False, unit=words, pointed=words)
    if words:
        return part, [Spread()]
    return part, [Bank(samples, c), *([best_known(gate)] if gate else [])]


@method(CARD)
def pcbm(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    bank: Source = "auto",
    samples: Whole = 50,
    c: Rate | None = None,
    gate: Share = 0.0,
    strength: Rate = 2e-4,
    l1_ratio: Share = 0.99,
    family: Literal["ovr", "multinomial"] = "ovr",
    nec: Rate | None = None,
) -> Plan:
    """proj = (w . e + b) / |w| for each concept, then an elastic net; nothing of the backbone is trained.

    ``bank``: vectors from 'words' (unit texts in the features' text space), from 'images' (labelled rows; ``samples`` of each
    kind, 50 on Broden and Derm7pt, 100 on CUB; ``c`` of the machine, None = validation chooses), or 'auto'. ``gate`` drops
    concepts whose vector is right on a smaller share of validation rows (0 = keep all, as the paper). ``strength`` is the
    authors' alpha for CUB, ``family`` 'multinomial' another model. ``nec`` replaces strength by a number of concepts.
    """
    part, stages = _bank(features, space, bank, samples, c, gate)
    model = ConceptModel(features, part, LinearHead(space, task), space, task)
    return Plan(model, [*stages, Sparse(strength, nec, family, l1_ratio, scaled=False)])


@dataclass(frozen=True)
class Residual:
    """Cross-entropy, and ``l2`` times the mean square of the residual's weights (their code's mean, not a sum)."""

    model: ConceptModel
    l2: float

    def __call__(self, out: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
        side: Any = self.model.head
        return {**losses.task(out, batch, task), "residual": self.l2 * side.side.weight.square().mean()}


@method(
    Card(
        title="Post-hoc concept bottleneck with a residual",
        paper=PAPER + ", section 3 (PCBM-h)",
        year=2023,
        family="post-hoc",
        code="mertyg/post-hoc-cbm (MIT)",
        needs=("concepts or vectors",),
        kinds=("binary",),
        tune={"strength": (2e-4, 1e-5), "l2": (0.001, 0.01)},
        exempt={5: "a linear residual on the features passes beside the concepts; its share is the remainder bar"},
        notes="The bottleneck and its head are pcbm's and stay as they are; only the residual learns, with the mean (not the "
        "sum) of its squared weights. Edits reach the concepts' head only: the residual keeps a shortcut that was pruned.",
    )
)
def pcbm_h(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    bank: Source = "auto",
    samples: Whole = 50,
    c: Rate | None = None,
    gate: Share = 0.0,
    strength: Rate = 2e-4,
    l1_ratio: Share = 0.99,
    family: Literal["ovr", "multinomial"] = "ovr",
    nec: Rate | None = None,
    l2: Weight = 0.001,
    lr: Rate = 0.01,
    epochs: Whole = 20,
    batch_size: Whole = 64,
) -> Plan:
    """pcbm, then logits += residual . e learnt by Adam, all else frozen; the options from ``l2`` on are the residual's."""
    part, stages = _bank(features, space, bank, samples, c, gate)
    head = ResidualHead(LinearHead(space, task), features.dim, task)
    torch.nn.init.zeros_(head.side.weight)
    model = ConceptModel(features, part, head, space, task)
    learn: Stage = Learn(
        Residual(model, l2), ("head.side",), lr=lr, epochs=epochs, batch_size=batch_size, patience=0, name="residual"
    )
    return Plan(model, [*stages, Sparse(strength, nec, family, l1_ratio, scaled=False), learn])
