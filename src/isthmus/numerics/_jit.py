"""Numba where it is installed (the extra ``fast``): a faster road to the same result, to the bit or to rounding."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

# No NaN, no difference between zeros: lets a maximum be vectorised. Nothing that would change the order of a sum.
FLAGS = {"nnan", "nsz"}


@cache
def jitted(function: Callable[..., Any], *, loose: bool = False) -> Callable[..., Any] | None:
    """``function`` compiled, or None where numba is not installed; kept on disk where a folder for it can be written.

    ``loose`` lets sums be reordered: for real numbers compared to a tolerance, never where the last bit decides.
    """
    try:
        numba: Any = import_module("numba")
    except ImportError:
        return None
    flags = True if loose else FLAGS
    try:
        return numba.njit(cache=True, nogil=True, fastmath=flags)(function)
    except RuntimeError:  # no place to keep it
        return numba.njit(nogil=True, fastmath=flags)(function)


def _nothing() -> None:
    """Something to compile."""


def compiled(x: Tensor) -> bool:
    """Can kernels be compiled for where ``x`` lies?"""
    return x.device.type == "cpu" and jitted(_nothing) is not None


def spread(function: Callable[..., None], rows: int, *arguments: Any, loose: bool = False) -> None:
    """The compiled ``function(first, last, *arguments)`` over ``rows``, shared out among as many threads as torch uses."""
    run = jitted(function, loose=loose)
    assert run is not None
    pieces = min(torch.get_num_threads(), rows)
    if pieces <= 1:
        run(0, rows, *arguments)
        return
    cuts = [rows * piece // pieces for piece in range(pieces + 1)]
    with ThreadPoolExecutor(pieces) as pool:
        for done in [pool.submit(run, first, last, *arguments) for first, last in pairwise(cuts)]:
            done.result()
