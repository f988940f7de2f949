"""Table, Splits and splitting: what is refused, what is put right, whole groups, class shares."""

from __future__ import annotations

import warnings
from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nan

from isthmus.data import Fold, Images, Splits, Table, Texts, split, split_by
from isthmus.errors import DataError
from isthmus.model import ConceptModel
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.stages import Keep
from isthmus.train import Fold as StageFold
from isthmus.train import Plan

TASK = Task.classes(["no", "yes"])
SPACE = ConceptSpace.of(Concept("a"), Concept("s", "categorical", ("x", "y")), Concept("n", "continuous"))


def table(n: int = 4, **fields: Any) -> Table:
    base = {
        "x": torch.arange(n * 2.0).view(n, 2),
        "c": SPACE.encode(torch.arange(n * 3.0).view(n, 3) % 2),
        "y": torch.arange(n) % 2,
        "space": SPACE,
        "task": TASK,
    }
    return Table(**base | fields)


def refused(words: tuple[str, ...], **fields: Any) -> None:
    with pytest.raises(DataError) as error:
        table(**fields)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def rows(n: int, *values: float) -> Tensor:
    return torch.tensor([list(values)] * n)


BAD = torch.zeros(4, 2)
BAD[2, 1] = torch.inf
C = SPACE.encode(torch.zeros(4, 3))


