"""Concept labels that nobody wrote by hand: similarities of images and texts, boxes of a detector, corrections by class.

Srivastava et al. 2024, VLG-CBM, section 3.1 (boxes); Sun et al. 2025, CB-LLM, section 3 (similarities corrected).
A language model as measurer is ``isthmus.concepts.measure``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.concepts.book import Book
from isthmus.data.table import Table
from isthmus.errors import DataError, OptionError


@dataclass(frozen=True)
class Box:
    """What a detector found: the phrase it answers, x0, y0, x1, y1 in pixels (far edges exclusive), a score from 0 to 1."""

    phrase: str
    box: tuple[float, float, float, float]
    score: float


Detector = Callable[[Tensor, Sequence[str]], Iterable[Box]]
"""(image uint8 (3, H, W), phrases) -> boxes: any open-vocabulary detector, wrapped in a few lines."""


def plain(text: str) -> str:
    """A phrase as boxes are matched by: lower case, - , . ( ) as blanks, no leading a or an, single blanks (VLG-CBM)."""
    words = re.sub(r"[-,.()]", " ", text.lower()).split()
    return " ".join(words[1:] if words[:1] in (["a"], ["an"]) else words)


def similarities(e: Tensor, vectors: Tensor) -> Tensor:
    """(n, K) cosines of rows e (n, d) and texts (K, d) of one space."""
    return F.normalize(e, dim=-1) @ F.normalize(vectors, dim=-1).T


def corrected(scores: Tensor, y: Tensor, owned: Tensor) -> Tensor:
    """CB-LLM's correction: scores (n, K) at least 0 where a concept was written for the row's class, 0 elsewhere.

    y (n,) class indices, ``owned`` (Y, K) in {0, 1}. It puts the label into the targets: for training rows alone, and concept
    accuracy is to be read against the uncorrected scores too.
    """
    if scores.shape != (len(y), owned.shape[1]):
        raise DataError(f"scores: expected ({len(y)}, {owned.shape[1]}), got {tuple(scores.shape)}")
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < len(owned):
        raise DataError(f"y: expected classes from 0 to {len(owned) - 1}, got {int(y.min())} to {int(y.max())}")
    return scores.clamp(min=0) * owned.to(scores)[y]


def detected(
    table: Table,
    book: Book,
    detector: Detector,
    *,
    threshold: float = 0.15,
    by_class: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """The images with concepts labelled by a detector: 1 where a box of the phrase scores above ``threshold``, else 0.

    ``where`` holds the best box of each. ``by_class`` looks on an image only for the phrases of its own class, as the paper
    does: a label then nearly tells the class. One call an image; ``progress`` is told (done, rows). ``DataError`` where rows
    are no images.
    """
    if not 0 <= threshold < 1:
        raise OptionError(f"threshold: expected a score of at least 0 and below 1, got {threshold}")
    found: list[list[Box]] = []
    for row in range(len(table)):
        image = _image(table, row)
        asked = _asked(table, book, row) if by_class else book.texts
        found.append(list(detector(image, asked)) if asked else [])
        if progress is not None:
            progress(row + 1, len(table))
    return labelled(table, book, found, threshold=threshold, by_class=by_class)


def labelled(
    table: Table, book: Book, boxes: Sequence[Sequence[Box]], *, threshold: float = 0.15, by_class: bool = False
) -> Table:
    """The table with c (B, K) and ``where`` (B, K, 4) from boxes of each row; boxes of other phrases are passed over."""
    if len(boxes) != len(table):
        raise DataError(f"boxes: expected {len(table)} lists, one for each row, got {len(boxes)}")
    space = book.space()
    columns: dict[str, list[int]] = {}
    for k, phrase in enumerate(book):
        columns.setdefault(plain(phrase.text), []).append(k)
    c = torch.zeros(len(table), len(space))
    where = torch.full((len(table), len(space), 4), math.nan)
    best = torch.zeros_like(c)
    for row, own in enumerate(boxes):
        names = set(map(plain, _asked(table, book, row))) if by_class else None
        for box in own:
            name = plain(box.phrase)
            if box.score <= threshold or name not in columns or (names is not None and name not in names):
                continue
            for k in columns[name]:
                if box.score > best[row, k]:
                    best[row, k], c[row, k] = box.score, 1.0
                    where[row, k] = torch.tensor(box.box)
    return replace(table, c=c, where=where, askable=None, space=space, checked=False)


def stored(folder: str | Path, rows: int) -> list[list[Box]]:
    """Boxes as VLG-CBM's annotations keep them: 0.json, 1.json, ... each [meta, {label, box, logit}, ...].

    ``DataError`` names the file that is missing or has another shape.
    """
    made: list[list[Box]] = []
    for row in range(rows):
        path = Path(folder) / f"{row}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            own = [Box(str(e["label"]), _corners(e["box"]), float(e["logit"])) for e in cast("list[Any]", found)[1:]]
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"{path}: expected [meta, {{label, box, logit}}, ...], got {str(error)[:60]!r}") from error
        made.append(own)
    return made


def _corners(box: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(v) for v in box)
    return x0, y0, x1, y1


def crops(table: Table, share: float = 0.5, *, overlap: float = 0.5, seed: int = 0) -> Table:
    """The images once more, a ``share`` of them cut to the box of one of their concepts and resized (VLG-CBM, section 3.2).

    A cut row keeps that concept, and those whose box overlaps its box by more than ``overlap`` (intersection over union); the
    rest are 0, for they are not in the picture. Rows without a box stay as they are. Only training rows should be cut.
    """
    if not 0 <= share <= 1 or table.c is None or table.where is None:
        raise OptionError(f"crops: expected labels with boxes and a share from 0 to 1, got share {share}")
    generator = torch.Generator().manual_seed(seed)
    images = torch.stack([_image(table, row) for row in range(len(table))])
    c, where = table.c.clone(), table.where.clone()
    height, width = images.shape[-2:]
    for row in range(len(table)):
        placed = (~table.where[row].isnan().any(-1) & (table.c[row] == 1)).nonzero().flatten()
        if not len(placed) or float(torch.rand(1, generator=generator)) >= share:
            continue
        k = int(placed[int(torch.randint(len(placed), (1,), generator=generator))])
        x0, y0, x1, y1 = _inside(table.where[row, k], width, height)
        cut = images[row, :, y0:y1, x0:x1].float()[None]
        images[row] = F.interpolate(cut, (height, width), mode="bilinear", antialias=True)[0].round().clamp(0, 255).byte()
        stays = _overlap(table.where[row], table.where[row, k]) > overlap
        stays[k] = True
        c[row] = torch.where(stays & (table.c[row] == 1), 1.0, 0.0)
        scale = torch.tensor([width / (x1 - x0), height / (y1 - y0)] * 2)
        moved = ((table.where[row] - torch.tensor([x0, y0, x0, y0])) * scale).clamp(min=0)
        moved = moved.minimum(torch.tensor([width, height] * 2))
        where[row] = torch.where(stays[:, None], moved, torch.nan)
    return replace(table, x=images, c=c, where=where, checked=False)


def _inside(box: Tensor, width: int, height: int) -> tuple[int, int, int, int]:
    """Whole pixels of a box within the picture, at least one wide and high."""
    x0, y0 = (min(max(math.floor(float(v)), 0), size - 1) for v, size in ((box[0], width), (box[1], height)))
    x1, y1 = (min(max(math.ceil(float(v)), low + 1), size) for v, low, size in ((box[2], x0, width), (box[3], y0, height)))
    return x0, y0, x1, y1


def _overlap(boxes: Tensor, one: Tensor) -> Tensor:
    """(K,) intersection over union of boxes (K, 4) with one (4,); 0 where a box is unknown."""
    low, high = torch.maximum(boxes[:, :2], one[:2]), torch.minimum(boxes[:, 2:], one[2:])
    both = (high - low).clamp(min=0).prod(-1)
    area = lambda b: (b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1)  # noqa: E731
    return (both / (area(boxes) + area(one) - both).clamp(min=1e-9)).nan_to_num(0.0)


def _asked(table: Table, book: Book, row: int) -> list[str]:
    """The phrases written for the class of a row."""
    if table.y is None or table.task is None or table.task.kind != "classes":
        raise DataError("by_class: expected one class for each row; label with by_class=False")
    name = table.task.names[int(table.y[row])]
    return [phrase.text for phrase in book if name in phrase.owners]


def _image(table: Table, row: int) -> Tensor:
    image: Any = table.take([row]).read()
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 4:
        raise DataError(f"row {row}: expected images, uint8 (B, 3, H, W), got {type(image).__name__}")
    return image[0]
