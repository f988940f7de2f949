"""``Table``: rows of x, concept labels c (NaN = unknown), task labels y. ``Splits``: train, validation, test."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from isthmus.data.check import check
from isthmus.data.rows import Rows
from isthmus.errors import DataError
from isthmus.given import Batch
from isthmus.space import EMPTY, ConceptSpace, Task

X = Tensor | Rows | dict[str, "Tensor | Rows"]


STEADY, UNKNOWN = "never varies in train: it cannot be learnt", "is unknown on every train row"  # said of a concept


@contextmanager
def replacing(concepts: bool) -> Iterator[None]:
    """Where others will take the ``concepts``' place, data is read without a warning of those that train cannot teach."""
    if not concepts:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f"concept .* ({STEADY}|{UNKNOWN})$", UserWarning)
        yield


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
    together (a patient); ``ids`` (B,) names of rows. ``facts``: what else is known of the rows, by name, any (B, ...)
    tensors, NaN = unknown, or B texts; no model reads them (how ambiguous a picture is, a patient's skin type, the site).
    ``caption`` (B,): a sentence about each row, from which frozen features may be aligned with texts.
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
    facts: Mapping[str, Tensor | Sequence[str]] | None = None
    caption: Sequence[str] | None = None
    checked: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if not self.checked:
            check(self)
            self.checked = True

    def __len__(self) -> int:
        return _length(self.x)

    def take(self, index: Tensor | Sequence[int] | np.ndarray) -> Table:
        """The rows at ``index``, in that order; or where ``index`` (B,) is True."""
        at = _index(index, len(self))
        pick = lambda t: None if t is None else t[at]  # noqa: E731
        names = lambda s: None if s is None else [s[i] for i in at.tolist()]  # noqa: E731
        return Table(
            _take(self.x, at), pick(self.c), pick(self.y), self.space, self.task, pick(self.where),
            pick(self.askable), pick(self.weight), names(self.group), names(self.ids),
            None if self.facts is None else {name: _fact(fact, at) for name, fact in self.facts.items()}, names(self.caption),
            checked=True,
        )  # fmt: skip

    def replace(self, **changes: Any) -> Table:
        """A copy with these fields changed, checked again."""
        names = ("x", "c", "y", "space", "task", "where", "askable", "weight", "group", "ids", "facts", "caption")
        return Table(**{name: getattr(self, name) for name in names} | changes)

    def read(self) -> Any:
        """x with lazy rows read."""
        return _read(self.x)

    def batch(self, x: Tensor) -> Batch:
        """All rows with these inputs, ready for training: unknown labels split into ``c`` and ``known``."""
        if self.y is None:
            raise DataError("y: expected task labels to train on or to score, got a table without; pass y=")
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

    def askable_for(self, space: ConceptSpace) -> Tensor | None:
        """(B, M) which concepts of ``space`` can be asked about, by name; None where nothing says that one cannot."""
        if self.askable is None or not set(space.names) <= set(self.space.names):
            return None
        if space.names == self.space.names:
            return self.askable
        return self.askable[:, [self.space.names.index(name) for name in space.names]]

    def fingerprint(self) -> str:
        """SHA-256 of x."""
        return _fingerprint(self.x)


def _length(x: Any) -> int:
    return len(next(iter(x.values()))) if isinstance(x, dict) else len(x)


def _fact(fact: Tensor | Sequence[str], at: Tensor) -> Tensor | Sequence[str]:
    return fact[at] if isinstance(fact, Tensor) else [str(fact[i]) for i in at.tolist()]


def _index(index: Tensor | Sequence[int] | np.ndarray, n: int) -> Tensor:
    """Row numbers as int64; a mask of booleans becomes the rows it marks instead of rows 0 and 1."""
    at = torch.as_tensor(index)
    if at.dtype == torch.bool and tuple(at.shape) == (n,):
        return at.nonzero()[:, 0]
    if not at.numel():
        return torch.empty(0, dtype=torch.long)
    if at.ndim != 1 or at.dtype == torch.bool or at.is_floating_point() or at.is_complex():
        raise DataError(f"rows: expected row numbers, or {n} booleans, got {at.dtype} of shape {tuple(at.shape)}")
    if int(at.min()) < -n or int(at.max()) >= n:
        raise DataError(f"rows: expected row numbers below {n}, got {int(at.max() if at.max() >= n else at.min())}")
    return at.long() % n


def _shape(x: Any) -> str:
    """What one row of x is, in words."""
    if isinstance(x, dict):
        return "{" + ", ".join(f"{name}: {_shape(x[name])}" for name in sorted(x)) + "}"
    return f"{x.dtype} {tuple(x.shape[1:])}".removeprefix("torch.") if isinstance(x, Tensor) else type(x).__name__


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


@dataclass(eq=False)
class Splits:
    """Train, validation and test, never optional; a group in two of them is an error.

    Continuous concepts and targets get their center, scale and percentiles from the training rows. ``suggest`` holds
    options of ``compare`` that suit the data (features, training, options, policies), ``published`` figures of its paper.
    """

    train: Table
    validation: Table
    test: Table
    name: str = "data"
    card: DataCard | None = None
    suggest: dict[str, Any] = field(default_factory=dict[str, Any])
    published: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        for name, part in parts.items():
            if not isinstance(part, Table):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise DataError(f"{name}: expected a Table, got {type(part).__name__}; validation and test are not optional")
            if len(part) == 0:
                raise DataError(f"{name}: expected at least one row, got an empty split")
            if part.y is None:
                raise DataError(f"{name}: expected y, got none")
            if part.space != self.train.space or part.task != self.train.task:
                raise DataError(f"{name}: expected the same concepts and task as train")
            if (part.c is None) != (self.train.c is None):
                raise DataError(f"{name}: expected concept labels in every split or in none (unknown cells are NaN)")
            if (part.group is None) != (self.train.group is None):
                raise DataError(f"{name}: expected groups in every split or in none")
            if _shape(part.x) != _shape(self.train.x):
                raise DataError(f"{name}: expected x like train's, {_shape(self.train.x)}, got {_shape(part.x)}")
        seen: dict[str, str] = {}
        for name, part in parts.items():
            for group in set(part.group or ()):
                if seen.setdefault(group, name) != name:
                    raise DataError(f"group {group!r} stands in {seen[group]} and {name}; split by group")
        self._calibrate()

    def _calibrate(self) -> None:
        train = self.train
        assert train.y is not None
        assert train.task is not None
        space = train.space if train.c is None else train.space.fitted(train.c)
        task = train.task.fitted(train.y)
        self.train, self.validation, self.test = (
            replace(part, space=space, task=task) for part in (self.train, self.validation, self.test)
        )
        if train.c is None:
            return
        steady: list[str] = []
        unknown: list[str] = []
        for concept, part in zip(space.concepts, space.slices, strict=True):
            block = train.c[:, part]
            block = block[~block.isnan().any(1)]
            if not len(block):
                unknown.append(concept.name)
            elif bool((block == block[0]).all()):
                steady.append(concept.name)
        for names, what in ((steady, STEADY), (unknown, UNKNOWN)):
            rest = f" and {len(names) - 20} more" if len(names) > 20 else ""
            every = f"{', '.join(map(repr, names[:20]))}{rest} ({len(names)} of {space.count}): each"
            for said in [every] if len(names) > 5 else map(repr, names):
                warnings.warn(f"concept {said} {what}", stacklevel=4)

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
    table: Table, *, validation: float = 0.15, test: float = 0.2, seed: int = 0, stratify: bool = True,
    name: str = "data", card: DataCard | None = None,
) -> Splits:  # fmt: skip
    """Cut a table into train, validation and test by seed; whole groups stay together, class shares are kept.

    ``validation`` and ``test`` are shares of the rows (of the groups, where there are some), above 0 and together
    below 1; in every class each share is kept to within one row.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise DataError(f"split: expected shares above 0 that sum below 1, got validation={validation}, test={test}")
    part = _draw(table, (test, validation), seed, stratify)
    for index, label in enumerate(("train", "test", "validation")):
        if not (part == index).any():
            units = len(table) if table.group is None else len(set(table.group))
            what = "rows" if table.group is None else "groups"
            raise DataError(f"split: {label} would be empty with {units} {what}; give more {what} or other shares")
    train, tested, held = (table.take(np.flatnonzero(part == index)) for index in range(3))
    return Splits(train, held, tested, name=name, card=card)


MARKS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("validation", "valid", "val", "dev"), "validation"
)


def split_by(
    table: Table, marks: Sequence[str], *, validation: float = 0.15, seed: int = 0, name: str = "data",
    card: DataCard | None = None,
) -> Splits:  # fmt: skip
    """Cut a table by the mark on each row: 'train', 'validation' (or 'valid', 'val', 'dev'), 'test'; any case.

    Without a validation mark that share of the training rows is drawn by seed: groups whole, classes in proportion.
    """
    if len(marks) != len(table):
        raise DataError(f"split: expected {len(table)} marks, one for each row, got {len(marks)}")
    found: list[str] = []
    for row, mark in enumerate(marks):
        if str(mark).strip().lower() not in MARKS:
            raise DataError(f"split, row {row}: expected train, validation or test, got {str(mark)[:40]!r}")
        found.append(MARKS[str(mark).strip().lower()])
    part = np.array(found, dtype="<U10")
    train = np.flatnonzero(part == "train")
    if not (part == "validation").any() and len(train):
        if not 0 < validation < 1:
            raise DataError(f"split: expected validation above 0 and below 1, got {validation}")
        part[train[_draw(table.take(train), (validation,), seed) == 1]] = "validation"
    for label in ("train", "validation", "test"):
        if not (part == label).any():
            raise DataError(f"split: expected at least one {label} row, got none; mark some, or split by seed instead")
    cut = [table.take(np.flatnonzero(part == label)) for label in ("train", "validation", "test")]
    return Splits(cut[0], cut[1], cut[2], name=name, card=card)


def _draw(table: Table, shares: tuple[float, ...], seed: int, stratify: bool = True) -> np.ndarray:
    """(B,) 1, 2, ... on rows drawn for each of ``shares``, 0 on the rest; groups whole, classes in proportion."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise DataError(f"split: expected seed, a whole number of at least 0, got {seed!r}")
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
    cuts = np.cumsum(shares)
    shift = generator.random()
    for cls in np.unique(stratum):
        members = generator.permutation(np.flatnonzero(stratum == cls))
        # systematic positions: every stratum keeps its share to within one unit, and tiny strata take turns
        position = (np.arange(len(members)) + shift) / len(members)
        part[members] = (np.searchsorted(cuts, position, side="right") + 1) % (len(shares) + 1)
        shift = (shift + 0.618033988749895) % 1
    return part[unit]
