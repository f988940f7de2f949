"""Concept columns of any make as a ``ConceptSpace`` and its labels c (B, K)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.data.columns import Array, Cells, as_tensor, cells, codes, distinct, is_frame, same_rows, show, to_array
from isthmus.errors import DataError, unknown
from isthmus.space import EMPTY, Concept, ConceptSpace, Kind

YES = dict.fromkeys(("true", "yes", "t", "y", "1", "present"), 1.0)
STRAY = 0.05  # a share of values below which they may be slips of the pen
NO = dict.fromkeys(("false", "no", "f", "n", "0", "absent"), 0.0)


def named_columns(raw: Any, n: int, names: Sequence[str] | None, place: str, stem: str) -> list[tuple[str, Any]]:
    """(name, column) of a frame, a series, a dict of columns, or an array (B, columns) with ``names``."""
    if names is not None and (isinstance(names, str) or is_frame(raw) or isinstance(raw, Mapping)):
        todo = "a frame or dict has names of its own" if not isinstance(names, str) else "put it into a list"
        raise DataError(f"{place}: expected no names beside named columns, or a list of names, got {show(names)}; {todo}")
    if is_frame(raw):
        found = [(str(name), raw.iloc[:, i]) for i, name in enumerate(raw.columns)]
    elif isinstance(raw, Mapping):
        found = [(str(name), column) for name, column in raw.items()]
    elif hasattr(raw, "iloc") and getattr(raw, "name", None) is not None and names is None:
        found = [(str(raw.name), raw)]
    else:
        array = to_array(raw, place)
        if array.ndim != 2:
            raise DataError(f"{place}: expected shape ({n}, columns), got {array.shape}; a single column is c[:, None]")
        chosen = [f"{stem} {i}" for i in range(array.shape[1])] if names is None else [str(name) for name in names]
        if len(chosen) != array.shape[1]:
            raise DataError(f"{place}: expected {array.shape[1]} names, one for each column, got {len(chosen)}")
        same_rows(len(array), n, place)
        found = [(name, array[:, i]) for i, name in enumerate(chosen)]
    if not found:
        raise DataError(f"{place}: expected at least one column, got none; leave it out instead")
    for name, column in found:
        size = len(column) if hasattr(column, "__len__") and getattr(column, "ndim", 1) else -1
        same_rows(size, n, f"{place} {name!r}")
    return found


def concept_labels(
    raw: Any,
    n: int,
    space: ConceptSpace | None,
    names: Sequence[str] | None,
    kinds: Mapping[str, Kind | Concept] | None,
) -> tuple[ConceptSpace, Tensor | None]:
    """The space and c (B, K) of concept columns; see ``from_arrays``."""
    if space is not None and not isinstance(space, ConceptSpace):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"space: expected a ConceptSpace, got {type(space).__name__}; see ConceptSpace.binary(names)")
    if kinds is not None and not isinstance(kinds, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"kinds: expected a dict from concept to kind, got {type(kinds).__name__}")
    if space is not None and (names is not None or kinds is not None):
        raise DataError("concepts: expected either space, or concept_names and kinds, got both; the space says it all")
    if raw is None:
        return space or EMPTY, None
    if space is not None:
        return space, _by_space(raw, n, space)
    found = named_columns(raw, n, names, "concepts", "concept")
    for name in kinds or {}:
        if name not in dict(found):
            raise unknown("concept in kinds", name, dict(found))
    made = [concept_column(name, column, (kinds or {}).get(name)) for name, column in found]
    space = ConceptSpace(tuple(concept for concept, _ in made))
    return space, space.encode(torch.from_numpy(np.stack([values for _, values in made], 1)))


def _by_space(raw: Any, n: int, space: ConceptSpace) -> Tensor:
    """Concept columns in the order of ``space``: by name where there are names, else by position."""
    if not (is_frame(raw) or isinstance(raw, Mapping) or hasattr(raw, "iloc")):
        raw = to_array(raw, "concepts")
        width = raw.shape[1] if raw.ndim == 2 else 0
        if width not in (len(space), space.count) or not width:
            want = f"({n}, {len(space)})" + (f" or ({n}, {space.count})" if space.count != len(space) else "")
            raise DataError(f"concepts: expected shape {want} by the space, got {raw.shape}")
        raw = dict(named_columns(raw, n, space.columns if width == len(space) else space.names, "concepts", "concept"))
    columns = named_columns(raw, n, None, "concepts", "concept")
    found = dict(columns)
    if len(found) < len(columns):
        raise DataError("concepts: expected different column names, got one twice; rename or drop it")
    parts: list[Array] = []
    for concept, part in zip(space.concepts, space.slices, strict=True):
        own = space.columns[part]
        if concept.kind == "categorical" and concept.name not in found and set(own) <= set(found):
            parts += [concept_column(name, found.pop(name), "binary")[1] for name in own]
            continue
        if concept.name not in found:
            raise unknown("concept column", concept.name, found)
        values = concept_column(concept.name, found.pop(concept.name), concept)[1]
        parts += list(ConceptSpace.of(concept).encode(torch.from_numpy(values)[:, None]).T.numpy())
    if found:
        raise unknown("concept", next(iter(found)), space.names)
    return as_tensor(np.stack(parts, 1)) if parts else torch.zeros(n, 0)


def concept_column(name: str, raw: Any, kind: Kind | Concept | None = None) -> tuple[Concept, Array]:
    """One concept and its (B,) numbers: 0 or 1, a state's index, or the value; NaN unknown.

    Without ``kind``: booleans and columns of only 0 and 1 are binary, texts categorical with sorted states, other
    numbers continuous.
    """
    place = f"concept {name!r}"
    found = cells(raw, place)
    if kind is None:
        if found.kind == "unknown" and not found.states:
            raise DataError(f"{place}: every value is unknown, so its kind is too; drop the column or give its kind")
        kind = _guess(found, place)
    concept, kind = (kind, kind.kind) if isinstance(kind, Concept) else (None, kind)
    if kind == "categorical":
        states = concept.states if concept else distinct(found)
        if len(states) < 2:
            raise DataError(f"{place}: expected two or more states, got {list(states)}; drop the column or declare its states")
        return concept or Concept(name, "categorical", tuple(states)), codes(found, states, place)
    if found.kind == "text" and kind == "binary":
        return concept or Concept(name), _words(found, place)
    if found.kind == "text":
        row = int(found.known.argmax())
        raise DataError(f"{place}, row {row}: expected a number, got {show(found.values[row])}; is it categorical?")
    if kind == "binary":
        bad = (found.values < 0) | (found.values > 1)
        if bad.any():
            row = int(bad.argmax())
            raise DataError(f"{place}, row {row}: expected 0 to 1 or nothing for unknown, got {found.values[row]:g}")
    return concept or Concept(name, kind), found.values


def _guess(found: Cells, place: str) -> Kind:
    """Words are states, 0 and 1 alone are yes and no, other numbers numbers; a stray value that decides it is a warning."""
    if found.states:
        return "categorical"
    rows = np.flatnonzero(found.known)
    odd = [row for row in rows if str(found.values[row]).strip() not in ("0", "1", "0.0", "1.0")]
    kind: Kind = "categorical" if found.kind == "text" else "continuous" if odd else "binary"
    if 0 < len(odd) <= STRAY * len(rows):
        said = f"{show(found.values[odd[0]])} in row {odd[0]} makes it {kind}, {len(rows) - len(odd)} of {len(rows)} are 0 or 1"
        warnings.warn(f"{place}: {said}; mend the value, or give the column's kind", stacklevel=2)
    return kind


def _words(found: Cells, place: str) -> Array:
    made = np.full(len(found.values), np.nan)
    for row in np.flatnonzero(found.known):
        word = str(found.values[row]).strip().lower()
        if word not in YES | NO:
            raise DataError(f"{place}, row {row}: expected yes/no, true/false or 1/0, got {show(found.values[row])}")
        made[row] = (YES | NO)[word]
    return made
