"""Sprites: 900 clips of 8 frames of a walking, casting or slashing figure; 4 factors of 6 values each.

Li and Mandt, ICML 2018 (the data set's form); sheets of the Liberated Pixel Cup.
"""

from __future__ import annotations

from pathlib import Path

import torch

from isthmus.data.datasets._files import packed, read_npz
from isthmus.data.datasets._splits import draw, official
from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.space import Concept, ConceptSpace, Task

CARD = DataCard(
    name="sprites_video",
    title="Sprites: short clips of a figure with four factors",
    licence="CC BY-SA 3.0 and GPL-3.0",
    source="github.com/YingzhenLi/Sprites, sheets of the Liberated Pixel Cup",
    terms="share alike: keep the attribution and the licence with any copy",
    citation="Li, Mandt: Disentangled sequential autoencoder, ICML 2018",
    notes="100 figures, each in all 9 classes: the four factors say nothing about the class by construction; pass "
    "motion=True for two concepts (action, view) that settle it.",
    share="share-alike",
)


@dataset("sprites_video", summary="900 clips of 8 frames, 4 factors of 6 values, 9 actions by view (CC BY-SA)")
def sprites_video(*, path: str | Path | None = None, motion: bool = False, seed: int = 0) -> Splits:
    """Clips, uint8 (B, 8, 3, 64, 64), frame by frame; class = action and view.

    Concepts: body, bottomwear, topwear, hair, each categorical with states '0' to '5' (K = 24); ``motion`` adds action
    and view (K = 30). Split by ``seed``; the nine clips of a figure are one group and stay in one split.
    """
    keys = ("x", "attributes", "y", "class_names", "attribute_names")
    arrays = read_npz(packed(path, "sprites_video", "images/sprites_video.npz", CARD.source), "sprites_video", keys)
    classes = [str(name) for name in arrays["class_names"]]
    values = torch.from_numpy(arrays["attributes"]).float()
    concepts = [
        Concept(str(name), "categorical", tuple(map(str, range(6))), group="figure") for name in arrays["attribute_names"]
    ]
    y = torch.from_numpy(arrays["y"]).long()
    if motion:
        for position, name in enumerate(("action", "view")):
            of_class = [label.split("_")[position] for label in classes]
            states = tuple(dict.fromkeys(of_class))
            concepts.append(Concept(name, "categorical", states, group="motion"))
            code = torch.tensor([states.index(state) for state in of_class])[y]
            values = torch.cat([values, code[:, None].float()], 1)
    space, task = ConceptSpace(tuple(concepts)), Task.classes(classes)
    figures = ["-".join(str(value) for value in row) for row in arrays["attributes"].tolist()]
    table = Table(
        torch.from_numpy(arrays["x"]).permute(0, 1, 4, 2, 3).contiguous(),
        c=space.encode(values),
        y=y,
        space=space,
        task=task,
        group=figures,
        ids=[f"{figure} {classes[cls]}" for figure, cls in zip(figures, y.tolist(), strict=True)],
    )
    return official(table, draw(y, task, seed=seed, group=figures), name="sprites_video", card=CARD)
