"""LaBo: phrases of a language model, chosen for each class by a submodular score, and a softmax association with classes.

Yang et al. 2023, Language in a Bottle, CVPR, section 3; He et al. 2025, V2C-CBM, AAAI, whose words come from images instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from isthmus import losses
from isthmus.bottlenecks.directions import Directions
from isthmus.errors import DataError
from isthmus.heads.association import AssociationHead, membership
from isthmus.model import ConceptModel
from isthmus.numerics import words
from isthmus.registry import Card, Count, Rate, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.stages import OnValues
from isthmus.train import Fold, Plan, Solve, encode

CLIP_SCALE = 1e7  # of the score, in the authors' configurations
Score = Literal["mi", "neg_entropy"]
Selector = Literal["submodular", "group_mi", "group_clip", "random", "none"]


@dataclass(frozen=True)
class Choose:
    """Keep ``each`` concepts of every class by a ``rule`` on training images; the head starts from who was chosen for whom.

    Only concepts written for a class are candidates for it, those of several for the first alone (``words.choose``); a class
    with no more than ``each`` keeps all.
    """

    rule: Selector
    each: int
    score: Score
    beta: float
    scale: float | None

    @torch.no_grad()
    def __call__(self, model: ConceptModel, data: Fold) -> None:
        part, head = model.bottleneck, model.head
        assert isinstance(part, Directions) and isinstance(head, AssociationHead)
        batch = data.train.batch(encode(model.features, data.train, model.device))
        owned = membership(model.space, model.task)
        if self.rule != "none":
            similarity = words.by_class(part.embed(torch.as_tensor(batch.x)), part.rows, batch.y, model.task.width)
            scale = self.scale
            if scale is None:  # the authors' where z is the text space and products are above 0, as CLIP's are
                clip = part.shared.map is None and bool((similarity > 0).all())
                scale = CLIP_SCALE if clip else words.unit_of(words.SCORES[self.score](similarity))
            chosen = words.choose(
                similarity, part.rows, owned, self.each, rule=self.rule, score=self.score, beta=self.beta, scale=scale
            )
            row = {"stage": "choice", "rule": self.rule, "score_scale": scale, "candidates": len(part.rows)}
            row["keeps_all"] = sum(map(len, chosen)) == int(owned.any(0).sum())  # there was nothing to choose
            row["shifted"] = float((similarity <= 0).float().mean())  # the share not above 0, for which all were shifted
            model.history.append(row)
            owned = taken(model, chosen)
        head.begin(owned)


@dataclass(frozen=True)
class Tokens:
    """V2C: each training image's ``near`` nearest words are counted for its class; the ``each`` most frequent are its own."""

    near: int
    each: int
    pool: int

    @torch.no_grad()
    def __call__(self, model: ConceptModel, data: Fold) -> None:
        part, head = model.bottleneck, model.head
        assert isinstance(part, Directions) and isinstance(head, AssociationHead)
        batch = data.train.batch(encode(model.features, data.train, model.device))
        e = part.embed(torch.as_tensor(batch.x))
        chosen = words.tokenised(e, part.rows, batch.y, model.task.width, near=self.near, each=self.each, pool=self.pool)
        head.begin(taken(model, chosen))


def taken(model: ConceptModel, chosen: list[list[int]]) -> Tensor:
    """Keep the concepts chosen for some class; (Y, kept) says which was chosen for which."""
    index = sorted({k for own in chosen for k in own})
    if not index:
        raise DataError("expected concepts for some class, none was chosen; give more words, or {class: [phrases]}")
    model.keep(index)
    owned = torch.zeros(model.task.width, len(index))
    for y, own in enumerate(chosen):
        owned[y, [index.index(k) for k in own]] = 1.0
    return owned


def _associated(features: Any, space: ConceptSpace, task: Task, scale: float, start: float) -> ConceptModel:
    part = Directions(features.dim, space, shared=getattr(features, "shared", None), standard=False)
    return ConceptModel(features, part, AssociationHead(space, task, scale=scale, start=start), space, task)


