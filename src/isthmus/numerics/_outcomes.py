"""What an answer would become if one concept were set: entropy or divergence of softmax(logits + change * weights).

Setting concept j from z to v adds (v - z) W_j to the logits, so that the new softmax needs no product with the head; and with
E = exp(logits + (low - z) W_j), the outcome 'high' is E times exp((high - low) W_j), a table of (k, Y): one exponential does
for both. Where weights are too large for that in float32 (WIDE), both are computed from their own maximum in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.numerics._jit import jitted

Floats = NDArray[Any]
WIDE = 24.0  # the largest |change * weight| of the table's way: products of two exponentials stay far inside float32
LOG2E, LN2_HIGH, LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)


@dataclass(frozen=True)
class Head:
    """Rows under a linear head: values z and chances p (n, k), the two outcomes low and high (k,), weights w (k, Y).

    ``exact``: float64 was given, and nothing is to be done in less.
    """

    z: Tensor
    p: Tensor
    low: Tensor
    high: Tensor
    w: Tensor
    exact: bool


def expected(head: Head, logits: Tensor, divergence: bool, closed: Tensor | None, memory: int) -> Tensor:
    """(n, k) float64: the mean over the two outcomes of each concept, weighted by p, of the new entropy or of KL(new || old).

    ``logits`` (n, Y) float64, as they stand; concepts ``closed`` (n, k) are left out (0).
    """
    compiled = jitted(_compiled, loose=True) if logits.device.type == "cpu" else None
    if compiled is None:
        n, (k, y) = len(logits), head.w.shape
        size = max(1, memory // (3 * 8 * k * y))
        parts = [_batched(head, logits[i : i + size], slice(i, i + size), divergence) for i in range(0, n, size)]
        found = torch.cat(parts)
        return found if closed is None else found.masked_fill(closed, 0)
    table = ((head.high - head.low)[:, None] * head.w).clamp(-2 * WIDE, 2 * WIDE).exp().float()
    out = torch.zeros(head.z.shape, dtype=torch.float64)
    shut = torch.zeros(head.z.shape, dtype=torch.bool) if closed is None else closed
    parts = (
        logits,
        head.z.double(),
        head.p.double(),
        head.low.double(),
        head.high.double(),
        head.w.double(),
        head.w.float(),
        table,
    )
    arrays = [part.contiguous().numpy() for part in parts]
    compiled(*arrays, shut.numpy(), divergence, -1.0 if head.exact else WIDE, out.numpy())
    return out


def _compiled(  # noqa: C901, PLR0915
    logits: Floats,
    z: Floats,
    p: Floats,
    low: Floats,
    high: Floats,
    w: Floats,
    v: Floats,
    table: Floats,
    closed: Floats,
    divergence: bool,
    wide: float,
    out: Floats,
) -> None:
    """For the compiler: rows in turn, in the cache. ``v`` is w in float32; the exponential is Cephes' expf, vectorised."""
    n, k = z.shape
    classes = logits.shape[1]
    d, e, reach = np.empty(classes, np.float32), np.empty(classes, np.float32), np.zeros(k)
    for j in range(k):
        for y in range(classes):
            reach[j] = max(reach[j], abs(w[j, y]))
    for i in range(n):
        top, total = logits[i, 0], 0.0
        for y in range(classes):
            top = max(top, logits[i, y])
        for y in range(classes):
            total += np.exp(logits[i, y] - top)
            d[y] = logits[i, y] - top
            e[y] = np.exp(d[y])
        base = np.log(total)
        for j in range(k):
            if closed[i, j]:
                continue
            down, up = low[j] - z[i, j], high[j] - z[i, j]
            if reach[j] * max(abs(down), abs(up)) <= wide:
                a = np.float32(down)
                s0, s1 = np.float32(0), np.float32(0)
                w0, w1, d0, d1 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                for y in range(classes):
                    x = a * v[j, y]
                    whole = np.floor(x * LOG2E + np.float32(0.5))
                    r = x - whole * LN2_HIGH - whole * LN2_LOW
                    q = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
                    q = q * r + np.float32(8.3334519073e-3)
                    q = q * r + np.float32(4.1665795894e-2)
                    q = q * r + np.float32(1.6666665459e-1)
                    q = q * r + np.float32(5.0000001201e-1)
                    q = q * r * r + r + np.float32(1)
                    power = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
                    g = e[y] * q * power
                    h = g * table[j, y]
                    s0 += g
                    s1 += h
                    w0 += g * v[j, y]
                    w1 += h * v[j, y]
                    d0 += g * d[y]
                    d1 += h * d[y]
                if divergence:
                    first, second = down * w0 / s0 - np.log(s0) + base, up * w1 / s1 - np.log(s1) + base
                else:
                    first, second = np.log(s0) - (d0 + down * w0) / s0, np.log(s1) - (d1 + up * w1) / s1
                out[i, j] = (1 - p[i, j]) * first + p[i, j] * second
            else:
                for outcome in range(2):
                    change = up if outcome else down
                    highest = logits[i, 0] + change * w[j, 0]
                    for y in range(classes):
                        highest = max(highest, logits[i, y] + change * w[j, y])
                    mass, pull, height = 0.0, 0.0, 0.0
                    for y in range(classes):
                        at = logits[i, y] + change * w[j, y] - highest
                        share = np.exp(at)
                        mass += share
                        pull += share * w[j, y]
                        height += share * at
                    if divergence:
                        found = change * pull / mass - np.log(mass) - highest + top + base
                    else:
                        found = np.log(mass) - height / mass
                    out[i, j] += (p[i, j] if outcome else 1 - p[i, j]) * found