def cell(row: int, column: int, value: float, base: Tensor = C) -> Tensor:
    made = base.clone()
    made[row, column] = value
    return made


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"x": BAD}, ("x, row 2, column 1", "inf", "fill")),
        ({"x": BAD * nan}, ("x, row 0, column 0", "nan", "8 such cells")),
        ({"x": {"left": torch.zeros(4, 2), "right": BAD}}, ("right, row 2",)),
        ({"x": torch.full((4, 2), 1e30)}, ("row 0", "1e+15", "rescale")),
        ({"x": BAD.half()}, ("x, row 2, column 1", "inf")),
        ({"x": BAD.bfloat16()}, ("x, row 2, column 1", "inf")),
        ({"x": torch.zeros(4)}, ("x", "(4,)", "feature axis")),
        ({"x": torch.zeros(4, 0)}, ("x", "at least one column")),
        ({"x": torch.zeros(0, 2), "c": None, "y": None}, ("at least one row", "empty")),
        ({"x": torch.zeros(4, 2, dtype=torch.complex64)}, ("x", "complex64")),
        ({"x": torch.zeros(4, 2).to_sparse()}, ("x", "sparse")),
        ({"x": np.zeros((4, 2))}, ("x", "ndarray", "from_arrays")),
        ({"x": [["a"]] * 4}, ("x", "list")),
        ({"x": Images}, ("x", "expected a tensor, Images or Texts")),
        ({"x": {}}, ("empty dict",)),
        ({"x": {0: torch.zeros(4, 2)}}, ("names of inputs", "0")),
        ({"x": {"a": torch.zeros(4, 2), "b": Texts(["t"] * 3)}}, ("b", "4 rows", "got 3")),
        ({"x": torch.zeros(5, 2)}, ("y", "5 rows like x", "got 4")),
        ({"y": torch.tensor([0, 1, 2, 0])}, ("y, row 2", "0 to 1", "got 2")),
        ({"y": torch.tensor([0, -1, 0, 0])}, ("y, row 1", "got -1")),
        ({"y": torch.tensor([0.0, 1.0, 0.5, 0.0])}, ("y, row 2", "got 0.5")),
        ({"y": torch.tensor([0.0, 1.0, 1.0, nan])}, ("y, row 3", "nan")),
        ({"y": torch.eye(4)[:, :2]}, ("y", "(4, 2)", "argmax")),
        ({"y": torch.tensor(1)}, ("y", "4 rows", "single number")),
        ({"y": [0, 1, 0, 1]}, ("y", "tensor", "list")),
        ({"y": torch.zeros(4, dtype=torch.complex64)}, ("y", "complex")),
        ({"task": None}, ("task", "none")),
        ({"task": "classes"}, ("task", "str")),
        ({"space": "a"}, ("space", "ConceptSpace")),
        ({"space": ConceptSpace()}, ("c", "(4, 0)", "ConceptSpace.binary")),
        ({"c": torch.zeros(4, 3)}, ("c", "(4, 4)", "(4, 3)", "encode")),
        ({"c": torch.zeros(4)}, ("c", "(4,)")),
        ({"c": C.to(torch.complex64)}, ("c", "complex")),
        ({"c": cell(1, 0, 1.5)}, ("'a', row 1", "0 to 1", "1.5")),
        ({"c": cell(1, 0, torch.inf)}, ("'a', row 1", "inf")),
        ({"c": cell(3, 3, torch.inf)}, ("'n', row 3", "finite", "inf")),
        ({"c": cell(3, 3, 1e20)}, ("'n', row 3", "1e+20")),
        ({"c": cell(2, 1, 0.0)}, ("'s', row 2", "sum to 1", "[0.0, 0.0]")),
        ({"c": cell(2, 2, 1.0)}, ("'s', row 2", "[1.0, 1.0]")),
        ({"c": cell(2, 1, nan)}, ("'s', row 2", "sum to 1 (or all NaN")),
        ({"c": cell(2, 2, nan)}, ("'s', row 2", "[1.0, nan]")),
        ({"c": cell(1, 3, torch.inf).half()}, ("'n', row 1", "inf")),
        ({"weight": -torch.ones(4)}, ("weight, row 0", "-1")),
        ({"weight": torch.tensor([1, nan, 1, 1])}, ("weight, row 1", "nan")),
        ({"weight": torch.zeros(4)}, ("weight", "above 0")),
        ({"weight": torch.ones(4, 1)}, ("weight", "(4, 1)")),
        ({"weight": torch.ones(3)}, ("weight", "4 rows", "got 3")),
        ({"group": ["a", None, "a", "b"]}, ("group, row 1", "None")),
        ({"group": ["a", "a", " ", "b"]}, ("group, row 2",)),
        ({"group": [1.0, nan, 2.0, 2.0]}, ("group, row 1", "nan")),
        ({"group": "abcd"}, ("group", "list of 4 names", "str")),
        ({"group": ["a"]}, ("group", "4 rows", "got 1")),
        ({"group": [["a"], ["a"], ["b"], ["b"]]}, ("group, row 0", "one name")),
        ({"ids": ["a", None, "c", "d"]}, ("ids, row 1",)),
        ({"where": torch.zeros(4, 4, 3)}, ("where", "(4, 4, 4)", "(4, 4, 3)")),
        ({"where": torch.full((4, 4, 4), torch.inf)}, ("where 'a', row 0",)),
        ({"askable": torch.ones(4, 4)}, ("askable", "(4, 3)", "(4, 4)")),
        ({"askable": torch.full((4, 3), 0.5)}, ("askable", "True or False")),
    ],
)
def test_what_a_table_refuses_is_named(fields: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(words, **fields)


@pytest.mark.parametrize(
    ("task", "y", "words"),
    [
        (Task.labels("ab"), torch.zeros(4), ("y", "(4, 2)", "(4,)")),
        (Task.labels("ab"), torch.tensor([[0, 1], [1, nan], [2, 0], [0, 0]]), ("y 'a', row 2", "0, 1", "got 2")),
        (Task.labels("ab"), torch.full((4, 2), nan), ("y", "unknown")),
        (Task.value("p"), torch.zeros(4, 2), ("y", "(4,)", "(4, 2)")),
        (Task.value("p"), torch.tensor([0, 1, torch.inf, nan]), ("y, row 2", "inf")),
        (Task.value("p"), torch.tensor([0, 1, 1e300, nan], dtype=torch.float64), ("y, row 2", "1e+300")),
        (Task.value("p"), torch.full((4,), nan), ("y", "unknown")),
    ],
)
def test_targets_of_other_tasks(task: Task, y: Tensor, words: tuple[str, ...]) -> None:
    refused(words, task=task, y=y)


def test_types_are_put_right() -> None:
    made = table(
        x=torch.zeros(4, 2, dtype=torch.float64),
        y=torch.tensor([0.0, 1.0, 1.0, 0.0]),
        c=C.double(),
        weight=torch.ones(4, dtype=torch.int64),
        askable=torch.ones(4, 3, dtype=torch.int64),
        group=np.array([1, 1, 2, 2]),
        where=torch.zeros(4, 4, 4, dtype=torch.float64),
    )
    assert made.c is not None
    assert made.y is not None
    assert [made.x.dtype, made.c.dtype, made.y.dtype] == [torch.float32, torch.float32, torch.int64]
    assert made.weight is not None
    assert made.askable is not None
    assert made.where is not None
    assert [made.weight.dtype, made.askable.dtype, made.where.dtype] == [torch.float32, torch.bool, torch.float32]
    assert made.group == ["1", "1", "2", "2"]
    assert table(task=Task.value("p"), y=torch.zeros(4, 1)).y.shape == (4,)  # pyright: ignore
    assert table(x=torch.zeros(4, 3, 8, 8, dtype=torch.uint8)).x.dtype == torch.uint8
    assert table(x=torch.zeros(4, 5, dtype=torch.int64)).x.dtype == torch.int64


def test_taking_rows_takes_everything() -> None:
    full = table(
        weight=torch.arange(1.0, 5.0), group=list("aabb"), ids=list("wxyz"), askable=torch.eye(4)[:, :3],
        where=torch.arange(64.0).view(4, 4, 4), x={"t": Texts(list("abcd")), "n": torch.arange(8.0).view(4, 2)},
    )  # fmt: skip
    part = full.take([2, 0])
    assert len(part) == 2
    assert part.read()["t"] == ["c", "a"]
    assert part.x["n"].tolist() == [[4, 5], [0, 1]]
    assert (part.group, part.ids) == (["b", "a"], ["y", "w"])
    for name in ("c", "y", "weight", "askable", "where"):
        assert torch.equal(getattr(part, name), getattr(full, name)[[2, 0]]), name


@pytest.mark.parametrize("index", [torch.tensor([True, False, True, False]), np.array([True, False, True, False])])
def test_a_mask_takes_the_rows_it_marks(index: Any) -> None:
    assert table().take(index).x.tolist() == [[0, 1], [4, 5]]


@pytest.mark.parametrize(
    "index", [[4], [-5], [0.0, 1.0], [[0, 1]], torch.tensor([True, False]), np.array([0.5]), torch.tensor(1)]
)
def test_rows_that_are_not_there_are_refused(index: Any) -> None:
    with pytest.raises(DataError, match="row numbers"):
        table().take(index)


def test_an_empty_index_takes_no_rows() -> None:
    assert len(table().take([])) == 0
    assert table().take([-1]).x.tolist() == [[6, 7]]


def test_replace_checks_again() -> None:
    assert table().replace(weight=torch.ones(4)).weight is not None
    with pytest.raises(DataError, match="weight"):
        table().replace(weight=torch.ones(3))


def test_a_batch_parts_unknown_labels_from_known_ones() -> None:
    made = table(c=SPACE.encode(torch.tensor([[1, 0, 3], [nan, 1, 2], [0, nan, 1], [1, 1, nan]])))
    batch = made.batch(made.x)
    assert batch.known is not None
    assert batch.c is not None
    assert not batch.c.isnan().any()
    assert (~batch.known).nonzero().tolist() == [[1, 0], [2, 1], [2, 2], [3, 3]]
    assert table().batch(made.x).known is None
    assert table(c=None).batch(made.x).c is None
    with pytest.raises(DataError, match="y"):
        table(y=None).batch(made.x)


def test_labels_for_another_space_go_by_column_name() -> None:
    made = table()
    assert made.c is not None
    kept = made.labels_for(SPACE.keep([2, 0]))
    assert kept is not None
    assert torch.equal(kept, made.c[:, [3, 0]])
    assert made.labels_for(ConceptSpace.binary(["z"])) is None
    assert table(c=None).labels_for(SPACE) is None


def test_fingerprints_follow_x() -> None:
    assert table().fingerprint() == table(y=None).fingerprint()
    assert table().fingerprint() != table(x=torch.zeros(4, 2)).fingerprint()
    named = {"b": torch.zeros(4, 2), "a": Texts(list("abcd"))}
    assert table(x=named).fingerprint() == table(x=dict(reversed(named.items()))).fingerprint()


# ---- splits


def test_an_empty_split_and_a_missing_one_are_named() -> None:
    full = table()
    with pytest.raises(DataError, match="validation: expected at least one row, got an empty split"):
        Splits(full, full.take([]), full)
    with pytest.raises(DataError, match="test: expected a Table, got NoneType"):
        Splits(full, full, None)  # pyright: ignore[reportArgumentType]


def test_a_group_in_two_splits_is_an_error() -> None:
    parts = table(group=list("aabb")), table(group=list("cccc")), table(group=list("ddbd"))
    with pytest.raises(DataError, match="group 'b' stands in train and test"):
        Splits(*parts)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"y": None}, "test: expected y"),
        ({"c": None}, "test: expected concept labels in every split"),
        ({"task": Task.classes(["yes", "no"])}, "test: expected the same concepts and task"),
        ({"x": torch.zeros(4, 3)}, r"test: expected x like train's, float32 \(2,\), got float32 \(3,\)"),
        ({"x": Texts(list("abcd"))}, "test: expected x like train's, .* got Texts"),
        ({"group": list("abcd")}, "test: expected groups in every split"),
    ],
)
def test_splits_of_different_kinds_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Splits(table(), table(), table(**fields))


