"""``Table``: rows of x, concept labels c (NaN = unknown), task labels y. ``Splits``: train, validation, test."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from isthmus.data.rows import Rows
from isthmus.errors import DataError
from isthmus.given import Batch
from isthmus.space import EMPTY, ConceptSpace, Task

X = Tensor | Rows | dict[str, "Tensor | Rows"]


@dataclass(frozen=True)
class DataCard:
    """Where data came from and under what terms."""

    name: str
    title: str
    licence: str
    source: str
    terms: str
    citation: str = ""
    notes: str = ""
    share: Literal["permissive", "share-alike", "research"] = "permissive"


@dataclass(eq=False)
class Table:
    """Rows of data, checked when made.

    x: float (B, ...), uint8 images (B, 3, H, W), lazy ``Rows``, or a dict of these. c (B, K): binary and categorical
    columns 0 to 1, continuous any finite number, NaN = unknown over a whole concept. y: int (B,) class index; float
    (B, Y) labels in {0, 1} or (B,) number, NaN = unknown. ``where`` (B, K, 4) boxes x0, y0, x1, y1 in pixels, NaN where
    the concept is not placed; ``askable`` (B, M) bool; ``weight`` (B,) at least 0; ``group`` (B,) rows that belong
    together (a patient); ``ids`` (B,) names of rows.
    """

    x: Any
    c: Tensor | None = None
    y: Tensor | None = None
    space: ConceptSpace = EMPTY
    task: Task | None = None
    where: Tensor | None = None
    askable: Tensor | None = None
    weight: Tensor | None = None
    group: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    checked: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if not self.checked:
            _check(self)
            self.checked = True

    def __len__(self) -> int:
        return _length(self.x)

    def take(self, index: Tensor | Sequence[int] | np.ndarray) -> Table:
        """The rows at ``index``, in that order."""
        at = torch.as_tensor(index, dtype=torch.long)
        pick = lambda t: None if t is None else t[at]  # noqa: E731
        names = lambda s: None if s is None else [s[i] for i in at.tolist()]  # noqa: E731
        return Table(
            _take(self.x, at), pick(self.c), pick(self.y), self.space, self.task, pick(self.where),
            pick(self.askable), pick(self.weight), names(self.group), names(self.ids), checked=True,
        )  # fmt: skip

    def replace(self, **changes: Any) -> Table:
        """A copy with these fields changed, checked again."""
        names = ("x", "c", "y", "space", "task", "where", "askable", "weight", "group", "ids")
        return Table(**{name: getattr(self, name) for name in names} | changes)

    def read(self) -> Any:
        """x with lazy rows read."""
        return _read(self.x)

    def batch(self, x: Tensor) -> Batch:
        """All rows with these inputs, ready for training: unknown labels split into ``c`` and ``known``."""
        assert self.y is not None
        if self.c is None or not self.c.shape[1]:
            return Batch(x, None, self.y, self.space, None, self.weight)
        unknown = self.c.isnan()
        known = ~unknown if bool(unknown.any()) else None
        return Batch(x, self.c if known is None else self.c.nan_to_num(), self.y, self.space, known, self.weight)

    def labels_for(self, space: ConceptSpace) -> Tensor | None:
        """Concept labels in the columns of ``space``, by name; None where the table has no label for one of them."""
        if self.c is None or not len(space) or not set(space.columns) <= set(self.space.columns):
            return None
        if space.columns == self.space.columns:
            return self.c
        return self.c[:, [self.space.columns.index(name) for name in space.columns]]

    def fingerprint(self) -> str:
        """SHA-256 of x."""
        return _fingerprint(self.x)


def _length(x: Any) -> int:
    return len(next(iter(x.values()))) if isinstance(x, dict) else len(x)


def _take(x: Any, at: Tensor) -> Any:
    if isinstance(x, dict):
        return {name: _take(part, at) for name, part in x.items()}
    return x[at] if isinstance(x, Tensor) else x.take(at)


def _read(x: Any) -> Any:
    if isinstance(x, dict):
        return {name: _read(part) for name, part in x.items()}
    return x if isinstance(x, Tensor) else x.read()


def _fingerprint(x: Any) -> str:
    if isinstance(x, dict):
        return hashlib.sha256("".join(f"{name}:{_fingerprint(x[name])};" for name in sorted(x)).encode()).hexdigest()
    if not isinstance(x, Tensor):
        return x.fingerprint()
    head = f"{x.dtype}{tuple(x.shape)}".encode()
    return hashlib.sha256(head + x.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def _check(table: Table) -> None:
    """Refuse what would fail later, naming the column; normalise dtypes."""
    parts = table.x if isinstance(table.x, dict) else {"x": table.x}
    if not parts:
        raise DataError("x: expected at least one input, got an empty dict")
    n = _length(table.x)
    for name, part in parts.items():
        if not isinstance(part, Tensor | Rows):
            raise DataError(f"{name}: expected a tensor, Images or Texts, got {type(part).__name__}; see data.from_arrays")
        if isinstance(part, Tensor) and part.ndim < 2:
            raise DataError(f"{name}: expected shape (rows, ...), got {tuple(part.shape)}; add the feature axis")
        if len(part) != n:
            raise DataError(f"{name}: expected {n} rows like the first input, got {len(part)}")
        if isinstance(part, Tensor) and part.is_floating_point():
            _finite(part, name)
    if n == 0:
        raise DataError("x: expected at least one row, got none; the table or split is empty")
    if table.task is None:
        raise DataError("task: expected a Task (classes, labels or value), got none; say what y means")
    for name in ("where", "askable", "weight", "group", "ids", "y", "c"):
        value = getattr(table, name)
        if value is not None and len(value) != n:
            raise DataError(f"{name}: expected {n} rows like x, got {len(value)}")
    table.c = None if table.c is None else _concepts(table.c, table.space)
    table.y = None if table.y is None else _targets(table.y, table.task)
    if table.where is not None and tuple(table.where.shape[1:]) != (len(table.space), 4):
        raise DataError(f"where: expected shape ({n}, {len(table.space)}, 4), got {tuple(table.where.shape)}")
    if table.askable is not None:
        if tuple(table.askable.shape) != (n, table.space.count):
            raise DataError(f"askable: expected shape ({n}, {table.space.count}), got {tuple(table.askable.shape)}")
        table.askable = table.askable.bool()
    if table.weight is not None:
        table.weight = table.weight.float()
        if table.weight.ndim != 1 or not bool((table.weight.isfinite() & (table.weight >= 0)).all()):
            raise DataError(f"weight: expected ({n},) finite numbers of at least 0")
    if table.group is not None:
        table.group = [str(g) for g in table.group]


def _finite(x: Tensor, name: str) -> None:
    bad = ~x.isfinite()
    if bool(bad.any()):
        at = bad.nonzero()[0].tolist()
        raise DataError(
            f"{name}, row {at[0]}, column {','.join(map(str, at[1:])) or 0}: expected a finite number, "
            f"got {x[tuple(at)].item()}; fill or drop it ({int(bad.sum())} such cells)"
        )


def _concepts(c: Tensor, space: ConceptSpace) -> Tensor:
    if c.ndim != 2 or c.shape[1] != len(space):
        raise DataError(
            f"c: expected shape (rows, {len(space)}), one column for each of the space, got {tuple(c.shape)}; "
            "for one code a concept use space.encode"
        )
    c = c.float()
    probable = ~space.continuous
    bad = c.isinf() | (((c < 0) | (c > 1)) & probable)
    if bool(bad.any()):
        row, k = bad.nonzero()[0].tolist()
        raise DataError(
            f"concept {space.columns[k]!r}, row {row}: expected {'0 to 1' if probable[k] else 'a finite number'} "
            f"or NaN for unknown, got {c[row, k].item():g}"
        )
    for concept, part in zip(space.concepts, space.slices, strict=True):
        block = c[:, part]
        if concept.kind == "categorical":
            unknown, total = block.isnan(), block.nan_to_num().sum(1)
            wrong = (unknown.any(1) & ~unknown.all(1)) | (~unknown.all(1) & ((total - 1).abs() > 1e-3))
            if bool(wrong.any()):
                row = int(wrong.nonzero()[0])
                raise DataError(
                    f"concept {concept.name!r}, row {row}: expected states that sum to 1 (or all NaN for unknown), "
                    f"got {[round(v, 3) for v in block[row].tolist()]}"
                )
    return c


def _targets(y: Tensor, task: Task) -> Tensor:
    n = len(y)
    if task.kind == "classes":
        if y.ndim != 1:
            raise DataError(f"y: expected one class index for each row, got shape {tuple(y.shape)}")
        bad = ~torch.isfinite(y.double()) | (y.double() != y.double().nan_to_num().floor())
        bad |= (y.double().nan_to_num() < 0) | (y.double().nan_to_num() >= task.width)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise DataError(f"y, row {row}: expected a class index from 0 to {task.width - 1}, got {y[row].item():g}")
        return y.long()
    want = (n, task.width) if task.kind == "labels" else (n,)
    y = y[:, 0] if task.kind == "value" and tuple(y.shape) == (n, 1) else y
    if tuple(y.shape) != want:
        raise DataError(f"y: expected shape {want} for task {task.kind!r}, got {tuple(y.shape)}")
    y = y.float()
    bad = y.isinf() | ((~y.isnan()) & (y != 0) & (y != 1)) if task.kind == "labels" else y.isinf()
    if bool(bad.any()):
        at = bad.nonzero()[0].tolist()
        wanted = "0, 1 or NaN" if task.kind == "labels" else "a finite number or NaN"
        raise DataError(f"y, row {at[0]}: expected {wanted}, got {y[tuple(at)].item():g}")
    if bool(y.isnan().all()):
        raise DataError("y: every value is unknown; expected at least one label")
    return y


@dataclass(eq=False)
class Splits:
    """Train, validation and test, never optional; a group in two of them is an error.

    Continuous concepts and targets get their center, scale and percentiles from the training rows.
    """

    train: Table
    validation: Table
    test: Table
    name: str = "data"
    card: DataCard | None = None

    def __post_init__(self) -> None:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        for name, part in parts.items():
            if len(part) == 0:
                raise DataError(f"{name}: expected at least one row, got an empty split")
            if part.y is None:
                raise DataError(f"{name}: expected y, got none")
            if part.space != self.train.space or part.task != self.train.task:
                raise DataError(f"{name}: expected the same concepts and task as train")
            if (part.c is None) != (self.train.c is None):
                raise DataError(f"{name}: expected concept labels in every split or in none (unknown cells are NaN)")
        seen: dict[str, str] = {}
        for name, part in parts.items():
            for group in set(part.group or ()):
                if seen.setdefault(group, name) != name:
                    raise DataError(f"group {group!r} stands in {seen[group]} and {name}; split by group")
        self._calibrate()

    def _calibrate(self) -> None:
        train = self.train
        assert train.y is not None and train.task is not None
        space = train.space if train.c is None else train.space.fitted(train.c)
        task = train.task.fitted(train.y)
        self.train, self.validation, self.test = (
            replace(part, space=space, task=task) for part in (self.train, self.validation, self.test)
        )
        if train.c is None:
            return
        for concept, part in zip(space.concepts, space.slices, strict=True):
            block = train.c[:, part]
            block = block[~block.isnan().any(1)]
            if len(block) and bool((block == block[0]).all()):
                warnings.warn(f"concept {concept.name!r} never varies in train: it cannot be learnt", stacklevel=4)
            elif not len(block):
                warnings.warn(f"concept {concept.name!r} is unknown on every train row", stacklevel=4)

    @property
    def space(self) -> ConceptSpace:
        return self.train.space

    @property
    def task(self) -> Task:
        assert self.train.task is not None
        return self.train.task

    @property
    def fold(self) -> Fold:
        """What a stage may see: train and validation."""
        return Fold(self.train, self.validation)


@dataclass(frozen=True, eq=False)
class Fold:
    """Train and validation; a stage gets this and cannot reach test."""

    train: Table
    validation: Table


def split(
    table: Table, *, validation: float = 0.15, test: float = 0.2, seed: int = 0, stratify: bool = True, name: str = "data",
    card: DataCard | None = None,
) -> Splits:  # fmt: skip
    """Cut a table into train, validation and test by seed; whole groups stay together, class shares are kept.

    ``validation`` and ``test`` are shares of the rows, above 0 and together below 1.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise DataError(f"split: expected shares above 0 that sum below 1, got validation={validation}, test={test}")
    generator = np.random.default_rng(seed)
    n = len(table)
    unit = np.arange(n) if table.group is None else np.unique(np.asarray(table.group), return_inverse=True)[1]
    units = int(unit.max()) + 1
    first = np.full(units, n)
    np.minimum.at(first, unit, np.arange(n))
    stratum = np.zeros(units, dtype=int)
    if stratify and table.y is not None and table.task is not None and table.task.kind == "classes":
        stratum = table.y.numpy()[first]
    part = np.zeros(units, dtype=int)
    cuts = np.array([test, test + validation])
    shift = generator.random()
    for cls in np.unique(stratum):
        members = generator.permutation(np.flatnonzero(stratum == cls))
        # systematic positions: every stratum keeps its share to within one unit, and tiny strata take turns
        position = (np.arange(len(members)) + shift) / len(members)
        part[members] = np.where(position < cuts[0], 2, np.where(position < cuts[1], 1, 0))
        shift = (shift + 0.618033988749895) % 1
    for index, label in enumerate(("train", "validation", "test")):
        if not (part == index).any():
            raise DataError(f"split: {label} would be empty with {units} rows or groups; give more rows or other shares")
    cut = [table.take(np.flatnonzero(part[unit] == index)) for index in range(3)]
    return Splits(cut[0], cut[1], cut[2], name=name, card=card)
