"""Samples of the concepts, and how they are drawn: what a bottleneck hands to a head that averages over them.

Hard samples with a straight-through gradient: Jang et al. 2017 and Maddison et al. 2017 (Gumbel-softmax, concrete).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.model import Concepts
from isthmus.space import ConceptSpace


@dataclass(slots=True)
class Sampled(Concepts):
    """Concepts with ``samples`` (S, B, K) in concept units, given ones held; ``share`` (S, B) sums to 1 over S.

    ``share`` None: all samples count the same.
    """

    samples: Tensor | None = None
    share: Tensor | None = None


def sample(logits: Tensor, u: Tensor, space: ConceptSpace, temperature: float | None = None) -> Tensor:
    """Hard concepts from logits (..., K) and uniform numbers u (..., K) in (0, 1), broadcast together, in concept units.

    Binary: 1 with probability sigmoid(logit); a block: one state with its softmax probability; a number: its logit in its
    unit. With ``temperature`` the gradient is that of the relaxed sample (straight through), else there is none.
    """
    u = u.clamp(1e-7, 1 - 1e-7)
    pushed = logits + u.logit()
    hard = (pushed > 0).to(logits)
    soft = None if temperature is None else (pushed / temperature).sigmoid()
    for index in (each.to(logits.device) for each in space.blocks):
        raced = logits[..., index] - (-u[..., index].log()).log()  # Gumbel's maximum, (..., blocks, states)
        hot = F.one_hot(raced.argmax(-1), index.shape[-1]).to(logits)
        hard = hard.index_copy(-1, index.flatten(), hot.flatten(-2))
        if soft is not None and temperature is not None:
            soft = soft.index_copy(-1, index.flatten(), (raced / temperature).softmax(-1).flatten(-2))
    if soft is not None:
        hard = hard + (soft - soft.detach())
    if "continuous" in space.kinds:
        number = logits * space.scales.to(logits) + space.centers.to(logits)
        hard = torch.where(space.continuous.to(logits.device), number, hard)
    return hard
