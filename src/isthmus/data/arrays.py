"""``from_arrays``: a ``Table`` from numpy, torch, pandas, lists of texts or image paths, or a dict of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.data.check import LARGEST
from isthmus.data.columns import Array, as_tensor, cells, is_frame, same_rows, show, to_array
from isthmus.data.concepts import concept_labels
from isthmus.data.rows import Images, Rows, Texts
from isthmus.data.table import Table
from isthmus.data.targets import TaskKind, targets
from isthmus.errors import DataError
from isthmus.space import Concept, ConceptSpace, Kind, Task

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def from_arrays(
    x: Any,
    y: Any,
    concepts: Any = None,
    *,
    space: ConceptSpace | None = None,
    task: Task | TaskKind | None = None,
    concept_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    kinds: Mapping[str, Kind | Concept] | None = None,
    groups: Any = None,
    weight: Any = None,
    askable: Any = None,
    where: Any = None,
    ids: Sequence[str] | None = None,
    captions: Any = None,
) -> Table:
    """A ``Table`` of B rows, checked; ``DataError`` names the column and row that do not fit.

    x: numbers (B, D) or (B, ...) as numpy, torch, pandas or lists, made float32; uint8 pictures (B, 3, H, W),
    (B, H, W, 3) or grey (B, H, W); a list of texts; a list of image files (``Path``, bytes, or names with an image
    suffix); ``Images``, ``Texts``; or a dict of these by name.

    y: texts, booleans, categories or whole numbers of at most 50 values are classes (sorted; ``class_names`` gives
    names and order, whole numbers are then indices unless the names are numbers); floats are a value; several columns
    of 0/1 are labels. ``task`` overrides, and is asked for where whole numbers have more values or are stored as
    floats. A missing y is an error for classes, unknown for labels and values. None: no y.

    concepts: numbers (B, M), a frame, or a dict of columns. True/False and 0/1 columns are binary, texts and categories
    categorical with sorted states, other numbers continuous; NaN, None and blank texts are unknown; ``kinds`` overrides
    by name. With ``space`` its columns (K, by ``space.columns``) or concepts (M, a state by name or index).

    groups (B,): rows that belong together; weight (B,): at least 0; askable (B, M); where (B, K, 4) pixels; captions (B,): a
    sentence about each row, from which frozen features are aligned with texts.
    """
    _aligned({"x": x, "y": y, "concepts": concepts, "groups": groups, "weight": weight, "captions": captions})
    inputs = _x(x, "x")
    n = len(next(iter(inputs.values()), ())) if isinstance(inputs, dict) else len(inputs)
    if n == 0:
        raise DataError("x: expected at least one row and one input, got none; the table is empty")
    found, c = concept_labels(concepts, n, space, concept_names, kinds)
    goal, target = targets(y, n, task, class_names)
    given_ids = _index_names(x) if ids is None else ids
    return Table(
        inputs, c=c, y=target, space=found, task=goal, where=_plain(where, "where"), askable=_plain(askable, "askable"),
        weight=None if weight is None else as_tensor(_known(weight, "weight", n)),
        group=None if groups is None else _listed(groups, "groups"),
        ids=None if given_ids is None else _listed(given_ids, "ids"),
        caption=None if captions is None else _listed(captions, "captions"),
    )  # fmt: skip


def _aligned(parts: dict[str, Any]) -> None:
    """Frames and series with different indexes would be joined by position, row against the wrong row."""
    flat = {f"{name} {key!r}": part for name, each in parts.items() if isinstance(each, Mapping) for key, part in each.items()}
    indexed = [(name, part.index) for name, part in (parts | flat).items() if hasattr(part, "iloc")]
    for name, index in indexed[1:]:
        if len(index) == len(indexed[0][1]) and not index.equals(indexed[0][1]):
            first = indexed[0][0]
            raise DataError(f"{name}: expected the index of {first}, got another; align with .loc, or reset_index both")


def _index_names(x: Any) -> list[str] | None:
    plain = not is_frame(x) or type(x.index).__name__ == "RangeIndex"
    return None if plain else [str(name) for name in x.index]


def _listed(values: Any, place: str) -> Any:
    if isinstance(values, str | list | tuple):
        return values
    found = to_array(values, place)
    return found.tolist() if found.ndim == 1 else found


def _known(raw: Any, place: str, n: int) -> Array:
    found = cells(raw, place)
    same_rows(len(found.values), n, place)
    if found.kind == "text" or not found.known.all():
        row = int((~found.known).argmax()) if not found.known.all() else 0
        raise DataError(f"{place}, row {row}: expected a number, got {show(found.values[row])}; fill or drop it")
    return found.values


def _plain(raw: Any, place: str) -> Tensor | None:
    if raw is None or isinstance(raw, Tensor):
        return raw
    found = to_array(raw, place)
    if found.dtype.kind not in "biuf":
        raise DataError(f"{place}: expected numbers, got {found.dtype}")
    return as_tensor(found)


def _x(raw: Any, place: str) -> Any:
    if _lazy(raw):
        return raw
    if isinstance(raw, Mapping):
        return {str(name): _x(part, str(name)) for name, part in raw.items()}
    if is_frame(raw):
        return _matrix([(str(name), raw.iloc[:, i]) for i, name in enumerate(raw.columns)], place, len(raw))
    if isinstance(raw, list | tuple) and raw and isinstance(raw[0], Path | bytes):
        return Images(raw)
    array = to_array(raw, place)
    if array.dtype.kind in "biuf":
        return _numbers(array, place)
    if array.dtype.kind not in "OUT" or array.ndim not in (1, 2):
        raise DataError(f"{place}: expected numbers (rows, ...), texts or image files, got {array.dtype} of {array.ndim} axes")
    if array.ndim == 2:
        return _matrix([(str(i), array[:, i]) for i in range(array.shape[1])], place, len(array))
    return _texts(array.tolist(), place)


def _lazy(raw: Any) -> bool:
    return isinstance(raw, Rows) and not isinstance(raw, type)


def _texts(values: list[Any], place: str) -> Images | Texts:
    if values and all(isinstance(value, Path | bytes) for value in values):
        return Images(values)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{place}, row {row}: expected a text (for numbers: two axes), got {type(value).__name__}")
    return Images(values) if values and all(v.lower().endswith(SUFFIXES) for v in values) else Texts(values)


def _numbers(array: Array, place: str) -> Tensor:
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        return _pictures(array, place)
    if array.ndim < 2:
        raise DataError(f"{place}: expected numbers of shape (rows, columns), got {array.shape}; use x[:, None]")
    array = array.astype(np.float32) if array.dtype == np.float16 else array  # whose limit lies below LARGEST
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(array) <= LARGEST) if array.dtype.kind == "f" else (array > LARGEST) | (array < -LARGEST)
    if bad.any():
        at = np.argwhere(bad)[0].tolist()
        raise DataError(_unfit(place, ",".join(map(str, at[1:])), at[0], array[tuple(at)]))
    return as_tensor(array)


def _pictures(array: Array, place: str) -> Tensor:
    """uint8 (B, H, W), or with 1 or 3 channels in front or behind -> uint8 (B, 3, H, W)."""
    made = array[:, None] if array.ndim == 3 else array
    if made.shape[1] not in (1, 3):
        made = np.moveaxis(made, 3, 1)
    if made.shape[1] not in (1, 3):
        raise DataError(f"{place}: expected uint8 pictures (rows, 3, height, width), got {array.shape}; drop other channels")
    return torch.from_numpy(np.array(np.broadcast_to(made, (len(made), 3, *made.shape[2:]))))


def _unfit(place: str, column: str, row: int, got: Any) -> str:
    limit = f"a finite number within ±{LARGEST:g}"
    return f"{place}, column {column!r}, row {row}: expected {limit}, got {got}; fill, rescale or drop it"


def _matrix(columns: list[tuple[str, Any]], place: str, n: int) -> Tensor:
    """Named columns of numbers as float32 (B, D)."""
    made = np.empty((n, len(columns)))
    for i, (name, raw) in enumerate(columns if n else []):
        found = cells(raw, f"{place}, column {name!r}")
        known = found.known
        if found.kind == "text" or found.states:
            row = int(known.argmax())
            raise DataError(
                f"{place}, column {name!r}, row {row}: expected a number, got {show(found.values[row])}; "
                "encode it as numbers, or drop the column"
            )
        if not known.all():
            raise DataError(_unfit(place, name, int((~known).argmax()), "nothing"))
        made[:, i] = found.values
    return as_tensor(made)
