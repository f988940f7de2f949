"""Some classes alone: the rows and their names stay, the task is narrower; two halves share no row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data import DataCard, Splits, Table, only_classes
from isthmus.data.classes import apart
from isthmus.errors import DataError, OptionError, UnknownName
from isthmus.space import ConceptSpace, Task

NAMES = ("ant", "bee", "cat", "dog", "elk")
CARD = DataCard("zoo", "Animals", "CC0", "here", "none")


def table(y: list[int], **fields: Any) -> Table:
    n = len(y)
    return Table(
        torch.arange(n * 2.0).view(n, 2) + 100 * n,
        c=(torch.arange(n)[:, None] % torch.tensor([2, 3]) == 0).float(),
        y=torch.tensor(y),
        space=ConceptSpace.binary(("even", "third")),
        task=Task.classes(NAMES),
        ids=[f"{n}-{NAMES[k]}-{i}" for i, k in enumerate(y)],
        caption=[f"a picture of {NAMES[k]} {i}" for i, k in enumerate(y)],
        **fields,
    )


def zoo() -> Splits:
    parts = [table([*range(5)] * many) for many in (4, 2, 3)]
    return Splits(*parts, name="zoo", card=CARD, suggest={"captions": "what is told"}, published={"accuracy": 0.9})


@given(st.sets(st.sampled_from(NAMES), min_size=2))
def test_the_rows_of_these_classes_come_out_whole_under_their_names(chosen: set[str]) -> None:
    data = zoo()
    found = only_classes(data, sorted(chosen, reverse=True))
    assert found.task.names == tuple(name for name in NAMES if name in chosen), "in the data's order"
    for part in ("train", "validation", "test"):
        was, now = getattr(data, part), getattr(found, part)
        want = [row for row, y in enumerate(was.y.tolist()) if NAMES[y] in chosen]
        assert now.ids == [was.ids[row] for row in want] and now.caption == [was.caption[row] for row in want]
        assert torch.equal(now.x, was.x[want]) and torch.equal(now.c, was.c[want]) and now.space == was.space
        assert [found.task.names[y] for y in now.y.tolist()] == [NAMES[was.y[row]] for row in want]
    assert (found.published, found.suggest) == ({}, {"captions": "what is told"})
    many = len(chosen)
    assert found.name == f"zoo, {many} of 5 classes" and found.card and found.card.title == f"Animals; {many} of 5 classes"
    assert data.task.names == NAMES and data.card == CARD, "the data that came in stays as it was"


@given(st.floats(0.01, 0.99), st.integers(0, 5))
def test_halves_by_share_are_drawn_by_seed_and_hold_every_row_once(share: float, seed: int) -> None:
    data, want = zoo(), int(share * 5 + 0.5)
    if not 2 <= want <= 3:
        with pytest.raises(OptionError, match=f"two classes or more on either side, got {want} unseen of 5"):
            apart(data, share, seed=seed)
        return
    seen, unseen = apart(data, share, seed=seed)
    assert len(unseen.task.names) == want and set(seen.task.names) | set(unseen.task.names) == set(NAMES)
    for part in ("train", "validation", "test"):
        rows = [*getattr(seen, part).ids, *getattr(unseen, part).ids]
        assert sorted(rows) == sorted(getattr(data, part).ids)
    assert apart(data, share, seed=seed)[1].task == unseen.task
    drawn = {apart(data, share, seed=other)[1].task.names for other in range(12)}
    assert len(drawn) > 1


def test_names_are_kept_apart_as_asked() -> None:
    for names in (["dog", "ant"], ("ant", "dog", "ant"), (name for name in ("dog", "ant")), {"dog": 1, "ant": 2}):
        seen, unseen = apart(zoo(), names)  # type: ignore[arg-type]
        assert seen.task.names == ("bee", "cat", "elk") and unseen.task.names == ("ant", "dog")
    assert apart(zoo(), np.float32(0.4))[1].task == apart(zoo(), 0.4)[1].task


@pytest.mark.filterwarnings("error")
def test_a_concept_that_one_half_lacks_is_not_warned_of() -> None:
    data = zoo()
    for part in (data.train, data.validation, data.test):
        assert part.c is not None and part.y is not None
        part.c[:, 0] = (part.y == 0).float()
    apart(data, ["ant", "bee"])
    with pytest.raises(UserWarning, match="'even' never varies in train"):
        only_classes(data, ["bee", "cat"])


@pytest.mark.parametrize(
    ("unseen", "error", "said"),
    [
        (["ant", "dgo"], UnknownName, r"class of zoo 'dgo'; did you mean 'dog'"),
        (["ant"], OptionError, "two classes or more on either side, got 1 unseen of 5"),
        (["ant", "ant"], OptionError, "got 1 unseen of 5"),
        ([*NAMES[:4]], OptionError, "got 4 unseen of 5; name more, or fewer"),
        ([], OptionError, "got 0 unseen"),
        ("ant", OptionError, "a list of classes, or a share of them, got 'ant'"),
        (0.0, OptionError, "a share of them above 0 and below 1, got 0"),
        (2, OptionError, "above 0 and below 1, got 2"),
        (float("nan"), OptionError, "above 0 and below 1, got nan"),
        (None, OptionError, "a list of classes, or a share of them, got None"),
        (torch.tensor(0.4), OptionError, r"a list of classes, or a share of them, got tensor\(0.4"),
        ([1, 2], OptionError, r"a list of classes, or a share of them, got \[1, 2\]"),
    ],
)
def test_what_is_no_choice_of_classes_is_refused(unseen: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        apart(zoo(), unseen)


def test_a_task_without_classes_and_a_split_without_rows_are_refused() -> None:
    data = zoo()
    parts = {n: replace(getattr(data, n), y=getattr(data, n).y.float(), task=Task.value("age")) for n in ("train", "test")}
    numbers = Splits(parts["train"], parts["test"].replace(), parts["test"], name="ages")
    with pytest.raises(OptionError, match="expected a task of classes to keep some apart, got one of kind 'value'"):
        apart(numbers, 0.5)
    with pytest.raises(DataError, match="ages, train: expected classes to choose from, got a task of kind 'value'"):
        only_classes(numbers, ["a", "b"])
    few = Splits(data.train, data.validation, table([0, 1, 2] * 2), name="zoo")
    with pytest.raises(DataError, match="zoo, test: expected rows of these classes, got none: dog, elk; choose others"):
        only_classes(few, ["dog", "elk"])
    for names in ("ant", ["ant"], ["ant", "ant"]):
        with pytest.raises(DataError, match="two different classes or more, as a list"):
            only_classes(data, names)
    with pytest.raises(UnknownName, match="did you mean 'bee'"):
        only_classes(data, ["ant", "beee"])
