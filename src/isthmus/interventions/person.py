"""People who err: what is told when the answers of a person are right only so often."""

from __future__ import annotations

import torch
from torch import Tensor

from isthmus.interventions.checks import share_of
from isthmus.interventions.policies import uniform
from isthmus.space import ConceptSpace

ERRORS = 1  # the stream of a person's errors, which must not be that of a random order


def answers(c: Tensor, space: ConceptSpace, competence: float, seed: int = 0, first: int = 0) -> Tensor:
    """Labels c (B, K) as a person tells them who is right with chance ``competence``, concept by concept.

    A wrong binary answer is the other one, a wrong state any other, evenly; numbers are told as they are. Unknown stays NaN.
    Row i depends on ``seed`` and ``first + i`` alone (Espinosa Zarlenga et al. 2022, section 5.3).
    """
    if share_of(competence, "competence") == 1:
        return c
    draws = uniform(seed, first, len(c), 2 * space.count, stream=ERRORS).to(c.device)
    wrong, which = draws[:, : space.count] >= competence, draws[:, space.count :]
    found = c.clone()
    for m, (concept, part) in enumerate(zip(space.concepts, space.slices, strict=True)):
        if concept.kind == "binary":
            found[:, part] = torch.where(wrong[:, m : m + 1], 1 - c[:, part], c[:, part])
        elif concept.kind == "categorical":
            by = 1 + (which[:, m] * (concept.width - 1)).long().clamp(max=concept.width - 2)
            state = (c[:, part].nan_to_num().argmax(1) + by) % concept.width
            other = torch.nn.functional.one_hot(state, concept.width).to(c)
            turned = torch.where(wrong[:, m : m + 1], other, c[:, part])
            found[:, part] = turned.masked_fill(c[:, part].isnan(), torch.nan)
    return found
