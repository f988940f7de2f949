"""Corrections one after another under a linear head: each adds (new - old value) W_j to the logits, without a product."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.numerics._jit import jitted

Floats = NDArray[Any]


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
    """For the compiler: a row's logits stay in the cache, and rivals are counted, for a maximum would not be vectorised."""
    classes = logits.shape[1]
    at = np.empty_like(logits[0])
    for i in range(len(logits)):
        at[:] = logits[i]
        own = label[i]
        for t in range(right.shape[1]):
            if t > 0:
                group = order[i, t - 1]
                for m in range(members.shape[1]):
                    j = members[group, m]
                    if j >= 0:
                        step, row = change[i, j], w[j]
                        for y in range(classes):
                            at[y] += step * row[y]
            mine, above, level = at[own], np.float32(0), np.float32(0)
            for y in range(classes):
                above += np.float32(1) if at[y] > mine else np.float32(0)
                level += np.float32(1) if at[y] == mine else np.float32(0)
            first = True
            if level > 1:
                for y in range(own):
                    first = first and at[y] != mine
            right[i, t] = above == 0 and first


def _batched(logits: Tensor, change: Tensor, order: Tensor, label: Tensor, w: Tensor, members: Tensor) -> Tensor:
    """The same for some rows without a compiler: the label's own logit apart, the index of the maximum only for ties."""
    own = label[:, None]
    at, mine = logits.scatter(1, own, -torch.inf), logits.gather(1, own)
    right = [_wins(at, mine, label)]
    for t in range(order.shape[1]):
        for j in members[order[:, t]].T:
            step, row = change.gather(1, j[:, None] % change.shape[1]), w.index_select(0, j % len(w))
            mine = mine + step * row.gather(1, own)
            at.addcmul_(step, row)
        right.append(_wins(at, mine, label))
    return torch.stack(right, 1)


def _wins(others: Tensor, mine: Tensor, label: Tensor) -> Tensor:
    """(n,) whether the label's logit (n, 1) is above all others, or ties with later ones only."""
    top = others.amax(1, keepdim=True)
    wins = (mine > top)[:, 0]
    tied = (mine == top)[:, 0]
    return wins | (tied & (label < others.argmax(1))) if bool(tied.any()) else wins
