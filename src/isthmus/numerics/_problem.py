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
from isthmus.numerics._columns import centred, extent
from isthmus.numerics._kernels import kernels
from isthmus.numerics._links import Link, Sigmoid, Softmax, tiles

Family = Literal["multinomial", "ovr", "binary"]
FAMILIES = ("multinomial", "ovr", "binary")
DEARER = 3  # times the work of a product of sparse weights costs, against a dense one
ABSENT = 20.0  # an absent class's logit lies this many nats below the least of any row's log-sum of logits
MANY = 50  # classes that are taken for meant, however few of them occur


@dataclass(frozen=True)
class Problem:
    """``x`` (D, n) columns of weighted mean ``middle`` (D,), 0 but for rounding.

    ``sums`` (Y, D) and ``shares`` (Y,) are Σ weight·truth·x and Σ weight·truth.
    """

    x: Tensor
    link: Link
    mean: Tensor  # (D,) in float64
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
        """(Y, n); a sparse product where that is quicker."""
        product = kernels().product if weights.device.type == "cpu" else None
        if product is None or DEARER * torch.get_num_threads() * int((weights != 0).sum()) > weights.numel():
            return torch.addmm(bias[:, None], weights, self.x)
        place = weights.nonzero()
        starts = torch.searchsorted(place[:, 0].contiguous(), torch.arange(len(weights) + 1))
        out = bias[:, None].expand(-1, self.x.shape[1]).contiguous()
        values = weights[place[:, 0], place[:, 1]].contiguous()
        product(starts.numpy(), place[:, 1].contiguous().numpy(), values.numpy(), self.x.numpy(), out.numpy())
        return out

    def still(self, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient, as below, of zero weights: every row has the same probabilities."""
        p = torch.softmax(bias, 0) if self.link.coupled else torch.sigmoid(bias)
        return torch.outer(p, self.middle) - self.sums, (p.double() - self.shares).to(p.dtype)

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
        offset[self.present] = (bias.double() - found[self.present].double() @ self.mean).to(bias.dtype)
        return found, offset


def prepare(x: Any, y: Any, *, family: Family, classes: int | None, weight: Any, standardize: bool) -> Problem:
    """Check and prepare; see ``elastic_net.fit`` for what each is. Rows are shuffled, so that the first few are a sample."""
    if family not in FAMILIES:
        raise OptionError(f"family must be one of {', '.join(FAMILIES)}; got {family!r}")
    if classes is not None:
        whole("classes", classes)
    x, ends = matrix(x)
    weight = row_weight(weight, x)
    truth, count = targets(y, family, classes, x)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).to(x.device)
    order = order[weight[order] > 0]
    truth = truth[..., order]
    if family == "multinomial":
        present, certain = torch.bincount(truth, minlength=count) > 0, torch.zeros(count, dtype=torch.bool, device=x.device)
        if int(present.sum()) < 2:
            raise DataError(f"y holds one class only ({int(truth[0])}); a head needs two: check the labels or the rows taken")
        link = Softmax((torch.cumsum(present, 0) - 1)[truth], weight[order], int(present.sum()))
    else:
        certain = truth.all(1)
        present = truth.any(1) & ~certain
        if not bool(present.any()):
            raise DataError("every row has the same label; a head needs rows of both kinds: add rows or leave this class out")
        link = Sigmoid(truth[present], weight[order], int(present.sum()))
    found = centred(x, weight, order, link, standardize, ends)
    return Problem(found.x, link, found.mean, found.scale, present, certain, found.sums, link.shares(), found.middle)


def matrix(x: Any) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """x as a float32 or float64 tensor (n, D) of finite numbers; and its columns' least and largest."""
    x = tensor(x)
    if x.ndim != 2 or 0 in x.shape:
        raise DataError(f"x must be (rows, columns), neither empty; got shape {tuple(x.shape)}")
    if x.dtype.is_complex:
        raise DataError(f"x must hold real numbers; got {x.dtype}")
    x = x.detach() if x.dtype in (torch.float32, torch.float64) else x.detach().float()
    low, high = extent(x)
    if not bool((torch.isfinite(low) & torch.isfinite(high)).all()):
        row, column = torch.nonzero(~torch.isfinite(x))[0].tolist()
        raise DataError(
            f"x must be finite; got {float(x[row, column])} at row {row}, column {column}: fill or drop unknown values first"
        )
    return x, (low, high)


def tensor(values: Any) -> Tensor:
    """Arrays and sequences as a tensor; what cannot be written to, or runs backwards, is copied, as torch wants it."""
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"arrays must hold numbers; got {array.dtype}: encode names as numbers first")
    straight = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if straight else array.copy())


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
    if classes is None and high >= max(10 * len(torch.unique(labels)), len(labels), MANY):
        raise DataError(
            f"the largest label is {high}, of {len(torch.unique(labels))} that occur: number the classes 0, 1, 2 ..., "
            "or, if so many are meant, give classes="
        )
    count = high + 1 if classes is None else classes
    if low < 0 or high >= count:
        raise DataError(f"y must hold class numbers from 0 to {count - 1}; got {low if low < 0 else high}")
    return (labels if family == "multinomial" else labels == torch.arange(count, device=x.device)[:, None]), count


def whole(name: str, value: Any) -> None:
    """Refuse what is not a whole number."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise OptionError(f"{name} must be a whole number; got {value!r}")


def binary(y: Tensor) -> Tensor:
    """0/1 labels as bool."""
    if not bool(((y == 0) | (y == 1)).all()):
        bad = y[~((y == 0) | (y == 1))].flatten()[0]
        raise DataError(f"y must hold 0 and 1 only; got {bad.item()}: drop rows without a label, or use class numbers")
    return y.bool()
