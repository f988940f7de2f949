"""What is known about the concepts: teacher forcing, RandInt and a person's correction are all one ``Given``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor

from isthmus.errors import DataError, unknown
from isthmus.space import ConceptSpace

Inputs = Tensor | dict[str, Tensor]


def moved(x: Any, device: torch.device | str, index: Tensor | None = None) -> Any:
    """The rows at ``index`` (all, when None) of a tensor or a dict of tensors, on ``device``; other things as they are."""
    if isinstance(x, dict):
        return {name: moved(part, device, index) for name, part in cast("dict[str, Any]", x).items()}
    return (x if index is None else x[index]).to(device) if isinstance(x, Tensor) else x


@dataclass(slots=True)
class Batch:
    """Rows on their way through training: inputs x, concept labels c (B, K), task labels y, row weights.

    ``known`` (B, K) marks the labels that are known, None when all are; c holds 0 where a label is unknown.
    """

    x: Inputs
    c: Tensor | None
    y: Tensor
    space: ConceptSpace
    known: Tensor | None = None
    weight: Tensor | None = None

    def labels(self) -> Tensor:
        if self.c is None:
            raise DataError("c: expected concept labels, got a table without; pass c=, or a method that needs none")
        return self.c


@dataclass(frozen=True, eq=False, slots=True)
class Given:
    """Known concept values in concept units: 0/1 (or a probability), a state as a one-hot block, a number.

    ``values`` and ``mask`` are (B, K), or (1, K) for the same on every row. The mask covers whole blocks; a single
    state given 0 (or a probability) is held and the rest of its block shares what is left.
    """

    values: Tensor
    mask: Tensor

    def check(self, space: ConceptSpace, rows: int) -> None:
        """Raise the error that names the first wrong concept: shape, NaN, range, or a block that cannot sum to 1."""
        for what, tensor in (("values", self.values), ("mask", self.mask)):
            if not isinstance(tensor, Tensor) or tensor.is_complex():  # pyright: ignore[reportUnnecessaryIsInstance]
                got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
                raise DataError(f"given {what}: expected a tensor of real numbers, got {got}; given() takes names")
            if tensor.ndim != 2 or tensor.shape[1] != len(space) or tensor.shape[0] not in (1, rows):
                raise DataError(
                    f"given {what}: expected shape ({rows}, {len(space)}) or (1, {len(space)}), got {tuple(tensor.shape)}; "
                    f"one column for each of {', '.join(space.columns[:3])}, ..."
                )
        if self.mask.dtype != torch.bool:
            raise DataError(f"given mask: expected bool, got {self.mask.dtype}; use mask > 0")
        mask = self.mask if len(self.mask) == len(self.values) else self.mask.expand(rows, -1)
        values = torch.where(mask, self.values, torch.zeros((), dtype=self.values.dtype, device=self.values.device))
        bad = ~values.isfinite() | (((values < 0) | (values > 1)) & ~space.continuous.to(values.device))
        if bool(bad.any()):
            row, column = (int(i) for i in bad.nonzero()[0])
            raise DataError(
                f"given {space.columns[column]!r}, row {row}: expected 0 to 1 (continuous: a finite number), "
                f"got {values[row, column].item():g}; leave what you do not know out of the mask"
            )
        for index in space.blocks:
            index = index.to(values.device)
            total, whole = values[:, index].sum(-1), mask[:, index].all(-1)
            wrong = (total > 1.001) | (whole & (total < 0.999))
            if bool(wrong.any()):
                row, block = (int(i) for i in wrong.nonzero()[0])
                name = space.names[int(space.owner_of[index[block, 0]])]
                raise DataError(f"given {name!r}, row {row}: states sum to {total[row, block].item():g}, expected 1")

    def rows(self, index: Tensor) -> Given:
        """The rows at ``index``; what is given on every row stays as it is."""
        return Given(*(t[index] if len(t) > 1 else t for t in (self.values, self.mask)))

    def to(self, device: torch.device | str) -> Given:
        return Given(self.values.to(device), self.mask.to(device))


def given(space: ConceptSpace, known: Mapping[Any, float | str | None], rows: int = 1) -> Given:
    """Corrections by name: ``{"ace of spades": 1, "rank": "ace", "rank=two": 0, "age": 61}``; None = do not know.

    Returns a ``Given`` of shape (rows, K). A state given 1 fixes its block. An index may stand for a name; unknown
    names: "did you mean".
    """
    values, mask = torch.zeros(rows, len(space)), torch.zeros(rows, len(space), dtype=torch.bool)
    for name, value in known.items():
        if value is None or (isinstance(value, float) and value != value):
            continue
        name = space.names[space.index(int(name))] if hasattr(name, "__index__") else name
        if name in space.names and (concept := space.concepts[space.names.index(name)]).kind == "categorical":
            if value not in concept.states:
                raise unknown(f"state of {name!r}", str(value), concept.states)
            name, value = f"{name}={value}", 1.0
        if name not in space.columns:
            raise unknown("concept", str(name), (*space.names, *space.columns))
        number = _number(name, value)
        column = space.columns.index(name)
        part = space.slices[int(space.owner_of[column])]
        if rows and bool(mask[0, column]) and values[0, column].item() != number:
            raise DataError(f"given {name!r}: {number:g} contradicts another correction of the same concept; keep one")
        if number == 1.0 and part.stop - part.start > 1:
            values[:, part], mask[:, part] = 0.0, True
        values[:, column], mask[:, column] = number, True
    result = Given(values, mask)
    result.check(space, rows)
    return result


def _number(name: str, value: object) -> float:
    try:
        return float("text" if isinstance(value, str) else value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        said = f"expected a number from 0 to 1 (or in its unit), got {str(value)[:40]!r}"
        raise DataError(f"given {name!r}: {said}") from None


def reveal(c: Tensor, chosen: Tensor, space: ConceptSpace) -> Given:
    """The true values c (B, K) of the ``chosen`` (B, M) concepts; an unknown label (NaN) is never given."""
    return Given(c.nan_to_num(), space.widen(chosen) & ~c.isnan())


class Givens(Protocol):
    """A rule that says, for a training batch, what is given."""

    def __call__(self, batch: Batch) -> Given | None: ...


def nothing(batch: Batch) -> None:
    """No concept is given: ordinary training and prediction."""


def everything(batch: Batch) -> Given:
    """Every known label is given: teacher forcing, the independent bottleneck."""
    c = batch.labels()
    return Given(c, torch.ones(1, c.shape[1], dtype=torch.bool, device=c.device) if batch.known is None else batch.known)


@dataclass(frozen=True)
class Randomly:
    """RandInt (Espinosa Zarlenga et al. 2022, section 4.2): each concept is given with probability ``p``.

    ``shared`` draws one mask for the batch, as the authors' code does; else one for each row.
    """

    p: float
    shared: bool = True
    training_only: ClassVar[bool] = True  # validation gives nothing

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise DataError(f"randomly: expected a probability from 0 to 1, got {self.p}")

    def __call__(self, batch: Batch) -> Given:
        c, space = batch.labels(), batch.space
        mask = space.widen(torch.rand(1 if self.shared else len(c), space.count).to(c.device) < self.p)
        return Given(c, mask if batch.known is None else mask & batch.known)


randomly = Randomly


def hold(values: Tensor, given: Given | None, space: ConceptSpace, written: Tensor | None = None) -> Tensor:
    """Write what is given into values (B, K), bit for bit; the free states of a touched block share what is left.

    ``written`` are the given values in the bottleneck's own unit (its ``value_of``); default: concept units.
    """
    if given is None:
        return values
    wanted = (given.values if written is None else written).to(values)
    mask = given.mask
    held = torch.where(mask, wanted, values)
    for index in (each.to(values.device) for each in space.blocks if written is None):
        block, fixed = held[..., index], mask.expand(held.shape)[..., index]
        free = block.masked_fill(fixed, 0.0)
        left = (1 - block.masked_fill(~fixed, 0.0).sum(-1, keepdim=True)).clamp(min=0)
        total = free.sum(-1, keepdim=True)
        even = (~fixed).float() / (~fixed).sum(-1, keepdim=True).clamp(min=1)
        shared = torch.where(total > 1e-12, free / total.clamp(min=1e-12), even) * left
        touched = fixed.any(-1, keepdim=True) & ~fixed
        held = held.index_copy(-1, index.flatten(), torch.where(touched, shared, block).flatten(-2))
    return held
