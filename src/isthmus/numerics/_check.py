"""Arguments of the cores: arrays or tensors in, floating tensors out, or an error that names the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.errors import DataError, OptionError

Array = Tensor | NDArray[Any]


def tensor(name: str, value: Array, axes: str, *, nan: bool = False, infinite: bool = False, empty: bool = False) -> Tensor:
    """``value`` as a floating tensor (float32 and float64 stay what they are, all else becomes float32).

    ``axes``, such as 'n d' or '10 d', names its axes or fixes their sizes; NaN, infinite values and empty axes are
    refused unless allowed.
    """
    try:
        found = value if isinstance(value, Tensor) else torch.as_tensor(writable(np.asarray(value)))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: expected an array of numbers ({error}); pass a NumPy array or a tensor") from error
    if found.is_complex():
        raise DataError(f"{name}: expected real numbers, got {found.dtype}; pass float32 or float64")
    found = found.detach()
    found = found if found.dtype in (torch.float32, torch.float64) else found.float()
    shape(name, found, axes)
    if not empty and not found.numel():
        raise DataError(f"{name}: expected at least one number, got shape {tuple(found.shape)}; leave out what is empty")
    if bool(found.sum().isfinite()):  # one cheap pass: a sum is not finite where an entry is not
        return found
    if not nan and bool(found.isnan().any()):
        raise DataError(f"{name}: expected no NaN, got {int(found.isnan().sum())}; drop or fill those entries")
    if not infinite and bool(found.isinf().any()):
        raise DataError(f"{name}: expected finite numbers, got {int(found.isinf().sum())} infinite; clip or drop them")
    return found


def writable(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or a copy where torch could not share it: read-only, or with a negative stride."""
    return array if array.flags.writeable and all(step >= 0 for step in array.strides) else array.copy()


def shape(name: str, value: Tensor, axes: str) -> None:
    """Refuse a tensor whose number of axes, or whose size along an axis given as a number, is not that of ``axes``."""
    wanted = axes.split()
    fits = value.ndim == len(wanted) and all(
        not want.isdigit() or size == int(want) for want, size in zip(wanted, value.shape, strict=True)
    )
    if not fits:
        asked = ", ".join(wanted) + ("," if len(wanted) == 1 else "")
        raise DataError(f"{name}: expected shape ({asked}), got {tuple(value.shape)}; reshape it, or check its partner's axes")


def number(
    name: str, value: float, *, above: float | None = None, low: float | None = None, high: float | None = None
) -> float:
    """A finite number above ``above``, from ``low`` to ``high``."""
    bounds = [f"above {above:g}"] if above is not None else []
    bounds += [f"at least {low:g}"] if low is not None else []
    bounds += [f"at most {high:g}"] if high is not None else []
    out = not np.isfinite(value) or (above is not None and value <= above)
    if out or (low is not None and value < low) or (high is not None and value > high):
        raise OptionError(f"{name}: expected a finite number {' and '.join(bounds)}, got {value!r}; choose one in that range")
    return float(value)


def count(name: str, value: int, *, low: int = 1, high: int | None = None) -> int:
    """A whole number from ``low`` to ``high``."""
    whole = isinstance(value, int | np.integer) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or value < low or (high is not None and value > high):
        top = "" if high is None else f" and at most {high}"
        raise OptionError(f"{name}: expected a whole number of at least {low}{top}, got {value!r}; choose one in that range")
    return int(value)


def choice(name: str, value: str, known: tuple[str, ...]) -> str:
    """One of the names in ``known``."""
    if value not in known:
        raise OptionError(f"{name}: expected one of {', '.join(known)}, got {value!r}; choose one of them")
    return value
