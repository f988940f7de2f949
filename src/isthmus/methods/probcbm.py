"""Probabilistic concept bottleneck: concepts are Gaussians near anchors, classes are nearest means; both say how sure.

Kim et al. 2023, Probabilistic Concept Bottleneck Models, ICML.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from isthmus import losses
from isthmus.bottlenecks.gaussian import GaussianBottleneck
from isthmus.given import Given, randomly
from isthmus.heads.prototype import PrototypeHead
from isthmus.model import ConceptModel
from isthmus.registry import Card, Count, Rate, Share, Weight, Whole, method
from isthmus.solvers import MonteCarlo
from isthmus.space import ConceptSpace, Task
from isthmus.train import Learn, Plan

CARD = Card(
    title="Probabilistic concept bottleneck model",
    paper="Kim et al., Probabilistic Concept Bottleneck Models, ICML 2023, arXiv 2306.01574",
    year=2023,
    family="embedding",
    code="ejkim47/prob-cbm (MIT)",
    kinds=("binary", "categorical"),
    tune={"lr": (1e-3, 1e-2)},
    notes="Sealed: with every concept given, the head sees anchors alone. Vector form: z stands for the one place that the "
    "paper's attention pools, so its two log-variance maps are one. Ours: an anchor for each state of a categorical concept; "
    "two means for each of several labels; soft corrections mix anchors. Adam and early stopping for AdamP, cosine and "
    "clipping. Batch statistics stand still in the class stage (the authors' drift), and a correction keeps the class scale "
    "(their code drops it). All rows share one stored bank of draws when sampling. Its uncertainty loses where it "
    "was tried (claims/probable_uncertainty): blur does not raise it, and the answer's entropy finds more wrong concepts. "
    "That of the class, a determinant, is NaN where fewer than 'hidden' of the concepts' numbers vary: below 8 concepts at "
    "the defaults (16 numbers each, hidden 128), and once fewer than 8 are left to correct.",
)


@method(CARD)
def probcbm(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    width: Whole = 16,
    hidden: Whole = 128,
    samples: Whole = 50,
    sampling: bool = False,
    kl: Weight = 5e-5,
    swap: Share = 0.5,
    lr: Rate = 1e-2,
    epochs: Whole = 50,
    head_epochs: Whole = 20,
    batch_size: Whole = 128,
    patience: Count = 15,
) -> Plan:
    """Concepts first, then the classes on them: the paper's sequential schedule, numbers from its section 4 and code.

    ``samples`` draws while learning and, with ``sampling``, while predicting (else at the means). ``swap`` is the chance
    that, for one row and draw of the class stage, all known concepts are their true anchors. ``lr`` is that of the
    paper's new layers (10 x 1e-3).
    """
    bottleneck = GaussianBottleneck(features.dim, space, width, samples, kl)
    head = PrototypeHead(space, task, width, hidden)
    model = ConceptModel(features, bottleneck, head, space, task, MonteCarlo(sampling, swap))
    how = dict[str, Any](lr=lr, batch_size=batch_size, patience=patience)
    concepts = Learn(losses.concept, ("features", "bottleneck"), epochs=epochs, name="concepts", **how)
    classes = Learn(losses.task, ("head",), given=randomly(1.0), epochs=head_epochs, through="solver", name="classes", **how)
    return Plan(model, [concepts, classes])


@torch.no_grad()
def uncertainty(model: ConceptModel, x: Any, given: Given | None = None) -> tuple[Tensor, Tensor]:
    """How unsure a fitted model is of each concept (B, M) and of the class (B,): variances, of at least 0; given = 0.

    The class's is NaN, not known, where some but fewer than ``hidden`` numbers vary: with ``width`` 16 and ``hidden`` 128
    (the paper's) that is below 8 concepts not given. It is 0 where every concept is given.
    """
    z = model.encode(x)
    bottleneck, head = cast("GaussianBottleneck", model.bottleneck), cast("PrototypeHead", model.head)
    return bottleneck.uncertainty(z, given), head.uncertainty(bottleneck.variance(z, given))
