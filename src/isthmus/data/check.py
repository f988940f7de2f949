"""What a ``Table`` refuses and what it puts right: shapes, types, ranges, blocks; errors name the column and row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from isthmus.data.rows import Rows
from isthmus.errors import DataError
from isthmus.space import ConceptSpace, Task

if TYPE_CHECKING:
    from isthmus.data.table import Table

LARGEST = 1e15  # numbers beyond it overflow float32 when squared and summed, and are a sentinel or a wrong unit
WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check(table: Table) -> None:
    """Refuse what would fail later; put dtypes right: float32 for floats, int64 for classes, bool for askable."""
    n = _inputs(table)
    if not isinstance(table.space, ConceptSpace):
        raise DataError(f"space: expected a ConceptSpace, got {type(table.space).__name__}; see ConceptSpace.binary(names)")
    if not isinstance(table.task, Task):
        got = "none" if table.task is None else type(table.task).__name__
        raise DataError(f"task: expected a Task (classes, labels or value), got {got}; say what y means")
    for name in ("y", "c", "where", "askable", "weight"):
        value = getattr(table, name)
        if value is not None:
            setattr(table, name, _tensor(value, name, n))
    if table.c is not None:
        table.c = _concepts(table.c, table.space)
    if table.y is not None:
        table.y = _targets(table.y, table.task)
    if table.where is not None:
        table.where = _where(table.where, table.space)
    if table.askable is not None:
        table.askable = _askable(table.askable, table.space)
    if table.weight is not None:
        table.weight = _weight(table.weight)
    for name in ("group", "ids", "caption"):
        if getattr(table, name) is not None:
            setattr(table, name, _names(getattr(table, name), name, n))
    table.facts = _facts(table.facts, n)


def _facts(facts: Any, n: int) -> dict[str, Tensor | Sequence[str]] | None:
    if not isinstance(facts, dict | None):
        raise DataError(f"facts: expected a dict of tensors or texts by name, got {type(facts).__name__}")
    named: dict[Any, Any] | None = facts
    return None if named is None else {str(name): _fact(fact, f"facts {name!r}", n) for name, fact in named.items()}


def _fact(fact: Any, name: str, n: int) -> Tensor | Sequence[str]:
    texts = isinstance(fact, list | tuple) and all(isinstance(cell, str) for cell in cast("list[Any]", fact))
    return _names(fact, name, n) if texts else _tensor(fact, name, n)


def _inputs(table: Table) -> int:
    """Check x, turn its floats into float32, return the number of rows."""
    parts: dict[Any, Any] = table.x if isinstance(table.x, dict) else {"x": table.x}
    if not parts:
        raise DataError("x: expected at least one input, got an empty dict")
    made: dict[str, Any] = {}
    for name, part in parts.items():
        if not isinstance(name, str):
            raise DataError(f"x: expected names of inputs that are texts, got {name!r}")
        if not isinstance(part, Tensor | Rows) or isinstance(part, type):
            raise DataError(f"{name}: expected a tensor, Images or Texts, got {type(part).__name__}; see data.from_arrays")
        made[name] = _numbers(part, name) if isinstance(part, Tensor) else part
    n = len(next(iter(made.values())))
    for name, part in made.items():
        if len(part) != n:
            raise DataError(f"{name}: expected {n} rows like the first input, got {len(part)}")
    if n == 0:
        raise DataError("x: expected at least one row, got none; the table or split is empty")
    table.x = made if isinstance(table.x, dict) else made["x"]
    return n


def _numbers(x: Tensor, name: str) -> Tensor:
    if x.ndim < 2:
        raise DataError(f"{name}: expected shape (rows, ...), got {tuple(x.shape)}; add the feature axis")
    if x.layout != torch.strided or not (x.is_floating_point() or x.dtype in WHOLE):
        raise DataError(f"{name}: expected a dense tensor of floats or whole numbers, got {x.dtype}, {x.layout}")
    if len(x) and not x[0].numel():
        raise DataError(f"{name}: expected at least one column, got shape {tuple(x.shape)}")
    if x.is_floating_point() or x.dtype == torch.int64:
        bad = outside(x)
        if bool(bad.any()):
            at = bad.nonzero()[0].tolist()
            raise DataError(
                f"{name}, row {at[0]}, column {','.join(map(str, at[1:]))}: expected a finite number within "
                f"±{LARGEST:g}, got {x[tuple(at)].item():g}; fill, rescale or drop it ({int(bad.sum())} such cells)"
            )
    return x.detach().float() if x.is_floating_point() else x


def outside(x: Tensor, *, unknown: bool = False) -> Tensor:
    """True where x is not a number within ±LARGEST; ``unknown`` lets NaN pass."""
    x = full(x)  # the limit of half precision lies below LARGEST
    good = (x >= -LARGEST) & (x <= LARGEST)
    return ~(good | x.isnan()) if unknown else ~good


def _tensor(value: Any, name: str, n: int) -> Tensor:
    if not isinstance(value, Tensor):
        raise DataError(f"{name}: expected a tensor, got {type(value).__name__}; see data.from_arrays")
    if value.layout != torch.strided or not (value.is_floating_point() or value.dtype in WHOLE):
        raise DataError(f"{name}: expected a dense tensor of real numbers, got {value.dtype}, {value.layout}")
    if value.ndim == 0 or len(value) != n:
        raise DataError(f"{name}: expected {n} rows like x, got {len(value) if value.ndim else 'a single number'}")
    return full(value.detach())


def full(x: Tensor) -> Tensor:
    """Half precision and less as float32; the rest as it is."""
    return x.float() if x.is_floating_point() and x.element_size() < 4 else x


def _concepts(c: Tensor, space: ConceptSpace) -> Tensor:
    if c.ndim != 2 or c.shape[1] != len(space):
        todo = "for one code a concept use space.encode" if len(space) else "pass space=ConceptSpace.binary(names)"
        raise DataError(
            f"c: expected shape ({len(c)}, {len(space)}), one column for each of the space, got {tuple(c.shape)}; {todo}"
        )
    probable = ~space.continuous
    bad = outside(c, unknown=True) | (((c < 0) | (c > 1)) & probable)
    if bool(bad.any()):
        row, k = bad.nonzero()[0].tolist()
        wanted = "0 to 1" if probable[k] else f"a finite number within ±{LARGEST:g}"
        raise DataError(
            f"concept {space.columns[k]!r}, row {row}: expected {wanted} or NaN for unknown, got {c[row, k].item():g}"
        )
    c = c.float()
    for concept, part in zip(space.concepts, space.slices, strict=True):
        block = c[:, part]
        if concept.kind == "categorical":
            unknown, total = block.isnan(), block.nan_to_num().sum(1)
            wrong = (unknown.any(1) & ~unknown.all(1)) | (~unknown.all(1) & ((total - 1).abs() > 1e-3))
            if bool(wrong.any()):
                row = int(wrong.nonzero()[0])
                raise DataError(
                    f"concept {concept.name!r}, row {row}: expected states that sum to 1 (or all NaN for unknown), "
                    f"got {[round(v, 3) for v in block[row].tolist()[:8]]}"
                )
    return c


def _targets(y: Tensor, task: Task) -> Tensor:
    if task.kind == "classes":
        if y.ndim != 1:
            raise DataError(f"y: expected one class index for each row, got shape {tuple(y.shape)}; one-hot: y.argmax(1)")
        number = y.double()
        bad = ~((number >= 0) & (number < task.width) & (number == number.floor()))
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise DataError(f"y, row {row}: expected a class index from 0 to {task.width - 1}, got {y[row].item():g}")
        return y.long()
    want = (len(y), task.width) if task.kind == "labels" else (len(y),)
    y = y[:, 0] if task.kind == "value" and tuple(y.shape) == (len(y), 1) else y
    if tuple(y.shape) != want:
        raise DataError(f"y: expected shape {want} for task {task.kind!r}, got {tuple(y.shape)}")
    bad = ~(y.isnan() | (y == 0) | (y == 1)) if task.kind == "labels" else outside(y, unknown=True)
    if bool(bad.any()):
        at = bad.nonzero()[0].tolist()
        place = f"y {task.names[at[1]]!r}" if task.kind == "labels" else "y"
        wanted = "0, 1" if task.kind == "labels" else f"a finite number within ±{LARGEST:g}"
        raise DataError(f"{place}, row {at[0]}: expected {wanted} or NaN for unknown, got {y[tuple(at)].item():g}")
    if bool(y.isnan().all()):
        raise DataError("y: every value is unknown; expected at least one label")
    return y.float()


def _where(where: Tensor, space: ConceptSpace) -> Tensor:
    if tuple(where.shape[1:]) != (len(space), 4):
        raise DataError(f"where: expected shape ({len(where)}, {len(space)}, 4), got {tuple(where.shape)}")
    bad = outside(where, unknown=True).any(-1)
    if bool(bad.any()):
        row, k = bad.nonzero()[0].tolist()
        raise DataError(f"where {space.columns[k]!r}, row {row}: expected x0, y0, x1, y1 in pixels or NaN, got infinity")
    return where.float()


def _askable(askable: Tensor, space: ConceptSpace) -> Tensor:
    if tuple(askable.shape) != (len(askable), space.count):
        raise DataError(f"askable: expected shape ({len(askable)}, {space.count}), got {tuple(askable.shape)}")
    if not bool(((askable == 0) | (askable == 1)).all()):
        raise DataError("askable: expected True or False in every cell, got other numbers; use askable > 0")
    return askable.bool()


def _weight(weight: Tensor) -> Tensor:
    if weight.ndim != 1:
        raise DataError(f"weight: expected shape ({len(weight)},), got {tuple(weight.shape)}")
    bad = outside(weight) | (weight < 0)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        got = weight[row].item()
        raise DataError(f"weight, row {row}: expected a finite number from 0 to {LARGEST:g}, got {got:g}; 0 leaves a row out")
    weight = weight.float()
    if not bool((weight > 0).any()):
        raise DataError("weight: expected at least one row above 0, got 0 on every row")
    return weight


def _names(values: Any, name: str, n: int) -> list[str]:
    """Names of rows or of groups as texts; a missing one would silently join all missing ones together."""
    if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray | Tensor) or not _countable(values):
        raise DataError(f"{name}: expected a list of {n} names, got {type(values).__name__}")
    if len(values) != n:
        raise DataError(f"{name}: expected {n} rows like x, got {len(values)}")
    rows: list[Any] = values.tolist() if isinstance(values, np.ndarray | Tensor) else list(values)
    for row, value in enumerate(rows):
        if isinstance(value, list | dict | tuple | Tensor | np.ndarray):
            raise DataError(f"{name}, row {row}: expected one name, got {type(value).__name__}")
        if missing(value):
            if name == "caption":
                raise DataError(f"caption, row {row}: expected a text, got {value!r}; write one or drop the row")
            raise DataError(f"{name}, row {row}: expected a name, got {value!r}; name every row, a row alone by its own name")
    return [str(value) for value in rows]


def _countable(values: Any) -> bool:
    return getattr(values, "ndim", 1) == 1


def missing(value: Any) -> bool:
    """True for what stands for an unknown cell: None, NaN, pandas' NA and NaT, a blank text."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, float | np.floating) and bool(np.isnan(value))
