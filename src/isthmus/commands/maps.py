"""``maps``: where concepts of one row look, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from isthmus.commands.console import emit, say
from isthmus.commands.options import ConceptColumns, Json, Label, Plugins, RunFolder, TableFile
from isthmus.commands.use import OptionalData, Split
from isthmus.errors import DataError, OptionError

if TYPE_CHECKING:
    from isthmus.data.table import Table

MOST = 6  # concepts shown unless named


def maps(
    run: RunFolder,
    data: OptionalData = None,
    row: Annotated[int, typer.Option("--row", help="Number of the row in the split, from 0.")] = 0,
    concept: Annotated[
        list[str] | None,
        typer.Option("--concept", metavar="NAME", help=f"A concept, or concept=state; repeatable. Default: {MOST} likeliest."),
    ] = None,
    by: Annotated[
        Literal["auto", "where", "gradient", "integrated", "relevance"],
        typer.Option("--by", help="The model's own maps, gradients, integrated gradients, or relevance (extra explain)."),
    ] = "auto",
    split: Split = "test",
    out: Annotated[Path, typer.Option("--out", metavar="FILE.png", help="The picture to write.")] = Path("maps.png"),
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Draw where concepts of one row look; boxes of where they are, where the data say so, in white."""
    import numpy as np
    import torch

    from isthmus.audit.pictures import sheet
    from isthmus.commands.places import writable
    from isthmus.commands.runs import open_run, part_of
    from isthmus.files import write
    from isthmus.maps import chosen
    from isthmus.maps import maps as found
    from isthmus.metrics.location import peaks

    if out.suffix.lower() != ".png":
        raise OptionError(f"--out {out}: expected a file that ends in .png")
    writable(out.parent)
    opened = open_run(run, plugin or ())
    rows = part_of(opened, opened.data(data, label=label, concepts=concepts, table=table_file), split)
    if not 0 <= row < len(rows):
        raise OptionError(f"--row {row}: expected 0 to {len(rows) - 1}, the {split} rows")
    one, model = rows.take([row]), opened.model
    x = one.read()
    if not isinstance(x, torch.Tensor) or x.ndim != 4 or x.dtype != torch.uint8:
        raise DataError("maps: expected pictures, got rows of numbers or words; isthmus.maps gives numbers for them")
    if not len(model.space):
        raise OptionError("maps: this model has no concepts")
    with torch.no_grad():
        values = model.bottleneck.read(model(x).concepts.values)[0]
    index = values.argsort(descending=True)[:MOST][None] if not concept else chosen(model, concept, 1)
    shown = found(model, x, index, by=by).abs().double().numpy()
    if shown.ndim != 4:
        raise DataError("maps: expected maps over a picture, got one number for each input")
    names = [model.space.columns[k] for k in index[0].tolist()]
    boxes = _boxes(one, names)
    told = [f"{name} {float(values[k]):.2f}" for name, k in zip(names, index[0].tolist(), strict=True)]
    write(out, sheet(x[0].numpy(), shown[0], told, boxes))
    tops = peaks(shown, (int(x.shape[2]), int(x.shape[3])))[0]
    if as_json:
        lines = [
            {"concept": name, "value": float(values[k]), "peak": [float(v) for v in top],
             "box": None if boxes is None or np.isnan(box).any() else [float(v) for v in box]}
            for name, k, top, box in zip(names, index[0].tolist(), tops, boxes if boxes is not None else tops, strict=True)
        ]  # fmt: skip
        emit({"schema": "isthmus.maps/1", "run": str(run), "split": split, "row": row, "concepts": lines, "picture": str(out)})
        return
    for line, top in zip(told, tops, strict=True):
        say(f"{line}: looks most at x {top[0]:.0f}, y {top[1]:.0f}")
    say(f"picture: {out}")


def _boxes(one: Table, names: list[str]) -> Any:
    """(P, 4) where the concepts are, or None where the data do not say."""
    columns = one.space.columns
    if one.where is None or not set(names) <= set(columns):
        return None
    return one.where[0, [columns.index(name) for name in names]].double().numpy()
