"""Which codes of a dictionary are kept: the largest of each row, the largest of a batch, or those above a threshold.

Kept codes are positive and lie row after row, units ascending. Of equal codes the first unit (in a batch, the first row) wins.
Compiled, a row is read once for the maxima of its blocks: a block whose maximum is below the k-th largest maximum holds
none of the k largest. Positive floats are compared by their bits, as integers, whose maxima a compiler vectorises.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.numerics._jit import compiled, spread

Bits = NDArray[Any]
Longs = NDArray[np.int64]
BLOCK = 32  # columns whose maximum is taken at a time; fewer where k is a larger share of the columns


class Kept(NamedTuple):
    """``start`` (B + 1,): row r owns entries start[r] to start[r + 1] of ``unit`` and ``pre`` (N,)."""

    start: Tensor
    unit: Tensor
    pre: Tensor

    @property
    def row(self) -> Tensor:
        """(N,) the row of each entry."""
        counts = self.start.diff()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def joined(parts: list[Kept]) -> Kept:
    """The entries of consecutive rows as one list."""
    if len(parts) == 1:
        return parts[0]
    counts = torch.cat([part.start.diff() for part in parts])
    return Kept(_starts(counts), torch.cat([part.unit for part in parts]), torch.cat([part.pre for part in parts]))


def largest(pre: Tensor, k: int) -> Kept:
    """The k largest positive entries of each row of ``pre`` (n, L), or as many as are positive."""
    k = min(k, pre.shape[1])
    if compiled(pre):
        bits = _bits(pre)
        value, unit, count = (
            np.empty((len(pre), k), bits.dtype),
            np.empty((len(pre), k), np.int64),
            np.empty(len(pre), np.int64),
        )
        block = max(1, min(BLOCK, pre.shape[1] // (4 * k)))
        spread(_largest, len(pre), k, block, bits, value, unit, count)
        found, units, counts = torch.from_numpy(value).view(pre.dtype), torch.from_numpy(unit), torch.from_numpy(count)
        if int(count.sum()) == count.size * k:
            return Kept(_starts(counts), units.view(-1), found.view(-1))
        filled = torch.arange(k) < counts[:, None]
        return Kept(_starts(counts), units[filled], found[filled])
    value, unit = pre.topk(min(k + 1, pre.shape[1]), dim=1)
    if value.shape[1] > k:
        tied = (value[:, k - 1] == value[:, k]) & (value[:, k] > 0)
        if bool(tied.any()):
            unit[tied, :k] = pre[tied].argsort(dim=1, descending=True, stable=True)[:, :k]
    unit = unit[:, :k].sort(dim=1).values
    value = pre.gather(1, unit)
    filled = value > 0
    return Kept(_starts(filled.sum(1)), unit[filled], value[filled])


def largest_of_all(pre: Tensor, count: int) -> Kept:
    """The ``count`` largest positive entries of ``pre`` (n, L), or as many as are positive."""
    n, size = pre.shape
    if count >= pre.numel():
        return above(pre, pre.new_zeros(size))
    if compiled(pre):
        bits = _bits(pre)
        block = max(1, min(BLOCK, pre.numel() // (4 * count)))
        maxima = np.empty((n, -(-size // block)), bits.dtype)
        spread(_maxima, n, block, bits, maxima)
        flat = maxima.reshape(-1)
        least = np.partition(flat, len(flat) - count)[len(flat) - count] if len(flat) > count else bits.dtype.type(0)
        near = torch.from_numpy(np.maximum(least, 1).reshape(1)).view(pre.dtype)  # the least float above 0 has the bits 1
        found = above(pre, torch.nextafter(near, -torch.ones_like(near)).expand(size).contiguous())
    else:
        found = above(pre, pre.new_zeros(size))
    if len(found.pre) <= count:
        return found
    best = found.pre.argsort(descending=True, stable=True)[:count].sort().values
    row = found.row[best]
    return Kept(_starts(torch.bincount(row, minlength=n)), found.unit[best], found.pre[best])


def above(pre: Tensor, low: Tensor) -> Kept:
    """Entries of ``pre`` (n, L) that are positive and above ``low`` (L,)."""
    low = low.clamp_min(0).to(pre)
    if compiled(pre):
        counts = np.empty(len(pre), np.int64)
        spread(_count, len(pre), pre.numpy(), low.numpy(), counts)
        start = _starts(torch.from_numpy(counts))
        unit, value = torch.empty(int(start[-1]), dtype=torch.int64), pre.new_empty(int(start[-1]))
        spread(_above, len(pre), pre.numpy(), low.numpy(), start.numpy(), unit.numpy(), value.numpy())
        return Kept(start, unit, value)
    kept = pre > low
    unit = kept.nonzero()[:, 1]
    return Kept(_starts(kept.sum(1)), unit, pre[kept])


def _starts(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _bits(pre: Tensor) -> Bits:
    return pre.contiguous().view(torch.int32 if pre.dtype == torch.float32 else torch.int64).numpy()


def _maxima(first: int, last: int, block: int, bits: Bits, maxima: Bits) -> None:
    """The greatest entry above 0 of each block of columns, or 0."""
    size = bits.shape[1]
    for r in range(first, last):
        for b in range(maxima.shape[1]):
            most = bits.dtype.type(0)
            for j in range(b * block, min((b + 1) * block, size)):
                most = max(most, bits[r, j])
            maxima[r, b] = most


def _largest(first: int, last: int, k: int, block: int, bits: Bits, value: Bits, unit: Longs, count: Longs) -> None:  # noqa: C901
    """Of rows ``first`` to ``last``: the blocks that can matter, what in them can, and of that the k largest.

    The k-th largest, of the blocks' maxima and then of what is left, is found by Hoare's selection.
    """
    size, zero, one = bits.shape[1], bits.dtype.type(0), bits.dtype.type(1)
    blocks = (size + block - 1) // block
    most, spare = np.empty(blocks, bits.dtype), np.empty(size, bits.dtype)
    near, place = np.empty(size + 1, bits.dtype), np.empty(size + 1, np.int64)
    for r in range(first, last):
        row = bits[r]
        for b in range(size // block):
            m = zero
            for j in range(b * block, (b + 1) * block):
                m = max(m, row[j])
            most[b] = m
        if size % block:
            m = zero
            for j in range(size - size % block, size):
                m = max(m, row[j])
            most[blocks - 1] = m
        spare[:blocks], n, c, level = most, blocks, 0, one
        for turn in range(2):
            low, high = 0, n - 1 if n > k else 0
            while low < high:
                pivot, i, j = spare[(low + high) >> 1], low, high
                while i <= j:
                    while spare[i] > pivot:
                        i += 1
                    while spare[j] < pivot:
                        j -= 1
                    if i <= j:
                        spare[i], spare[j] = spare[j], spare[i]
                        i += 1
                        j -= 1
                if k - 1 <= j:
                    high = j
                elif k - 1 >= i:
                    low = i
                else:
                    break
            if n >= k:
                level = max(level, spare[k - 1] if n > k else one)
            if turn == 0:
                for b in range(blocks):
                    if most[b] >= level:
                        for j in range(b * block, min((b + 1) * block, size)):
                            near[c], place[c] = row[j], j
                            c += row[j] >= level
                spare[:c], n = near[:c], c
        room, kept = k, 0
        for q in range(c):
            room -= near[q] > level
        for q in range(c):
            tied = near[q] == level and room > 0
            if near[q] > level or tied:
                value[r, kept], unit[r, kept] = near[q], place[q]
                kept += 1
                room -= tied
        count[r] = kept


def _count(first: int, last: int, pre: Bits, low: Bits, counts: Longs) -> None:
    for r in range(first, last):
        c = np.int32(0)
        for j in range(pre.shape[1]):
            c += np.int32(1) if pre[r, j] > low[j] else np.int32(0)
        counts[r] = c


def _above(first: int, last: int, pre: Bits, low: Bits, start: Longs, unit: Longs, value: Bits) -> None:
    size = pre.shape[1]
    for r in range(first, last):
        at, row = start[r], pre[r]
        for b in range(0, size, 64):
            end, c = min(b + 64, size), np.int32(0)
            for j in range(b, end):
                c += np.int32(1) if row[j] > low[j] else np.int32(0)
            if c > 0:
                for j in range(b, end):
                    if row[j] > low[j]:
                        unit[at], value[at] = j, row[j]
                        at += 1
