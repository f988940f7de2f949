"""Steps of sparse dictionaries (sparse autoencoders): loss and exact gradients, at little more than the encoder's product.

    codes z = activation(encoder (x - center) + bias),   x̂ = center + Σ_l z_l atoms_l
    loss = mean over rows of |x - x̂|²  +  the activation's penalty  +  aux · mean over rows of |e - ê|²,  e = x - x̂ held fixed

Only kept codes are decoded and followed back, so a step costs 2 B L d operations and a little, not 10 B L d. Activations:
``TopK`` (Makhzani and Frey 2013; Gao et al. 2024), ``BatchTopK`` (Bussmann et al. 2024), ``JumpReLU`` (Rajamanoharan et al.
2024) and ``ReLU`` with an l1 penalty (Bricken et al. 2023; DN-CBM, Rao et al., ECCV 2024). ê decodes the largest codes of
units that are dead (Gao et al. 2024, A.2); ``resample`` replaces such units instead (Bricken et al. 2023).

>>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
>>> start = initial(8, 32, center=x.mean(0))
>>> found = step(x, start, TopK(k=4))
>>> found.l0, found.gradient.atoms.shape, bool(found.loss < x.square().sum(1).mean())
(4.0, torch.Size([32, 8]), True)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.errors import DataError
from isthmus.numerics import _codes, _sparse
from isthmus.numerics._atoms import (
    Activation,
    BatchTopK,
    Codes,
    Dictionary,
    JumpReLU,
    ReLU,
    TopK,
    checked,
    idle_of,
    matching,
    parts_of,
)
from isthmus.numerics._check import Array, count, number, tensor
from isthmus.numerics._codes import Kept
from isthmus.numerics._passes import Full, Pass, Price, followed
from isthmus.numerics._sparse import Gradients

__all__ = [
    "Activation",
    "BatchTopK",
    "Codes",
    "Dictionary",
    "JumpReLU",
    "ReLU",
    "Step",
    "TopK",
    "decode",
    "encode",
    "initial",
    "normalised",
    "resample",
    "step",
    "tangent",
]

CACHE, DEVICE = 1 << 22, 1 << 30  # bytes of codes before selection at a time: what a CPU's cache holds, what a GPU has room for
FULL = 0.2  # where more than this share of codes is kept, plain products are faster


@dataclass(frozen=True)
class Step:
    """What one batch says. ``loss`` = ``error`` + ``penalty`` + ``aux``, scalars; ``errors`` (B,) each row's |x - x̂|².

    ``gradient`` of the loss; ``fired`` (L,) in how many rows a unit was active; ``least`` the smallest code kept (0: none).
    """

    error: Tensor
    penalty: Tensor
    aux: Tensor
    errors: Tensor
    gradient: Dictionary
    fired: Tensor
    least: Tensor

    @property
    def loss(self) -> Tensor:
        """The sum of its three parts."""
        return self.error + self.penalty + self.aux

    @property
    def l0(self) -> float:
        """Active codes of a row, on average."""
        return float(self.fired.sum()) / len(self.errors)


def initial(width: int, size: int, *, center: Array | None = None, threshold: float | None = None, seed: int = 0) -> Dictionary:
    """``size`` random unit atoms of ``width``, the encoder their copy, no bias (Gao et al. 2024, A.1).

    ``center`` (width,), by default 0: give the data's mean or median. ``threshold`` > 0: JumpReLU's (its paper: 0.001).
    """
    count("width", width)
    count("size", size)
    middle = torch.zeros(width) if center is None else tensor("center", center, f"{width}")
    atoms = torch.randn(size, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    atoms = normalised(atoms).to(middle)
    level = None if threshold is None else middle.new_full((size,), number("threshold", threshold, above=0))
    return Dictionary(atoms.clone(), middle.new_zeros(size), atoms, middle.clone(), level)


def encode(x: Array, dictionary: Dictionary, activation: Activation, *, memory: int | None = None) -> Codes:
    """Codes of rows x (B, d). ``memory`` and errors: as in ``step``."""
    rows, d = checked(x, dictionary, activation)
    price = _price(d, activation)
    low = rows.new_zeros(()) if price is None else price.theta
    kept = _codes.joined([_kept(pre, activation, low) for pre in _encoded(rows - d.center, d, activation, memory)])
    return Codes(kept.start, kept.unit, kept.pre, len(d.bias))


def decode(codes: Codes, dictionary: Dictionary) -> Tensor:
    """Rows (B, d) from their codes."""
    d = parts_of(dictionary)
    if codes.size != len(d.bias):
        raise DataError(f"codes: expected {len(d.bias)} units, those of the dictionary, got {codes.size}; encode with it")
    return _sparse.bags(codes.start, codes.unit, codes.value.to(d.atoms), d.atoms) + d.center


def step(
    x: Array,
    dictionary: Dictionary,
    activation: Activation,
    *,
    dead: Array | None = None,
    aux_k: int | None = None,
    aux: float = 1 / 32,
    memory: int | None = None,
    out: Dictionary | None = None,
) -> Step:
    """Loss and gradient of rows x (B, d), finite; they take the dictionary's precision.

    ``dead`` (L,) bool: units that have not fired for long (Gao et al.: in ten million rows); their ``aux_k`` largest codes a
    row (default: the power of two next to d/2) then learn to explain the residual, weighted by ``aux``. ``memory``: bytes of
    codes before selection at a time (default 4 MiB on a CPU, for its cache; 1 GiB elsewhere); BatchTopK takes those of the
    whole batch. Results do not depend on it beyond rounding. ``out``: the gradient of an earlier step, whose arrays are used
    again where that is faster (on a CPU new ones cost about a tenth of a step). With numba on a CPU and Triton on a GPU the
    sparse products are compiled. Raises ``DataError`` naming what does not fit, or when the loss is not finite.
    """
    rows, d = checked(x, dictionary, activation)
    inputs, scale = rows - d.center, 2 / len(rows)
    idle = None if dead is None else idle_of(dead, d)
    idle = idle if number("aux", aux, low=0) and idle is not None and len(idle) else None
    most = count("aux_k", _near_half(rows.shape[1]) if aux_k is None else aux_k)
    into = _room(d) if out is None else _room(matching(out, d), copy=False)
    found, revived = _passed(inputs, d, activation, scale, idle, most, memory, into)
    atoms, encoder, bias = found.slopes
    center, lost = found.residual.sum(0) - _weighed(bias, d.encoder), rows.new_zeros(())
    if idle is not None and revived is not None:
        few = replace(d, encoder=d.encoder[idle], bias=d.bias[idle], atoms=d.atoms[idle])
        again = followed(revived, inputs, few.atoms, aux * scale, _room(few), target=found.residual / -scale)
        lost, center = aux * again.errors.mean(), center - _weighed(again.slopes.bias, few.encoder)
        for whole, part in zip(found.slopes, again.slopes, strict=True):
            whole.index_add_(0, idle, part)
    gradient = Dictionary(encoder, bias, atoms, center, found.threshold)
    least = torch.where(found.least.isinf(), 0, found.least)
    done = Step(found.errors.mean(), found.penalty, lost, found.errors, gradient, found.fired, least)
    if not bool(done.loss.isfinite()):
        raise DataError(
            f"dictionary: expected a finite loss, got {float(done.loss)}; it holds NaN, or the last optimiser step was too long"
        )
    return done


def _passed(
    inputs: Tensor,
    d: Dictionary,
    activation: Activation,
    scale: float,
    idle: Tensor | None,
    most: int,
    memory: int | None,
    out: Gradients,
) -> tuple[Pass, Kept | None]:
    """The pass over a batch, and the ``most`` largest codes of its idle units."""
    price, kept, revived = _price(d, activation), list[Kept](), list[Kept]()
    low = inputs.new_zeros(()) if price is None else price.low
    full: Full | None = None
    for pre in _encoded(inputs, d, activation, memory):
        if price is not None and not kept and full is None and float((pre > low).float().mean()) > FULL:
            full = Full(inputs, d.atoms, scale, out, price)
        if full is None:
            kept.append(_kept(pre, activation, low))
        else:
            full.take(pre)
        if idle is not None:
            revived.append(_codes.largest(pre[:, idle], most))
    found = followed(_codes.joined(kept), inputs, d.atoms, scale, out, price) if full is None else full.found
    return found, _codes.joined(revived) if revived else None


def _encoded(inputs: Tensor, d: Dictionary, activation: Activation, memory: int | None) -> Iterator[Tensor]:
    """Codes before selection (n, L), some rows at a time, in one buffer: use each before the next."""
    bytes_ = count("memory", memory) if memory is not None else CACHE if inputs.device.type == "cpu" else DEVICE
    size = max(1, bytes_ // (d.encoder.element_size() * len(d.encoder)))
    size = len(inputs) if isinstance(activation, BatchTopK) else min(size, len(inputs))
    buffer = inputs.new_empty(size, len(d.encoder))
    for part in inputs.split(size):
        yield torch.addmm(d.bias, part, d.encoder.T, out=buffer[: len(part)])


def _kept(pre: Tensor, activation: Activation, low: Tensor) -> Kept:
    """What the activation keeps; a threshold's from ``low`` on."""
    if isinstance(activation, TopK):
        return _codes.largest(pre, activation.k)
    if isinstance(activation, BatchTopK):
        return _codes.largest_of_all(pre, activation.k * len(pre))
    return _codes.above(pre, low)


