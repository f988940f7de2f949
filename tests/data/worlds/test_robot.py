from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from isthmus.data.worlds.figures import ATTRIBUTES, PAIRS, colour, figure
from isthmus.data.worlds.robot import SHARES, catalogue, concepts_of, draw, robot, sample, score, space_of
from isthmus.errors import OptionError, UnknownName

NAMES = list(ATTRIBUTES)
BASE = {name: values[0] for name, values in ATTRIBUTES.items()}


def named(row: np.ndarray) -> dict[str, str]:
    return {name: ATTRIBUTES[name][value] for name, value in zip(NAMES, row, strict=True)}


def test_the_catalogue_has_every_robot_once() -> None:
    robots = catalogue()
    assert robots.shape == (7680, 9)
    assert len(np.unique(robots, axis=0)) == 7680


def test_the_score_is_the_published_rule() -> None:
    for row, value in zip(catalogue()[::7], score(catalogue()[::7]), strict=True):
        one = named(row)
        expected = 5 * (one["mouth"] == "closed") + 8 * one["foot"].startswith("pointy") - 5 * (one["knees"] == "yes") + 2
        assert value == expected


def test_labels_follow_the_rule_up_to_its_own_noise() -> None:
    _, _, test = sample(train=100, validation=100, test=30520, seed=0)
    negative = np.array(
        [r["mouth"] == "open" and r["foot"].startswith("flat") and r["knees"] == "yes" for r in map(named, test.robots)]
    )
    assert (test.y[negative] == 0).all()
    assert (test.y[~negative] == 1).mean() > 0.999
    assert abs(test.y.mean() - 0.875) < 0.003


def test_published_sizes_and_the_skew_of_training_feet() -> None:
    train, validation, test = sample(train=3800, validation=3384, test=10000, seed=1014)
    feet = [
        dict(zip(ATTRIBUTES["foot"], np.bincount(part.robots[:, -1], minlength=10), strict=True))
        for part in (train, validation, test)
    ]
    assert [feet[0][name] for name in SHARES] == [int(3800 * share) for share in SHARES.values()]
    assert sum(feet[0].values()) == 3800 == sum(feet[0][name] for name in SHARES)
    assert all(feet[1][name] > 200 for name in feet[1] if SHARES.get(name) != 0.49)
    assert all(abs(count - 1000) < 120 for count in feet[2].values())
    assert (len(validation.y), len(test.y)) == (3384, 10000)
    even = sample(train=3800, validation=100, test=100, seed=0, skew=False)[0]
    assert np.bincount(even.robots[:, -1], minlength=10).min() > 280


def test_no_row_is_in_two_splits_and_the_test_rows_stand_whatever_the_rest() -> None:
    parts = sample(train=3800, validation=16920, test=10000, seed=3)
    robots = np.concatenate([part.robots for part in parts])
    assert (np.unique(robots, axis=0, return_counts=True)[1] == 4).all()
    again = sample(train=50, validation=20, test=10000, seed=3)[2]
    np.testing.assert_array_equal(parts[2].robots, again.robots)
    np.testing.assert_array_equal(parts[2].y, again.y)
    assert (sample(train=50, validation=20, test=100, seed=4)[2].robots != again.robots[:100]).any()


def test_concepts_say_what_the_robot_is() -> None:
    rows = catalogue()[::11]
    for preset, width in (("ideal", 7), ("sub", 12)):
        c, names = concepts_of(rows, preset), space_of(preset).names
        assert c.shape == (len(rows), width) == (len(rows), len(names))
        for row, values in zip(rows, c, strict=True):
            one = named(row)
            truth = {
                "round head": one["head"] == "round",
                "round body": one["body"] == "round",
                "knees": one["knees"] == "yes",
                "antennae": one["antennae"] == "yes",
                "triangle ears": one["ears"] == "triangle",
                "open mouth": one["mouth"] == "open",
                "pointy feet": one["foot"].startswith("pointy"),
            } | {f"{foot} feet": one["foot"] == foot for foot in ATTRIBUTES["foot"]}
            assert values.tolist() == [float(truth[name]) for name in names]


