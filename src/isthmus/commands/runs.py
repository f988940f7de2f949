"""A saved run: its model, and the rows it is asked about (the data it was fitted on, other data, or plain files)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from isthmus.errors import DataError, OptionError, UnknownName, unknown

if TYPE_CHECKING:
    from isthmus.commands.source import Loaded
    from isthmus.data.table import Table
    from isthmus.model import ConceptModel

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
TABLES, ARRAYS, LINES = (".csv", ".tsv", ".tab", ".parquet"), (".npy", ".npz"), (".txt",)
CHUNK = 256


@dataclass(frozen=True)
class Run:
    """A saved model with what ``fit`` noted beside it."""

    folder: Path
    model: ConceptModel
    extra: dict[str, Any]

    @property
    def inputs(self) -> list[str] | None:
        """Names of the input columns in order, where the rows were numbers read from a table."""
        return self.extra.get("inputs")

    def data(self, name: str | None, **columns: Any) -> Loaded:
        """The data set named, else the one that the model was fitted on, under the names that edits gave its concepts."""
        from isthmus.commands.source import read
        from isthmus.data.encode import identity

        source: dict[str, Any] = self.extra.get("data") or {}
        if name is not None:
            return self._followed(read(name, **columns))
        if not source.get("name"):
            raise OptionError(f"{self.folder}: does not say what it was fitted on; name the data set")
        table = source.get("table")
        found = read(
            source["name"],
            label=source["label"],
            concepts=source["concepts"],
            table=None if table is None else Path(table),
            worded=bool(self.extra.get("words")),
        )
        if source.get("train") not in (None, identity(found.splits.train, files=False)):
            raise DataError(
                f"{source['name']}: its training rows are not those that {self.folder} was fitted on (the data, or how it is "
                "split, has changed), so rows that were trained on may be scored; name the data to score it all the same"
            )
        return self._followed(found)

    def _followed(self, found: Loaded) -> Loaded:
        """The data under the model's names of concepts, and, where it was fitted on some of the classes, of these alone."""
        from isthmus.data.classes import only_classes
        from isthmus.data.table import replacing
        from isthmus.interventions.edit import follow

        classes, task = self.extra.get("classes"), found.splits.task
        if classes and task.kind == "classes" and set(classes) < set(task.names):
            with replacing(True):  # such a run has words in the concepts' place
                found = replace(found, splits=only_classes(found.splits, classes))
        for part in ("train", "validation", "test"):
            setattr(found.splits, part, follow(self.model, getattr(found.splits, part)))
        return found


def open_run(folder: Path, plugin: Iterable[Path] = ()) -> Run:
    """Load a saved model; plugins are registered before."""
    from isthmus import hub, plugins

    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected a folder written by isthmus fit, found {'a file' if folder.exists() else 'nothing'}"
        )
    plugins.load_all(plugin)
    try:
        model = hub.load(folder)
    except UnknownName as error:
        raise OptionError(f"{folder}: {error}; if it came from a file of yours, add --plugin FILE.py") from error
    return Run(folder, model, hub.card(folder).get("extra") or {})


def part_of(run: Run, loaded: Loaded, split: Literal["train", "validation", "test"]) -> Table:
    """A split of the data, checked against what the model predicts."""
    table: Table = getattr(loaded.splits, split)
    task, ours = table.task, run.model.task
    assert task is not None
    if (task.kind, task.names) != (ours.kind, ours.names):
        want, got = (f"{t.kind} {', '.join(t.names[:4])}{' ...' if len(t.names) > 4 else ''}" for t in (ours, task))
        raise DataError(f"{loaded.splits.name}: expected {want} as {run.folder} predicts, got {got}")
    return table


def rows_of(run: Run, files: Sequence[Path]) -> tuple[list[str], Any]:
    """(names of rows, inputs) of image files, tables, arrays, texts line by line, or a data set's test rows."""
    from isthmus.data.registry import datasets

    if len(files) == 1 and not files[0].exists() and str(files[0]).split(":")[0] in datasets():
        rows = part_of(run, run.data(str(files[0])), "test")
        return list(rows.ids or (f"test {row}" for row in range(len(rows)))), rows
    found = [file for given in files for file in _expanded(given)]
    kinds = {_kind(file) for file in found}
    if len(kinds) > 1:
        raise DataError(f"files: expected files of one kind, got {' and '.join(sorted(kinds))}; predict them apart")
    kind = kinds.pop()
    if kind == "images":
        return [str(file) for file in found], _pictures(run, found)
    names: list[str] = []
    parts: list[Any] = []
    for file in found:
        rows = _table(run, file) if kind == "tables" else _array(file) if kind == "arrays" else _lines(file)
        names += [f"{file.name}:{row}" for row in range(len(rows))]
        parts.append(rows)
    if kind == "texts":
        return names, run.model.features.prepare([line for rows in parts for line in rows])  # pyright: ignore[reportCallIssue]
    import torch

    return names, run.model.features.prepare(torch.cat(parts))  # pyright: ignore[reportCallIssue]


