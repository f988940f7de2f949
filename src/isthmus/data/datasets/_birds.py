"""CUB-200-2011: its attributes and parts, the 112 attributes of the concept bottleneck papers, and their vote.

Wah et al. 2011 (data); Koh et al., ICML 2020 (the 112 attributes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from isthmus.data.datasets._files import Array
from isthmus.space import Concept, ConceptSpace

CANONICAL = (
    1, 4, 6, 7, 10, 14, 15, 20, 21, 23, 25, 29, 30, 35, 36, 38, 40, 44, 45, 50, 51, 53, 54, 56, 57, 59, 63, 64, 69, 70,
    72, 75, 80, 84, 90, 91, 93, 99, 101, 106, 110, 111, 116, 117, 119, 125, 126, 131, 132, 134, 145, 149, 151, 152, 153,
    157, 158, 163, 164, 168, 172, 178, 179, 181, 183, 187, 188, 193, 194, 196, 198, 202, 203, 208, 209, 211, 212, 213,
    218, 220, 221, 225, 235, 236, 238, 239, 240, 242, 243, 244, 249, 253, 254, 259, 260, 262, 268, 274, 277, 283, 289,
    292, 293, 294, 298, 299, 304, 305, 308, 309, 310, 311,
)  # fmt: skip
"""Zero-based rows of attributes.txt: what the vote with ties to one keeps on the split of Koh et al."""

PARTS = (
    "back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg", "left wing", "nape", "right eye",
    "right leg", "right wing", "tail", "throat",
)  # fmt: skip
"""The 15 parts in the order of parts.txt."""

_BEAK, _WINGS, _TAIL, _EYES = ("beak",), ("left wing", "right wing"), ("tail",), ("left eye", "right eye")
PARTS_OF: dict[str, tuple[str, ...]] = {
    "has_bill_shape": _BEAK, "has_bill_length": _BEAK, "has_bill_color": _BEAK,
    "has_wing_color": _WINGS, "has_wing_shape": _WINGS, "has_wing_pattern": _WINGS,
    "has_upperparts_color": ("back", *_WINGS), "has_underparts_color": ("belly", "breast", "throat"),
    "has_breast_pattern": ("breast",), "has_breast_color": ("breast",),
    "has_back_color": ("back",), "has_back_pattern": ("back",),
    "has_tail_shape": _TAIL, "has_upper_tail_color": _TAIL, "has_under_tail_color": _TAIL, "has_tail_pattern": _TAIL,
    "has_head_pattern": ("crown", "forehead", *_EYES), "has_throat_color": ("throat",), "has_eye_color": _EYES,
    "has_forehead_color": ("forehead",), "has_nape_color": ("nape",), "has_crown_color": ("crown",),
    "has_belly_color": ("belly",), "has_belly_pattern": ("belly",), "has_leg_color": ("left leg", "right leg"),
}  # fmt: skip
"""The parts an attribute group can be seen on; size, shape and primary colour are of the whole bird and not in it."""

SOFT = np.array([[0.0, 0.5, 0.25, 0.0], [0.0, 0.5, 0.75, 1.0]], dtype=np.float32)
"""Soft label by (present, certainty - 1), certainty 1 not visible, 2 guessing, 3 probably, 4 definitely."""


def group_of(attribute: str) -> str:
    """'has_bill_shape::dagger' -> 'has_bill_shape'."""
    return attribute.split("::")[0]


def bird_space(attributes: Sequence[str]) -> ConceptSpace:
    """Binary concepts under their official names, with group, words, and the parts they are seen on.

    Groups are not one-hot: a class can hold several attributes of a group, or none.
    """
    return ConceptSpace(
        tuple(
            Concept(
                name,
                group=group_of(name),
                text=name.removeprefix("has_").replace("::", ": ").replace("_", " "),
                part=", ".join(PARTS_OF.get(group_of(name), ())) or None,
            )
            for name in attributes
        )
    )


def seen(attributes: Sequence[str], part_visible: Array) -> npt.NDArray[np.bool_]:
    """(B, M): whether any part that the attribute can be seen on is visible, from ``part_visible`` (B, 15)."""
    columns = [[PARTS.index(part) for part in PARTS_OF.get(group_of(name), ())] for name in attributes]
    whole = np.ones(len(part_visible), dtype=np.bool_)
    return np.stack([part_visible[:, at].astype(np.bool_).any(1) if at else whole for at in columns], axis=1)


def vote(
    present: Array, certainty: Array, y: Array, classes: int, *, tie: Literal["one", "zero"] = "one"
) -> npt.NDArray[np.int8]:
    """Class-level labels (Y, A) by majority over the images of each class; a class without images gets zeros.

    present (B, A) in {0, 1}, certainty (B, A) in 1 to 4, y (B,) in 0 to Y - 1. A vote is skipped only when it says
    'absent' because 'not visible' (certainty 1): an invisible positive still counts. ``tie`` decides equal counts.
    """
    counts = np.zeros((2, classes, present.shape[1]), dtype=np.int64)
    counted = (present == 0) & (certainty != 1)
    np.add.at(counts[0], y, counted.astype(np.int64))
    np.add.at(counts[1], y, (present == 1).astype(np.int64))
    won = counts[1] >= counts[0] if tie == "one" else counts[1] > counts[0]
    won[np.bincount(y, minlength=classes) == 0] = False
    return won.astype(np.int8)


def kept(class_level: Array, *, least_classes: int = 10) -> tuple[int, ...]:
    """Zero-based attributes that are 1 in at least ``least_classes`` rows of ``class_level`` (Y, A)."""
    return tuple(int(i) for i in np.flatnonzero(class_level.sum(0) >= least_classes))
