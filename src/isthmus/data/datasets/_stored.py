"""Pictures that lie in files of their own or in cells of Parquet files, read a row group at a time when asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isthmus.data.datasets._files import damaged
from isthmus.data.rows import read_image
from isthmus.errors import DataError, require


class Cell(NamedTuple):
    """Column 'image' of one row of a Parquet file: ``row`` of its row group ``group``."""

    file: Path
    group: int
    row: int


class Stored:
    """Pictures by path or cell, resized to squares; ``read`` gives uint8 (n, 3, size, size)."""

    def __init__(self, sources: Sequence[Path | Cell], *, size: int) -> None:
        self.sources, self.size = list(sources), size

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, index: Tensor) -> Stored:
        return Stored([self.sources[i] for i in index.tolist()], size=self.size)

    def read(self) -> Tensor:
        found = torch.empty((len(self), 3, self.size, self.size), dtype=torch.uint8)
        for row, source in self._each():
            name = str(self.sources[row]) if isinstance(source, Path) else _name(self.sources[row])
            found[row] = torch.from_numpy(read_image(source, name, self.size)).permute(2, 0, 1)
        return found

    def fingerprint(self) -> str:
        parts = [b""] * len(self)
        for row, source in self._each():
            parts[row] = hashlib.sha256(source.read_bytes() if isinstance(source, Path) else source).digest()
        return hashlib.sha256(repr(self.size).encode() + b"".join(parts)).hexdigest()

    def _each(self) -> Iterator[tuple[int, Path | bytes]]:
        """Row and path or encoded bytes of every picture, each row group opened once."""
        groups: dict[tuple[Path, int], list[tuple[int, int]]] = {}
        for row, source in enumerate(self.sources):
            if isinstance(source, Cell):
                groups.setdefault((source.file, source.group), []).append((row, source.row))
            else:
                yield row, source
        for (file, group), cells in groups.items():
            column = _opened(file).read_row_group(group, columns=["image"]).column("image")
            for row, cell in cells:
                yield row, column[cell].as_py()["bytes"]


def _name(source: Any) -> str:
    return f"{source.file.name}, row group {source.group}, row {source.row}"


def _opened(file: Path) -> Any:
    parquet = require("pyarrow.parquet", "data")
    try:
        return parquet.ParquetFile(file)
    except (OSError, ValueError) as error:
        raise damaged(file, file.name, "a Parquet file", error) from error


def read_cells(file: Path, name: str, columns: Sequence[str]) -> tuple[list[Cell], dict[str, list[str]]]:
    """The pictures of a Parquet file and its text ``columns``; class codes are turned into the names the file gives."""
    opened = _opened(file)
    schema = opened.schema_arrow
    for column in ("image", *columns):
        if column not in schema.names:
            raise DataError(f"{name}: expected column {column!r} in {file}, got {', '.join(schema.names[:12])}")
    table = opened.read(columns=list(columns))
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = described.get("info", {}).get("features", {})
    texts = {column: _texts(table.column(column).to_pylist(), features.get(column), file, name, column) for column in columns}
    counts = [opened.metadata.row_group(group).num_rows for group in range(opened.metadata.num_row_groups)]
    return [Cell(file, group, row) for group, count in enumerate(counts) for row in range(count)], texts


def _texts(cells: list[Any], feature: Any, file: Path, name: str, column: str) -> list[str]:
    names: Any = feature.get("names") if isinstance(feature, dict) else None
    found: list[str] = []
    for row, cell in enumerate(cells):
        if isinstance(cell, int | np.integer) and names and 0 <= cell < len(names):
            found.append(str(names[cell]))
        elif isinstance(cell, str):
            found.append(cell)
        else:
            raise DataError(f"{name}: {file}, column {column!r}, row {row}: expected a name or the code of one, got {cell!r}")
    return found