def _expanded(file: Path) -> list[Path]:
    if file.is_dir():
        inside = sorted(each for each in file.rglob("*") if each.suffix.lower() in IMAGES)
        if not inside:
            raise DataError(f"{file}: expected image files in the folder ({' '.join(IMAGES)}), found none")
        return inside
    if not file.is_file():
        raise DataError(f"{file}: expected a file, found none; check the path")
    return [file]


def _kind(file: Path) -> str:
    suffix = file.suffix.lower()
    kinds = {"images": IMAGES, "tables": TABLES, "arrays": ARRAYS, "texts": LINES}
    for kind, suffixes in kinds.items():
        if suffix in suffixes:
            return kind
    every = " ".join(suffix for suffixes in kinds.values() for suffix in suffixes)
    raise DataError(f"{file}: expected a file that ends in one of {every}, got {suffix or 'no ending'!r}")


def _pictures(run: Run, files: Sequence[Path]) -> Any:
    import torch

    from isthmus.data.rows import read_image

    prepare: Any = run.model.features.prepare
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    return torch.cat([prepare([read_image(file, str(file)) for file in chunk]) for chunk in chunks])


def _table(run: Run, file: Path) -> Any:
    """The model's input columns of a table, in its order: by name where they are known, else all columns."""
    import torch

    if file.suffix.lower() == ".parquet":
        from isthmus.errors import require

        frame = require("pandas", "data").read_parquet(file)
        header, columns = (
            [str(name) for name in frame.columns],
            {str(name): frame[name].tolist() for name in frame.columns},
        )
    else:
        header, rows = _csv(file)
        columns = {name: [row[at] for row in rows] for at, name in enumerate(header)}
    width = getattr(run.model.features, "dim_in", None)
    plain = [f"x{i + 1}" for i in range(width or 0)]  # what data make calls columns without names
    wanted = run.inputs or (plain if plain and set(plain) <= set(header) else header)
    for name in wanted:
        if name not in columns:
            raise DataError(f"{file}: {unknown('input column', name, header)}")
    if width is not None and len(wanted) != width:
        raise DataError(f"{file}: expected {width} columns as the model was fitted on, got {len(wanted)}; leave the others out")
    values = [[_number(cell, file, name, row) for row, cell in enumerate(columns[name])] for name in wanted]
    if not values[0]:
        raise DataError(f"{file}: expected at least one row, got only a header")
    return torch.tensor(values).T.contiguous()


def _csv(file: Path) -> tuple[list[str], list[list[str]]]:
    from isthmus.data.frames import SEPARATORS

    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            table = csv.reader(opened, delimiter=SEPARATORS.get(file.suffix.lower(), ","))
            header, rows = next(table, []), list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: expected a CSV file in UTF-8, got {str(error)[:80]!r}") from error
    if not header:
        raise DataError(f"{file}: expected a header with the names of the columns, got an empty file")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise DataError(f"{file}, row {number}: expected {len(header)} cells as in the header, got {len(row)}")
    return header, rows


def _number(cell: Any, file: Path, column: str, row: int) -> float:
    import math

    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{file}, column {column!r}, row {row}: expected a finite number, got {str(cell)[:40]!r}")
    return value


def _array(file: Path) -> Any:
    """``x`` of an NPZ file, or an NPY file: numbers (n, D), or uint8 images (n, 3, H, W) or (n, H, W, 3)."""
    import numpy as np

    from isthmus.data.arrays import from_arrays
    from isthmus.space import Task

    try:
        found = np.load(file, allow_pickle=False)
        if file.suffix.lower() == ".npz":
            names = list(found.files)
            key = "x" if "x" in names else names[0] if len(names) == 1 else None
            if key is None:
                raise DataError(f"{file}: expected an array named 'x', got {', '.join(names) or 'none'}")
            found = found[key]
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: expected a NumPy file without pickles, got {str(error)[:80]!r}") from error
    try:
        return from_arrays(found, None, task=Task.classes(("a", "b"))).x
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _lines(file: Path) -> list[str]:
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: expected UTF-8 text, got {str(error)[:80]!r}") from error
    if not lines:
        raise DataError(f"{file}: expected a text on each line, got an empty file")
    return lines
