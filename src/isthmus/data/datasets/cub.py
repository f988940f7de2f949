"""CUB-200-2011 from its raw files: 11,788 birds of 200 species, 312 attributes, with the concept pipeline.

Wah et al. 2011 (data); Koh et al., ICML 2020 (majority vote, 112 attributes, 28 groups).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from isthmus.data.datasets._birds import CANONICAL, PARTS, PARTS_OF, SOFT, bird_space, group_of, kept, vote
from isthmus.data.datasets._crops import Crops, all_there
from isthmus.data.datasets._cub_raw import LAYOUT, Cub, read_boxes, read_cub, read_parts
from isthmus.data.datasets._files import Array, choose, raw_root
from isthmus.data.datasets._splits import hold_out, official
from isthmus.data.registry import dataset
from isthmus.data.rows import Images
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import DataError
from isthmus.space import Task

CARD = DataCard(
    name="cub",
    title="Caltech-UCSD Birds-200-2011",
    licence="none; non-commercial research and education (from memory)",
    source="https://data.caltech.edu/records/65de6-vp158",
    terms="non-commercial research and education only; do not redistribute",
    citation="Wah et al.: Caltech-UCSD Birds-200-2011; Koh et al.: Concept bottleneck models, ICML 2020",
    notes="Class-level labels are the same for every picture of a species: localisation and correction then speak of "
    "the species, not the picture. Groups are not one-hot. Some lines of image_attribute_labels.txt have a column "
    "too many.",
    share="research",
)


@dataset("cub", summary="CUB-200-2011 from its raw files: 200 bird species, 112 of 312 attributes (research)")
def cub(
    *,
    path: str | Path | None = None,
    attributes: Literal["canonical", "vote", "all"] = "canonical",
    labels: Literal["class", "instance", "soft"] = "class",
    tie: Literal["one", "zero"] = "one",
    least_classes: int = 10,
    invisible: Literal["keep", "zero", "unknown", "unaskable"] = "keep",
    crop: Literal["full", "bird"] = "full",
    size: int = 224,
    where: bool = False,
    radius: float = 0.1,
    validation: float = 0.2,
    seed: int = 0,
) -> Splits:
    """Birds, lazy uint8 (B, 3, size, size); official test rows, ``validation`` of the training rows by ``seed``.

    attributes: 'canonical' = the 112 of the papers; 'vote' = those that the vote gives to at least ``least_classes``
    species; 'all' = 312. labels: 'class' = majority over the training pictures of the species (after the validation
    cut; equal counts go to ``tie``; an 'absent' that is 'not visible' has no vote); 'instance' = what was said of this
    picture; 'soft' = the same by certainty (present: not visible 0, guessing .5, probably .75, definitely 1; absent: 0,
    .5, .25, 0). invisible: what becomes of labels 'not visible' in this picture: 'keep', 'zero', 'unknown' (NaN), or
    'unaskable'. crop: the whole picture, or the bird's box. where: boxes of the parts a present attribute is seen on,
    reaching ``radius`` x the longer side of the bird around them (0 = points), in pixels of the resized picture;
    whole-bird attributes have the bird's box; NaN where the attribute is absent or no part visible.
    """
    choose("cub", "attributes", attributes, ("canonical", "vote", "all"))
    choose("cub", "labels", labels, ("class", "instance", "soft"))
    choose("cub", "tie", tie, ("one", "zero"))
    choose("cub", "invisible", invisible, ("keep", "zero", "unknown", "unaskable"))
    choose("cub", "crop", crop, ("full", "bird"))
    raw = read_cub(raw_root(path, LAYOUT))
    paths = all_there(raw.files, raw.root / "images", raw.root, LAYOUT)
    y = torch.from_numpy(raw.y)
    marks = hold_out(np.where(raw.train, "train", "test"), y, share=validation, seed=seed)
    at = (marks == "train").nonzero()[0]
    by_class = vote(raw.present[at], raw.certainty[at], raw.y[at], len(raw.species), tie=tie)
    index = list(_selected(raw, by_class, attributes, least_classes))
    space = bird_space([raw.attributes[i] for i in index])
    c, visible = _concepts(raw, by_class, index, labels), torch.from_numpy(raw.certainty[:, index] != 1)
    if invisible in ("zero", "unknown"):
        c = c.masked_fill(~visible, 0.0 if invisible == "zero" else float("nan"))
    frame = _frame(raw, paths, crop) if where or crop == "bird" else np.zeros((len(y), 4), dtype=np.int64)
    table = Table(
        Crops(paths, torch.from_numpy(frame), size=size) if crop == "bird" else Images(paths, size=size),
        c=c,
        y=y,
        space=space,
        task=Task.classes(raw.species),
        where=_places(raw, [group_of(name) for name in space.names], frame, size, radius, c) if where else None,
        askable=visible if invisible == "unaskable" else None,
        ids=raw.files,
    )
    return official(table, marks, name="cub", card=CARD)


def _selected(raw: Cub, by_class: Array, attributes: str, least_classes: int) -> tuple[int, ...]:
    if attributes == "canonical":
        if len(raw.attributes) <= max(CANONICAL):
            raise DataError(
                f"cub: {raw.root}: expected 312 attributes for attributes='canonical', got {len(raw.attributes)}; "
                "pass attributes='vote' or 'all'"
            )
        return CANONICAL
    index = tuple(range(len(raw.attributes))) if attributes == "all" else kept(by_class, least_classes=least_classes)
    if not index:
        raise DataError(f"cub: expected attributes present in at least {least_classes} species, got none; lower least_classes")
    return index


def _concepts(raw: Cub, by_class: Array, index: list[int], labels: str) -> Tensor:
    """(B, K) float32 of the chosen attributes."""
    if labels == "class":
        return torch.from_numpy(by_class[raw.y][:, index]).float()
    present, certainty = raw.present[:, index], raw.certainty[:, index]
    return torch.from_numpy(SOFT[present, certainty - 1] if labels == "soft" else present).float()


def _frame(raw: Cub, paths: list[Path], crop: str) -> Array:
    """(B, 4) int64: the part of each picture, x0, y0, x1, y1 in its own pixels, that becomes the square x."""
    from PIL import Image

    if crop == "bird":
        boxes = read_boxes(raw.root, raw.ids)
        return np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).astype(np.int64)
    found: list[tuple[int, int, int, int]] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                found.append((0, 0, *image.size))
        except (OSError, SyntaxError) as error:
            raise DataError(f"{path}: expected a readable image, got {str(error)[:80]!r}; fetch it again") from error
    return np.array(found, dtype=np.int64)


def _places(raw: Cub, groups: list[str], frame: Array, size: int, radius: float, c: Tensor) -> Tensor:
    """(B, K, 4) float32 boxes in pixels of the square x, NaN where there is nothing to see."""
    birds, parts = read_boxes(raw.root, raw.ids), read_parts(raw.root, raw.ids)
    spots = np.where(parts[..., 2:] > 0, parts[..., :2], np.nan)
    reach = radius * (birds[:, 2:] - birds[:, :2]).max(1, keepdims=True)
    shift, scale = frame[:, None, :2], size / (frame[:, 2:] - frame[:, :2])[:, None]
    of_group: dict[str, Array] = {}
    for group in dict.fromkeys(groups):
        box = birds
        if group in PARTS_OF:
            mine = spots[:, [PARTS.index(part) for part in PARTS_OF[group]]]
            # fmin and fmax pass over the parts that are not visible
            box = np.concatenate([np.fmin.reduce(mine, 1) - reach, np.fmax.reduce(mine, 1) + reach], 1)
        of_group[group] = np.clip((box.reshape(-1, 2, 2) - shift) * scale, 0, size).reshape(-1, 4)
    boxes = torch.from_numpy(np.stack([of_group[group] for group in groups], 1)).float()
    return boxes.masked_fill(~(c >= 0.5)[..., None], float("nan"))
