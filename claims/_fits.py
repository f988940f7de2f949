"""What the claims share: data, fits whose settings validation chose, and differences paired by test row."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import isthmus as im
from isthmus import registry
from isthmus.data.table import Splits, Table
from isthmus.encoders import encoded as read_by
from isthmus.encoders import resolve, train_encoder
from isthmus.errors import IsthmusError
from isthmus.features import Features
from isthmus.given import reveal
from isthmus.metrics.core import interval, resamples
from isthmus.model import ConceptModel
from isthmus.space import ConceptSpace
from isthmus.trace import run

FEATURES = {"wbcatt": "mobilenetv2", "cub100": "mobilenetv2"}  # packed with the images; they are frozen
PLAIN = ("correlated", "causal_graph", "poker", "cebab")  # features as they are; of the last two those of an encoder
SEEDS = (0, 1, 2)


def rows(name: str, *, train: int | None = None, test: int | None = None, **options: Any) -> Splits:
    """A set by name, with at most so many training and test rows, drawn by a fixed seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a concept that never varies in few rows
        if name in FEATURES:
            options = {"inputs": FEATURES[name], **options}
        data = im.data.load(name, **options)
        if train is None and test is None:
            return data
        return Splits(some(data.train, train), data.validation, some(data.test, test), name=name, card=data.card)


def some(table: Table, most: int | None) -> Table:
    """At most ``most`` rows."""
    if most is None or most >= len(table):
        return table
    return table.take(torch.randperm(len(table), generator=torch.Generator().manual_seed(0))[:most].sort().values)


def pictured(data: Splits, **training: Any) -> tuple[Splits, Features]:
    """Pictures as features of an encoder that learns on their concepts and is then frozen, and the encoder."""
    encoder = train_encoder(resolve(None, data), data, "concepts", **training)
    return read_by(data, encoder), encoder


def kept(data: Splits, index: Sequence[int]) -> Splits:
    """The splits with only the concepts at ``index``."""
    space, columns = data.space.keep(index), data.space.columns_of(index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = [
            part.replace(c=part.c[:, columns], space=space, where=None, askable=None)  # type: ignore[index]
            for part in (data.train, data.validation, data.test)
        ]
        return Splits(*parts, name=data.name, card=data.card)


def fit(name: str, data: Splits, seed: int, **options: Any) -> ConceptModel:
    """A fitted model of a registered method: an MLP learnt with it, or frozen features as they are."""
    features = resolve("identity" if data.name in (*FEATURES, *PLAIN) else None, data, seed=seed)
    return registry.get(name).make(features, data.space, data.task, seed=seed, **options).fit(data, seed)


@torch.no_grad()
def accuracy(model: ConceptModel, data: Splits) -> float:
    """Of the task, on validation."""
    return float(right(model, data.validation).mean())


@torch.no_grad()
def concepts(model: ConceptModel, data: Splits) -> float:
    """Minus the cross-entropy of the concepts, on validation."""
    part = data.validation
    assert part.c is not None
    out = run(model, encoded(model, part))
    return -float(torch.nn.functional.binary_cross_entropy(out.concepts.values.clamp(1e-4, 1 - 1e-4), part.c))


@torch.no_grad()
def together(model: ConceptModel, data: Splits) -> float:
    """The joint log-likelihood of the concepts for each of them, on validation."""
    part = data.validation
    assert part.c is not None
    return -float(run(model, encoded(model, part)).concepts.nll(part.c, data.space))


@torch.no_grad()
def right(model: ConceptModel, part: Table, given: Any = None) -> np.ndarray:
    """(n,) is the answer right?"""
    assert part.y is not None
    return (model.task.predict(run(model, encoded(model, part), given).logits) == part.y).numpy()


@torch.no_grad()
def encoded(model: ConceptModel, part: Table) -> torch.Tensor:
    """(n, D) the model's features of the rows."""
    model.features.eval()
    return model.features(part.x)


def decided(values: torch.Tensor, space: ConceptSpace) -> torch.Tensor:
    """(B, M) the state of each binary or categorical concept."""
    parts = [values[:, part] for part in space.slices]
    return torch.stack([(p[:, 0] > 0.5).long() if p.shape[1] == 1 else p.argmax(1) for p in parts], 1)


@torch.no_grad()
def moved(model: ConceptModel, part: Table, count: int, orders: int) -> tuple[float, np.ndarray]:
    """``count`` concepts told, in random order: accuracy before on the others, and (n,) the change of each row's."""
    space, c, z = model.space, part.c, encoded(model, part)
    assert c is not None
    truth, plain = decided(c, space), decided(run(model, z).concepts.values, space)
    before, change = 0.0, torch.zeros(len(c))
    for order in range(orders):
        draw = torch.rand(len(c), space.count, generator=torch.Generator().manual_seed(order))
        told = draw.argsort(1) < count
        after = decided(run(model, z, reveal(c, told, space)).concepts.values, space)
        rest, was, now = (~told).float(), (plain == truth).float(), (after == truth).float()
        before += float((was * rest).sum() / rest.sum()) / orders
        change += ((now - was) * rest).sum(1) / rest.sum(1) / orders
    return before, change.numpy()


def fits(
    name: str,
    data: Splits | Sequence[Splits],
    grid: dict[str, tuple[Any, ...]],
    by: Callable[[ConceptModel, Splits], float] = accuracy,
    seeds: Sequence[int] = SEEDS,
    **options: Any,
) -> list[ConceptModel]:
    """A model for each seed, at the setting of ``grid`` that is best on validation with the first seed.

    ``data``: one for all seeds, or one for each.
    """
    each = [data] * len(seeds) if isinstance(data, Splits) else list(data)
    tries = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    first: dict[int, ConceptModel] = {}
    for at, tried in enumerate(tries):
        try:
            first[at] = fit(name, each[0], seeds[0], **options, **tried)
        except IsthmusError as error:  # it diverged: not to be chosen
            print(f"{name} {tried}: {error}", flush=True)
    best = max(first, key=lambda at: by(first[at], each[0]))
    rest = [fit(name, part, seed, **options, **tries[best]) for part, seed in zip(each[1:], seeds[1:], strict=True)]
    return [first[best], *rest]


@dataclass(frozen=True)
class Difference:
    """A mean over test rows of the mean over seeds, in points, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def above(self) -> bool:
        return self.low > 0

    @property
    def below(self) -> bool:
        return self.high < 0

    def __str__(self) -> str:
        return f"{self.value:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def difference(by_seed: Sequence[np.ndarray], group: np.ndarray | None = None) -> Difference:
    """Of (n,) differences for each seed, on the same rows; rows of one ``group`` (n,) are drawn together."""
    each = np.mean(np.stack(by_seed).astype(float), 0)
    weights = resamples(len(each), groups=None if group is None else [str(g) for g in group])
    low, high = interval(weights @ each / weights.sum(1))
    return Difference(100 * float(each.mean()), 100 * low, 100 * high)
