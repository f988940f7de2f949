"""A data set as files: ``table.csv``, ``images/``, ``data.json`` and a sheet of samples."""

from __future__ import annotations

import csv
import io
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from isthmus.commands.source import Loaded
    from isthmus.data.table import Table
    from isthmus.space import Concept

PARTS = ("train", "validation", "test")
ACROSS, MOST, WIDE = 8, 40, 1600  # samples in a row of the sheet, in all, and its width in pixels
CHUNK = 256


def is_pictures(x: Any) -> bool:
    """True for rows that are images."""
    import torch

    from isthmus.data.rows import Images

    return isinstance(x, Images) or (isinstance(x, torch.Tensor) and x.ndim == 4 and x.dtype == torch.uint8)


def pictures(table: Table, index: Tensor) -> list[np.ndarray]:
    """The images at ``index`` as uint8 (H, W, 3), each of its own size."""
    from isthmus.data.rows import Images, read_image

    if isinstance(table.x, Images):
        rows = table.x.take(index)
        return [read_image(source, rows.name(i), rows.size) for i, source in enumerate(rows.sources)]
    return list(table.x[index].permute(0, 2, 3, 1).numpy())


def image_sheet(table: Table, file: Path) -> None:
    """Write a PNG of sample images, the classes in turn, each with its class below."""
    import torch
    from PIL import Image, ImageDraw

    if not is_pictures(table.x):
        raise DataError(f"--sheet {file}: expected a data set of images, got rows of another kind; leave --sheet out")
    index = sample(table)
    shots = [Image.fromarray(picture) for picture in pictures(table, torch.tensor(index))]
    most = max(max(shot.width, shot.height) for shot in shots)
    scale = min(max(1, WIDE // (ACROSS * most)), 3) if most * ACROSS < WIDE else WIDE / (ACROSS * most)
    wide, high = (round(max(side) * scale) for side in (([s.width for s in shots]), [s.height for s in shots]))
    rows = math.ceil(len(shots) / ACROSS)
    sheet = Image.new("RGB", (ACROSS * (wide + 8) + 8, rows * (high + 26) + 8), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (row, shot) in enumerate(zip(index, shots, strict=True)):
        x, y = 8 + number % ACROSS * (wide + 8), 8 + number // ACROSS * (high + 26)
        sheet.paste(shot.resize((max(1, round(shot.width * scale)), max(1, round(shot.height * scale)))), (x, y))
        draw.text((x, y + high + 3), label_cells(table, row)[0][: max(4, wide // 7)], fill="black")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    _write(file, buffer.getvalue())


def _write(file: Path, data: bytes) -> None:
    from isthmus.files import write

    write(file, data)


def sample(table: Table) -> list[int]:
    """Up to ``MOST`` rows, the classes in turn; the first rows where there are no classes."""
    assert table.task is not None and table.y is not None
    if table.task.kind != "classes":
        return list(range(min(MOST, len(table))))
    queues = [(table.y == k).nonzero().flatten().tolist()[: MOST // table.task.width + 1] for k in range(table.task.width)]
    found = [queue[depth] for depth in range(max(map(len, queues))) for queue in queues if depth < len(queue)]
    return found[:MOST]


def label_cells(table: Table, row: int) -> list[str]:
    """The target of a row as cells: a class, a 0/1 for each label (nothing if unknown), or a number."""
    assert table.task is not None and table.y is not None
    if table.task.kind == "classes":
        return [table.task.names[int(table.y[row])]]
    return [number_cell(value) for value in table.y[row].reshape(-1).tolist()]


def number_cell(value: float) -> str:
    """A number as a cell; nothing for unknown."""
    return "" if math.isnan(value) else f"{value:.9g}"


def concept_cell(concept: Concept, block: list[float]) -> str:
    """A concept of a row as a cell: a state's name, 0 or 1, a number, or nothing for unknown."""
    if any(math.isnan(value) for value in block):
        return ""
    return concept.states[block.index(max(block))] if concept.states else number_cell(block[0])


def label_names(table: Table) -> list[str]:
    """Names of the target's columns, apart from those of the concepts."""
    assert table.task is not None
    names = ["class"] if table.task.kind == "classes" else list(table.task.names)
    return [f"{name} (target)" if name in table.space.names else name for name in names]


def write_folder(loaded: Loaded, out: Path) -> dict[str, Any]:
    """Write ``table.csv`` (inputs, split, target, concepts), ``data.json``; of images ``images/``, ``sheet.png``."""
    from isthmus.commands.survey import survey
    from isthmus.files import write_json

    splits = loaded.splits
    x = splits.train.x
    if isinstance(x, dict) or (hasattr(x, "ndim") and x.ndim > 2 and not is_pictures(x)):
        raise DataError(
            f"{splits.name}: expected rows that are numbers, texts or images, got another kind; it has no file form"
        )
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    caption = caption_name(loaded)
    beside = ["split", *_group(splits.train), *([] if caption is None else [caption])]
    table.writerow([*input_names(loaded), *beside, *label_names(splits.train), *splits.space.names])
    files = ["table.csv", "data.json"]
    for part in PARTS:
        rows: Table = getattr(splits, part)
        inputs = list(_inputs(rows, part, out))
        for row, cells in enumerate(inputs):
            block = [] if rows.c is None else rows.c[row].tolist()
            concepts = (
                [concept_cell(k, block[s]) for k, s in zip(rows.space.concepts, rows.space.slices, strict=True)]
                if block
                else []
            )
            group = [] if rows.group is None else [rows.group[row]]
            said = [] if caption is None or rows.caption is None else [rows.caption[row]]
            table.writerow([*cells, part, *group, *said, *label_cells(rows, row), *concepts])
    _write(out / "table.csv", text.getvalue().encode())
    told = survey(splits) | {"read": reading(loaded)}
    write_json(out / "data.json", told)
    if is_pictures(x):
        image_sheet(splits.train, out / "sheet.png")
        files += ["images", "sheet.png"]
    return told | {"files": [str(out / file) for file in files], "again": f"isthmus compare {shlex.quote(str(out))}"}


def reading(loaded: Loaded) -> dict[str, Any]:
    """How the folder is read again: the columns and what they are."""
    train = loaded.splits.train
    assert train.task is not None
    kinds = {c.name: c.kind for c in train.space.concepts}
    return {
        "table": "table.csv",
        "label": label_names(train),
        "task": train.task.kind,
        "names": list(train.task.names),
        "unit": train.task.unit,
        "size": getattr(train.x, "size", None) if hasattr(train.x, "sources") else None,
        "concepts": list(kinds) if train.c is not None else [],
        "kinds": kinds if train.c is not None else {},
        "states": {c.name: list(c.states) for c in train.space.concepts if c.states},
        "groups": {c.name: c.group for c in train.space.concepts if c.group},
        "units": {c.name: c.unit for c in train.space.concepts if c.unit},
        "split": "split",
        "group": "group" if train.group is not None else None,
        "caption": caption_name(loaded),
        "file": "file" if is_pictures(train.x) else None,
        "text": "text" if not hasattr(train.x, "ndim") and not is_pictures(train.x) else None,
    }


def _group(table: Table) -> list[str]:
    return [] if table.group is None else ["group"]


def caption_name(loaded: Loaded) -> str | None:
    """The column of captions, apart from all others; None where some split has none."""
    splits = loaded.splits
    if any(getattr(splits, part).caption is None for part in PARTS):
        return None
    others = {*input_names(loaded), *label_names(splits.train), *splits.space.names}
    return "caption (text)" if "caption" in others else "caption"


def input_names(loaded: Loaded) -> list[str]:
    """Names of the input columns: the file of an image, the text, or a name for each number."""
    x = loaded.splits.train.x
    if is_pictures(x):
        return ["file"]
    if not hasattr(x, "ndim"):
        return ["text"]
    return list(loaded.inputs or (f"x{i + 1}" for i in range(x.shape[1])))


def _inputs(table: Table, part: str, out: Path) -> Any:
    """For each row its input cells; images are written on the way."""
    import torch
    from PIL import Image

    if not is_pictures(table.x):
        values = table.read()
        for value in values if isinstance(values, list) else values.tolist():
            yield [number_cell(v) for v in value] if isinstance(value, list) else [value]
        return
    (out / "images" / part).mkdir(parents=True, exist_ok=True)
    for index in torch.arange(len(table)).split(CHUNK):
        for row, picture in zip(index.tolist(), pictures(table, index), strict=True):
            name = f"images/{part}/{row:06d}.png"
            Image.fromarray(picture).save(out / name)
            yield [name]
