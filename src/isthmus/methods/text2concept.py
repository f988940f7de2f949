"""Concepts in words on any frozen backbone: its features are taken to a text space, similarities are the bottleneck.

Moayeri et al. 2023, Text-To-Concept (and Back) via Cross-Model Alignment, ICML, sections 3 and 4; Yan et al. 2023, Robust and
Interpretable Medical Image Classifiers via Concept Bottleneck Models; Menon and Vondrick 2023, Classification via Description.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from isthmus import losses
from isthmus.bottlenecks.directions import Directions
from isthmus.errors import OptionError
from isthmus.heads.association import OwnedHead
from isthmus.heads.linear import LinearHead
from isthmus.model import ConceptModel
from isthmus.registry import Card, Count, Rate, Weight, Whole, method
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.stages import OnValues
from isthmus.train import Fold, Plan, Solve

TUNE: dict[str, tuple[Any, ...]] = {"lr": (1e-2, 1e-1, 1e-3), "weight_decay": (0.0, 4e-5)}


DEMOGRAPHIC = (
    *("man", "men", "woman", "women", "boy", "girl", "male", "female", "child", "children", "infant", "adult", "elderly"),
    *("age", "aged", "years old", "young patient", "old patient", "gender", "sex", "racial", "ethnicity", "skin colour"),
    *("skin color", "hospital", "scanner", "portable device", "portable", "ruler", "skin marker", "view position"),
)  # words that name a person or a machine, not a sign of disease; our list, the paper's is not known


def banned_in(concept: Concept, banned: tuple[str, ...]) -> bool:
    """Does the concept's text hold one of the words, as whole words or in a plural with s or es?"""
    text = re.sub(r"[^a-z0-9]+", " ", (concept.text or concept.name).lower())
    return any(re.search(rf"\b{re.escape(word)}(?:s|es)?\b", text) for word in banned)


@dataclass(frozen=True)
class Dropped:
    """Write into the history which concepts were struck off."""

    names: tuple[str, ...]

    def __call__(self, model: ConceptModel, data: Fold) -> None:
        told = ", ".join(map(repr, self.names[:10])) + (" ..." if len(self.names) > 10 else "")
        note = f"{len(self.names)} concepts that name a person or a device were left out: {told}"
        model.history.append({"stage": "banned", "dropped": list(self.names), "note": note})


def _probed(features: Any, space: ConceptSpace, task: Task, standard: bool, how: dict[str, Any]) -> Plan:
    part = Directions(features.dim, space, shared=getattr(features, "shared", None), cosine=True, standard=standard)
    model = ConceptModel(features, part, LinearHead(space, task), space, task)
    return Plan(model, [Solve("bottleneck"), OnValues(losses.task, name="head", **how)])


@method(
    Card(
        title="Text-to-concept",
        paper="Moayeri et al., Text-To-Concept (and Back) via Cross-Model Alignment, ICML 2023, arXiv 2305.06386",
        year=2023,
        family="language",
        code="k1rezaei/Text-to-concept (non-commercial, not read into this)",
        needs=("vectors",),
        kinds=("binary",),
        tasks=("classes", "labels", "value"),
        tune=TUNE,
        notes="The map is closed-form ridge (features 'aligned'), where the code takes gradient steps and rescales its bias by "
        "c_s/c_t instead of 1/c_t. Similarities have a large common part in every space: the head sees them centred by "
        "training means and in training deviations, which changes no decision a linear head can reach. Words are embedded as "
        "they are, where the paper averages templates ('a photo of ...').",
    )
)
def text2concept(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    lr: Rate = 1e-2,
    weight_decay: Weight = 0.0,
    epochs: Whole = 100,
    batch_size: Whole = 64,
    patience: Count = 15,
) -> Plan:
    """cos(W z + b, text) for each concept, then a linear head; no concept is labelled and no backbone trained."""
    how = dict[str, Any](lr=lr, weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, patience=patience)
    return _probed(features, space, task, True, how)


