"""Scores without bounds, read off training rows: what a correction of 0 or 1 writes (percentiles), mean and deviation.

Koh et al. 2020, Concept Bottleneck Models, section 5 (their code reads the percentiles off test rows; here training rows).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isthmus.space import ConceptSpace


class Percentiles(nn.Module):
    """The 5th and 95th percentile of each column, and the score ``middle`` that parts absent from present.

    Absent (0) is written as ``low``, present (1) as ``high``, .5 as ``middle``, what lies between in straight lines; ``read``
    is the inverse, from 0 to 1. Continuous columns pass as they are.
    """

    low: Tensor
    middle: Tensor
    high: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        for name, value in {"low": -1.0, "middle": 0.0, "high": 1.0}.items():
            self.register_buffer(name, torch.full((columns,), value))

    def take(self, shown: Tensor, middle: Tensor | float | None = None) -> None:
        """Read them off training scores (B, K); ``middle`` (K,) or a number (default: halfway), kept between the two."""
        low, high = (torch.stack([column.quantile(q) for column in shown.T]) for q in (0.05, 0.95))
        high = torch.maximum(high, low + 1e-6 * (1 + low.abs()))
        gap = 0.01 * (high - low)
        half = (low + high) / 2 if middle is None else torch.zeros_like(low) + middle
        for name, value in {"low": low, "middle": half.clamp(low + gap, high - gap), "high": high}.items():
            getattr(self, name).copy_(value)

    def written(self, values: Tensor, space: ConceptSpace) -> Tensor:
        """Corrections in concept units (B, K) as scores."""
        value = values.to(self.low)
        above = torch.lerp(self.middle, self.high, 2 * value - 1)
        made = torch.where(value <= 0.5, torch.lerp(self.low, self.middle, 2 * value), above)
        return torch.where(space.continuous.to(value.device), value, made) if "continuous" in space.kinds else made

    def read(self, values: Tensor, space: ConceptSpace) -> Tensor:
        """Scores (..., K) in concept units."""
        below = 0.5 * (values - self.low) / (self.middle - self.low)
        above = 0.5 + 0.5 * (values - self.middle) / (self.high - self.middle)
        made = torch.where(values <= self.middle, below, above).clamp(0, 1)
        return torch.where(space.continuous.to(values.device), values, made) if "continuous" in space.kinds else made

    def retake(self, columns: Tensor, shown: Tensor) -> None:
        """Read those of some columns anew off scores (B, len(columns)) of other rows; the rest stay."""
        fresh = Percentiles(len(columns)).to(self.low.device)
        fresh.take(shown)
        for name in ("low", "middle", "high"):
            getattr(self, name)[columns] = getattr(fresh, name)

    def keep(self, index: Tensor) -> None:
        """Keep the columns at ``index``, in that order."""
        self.low, self.middle, self.high = self.low[index], self.middle[index], self.high[index]


def moments(values: Tensor, correction: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and deviation (K,) of the columns of training values (B, K); of a column that does not vary, rounding aside, 1."""
    std = values.std(0, correction=correction) if len(values) > 1 else torch.zeros_like(values[0])
    varies = std > 16 * torch.finfo(values.dtype).eps * values.abs().amax(0)
    return values.mean(0), torch.where(varies, std, 1.0)
