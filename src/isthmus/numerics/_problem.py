"""A sparse head's data made ready: checked, centred, scaled, transposed, absent classes set aside.

The bias is not penalised, so centring the columns changes no solution: it is undone when weights are handed back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import DataError, OptionError
from isthmus.numerics._links import Link, Sigmoid, Softmax, tiles

Family = Literal["multinomial", "ovr", "binary"]
FAMILIES = ("multinomial", "ovr", "binary")
ABSENT = 20.0  # an absent class's logit lies this many nats below the least of any row's log-sum of logits


@dataclass(frozen=True)
class Problem:
    """``x`` (D, n) columns of weighted mean ``middle`` (D,), 0 but for rounding.

    ``sums`` (Y, D) and ``shares`` (Y,) are Σ weight·truth·x and Σ weight·truth.
    """

    x: Tensor
    link: Link
    mean: Tensor
    scale: Tensor  # (D,), 0 for a constant column, whose weight stays 0
    present: Tensor  # (classes,) bool
    certain: Tensor  # (classes,) bool: absent from the rows (False) or, one-vs-rest, in all of them (True)
    sums: Tensor
    shares: Tensor
    middle: Tensor

    @property
    def classes(self) -> int:
        """Classes that are solved for: those present."""
        return self.link.classes

    def prior(self) -> Tensor:
        """(Y,) the best bias of zero weights."""
        share = self.shares.double()
        return (share.log() if self.link.coupled else torch.logit(share)).to(self.x.dtype)

    def logits(self, weights: Tensor, bias: Tensor) -> Tensor:
        """(Y, n)."""
        return torch.addmm(bias[:, None], weights, self.x)

    def gradient(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Of the mean loss: (Y, D) by the weights, (Y,) by the bias."""
        gradient = torch.zeros(self.classes, len(self.x), dtype=self.x.dtype, device=self.x.device)
        bias = torch.zeros(self.classes, dtype=torch.float64, device=self.x.device)
        for rows in tiles(p):
            residual = self.link.residual(p, rows)
            bias += residual.sum(1).double()
            gradient.addmm_(residual, self.x[:, rows].t())
        return gradient, bias.to(self.x.dtype)

    def outside(self, weights: Tensor, bias: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (classes, D) and bias (classes,) for x as it was given; ``z`` (Y, n) are the logits of the rows."""
        inverse = torch.where(self.scale > 0, 1 / self.scale, 0)
        found = torch.zeros(len(self.present), len(inverse), dtype=weights.dtype, device=weights.device)
        found[self.present] = weights * inverse
        level = torch.logsumexp(z, 0).min() if self.link.coupled else torch.zeros_like(bias[:1]).sum()
        offset = torch.where(self.certain, level + ABSENT, level - ABSENT).to(bias.dtype)
        offset[self.present] = bias - found[self.present] @ self.mean
        return found, offset


def prepare(x: Any, y: Any, *, family: Family, classes: int | None, weight: Any, standardize: bool) -> Problem:
    """Check and prepare; see ``elastic_net.fit`` for what each is."""
    if family not in FAMILIES:
        raise OptionError(f"family must be one of {', '.join(FAMILIES)}; got {family!r}")
    x = matrix(x)
    weight = row_weight(weight, x)
    truth, count = targets(y, family, classes, x)
    kept = weight > 0
    if not bool(kept.all()):
        x, weight, truth = x[kept], weight[kept], truth[..., kept]
    mean, scale, columns = centred(x, weight, standardize)
    if family == "multinomial":
        return multinomial(columns, truth, weight, count, mean, scale)
    share = truth.to(weight.dtype) @ weight
    rare = torch.zeros_like(share, dtype=torch.bool) | ~truth.any(1) | truth.all(1)
    if bool(rare.all()):
        raise DataError("every row has the same label; a head needs rows of both kinds: add rows or leave this class out")
    link = Sigmoid(truth[~rare], weight, int((~rare).sum()))
    return finished(columns, link, mean, scale, ~rare, truth.all(1))


def multinomial(columns: Tensor, labels: Tensor, weight: Tensor, classes: int, mean: Tensor, scale: Tensor) -> Problem:
    """The softmax problem over the classes that occur."""
    present = torch.bincount(labels, minlength=classes) > 0
    if int(present.sum()) < 2:
        raise DataError(f"y holds one class only ({int(labels[0])}); a head needs two: check the labels or the rows taken")
    place = torch.cumsum(present, 0) - 1
    link = Softmax(place[labels], weight, int(present.sum()))
    return finished(columns, link, mean, scale, present, torch.zeros_like(present))


def finished(x: Tensor, link: Link, mean: Tensor, scale: Tensor, present: Tensor, certain: Tensor) -> Problem:
    """Add what the truth says about columns and classes."""
    sums = torch.zeros(link.classes, len(x), dtype=x.dtype, device=x.device)
    shares = torch.zeros(link.classes, dtype=torch.float64, device=x.device)
    for rows in tiles(x):
        truth = link.truth(rows, x)
        sums.addmm_(truth, x[:, rows].t())
        shares += truth.sum(1).double()
    return Problem(x, link, mean, scale, present, certain, sums, shares, x @ link.weight)


def centred(x: Tensor, weight: Tensor, standardize: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(mean (D,), scale (D,), columns (D, n)); a column whose spread is rounding alone counts as constant."""
    mean, square = (torch.zeros(x.shape[1], dtype=torch.float64, device=x.device) for _ in range(2))
    size = max(1, (1 << 19) // x.shape[1])
    blocks = [slice(start, start + size) for start in range(0, len(x), size)]
    for rows in blocks:
        mean += (weight[rows] @ x[rows]).double()
    middle = mean.to(x.dtype)
    columns = torch.empty(x.shape[1], len(x), dtype=x.dtype, device=x.device)
    for rows in blocks:
        part = x[rows] - middle
        columns[:, rows] = part.t()
        square += (weight[rows] @ part.square_()).double()
    spread = square.sqrt()
    constant = spread <= 4 * torch.finfo(x.dtype).eps * mean.abs()
    scale = torch.where(constant, 0.0, spread if standardize else torch.ones_like(spread)).to(x.dtype)
    columns *= torch.where(scale > 0, 1 / scale, 0)[:, None]
    return middle, scale, columns


def matrix(x: Any) -> Tensor:
    """x as a float32 or float64 tensor (n, D) of finite numbers."""
    x = tensor(x)
    if x.ndim != 2 or 0 in x.shape:
        raise DataError(f"x must be (rows, columns), neither empty; got shape {tuple(x.shape)}")
    if x.dtype.is_complex:
        raise DataError(f"x must hold real numbers; got {x.dtype}")
    x = x.detach() if x.dtype in (torch.float32, torch.float64) else x.detach().float()
    low, high = torch.aminmax(x)
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        row, column = torch.nonzero(~torch.isfinite(x))[0].tolist()
        raise DataError(
            f"x must be finite; got {float(x[row, column])} at row {row}, column {column}: fill or drop unknown values first"
        )
    return x


def tensor(values: Any) -> Tensor:
    """Arrays and sequences as a tensor; what cannot be written to is copied, as torch wants it."""
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"arrays must hold numbers; got {array.dtype}: encode names as numbers first")
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def row_weight(weight: Any, x: Tensor) -> Tensor:
    """(n,) non-negative weights, made to sum to 1."""
    if weight is None:
        return torch.full((len(x),), 1 / len(x), dtype=x.dtype, device=x.device)
    w = tensor(weight).detach().to(x.device, torch.float64)
    if w.shape != (len(x),):
        raise DataError(f"weight must have one number for each of {len(x)} rows; got shape {tuple(w.shape)}")
    if not bool(torch.isfinite(w).all()) or bool((w < 0).any()) or float(w.sum()) <= 0:
        raise DataError("weight must be finite, not negative, and not all 0: check the sample weights")
    return (w / w.sum()).to(x.dtype)


def targets(y: Any, family: Family, classes: int | None, x: Tensor) -> tuple[Tensor, int]:
    """Labels (n,) of 'multinomial', or truth (classes, n) bool of the others; and how many classes."""
    y = tensor(y).detach().to(x.device)
    if family == "ovr" and y.ndim == 2:
        if y.shape[0] != len(x) or (classes is not None and y.shape[1] != classes):
            raise DataError(f"y must be ({len(x)}, {classes or 'classes'}) for 'ovr'; got shape {tuple(y.shape)}")
        return binary(y).t().contiguous(), y.shape[1]
    if y.shape != (len(x),):
        raise DataError(f"y must have one label for each of {len(x)} rows; got shape {tuple(y.shape)}")
    if family == "binary":
        if classes not in (None, 1, 2):
            raise OptionError(f"family 'binary' has no {classes} classes: leave classes out, or use 'multinomial' or 'ovr'")
        return binary(y)[None], 1
    if y.dtype.is_floating_point and bool((y != y.round()).any() | ~torch.isfinite(y).all()):
        raise DataError("y must hold class numbers 0, 1, 2 ...; got a value that is not whole: drop rows without a label")
    labels = y.long()
    low, high = int(labels.min()), int(labels.max())
    count = high + 1 if classes is None else classes
    if low < 0 or high >= count:
        raise DataError(f"y must hold class numbers from 0 to {count - 1}; got {low if low < 0 else high}")
    return (labels if family == "multinomial" else labels == torch.arange(count, device=x.device)[:, None]), count


def binary(y: Tensor) -> Tensor:
    """0/1 labels as bool."""
    if not bool(((y == 0) | (y == 1)).all()):
        bad = y[~((y == 0) | (y == 1))].flatten()[0]
        raise DataError(f"y must hold 0 and 1 only; got {bad.item()}: drop rows without a label, or use class numbers")
    return y.bool()