def _batched(head: Head, logits: Tensor, rows: slice, divergence: bool) -> Tensor:
    """The same without a compiler, for some rows: products of (k, rows, Y) with a few columns do the sums."""
    z, p = head.z[rows].double(), head.p[rows].double()
    down, up = (head.low.double() - z).T, (head.high.double() - z).T  # (k, n)
    reach = head.w.abs().amax(1)[:, None] * torch.maximum(down.abs(), up.abs())
    if head.exact or bool((reach > WIDE).any()):
        first, second = (_direct(logits, change, head.w.double(), divergence) for change in (down, up))
    else:
        first, second = _tabled(head, logits, down, up, divergence)
    return (1 - p) * first.T + p * second.T


def _tabled(head: Head, logits: Tensor, down: Tensor, up: Tensor, divergence: bool) -> tuple[Tensor, Tensor]:
    """One exponential for both outcomes, float32: (k, n) each."""
    w = head.w.float()
    table = ((head.high - head.low)[:, None] * head.w).exp().float()
    d = logits - logits.amax(1, keepdim=True)
    base = d.exp().sum(1).log()
    share = (down.float()[:, :, None] * w[:, None]).exp_().mul_(d.exp().float())
    s0, w0, s1, w1 = (share @ torch.stack([torch.ones_like(w), w, table, table * w], 2)).double().unbind(2)
    if divergence:
        return down * w0 / s0 - s0.log() + base, up * w1 / s1 - s1.log() + base
    d0, d1 = (share.mul_(d.float()) @ torch.stack([torch.ones_like(w), table], 2)).double().unbind(2)
    return s0.log() - (d0 + down * w0) / s0, s1.log() - (d1 + up * w1) / s1


def _direct(logits: Tensor, change: Tensor, w: Tensor, divergence: bool) -> Tensor:
    """Each outcome by itself, float64: (k, n)."""
    at = logits + change[:, :, None] * w[:, None]
    log_q = at.log_softmax(2)
    q = log_q.exp()
    return (q * (log_q - logits.log_softmax(1))).sum(2) if divergence else -(q * log_q).sum(2)
