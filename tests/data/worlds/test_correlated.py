"""The world whose concepts go together: its rule read back from the rows, and its law against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from isthmus.data.worlds.correlated import OWN, THRESHOLD, Law, correlated, law
from isthmus.errors import OptionError


def test_labels_and_features_follow_the_stated_rule() -> None:
    """Read back from what is drawn: y is linear in c, x minus its noise lies in the span of the atoms, c go together."""
    data = correlated(train=4000, noise=0.0, seed=2)
    c, x = data.train.c, data.train.x
    atoms = torch.linalg.lstsq(c, x).solution
    torch.testing.assert_close(c @ atoms, x, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(12), atol=1e-4, rtol=1e-4)
    from sklearn.linear_model import LogisticRegression

    rule = LogisticRegression(C=1e4, max_iter=5000).fit(c.numpy(), data.train.y.numpy())
    assert rule.score(data.test.c.numpy(), data.test.y.numpy()) > 0.97
    apart = torch.corrcoef(c.T).abs() - torch.eye(12)
    assert apart.max() > 0.4
    assert c.mean() == pytest.approx(0.45, abs=0.1)


def test_sizes_seed_and_options() -> None:
    one = correlated(train=50, validation=20, test=30, concepts=5)
    assert [len(part) for part in (one.train, one.validation, one.test)] == [50, 20, 30]
    assert len(one.space) == 5
    again, other = (correlated(train=50, validation=20, test=30, concepts=5, seed=seed) for seed in (0, 1))
    assert again.train.fingerprint() == one.train.fingerprint() != other.train.fingerprint()
    with pytest.raises(OptionError, match="causes: expected at least 1, got 0"):
        correlated(causes=0)


def world(**options: Any) -> Law:
    return law(**({"concepts": 5, "causes": 2} | options))


def orthant(made: Law, said: dict[int, int]) -> float:
    """P(the concepts of ``said`` have these values), from the normal distribution of what is compared with .3."""
    at = list(said)
    sign = np.array([1 if said[k] else -1 for k in at])
    cov = made.mixing[at] @ made.mixing[at].T + np.diag(made.own[at] ** 2)
    upper = -sign * THRESHOLD * np.ones(len(at))
    return float(multivariate_normal.cdf(upper, cov=cov * np.outer(sign, sign), abseps=1e-7, releps=1e-7, rng=0))


def test_rates_do_not_depend_on_strength() -> None:
    full = world()
    np.testing.assert_allclose(full.own, OWN, atol=1e-6)
    for strength in (0.0, 0.4, 1.0):
        made = world(strength=strength)
        deviation = np.sqrt((full.mixing**2).sum(1) + 0.7**2)
        np.testing.assert_allclose(made.marginal(), norm.sf(0.3 / deviation), atol=1e-6)
        np.testing.assert_allclose(made.conditional(np.full((1, 5), np.nan))[0], made.marginal(), atol=1e-6)
        np.testing.assert_allclose(made.mixing, strength**0.5 * full.mixing, atol=1e-6)


def test_the_joint_is_a_distribution_with_the_orthant_probabilities() -> None:
    made = world(concepts=3)
    states, p = made.joint()
    assert states.tolist() == [[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    assert p.sum() == pytest.approx(1)
    for state, found in zip(states, p, strict=True):
        assert found == pytest.approx(orthant(made, dict(enumerate(state.tolist()))), abs=2e-5)


TOLD = st.lists(st.sampled_from([0.0, 1.0, None]), min_size=5, max_size=5)


@given(seed=st.integers(0, 50), strength=st.floats(0, 1), told=TOLD)
@settings(max_examples=25, deadline=None)
def test_conditionals_are_those_of_the_enumerated_joint(seed: int, strength: float, told: list[float | None]) -> None:
    made = world(seed=seed, strength=strength)
    said = np.array([[np.nan if value is None else value for value in told]])
    states, p = made.joint()
    kept = [i for i, state in enumerate(states) if all(v is None or v == s for v, s in zip(told, state, strict=True))]
    by_hand = sum(p[i] * states[i] for i in kept) / sum(p[i] for i in kept)
    np.testing.assert_allclose(made.conditional(said)[0], by_hand, atol=1e-6)


def test_telling_two_concepts_against_the_normal_distribution() -> None:
    made = world()
    said = np.full((1, 5), np.nan)
    said[0, [0, 3]] = 1, 0
    found = made.conditional(said)[0]
    for k in (1, 2, 4):
        expected = orthant(made, {0: 1, 3: 0, k: 1}) / orthant(made, {0: 1, 3: 0})
        assert found[k] == pytest.approx(expected, abs=1e-4)
    assert found[[0, 3]].tolist() == [1, 0]


def test_more_points_change_nothing_at_the_defaults() -> None:
    c = correlated(train=30, validation=30, test=1000).test.c.numpy()[:30].astype(float)  # type: ignore[union-attr]
    told = np.where(np.random.default_rng(0).random(c.shape) < 0.6, c, np.nan)
    np.testing.assert_allclose(law().conditional(told), law().conditional(told, nodes=56), atol=1e-5)


def test_telling_one_says_nothing_at_strength_0_and_ever_more_above() -> None:
    told = np.full((5, 5), np.nan)
    np.fill_diagonal(told, 1.0)
    moved = []
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        made = world(strength=strength)
        off = ~np.eye(5, dtype=bool)
        moved.append(np.abs(made.conditional(told) - made.marginal())[off].mean())
    assert moved[0] < 1e-6
    assert (np.diff(moved) > 0.01).all()


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_rows_follow_the_law(strength: float) -> None:
    options = {"concepts": 4, "causes": 2, "strength": strength, "seed": 3}
    made, train = law(**options), correlated(train=40_000, **options).train
    c, x = (part.numpy().astype(float) for part in (train.c, train.x))  # type: ignore[union-attr]
    _, p = made.joint()
    counts = np.bincount((c @ [8, 4, 2, 1]).astype(int), minlength=16) / len(c)
    assert np.abs(counts - p).max() < 4 * np.sqrt(0.25 / len(c))
    assert (x - c @ made.atoms).std() == pytest.approx(0.6, abs=0.005)


def test_the_posterior_is_bayes_rule_written_out() -> None:
    made, test = world(concepts=3), correlated(concepts=3, causes=2, train=20, validation=20, test=20).test
    c, x = (part.numpy().astype(float)[:6] for part in (test.c, test.x))  # type: ignore[union-attr]
    told = np.full_like(c, np.nan)
    told[3:, 1] = c[3:, 1]
    states, p = made.joint()
    for row, said, found in zip(x, told, made.posterior(x, told), strict=True):
        total, on = 0.0, np.zeros(3)
        for state, prior in zip(states, p, strict=True):
            if np.isnan(said[1]) or said[1] == state[1]:
                mass = prior * np.prod(norm.pdf(row, state @ made.atoms, 0.6))
                total, on = total + mass, on + mass * state
        np.testing.assert_allclose(found, on / total, atol=1e-9)


def test_told_concepts_help_those_nobody_told() -> None:
    test = correlated(test=800).test
    c, x = (part.numpy().astype(float) for part in (test.c, test.x))  # type: ignore[union-attr]
    told = np.full_like(c, np.nan)
    told[:, :8] = c[:, :8]
    without, given_them = (law().posterior(x, said)[:, 8:] for said in (np.full_like(c, np.nan), told))
    right = [((p > 0.5) == c[:, 8:]).mean() for p in (without, given_them)]
    assert right[1] > right[0] + 0.01
    # calibrated: the best answer is right as often as it says
    assert np.maximum(given_them, 1 - given_them).mean() == pytest.approx(right[1], abs=0.02)


def test_the_card_says_a_weaker_strength() -> None:
    cards = [correlated(train=50, strength=strength).card for strength in (1.0, 0.5)]
    assert [card.title for card in cards if card] == ["Concepts that go together", "Concepts that go together, strength 0.5"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concepts": 0}, "concepts: expected at least 1"),
        ({"strength": 1.2}, "strength: expected 0"),
        ({"strength": -0.1}, "strength: expected 0"),
        ({"train": 0}, "train: expected at least 1"),
    ],
)
def test_what_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        correlated(**options)
    assert said in str(caught.value)


def test_what_the_law_refuses() -> None:
    with pytest.raises(OptionError, match="at most 16 to enumerate"):
        world(concepts=17).joint()
    with pytest.raises(OptionError, match="nodes: expected at least 2"):
        world().joint(nodes=1)
    with pytest.raises(OptionError, match="noise: expected a standard deviation above 0"):
        world(noise=0.0)
