"""CUB, 100 of its 200 species, packed: 5,902 bird crops with the 112 class-level concepts; Wah et al. 2011.

Concepts as in Koh et al., ICML 2020. The whole pipeline from the raw files is data set 'cub'.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from isthmus.data.datasets._birds import bird_space, seen
from isthmus.data.datasets._files import choose, features, packed, pictures, read_npz
from isthmus.data.datasets._splits import named, official
from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.space import Task

CARD = DataCard(
    name="cub100",
    title="CUB-200-2011, 100 species, bird crops",
    licence="none; non-commercial research and education (from memory)",
    source="Caltech-UCSD Birds-200-2011, crops of github.com/serizba/vision",
    terms="non-commercial research and education only; do not redistribute",
    citation="Wah et al.: Caltech-UCSD Birds-200-2011; Koh et al.: Concept bottleneck models, ICML 2020",
    notes="Concept labels are class-level: every picture of a species carries the same 112, so a concept and its class "
    "cannot be told apart by looking. Not comparable with tables over 200 species. Official train and test rows. "
    "The bird features come from an encoder trained on birds and are biased (demo only).",
    share="research",
)
FEATURES = {"mobilenetv2": "features/cub_100cls_mnv2.npz", "birds": "features/cub_100cls_birdnet.npz"}


@dataset("cub100", summary="5,902 bird crops of 100 species, 112 class-level concepts in 28 groups (research)")
def cub100(
    *,
    path: str | Path | None = None,
    invisible: Literal["keep", "unknown", "unaskable"] = "keep",
    inputs: Literal["images", "mobilenetv2", "birds"] = "images",
    size: int | None = None,
    validation: float = 0.15,
    seed: int = 0,
) -> Splits:
    """Bird crops with 112 binary concepts (K = M = 112); ``validation`` of the training rows held out by ``seed``.

    invisible: what becomes of a concept none of whose parts is visible in the picture: 'keep' the class's label, make
    it 'unknown' (NaN), or keep it but mark it 'unaskable' (``askable`` False). inputs: 'images' = lazy uint8 (B, 3,
    144, 144), or ``size`` px; 'mobilenetv2' and 'birds' = packed features (B, 1280).
    """
    choose("cub100", "invisible", invisible, ("keep", "unknown", "unaskable"))
    choose("cub100", "inputs", inputs, ("images", *FEATURES))
    keys = (
        "buf",
        "off",
        "y",
        "class_names",
        "split",
        "cub_filename",
        "part_visible",
        "class_concepts",
        "concept_names",
    )
    arrays = read_npz(packed(path, "cub100", "images/cub_100cls.npz", CARD.source), "cub100", keys)
    names = [str(name) for name in arrays["concept_names"]]
    y = torch.from_numpy(arrays["y"]).long()
    c = torch.from_numpy(arrays["class_concepts"]).float()[y]
    visible = torch.from_numpy(seen(names, arrays["part_visible"]))
    if invisible == "unknown":
        c = c.masked_fill(~visible, float("nan"))
    x: Any = pictures(arrays, "cub100", size)
    if inputs in FEATURES:
        x = torch.from_numpy(features(packed(path, "cub100", FEATURES[inputs], CARD.source), "cub100", len(y)))
    table = Table(
        x,
        c=c,
        y=y,
        space=bird_space(names),
        task=Task.classes(str(name) for name in arrays["class_names"]),
        askable=visible if invisible == "unaskable" else None,
        ids=[str(name) for name in arrays["cub_filename"]],
    )
    marks = named(arrays["split"], "cub100")
    return official(table, marks, name="cub100", card=CARD, validation=validation, seed=seed)
