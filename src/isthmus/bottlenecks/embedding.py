"""Two vectors for each concept, mixed by its probability: more room, still one number to read and correct.

Espinosa Zarlenga et al. 2022, Concept Embedding Models, section 3 (equations 1 and 2).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import OptionError
from isthmus.given import Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.space import ConceptSpace


class EmbeddingBottleneck(Bottleneck):
    """z (B, D) -> vectors (B, K, E) = p e+ + (1 - p) e-, with p read from both by one shared scorer.

    All K pairs come from one linear map (the authors loop over K of them); the first half is the positive one.
    """

    def __init__(self, dim: int, space: ConceptSpace, width: int = 16) -> None:
        super().__init__(space)
        if "continuous" in space.kinds:
            raise OptionError("embedding bottleneck: a mixture needs probabilities; continuous concepts do not fit")
        self.pair = nn.Linear(dim, len(space) * 2 * width)
        self.score = nn.Linear(2 * width, 1)
        self.width = width

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        pair = F.leaky_relu(self.pair(z).unflatten(-1, (len(self.space), 2 * self.width)))  # (B, K, 2E)
        logits = self.score(pair).squeeze(-1)
        p = hold(self.space.activate(logits), given, self.space)
        on, off = pair.split(self.width, -1)
        return Concepts(p, logits, off + p[..., None] * (on - off))

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        shape = (len(self.space), 2 * self.width)
        learns = self.pair.weight.requires_grad
        self.pair.weight = nn.Parameter(self.pair.weight.unflatten(0, shape)[index].flatten(0, 1), learns)
        self.pair.bias = nn.Parameter(self.pair.bias.unflatten(0, shape)[index].flatten(), learns)
        self.pair.out_features, self.space = len(self.pair.bias), space
