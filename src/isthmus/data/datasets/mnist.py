"""MNIST digits (22,000 of them), and sums of several digits side by side with every digit as a concept.

LeCun et al. 1998 (digits); Manhaeve et al., NeurIPS 2018 (addition).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from isthmus.data.datasets._files import Array, packed, read_npz
from isthmus.data.datasets._splits import hold_out, official
from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import OptionError
from isthmus.space import Concept, ConceptSpace, Task

CARD = DataCard(
    name="mnist",
    title="MNIST: 15,000 training and 7,000 test digits",
    licence="CC BY-SA 3.0 (from memory); files MIT",
    source="github.com/rasbt/mnist-pngs",
    terms="share alike: keep the attribution and the licence with any copy",
    citation="LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998",
    notes="1,500 training and 700 test digits of each class, from the official parts.",
    share="share-alike",
)
ADDITION = replace(
    CARD,
    name="mnist_addition",
    title="MNIST addition: sums of digits side by side",
    citation=f"{CARD.citation}; Manhaeve et al.: DeepProbLog, NeurIPS 2018",
    notes="Strips made by seed from the digits of data set 'mnist'; no digit serves in two splits.",
)
SIDE = 28


def read(path: str | Path | None = None) -> tuple[Array, Array, Array]:
    """Digits uint8 (22000, 28, 28), their values (22000,), and marks 'train' or 'test' (22000,)."""
    place = packed(path, "mnist", "images/mnist_22k.npz", CARD.source)
    arrays = read_npz(place, "mnist", ("x_train", "y_train", "x_test", "y_test"))
    marks = np.repeat(["train", "test"], [len(arrays["y_train"]), len(arrays["y_test"])])
    x = np.concatenate([arrays["x_train"], arrays["x_test"]])
    return x, np.concatenate([arrays["y_train"], arrays["y_test"]]).astype(np.int64), marks


@dataset("mnist", summary="22,000 hand-written digits, no concepts (CC BY-SA)")
def mnist(*, path: str | Path | None = None, validation: float = 0.15, seed: int = 0) -> Splits:
    """Digits, uint8 (B, 3, 28, 28) of three equal channels, class = the digit; ``validation`` held out by ``seed``."""
    x, y, marks = read(path)
    rows = torch.from_numpy(x)[:, None].repeat(1, 3, 1, 1)
    table = Table(rows, y=torch.from_numpy(y), task=Task.classes(map(str, range(10))))
    return official(table, marks, name="mnist", card=CARD, validation=validation, seed=seed)


class Strips:
    """Lazy rows of digits side by side: ``digits`` (N, 28, 28) uint8 and ``index`` (B, operands) into them."""

    def __init__(self, digits: Tensor, index: Tensor) -> None:
        self.digits, self.index = digits, index

    def __len__(self) -> int:
        return len(self.index)

    def take(self, index: Tensor) -> Strips:
        return Strips(self.digits, self.index[index])

    def read(self) -> Tensor:
        """uint8 (B, 3, 28, 28 * operands)."""
        strips = self.digits[self.index].transpose(1, 2).flatten(2)
        return strips[:, None].repeat(1, 3, 1, 1)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(tuple(self.index.shape)).encode())
        for digit in self.digits[self.index.flatten()].numpy():
            digest.update(digit.tobytes())
        return digest.hexdigest()


@dataset("mnist_addition", summary="MNIST digits side by side, every digit a concept, class = their sum (CC BY-SA)")
def mnist_addition(
    *,
    path: str | Path | None = None,
    operands: int = 2,
    highest: int | Sequence[int] = 9,
    threshold: int | None = None,
    train: int = 8000,
    validation: int = 1500,
    test: int = 3000,
    seed: int = 0,
) -> Splits:
    """Strips of ``operands`` digits, lazy uint8 (B, 3, 28, 28 * operands).

    ``train``, ``validation`` and ``test`` are the rows of each split. Concepts: 'digit 1', 'digit 2', ... categorical
    with states '0' to ``highest`` (one number, or one for each operand); ``where`` holds the box of each digit. Class =
    the sum, or with ``threshold`` whether the sum is at least that. No picture of a digit serves in two splits. CEM's
    task: operands=12, highest=[2]*4+[4]*4+[9]*4, threshold=30.
    """
    tops = [highest] * operands if isinstance(highest, int) else list(highest)
    if operands < 1 or len(tops) != operands or not all(1 <= top <= 9 for top in tops):
        raise OptionError(
            f"highest of data set 'mnist_addition': expected a number from 1 to 9, or {operands} of them, got {highest}"
        )
    if min(train, validation, test) < 1 or (threshold is not None and not 1 <= threshold <= sum(tops)):
        raise OptionError(
            f"data set 'mnist_addition': expected at least 1 row in each split and threshold from 1 to {sum(tops)}, "
            f"got {train}/{validation}/{test} and {threshold}"
        )
    x, values, marks = read(path)
    marks = hold_out(marks, torch.from_numpy(values), share=0.15, seed=seed)
    generator = np.random.default_rng(seed)
    index = np.concatenate(
        [
            _deal(values, marks == mark, tops, count, generator)
            for mark, count in (("train", train), ("validation", validation), ("test", test))
        ]
    )
    digits = torch.from_numpy(values[index])
    total = digits.sum(1)
    task = Task.classes(map(str, range(sum(tops) + 1)))
    if threshold is not None:
        task, total = Task.classes((f"below {threshold}", f"{threshold} or more")), (total >= threshold).long()
    space = ConceptSpace(
        tuple(Concept(f"digit {i + 1}", "categorical", tuple(map(str, range(top + 1)))) for i, top in enumerate(tops))
    )
    c = space.encode(digits.float())
    table = Table(
        Strips(torch.from_numpy(x), torch.from_numpy(index)),
        c=c,
        y=total,
        space=space,
        task=task,
        where=_boxes(c, space),
    )
    parts = np.repeat(["train", "validation", "test"], [train, validation, test])
    return official(table, parts, name="mnist_addition", card=ADDITION)


def _deal(values: Array, usable: Array, tops: Sequence[int], count: int, generator: np.random.Generator) -> Array:
    """(count, operands) rows of digits, each operand's value drawn evenly from 0 to its top."""
    pools = [np.flatnonzero(usable & (values == digit)) for digit in range(10)]
    wanted = np.stack([generator.integers(0, top + 1, size=count) for top in tops], axis=1)
    index = np.empty_like(wanted)
    for digit, pool in enumerate(pools):
        at = wanted == digit
        index[at] = generator.choice(pool, size=int(at.sum()))
    return index


def _boxes(c: Tensor, space: ConceptSpace) -> Tensor:
    """(B, K, 4) the box of each digit on the column of its state, NaN on the others."""
    left = space.owner_of.float() * SIDE
    box = torch.stack([left, torch.zeros_like(left), left + SIDE, torch.full_like(left, SIDE)], 1)
    return torch.where((c > 0)[..., None], box, torch.nan)