@method(
    Card(
        title="Zero-shot classification by description",
        paper="Menon and Vondrick, Visual Classification via Description from Large Language Models, ICLR 2023",
        year=2023,
        family="language",
        needs=("vectors", "owners"),
        kinds=("binary",),
        tasks=("classes",),
        zero_shot=True,
        notes="No label is used but to read how far scores spread, for corrections. A class scores the mean cosine of its own "
        "descriptors; one that has none is never answered.",
    )
)
def describe(features: Any, space: ConceptSpace, task: Task, *, scale: Rate = 100.0) -> Plan:
    """Cosines with descriptors, averaged over each class's own. ``scale`` multiplies the mean (CLIP's; it decides nothing)."""
    return _owned(features, space, task, scale)


@method(
    Card(
        title="Zero-shot classification by name",
        paper="Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, section 3.1",
        year=2021,
        family="language",
        needs=("class_vectors",),
        tasks=("classes",),
        zero_shot=True,
        notes="The texts of the class names are its concepts, one for each class; nothing is learnt here. On aligned features "
        "it is the zero-shot classifier of Text-to-concept, but where the map was fitted on training rows of the same classes "
        "(compare does) it has seen them, and the row's name says so; unseen (--unseen) keeps classes from the map. Names are "
        "embedded as they are, not averaged over the paper's 80 templates.",
    )
)
def zeroshot(
    features: Any, space: ConceptSpace, task: Task, *, class_vectors: Tensor | None = None, scale: Rate = 100.0
) -> Plan:
    """The class whose name is nearest, by cosine; ``class_vectors`` (Y, d) are texts of the names."""
    names = tuple(Concept(name, owner=name, text=name) for name in task.names)
    made = _owned(features, ConceptSpace(names, class_vectors), task, scale)
    return made if class_vectors is not None else Plan(made.model, [nameless, *made.stages])


def nameless(model: ConceptModel, data: Fold) -> None:
    """Refuse to fit without the texts of the class names; a saved model is read back without them."""
    raise OptionError("zeroshot: expected class_vectors, the text embeddings of the class names; set it")


def _owned(features: Any, space: ConceptSpace, task: Task, scale: float) -> Plan:
    part = Directions(features.dim, space, shared=getattr(features, "shared", None), cosine=True, standard=False)
    head = OwnedHead(space, task, pool="mean", scale=scale)
    return Plan(ConceptModel(features, part, head, space, task), [Solve("bottleneck")])


@method(
    Card(
        title="Robust medical concept bottleneck",
        paper="Yan et al., Robust and Interpretable Medical Image Classifiers via Concept Bottleneck Models, arXiv 2310.03182",
        year=2023,
        family="language",
        needs=("vectors",),
        kinds=("binary",),
        tasks=("classes", "labels"),
        tune=TUNE,
        notes="From the abstract and later work of the group: no code is public, and encoder, optimiser and number of concepts "
        "are not known here. Clinical texts, a medical vision-language encoder's similarities standardised on train, a linear "
        "head. The same model as text2concept on other features and words, apart from words that name the confounder, which "
        "it drops (our list, in English; the history names them): with one list and one encoder the two rows agree.",
    )
)
def medical(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    banned: tuple[str, ...] = DEMOGRAPHIC,
    lr: Rate = 1e-2,
    weight_decay: Weight = 0.0,
    epochs: Whole = 100,
    batch_size: Whole = 64,
    patience: Count = 15,
) -> Plan:
    """Standardised similarities and a linear head; concepts that hold a ``banned`` word (who, or which device) are out."""
    told = [i for i, concept in enumerate(space.concepts) if not banned_in(concept, banned)]
    if not told:
        raise OptionError("medical: every concept names a person or a device; write clinical signs, or set banned=()")
    kept = space if len(told) == space.count else space.keep(told)
    how = dict[str, Any](lr=lr, weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, patience=patience)
    made = _probed(features, kept, task, True, how)
    gone = tuple(concept.name for concept in space.concepts if banned_in(concept, banned))
    return Plan(made.model, [Dropped(gone), *made.stages]) if gone else made
