"""A small world in which concepts are phrases: rows are sums of the vectors of the phrases that are true of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from isthmus import registry
from isthmus.data.table import Splits, Table
from isthmus.features import Features, build
from isthmus.features.aligned import Affine
from isthmus.model import ConceptModel
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.train import Plan

ALL = {
    "pcbm": {}, "pcbm_h": {"epochs": 3}, "labelfree": {"similarity_cutoff": -1.0, "lr": 0.01, "steps": 100},
    "vlgcbm": {"epochs": 5, "lr": 0.01}, "labo": {"each": 2, "epochs": 5}, "v2c": {"near": 2, "each": 3, "epochs": 5},
    "sparsecbm": {"epochs": 5}, "cms": {"class_vectors": torch.ones(3, 12)}, "text2concept": {"epochs": 5}, "describe": {},
    "zeroshot": {"class_vectors": torch.ones(3, 12)}, "medical": {"epochs": 5}, "knobo": {"epochs": 5},
    "peeb": {"epochs": 2, "contrastive_epochs": 2},
}  # fmt: skip
"""Every language-born method, with options that make it quick."""


def scene(
    rows: int = 240, classes: int = 3, each: int = 3, dim: int = 12, seed: int = 0, text: int | None = None, noise: float = 0.3
) -> Splits:
    """``each`` phrases for every class, one for each of as many parts; c, y and z = c V + noise; half, a quarter, a quarter.

    ``text``: the width of the phrases' vectors, where they live in another space than z.
    """
    g = torch.Generator().manual_seed(seed)
    names = [chr(ord("a") + y) for y in range(classes)]
    concepts = tuple(
        Concept(f"{owner} {part}", owner=owner, text=f"{owner} {part}", part=f"part {part}")
        for owner in names
        for part in range(each)
    )
    own = torch.nn.functional.normalize(torch.randn(len(concepts), dim, generator=g), dim=-1)
    vectors = own if text is None else torch.randn(len(concepts), text, generator=g)
    y = torch.arange(rows) % classes
    chance = torch.full((classes, classes), 0.2).fill_diagonal_(0.8).repeat_interleave(each, 1)
    c = (torch.rand(rows, len(concepts), generator=g) < chance[y]).float()
    z = c @ own + noise * torch.randn(rows, dim, generator=g)
    space, task = ConceptSpace(concepts, vectors), Task.classes(names)
    cut = [Table(z[part], c=c[part], y=y[part], space=space, task=task) for part in torch.arange(rows).split(rows // 4)]
    joined = Table(*(torch.cat([getattr(cut[0], n), getattr(cut[1], n)]) for n in ("x", "c", "y")), space=space, task=task)
    return Splits(joined, cut[2], cut[3])


def unlabelled(data: Splits) -> Splits:
    """The rows without concept labels."""
    return Splits(*(getattr(data, name).replace(c=None) for name in ("train", "validation", "test")))


def textless(data: Splits) -> Splits:
    """The rows with concepts that have no vectors."""
    space = replace(data.space, vectors=None)
    return Splits(*(getattr(data, name).replace(space=space) for name in ("train", "validation", "test")))


def identity(data: Splits, text: int | None = None, seed: int = 0) -> Features:
    """The columns as features, with a random map into a text space of ``text`` columns, where asked."""
    x = data.validation.x
    dim = (x.x if isinstance(x, Shut) else x).shape[1]
    made = build("identity", dim=dim)
    if text is not None:
        made.shared = shared(dim, text, seed)
    return made


def shared(dim: int, text: int, seed: int = 0) -> nn.Module:
    """A random affine map z (B, dim) -> (B, text), and the center that texts are measured from."""
    made, g = Affine(dim, text), torch.Generator().manual_seed(seed)
    made.weight.copy_(torch.randn(text, dim, generator=g) / dim**0.5)
    made.bias.copy_(torch.randn(text, generator=g))
    made.center.copy_(0.5 * torch.randn(text, generator=g))
    return made


def texts(data: Splits, features: Features | None = None) -> Tensor:
    """(K, d) the phrases' vectors as an image is compared with them: from the text space's center."""
    assert data.space.vectors is not None
    shared = getattr(features, "shared", None)
    return data.space.vectors if shared is None else data.space.vectors - shared.center


def plan(name: str, data: Splits, *, features: Features | None = None, seed: int = 0, **options: Any) -> Plan:
    return registry.get(name).make(features or identity(data), data.space, data.task, seed=seed, **options)


def fit(name: str, data: Splits, *, features: Features | None = None, seed: int = 0, **options: Any) -> ConceptModel:
    return plan(name, data, features=features, seed=seed, **options).fit(data, seed=seed)


@dataclass(frozen=True)
class Shut:
    """Lazy rows that raise when a row is looked at, unless they are ``open``."""

    x: Tensor
    open: bool = False

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor) -> Shut:
        return Shut(self.x[index], self.open)

    def read(self) -> Tensor:
        assert self.open, "rows were read that must not be"
        return self.x

    def fingerprint(self) -> str:
        self.read()
        return str(float(self.x.sum()))


def sealed(data: Splits) -> Splits:
    """The same rows; looking at a test row raises."""
    parts = [getattr(data, n).replace(x=Shut(getattr(data, n).x, n != "test")) for n in ("train", "validation", "test")]
    return Splits(*parts)
