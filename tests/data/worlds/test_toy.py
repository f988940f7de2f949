from __future__ import annotations

import numpy as np
import pytest

from isthmus.data.worlds.toy import (
    dot,
    dot_rows,
    plug_in_information,
    tabular_toy,
    tabular_toy_information,
    tabular_toy_redundancy,
    tabular_toy_rows,
    trig,
    trig_rows,
    xor,
    xor_rows,
)
from isthmus.errors import OptionError


def mean_information(rows: int, delta: float, seed: int = 0) -> float:
    _, c, y = tabular_toy_rows(rows, np.random.default_rng(seed), delta)
    return float(np.mean([plug_in_information(column, y) for column in c.T]))


def test_closed_form_at_one_quarter() -> None:
    assert tabular_toy_information(0.25) == pytest.approx(0.25893, abs=5e-6)
    assert tabular_toy_redundancy(0.25) == pytest.approx(0.01875, abs=5e-6)


def test_closed_form_at_the_ends() -> None:
    # independent: P(c = y) = 3/4; fully correlated: the concept is the label
    assert tabular_toy_information(0.0) == pytest.approx(1 + 0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert tabular_toy_information(1.0) == pytest.approx(1.0)
    assert tabular_toy_redundancy(0.0) == pytest.approx(0.0)


@pytest.mark.parametrize("seed", range(5))
def test_plug_in_estimate_on_generated_rows_lands_within_one_hundredth(seed: int) -> None:
    assert abs(mean_information(10000, 0.25, seed) - 0.25893) < 0.01


@pytest.mark.parametrize("delta", [-0.3, 0.0, 0.5, 0.9])
def test_the_estimate_follows_the_closed_form_at_other_correlations(delta: float) -> None:
    assert mean_information(40000, delta) == pytest.approx(tabular_toy_information(delta), abs=0.008)
    _, c, _ = tabular_toy_rows(40000, np.random.default_rng(1), delta)
    assert plug_in_information(c[:, 0], c[:, 1]) == pytest.approx(tabular_toy_redundancy(delta), abs=0.012)


def test_the_data_set_itself_carries_the_stated_information() -> None:
    splits = tabular_toy(delta=0.25)
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part) for part in parts] == [7000, 1000, 2000]
    c = np.concatenate([part.c.numpy() for part in parts])  # type: ignore[union-attr]
    y = np.concatenate([part.y.numpy() for part in parts])  # type: ignore[union-attr]
    assert abs(np.mean([plug_in_information(column, y) for column in c.T]) - 0.25893) < 0.01
    assert tuple(splits.train.x.shape[1:]) == (7,)


def test_plug_in_information_on_known_tables() -> None:
    a = np.array([0, 0, 1, 1])
    assert plug_in_information(a, a) == pytest.approx(1.0)
    assert plug_in_information(np.array([0, 1, 0, 1]), a) == pytest.approx(0.0, abs=1e-12)
    assert plug_in_information(np.arange(4), np.array([0, 1, 1, 1])) == pytest.approx(1.0)
    assert np.isnan(plug_in_information(a, np.zeros(4)))


def test_toy_features_are_the_stated_functions_of_the_latents() -> None:
    x, c, y = tabular_toy_rows(500, np.random.default_rng(0), 0.5)
    for k in range(3):
        # sin(v) + v rises with v and is 0 at 0: its sign is the concept
        np.testing.assert_array_equal(x[:, 2 * k] > 0, c[:, k] == 1)
    np.testing.assert_array_equal(y, (c.sum(1) > 1.5).astype(int))
    latent = np.array([_invert(column) for column in x[:, [0, 2, 4]].T.astype(float)]).T
    np.testing.assert_allclose(x[:, [1, 3, 5]], np.cos(latent) + latent, atol=1e-3)
    np.testing.assert_allclose(x[:, 6], (latent**2).sum(1), atol=1e-2)


def _invert(value: np.ndarray) -> np.ndarray:
    low, high = np.full_like(value, -30.0), np.full_like(value, 30.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = np.sin(middle) + middle < value
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def test_xor_rule_and_its_silence_about_single_concepts() -> None:
    x, c, y = xor_rows(20000, np.random.default_rng(0))
    np.testing.assert_array_equal(c, x > 0.5)
    np.testing.assert_array_equal(y, (c.sum(1) == 1).astype(int))
    assert max(plug_in_information(column, y) for column in c.T) < 0.002
    assert plug_in_information(c @ [1.0, 2.0], y) == pytest.approx(1.0)


def test_trig_rule() -> None:
    x, c, y = trig_rows(2000, np.random.default_rng(0))
    latent = np.array([_invert(column) for column in x[:, [0, 2, 4]].T.astype(float)]).T
    np.testing.assert_array_equal(c, x[:, [0, 2, 4]] > 0)
    clear = np.abs(latent.sum(1) - 1) > 0.02
    np.testing.assert_array_equal(y[clear], (latent.sum(1) > 1)[clear].astype(int))
    assert abs(latent.std() - 2) < 0.1


def test_dot_rule_read_back_from_the_features() -> None:
    x, c, y = dot_rows(2000, np.random.default_rng(0))
    v, w = (x[:, :2] + x[:, 2:]) / 2, (x[:, :2] - x[:, 2:]) / 2
    np.testing.assert_array_equal(c, np.stack([v.sum(1) > 0, w.sum(1) < 0], 1))
    product = (v * w).sum(1)
    np.testing.assert_array_equal(y[np.abs(product) > 1e-3], (product > 0)[np.abs(product) > 1e-3])
    assert abs(v.std() - 2) < 0.1


@pytest.mark.parametrize("build", [tabular_toy, xor, trig, dot])
def test_sizes_and_seed(build: object) -> None:
    one = build(rows=200, seed=3)  # type: ignore[operator]
    assert [len(part) for part in (one.train, one.validation, one.test)] == [140, 20, 40]
    assert build(rows=200, seed=3).train.fingerprint() == one.train.fingerprint()  # type: ignore[operator]
    assert build(rows=200, seed=4).train.fingerprint() != one.train.fingerprint()  # type: ignore[operator]
    with pytest.raises(OptionError, match="rows: expected at least 10"):
        build(rows=5)  # type: ignore[operator]


@pytest.mark.parametrize("delta", [-0.5, 1.0, 2.0])
def test_a_correlation_outside_its_range_is_refused(delta: float) -> None:
    with pytest.raises(OptionError, match="delta: expected"):
        tabular_toy(delta=delta)
