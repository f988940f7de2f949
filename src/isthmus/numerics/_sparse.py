"""Sparse products of a dictionary's step: rows (reconstruct, compare, look back) and columns (gradients of units).

N codes lie row after row. Compiled, a row's atoms are read once from memory and again from the cache; gradients are summed
unit by unit, so that each is written once and no thread adds to another's. Elsewhere both are sums over bags of rows: Triton's
on a GPU where it is installed, else torch's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from isthmus.numerics import _triton
from isthmus.numerics._jit import compiled, spread

Floats = NDArray[Any]
Longs = NDArray[np.int64]
GATHERED = 1 << 20  # numbers of a gathered table at a time


class Looked(NamedTuple):
    """``residual`` (B, d), scaled; ``slope`` (N,), its product with each kept atom; ``error`` (B,), squared, not scaled."""

    residual: Tensor
    slope: Tensor
    error: Tensor


class Gradients(NamedTuple):
    """``atoms`` (L, d), ``encoder`` (L, d), ``bias`` (L,)."""

    atoms: Tensor
    encoder: Tensor
    bias: Tensor


def bags(start: Tensor, index: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """(n, d): row r is the sum of weight · table[index] over entries start[r] to start[r + 1]."""
    if _triton.usable(table):
        return _triton.bags(start, index, weight, table)
    return F.embedding_bag(index, table, start[:-1], mode="sum", per_sample_weights=weight)


def dots(row: Tensor, index: Tensor, left: Tensor, table: Tensor) -> Tensor:
    """(N,): left[row] · table[index]."""
    if _triton.usable(table):
        return _triton.dots(row, index, left, table)
    found = left.new_empty(len(index))
    size = max(1, GATHERED // table.shape[1])
    for first in range(0, len(index), size):
        part = slice(first, first + size)
        found[part] = (left[row[part]] * table[index[part]]).sum(1)
    return found


def look(start: Tensor, row: Tensor, unit: Tensor, value: Tensor, atoms: Tensor, target: Tensor, scale: float) -> Looked:
    """Reconstruct ``target`` (B, d) from kept units, and follow the residual back to each of them."""
    if not compiled(target):
        residual = bags(start, unit, value, atoms).sub_(target)
        error = residual.square().sum(1)
        residual *= scale
        return Looked(residual, dots(row, unit, residual, atoms), error)
    residual, slope, error = torch.empty_like(target), torch.empty_like(value), target.new_empty(len(target))
    arrays = [part.numpy() for part in (start, unit, value, atoms, target, residual, slope, error)]
    spread(_look, len(target), residual.numpy().dtype.type(scale), *arrays, loose=True)
    return Looked(residual, slope, error)


def gradients(
    row: Tensor, unit: Tensor, value: Tensor, slope: Tensor, residual: Tensor, inputs: Tensor, out: Gradients
) -> Gradients:
    """Of L units: atoms (L, d), Σ value · residual; encoder (L, d), Σ slope · inputs; bias (L,), Σ slope. ``out``: used up."""
    size = len(out.bias)
    start = torch.cat([unit.new_zeros(1), torch.bincount(unit, minlength=size).cumsum(0)])
    if not compiled(residual):
        entry = unit.argsort(stable=True)
        at, value, slope = row[entry], value[entry], slope[entry]
        bias = out.bias.zero_().index_add_(0, unit[entry], slope)
        return Gradients(bags(start, at, value, residual), bags(start, at, slope, inputs), bias)
    entry = np.empty(len(unit), np.int64)
    spread(_sorted, 1, unit.numpy(), start.numpy(), entry)
    arrays = [part.numpy() for part in (row, value, slope, residual, inputs, *out)]
    spread(_gradients, size, start.numpy(), entry, *arrays, loose=True)
    return out


def _look(
    first: int,
    last: int,
    scale: Any,
    start: Longs,
    unit: Longs,
    value: Floats,
    atoms: Floats,
    target: Floats,
    residual: Floats,
    slope: Floats,
    error: Floats,
) -> None:
    """For the compiler; four atoms at a time, for their sum is then read and written a quarter as often."""
    zero = target.dtype.type(0)
    for r in range(first, last):
        out, end = residual[r], start[r + 1]
        for j in range(len(out)):
            out[j] = -target[r, j]
        e = start[r]
        while e + 4 <= end:
            a, b, c, d = value[e], value[e + 1], value[e + 2], value[e + 3]
            u, v, w, x = atoms[unit[e]], atoms[unit[e + 1]], atoms[unit[e + 2]], atoms[unit[e + 3]]
            for j in range(len(out)):
                out[j] += a * u[j] + b * v[j] + c * w[j] + d * x[j]
            e += 4
        while e < end:
            a, u = value[e], atoms[unit[e]]
            for j in range(len(out)):
                out[j] += a * u[j]
            e += 1
        a = zero
        for j in range(len(out)):
            a += out[j] * out[j]
            out[j] *= scale
        error[r] = a
        e = start[r]
        while e + 4 <= end:
            u, v, w, x = atoms[unit[e]], atoms[unit[e + 1]], atoms[unit[e + 2]], atoms[unit[e + 3]]
            a, b, c, d = zero, zero, zero, zero
            for j in range(len(out)):
                a += out[j] * u[j]
                b += out[j] * v[j]
                c += out[j] * w[j]
                d += out[j] * x[j]
            slope[e], slope[e + 1], slope[e + 2], slope[e + 3] = a, b, c, d
            e += 4
        while e < end:
            a, u = zero, atoms[unit[e]]
            for j in range(len(out)):
                a += out[j] * u[j]
            slope[e] = a
            e += 1


def _sorted(first: int, last: int, unit: Longs, start: Longs, entry: Longs) -> None:
    """A stable counting sort of entries by unit; one piece."""
    at = start.copy()
    for e in range(len(unit)):
        entry[at[unit[e]]] = e
        at[unit[e]] += 1


def _gradients(
    first: int,
    last: int,
    start: Longs,
    entry: Longs,
    row: Longs,
    value: Floats,
    slope: Floats,
    residual: Floats,
    inputs: Floats,
    atoms: Floats,
    encoder: Floats,
    bias: Floats,
) -> None:
    """For the compiler; two entries at a time."""
    zero = residual.dtype.type(0)
    for l in range(first, last):  # noqa: E741
        atom, code, total = atoms[l], encoder[l], zero
        for j in range(len(atom)):
            atom[j], code[j] = zero, zero
        p, end = start[l], start[l + 1]
        while p + 2 <= end:
            e, f = entry[p], entry[p + 1]
            a, b, c, d = value[e], value[f], slope[e], slope[f]
            u, v, x, y = residual[row[e]], residual[row[f]], inputs[row[e]], inputs[row[f]]
            total += c + d
            for j in range(len(atom)):
                atom[j] += a * u[j] + b * v[j]
            for j in range(len(atom)):
                code[j] += c * x[j] + d * y[j]
            p += 2
        while p < end:
            e = entry[p]
            a, c, u, x = value[e], slope[e], residual[row[e]], inputs[row[e]]
            total += c
            for j in range(len(atom)):
                atom[j] += a * u[j]
                code[j] += c * x[j]
            p += 1
        bias[l] = total
