"""Correction curves under a linear head: what to ask about first, and what the answers are worth, for all rows at once.

The criteria are those of Shin et al. (ICML 2023), with KL(new || old) as in their code: CCTP, p * sum of |W|; ECTP, the
expected divergence of the answer when the concept is set; EUDTP, the expected fall of its entropy. A group scores the mean of
its members.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import DataError
from isthmus.numerics._check import Array, choice, count, tensor, writable
from isthmus.numerics._outcomes import Head, expected
from isthmus.numerics._walk import walk

__all__ = ["CRITERIA", "corrected", "greedy", "order", "scores"]

CRITERIA = ("cctp", "ectp", "eudtp")
LARGE = 128.0  # float32 logits beyond this are kept in float64: 1e-5 of them is more than a near tie
Groups = Sequence[Sequence[int]]


def scores(
    values: Array,
    weight: Array,
    criterion: str,
    *,
    bias: Array | None = None,
    chances: Array | None = None,
    low: Array | float = 0.0,
    high: Array | float = 1.0,
    groups: Groups | None = None,
    memory: int = 2**25,
) -> Tensor:
    """(n, k) scores, or (n, G) for groups, float64: the larger, the earlier it should be asked about.

    ``values`` (n, k): what the head reads; ``weight`` (Y, k) and ``bias`` (Y,) of the head; ``criterion``: 'cctp', 'ectp' or
    'eudtp' (both in nats). ``chances`` (n, k) in [0, 1] that the concept is present (default: the values). ``low`` and
    ``high``, one number or (k,): what a correction writes for absent and present, such as 5th and 95th percentiles of the
    training values. Without numba about ``memory`` bytes are used for the outcomes of some rows; with it, those of one row.
    float64 in, float64 throughout; float32 is exact to about 1e-6. Raises ``DataError``, or ``OptionError`` for a criterion.
    """
    head = _prepared(values, weight, chances, low, high)
    _chances(head, "values" if chances is None else "chances")
    logits = _logits(head, bias, torch.float64)
    choice("criterion", criterion, CRITERIA)
    found = _scored(head, logits, criterion, None, count("memory", memory))
    members = _members(groups, head.z.shape[1])
    return found if members is None else _means(found, members.to(found.device))


def order(found: Array) -> Tensor:
    """(n, G) int64: the indices of ``found`` (n, G) by falling score; of equal scores the lowest index comes first."""
    raw = found if isinstance(found, Tensor) else torch.as_tensor(writable(np.asarray(found)))
    scores = tensor("found", raw if raw.is_floating_point() else raw.double(), "n G", infinite=True, empty=True)
    if scores.device.type != "cpu":
        return scores.argsort(dim=1, descending=True, stable=True)
    falling = -scores.contiguous().numpy() + 0.0  # no -0
    if falling.dtype == np.float32:  # ordered bits above the index: no two are equal, and whole numbers sort quickly
        bits = falling.view(np.int32)
        bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)
        keys = (bits.astype(np.int64) << 32) | np.arange(falling.shape[1])
        keys.sort(axis=1)
        return torch.from_numpy(keys & 0xFFFFFFFF)
    made = falling.argsort(axis=1)  # much quicker than a stable sort, which only rows with equal scores need
    ranked = np.take_along_axis(falling, made, axis=1)
    tied = (ranked[:, 1:] == ranked[:, :-1]).any(axis=1)
    if tied.any():
        made[tied] = falling[tied].argsort(axis=1, kind="stable")
    return torch.from_numpy(made)


def corrected(
    values: Array,
    truth: Array,
    weight: Array,
    labels: Array,
    orders: Array,
    *,
    bias: Array | None = None,
    low: Array | float = 0.0,
    high: Array | float = 1.0,
    groups: Groups | None = None,
    memory: int = 2**21,
) -> Tensor:
    """(n, S + 1) bool: whether each row's class is right after 0, 1, ..., S corrections; its mean over rows is the curve.

    ``truth`` (n, k) in [0, 1] (soft labels allowed), NaN where unknown: such a concept stays as it is. ``labels`` (n,) whole
    numbers below Y. ``orders`` (n, S): what each row is asked about, in turn, concepts or numbers of ``groups``. Of equal
    largest logits the first class wins. Other arguments and errors as ``scores``.
    """
    head = _prepared(values, weight, None, low, high)
    n, k = head.z.shape
    members = _members(groups, k)
    members = torch.arange(k)[:, None] if members is None else members
    asked = _whole("orders", orders, (n, -1), len(members)).to(head.z.device)
    label = _whole("labels", labels, (n,), head.w.shape[1]).to(head.z.device)
    change, kind = _change(head, truth), head.z.dtype
    logits = _logits(head, bias, kind)
    if _largest(logits) + _largest(change) * _largest(head.w) > LARGE:
        kind = torch.float64
        logits = _logits(head, bias, kind)
    rest = (asked, members.to(head.z.device), label, count("memory", memory))
    return walk(logits, change.to(kind), head.w.to(kind), *rest)


def greedy(
    values: Array,
    truth: Array,
    weight: Array,
    criterion: str,
    steps: int,
    *,
    bias: Array | None = None,
    chances: Array | None = None,
    low: Array | float = 0.0,
    high: Array | float = 1.0,
    groups: Groups | None = None,
    memory: int = 2**25,
) -> Tensor:
    """(n, steps) int64: an order in which the scores are computed anew after each answer, on the answer as it stands then.

    O(n k Y) for each step. An unknown ``truth`` (NaN) is asked about as any other, and changes nothing. Other arguments,
    memory and errors as ``scores``; for ``corrected`` pass the same.
    """
    head = _prepared(values, weight, chances, low, high)
    _chances(head, "values" if chances is None else "chances")
    logits = _logits(head, bias, torch.float64)
    n, k = head.z.shape
    choice("criterion", criterion, CRITERIA)
    members = _members(groups, k)
    members = (torch.arange(k)[:, None] if members is None else members).to(logits.device)
    count("steps", steps, high=len(members))
    change, z, w = _change(head, truth).double(), head.z.double(), head.w.double()
    closed = torch.zeros(n, k + 1, dtype=torch.bool, device=logits.device)
    asked = torch.zeros(n, len(members), dtype=torch.bool, device=logits.device)
    chosen = torch.empty(n, steps, dtype=torch.int64, device=logits.device)
    for t in range(steps):
        now = Head(z, head.p, head.low, head.high, head.w, head.exact)
        found = _means(_scored(now, logits, criterion, closed[:, :k], count("memory", memory)), members)
        best = found.masked_fill(asked, -torch.inf).argmax(1)
        chosen[:, t] = best
        asked.scatter_(1, best[:, None], True)
        picked = members[best]
        fresh = torch.zeros_like(closed).scatter_(1, picked % (k + 1), True)
        fresh[:, k] = False
        step = torch.where(fresh[:, :k] & ~closed[:, :k], change, 0)
        closed |= fresh
        z, logits = z + step, logits + step @ w if picked.shape[1] > 4 else _moved(logits, step, w, picked)
    return chosen


def _moved(logits: Tensor, step: Tensor, w: Tensor, picked: Tensor) -> Tensor:
    """Logits after a few concepts (n, m) of each row have moved; -1 is none."""
    for j in picked.T:
        some = torch.where(j >= 0, step.gather(1, j.clamp(min=0)[:, None])[:, 0], 0)
        logits = torch.addcmul(logits, some[:, None], w[j.clamp(min=0)])
    return logits


def _scored(head: Head, logits: Tensor, criterion: str, closed: Tensor | None, memory: int) -> Tensor:
    if criterion == "cctp":
        return head.p.double() * head.w.double().abs().sum(1)
    mean = expected(head, logits, criterion == "ectp", closed, memory)
    if criterion == "ectp":
        return mean
    log_q = logits.log_softmax(1)
    return -(log_q.exp() * log_q).sum(1, keepdim=True) - mean


def _means(found: Tensor, members: Tensor) -> Tensor:
    """(n, G) means of the members (G, m) of each group, -1 being none."""
    if members.shape[1] == 1:
        return found[:, members[:, 0]]
    real = members >= 0
    return (found[:, members.clamp(min=0)] * real).sum(2) / real.sum(1)


def _prepared(values: Array, weight: Array, chances: Array | None, low: Array | float, high: Array | float) -> Head:
    z = tensor("values", values, "n k")
    k = z.shape[1]
    w = tensor("weight", weight, f"Y {k}").to(z).T.contiguous()
    p = z if chances is None else tensor("chances", chances, f"{len(z)} {k}").to(z)
    return Head(z, p, _end("low", low, z), _end("high", high, z), w, z.dtype == torch.float64)


def _chances(head: Head, name: str) -> None:
    """Refuse chances that are none."""
    low, high = (float(end) for end in head.p.aminmax())
    if low < 0 or high > 1:
        raise DataError(f"{name}: expected chances from 0 to 1, got {low:g} to {high:g}; pass chances=")


def _logits(head: Head, bias: Array | None, kind: torch.dtype) -> Tensor:
    """(n, Y) of this type."""
    found = head.z.to(kind) @ head.w.to(kind)
    return found if bias is None else found + tensor("bias", bias, str(head.w.shape[1])).to(found)


def _largest(found: Tensor) -> float:
    """The largest absolute value, without a copy."""
    low, high = found.aminmax()
    return max(-float(low), float(high))


def _end(name: str, end: Array | float, z: Tensor) -> Tensor:
    """(k,) what is written, of the type of the values."""
    k = z.shape[1]
    return tensor(name, z.new_full((k,), float(end)) if isinstance(end, int | float) or end.ndim == 0 else end, str(k)).to(z)


def _change(head: Head, truth: Array) -> Tensor:
    """(n, k) what a correction adds to each value; 0 where the truth is unknown."""
    c = tensor("truth", truth, f"{len(head.z)} {head.z.shape[1]}", nan=True).to(head.z)
    unknown = None if bool(c.sum().isfinite()) else c.isnan()
    c = c if unknown is None else c.masked_fill(unknown, 0)
    low, high = (float(end) for end in c.aminmax())
    if low < 0 or high > 1:
        raise DataError(f"truth: expected labels from 0 to 1 or NaN, got {low:g} to {high:g}; low and high say what is written")
    change = head.low + c * (head.high - head.low) - head.z
    return change if unknown is None else change.masked_fill(unknown, 0)


def _whole(name: str, given: Array, shape: tuple[int, ...], high: int) -> Tensor:
    """Whole numbers from 0 to below ``high``, of a shape in which -1 is any size."""
    found = given if isinstance(given, Tensor) else torch.as_tensor(given)
    fits = found.ndim == len(shape) and all(want in (-1, size) for want, size in zip(shape, found.shape, strict=True))
    if not fits or found.is_floating_point() or found.dtype == torch.bool:
        asked = tuple("any" if want == -1 else want for want in shape)
        raise DataError(
            f"{name}: expected whole numbers of shape {asked}, got {found.dtype} of {tuple(found.shape)}; pass int64"
        )
    if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < high:
        got = f"{int(found.min())} to {int(found.max())}"
        raise DataError(f"{name}: expected numbers from 0 to {high - 1}, got {got}; count from 0")
    return found.long()


def _members(groups: Groups | None, k: int) -> Tensor | None:
    """(G, m) members of each group, filled up with -1."""
    if groups is None:
        return None
    flat = [j for group in groups for j in group]
    if not flat or not all(len(group) for group in groups) or not all(0 <= j < k for j in flat) or len(set(flat)) < len(flat):
        raise DataError(
            f"groups: expected disjoint, non-empty lists of concepts 0 to {k - 1}, got {list(map(list, groups))!r}; mend"
        )
    longest = max(len(group) for group in groups)
    return torch.tensor([[*group, *[-1] * (longest - len(group))] for group in groups])
