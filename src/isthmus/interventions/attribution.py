"""Integrated gradients on the bottleneck: what each concept adds to the logit of a class, and which concepts are a class's own.

Sundararajan et al. 2017, Axiomatic Attribution for Deep Networks, equation 1 (here along the concepts, not the pixels). For a
linear head it is W[t, k] (c_k - c0_k), in closed form.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import OptionError
from isthmus.interventions.handles import shown, weights_of
from isthmus.model import ConceptModel, Concepts, feedforward
from isthmus.train import CHUNK

NODES = 32  # of the Gauss-Legendre rule, where the head is not linear


def attributed(model: ConceptModel, z: Tensor, label: int, *, base: Tensor | None = None, nodes: int = NODES) -> Tensor:
    """(n, K) integrated gradients of the logit of class ``label`` along the concepts, for features z (n, D).

    ``base`` (K,) is where the path begins, in the values that the head reads; default: their mean over these rows. The
    sum over concepts is the logit less that at the base (exact for linear heads, by ``nodes`` points otherwise). What passes
    beside the concepts stays at the row's. ``OptionError`` for models that answer by more than one pass over values
    or mixed vectors.
    """
    return torch.cat([part[:, label] for part in _each(model, z, base, nodes, [label])])


def attributed_all(model: ConceptModel, z: Tensor, *, base: Tensor | None = None, nodes: int = NODES) -> Tensor:
    """(n, Y, K): the same for every class."""
    return torch.cat(_each(model, z, base, nodes, list(range(model.task.width))))


def own(model: ConceptModel, z: Tensor, y: Tensor, label: int, count: int) -> list[int]:
    """Up to ``count`` columns that are class ``label``'s own, the most own first, by features z (n, D) and classes y (n,).

    A concept's share in a class is its mean size of attribution to that class's logit over that class's rows, divided by the
    sum over concepts. Own are those whose share in the class lies above their mean share in the other classes that
    have rows, by the difference.
    """
    each = attributed_all(model, z).abs()
    shares: dict[int, Tensor] = {}
    for t in y.unique().tolist():
        size = each[y == t, t].mean(0)
        shares[t] = size / size.sum().clamp(min=1e-12)
    rest = [share for t, share in shares.items() if t != label]
    lead = shares[label] - (torch.stack(rest).mean(0) if rest else 0.0)
    order = lead.argsort(dim=0, descending=True, stable=True)[:count]
    return [int(k) for k in order if float(lead[k]) > 0]


def _each(model: ConceptModel, z: Tensor, base: Tensor | None, nodes: int, labels: list[int]) -> list[Tensor]:
    """Chunks of (b, Y, K): filled for ``labels``, 0 for other classes."""
    if model.solver is not feedforward:
        raise OptionError("attribution: this model answers by a solver, so its logits are no function of one set of values")
    with torch.no_grad():
        whole = [model.bottleneck(part.to(model.device)) for part in z.split(CHUNK)]
        start = torch.cat([part.values for part in whole]).mean(0) if base is None else base.to(whole[0].values)
    try:
        weights = weights_of(model, "attribution").detach()
    except OptionError:
        parts = zip(z.split(CHUNK), whole, strict=True)
        return [_numeric(model, part.to(model.device), concepts, start, nodes, labels).cpu() for part, concepts in parts]
    at = shown(model, Concepts(start[None]), "attribution")
    return [((shown(model, part, "attribution") - at)[:, None] * weights).cpu() for part in whole]


def _numeric(model: ConceptModel, z: Tensor, concepts: Concepts, start: Tensor, nodes: int, labels: list[int]) -> Tensor:
    """(b, Y, K) by the Gauss-Legendre rule on [0, 1]."""
    points, widths = np.polynomial.legendre.leggauss(nodes)
    step = concepts.values - start
    found = step.new_zeros(len(step), model.task.width, step.shape[1])
    for point, width in zip((points + 1) / 2, widths / 2, strict=True):
        values = (start + float(point) * step).requires_grad_(True)
        with torch.enable_grad():
            logits = model.head(_at(concepts, values), z)
            for label in labels:
                found[:, label] += float(width) * torch.autograd.grad(logits[:, label].sum(), values, retain_graph=True)[0]
    return found * step[:, None]


def _at(concepts: Concepts, values: Tensor) -> Concepts:
    """The concepts with other values, and vectors that follow them."""
    on, off = (getattr(concepts, name, None) for name in ("on", "off"))
    if concepts.draws is not None or (concepts.vectors is not None and (on is None or off is None)):
        raise OptionError("attribution: this bottleneck hands its head more than values; attribution needs one that does not")
    changes: dict[str, Any] = {"values": values}
    if on is not None:
        changes["vectors"] = off + values[..., None] * (on - off)
    return replace(concepts, **changes)
