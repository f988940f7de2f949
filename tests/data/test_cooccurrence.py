"""The audit of labels: each finding on a case made for it, the correlation against NumPy's, the real sets' known traps."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import isthmus as im
from isthmus.data.cooccurrence import audit, correlations
from isthmus.data.table import Splits, Table
from isthmus.errors import DataError
from isthmus.space import Concept, ConceptSpace, Task

TASK = Task.classes(("cat", "dog"))


def rows(c: np.ndarray, y: np.ndarray, space: ConceptSpace | None = None, seed: int = 0) -> Table:
    space = ConceptSpace.binary([f"c{k}" for k in range(c.shape[1])]) if space is None else space
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(c), 3)))
    return Table(x, c=torch.from_numpy(c).float(), y=torch.from_numpy(y), space=space, task=TASK)


def found(data: Table | Splits) -> dict[str, list[Any]]:
    told = audit(data)
    json.dumps(told)
    kinds: dict[str, list[Any]] = {}
    for one in told["findings"]:
        kinds.setdefault(one["kind"], []).append(one)
    return kinds


def many(n: int = 400, k: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return (draw.random((n, k)) < 0.5).astype(float), draw.integers(0, 2, n)


def test_labels_that_teach_well_are_not_accused() -> None:
    assert found(rows(*many())) == {}


def test_each_finding_by_name() -> None:
    c, y = many()
    c[:, 1] = c[:, 0]
    c[:, 2] = 1
    c[:, 3] = y
    c[:4, 3] = 1 - c[:4, 3]
    c[:, 5] = np.where(c[:, 4] == 0, 0, c[:, 5])
    kinds = found(rows(c, y))
    assert kinds["never apart"][0]["concepts"] == ["c0", "c1"] and "equal" in kinds["never apart"][0]["words"]
    assert kinds["constant"][0]["concepts"] == ["c2"]
    assert {one["words"].split("'")[1] for one in kinds["label in concept"]} == {"dog"}
    assert kinds["implied"][0]["concepts"] == ["c5", "c4"]
    c[:, 1] = 1 - c[:, 0]
    assert "opposite" in found(rows(c, y))["never apart"][0]["words"]
    c[:5, 1] = 1 - c[:5, 1]
    assert found(rows(c, y))["near"][0]["concepts"] == ["c0", "c1"]
    c[:300, 4] = np.nan
    assert found(rows(c, y))["unknown"][0]["level"] == "warning"


def test_states_of_one_concept_are_not_held_against_it() -> None:
    space = ConceptSpace((Concept("shade", "categorical", states=("light", "dark")), Concept("age", "continuous")))
    draw = np.random.default_rng(0)
    state, age = draw.integers(0, 2, 300), draw.normal(size=300)
    assert set(found(rows(np.c_[np.eye(2)[state], age], draw.integers(0, 2, 300), space))) == set()
    twice = ConceptSpace((*space.concepts, Concept("age again", "continuous")))
    kinds = found(rows(np.c_[np.eye(2)[state], age, 2 * age + 1], draw.integers(0, 2, 300), twice))
    assert kinds["never apart"][0]["concepts"] == ["age", "age again"]


def test_class_level_labels_and_few_combinations() -> None:
    y = np.repeat([0, 1], 50)
    kinds = found(rows(np.array([[1.0, 0, 1], [0, 1, 1]])[y], y))
    assert "reveal the class" in kinds["class level"][0]["words"]
    some = np.array([[1.0, 0, 1], [1, 1, 0], [0, 1, 1], [0, 0, 1]])[2 * y + np.arange(100) % 2]
    assert "2.0 a class" in found(rows(some, y))["few combinations"][0]["words"]


def test_twins_in_two_splits() -> None:
    c, y = many(60)
    train, other = rows(c[:40], y[:40]), rows(c[40:50], y[40:50], seed=1)
    test = rows(c[50:], y[50:], seed=2)
    test = test.replace(x=torch.cat([train.x[:2], test.x[2:]]))
    kinds = found(Splits(train, other, test, name="twins"))
    assert kinds["twins"][0]["value"] == pytest.approx(0.2) and "train" in kinds["twins"][0]["words"]


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_correlations_are_numpys_on_the_rows_known_in_both(seed: int) -> None:
    draw = np.random.default_rng(seed)
    c = (draw.random((50, 4)) < 0.5).astype(float)
    c[draw.random(c.shape) < 0.2] = np.nan
    phi, n = correlations(c)
    for i in range(4):
        for j in range(4):
            both = ~np.isnan(c[:, i]) & ~np.isnan(c[:, j])
            assert n[i, j] == both.sum()
            if np.ptp(c[both, i]) and np.ptp(c[both, j]):
                assert phi[i, j] == pytest.approx(np.corrcoef(c[both, i], c[both, j])[0, 1], abs=1e-9)
            else:
                assert np.isnan(phi[i, j])


def test_free_hands_teach_and_fixed_hands_do_not() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"train": 400, "validation": 20, "test": 20}
        free, fixed = (found(im.data.load("poker", **options, **more)) for more in ({}, {"hands": "fixed", "fixed_hands": 1}))
    assert "class level" not in free and "never apart" not in free
    assert "class level" in fixed and "never apart" in fixed and "label in concept" in fixed


def test_known_traps_of_real_sets(isthmus_data: Callable[[str], Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        isthmus_data("images/wbcatt_128.npz")
        cells = found(im.data.load("wbcatt"))
        zoo = found(im.data.load("zoo"))
    assert ["granule_type=nil", "granule_colour=nil"] in [one["concepts"] for one in cells["near"]]
    assert "feathers is 'bird' itself" in zoo["label in concept"][0]["words"]


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(DataError, match="expected Splits or a Table"):
        audit([1, 2])  # type: ignore[arg-type]
    assert audit(Table(torch.zeros(3, 2), y=torch.tensor([0, 1, 0]), task=TASK))["facts"]["labels"] == "none"
