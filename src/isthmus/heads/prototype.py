"""A head of class means: the nearest one, among vectors made from the concepts', is the answer.

Kim et al. 2023, Probabilistic Concept Bottleneck Models, ICML, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isthmus.model import Concepts, Head
from isthmus.space import ConceptSpace, Task

EPS = 1e-10  # inside the root of a distance


class PrototypeHead(Head):
    """vectors (..., M, E) -> one vector of ``hidden`` numbers -> logits (..., Y) = -scale * distance to each class mean.

    A distance is the root of the mean square. Each of several labels has two means, absent and present, and the logit
    between them. Any axes before the concepts', such as draws, are kept.
    """

    def __init__(self, space: ConceptSpace, task: Task, width: int = 16, hidden: int = 128) -> None:
        super().__init__()
        self.space, self.width, self.both = space, width, task.kind == "labels"
        self.map = nn.Linear(space.count * width, hidden)
        self.means = nn.Parameter(torch.randn(task.width * (2 if self.both else 1), hidden))
        self.scale = nn.Parameter(torch.tensor(5.0))

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        assert concepts.vectors is not None
        u = self.map(concepts.vectors.flatten(-2))
        # never by a matrix product: a row's distance must not depend on how many rows there are
        gap = torch.cdist(u, self.means, compute_mode="donot_use_mm_for_euclid_dist")
        distance = (gap.square() / u.shape[-1] + EPS).sqrt()
        if not self.both:
            return -self.scale * distance
        absent, present = distance.unflatten(-1, (-1, 2)).unbind(-1)
        return self.scale * (absent - present)

    def uncertainty(self, variance: Tensor) -> Tensor:
        """Variances (B, M, E) of the concepts -> (B,) det(W diag(var) W^T)^(1/hidden): the class vector's.

        NaN where fewer than ``hidden`` numbers vary (few concepts, or most of them given): the vector then lies on a plane,
        where the determinant is 0 however far it varies, so the measure says nothing. 0 where nothing varies.
        """
        weight, var = self.map.weight.double(), variance.flatten(-2).double()
        logdet = torch.linalg.slogdet(torch.einsum("hi,bi,gi->bhg", weight, var, weight))[1]
        vary = (var > 0).sum(-1)
        flat = torch.where(vary > 0, torch.nan, 0.0).to(var)
        return torch.where(vary >= len(weight), (logdet / len(weight)).exp(), flat).to(variance)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        concepts = self.space.owner_of[index].unique_consecutive()
        weight = self.map.weight.unflatten(-1, (-1, self.width))[:, concepts].flatten(1)
        self.map.weight, self.map.in_features = nn.Parameter(weight, weight.requires_grad), weight.shape[1]
        self.space = space