def test_a_concept_that_never_varies_is_a_warning_that_names_it() -> None:
    steady = SPACE.encode(torch.tensor([[1, 0, 3.0], [0, 0, 4], [1, 0, 5], [1, nan, 6]]))
    with pytest.warns(UserWarning, match="concept 's' never varies in train") as seen:
        Splits(table(c=steady), table(), table())
    assert len(seen) == 1
    assert seen[0].filename == __file__
    with pytest.warns(UserWarning, match="concept 'a' is unknown on every train row"):
        Splits(table(c=cell(0, 0, nan, table().c.index_fill(1, torch.tensor([0]), nan))), table(), table())  # pyright: ignore


def test_many_concepts_that_never_vary_are_one_warning() -> None:
    wide = table(c=torch.ones(4, 30), space=ConceptSpace.binary([f"c{k}" for k in range(30)]))
    words = r"^concept 'c0', .*'c19' and 10 more \(30 of 30\): each never varies in train: it cannot be learnt$"
    with pytest.warns(UserWarning, match=words) as seen:
        Splits(wide, wide, wide)
    assert len(seen) == 1


def test_statistics_come_from_train_alone() -> None:
    c = C.clone()
    c[:, 0], c[:, 3] = torch.tensor([0.0, 1, 0, 1]), torch.tensor([0.0, 2, 4, 6])
    c[1, 1], c[1, 2] = 0, 1
    far = c.clone()
    far[:, 3] += 1000
    value = Task.value("price")
    parts = [table(c=k, task=value, y=torch.tensor([1.0, 2, 3, 4]) * s) for k, s in ((c, 1), (far, 9), (far, 9))]
    made = Splits(*parts)
    assert made.space.concepts[2].center == pytest.approx(3.0)
    assert made.task.center == pytest.approx(2.5)
    assert made.test.space == made.validation.space == made.train.space
    assert made.test.task == made.task


