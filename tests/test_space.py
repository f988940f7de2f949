"""ConceptSpace: blocks, columns, encode, activate, statistics, keep and JSON. Task: fitted, predict, probabilities."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nan

from isthmus.errors import DataError, UnknownName
from isthmus.space import EMPTY, Concept, ConceptSpace, Task

RANK = Concept("rank", "categorical", ("ace", "two", "three"), group="card")
SUIT = Concept("suit", "categorical", ("red", "black"), group="card")
FACE = Concept("face")
AGE = Concept("age", "continuous", unit="years", center=50.0, scale=10.0)
SPACE = ConceptSpace.of(FACE, RANK, AGE, SUIT)


def test_a_block_takes_one_column_for_each_state() -> None:
    assert SPACE.columns == ("face", "rank=ace", "rank=two", "rank=three", "age", "suit=red", "suit=black")
    assert (len(SPACE), SPACE.count, SPACE.names) == (7, 4, ("face", "rank", "age", "suit"))
    assert SPACE.slices == (slice(0, 1), slice(1, 4), slice(4, 5), slice(5, 7))
    assert SPACE.owner_of.tolist() == [0, 1, 1, 1, 2, 3, 3]
    assert [index.tolist() for index in SPACE.blocks] == [[[5, 6]], [[1, 2, 3]]]
    assert SPACE.continuous.tolist() == [False] * 4 + [True] + [False] * 2
    assert SPACE.groups == {"face": (0,), "card": (1, 3), "age": (2,)}
    assert not SPACE.plain
    assert ConceptSpace.binary(["a", "b"]).plain


def test_blocks_of_one_width_stand_together() -> None:
    space = ConceptSpace.of(*(Concept(name, "categorical", ("x", "y")) for name in "abc"))
    assert [index.tolist() for index in space.blocks] == [[[0, 1], [2, 3], [4, 5]]]


def test_binary_takes_a_group_for_each_name() -> None:
    space = ConceptSpace.binary(["wing red", "wing blue", "beak"], ["wing", "wing", "beak"])
    assert space.groups == {"wing": (0, 1), "beak": (2,)}


def test_the_empty_space_has_no_columns() -> None:
    assert (len(EMPTY), EMPTY.count, EMPTY.columns, EMPTY.plain) == (0, 0, (), True)
    assert EMPTY.encode(torch.zeros(3, 0)).shape == (3, 0)
    assert EMPTY.activate(torch.zeros(3, 0)).shape == (3, 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConceptSpace.binary(["a", "b", "a"]), ("'a'", "2 times")),
        (lambda: ConceptSpace.of(RANK, Concept("rank=ace")), ("'rank=ace'", "2 times")),
        (lambda: Concept(""), ("printable",)),
        (lambda: Concept("a\nb"), ("printable", "'a\\nb'")),
        (lambda: Concept("a", "ordinal"), ("'a'", "binary, categorical or continuous")),  # pyright: ignore
        (lambda: Concept("a", "categorical", ("x",)), ("'a'", "two or more")),
        (lambda: Concept("a", "categorical", ("x", "x")), ("'a'", "different states")),
        (lambda: Concept("a", states=("x", "y")), ("'a'", "categorical")),
        (lambda: Concept("a", "continuous", scale=0.0), ("'a'", "scale")),
        (lambda: Concept("a", "continuous", center=math.inf), ("'a'", "finite")),
        (lambda: Concept("a", cost=nan), ("'a'", "cost")),
        (lambda: Concept("a", cost=math.inf), ("'a'", "finite", "cost")),
        (lambda: ConceptSpace((FACE,), torch.zeros(2, 3)), ("vectors", "(1, D)", "(2, 3)")),
        (lambda: Task.classes(["a"]), ("2 or more",)),
        (lambda: Task.classes(["a", "a"]), ("different",)),
        (lambda: Task.labels([]), ("1 or more",)),
    ],
)
def test_what_a_space_refuses_is_named(make: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(DataError) as error:
        make()
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert SPACE.index("rank") == 1
    assert (SPACE.index(-1), SPACE.index(2)) == (3, 2)
    with pytest.raises(UnknownName, match="did you mean 'rank'"):
        SPACE.index("rnak")
    with pytest.raises(DataError, match="index 4"):
        SPACE.index(4)


def test_encode_makes_one_hot_blocks_and_keeps_unknowns() -> None:
    c = SPACE.encode(torch.tensor([[1, 2, 61.5, 0], [0, nan, nan, 1], [nan, 0, 3, nan]]))
    want = [[1, 0, 0, 1, 61.5, 1, 0], [0, nan, nan, nan, nan, 0, 1], [nan, 1, 0, 0, 3, nan, nan]]
    assert torch.equal(c.nan_to_num(-7), torch.tensor(want).nan_to_num(-7))
    assert c.dtype == torch.float32


@pytest.mark.parametrize("code", [3.0, -1.0, 0.5, math.inf])
def test_encode_refuses_a_state_that_is_not_there(code: float) -> None:
    with pytest.raises(DataError, match=r"'rank', row 1: expected a state index below 3"):
        SPACE.encode(torch.tensor([[0, 0, 0, 0], [0, code, 0, 0]]))


@pytest.mark.parametrize("width", [3, 5])
def test_encode_refuses_another_number_of_concepts(width: int) -> None:
    with pytest.raises(DataError, match=r"\(rows, 4\)"):
        SPACE.encode(torch.zeros(2, width))


def test_activate_gives_probabilities_blocks_and_numbers_in_their_unit() -> None:
    logits = torch.tensor([[0.3, 1.0, 2.0, 3.0, -1.5, 0.0, 5.0]])
    values = SPACE.activate(logits)[0].tolist()
    e = [math.exp(v) for v in (1.0, 2.0, 3.0)]
    assert values[0] == pytest.approx(1 / (1 + math.exp(-0.3)))
    assert values[1:4] == pytest.approx([v / sum(e) for v in e])
    assert values[4] == pytest.approx(50 - 15)
    assert values[5:] == pytest.approx([1 / (1 + math.exp(5)), 1 / (1 + math.exp(-5))], rel=1e-4)


def test_activate_is_sigmoid_where_all_concepts_are_binary() -> None:
    logits = torch.randn(2, 5, 3)
    assert torch.equal(ConceptSpace.binary("abc").activate(logits), logits.sigmoid())


def test_activate_and_standardised_are_inverse_on_continuous_columns() -> None:
    logits = torch.randn(4, 7)
    assert torch.allclose(SPACE.standardised(SPACE.activate(logits))[:, 4], logits[:, 4], atol=1e-5)
    assert torch.equal(SPACE.standardised(SPACE.activate(logits))[:, :4], SPACE.activate(logits)[:, :4])


def test_fitted_reads_statistics_off_the_known_rows() -> None:
    rows = torch.arange(101.0)
    c = torch.zeros(102, 7)
    c[:101, 4], c[101, 4] = rows, nan
    fitted = SPACE.fitted(c)
    age = fitted.concepts[2]
    assert age.center == pytest.approx(50.0)
    assert age.scale == pytest.approx(math.sqrt((101**2 - 1) / 12))
    assert (age.low, age.high) == (pytest.approx(5.0), pytest.approx(95.0))
    assert age.unit == "years"
    assert fitted.concepts[:2] == SPACE.concepts[:2]
    assert fitted.centers.tolist() == [0, 0, 0, 0, 50, 0, 0]


def test_fitted_keeps_scale_one_where_nothing_varies() -> None:
    c = torch.full((5, 7), 3.0)
    assert SPACE.fitted(c).concepts[2].scale == 1.0


def test_widen_and_narrow_go_between_concepts_and_columns() -> None:
    chosen = torch.tensor([[True, False, False, True]])
    wide = SPACE.widen(chosen)
    assert wide.tolist() == [[True, False, False, False, False, True, True]]
    assert torch.equal(SPACE.narrow(wide), chosen)
    assert SPACE.narrow(torch.tensor([[False, False, True, False, False, False, False]])).tolist() == [
        [False, True, False, False]
    ]


def test_keep_takes_concepts_in_the_order_asked() -> None:
    space = ConceptSpace(SPACE.concepts, torch.arange(14.0).view(7, 2))
    kept = space.keep([3, 0])
    assert kept.columns == ("suit=red", "suit=black", "face")
    assert kept.vectors is not None
    assert kept.vectors.tolist() == [[10, 11], [12, 13], [0, 1]]
    assert space.columns_of([1]).tolist() == [1, 2, 3]


def test_json_brings_every_field_back() -> None:
    full = Concept("größe", "continuous", owner="cat", text='as "long"', part="tail", unit="cm", cost=2.5, low=1.0, high=9.0)
    space = ConceptSpace.of(*SPACE.concepts, full)
    back = ConceptSpace.from_json(space.to_json())
    assert back == space
    assert back.concepts[-1] == full
    assert hash(back) == hash(space)
    assert "größe" in space.to_json()


def test_a_concept_of_several_classes_comes_back_with_all_and_one_is_written_as_before() -> None:
    space = ConceptSpace.of(Concept("hooves", owner=("deer", "horse")), Concept("mane", owner="horse"), Concept("grey"))
    back = ConceptSpace.from_json(space.to_json())
    assert back == space and hash(back) == hash(space)
    assert [c.owners for c in back.concepts] == [("deer", "horse"), ("horse",), ()]
    assert '"owner": "horse"' in space.to_json() and '"owner": null' in space.to_json()


def test_two_spaces_differ_when_a_concept_does() -> None:
    assert ConceptSpace.binary("ab") != ConceptSpace.binary("ba")
    assert ConceptSpace.binary("ab") != "ab"


def test_a_value_task_is_put_on_the_unit_scale_and_back() -> None:
    y = torch.tensor([10.0, 20.0, 30.0, nan])
    task = Task.value("price", "euro").fitted(y)
    assert (task.center, task.scale) == (pytest.approx(20.0), pytest.approx(math.sqrt(200 / 3)))
    logits = ((y[:3] - task.center) / task.scale)[:, None]
    assert task.predict(logits).tolist() == pytest.approx([10.0, 20.0, 30.0])
    assert task.probabilities(logits).shape == (3, 1)
    assert task.unit == "euro"


def test_decisions_and_probabilities_by_kind() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.0]])
    classes, labels = Task.classes("abc"), Task.labels("abc")
    assert classes.predict(logits).tolist() == [0]
    assert classes.probabilities(logits).sum().item() == pytest.approx(1.0)
    assert labels.predict(logits).tolist() == [[1.0, 0.0, 0.0]]
    assert labels.probabilities(logits)[0, 2].item() == 0.5
    assert classes.fitted(torch.zeros(3)) is classes
