"""Corrections one after another under a linear head: each adds (new - old value) W_j to the logits, and no product is done anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.numerics._jit import jitted

Floats = NDArray[Any]
LOWEST = np.float32(-3e38)


def walk(logits: Tensor, change: Tensor, w: Tensor, order: Tensor, members: Tensor, label: Tensor, memory: int) -> Tensor:
    """(n, S + 1) bool: whether the first largest logit is the label after 0, 1, ..., S steps.

    logits (n, Y); change (n, k), 0 where there is nothing to correct; w (k, Y); order (n, S), which group is corrected in
    each step; members (G, m), the concepts of each group, filled up with -1.
    """
    compiled = jitted(_compiled, loose=True) if logits.device.type == "cpu" else None
    if compiled is not None:
        right = torch.zeros(len(logits), order.shape[1] + 1, dtype=torch.bool)
        arrays = [part.contiguous().numpy() for part in (logits, change, w, order, members, label)]
        compiled(*arrays, right.numpy())
        return right
    size = max(1, memory // (4 * logits.element_size() * logits.shape[1]))
    w = torch.cat([w, torch.zeros_like(w[:1])])  # a row for "no member"
    change = torch.cat([change, torch.zeros_like(change[:, :1])], 1)
    every = zip(logits.split(size), change.split(size), order.split(size), label.split(size), strict=True)
    return torch.cat([_batched(*part, w, members) for part in every])


def _compiled(
    logits: Floats, change: Floats, w: Floats, order: Floats, members: Floats, label: Floats, right: NDArray[np.bool_]
) -> None:
    """For the compiler: a row's logits stay in the cache, the label's own apart, so that the rest has a plain maximum."""
    classes = logits.shape[1]
    at = np.empty_like(logits[0])
    for i in range(len(logits)):
        at[:] = logits[i]
        own = label[i]
        mine = at[own]
        for t in range(right.shape[1]):
            if t > 0:
                group = order[i, t - 1]
                for m in range(members.shape[1]):
                    j = members[group, m]
                    if j >= 0:
                        step = change[i, j]
                        mine += step * w[j, own]
                        for y in range(classes):
                            at[y] += step * w[j, y]
            at[own] = LOWEST
            top = at[own]
            for y in range(classes):
                top = at[y] if at[y] > top else top
            wins = mine > top
            if mine == top:
                wins = True
                for y in range(own):
                    wins = wins and at[y] != top
            right[i, t] = wins


def _batched(logits: Tensor, change: Tensor, order: Tensor, label: Tensor, w: Tensor, members: Tensor) -> Tensor:
    """The same for some rows without a compiler."""
    at, right = logits.clone(), [logits.argmax(1) == label]
    for t in range(order.shape[1]):
        for j in members[order[:, t]].T:
            at.addcmul_(change.gather(1, j[:, None] % change.shape[1]), w[j])
        right.append(at.argmax(1) == label)
    return torch.stack(right, 1)
