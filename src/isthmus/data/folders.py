"""Splits from files of one's own: one table of columns, or a folder of images with a table that describes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.data.check import missing
from isthmus.data.columns import is_frame, show
from isthmus.data.frames import ConceptColumns, Frame, column_of, pick, read_columns
from isthmus.data.rows import Images, check_image
from isthmus.data.table import DataCard, Splits, Table, split, split_by
from isthmus.data.targets import TaskKind
from isthmus.errors import DataError
from isthmus.space import Task


def file(
    path: str | Path,
    *,
    label: str | Sequence[str],
    features: str | Sequence[str] | None = None,
    concepts: ConceptColumns | None = None,
    group: str | None = None,
    weight: str | None = None,
    facts: str | Sequence[str] | None = None,
    caption: str | None = None,
    task: Task | TaskKind | None = None,
    class_names: Sequence[str] | None = None,
    split_column: str | None = None,
    validation: float = 0.15,
    test: float = 0.2,
    seed: int = 0,
    separator: str | None = None,
    card: DataCard | None = None,
) -> Splits:
    """Train, validation and test from one CSV, TSV or Parquet file; columns as in ``from_frame``.

    split_column: train, validation (or val), test on each row; without validation rows that share of train is drawn.
    None: drawn by ``seed``, classes in proportion, groups whole. ``validation`` and ``test`` are shares of the rows.
    """
    place = Path(path)
    written = (group, split_column, caption, features if isinstance(features, str) else None)
    frame = read_columns(place, separator, texts=[name for name in written if name])
    table = pick(
        frame, place.name, split_column, label, features, concepts, group, weight, facts, task, class_names, caption=caption
    )
    return _cut(table, frame, place.name, split_column, validation, test, seed, place.stem, card)


def folder(
    path: str | Path,
    *,
    table: str | Path | Frame,
    image: str = "image",
    label: str | Sequence[str] = "label",
    concepts: ConceptColumns | None = None,
    group: str | None = None,
    weight: str | None = None,
    facts: str | Sequence[str] | None = None,
    caption: str | None = None,
    task: Task | TaskKind | None = None,
    class_names: Sequence[str] | None = None,
    split_column: str | None = None,
    size: int | None = 128,
    validation: float = 0.15,
    test: float = 0.2,
    seed: int = 0,
    separator: str | None = None,
    card: DataCard | None = None,
) -> Splits:
    """Train, validation and test from a folder of images and a table (CSV, TSV, Parquet or frame) with a row for each.

    table: a path inside the folder, or else from here. image: the column of paths relative to the folder; none may lead
    out of it. Every header is read first: a missing, unreadable or oversized (25 megapixels) picture is an error naming
    file and row. size: side in pixels of the squares that pictures become when read; None keeps them. Columns as in
    ``from_frame``, splits as in ``file``.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of images, found {'a file' if root.exists() else 'none'}")
    if is_frame(table):
        frame, name = table, "the frame"
    else:
        place = root / table if (root / table).exists() else Path(table)
        name = place.name
        frame = read_columns(place, separator, texts=[n for n in (image, group, split_column, caption) if n])
    sources = _pictures(frame, column_of(frame, image, name), root, name)
    images = Images(sources, size=size)
    made = pick(frame, name, split_column, label, images, concepts, group, weight, facts, task, class_names, image, caption)
    _same_picture(sources, made.group, name)
    return _cut(made, frame, name, split_column, validation, test, seed, root.resolve().name, card)


def _pictures(frame: Frame, column: Any, root: Path, place: str) -> list[Path]:
    """The picture of each row, below ``root`` and with a readable header of at most 25 megapixels."""
    base = root.resolve()
    found: list[Path] = []
    for row, cell in enumerate(column):
        where = f"{place}, row {row}, {show(cell)}"
        if missing(cell) or not isinstance(cell, str):
            raise DataError(f"{place}, column {str(column.name)!r}, row {row}: expected the path of an image, got {cell!r}")
        try:
            resolved = (base / cell).resolve()
        except (ValueError, OSError, RuntimeError) as error:
            raise DataError(f"{where}: expected a path below the folder, got one the system refuses") from error
        if not resolved.is_relative_to(base):
            raise DataError(f"{where}: expected a path below {base}, got {resolved}; move the image into the folder")
        found.append(resolved)
    for row, source in enumerate(found):
        if row == 0 or source != found[row - 1]:
            check_image(source, f"{place}, row {row}, {source.relative_to(base)}")
    return found


def _same_picture(sources: list[Path], group: Sequence[str] | None, place: str) -> None:
    """The same picture on rows that may be split apart would be in train and test at once."""
    first: dict[Path, int] = {}
    for row, source in enumerate(sources):
        start = first.setdefault(source, row)
        if start != row and (group is None or group[start] != group[row]):
            raise DataError(
                f"{place}, row {row}: {source.name!r} is the picture of row {start} too; keep one row, or give both one group"
            )


def _cut(
    table: Table, frame: Frame, place: str, split_column: str | None, validation: float, test: float, seed: int,
    name: str, card: DataCard | None,
) -> Splits:  # fmt: skip
    if split_column is None:
        return split(table, validation=validation, test=test, seed=seed, name=name, card=card)
    marks = list(column_of(frame, split_column, place))
    return split_by(table, marks, validation=validation, seed=seed, name=name, card=card)
