"""What the claims about concepts in words share: photos and white cells with their lists, tied to texts, as features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _fits import right

import isthmus as im
from isthmus import registry
from isthmus.data.table import Splits
from isthmus.encoders import encoded, inside
from isthmus.model import ConceptModel
from isthmus.worded import Worded, worded

PLACE = Path(__file__).parent / "words"
LISTS = {
    ("cifar10_8k", "plain"): "photos.txt",
    ("cifar10_8k", "by class"): "cifar10.json",
    ("wbcatt", "plain"): "white_cells.txt",
    ("wbcatt", "by class"): "white_cells.json",
}


@dataclass(frozen=True, eq=False)
class Told:
    """Splits of features with words as concepts, and what goes with them."""

    splits: Splits
    made: Worded

    def fit(self, name: str, seed: int, data: Splits | None = None, **options: Any) -> ConceptModel:
        """A fitted model of a registered method, on these splits or others of the same space."""
        method, data = registry.get(name), data or self.splits
        own = {k: v for k, v in self.made.options.items() if k in method.options}
        return method.make(inside(self.made.features), data.space, data.task, seed=seed, **own, **options).fit(data, seed)

    def best(self, name: str, seed: int, grid: list[dict[str, Any]], data: Splits | None = None) -> ConceptModel:
        """The model whose setting is most often right on validation rows, of one seed."""
        models = [self.fit(name, seed, data, **options) for options in grid]
        return max(models, key=lambda model: float(right(model, (data or self.splits).validation).mean()))


@lru_cache
def told(name: str, kind: str, seed: int = 0) -> Told:
    """A set by name with the words of a list; features are MobileNetV2's as packed, aligned on training rows alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = worded(im.data.load(name, inputs="mobilenetv2"), PLACE / LISTS[name, kind], seed=seed)
    return Told(encoded(made.splits, made.features), made)


def shots(data: Splits, count: int | None, seed: int) -> Splits:
    """The splits with ``count`` training rows of each class (None: all), drawn by seed; of validation at least 4."""
    if count is None:
        return data
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for table, each in ((data.train, count), (data.validation, max(count, 4))):
        assert table.y is not None
        order = torch.randperm(len(table), generator=generator)
        rows = [order[table.y[order] == label][:each] for label in range(data.task.width)]
        parts.append(table.take(torch.cat(rows)))
    return Splits(*parts, data.test, name=data.name, card=data.card)


def hits(models: list[ConceptModel], data: Splits) -> list[np.ndarray]:
    """(n,) for each model: is the answer right on test rows?"""
    return [right(model, data.test).astype(float) for model in models]
