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

from isthmus.numerics import _descent, _exact, _faces, _smo
from isthmus.numerics._check import count, number
from isthmus.numerics._examples import Examples, Sets, Shared, sets, shared, too_large
from isthmus.numerics._gram import grams

__all__ = ["Directions", "Sets", "Shared", "exact_bias", "logistic", "ridge", "sets", "shared", "svm"]

Floats = NDArray[np.float64]
WIDE, FIRST, ROUNDING = 2, 1e-5, 1e-11  # rows for a column; violations: before an objective is known, and the least
NEARER, NEAR = 0.8, 0.5  # parts of tol: for the Gram matrix, whose rounding is not that of the rows; without rounding
STRETCH, MORE = 1 + 2.0**-24, tuple(1 + 2.0**-k for k in range(23, 16, -1))  # of float32, to keep what margins rounding takes


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
    400 rows by conjugate gradients (Moré & Toraldo 1991), the rest as LIBSVM does it (Fan, Chen & Lin 2005); repeated, more
    finely and from scores in float64, until ``gap`` is at most ``tol`` of the objective. w and b are rounded to the type of x;
    b minimises the objective for the rounded w; objective, gap and ``converged`` are those of the rounded (w, b), in float64.
    ``converged`` is False where rounding forbids more (float32 and a large c), and for a concept that has used up ``limit``
    steps, which then has the best that was found; a step is a product with the Gram matrix (300 at most), then a pair of rows.
    ``memory``: about so many bytes of rows and Gram matrices of sets at a time (one concept at least; a shared table of n rows
    takes about 3 n^2 numbers). On the CPU; what numba adds is speed: with and without it, the objectives of what converged
    differ by at most ``tol``. Made for sets of some hundred rows: on a table of thousands scikit-learn's SVC, which puts rows
    aside as it goes, is faster, as is ``logistic``.
    Raises ``OptionError`` for c, tol <= 0; ``DataError`` for numbers so large that their squares overflow.
    """
    number("c", c, above=0)
    number("tol", tol, above=0)
    count("limit", limit)
    count("memory", memory)
    blocks = _one_gram(examples) if isinstance(examples, Shared) else _grams(examples, memory)
    parts = [_machines(*block, c, tol, limit) for block in blocks]
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    weight, bias, objective, gap = (torch.from_numpy(column).to(examples.x.device) for column in columns)
    return Directions(weight, bias.to(weight), objective, gap <= tol * objective, gap)


Block = tuple[_exact.Parts, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]


def _grams(examples: Sets, memory: int) -> Iterator[Block]:
    """For a few concepts at a time: their rows, the Gram matrix of rows less their mean (b changes, no more), label, known.

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
            p, q = (part[start : start + count].cpu().contiguous().numpy() for part in (positive, negative))
            _centred(p, q, into[:count], middle[:count])
            parts = list(zip(p, q, strict=True))
        else:
            sides = ([part[start + k].cpu().contiguous().numpy() for k in range(count)] for part in (positive, negative))
            parts = list(zip(*sides, strict=True))
            for k, (p, q) in enumerate(parts):
                _centred(p, q, into[k], middle[k])
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused later
            gram = grams(into[:count])
        yield parts, gram, place < own[:, :1], place < own.sum(1)[:, None]


def _centred(p: NDArray[Any], q: NDArray[Any], rows: NDArray[Any], mean: NDArray[Any]) -> None:
    """Write the mean (..., 1, d) of p and q (..., p or q, d), and both less the mean, then zeros, into rows (..., m, d)."""
    at, end = p.shape[-2], p.shape[-2] + q.shape[-2]
    mean[:] = (p.sum(-2, keepdims=True) + q.sum(-2, keepdims=True)) / p.dtype.type(end)
    np.subtract(p, mean, out=rows[..., :at, :])
    np.subtract(q, mean, out=rows[..., at:end, :])
    rows[..., end:, :] = 0


def _one_gram(examples: Shared) -> Iterator[Block]:
    """The same, concept by concept, out of one Gram matrix of the whole table."""
    x = examples.x.cpu().contiguous().numpy()
    rows = x - x.mean(0)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused later
        gram = rows @ rows.T
    for known, label in zip(examples.known.T.cpu().numpy(), examples.label.T.cpu().numpy() > 0, strict=True):
        whole, at = bool(known.all()), known.nonzero()[0]
        own = gram if whole else gram[np.ix_(at, at)]
        yield [(x if whole else x[at], x[:0])], own[None], label[None, at], known[None, at]


