"""Concept directions: a linear model for each concept, all concepts at once.

Concept activation vectors (Kim et al., ICML 2018), and the SVM and logistic probes of post-hoc CBM (Yuksekgonul et al., ICLR
2023) and its kin. Examples come from ``sets`` (positives and negatives for each concept) or ``shared`` (one table).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.numerics import _descent, _faces, _smo
from isthmus.numerics._check import count, number
from isthmus.numerics._examples import Examples, Sets, Shared, sets, shared
from isthmus.numerics._gram import grams

__all__ = ["Directions", "Sets", "Shared", "exact_bias", "logistic", "ridge", "sets", "shared", "svm"]

Floats = NDArray[np.float64]
WIDE, FIRST, ROUNDING = 2, 1e-5, 1e-11  # rows for a column; violations: before an objective is known, and the least


@dataclass(frozen=True)
class Directions:
    """C linear models, score = x @ weight.T + bias, positive where the concept is present.

    ``weight`` (C, d) and ``bias`` (C,) of the type of x; ``objective`` (C,) float64, what was minimised, at this very
    solution; ``converged`` (C,) bool. ``gap`` (C,) float64 bounds objective - optimum (SVM; NaN elsewhere).
    """

    weight: Tensor
    bias: Tensor
    objective: Tensor
    converged: Tensor
    gap: Tensor


def svm(examples: Examples, *, c: float = 0.1, tol: float = 1e-5, limit: int = 1_000_000, memory: int = 2**23) -> Directions:
    """Linear support vector machines: min 1/2 |w|^2 + c * sum of max(0, 1 - y (w x + b)), the bias exact and unpenalised.

    The dual is solved on one Gram matrix for each concept (one for all on a shared table): with numba and on sets of at most
    400 rows by conjugate gradients (Moré & Toraldo 1991), the rest as LIBSVM does it (Fan, Chen & Lin 2005). Then b minimises
    the objective exactly for the w found; repeated, more finely, until the duality gap (in float64, for this Gram matrix) is
    at most ``tol`` of the objective. ``converged`` is False where rounding forbids that (float32 rows of badly scaled
    features). ``memory``: about so many bytes of rows and Gram matrices of sets at a time (one concept at least; a shared
    table of n rows takes about 3 n^2 numbers). On the CPU; what numba adds is speed: with and without it the objectives differ
    by at most ``tol``. Made for sets of some hundred rows: on a table of thousands scikit-learn's SVC, which puts rows aside
    as it goes, is faster, as is ``logistic``.
    Raises ``OptionError`` for c, tol <= 0; ``DataError`` after ``limit`` steps for one concept.
    """
    number("c", c, above=0)
    number("tol", tol, above=0)
    count("limit", limit)
    count("memory", memory)
    blocks = _one_gram(examples) if isinstance(examples, Shared) else _grams(examples, memory)
    parts = [_machines(*block, c, tol, limit) for block in blocks]
    weight, bias, objective, gap = (torch.cat(column) for column in zip(*parts, strict=True))
    device, kind = examples.x.device, examples.x.dtype
    done = gap <= tol * objective
    return Directions(weight.to(device), bias.to(device, kind), objective.to(device), done.to(device), gap.to(device))


Centred = tuple[Tensor, Tensor, NDArray[Any], Tensor, Tensor]


def _grams(examples: Sets, memory: int) -> Iterator[Centred]:
    """For a few concepts at a time: rows less their mean, which changes the bias alone, the mean, Gram, label, known.

    The rows of each block are written over those of the block before: in the cache, where it holds them.
    """
    positive, negative, (width, kind) = examples.positive, examples.negative, (examples.x.shape[1], examples.x.dtype)
    lengths = examples.lengths()
    every, longest = len(lengths), int(lengths.sum(1).max())
    size = min(every, max(1, memory // (examples.x.element_size() * longest * (longest + width))))
    rows, mean = torch.zeros(size, longest, width, dtype=kind), torch.zeros(size, 1, width, dtype=kind)
    into, middle, place = rows.numpy(), mean.numpy(), np.arange(longest)
    for start in range(0, every, size):
        count = min(size, every - start)
        own = lengths[start : start + count]
        if isinstance(positive, Tensor) and isinstance(negative, Tensor):
            p, q = (part[start : start + count].cpu().numpy() for part in (positive, negative))
            _centred(p, q, into[:count], middle[:count])
        else:
            for k in range(count):
                p, q = (part[start + k].cpu().numpy() for part in (positive, negative))
                _centred(p, q, into[k], middle[k])
        label, known = (torch.from_numpy(place < many[:, None]) for many in (own[:, 0], own.sum(1)))
        yield rows[:count], mean[:count], grams(into[:count]), label, known


def _centred(p: NDArray[Any], q: NDArray[Any], rows: NDArray[Any], mean: NDArray[Any]) -> None:
    """Write the mean (..., 1, d) of p and q (..., p or q, d), and both less the mean, then zeros, into rows (..., m, d)."""
    at, end = p.shape[-2], p.shape[-2] + q.shape[-2]
    mean[:] = (p.sum(-2, keepdims=True) + q.sum(-2, keepdims=True)) / p.dtype.type(end)
    np.subtract(p, mean, out=rows[..., :at, :])
    np.subtract(q, mean, out=rows[..., at:end, :])
    rows[..., end:, :] = 0


def _one_gram(examples: Shared) -> Iterator[Centred]:
    """The same, concept by concept, out of one Gram matrix of the whole table."""
    x = examples.x.cpu()
    mean = x.mean(0)[None, None]
    rows = x - mean[0]
    gram = rows.numpy() @ rows.T.numpy()
    for known, label in zip(examples.known.T.cpu(), examples.label.T.cpu(), strict=True):
        whole, at = bool(known.all()), known.nonzero()[:, 0]
        own = gram if whole else gram[np.ix_(at.numpy(), at.numpy())]
        yield (rows if whole else rows[at])[None], mean, own[None], label[at][None], known[at][None]


def _machines(
    rows: Tensor, mean: Tensor, gram: NDArray[Any], label: Tensor, known: Tensor, c: float, tol: float, limit: int
) -> tuple[Tensor, ...]:
    """Weight, bias, objective and gap of a block of concepts."""
    y = np.where(label.numpy() > 0, 1.0, -1.0)
    cap = c * known.numpy().astype(np.float64)
    beta, slope = np.zeros_like(y), -y
    bias, objective, gap = np.zeros(len(y)), np.zeros(len(y)), np.full(len(y), np.inf)
    wide = rows.shape[2] * WIDE >= rows.shape[1]  # else the Gram matrix is singular on most faces
    if wide and _faces.advance(gram, y, cap, tol, limit, beta, slope):
        bias, objective, gap = _certified(beta, slope + y, y, cap)
    for finer in (1.0, 0.5, 0.1, 0.01):
        at = np.flatnonzero(gap > tol * objective)
        if not len(at):
            break
        inner, outer = beta[at], slope[at]
        violation = finer * _allowed(objective[at] - gap[at], outer + y[at], cap[at], tol)
        _smo.solve(gram if len(at) == len(y) else gram[at], y[at], cap[at], violation, limit, inner, outer)
        beta[at], slope[at] = inner, outer
        bias[at], objective[at], gap[at] = _certified(inner, outer + y[at], y[at], cap[at])
    weight = torch.from_numpy(np.matmul(beta.astype(gram.dtype)[:, None], rows.numpy())[:, 0])
    shifted = torch.from_numpy(bias) - (weight.double() * mean[:, 0].double()).sum(1)
    return weight, shifted, torch.from_numpy(objective), torch.from_numpy(gap)


def _allowed(dual: Floats, score: Floats, cap: Floats, tol: float) -> Floats:
    """(A,) by how much pairs may violate the conditions: what costs ``tol`` of a dual objective, once there is one.

    Above what rounding leaves of the scores (A, m).
    """
    wanted = np.where(dual > 0, tol * dual / cap.sum(1), FIRST)
    return np.maximum(wanted, ROUNDING * (1 + np.abs(score).max(1)))


def _certified(beta: Floats, score: Floats, y: Floats, cap: Floats) -> tuple[Floats, Floats, Floats]:
    """The exact bias for scores K beta (A, m), the objective there, and its distance to the dual bound."""
    bias = exact_bias(torch.from_numpy(score), torch.from_numpy(y), torch.from_numpy(cap)).numpy()
    square = (beta * score).sum(1)
    objective = square / 2 + (cap * np.maximum(0.0, 1 - y * (score + bias[:, None]))).sum(1)
    return bias, objective, objective - ((beta * y).sum(1) - square / 2)


def exact_bias(score: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """The b that minimises sum of weight * max(0, 1 - y (score + b)): scores (C, m), y in {-1, 1}, weights >= 0 -> (C,).

    The sum is convex and piecewise linear in b with a kink at each y - score, where its slope grows by the weight; it starts
    at minus the weight of the positives. Where a whole interval minimises, its middle.
    """
    kink, order = torch.where(weight > 0, y - score, torch.inf).sort(1)
    climb = (weight.gather(1, order).cumsum(1) - (weight * (y > 0)).sum(1, keepdim=True)).contiguous()
    slack = 1e-9 * weight.sum(1, keepdim=True)
    last = int(kink.shape[1]) - 1
    first = (climb < -slack).sum(1, keepdim=True).clamp(max=last)
    second = (climb <= slack).sum(1, keepdim=True).clamp(max=last)
    ends = torch.cat([kink.gather(1, first), kink.gather(1, second)], 1)
    return torch.where(ends[:, 1].isinf(), ends[:, 0], ends.mean(1))


def logistic(examples: Examples, *, c: float = 1.0, tol: float = 1e-6, limit: int = 1000) -> Directions:
    """Logistic regressions: min 1/2 |w|^2 + c * sum of log(1 + exp(-y (w x + b))), the bias unpenalised.

    Conjugate gradients with one preconditioner for all concepts; a concept leaves when its estimated distance to the
    optimum is at most ``tol`` nats a row (the default is a few 1e-5 of a usual objective; scikit-learn's default comes
    less near). ``converged`` is False for a concept that had not left after ``limit`` steps. On the device of x.
    Raises ``OptionError`` for c, tol <= 0.
    """
    return _descended(examples, _descent.Logistic(), 1 / number("c", c, above=0), 0.15, tol, limit)


def ridge(examples: Examples, *, penalty: float = 1.0, tol: float = 1e-9, limit: int = 1000) -> Directions:
    """Least squares: min 1/2 sum of (w x + b - y)^2 + penalty/2 |w|^2 with y in {-1, 1}, the bias unpenalised.

    One Cholesky factor for all concepts; where labels are missing it is the preconditioner, and conjugate gradients do the
    rest. Cheap, and another objective than a classifier's: expect a little less accuracy. ``tol``, ``limit``, ``converged``
    and errors as in ``logistic``.
    """
    return _descended(examples, _descent.Squared(), number("penalty", penalty, above=0), 1.0, tol, limit)


def _descended(examples: Examples, loss: _descent.Loss, penalty: float, curvature: float, tol: float, limit: int) -> Directions:
    number("tol", tol, above=0)
    count("limit", limit)
    weights: list[Tensor] = []
    found: list[_descent.Fitted] = []
    for x, t, known in _tables(examples):
        basis = None
        if len(x) < x.shape[1]:  # w lies in the span of the rows: x = r' q', w = q v, |w| = |v|
            basis, r = torch.linalg.qr(x.T)
            x = r.T.contiguous()
        one = _descent.descend(x, t, known, loss, penalty, tol=tol, limit=limit, curvature=curvature)
        weights.append((one.w[:-1] if basis is None else basis @ one.w[:-1]).T)
        found.append(one)
    scale = 1 / penalty if isinstance(loss, _descent.Logistic) else 1.0
    objective, done = torch.cat([one.objective for one in found]) * scale, torch.cat([one.done for one in found])
    bias = torch.cat([one.w[-1] for one in found])
    return Directions(torch.cat(weights).contiguous(), bias, objective, done, torch.full_like(objective, torch.nan))


def _tables(examples: Examples) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """x (n, d), targets and known (n, C): the shared table, or one concept's rows after another."""
    if isinstance(examples, Shared):
        yield examples.x, examples.label, examples.known
        return
    for x, label, known in examples.blocks(1):
        yield x[0], label[0][:, None], known[0][:, None]
