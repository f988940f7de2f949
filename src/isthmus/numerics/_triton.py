"""The sparse products of a dictionary by Triton, where it is installed: sums over bags of rows, products of chosen rows.

With ``TRITON_INTERPRET=1`` set before Triton is imported the kernels run on a CPU, slowly, to be tested.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor

WIDE = 1024  # columns a program works on at a time, at most


def usable(table: Tensor) -> bool:
    """Does ``table`` lie where Triton runs? (On a CPU only as its interpreter.)"""
    return (table.is_cuda or os.environ.get("TRITON_INTERPRET") == "1") and find_spec("triton") is not None


@cache
def kernels() -> Any:
    """The module that holds them."""
    return import_module("isthmus.numerics._triton_kernels")


def bags(start: Tensor, index: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """(n, d): row r is the sum of weight · table[index] over entries start[r] to start[r + 1]."""
    n, d = len(start) - 1, table.shape[1]
    out, size = table.new_empty(n, d), block(d)
    if n:
        kernels().bags[(n, -(-d // size))](start, index, weight.contiguous(), table.contiguous(), out, d, BLOCK=size)
    return out


def dots(row: Tensor, index: Tensor, left: Tensor, table: Tensor) -> Tensor:
    """(N,): left[row] · table[index]."""
    out, d = left.new_empty(len(index)), table.shape[1]
    if len(index):
        kernels().dots[(len(index),)](row, index, left.contiguous(), table.contiguous(), out, d, BLOCK=block(d))
    return out


def block(d: int) -> int:
    """Columns of a program: the power of two that holds ``d``, or ``WIDE``."""
    return min(WIDE, 1 << max(4, (d - 1).bit_length()))
