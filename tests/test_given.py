"""Given: corrections by name, what is refused, and holding: bit for bit, with the rest of a block renormalised."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given as draws
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nan

from isthmus.errors import DataError, IsthmusError, UnknownName
from isthmus.given import Batch, Given, everything, given, hold, nothing, randomly, reveal
from isthmus.space import Concept, ConceptSpace

SPACE = ConceptSpace.of(
    Concept("face"),
    Concept("rank", "categorical", ("ace", "two", "three")),
    Concept("age", "continuous", center=50.0, scale=10.0),
    Concept("suit", "categorical", ("red", "black")),
)
FACE, ACE, TWO, THREE, AGE, RED, BLACK = range(7)


def told(rows: int = 1, **known: Any) -> Given:
    return given(SPACE, {name.replace("_", "="): value for name, value in known.items()}, rows)


def test_a_state_by_name_fixes_its_block() -> None:
    for known in ({"rank": "two"}, {"rank=two": 1}, {"rank=two": True}):
        made = given(SPACE, known)
        assert made.mask.tolist() == [[False, True, True, True, False, False, False]]
        assert made.values[0, ACE : THREE + 1].tolist() == [0, 1, 0]


def test_a_state_given_zero_is_held_alone() -> None:
    made = told(rank_two=0)
    assert made.mask.nonzero().tolist() == [[0, TWO]]
    assert made.values[0, TWO] == 0


def test_numbers_soft_values_and_unknowns() -> None:
    made = told(rows=3, face=0.25, age=61, suit=None, rank=nan)
    assert made.values.shape == made.mask.shape == (3, 7)
    assert made.mask[0].nonzero().flatten().tolist() == [FACE, AGE]
    assert made.values[2, [FACE, AGE]].tolist() == [0.25, 61]


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"fcae": 1}, ("did you mean 'face'",)),
        ({"rank": "twoo"}, ("did you mean 'two'", "'rank'")),
        ({"rank=twoo": 1}, ("did you mean 'rank=two'",)),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(known: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UnknownName) as error:
        given(SPACE, known)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"face": 2}, ("'face'", "0 to 1", "got 2")),
        ({"face": -0.1}, ("'face'", "0 to 1")),
        ({"face": "yes"}, ("'face'", "'yes'")),
        ({"age": math.inf}, ("'age'", "finite")),
        ({"rank=ace": 0.7, "rank=two": 0.7}, ("'rank'", "sum to 1.4")),
        ({"rank=ace": 0, "rank=two": 0, "rank=three": 0}, ("'rank'", "sum to 0")),
        ({"rank=ace": 0.2, "rank=two": 0.2, "rank=three": 0.2}, ("'rank'", "sum to 0.6")),
        ({"rank": 7}, ("'rank'", "ace")),
        ({"face": [1, 0]}, ("'face'",)),
        ({"face": 1 + 2j}, ("'face'",)),
        ({"age": 10**400}, ("'age'",)),
    ],
)
def test_what_cannot_be_given_is_named(known: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(IsthmusError) as error:
        given(SPACE, known)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


ones, holds = torch.ones(2, 7), torch.ones(2, 7, dtype=torch.bool)


@pytest.mark.parametrize(
    ("values", "mask", "words"),
    [
        (torch.ones(2, 6), holds, ("values", "(2, 7)", "(2, 6)")),
        (ones, holds[:, :6], ("mask", "(2, 6)")),
        (torch.ones(3, 7), holds, ("values", "(3, 7)")),
        (torch.ones(7), holds, ("values", "(7,)")),
        (torch.ones(2, 7, 1), holds, ("values", "(2, 7, 1)")),
        (ones, torch.ones(2, 7), ("mask", "bool")),
        (ones * nan, holds, ("'face', row 0", "nan")),
        (ones.to(torch.complex64), holds, ("values", "real numbers", "complex64")),
    ],
)
def test_check_refuses_the_wrong_shape_or_type(values: Tensor, mask: Tensor, words: tuple[str, ...]) -> None:
    with pytest.raises(DataError) as error:
        Given(values, mask).check(SPACE, 2)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("wrong", [[[1.0] * 7], None, "face"])
def test_check_refuses_what_is_no_tensor(wrong: Any) -> None:
    with pytest.raises(DataError, match="given values: expected a tensor"):
        Given(wrong, holds).check(SPACE, 2)
    with pytest.raises(DataError, match="given mask: expected a tensor"):
        Given(ones, wrong).check(SPACE, 2)


def test_what_lies_outside_the_mask_is_not_looked_at() -> None:
    Given(torch.full((1, 7), nan), torch.zeros(1, 7, dtype=torch.bool)).check(SPACE, 5)


def test_hold_writes_bit_for_bit() -> None:
    values = SPACE.activate(torch.randn(4, 7))
    made = told(rank="three", face=0.1, age=61.7)
    held = hold(values, made, SPACE)
    assert torch.equal(held[made.mask.expand(4, 7)], made.values.expand(4, 7)[made.mask.expand(4, 7)])
    assert torch.equal(held[:, RED:], values[:, RED:])
    assert hold(values, None, SPACE) is values


def test_a_state_given_zero_leaves_its_mass_to_the_rest_in_proportion() -> None:
    values = torch.tensor([[0.5, 0.2, 0.5, 0.3, 40.0, 0.9, 0.1]])
    held = hold(values, told(rank_two=0), SPACE)
    assert held[0, ACE : THREE + 1].tolist() == pytest.approx([0.4, 0.0, 0.6])
    assert torch.equal(held[0, RED:], values[0, RED:])


def test_a_soft_state_leaves_the_rest_what_is_left() -> None:
    values = torch.tensor([[0.5, 0.2, 0.5, 0.3, 40.0, 0.9, 0.1]])
    held = hold(values, told(rank_ace=0.5), SPACE)
    assert held[0, ACE : THREE + 1].tolist() == pytest.approx([0.5, 0.3125, 0.1875])


def test_a_block_without_mass_shares_evenly() -> None:
    values = torch.tensor([[0.5, 0.0, 1.0, 0.0, 40.0, 0.9, 0.1]])
    held = hold(values, told(rank_two=0), SPACE)
    assert held[0, ACE : THREE + 1].tolist() == [0.5, 0.0, 0.5]


@settings(max_examples=200, deadline=None)
@draws(st.data())
def test_renormalising_is_the_conditional_distribution(data: st.DataObject) -> None:
    """Oracle: P(state | not the states given 0) by plain arithmetic, for any block and any set that leaves one."""
    width = data.draw(st.integers(2, 6))
    weights = data.draw(st.lists(st.floats(0.01, 1), min_size=width, max_size=width))
    gone = data.draw(st.sets(st.integers(0, width - 1), max_size=width - 1))
    space = ConceptSpace.of(Concept("a"), Concept("b", "categorical", tuple(f"s{i}" for i in range(width))))
    block = [w / sum(weights) for w in weights]
    made = given(space, {f"b=s{i}": 0 for i in gone})
    held = hold(torch.tensor([[0.5, *block]]), made, space)[0, 1:]
    rest = sum(p for i, p in enumerate(block) if i not in gone)
    assert held.tolist() == pytest.approx([0.0 if i in gone else p / rest for i, p in enumerate(block)], abs=1e-6)
    assert all(held[i] == 0 for i in gone)


def test_written_values_replace_concept_units() -> None:
    values, made = torch.zeros(1, 7), told(face=1)
    held = hold(values, made, SPACE, written=torch.full((1, 7), 4.5))
    assert held[0].tolist() == [4.5, 0, 0, 0, 0, 0, 0]


def test_rows_picks_rows_and_leaves_what_is_common() -> None:
    common = told(face=1)
    assert torch.equal(common.rows(torch.tensor([0, 3])).values, common.values)
    each = Given(torch.arange(21.0).view(3, 7), torch.ones(1, 7, dtype=torch.bool)).rows(torch.tensor([2, 0]))
    assert each.values[:, 0].tolist() == [14, 0]
    assert each.mask.shape == (1, 7)


def batch(c: Tensor | None, known: Tensor | None = None) -> Batch:
    return Batch(torch.zeros(3, 2), c, torch.zeros(3, dtype=torch.long), SPACE, known)


def test_everything_gives_what_is_known_and_nothing_gives_none() -> None:
    c = SPACE.encode(torch.tensor([[1, 0, 40.0, 1]] * 3))
    assert nothing(batch(c)) is None
    assert everything(batch(c)).mask.all()
    known = torch.rand(3, 7) > 0.5
    assert torch.equal(everything(batch(c, known)).mask, known)
    with pytest.raises(DataError, match="concept labels"):
        everything(batch(None))


def test_reveal_never_gives_an_unknown_label() -> None:
    c = SPACE.encode(torch.tensor([[1, nan, 40.0, 1]]))
    made = reveal(c, torch.tensor([[True, True, False, True]]), SPACE)
    assert made.mask.tolist() == [[True, False, False, False, False, True, True]]
    made.check(SPACE, 1)


def test_randomly_gives_whole_blocks_at_the_rate_asked() -> None:
    torch.manual_seed(0)
    c = torch.zeros(4000, 7)
    one = Batch(torch.zeros(4000, 1), c, torch.zeros(4000), SPACE)
    mask = randomly(0.25, shared=False)(one).mask
    assert torch.equal(SPACE.widen(SPACE.narrow(mask)), mask)
    assert SPACE.narrow(mask).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert randomly(0.5)(one).mask.shape == (1, 7)
    assert not randomly(0.0)(one).mask.any()
    assert randomly(1.0)(one).mask.all()
    with pytest.raises(DataError, match="0 to 1"):
        randomly(1.5)


def test_corrections_that_contradict_each_other_are_refused() -> None:
    space = ConceptSpace.of(Concept("shape", "categorical", ("a", "b", "c")), Concept("on"))
    for known in ({"shape": "b", "shape=a": 1}, {"on": 1, 1: 0}, {"shape=a": 1, "shape=b": 1}):
        with pytest.raises(DataError, match="contradicts another correction of the same concept"):
            given(space, known)
    assert given(space, {"shape=a": 0.2, "shape=b": 0.3, "on": 1, 1: 1}).mask.tolist() == [[True, True, False, True]]
