"""One score for each concept, linear or through layers of its own width, shown in training deviations: VLG-CBM's concept layer.

Srivastava, Yan, Weng 2024, VLG-CBM: Training Concept Bottleneck Models with Vision-Language Guidance, NeurIPS, section 3.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from isthmus.given import Batch, Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.percentiles import Percentiles, moments
from isthmus.space import ConceptSpace


class Layered(Bottleneck):
    """z (B, D) -> logits (B, K), after ``hidden`` further layers (ReLU, K to K) -> values (logit - mean) / deviation.

    Probabilities are the logits' sigmoid. A correction of 0 or 1 writes the training 5th or 95th percentile.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, space: ConceptSpace, *, hidden: int = 0) -> None:
        super().__init__(space)
        more = [layer for _ in range(hidden) for layer in (nn.ReLU(), nn.Linear(len(space), len(space)))]
        self.layers = nn.Sequential(nn.Linear(dim, len(space)), *more)
        self.register_buffer("mean", torch.zeros(len(space)))
        self.register_buffer("std", torch.ones(len(space)))
        self.percentiles = Percentiles(len(space))

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        logits = self.layers(z)
        shown = (logits - self.mean) / self.std
        return Concepts(hold(shown, given, self.space, None if given is None else self.value_of(given)), logits)

    def fit(self, z: Tensor, batch: Batch) -> None:
        """Training mean and deviation of each logit, then percentiles; a logit of 0 parts absent from present."""
        logits = self.layers(z.to(self.mean.device))
        self.mean, self.std = moments(logits)
        self.percentiles.take((logits - self.mean) / self.std, -self.mean / self.std)

    def value_of(self, given: Given) -> Tensor:
        return self.percentiles.written(given.values, self.space)

    def read(self, values: Tensor) -> Tensor:
        return self.percentiles.read(values, self.space)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **more: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take layers of the width they were saved with: concepts that were dropped still stand inside."""
        linear = {name: layer for name, layer in self.layers.named_children() if isinstance(layer, nn.Linear)}
        for name, layer in linear.items():
            saved = state_dict.get(f"{prefix}layers.{name}.weight")
            if saved is not None and saved.shape != layer.weight.shape:
                layer.weight, layer.bias = nn.Parameter(torch.empty_like(saved)), nn.Parameter(saved.new_empty(len(saved)))
                layer.out_features, layer.in_features = saved.shape
        super()._load_from_state_dict(state_dict, prefix, *args, **more)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        last = cast("nn.Linear", self.layers[-1])
        last.weight = nn.Parameter(last.weight[index], last.weight.requires_grad)
        last.bias = nn.Parameter(last.bias[index], last.bias.requires_grad)
        last.out_features = len(index)
        self.mean, self.std = self.mean[index], self.std[index]
        self.percentiles.keep(index)
        self.space = space
