"""Rows of a new domain: columns by name, whatever their order in the file; the run's classes alone, whatever the cut."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from isthmus.commands.shots import few
from isthmus.commands.source import Loaded
from isthmus.data import Splits, Table
from isthmus.errors import DataError
from isthmus.space import Task

TASK = Task.classes(["cat", "dog", "fox", "owl"])


def loaded(names: list[str], y: list[int]) -> Loaded:
    """Two rows in each split; column k of the file holds 10 k + row."""
    x = torch.tensor([[10.0 * k + row for k in range(len(names))] for row in range(6)])
    parts = [Table(x[at : at + 2], y=torch.tensor(y[at : at + 2]), task=TASK) for at in (0, 2, 4)]
    return Loaded(Splits(*parts, name="shots"), names)


def ran(**extra: Any) -> Any:
    return SimpleNamespace(extra=extra, inputs=["a", "b", "c"], folder=Path("run"))


def test_columns_of_another_order_are_read_by_name_and_strangers_are_refused() -> None:
    rows = few(ran(), loaded(["c", "a", "b"], [0, 1, 2, 3, 0, 1]))
    assert rows.x[0].tolist() == [10, 20, 0] and rows.y.tolist() == [0, 1, 2, 3, 0, 1]
    assert few(ran(), loaded(["a", "b", "c"], [0] * 6)).x[0].tolist() == [0, 10, 20]
    with pytest.raises(DataError, match=r"got 3; missing: c; not inputs of the run: hot; name concept columns"):
        few(ran(), loaded(["a", "hot", "b"], [0] * 6))


def test_a_few_rows_of_the_runs_classes_may_stand_in_any_split() -> None:
    rows = few(ran(classes=["fox", "owl"]), loaded(["a", "b", "c"], [0, 1, 3, 2, 0, 1]))
    assert rows.y.tolist() == [1, 0] and rows.task.names == ("fox", "owl") and rows.x[:, 0].tolist() == [2, 3]
    with pytest.raises(DataError, match="shots: expected rows of these classes, got none: fox, owl"):
        few(ran(classes=["fox", "owl"]), loaded(["a", "b", "c"], [0, 1, 0, 1, 0, 1]))