@method(
    Card(
        title="Language in a bottle (LaBo)",
        paper="Yang et al., Language in a Bottle, CVPR 2023, arXiv 2211.11158",
        year=2023,
        family="language",
        code="YueYANG1996/LaBo (no licence; nothing taken)",
        needs=("vectors", "owners"),
        kinds=("binary",),
        tasks=("classes",),
        tune={"beta": (1.0, 0.1, 10.0), "lr": (1e-2, 1e-3)},
        notes="Similarities are raw dot products, times 100, as its code has them. Its score is a mutual-information share, "
        "the paper's a negative entropy: score='mi' or 'neg_entropy'. Coverage is facility location on cosines, as the paper "
        "says; the code runs it on feature columns. beta and lr differ for each data set there: validation chooses here. On "
        "aligned features scores are scaled to coverage's size, not by 1e7, and where a similarity is not above 0 all are "
        "shifted until each is: the history says both, and whether a class had more phrases than it keeps (else beta decides "
        "nothing).",
    )
)
def labo(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    select: Selector = "submodular",
    each: Whole = 50,
    score: Score = "mi",
    beta: Weight = 1.0,
    score_scale: Weight | None = None,
    scale: Rate = 100.0,
    start: Rate = 1.0,
    lr: Rate = 1e-3,
    epochs: Whole = 1000,
    batch_size: Whole = 512,
    patience: Count = 50,
) -> Plan:
    """Choose ``each`` phrases a class, then logits = ``scale`` * x E' softmax(W)', with W from ``start`` on own phrases.

    ``score_scale`` multiplies the modular score and ``beta`` the coverage (the code's submodular_weights); None takes the
    code's 1e7 where features are raw CLIP products, all above 0, else one over the scores' median distance from their
    median: 1e7 leaves nothing to coverage there. lr and epochs of the paper differ by data set (1e-5 to 1e-3, 1,000 to 20,000).
    """
    model = _associated(features, space, task, scale, start)
    pick = Choose(select, each, score, beta, score_scale)
    learn = OnValues(losses.task, lr=lr, epochs=epochs, batch_size=batch_size, patience=patience, name="association")
    return Plan(model, [pick, Solve("bottleneck"), learn])


@method(
    Card(
        title="Vision-to-concept tokenizer (V2C-CBM)",
        paper="He et al., V2C-CBM: Building Concept Bottlenecks with Vision-to-Concept Tokenizer, AAAI 2025",
        year=2025,
        family="language",
        code="riverback/V2C-CBM (no licence; nothing taken; its classifier is not released)",
        needs=("vectors",),
        kinds=("binary",),
        tasks=("classes",),
        tune={"lr": (1e-2, 1e-3)},
        notes="Words come from a common vocabulary and are found in images; no language model is asked. The vocabulary, the "
        "classifier's settings and its start are not published: LaBo's head, started from the words' classes. Training images "
        "stand for the unlabelled pool. Words are embedded as they are, where the paper averages 86 prompts without dividing "
        "by the length. Ties go to the lower index.",
    )
)
def v2c(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    near: Whole = 5,
    each: Whole = 50,
    pool: Whole = 500,
    scale: Rate = 100.0,
    start: Rate = 1.0,
    lr: Rate = 1e-3,
    epochs: Whole = 1000,
    batch_size: Whole = 512,
    patience: Count = 50,
) -> Plan:
    """The ``each`` words that are most often among the ``near`` nearest of a class's images, then LaBo's head.

    Each class counts the ``pool`` images nearest to its mean image, of all training rows, labels aside (the paper's 500).
    """
    model = _associated(features, space, task, scale, start)
    learn = OnValues(losses.task, lr=lr, epochs=epochs, batch_size=batch_size, patience=patience, name="association")
    return Plan(model, [Tokens(near, each, pool), Solve("bottleneck"), learn])
