"""From codes before selection to errors and gradients: by sparse products, or by plain ones where most codes are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.numerics._codes import Kept
from isthmus.numerics._sparse import Gradients, gradients, look


@dataclass(frozen=True)
class Price:
    """What kept codes cost: ``l1`` each unit of code, ``l0`` each code above ``theta`` (L,), learnt where ``bandwidth`` > 0."""

    theta: Tensor
    l1: float = 0.0
    l0: float = 0.0
    bandwidth: float = 0.0

    @property
    def low(self) -> Tensor:
        """(L,) above which a code matters to the loss or to a threshold's gradient."""
        return (self.theta - self.bandwidth / 2).clamp_min(0)


@dataclass
class Pass:
    """A batch: ``residual`` (B, d), the loss's slope along x̂; ``errors`` (B,); gradients; ``penalty``; ``fired`` (L,)."""

    residual: Tensor
    errors: Tensor
    slopes: Gradients
    penalty: Tensor
    fired: Tensor
    least: Tensor
    threshold: Tensor | None = None


def followed(
    kept: Kept,
    inputs: Tensor,
    atoms: Tensor,
    scale: float,
    out: Gradients,
    price: Price | None = None,
    target: Tensor | None = None,
) -> Pass:
    """Decode the ``kept`` codes of ``inputs`` (B, d), compare with ``target`` (or them), and follow the error, scaled, back."""
    target = inputs if target is None else target
    size, row, unit, value, learnt = len(atoms), kept.row, kept.unit, kept.pre, None
    if price is not None and price.bandwidth:
        theta = price.theta[unit]
        active, near = value > theta, (value - theta).abs() < price.bandwidth / 2
        value = torch.where(active, value, 0)
        seen = look(kept.start, row, unit, value, atoms, target, scale)
        by = -(theta * seen.slope + price.l0 * scale / 2) / price.bandwidth
        learnt = torch.zeros_like(price.theta).index_add_(0, unit[near], by[near])
        slope = torch.where(active, seen.slope, 0)
        fired = torch.bincount(unit[active], minlength=size)
    else:
        seen = look(kept.start, row, unit, value, atoms, target, scale)
        slope, fired = seen.slope, torch.bincount(unit, minlength=size)
    penalty = inputs.new_zeros(())
    if price is not None:
        penalty = (price.l1 * value.sum() + price.l0 * fired.sum().to(inputs)) * (scale / 2)
        slope = torch.where(value > 0, slope + price.l1 * scale / 2, 0) if price.l1 else slope
    slopes = gradients(row, unit, value, slope, seen.residual, inputs, out)
    least = value[value > 0].min() if bool((value > 0).any()) else inputs.new_zeros(())
    return Pass(seen.residual, seen.error, slopes, penalty, fired, least, learnt)


class Full:
    """The same with plain products, block of rows by block of rows."""

    def __init__(self, inputs: Tensor, atoms: Tensor, scale: float, out: Gradients, price: Price) -> None:
        self.inputs, self.weights, self.scale, self.price, self.at = inputs, atoms, scale, price, 0
        for part in out:
            part.zero_()
        self.found = Pass(
            torch.empty_like(inputs),
            inputs.new_empty(len(inputs)),
            out,
            inputs.new_zeros(()),
            torch.zeros(len(atoms), dtype=torch.int64, device=atoms.device),
            inputs.new_full((), torch.inf),
            torch.zeros_like(price.theta) if price.bandwidth else None,
        )

    def take(self, pre: Tensor) -> None:
        """The next rows' codes before selection (n, L)."""
        price, found, part = self.price, self.found, slice(self.at, self.at + len(pre))
        self.at += len(pre)
        x, active = self.inputs[part], pre > price.theta
        codes = torch.where(active, pre, 0)
        residual = torch.addmm(x, codes, self.weights, beta=-1)
        found.errors[part] = residual.square().sum(1)
        found.residual[part] = residual.mul_(self.scale)
        slope = residual @ self.weights.T
        if found.threshold is not None:
            near = ((pre - price.theta).abs() < price.bandwidth / 2) & (pre > 0)
            by = (price.theta * slope + price.l0 * self.scale / 2) / price.bandwidth
            found.threshold -= torch.where(near, by, 0).sum(0)
        slope = torch.where(active, slope + price.l1 * self.scale / 2, 0)
        found.slopes.atoms.addmm_(codes.T, residual)
        found.slopes.encoder.addmm_(slope.T, x)
        found.slopes.bias.add_(slope.sum(0))
        fired = active.sum(0)
        found.fired += fired
        found.penalty += (price.l1 * codes.sum() + price.l0 * fired.sum().to(x)) * (self.scale / 2)
        if bool(active.any()):
            found.least = torch.minimum(found.least, pre[active].min())