def _price(d: Dictionary, activation: Activation) -> Price | None:
    """Threshold and penalty, of the activations that have them."""
    if isinstance(activation, ReLU):
        return Price(torch.zeros_like(d.bias), l1=activation.l1)
    if isinstance(activation, JumpReLU):
        assert d.threshold is not None
        return Price(d.threshold, l0=activation.l0, bandwidth=activation.bandwidth)
    return None


def _room(d: Dictionary, copy: bool = True) -> Gradients:
    """Arrays for gradients: new ones of the dictionary's shapes, or its own."""
    parts = (d.atoms, d.encoder, d.bias)
    return Gradients(*(torch.empty_like(part) if copy else part for part in parts))


def _weighed(weight: Tensor, rows: Tensor) -> Tensor:
    """weight @ rows (L, d), in pieces: one long sum in float32 would lose a digit."""
    whole = len(weight) // 128 * 128
    pieces = torch.bmm(weight[:whole].view(-1, 1, 128), rows[:whole].view(-1, 128, rows.shape[1]))
    return pieces.sum((0, 1)) + weight[whole:] @ rows[whole:]


def tangent(gradient: Array, atoms: Array) -> Tensor:
    """The gradient (L, d) of atoms less its part along each atom, which a step that keeps them of length 1 would undo."""
    rows = tensor("atoms", atoms, "L d")
    slope = tensor("gradient", gradient, f"{rows.shape[0]} {rows.shape[1]}").to(rows)
    square = rows.square().sum(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return slope - (slope * rows).sum(1, keepdim=True) / square * rows


def normalised(atoms: Array) -> Tensor:
    """Atoms (L, d) of length 1; an atom of zeros stays."""
    return F.normalize(tensor("atoms", atoms, "L d"), dim=1, eps=1e-30)


def resample(
    x: Array,
    dictionary: Dictionary,
    dead: Array,
    errors: Array,
    *,
    share: float = 0.2,
    centred: bool = True,
    seed: int = 0,
) -> tuple[Dictionary, Tensor]:
    """Dead units begin anew at rows that are explained badly (Bricken et al. 2023; as DN-CBM has it).

    Each of ``dead`` (L,) bool draws a row of x (B, d) with a chance in proportion to the square of its error (B,), as
    ``Step.errors``. Its atom becomes that row less the center, of length 1 (``centred=False``: the row itself, as DN-CBM's code
    has it; with data that share a mean those atoms are nearly alike); its encoder the same, of ``share`` times the mean length
    of the others' encoders (1 if none is alive); its bias 0. A ``share`` of .2 is made for ReLU: among the k largest such a
    unit never is, so give TopK 1 or more. Returns the new dictionary and the units changed: zero the optimiser's
    moments there. Nothing dead, or no row with an error: nothing changes.
    """
    rows, d = checked(x, dictionary, None)
    error, idle = tensor("errors", errors, f"{len(rows)}").double(), idle_of(dead, d)
    rows = rows - d.center if centred else rows
    chance = (error / error.max().clamp_min(torch.finfo(torch.float64).tiny)).square() * (rows.square().sum(1) > 0)
    if not len(idle) or not bool((error >= 0).all()) or float(chance.sum()) == 0:
        if bool((error < 0).any()):
            raise DataError(f"errors: expected numbers >= 0, got {float(error.min())}; give Step.errors")
        return d, idle[:0]
    drawn = torch.multinomial(chance.cpu(), len(idle), replacement=True, generator=torch.Generator().manual_seed(seed))
    atoms = normalised(rows[drawn.to(rows.device)])
    alive = torch.ones(len(d.bias), dtype=torch.bool, device=idle.device).index_fill_(0, idle, False)
    length = d.encoder[alive].norm(dim=1).mean() if bool(alive.any()) else 1.0
    encoder, bias, changed = d.encoder.clone(), d.bias.clone(), d.atoms.clone()
    encoder[idle], bias[idle], changed[idle] = number("share", share, above=0) * length * atoms, 0.0, atoms
    return replace(d, encoder=encoder, bias=bias, atoms=changed), idle


def _near_half(width: int) -> int:
    """The power of two next to half the width."""
    return 1 << max(0, round(math.log2(max(width / 2, 1))))
