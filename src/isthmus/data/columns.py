"""Columns of any make (numpy, torch, pandas, lists) read as numbers or texts, with what is unknown marked."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isthmus.data.check import LARGEST, missing
from isthmus.errors import DataError

Array = np.ndarray[Any, np.dtype[Any]]


class Cells(NamedTuple):
    """One column read: what its known cells are, and ``values`` (B,) float64 with NaN, or str and None for texts.

    ``states`` are the categories a pandas column declares.
    """

    kind: Literal["bool", "integer", "number", "text", "unknown"]
    values: Array
    states: tuple[str, ...] = ()

    @property
    def known(self) -> Array:
        """(B,) True where the cell is known."""
        return np.array([v is not None for v in self.values]) if self.kind == "text" else ~np.isnan(self.values)


def is_frame(raw: Any) -> bool:
    """True for a pandas DataFrame (or its like): named columns, rows by position."""
    return hasattr(raw, "iloc") and hasattr(raw, "columns")


def is_category(raw: Any) -> bool:
    """True for a pandas column that declares its categories."""
    return str(getattr(raw, "dtype", "")) == "category"


def show(value: Any) -> str:
    """A value inside a one-line message."""
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")


def to_array(raw: Any, place: str) -> Array:
    """Numbers, texts or objects as one array; masked cells NaN; ``DataError`` when rows differ in length."""
    if isinstance(raw, Tensor):
        if raw.is_sparse or raw.is_quantized or str(raw.layout) != "torch.strided":
            raise DataError(f"{place}: expected a dense array, got a {raw.layout} tensor; use .to_dense()")
        raw = raw.detach().cpu()
        return (raw.float() if raw.is_floating_point() and raw.element_size() < 4 else raw).numpy()
    if isinstance(raw, np.ma.MaskedArray):
        shown = np.asarray(raw.data).astype(object)
        shown[np.ma.getmaskarray(raw)] = None
        return shown
    if isinstance(raw, np.ndarray):
        return raw
    if hasattr(raw, "to_numpy"):
        return raw.to_numpy() if isinstance(getattr(raw, "dtype", None), np.dtype) else raw.to_numpy(dtype=object)
    if isinstance(raw, str | bytes | Mapping) or not isinstance(raw, Sequence):
        todo = "; use .toarray()" if hasattr(raw, "toarray") else ""
        raise DataError(f"{place}: expected an array, a frame or a list, got {type(raw).__name__}{todo}")
    return _from_list(list(raw), place)


def _from_list(rows: list[Any], place: str) -> Array:
    if rows and all(isinstance(row, Tensor | np.ndarray) for row in rows):
        rows = [to_array(row, place) for row in rows]
        for number, row in enumerate(rows):
            if row.shape != rows[0].shape:
                raise DataError(f"{place}, row {number}: expected shape {rows[0].shape} like row 0, got {row.shape}")
        return np.stack(rows)
    widths = [len(row) if isinstance(row, list | tuple) else -1 for row in rows]
    for number, width in enumerate(widths):
        if width != widths[0]:
            raise DataError(f"{place}, row {number}: expected as many values as in row 0; every row needs the same columns")
    try:
        found = np.asarray(rows)
    except (ValueError, TypeError, OverflowError):
        found = np.empty(0)
    if found.dtype.kind in "biuf" and len(found) == len(rows):
        return found
    made = np.empty((len(rows), *widths[:1]) if widths and widths[0] >= 0 else len(rows), dtype=object)
    for number, row in enumerate(rows):
        if made.ndim == 1:
            made[number] = row
        for at, cell in enumerate(row if made.ndim == 2 else ()):
            made[number, at] = cell
    return made


def cells(raw: Any, place: str) -> Cells:
    """Read one column; None, NaN, NA and blank texts are unknown. ``DataError`` names the row that does not fit."""
    if is_category(raw):
        return _categories(raw, place)
    array = to_array(raw, place)
    if array.ndim != 1:
        raise DataError(f"{place}: expected one value for each row, got shape {array.shape}")
    if array.dtype.kind in "biuf":
        kind = {"b": "bool", "f": "number"}.get(array.dtype.kind, "integer")
        with np.errstate(over="ignore"):
            return _limited(kind, array.astype(np.float64), place)
    if array.dtype.kind in "OUT":
        return _objects(array.tolist(), place)
    raise DataError(f"{place}: expected numbers, booleans or texts, got {array.dtype}; convert the column")


def _categories(raw: Any, place: str) -> Cells:
    column = getattr(raw, "cat", raw)
    declared = [None if missing(state) else state for state in column.categories]
    words = [None if code < 0 or declared[code] is None else str(declared[code]) for code in column.codes]
    known = [state for state in declared if state is not None]
    try:
        known = sorted(known)
    except TypeError:
        known = sorted(known, key=str)
    kind = "text" if any(word is not None for word in words) else "unknown"
    values = np.array(words, dtype=object) if kind == "text" else np.full(len(words), np.nan)
    return Cells(kind, values, tuple(str(state) for state in known))


def _kind(value: Any) -> str:
    if missing(value):
        return "unknown"
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, numbers.Integral):
        return "integer"
    if isinstance(value, numbers.Real | Decimal):
        return "number"
    return "text" if isinstance(value, str) else ""


def _objects(values: list[Any], place: str) -> Cells:
    first: dict[str, int] = {}
    for row, value in enumerate(values):
        kind = _kind(value)
        if not kind:
            got = type(value).__name__
            raise DataError(f"{place}, row {row}: expected a number, boolean or text, got {got}; convert the column")
        first.setdefault(kind, row)
    first.pop("unknown", None)
    if "text" in first and len(first) > 1:
        start, row = sorted(first.values())[:2]
        a, b = show(values[start]), show(values[row])
        raise DataError(f"{place}, row {row}: expected one type in the column, got {b} where row {start} has {a}; make it one")
    if "text" in first:
        return Cells("text", np.array([None if missing(value) else value for value in values], dtype=object))
    made = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        try:
            made[row] = np.nan if missing(value) else float(value)
        except (OverflowError, ValueError):
            made[row] = np.inf
    return _limited("number" if "number" in first else "integer" if "integer" in first else "bool", made, place)


def _limited(kind: Any, values: Array, place: str) -> Cells:
    bad = ~(np.isnan(values) | (np.abs(values) <= LARGEST))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{place}, row {row}: expected a finite number within ±{LARGEST:g}, got {values[row]:g}; fix or rescale it"
        )
    return Cells("unknown" if len(values) and np.isnan(values).all() else kind, values)


def codes(found: Cells, names: Sequence[str], place: str) -> Array:
    """(B,) float64 index of each cell among ``names``, NaN unknown.

    Texts are looked up. Numbers are looked up where every name is a number ("1", "2"), and are the index itself where
    the names are words; False and True are 0 and 1.
    """
    if found.kind == "unknown":
        return found.values
    table: dict[Any, int] = {name: i for i, name in enumerate(names)}
    if found.kind != "text":
        numeric = _as_numbers(names)
        table = {number: i for i, number in enumerate(numeric or range(len(names)))}
    made = np.full(len(found.values), np.nan)
    for row in np.flatnonzero(found.known):
        value = found.values[row]
        if value not in table:
            got = value if found.kind == "text" else f"{value:g}"
            near = get_close_matches(got, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            some = ", ".join(map(show, names[:8])) + (", ..." if len(names) > 8 else "")
            index = "" if found.kind == "text" or _as_numbers(names) else f" or an index from 0 to {len(names) - 1}"
            raise DataError(f"{place}, row {row}: expected one of {some}{index}, got {show(got)}{hint}")
        made[row] = table[value]
    return made


def _as_numbers(names: Iterable[str]) -> list[float] | None:
    try:
        found = [float(name) for name in names]
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


def distinct(found: Cells) -> tuple[str, ...]:
    """The names of the values of a column, in sorted order; declared categories also when no row has them."""
    if found.states or found.kind == "unknown":
        return found.states
    if found.kind == "text":
        return tuple(sorted(set(found.values[found.known])))
    if found.kind == "bool":
        return ("False", "True")
    return tuple(f"{value:.15g}" for value in np.unique(found.values[found.known]))


def as_tensor(values: Array) -> Tensor:
    """A copy as a float32 tensor."""
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.array(values, dtype=np.float32))


def same_rows(got: int, n: int, place: str) -> None:
    """Refuse a column that is not as long as x."""
    if got != n:
        raise DataError(f"{place}: expected {n} rows like x, got {got}")
