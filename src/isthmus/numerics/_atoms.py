"""What a dictionary is, which of its codes an activation keeps, and whether rows, masks and arrays fit it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import DataError, OptionError
from isthmus.numerics._check import Array, count, number, shape, tensor, writable
from isthmus.numerics._codes import Kept


@dataclass(frozen=True)
class TopK:
    """The ``k`` largest codes of each row, those of them that are positive."""

    k: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", count("k", self.k))


@dataclass(frozen=True)
class BatchTopK:
    """The B·``k`` largest codes of the batch, those of them that are positive: ``k`` a row on average.

    Which are kept depends on the batch. To encode rows alone, give the dictionary a threshold, the mean over training
    batches of ``Step.least``, and encode with ``JumpReLU``.
    """

    k: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", count("k", self.k))


@dataclass(frozen=True)
class ReLU:
    """Positive codes; penalty ``l1`` · Σ_l z_l, mean over rows.

    An error that is a mean over the d columns, as in DN-CBM (3e-5), asks for d times its l1 here.
    """

    l1: float = 0.0

    def __post_init__(self) -> None:
        number("l1", self.l1, low=0)


@dataclass(frozen=True)
class JumpReLU:
    """Codes above their unit's threshold; penalty ``l0`` · the number of them, mean over rows.

    The threshold's gradient is a kernel estimate: only codes within ``bandwidth``/2 of it count, by -threshold/bandwidth times
    the loss's slope along the code, and -l0/bandwidth (Rajamanoharan et al. 2024, equations 11 and 12; positive codes only).
    """

    l0: float = 0.0
    bandwidth: float = 1e-3

    def __post_init__(self) -> None:
        number("l0", self.l0, low=0)
        number("bandwidth", self.bandwidth, above=0)


Activation = TopK | BatchTopK | ReLU | JumpReLU


@dataclass(frozen=True)
class Dictionary:
    """L units of width d: ``encoder`` (L, d), ``bias`` (L,), ``atoms`` (L, d), ``center`` (d,).

    ``threshold`` (L,), > 0, is JumpReLU's. Also the type of a gradient, field by field. Arrays or tensors, of one precision
    and on one device.
    """

    encoder: Tensor
    bias: Tensor
    atoms: Tensor
    center: Tensor
    threshold: Tensor | None = None


@dataclass(frozen=True)
class Codes:
    """Codes of B rows over ``size`` units, all > 0.

    Row r owns entries ``start[r]`` to ``start[r + 1]`` of ``unit``, ascending, and ``value``.
    """

    start: Tensor
    unit: Tensor
    value: Tensor
    size: int

    def dense(self) -> Tensor:
        """(B, L)."""
        found = self.value.new_zeros(len(self.start) - 1, self.size)
        found[Kept(self.start, self.unit, self.value).row, self.unit] = self.value
        return found


def checked(x: Array, dictionary: Dictionary, activation: Activation | None) -> tuple[Tensor, Dictionary]:
    """Rows and dictionary as tensors that fit each other."""
    if activation is not None and not isinstance(activation, Activation):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"activation: expected TopK(k), BatchTopK(k), ReLU(l1) or JumpReLU(l0), got {activation!r}")
    d = parts_of(dictionary)
    rows = tensor("x", x, f"B {d.encoder.shape[1]}").to(d.encoder)
    if isinstance(activation, JumpReLU) and d.threshold is None:
        raise DataError("dictionary: JumpReLU needs a threshold (L,), got None; start with initial(..., threshold=0.001)")
    if isinstance(activation, TopK | BatchTopK) and activation.k > len(d.bias):
        raise OptionError(f"k: expected at most {len(d.bias)}, the units of the dictionary, got {activation.k}; choose fewer")
    return rows, d


def parts_of(dictionary: Dictionary) -> Dictionary:
    """Its parts as finite tensors of fitting shapes."""
    parts = {field.name: getattr(dictionary, field.name) for field in fields(dictionary)}
    found = {
        name: part.detach() if isinstance(part, Tensor) else torch.as_tensor(writable(np.asarray(part)))
        for name, part in parts.items()
        if part is not None
    }
    encoder = found["encoder"]
    shape("encoder", encoder, "L d")
    units, width = encoder.shape
    for name, axes in (("bias", f"{units}"), ("atoms", f"{units} {width}"), ("center", f"{width}"), ("threshold", f"{units}")):
        if name not in found:
            continue
        shape(name, found[name], axes)
        if found[name].dtype != encoder.dtype or found[name].device != encoder.device:
            raise DataError(
                f"{name}: expected {encoder.dtype} on {encoder.device}, as the encoder, got {found[name].dtype} on "
                f"{found[name].device}; convert it"
            )
    if encoder.dtype not in (torch.float32, torch.float64):
        raise DataError(f"encoder: expected float32 or float64, got {encoder.dtype}; convert the dictionary")
    for name, part in found.items():
        if not bool(part.sum().isfinite()) and not bool(part.isfinite().all()):
            many = int((~part.isfinite()).sum())
            raise DataError(f"{name}: expected finite numbers, got {many} that are not; was the last optimiser step too long?")
    if "threshold" in found and not bool((found["threshold"] > 0).all()):
        raise DataError("threshold: expected numbers above 0; learn its logarithm, or clamp it after a step")
    return Dictionary(**{name: part.contiguous() for name, part in found.items()})


def matching(out: Dictionary, d: Dictionary) -> Dictionary:
    """``out`` without its graph, if its arrays can be written to and are neither each other nor those of ``d``."""
    taken = {part.untyped_storage().data_ptr() for part in vars(d).values() if part is not None}
    for name in ("encoder", "bias", "atoms"):
        mine, own = getattr(out, name), getattr(d, name)
        fits = isinstance(mine, Tensor) and mine.shape == own.shape and mine.dtype == own.dtype and mine.device == own.device
        if not fits or not mine.is_contiguous() or mine.untyped_storage().data_ptr() in taken:
            raise DataError(
                f"out: expected the gradient of an earlier step of this dictionary, got another {name}; leave it out"
            )
        taken.add(mine.untyped_storage().data_ptr())
    return Dictionary(out.encoder.detach(), out.bias.detach(), out.atoms.detach(), out.center)


def idle_of(dead: Array, d: Dictionary) -> Tensor:
    """Indices of dead units."""
    mask = torch.as_tensor(dead, device=d.bias.device)
    if mask.dtype != torch.bool or mask.shape != d.bias.shape:
        raise DataError(f"dead: expected ({len(d.bias)},) bool, got {tuple(mask.shape)} {mask.dtype}; one truth for each unit")
    return mask.nonzero()[:, 0]
