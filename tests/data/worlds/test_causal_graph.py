from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import isthmus.data as data
from isthmus.data.table import Splits
from isthmus.data.worlds.causal_graph import Graph, causal_graph, draw_graph, draw_rows, visible
from isthmus.errors import OptionError

PAPER = {
    "concepts": 100, "inputs": 100, "classes": 100, "groups": 50, "alpha_mean": 0.8, "alpha_std": 0.1, "weight_std": 0.1,
    "noise_std": 2.0,
}  # fmt: skip
SMALL = {"concepts": 12, "inputs": 9, "classes": 6, "groups": 3, "samples_per_class": 20, "noise_std": 0.5, "weight_std": 0.8}


def graph(seed: int = 42, **options: Any) -> Graph:
    return draw_graph(**(PAPER | options), seed=seed)


def small(**options: Any) -> Splits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # with few groups some concepts never vary
        return causal_graph(**(SMALL | options))


def everything(splits: Splits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = (splits.train, splits.validation, splits.test)
    return tuple(np.concatenate([getattr(part, name).numpy() for part in parts]) for name in ("x", "c", "y"))  # type: ignore[return-value]


@given(
    concepts=st.integers(4, 30), groups=st.integers(2, 6), each=st.integers(1, 4), mean=st.floats(0, 1), seed=st.integers(0, 99)
)
@settings(max_examples=40, deadline=None)
def test_classes_of_a_group_differ_by_one_own_concept_each(
    concepts: int, groups: int, each: int, mean: float, seed: int
) -> None:
    made = graph(seed, concepts=concepts, groups=groups, classes=groups * each, alpha_mean=mean, inputs=3)
    for group in range(groups):
        rows = made.classes[group * each : (group + 1) * each]
        for one in range(each):
            for other in range(one):
                assert (rows[one] != rows[other]).sum() == 2
    assert set(np.unique(made.classes)) <= {0, 1}


def test_thresholds_weights_and_noise_have_the_stated_moments() -> None:
    made = graph(concepts=400, inputs=300, groups=500, classes=500)
    # alpha = 0.8 on average: one concept in five is on
    assert made.classes.mean() == pytest.approx(0.2, abs=0.02)
    assert made.weights.std() == pytest.approx(0.1, abs=0.001)
    # the rate of a concept over the groups varies as alpha does, beside the binomial part
    binomial = (made.classes.mean(0) * (1 - made.classes.mean(0)) / 500).mean()
    assert np.sqrt(made.classes.mean(0).var() - binomial) == pytest.approx(0.1, abs=0.012)
    x, c, _ = draw_rows(made, 2, 42)
    noise = x - c @ made.weights.T
    assert noise.std() == pytest.approx(2.0, abs=0.02)
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.15


def test_alpha_without_spread_fixes_the_rate_and_its_ends_are_clipped() -> None:
    for mean, rate in ((1.5, 0), (-0.5, 1), (0.3, 0.7)):
        base = graph(alpha_mean=mean, alpha_std=0.0, groups=100, classes=100).classes
        assert base.mean() == pytest.approx(rate, abs=0.025)


def test_labels_are_class_level_without_diversity_and_instance_level_with_it() -> None:
    splits = small()
    assert splits.card is not None
    assert "class-level" in splits.card.title
    assert "class-level" in splits.card.notes
    _, c, y = everything(splits)
    assert all(len(np.unique(c[y == label], axis=0)) == 1 for label in range(6))
    diverse = small(diversity=0.2)
    assert diverse.card is not None
    assert "instance-level" in diverse.card.title
    assert "probability 0.2" in diverse.card.notes
    _, flipped, y = everything(diverse)
    assert all(len(np.unique(flipped[y == label], axis=0)) > 5 for label in range(6))


def test_turning_a_concept_over_moves_x_by_its_weights_and_keeps_the_noise() -> None:
    made = graph(**{name: SMALL[name] for name in ("concepts", "inputs", "classes", "groups", "noise_std", "weight_std")})
    before, c0, y0 = draw_rows(made, 500, 7)
    after, c1, y1 = draw_rows(made, 500, 7, 0.25)
    np.testing.assert_array_equal(y0, y1)
    np.testing.assert_allclose(after - before, (c1 - c0) @ made.weights.T, atol=1e-12)
    assert (c0 != c1).mean() == pytest.approx(0.25, abs=0.01)
    # a smaller share turns over a part of what a larger one does
    some = draw_rows(made, 500, 7, 0.1)[1] != c0
    assert not (some & (c1 == c0)).any()
    np.testing.assert_array_equal(draw_rows(made, 500, 7, 1.0)[1], 1 - c0)


def test_each_option_changes_what_it_names_and_nothing_else() -> None:
    one, denser = graph(), graph(alpha_mean=0.5)
    np.testing.assert_array_equal(one.weights, denser.weights)
    assert denser.classes.mean() > 0.4
    fewer = graph(groups=10)
    np.testing.assert_array_equal(one.weights, fewer.weights)
    hidden, shown = small(hidden=0.5), small()
    np.testing.assert_array_equal(hidden.train.x.numpy(), shown.train.x.numpy())
    assert hidden.space.count == 6
    names = list(shown.space.names)
    index = [names.index(name) for name in hidden.space.names]
    np.testing.assert_array_equal(hidden.train.c.numpy(), shown.train.c.numpy()[:, index])  # type: ignore[union-attr]
    assert hidden.card is not None
    assert "6 of 12 concepts hidden" in hidden.card.notes


@given(concepts=st.integers(1, 60), hidden=st.floats(0, 0.999), seed=st.integers(0, 9))
@settings(max_examples=50)
def test_hidden_is_a_part_to_the_nearest_concept_and_nested(concepts: int, hidden: float, seed: int) -> None:
    if round((1 - hidden) * concepts) < 1:
        with pytest.raises(OptionError, match="hidden"):
            visible(concepts, hidden, seed)
        return
    kept = visible(concepts, hidden, seed)
    assert abs(len(kept) - (1 - hidden) * concepts) <= 0.5
    assert (np.diff(kept) > 0).all()
    assert set(kept.tolist()) <= set(visible(concepts, hidden / 2, seed).tolist())


def test_a_tenth_of_a_hundred_is_ten() -> None:
    assert len(visible(100, 0.9, 42)) == 10  # int((1 - .9) * 100) would be 9


def test_the_posterior_is_bayes_rule_written_out() -> None:
    made = graph(concepts=5, inputs=4, classes=4, groups=2, weight_std=1.0, noise_std=1.3)
    x, _, _ = draw_rows(made, 3, 1)
    for row, found in zip(x, made.posterior(x), strict=True):
        density = [
            np.prod(np.exp(-((row - made.weights @ vector) ** 2) / (2 * 1.3**2)) / (1.3 * np.sqrt(2 * np.pi)))
            for vector in made.classes
        ]
        np.testing.assert_allclose(found, np.array(density) / np.sum(density), atol=1e-10)


def test_the_posterior_is_calibrated_and_beats_any_other_rule() -> None:
    made = graph(concepts=12, inputs=9, classes=6, groups=3, weight_std=0.8, noise_std=1.0)
    x, _, y = draw_rows(made, 3000, 5)
    p = made.posterior(x)
    assert p.max(1).mean() == pytest.approx((p.argmax(1) == y).mean(), abs=0.012)
    wrong = Graph(1 - made.classes, made.weights, 1.0).posterior(x)
    assert (p.argmax(1) == y).mean() > (wrong.argmax(1) == y).mean() + 0.2


@pytest.mark.filterwarnings("ignore:concept")
def test_the_published_defaults() -> None:
    splits = data.load("causal_graph")
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part) for part in parts] == [7000, 1500, 1500]
    for part, count in zip(parts, (70, 15, 15), strict=True):
        assert (np.bincount(part.y.numpy(), minlength=100) == count).all()  # type: ignore[union-attr]
    assert tuple(splits.train.x.shape) == (7000, 100)
    assert splits.space.count == 100
    # the notes say what the best answer can reach: a figure worked out on these very rows
    x, _, y = everything(splits)
    best = (graph().posterior(x.astype(np.float64)).argmax(1) == y).mean()
    assert splits.card is not None
    assert f"right on {best:.1%} of these rows" in splits.card.notes
    assert 0.2 < best < 0.3


def test_seed() -> None:
    assert small().train.fingerprint() == small().train.fingerprint() != small(seed=1).train.fingerprint()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": 100, "groups": 30}, "a multiple of groups=30, got 100"),
        ({"classes": 1, "groups": 1}, "classes: expected 2 or more"),
        ({"concepts": 0}, "concepts: expected at least 1"),
        ({"groups": 0}, "groups: expected at least 1"),
        ({"concepts": 3, "classes": 8, "groups": 2}, "at most 3 classes a group"),
        ({"noise_std": 0.0}, "noise_std: expected a standard deviation above 0"),
        ({"weight_std": -1.0}, "weight_std: expected a standard deviation of at least 0"),
        ({"alpha_std": float("nan")}, "alpha_std: expected"),
        ({"alpha_mean": float("inf")}, "alpha_mean: expected a finite"),
        ({"hidden": 1.0}, "hidden: expected a part"),
        ({"hidden": 0.999}, "leaves at least 1 of 12"),
        ({"diversity": 1.5}, "diversity: expected a probability"),
        ({"samples_per_class": 0}, "samples_per_class: expected at least 1"),
    ],
)
def test_what_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        small(**options)
    assert said in str(caught.value)
