"""A sparse head's columns: extent, centre and spread, exact for any finite floats, whatever their place and scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import DataError
from isthmus.numerics._links import Link

PLAIN = 20  # columns of largest size within 2 to this power, or its inverse, are taken as they are
ROOM = {torch.float32: (1e-36, 1e36), torch.float64: (1e-300, 1e300)}  # spreads that have weights of full precision
UNSCALED = {torch.float32: 1e8, torch.float64: 1e70}  # the largest spread whose fourth power, summed, does not overflow


@dataclass(frozen=True)
class Columns:
    """``x`` (D, n) centred, and scaled where asked for; ``mean`` (D,) in float64, ``scale`` (D,) 0 where constant."""

    x: Tensor
    mean: Tensor
    scale: Tensor
    sums: Tensor
    middle: Tensor


def blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of rows that stay in the cache."""
    size = min(max(1, (1 << 19) // width), 4096)
    return (slice(start, start + size) for start in range(0, count, size))


def extent(x: Tensor, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(D,) least and largest of each column, of all rows or of those in ``order``; NaN where a column holds one."""
    low = high = x[0] if order is None else x[order[0]]
    for rows in blocks(len(x) if order is None else len(order), x.shape[1]):
        part = x[rows] if order is None else x.index_select(0, order[rows])
        least, most = extremes(part) if x.device.type == "cpu" else (part.amin(0), part.amax(0))
        low, high = torch.minimum(low, least), torch.maximum(high, most)
    return low, high


def extremes(part: Tensor) -> tuple[Tensor, Tensor]:
    """(D,) least and largest of rows on a CPU, where NumPy takes half of torch's time."""
    array = part.numpy()
    return torch.from_numpy(array.min(0)), torch.from_numpy(array.max(0))


class Unit:
    """Powers of two that bring columns of extreme size near 1, in two halves, for each alone may be out of range."""

    def __init__(self, low: Tensor, high: Tensor) -> None:
        exponent = torch.frexp(torch.maximum(low.abs(), high.abs()).double()).exponent
        self.exponent = torch.where(exponent.abs() > PLAIN, exponent, 0)
        self.plain = not bool(self.exponent.any())
        half = torch.div(self.exponent, 2, rounding_mode="floor")
        self.halves = [2.0 ** -part.double() for part in (half, self.exponent - half)]
        self.parts = [part.to(low.dtype) for part in self.halves]

    def shrunk(self, part: Tensor) -> Tensor:
        """A new matrix (., D) in these units."""
        return part.clone() if self.plain else (part * self.parts[0]).mul_(self.parts[1])

    def grown(self, values: Tensor) -> Tensor:
        """(D,) float64 values in these units as those of the columns as given."""
        return values / self.halves[0] / self.halves[1]


def centred(x: Tensor, weight: Tensor, order: Tensor, link: Link, standardize: bool, ends: tuple[Tensor, Tensor]) -> Columns:
    """Rows in ``order``, transposed, centred and scaled; ``ends`` is the extent of x, in which a constant has no width.

    The centre has two parts, of which the larger is taken first: so what is left is exact but for its own rounding.
    """
    low, high = ends if len(order) == len(x) else extent(x, order)
    unit = Unit(low, high)
    first, second, mean = centre(x, weight, order, unit, (low, high))
    square, middle = (torch.zeros(x.shape[1], dtype=torch.float64, device=x.device) for _ in range(2))
    columns = empty(x.shape[1], len(order), x)
    sums = torch.zeros(link.classes, x.shape[1], dtype=torch.float64, device=x.device)
    room, wide = rooms(len(order), x)
    for rows in blocks(len(order), x.shape[1]):
        part = torch.index_select(x, 0, order[rows], out=room[: len(order[rows])])
        part = (part if unit.plain else unit.shrunk(part)).sub_(first).sub_(second)
        columns[:, rows] = part.t()
        sums += link.truths(part, rows)
        middle += (link.weight[rows] @ part).double()
        square += link.weight[rows].double() @ wide[: len(part)].copy_(part.square_())
    square /= link.weight.double().sum()
    spread = (square - middle.square()).clamp_min(0).sqrt()
    varied = (high > low) & (spread > 0)
    own = unit.grown(spread)
    checked(own[varied], torch.nonzero(varied)[:, 0], x.dtype, standardize)
    factor = 1 / spread if standardize else unit.grown(torch.ones_like(spread))
    factor = torch.where(varied, factor, 0)
    if bool((factor != 1).any()):
        columns *= factor.to(x.dtype)[:, None]
    scale = torch.where(varied, own if standardize else 1.0, 0).to(x.dtype)
    sums, middle = ((part * factor).to(x.dtype) for part in (sums, middle))
    return Columns(columns, mean, scale, sums, middle)


def centre(x: Tensor, weight: Tensor, order: Tensor, unit: Unit, ends: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted mean in ``unit``, as two parts of x's precision; and in float64, of x as given."""
    low, high = (unit.shrunk(part[None])[0].double() for part in ends)
    near = (low / 2 + high / 2).to(x.dtype)
    whole = len(order) == len(x)
    kept = order.sort().values
    weight = (weight if whole else weight[kept]).double()
    mean = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    room, wide = rooms(len(kept), x)
    for rows in blocks(len(kept), x.shape[1]):
        part = x[rows] if whole else x.index_select(0, kept[rows])
        part = torch.sub(part if unit.plain else unit.shrunk(part), near, out=room[: len(part)])
        mean += weight[rows] @ wide[: len(part)].copy_(part)
    mean /= weight.sum()
    first = (near.double() + mean).to(x.dtype)
    second = (near.double() - first.double() + mean).to(x.dtype)
    return first, second, unit.grown((near.double() + mean).clamp(low, high))


def checked(spread: Tensor, places: Tensor, dtype: torch.dtype, standardize: bool) -> None:
    """Refuse spreads whose weights, or, unscaled, whose curvature cannot be held."""
    if not len(spread):
        return
    least, most = ROOM[dtype]
    if not standardize:
        least, most = 0.0, UNSCALED[dtype]
    worst = spread.argmax() if float(spread.max()) > most else spread.argmin()
    size, column = float(spread[worst]), int(places[worst])
    if size > most and not standardize:
        raise DataError(
            f"columns are too large to be fitted unscaled: column {column} has deviation {size:.1e}, and at most {most:.0e} "
            "is possible: standardize=True, or divide the columns by their deviation first"
        )
    if not least <= size <= most:
        raise DataError(
            f"column {column} has deviation {size:.1e}, whose weights cannot be held in {str(dtype)[6:]}: "
            "bring the column nearer to 1" + ("" if dtype == torch.float64 else ", or give float64")
        )


def rooms(count: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Room for one block of rows, in x's precision and in float64: fresh memory costs more than what is done in it."""
    room = x.new_empty(min(next(blocks(count, x.shape[1])).stop, count), x.shape[1])
    return room, torch.empty_like(room, dtype=torch.float64)


def empty(rows: int, columns: int, like: Tensor) -> Tensor:
    """Room for a large matrix: NumPy asks the system for large pages, torch does not."""
    if like.device.type != "cpu":
        return torch.empty(rows, columns, dtype=like.dtype, device=like.device)
    return torch.from_numpy(np.empty((rows, columns), np.float32 if like.dtype == torch.float32 else np.float64))
