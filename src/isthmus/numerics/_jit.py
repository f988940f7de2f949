"""Numba where it is installed (the extra ``fast``): a faster road to the same result, never another result."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

# No NaN, no difference between zeros: lets a maximum be vectorised. Nothing that would change the order of a sum.
FLAGS = {"nnan", "nsz"}


@cache
def jitted(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """``function`` compiled, or None where numba is not installed; kept on disk where a folder for it can be written."""
    try:
        numba: Any = import_module("numba")
    except ImportError:
        return None
    try:
        return numba.njit(cache=True, nogil=True, fastmath=FLAGS)(function)
    except RuntimeError:  # no place to keep it
        return numba.njit(nogil=True, fastmath=FLAGS)(function)
