"""Veils over single cards: what they change, what they leave, and that the record says how much."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from isthmus.data.table import Splits
from isthmus.data.worlds.poker import poker
from isthmus.data.worlds.veils import GREY, Veils, blurred, draw_veils
from isthmus.errors import OptionError, UnknownName


def small(**options: Any) -> Splits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few hands: some cards never come
        return poker(**({"train": 60, "validation": 5, "test": 5} | options))


def ambiguity(splits: Splits) -> np.ndarray:
    assert splits.train.facts is not None
    return splits.train.facts["ambiguity"].numpy()


def in_box(where: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) bool of one box."""
    x0, y0, x1, y1 = where.astype(int)
    inside = np.zeros((height, width), dtype=bool)
    inside[y0:y1, x0:x1] = True
    return inside


@pytest.mark.parametrize("veil", ["both", "blur", "occlusion"])
def test_only_veiled_cards_look_different(veil: str) -> None:
    plain, veiled = small(), small(ambiguous=0.4, veil=veil)
    assert plain.train.facts is None
    record = ambiguity(veiled)
    where = veiled.train.where.numpy()  # type: ignore[union-attr]
    for name in ("c", "y", "where"):
        np.testing.assert_array_equal(getattr(plain.train, name).numpy(), getattr(veiled.train, name).numpy())
    changed = (plain.train.x != veiled.train.x).any(1).numpy()
    there = ~np.isnan(record)
    np.testing.assert_array_equal(there, plain.train.c.numpy() == 1)  # type: ignore[union-attr]
    for row, card in np.argwhere(there):
        inside = in_box(where[row, card], 56, 112)
        if record[row, card] == 0 or record[row, card] > 0.05:  # the faintest blurs change no grey level
            assert changed[row][inside].any() == (record[row, card] > 0)
    for row in range(60):
        boxes = [in_box(where[row, card], 56, 112) for card in np.flatnonzero(record[row] > 0)]
        assert not changed[row][~np.any(boxes, axis=0) if boxes else slice(None)].any()
    assert (record[there] > 0).mean() == pytest.approx(0.4, abs=0.12)


def test_the_record_of_a_band_is_the_grey_share_of_the_box() -> None:
    veiled = small(ambiguous=1.0, veil="occlusion")
    record, where = ambiguity(veiled), veiled.train.where.numpy()  # type: ignore[union-attr]
    grey = (veiled.train.x.numpy() == GREY).all(1)
    for row, card in np.argwhere(~np.isnan(record)):
        assert grey[row][in_box(where[row, card], 56, 112)].mean() == pytest.approx(record[row, card], abs=0.003)
    known = record[~np.isnan(record)]
    assert known.min() < 0.1
    assert known.max() > 0.9
    assert known.mean() == pytest.approx(0.5, abs=0.08)


def test_a_stronger_blur_leaves_less_contrast() -> None:
    """The standard deviation of grey levels in a card falls with the level that is recorded."""
    veiled, plain = small(ambiguous=1.0, veil="blur"), small()
    record, where = ambiguity(veiled), veiled.train.where.numpy()  # type: ignore[union-attr]
    level, left = [], []
    for row, card in np.argwhere(~np.isnan(record)):
        inside = in_box(where[row, card], 56, 112)
        one, two = (part.train.x[row, 1].numpy()[inside].astype(float).std() for part in (veiled, plain))
        level.append(record[row, card])
        left.append(one / two)
    assert np.corrcoef(level, left)[0, 1] < -0.7
    assert np.mean(np.array(left)[np.array(level) > 0.9]) < 0.3


@given(strength=st.floats(0.01, 1), probability=st.floats(0, 1), seed=st.integers(0, 20))
@settings(max_examples=25)
def test_levels_stay_in_their_range_and_a_card_has_one_veil(strength: float, probability: float, seed: int) -> None:
    made = draw_veils(50, 3, np.random.default_rng(seed), ambiguous=probability, veil="both", strength=strength)
    assert not ((made.blur > 0) & (made.cover > 0)).any()
    level = np.maximum(made.blur, made.cover)
    assert level.min() >= 0
    assert level.max() <= strength
    assert abs((level > 0).mean() - probability) < 5 * np.sqrt(0.25 / 150)


def test_a_higher_probability_veils_more_cards_and_keeps_the_veils_there_were() -> None:
    few, many = (draw_veils(80, 3, np.random.default_rng(0), ambiguous=p, veil="both", strength=1.0) for p in (0.2, 0.6))
    veiled = few.blur + few.cover > 0
    np.testing.assert_array_equal(few.blur[veiled], many.blur[veiled])
    np.testing.assert_array_equal(few.cover[veiled], many.cover[veiled])


def test_suit_and_rank_of_a_place_share_the_veil_of_its_card() -> None:
    cards, blocks = small(ambiguous=0.5), small(ambiguous=0.5, concepts="suit-rank")
    by_place, by_card = ambiguity(blocks), ambiguity(cards)
    assert by_place.shape == (60, 6)
    np.testing.assert_array_equal(by_place[:, ::2], by_place[:, 1::2])
    for row in range(60):
        assert sorted(by_place[row, ::2]) == sorted(by_card[row][~np.isnan(by_card[row])])


def test_overlapping_cards_share_a_veil() -> None:
    boxes = np.array([[[0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10]]], dtype=np.float32)
    picture = np.random.default_rng(0).uniform(0, 255, (1, 10, 30, 3)).astype(np.float32)
    zero = np.zeros((1, 3))
    covered = Veils(zero, np.array([[1.0, 0, 0]]), zero)
    assert covered.lay(picture.copy(), boxes).tolist() == [[1.0, 0.5, 0.0]]
    half = Veils(np.array([[0, 0.6, 0]]), np.array([[0.5, 0, 0]]), zero)
    np.testing.assert_allclose(half.lay(picture, boxes), [[0.5 + 0.25 * 0.6, 0.25 + 0.75 * 0.6, 0]], atol=1e-6)


def test_the_blur_is_a_gaussian_inside_and_keeps_a_flat_picture() -> None:
    rng = np.random.default_rng(1)
    picture = rng.uniform(0, 255, (60, 70, 3)).astype(np.float32)
    expected = gaussian_filter(picture, (2, 2, 0), truncate=8)
    np.testing.assert_allclose(blurred(picture, 2.0)[20:40, 20:50], expected[20:40, 20:50], atol=1e-2)
    np.testing.assert_allclose(blurred(np.full((9, 7, 3), 40, np.float32), 3.0), 40, rtol=1e-5)


def test_facts_follow_the_rows_and_the_card_says_that_there_are_veils() -> None:
    veiled = small(ambiguous=0.3)
    part = veiled.train.take([4, 1])
    assert part.facts is not None
    np.testing.assert_array_equal(part.facts["ambiguity"].numpy(), ambiguity(veiled)[[4, 1]])
    assert veiled.card is not None
    assert "veiled with probability 0.3" in veiled.card.notes


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"ambiguous": 1.1}, OptionError, "ambiguous: expected a probability"),
        ({"ambiguous": 0.1, "strength": 0.0}, OptionError, "strength: expected the largest level"),
        ({"veil": "blurr"}, UnknownName, "blur"),
    ],
)
def test_what_is_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        small(**options)