def test_a_stage_is_given_train_and_validation_and_no_test() -> None:
    full = Splits(table(), table(), table())
    seen: list[StageFold] = []

    class Nothing(torch.nn.Module):
        pass

    model = ConceptModel(Nothing(), Nothing(), Nothing(), SPACE, TASK)  # pyright: ignore[reportArgumentType]
    Plan(model, [lambda model, fold: seen.append(fold)]).fit(full)
    assert isinstance(seen[0], Fold)
    assert not hasattr(seen[0], "test")
    assert not hasattr(full.fold, "test")
    assert seen[0].train is full.train
    with pytest.raises(DataError, match="at least one concept"):
        Plan(model, [Keep(lambda model, fold: [])]).fit(full)


def drawn(splits: Splits) -> dict[str, list[int]]:
    return {name: getattr(splits, name).x[:, 0].long().tolist() for name in ("train", "validation", "test")}


def numbered(y: Any, group: Any = None) -> Table:
    y = torch.as_tensor(y)
    return Table(torch.arange(len(y))[:, None], y=y, task=Task.classes(f"c{i}" for i in range(9)), group=group)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 8), min_size=40, max_size=120),
    st.floats(0.1, 0.4),
    st.floats(0.1, 0.4),
    st.integers(0, 10_000),
)
def test_every_class_keeps_its_share_to_within_one_row(y: list[int], validation: float, test: float, seed: int) -> None:
    parts = drawn(split(numbered(y), validation=validation, test=test, seed=seed))
    assert sorted(chain(*parts.values())) == list(range(len(y)))
    for cls, count in Counter(y).items():
        for name, share in (("validation", validation), ("test", test), ("train", 1 - validation - test)):
            assert abs(sum(y[i] == cls for i in parts[name]) - share * count) < 1 + 1e-9


