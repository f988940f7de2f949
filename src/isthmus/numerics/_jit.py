"""Numba where it is installed (the extra ``fast``): a faster road to the same result, to the bit or to rounding."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

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
