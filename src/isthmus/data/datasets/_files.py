"""Where the files of a data set lie and how they are read; every failure names the file and what was expected."""

from __future__ import annotations

import csv
import gzip
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from isthmus.data.rows import Images
from isthmus.errors import DataError, OptionError, unknown

VARIABLE = "ISTHMUS_DATA"
Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Layout:
    """What an unpacked data set looks like: the folder's usual name, the link it comes from, and the files it holds."""

    name: str
    folder: str
    link: str
    files: tuple[str, ...]

    def missing(self, file: str, root: Path) -> DataError:
        """The error for ``file`` not under ``root``."""
        return DataError(
            f"{self.name}: expected {file!r} in {root}, found none; get the data from {self.link}, unpack it so that "
            f"the folder holds {', '.join(self.files)}, and pass path=<folder> or put it at ${VARIABLE}/{self.folder}"
        )


def data_root(path: str | Path | None, name: str, file: str) -> Path:
    """The folder given as ``path``, else the one that the environment names; ``file`` is what will be read there."""
    if path is not None:
        return Path(path).expanduser()
    home = os.environ.get(VARIABLE)
    if not home:
        raise DataError(
            f"{name}: expected the folder that holds {file!r}, got neither path= nor ${VARIABLE}; pass path=<folder>"
        )
    return Path(home).expanduser()


def raw_root(path: str | Path | None, layout: Layout) -> Path:
    """The folder of an unpacked data set; ``path`` may be that folder or the one around it."""
    root = data_root(path, layout.name, layout.folder)
    inside = root / layout.folder
    if inside.is_dir() and not (root / layout.files[0]).exists():
        root = inside
    if not root.is_dir():
        raise layout.missing(layout.files[0], root)
    return root


def find(root: Path, layout: Layout, file: str, *also: str) -> Path:
    """The first of ``file`` and its other usual places that is there."""
    for place in (file, *also):
        if (root / place).exists():
            return root / place
    raise layout.missing(file, root)


def packed(path: str | Path | None, name: str, file: str, source: str) -> Path:
    """A file of the packed data folder; ``path`` is that folder, or the file itself."""
    root = data_root(path, name, file)
    place = root if root.is_file() else root / file
    if not place.is_file():
        raise DataError(
            f"{name}: expected the file {file!r} in {root}, found none; it is packed from {source}: "
            f"set ${VARIABLE} to the data folder or pass path=<folder>"
        )
    return place


def read_npz(place: Path, name: str, keys: Sequence[str]) -> dict[str, Array]:
    """The arrays ``keys`` of a NumPy archive; nothing pickled is read."""
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            lacking = [key for key in keys if key not in archive.files]
            if lacking:
                raise DataError(f"{name}: expected array {lacking[0]!r} in {place}, got {', '.join(archive.files)}")
            return {key: archive[key] for key in keys}
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise damaged(place, name, "a NumPy archive", error) from error


def read_jsonl(place: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a gzipped file with one JSON object on each line."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_lines(place, name), 1):
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{name}: {place}, line {number}: expected a JSON object, got {line[:40]!r}") from error
        if not isinstance(row, dict):
            raise DataError(f"{name}: {place}, line {number}: expected a JSON object, got {line[:40]!r}")
        rows.append(row)
    return rows


def read_csv(place: Path, name: str, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file (gzipped or not) as texts by column; ``columns`` must be among them."""
    table = csv.reader(_lines(place, name))
    header = next(table, [])
    lacking = [column for column in columns if column not in header]
    if lacking:
        raise DataError(f"{name}: expected column {lacking[0]!r} in {place}, got {', '.join(header[:12]) or 'no header'}")
    rows: list[dict[str, str]] = []
    for cells in table:
        if len(cells) != len(header):
            raise DataError(f"{name}: {place}, line {table.line_num}: expected {len(header)} cells as above, got {len(cells)}")
        rows.append(dict(zip(header, cells, strict=True)))
    return rows


def read_fields(place: Path, name: str, what: str, *, least: int, most: int | None = None) -> list[list[str]]:
    """The fields of each line of a text file, split at blanks, ``least`` to ``most``; empty lines are left out."""
    rows: list[list[str]] = []
    for number, line in enumerate(_lines(place, name), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) < least or len(fields) > (most or len(fields)):
            raise DataError(f"{name}: {place}, line {number}: expected {what!r}, got {line.strip()[:60]!r}")
        rows.append(fields)
    return rows


def _lines(place: Path, name: str) -> Iterator[str]:
    opened = gzip.open if place.suffix == ".gz" else open
    try:
        with opened(place, "rt", encoding="utf-8-sig", newline="") as file:
            yield from file
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise damaged(place, name, "UTF-8 text", error) from error


def damaged(place: Path, name: str, wanted: str, error: Exception) -> DataError:
    """The error for a file that is there but cannot be read."""
    reason = str(error).split("\n")[0][:80]
    return DataError(f"{name}: {place}: expected {wanted}, got {reason!r}; the file is damaged, fetch it again")


def pictures(arrays: dict[str, Array], name: str, size: int | None = None) -> Images:
    """Lazy images from their encoded bytes, end to end in ``buf`` and cut at ``off`` (B + 1,)."""
    buffer, cuts = arrays["buf"], arrays["off"]
    if len(cuts) < 2 or cuts[0] != 0 or cuts[-1] > len(buffer) or bool((np.diff(cuts) <= 0).any()):
        raise DataError(f"{name}: expected rising offsets from 0 to at most {len(buffer)} in 'off', got others; re-pack it")
    return Images([buffer[a:b].tobytes() for a, b in pairwise(cuts.tolist())], size=size)


def features(place: Path, name: str, rows: int) -> npt.NDArray[np.float32]:
    """Packed encoder features (B, D) as float32: stored bytes times their scale."""
    arrays = read_npz(place, name, ("q", "scale"))
    if len(arrays["q"]) != rows:
        raise DataError(f"{name}: expected {rows} rows in {place} like the images, got {len(arrays['q'])}")
    return arrays["q"].astype(np.float32) * np.float32(arrays["scale"])


def choose(name: str, option: str, value: str, allowed: Sequence[str]) -> str:
    """``value`` if it is one of ``allowed``, else an error that offers the nearest."""
    if value not in allowed:
        raise OptionError(str(unknown(f"{option} of data set {name!r}:", value, allowed)))
    return value


def number(cell: str, place: Path, column: str, row: int) -> float:
    """A cell as a finite number; an empty cell or '?' is NaN."""
    if cell.strip() in ("", "?"):
        return float("nan")
    try:
        value = float(cell)
    except ValueError:
        value = float("inf")
    if not np.isfinite(value):
        raise DataError(f"{place}, column {column!r}, row {row}: expected a finite number, got {cell[:30]!r}")
    return value


def codes(cells: Sequence[str], states: Sequence[str], place: Path, column: str) -> npt.NDArray[np.float32]:
    """The index of each cell in ``states`` as float (B,); an empty cell or '?' is NaN."""
    index = {state: float(i) for i, state in enumerate(states)} | {"": float("nan"), "?": float("nan")}
    for row, cell in enumerate(cells):
        if cell not in index:
            raise DataError(
                f"{place}, column {column!r}, row {row}: expected {', '.join(states)} or nothing, got {cell[:30]!r}"
            )
    return np.array([index[cell] for cell in cells], dtype=np.float32)