@dataclass(frozen=True)
class _Planes:
    """Of A concepts: weight (A, d) and bias (A,) as returned, the objective there, and a bound of it (A,) from below."""

    weight: NDArray[Any]
    bias: Floats
    objective: Floats
    bound: Floats

    def better(self, at: NDArray[np.int64], new: _Planes) -> None:
        """Take over what is better in ``new``, of the concepts ``at``."""
        lower = new.objective < self.objective[at]
        for name in ("weight", "bias", "objective"):
            getattr(self, name)[at[lower]] = getattr(new, name)[lower]
        self.bound[at] = np.maximum(self.bound[at], new.bound)


def _machines(
    parts: _exact.Parts,
    gram: NDArray[Any],
    label: NDArray[np.bool_],
    known: NDArray[np.bool_],
    c: float,
    tol: float,
    limit: int,
) -> tuple[NDArray[Any], ...]:
    """Weight, bias, objective and gap of a block of concepts."""
    if not float(np.diagonal(gram, axis1=1, axis2=2).max(initial=0)) < np.finfo(gram.dtype).max / 16:
        raise too_large(gram.dtype)
    y = np.where(label, 1.0, -1.0)
    cap = c * known.astype(np.float64)
    beta, slope, left = np.zeros_like(y), -y, np.full(len(y), limit)
    every, width, kind = np.arange(len(y)), parts[0][0].shape[1], gram.dtype
    best = _Planes(np.zeros((len(y), width), kind), np.zeros(len(y)), np.full(len(y), np.inf), np.zeros(len(y)))
    wide = width * WIDE >= y.shape[1]  # else the Gram matrix is singular on most faces
    taken = _faces.advance(gram, y, cap, NEARER * tol, limit, beta, slope) if wide else None
    if taken is not None:
        left -= taken
    best.better(every, _plane(parts, beta, y, cap, kind)[0])
    for finer in (1.0, 0.5, 0.1, 0.01):
        at = np.flatnonzero(~(best.objective - best.bound <= tol * best.objective))
        if not len(at):
            break
        own, inner = [parts[k] for k in at], beta[at]
        there, score = _plane(own, inner, y[at], cap[at], np.float64)
        near = there.objective - there.bound <= NEAR * tol * there.objective  # rounding alone spoilt it
        for stretch in MORE if kind == np.float32 and near.any() else ():
            some = [parts[k] for k in at[near]]
            best.better(at[near], _plane(some, inner[near], y[at[near]], cap[at[near]], kind, stretch)[0])
        outer, bound = (score - y[at])[~near], there.bound[~near]
        at, inner = at[~near], inner[~near]
        if not len(at) or not left[at].any():
            break
        violation = finer * _allowed(bound, outer + y[at], cap[at], tol)
        left[at] -= _smo.solve(gram if len(at) == len(y) else gram[at], y[at], cap[at], violation, left[at], inner, outer)
        beta[at] = inner
        best.better(at, _plane([parts[k] for k in at], inner, y[at], cap[at], kind)[0])
    return best.weight, best.bias, best.objective, best.objective - best.bound


def _plane(
    parts: _exact.Parts, beta: Floats, y: Floats, cap: Floats, kind: Any, stretch: float = STRETCH
) -> tuple[_Planes, Floats]:
    """What beta (A, m) gives, rounded to ``kind``, and the scores (A, m) of the rows without b."""
    weight, score = np.empty((len(y), parts[0][0].shape[1]), kind), np.zeros_like(y)
    square = _exact.planes(parts, beta, stretch if kind == np.float32 else 1.0, weight, score)
    bias = exact_bias(torch.from_numpy(score), torch.from_numpy(y), torch.from_numpy(cap)).numpy().astype(kind)
    bias = bias.astype(np.float64)
    loss = (cap * np.maximum(0.0, 1 - y * (score + bias[:, None]))).sum(1)
    own = np.square(weight, dtype=np.float64).sum(1)
    return _Planes(weight, bias, own / 2 + loss, (beta * y).sum(1) - square / 2), score


def _allowed(dual: Floats, score: Floats, cap: Floats, tol: float) -> Floats:
    """(A,) by how much pairs may violate the conditions: what costs ``tol`` of a dual objective, once there is one.

    Above what rounding leaves of the scores (A, m).
    """
    wanted = np.where(dual > 0, tol * dual / cap.sum(1), FIRST)
    return np.maximum(wanted, ROUNDING * (1 + np.abs(score).max(1)))


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
    Raises ``OptionError`` for c, tol <= 0; ``DataError`` for numbers so large that sums of their squares overflow.
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
        if not float(x.abs().max()) ** 2 * x.numel() < torch.finfo(x.dtype).max / 16:
            raise too_large(x.dtype)
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
    for p, q in zip(examples.positive, examples.negative, strict=True):
        label = torch.cat([p.new_ones(len(p), 1), q.new_zeros(len(q), 1)])
        yield torch.cat([p, q]), label, torch.ones_like(label, dtype=torch.bool)
