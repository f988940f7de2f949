"""Marks on rows: validation held out of train, seeded draws, the aliases of split names, fills by training rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isthmus.data.datasets._splits import draw, fill, hold_out, named
from isthmus.errors import DataError
from isthmus.space import Task


def test_hold_out_takes_its_share_of_every_class_from_train_only() -> None:
    y = torch.from_numpy(np.repeat([0, 1, 2], [100, 40, 7]))
    marks = np.where(np.arange(147) % 5 == 0, "test", "train")
    held = hold_out(marks, y, share=0.25, seed=3)
    assert ((held == "test") == (marks == "test")).all()
    for cls in range(3):
        mine = held[(y == cls).numpy() & (marks == "train")]
        assert abs((mine == "validation").sum() - 0.25 * len(mine)) < 1
    assert (hold_out(marks, y, share=0.25, seed=3) == held).all()
    assert (hold_out(marks, y, share=0.25, seed=4) != held).any()
    with pytest.raises(DataError, match="share of the training rows"):
        hold_out(marks, y, share=1.0, seed=0)


def test_draw_keeps_groups_and_named_reads_aliases() -> None:
    y = torch.arange(60) % 2
    group = [str(i // 4) for i in range(60)]
    marks = draw(y, Task.classes(("a", "b")), seed=1, group=group)
    assert set(marks) == {"train", "validation", "test"}
    for name in set(group):
        assert len({mark for mark, mine in zip(marks, group, strict=True) if mine == name}) == 1
    assert named(["train", "dev", "val", "valid", "test"], "x").tolist() == ["train", *["validation"] * 3, "test"]


def test_fill_uses_the_training_median_only() -> None:
    x = np.array([[1.0], [3.0], [np.nan], [100.0]])
    assert fill(x, np.array(["train", "train", "test", "test"])).flatten().tolist() == [1, 3, 2, 100]