def test_classes_of_two_rows_take_turns_so_that_the_whole_keeps_its_shares() -> None:
    many = Table(torch.arange(300)[:, None], y=torch.arange(300) % 150, task=Task.classes(map(str, range(150))))
    sizes = [len(part) for part in drawn(split(many)).values()]
    assert sizes == pytest.approx([195, 45, 60], abs=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=60, max_size=120), st.integers(0, 10_000))
def test_groups_stay_whole(cells: list[tuple[int, int]], seed: int) -> None:
    groups = [f"patient {g}" for g, _ in cells] + [f"extra {i}" for i in range(20)]
    y = [c for _, c in cells] + [0] * 20
    parts = drawn(split(numbered(y, groups), seed=seed))
    homes: dict[str, set[str]] = {}
    for name, members in parts.items():
        for i in members:
            homes.setdefault(groups[i], set()).add(name)
    assert all(len(home) == 1 for home in homes.values())
    assert sorted(chain(*parts.values())) == list(range(len(y)))


def test_the_seed_decides_and_nothing_else() -> None:
    y = torch.arange(100) % 3
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, again, other = (drawn(split(numbered(y), seed=s)) for s in (1, 1, 2))
    assert one == again != other
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1] == state[1]).all()  # noqa: NPY002


def test_continuous_targets_and_no_stratifying_still_cut_by_share() -> None:
    value = Table(torch.arange(100)[:, None], y=torch.randn(100), task=Task.value("p"))
    assert [len(p) for p in drawn(split(value)).values()] == [65, 15, 20]
    assert [len(p) for p in drawn(split(numbered(torch.arange(100) % 2), stratify=False)).values()] == [65, 15, 20]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"validation": 0.0}, "shares above 0"),
        ({"test": nan}, "shares above 0"),
        ({"validation": 0.5, "test": 0.5}, "sum below 1"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"test": 0.001, "validation": 0.3}, "test would be empty"),
    ],
)
def test_shares_and_seeds_that_do_not_fit(how: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        split(numbered(torch.arange(20) % 2), **how)


def test_too_few_rows_or_groups_are_counted() -> None:
    with pytest.raises(DataError, match="would be empty with 1 rows"):
        split(numbered([0]))
    with pytest.raises(DataError, match="would be empty with 2 groups"):
        split(numbered([0] * 50, ["a"] * 25 + ["b"] * 25))


def test_marks_are_honoured_under_any_of_their_names() -> None:
    marks = ["train", "Train", "val", "TEST", "dev", " test", "training", "validation"]
    parts = drawn(split_by(numbered([0, 1] * 4), marks))
    assert parts == {"train": [0, 1, 6], "validation": [2, 4, 7], "test": [3, 5]}


def test_without_a_validation_mark_a_share_of_train_is_drawn() -> None:
    y, groups = torch.arange(200) % 2, [f"g{i // 2}" for i in range(200)]
    marks = ["test" if i < 40 else "train" for i in range(200)]
    parts = drawn(split_by(numbered(y, groups), marks, validation=0.25, seed=3))
    assert parts["test"] == list(range(40))
    assert len(parts["validation"]) == 40
    assert {i // 2 for i in parts["validation"]}.isdisjoint({i // 2 for i in parts["train"]})
    again = drawn(split_by(numbered(y, groups), marks, validation=0.25, seed=4))
    assert again["validation"] != parts["validation"]


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        (["train", "exam", "test", "val"], "row 1: expected train, validation or test, got 'exam'"),
        (["train", nan, "test", "val"], "row 1"),
        (["train", "val", "test"], "4 marks"),
        (["train", "train", "val", "val"], "at least one test row"),
        (["test", "test", "val", "val"], "at least one train row"),
        (["train", "test", "test", "test"], "at least one train row|at least one validation row"),
    ],
)
def test_marks_that_do_not_fit(marks: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        split_by(numbered([0, 1, 0, 1]), marks)


def test_a_group_marked_into_two_splits_is_refused() -> None:
    with pytest.raises(DataError, match="group 'a' stands in train and test"):
        split_by(numbered([0, 1, 0, 1], list("abca")), ["train", "val", "train", "test"])


def test_splitting_warns_of_nothing_by_itself() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split(numbered(torch.arange(60) % 3))


# facts


def test_facts_are_rows_of_their_own_and_follow_take_replace_and_splits() -> None:
    facts = {"skin": torch.tensor([1.0, nan, 3.0, 2.0]), "box": torch.arange(24).view(4, 3, 2), "flag": torch.arange(4) > 1}
    made = table(facts=facts)
    for part in (made.take([3, 0]), made.replace(y=torch.tensor([1, 1, 0, 0])).take([3, 0])):
        assert part.facts is not None
        assert part.facts["skin"].tolist() == [2.0, 1.0]
        assert torch.equal(part.facts["box"], facts["box"][[3, 0]])
        assert part.facts["flag"].tolist() == [True, False]
    cut = Splits(made, made.take([0]), made.take([1]))
    assert cut.test.facts is not None
    assert bool(cut.test.facts["skin"].isnan().all())
    assert made.replace(facts=None).facts is None
    # what is known of a row is no input: neither x nor a batch changes
    assert made.fingerprint() == table().fingerprint()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"skin": torch.zeros(3)}, ("facts 'skin'", "expected 4 rows like x, got 3")),
        ({"skin": [0, 1, 2, 3]}, ("facts 'skin'", "expected a tensor, got list")),
        ({"skin": torch.zeros(4, dtype=torch.complex64)}, ("facts 'skin'", "real numbers")),
        (torch.zeros(4), ("facts", "expected a dict of tensors or texts by name, got Tensor")),
    ],
)
def test_facts_refused(facts: Any, words: tuple[str, ...]) -> None:
    refused(words, facts=facts)