def test_twelve_true_concepts_cannot_exceed_95_percent_on_even_feet() -> None:
    robots = catalogue()
    y = score(robots) > 0
    codes = np.unique(concepts_of(robots, "sub"), axis=0, return_inverse=True)[1]
    best = sum(
        max((y[codes == code]).mean(), 1 - (y[codes == code]).mean()) * (codes == code).sum() for code in range(codes.max() + 1)
    )
    assert best / len(robots) == pytest.approx(0.95)


@pytest.mark.parametrize("name", NAMES)
def test_every_attribute_changes_the_picture_for_each_of_its_values(name: str) -> None:
    covers = [figure(BASE | {name: value}) for value in ATTRIBUTES[name]]
    for index, one in enumerate(covers):
        for other in covers[:index]:
            assert np.abs(one - other).max() > 0.2


def test_coverage_sums_to_one_and_takes_the_colours() -> None:
    cover = figure(BASE)
    np.testing.assert_allclose(cover.sum(0), 1, atol=1e-6)
    one, two = colour(np.stack([cover, cover]), PAIRS[:2])
    fill = cover[1] > 0.999
    np.testing.assert_allclose(one[:, fill].T, np.broadcast_to(PAIRS[0, 0], (fill.sum(), 3)), rtol=1e-5)
    np.testing.assert_allclose(two[:, fill].T, np.broadcast_to(PAIRS[1, 0], (fill.sum(), 3)), rtol=1e-5)


def test_hidden_knees_cannot_be_seen_and_drawn_knees_can() -> None:
    rows = sample(train=200, validation=1, test=1, seed=0)[0]
    flipped = rows.robots.copy()
    flipped[:, NAMES.index("knees")] ^= 1
    other = type(rows)(flipped, rows.y, rows.pair, rows.shift)
    np.testing.assert_array_equal(draw(rows), draw(other))
    assert (draw(rows, knees="drawn") != draw(other, knees="drawn")).any((1, 2, 3)).all()


def test_the_shift_moves_the_whole_robot() -> None:
    rows = sample(train=40, validation=1, test=1, seed=0)[0]
    still = draw(type(rows)(rows.robots, rows.y, rows.pair, np.zeros_like(rows.shift)))
    for moved, rest, (x, y) in zip(draw(rows), still, rows.shift, strict=True):
        np.testing.assert_array_equal(moved, np.roll(rest, (y, x), axis=(1, 2)))
    ink = still.min(1) < 100
    assert not ink[:, :2].any()
    assert not ink[:, -2:].any()
    assert not ink[:, :, :2].any()
    assert not ink[:, :, -2:].any()


def test_both_presets_have_the_same_rows_and_the_wrapper_their_shapes() -> None:
    sizes = {"train": 300, "validation": 30, "test": 40}
    ideal, sub = robot(**sizes), robot(preset="sub", **sizes)
    for part in ("train", "validation", "test"):
        one, two = getattr(ideal, part), getattr(sub, part)
        np.testing.assert_array_equal(one.x.numpy(), two.x.numpy())
        np.testing.assert_array_equal(one.y.numpy(), two.y.numpy())
    assert tuple(ideal.train.x.shape) == (300, 3, 64, 64)
    assert tuple(sub.train.c.shape) == (300, 12)
    assert ideal.task.names == ("drent", "glorp")
    assert robot(size=32, **sizes).train.x.shape[-1] == 32
    assert robot(**sizes).train.fingerprint() == ideal.train.fingerprint()
    assert robot(seed=1, **sizes).train.fingerprint() != ideal.train.fingerprint()


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"preset": "idea"}, UnknownName, "did you mean 'ideal'"),
        ({"knees": "hiden"}, UnknownName, "did you mean 'hidden'"),
        ({"size": 8}, OptionError, "size: expected 16 to 256"),
        ({"train": 0}, OptionError, "train: expected at least 1"),
        ({"train": 20000}, OptionError, "at most 30720"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as error:
        robot(**options)
    assert "\n" not in str(error.value)
