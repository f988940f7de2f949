"""MNIST and MNIST addition on forty tiny digits of each kind, whose shade is ten times their value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import isthmus.data as data
from isthmus.data.datasets.mnist import Strips
from isthmus.errors import OptionError


def _mnist(root: Path) -> None:
    x = np.tile(np.arange(10, dtype=np.uint8)[:, None, None], (40, 28, 28)) * 10
    y = np.tile(np.arange(10, dtype=np.int8), 40)
    (root / "images").mkdir()
    np.savez(root / "images" / "mnist_22k.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:] + 1, y_test=y[300:])


def test_mnist(tmp_path: Path) -> None:
    _mnist(tmp_path)
    splits = data.load("mnist", path=tmp_path, validation=0.2)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (240, 60, 100)
    assert splits.train.x.shape == (240, 3, 28, 28)
    assert splits.train.x.dtype == torch.uint8
    assert splits.train.y is not None
    assert torch.equal(splits.train.x[:, 1, 0, 0].long(), 10 * splits.train.y)


def test_mnist_addition(tmp_path: Path) -> None:
    _mnist(tmp_path)
    splits = data.load("mnist_addition", path=tmp_path, operands=3, highest=[2, 9, 4], train=60, validation=20, test=30)
    assert (splits.space.count, len(splits.space), splits.task.width) == (3, 3 + 10 + 5, 16)
    for part, size in ((splits.train, 60), (splits.validation, 20), (splits.test, 30)):
        pixels = part.read()
        assert pixels.shape == (size, 3, 28, 84)
        assert part.c is not None
        assert part.where is not None
        assert part.y is not None
        # the shade of a digit is ten times its value (one more in test): concepts, sum and boxes agree with the pixels
        digits = pixels[:, 0, 5, [3, 31, 59]].long() // 10
        states = torch.stack([part.c[:, block].argmax(1) for block in splits.space.slices], 1)
        assert torch.equal(digits, states)
        assert torch.equal(part.y, digits.sum(1))
        assert bool((digits <= torch.tensor([2, 9, 4])).all())
        assert bool((digits.amax(0) == torch.tensor([2, 9, 4])).all())
        placed = ~part.where.isnan().any(2)
        assert torch.equal(placed, part.c > 0)
        boxes = part.where[placed].view(size, 3, 4)
        assert boxes[0].tolist() == [[0, 0, 28, 28], [28, 0, 56, 28], [56, 0, 84, 28]]
        assert bool((boxes == boxes[0]).all())
    used = [set(part.x.index.flatten().tolist()) for part in (splits.train, splits.validation, splits.test)]
    assert not (used[0] & used[1])
    assert not (used[0] & used[2])
    assert not (used[1] & used[2])
    assert min(used[2]) >= 300  # test strips are made of test digits
    again = data.load("mnist_addition", path=tmp_path, operands=3, highest=[2, 9, 4], train=60, validation=20, test=30)
    assert again.train.fingerprint() == splits.train.fingerprint() != splits.test.fingerprint()
    few = splits.train.x.take(torch.tensor([5, 1]))
    assert isinstance(few, Strips)
    assert torch.equal(few.read(), splits.train.read()[[5, 1]])


def test_mnist_addition_threshold_and_options(tmp_path: Path) -> None:
    _mnist(tmp_path)
    splits = data.load("mnist_addition", path=tmp_path, threshold=9, train=50, validation=20, test=20)
    assert splits.task.names == ("below 9", "9 or more")
    assert splits.train.y is not None
    assert torch.equal(splits.train.y, (splits.train.read()[:, 0, 0, [0, 28]].long().sum(1) >= 90).long())
    for wrong in ({"operands": 0}, {"highest": 10}, {"highest": [9]}, {"threshold": 19}, {"train": 0}):
        with pytest.raises(OptionError, match="mnist_addition"):
            data.load("mnist_addition", path=tmp_path, **wrong)
