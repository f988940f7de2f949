"""Purity against scikit-learn's AUC pair by pair; OIS and NIS where the answer is known; niches and MPO by listing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from isthmus import metrics
from isthmus.errors import DataError, OptionError
from isthmus.metrics import resamples
from isthmus.metrics.concept import Kinds
from isthmus.metrics.core import Ranked
from isthmus.metrics.leakage import unleaked
from isthmus.metrics.purity import aucs, halves, mispredicted, niches, purity

SEEDS = st.integers(0, 10_000)


def world(seed: int, n: int = 300, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(n, k)) + 0.5 * draw.normal(size=(n, 1))
    return (z > 0).astype(float), z + draw.normal(size=(n, k)) * 0.5


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_matrices_are_the_auc_of_each_pair(seed: int) -> None:
    c, v = world(seed)
    v = v.round(1)  # ties
    c[np.random.default_rng(seed).random(c.shape) < 0.1] = np.nan
    found, oracle = purity(c, v)
    for i in range(4):
        for j in range(4):
            rows = ~np.isnan(c[:, j])
            want = roc_auc_score(c[rows, j], v[rows, i])
            assert found[i, j] == pytest.approx(max(want, 1 - want), abs=1e-12)
            want = roc_auc_score(c[rows, j], np.where(np.isnan(c[rows, i]), 0.5, c[rows, i]))
            assert oracle[i, j] == pytest.approx(max(want, 1 - want), abs=1e-12)
    assert metrics.ois(c, v) == pytest.approx(2 / 4 * np.linalg.norm(found - oracle), abs=1e-12)


@given(SEEDS, st.permutations([0, 1, 2, 3]))
@settings(max_examples=10, deadline=None)
def test_true_concepts_are_pure_and_order_does_not_matter(seed: int, order: list[int]) -> None:
    c, v = world(seed)
    assert metrics.ois(c, c) == 0 and metrics.ois(c, 1 - c) == pytest.approx(0, abs=1e-12)
    assert metrics.ois(c, v) == pytest.approx(metrics.ois(c[:, order], v[:, order]), abs=1e-12)
    assert metrics.nis(c, v) == pytest.approx(metrics.nis(c[:, order], v[:, order]), abs=1e-9)


def test_random_columns_tell_nothing() -> None:
    draw = np.random.default_rng(0)
    c = (draw.random((4000, 5)) < 0.5).astype(float)
    noise = draw.normal(size=c.shape)
    assert np.abs(aucs(noise, c) - 0.5).max() < 0.04
    assert metrics.ois(c, noise) == pytest.approx(2 / 5 * (5 * 0.25) ** 0.5, abs=0.03)  # the diagonal is .5 short
    assert metrics.nis(c, noise) == pytest.approx(0.5, abs=0.02)


def test_one_column_that_knows_all_is_impure() -> None:
    """Every column the same mix: the niche is empty or everything, so nothing is told outside it but by the mix itself."""
    draw = np.random.default_rng(1)
    c = (draw.random((3000, 4)) < 0.5).astype(float)
    mixed = np.repeat((c @ [1, 2, 4, 8])[:, None], 4, 1)
    assert metrics.ois(c, mixed) > 2 * metrics.ois(c, c + draw.normal(size=c.shape) * 0.3)
    noise = draw.normal(size=c.shape) * 0.7
    spread = c + c[:, [1, 2, 3, 0]] * 0.7  # each concept also stands in the column before it
    assert metrics.nis(c, spread + noise) > metrics.nis(c, c + noise) + 0.05


def test_quantiles_see_what_ranks_cannot_and_vectors_are_probed() -> None:
    draw = np.random.default_rng(2)
    z = draw.normal(size=(3000, 3))
    c = (np.abs(z) > 0.67).astype(float)
    assert metrics.ois(c, z) > 0.5 and metrics.ois(c, z, probe="bins") < 0.06
    vectors = np.stack([draw.normal(size=z.shape), np.abs(z)], -1)
    assert metrics.ois(c, vectors) < 0.06
    found, _ = purity(c, vectors)
    at = halves(len(c))[1]
    fit = np.setdiff1d(np.arange(len(c)), at)
    probe = Ridge(alpha=1e-3 * len(fit)).fit((vectors[fit, 1] - vectors[fit, 1].mean(0)) / vectors[fit, 1].std(0), c[fit, 1])
    score = probe.predict((vectors[at, 1] - vectors[fit, 1].mean(0)) / vectors[fit, 1].std(0))
    assert found[1, 1] == pytest.approx(roc_auc_score(c[at, 1], score), abs=1e-9)


def test_the_interval_is_that_of_resampled_rows() -> None:
    c, v = world(3, 400)
    weights = resamples(400, 200)
    exact = np.stack([Ranked(v[:, i], c[:, j] > 0.5, np.ones(400, bool)).under(weights) for i in range(4) for j in range(4)], 1)
    exact = np.maximum(exact, 1 - exact)
    oracle = np.stack(
        [Ranked(c[:, i], c[:, j] > 0.5, np.ones(400, bool)).under(weights) for i in range(4) for j in range(4)], 1
    )
    want = 0.5 * np.linalg.norm(exact - np.maximum(oracle, 1 - oracle), axis=1)
    got = metrics.ois.weighted(c, v).under(weights)
    assert got.std() == pytest.approx(want.std(), rel=0.1) and np.abs(got - want).max() < 0.01


def test_concepts_of_one_answer_are_left_out() -> None:
    c, v = world(4)
    wide = np.c_[c, np.ones(len(c))], np.c_[v, np.random.default_rng(0).normal(size=len(c))]
    assert metrics.ois(*wide) == pytest.approx(metrics.ois(c, v), abs=1e-12)
    assert np.isnan(metrics.ois(np.ones((20, 2)), np.zeros((20, 2)))) and np.isnan(
        metrics.nis(np.ones((20, 2)), np.zeros((20, 2)))
    )


def test_resamples_that_lose_a_concept_are_not_pure_of_it() -> None:
    """A rare concept that every column tells: without its one row the score is that of the other concepts."""
    c, v = world(3, 400)
    c[:, 3] = np.arange(400) == 7
    v[:, 0] += 50 * c[:, 3]
    lost = np.ones((2, 400))
    lost[0, 7] = 0
    keep = np.arange(400) != 7
    found = metrics.ois.weighted(c, v).under(lost)
    assert found[0] == pytest.approx(metrics.ois(c[keep][:, :3], v[keep][:, :3]), abs=0.02)
    assert found[1] == pytest.approx(metrics.ois(c, v), abs=1e-9)
    assert np.isnan(metrics.ois.weighted(c, v).under(resamples(400, 5, groups=["one"] * 400))).all()


@pytest.mark.parametrize("unknown", [0.25, 0.75, 0.9])
def test_unknown_labels_do_not_make_pure_columns_impure(unknown: float) -> None:
    draw = np.random.default_rng(0)
    c = (draw.random((4000, 6)) < 0.5).astype(float)
    v = c + draw.normal(size=c.shape) * 0.1
    hidden = np.where(draw.random(c.shape) < unknown, np.nan, c)
    assert metrics.nis(hidden, v) == pytest.approx(metrics.nis(c, v), abs=0.05)
    for j in range(6):
        rows = ~np.isnan(hidden[:, j])
        want = [abs(np.corrcoef(v[rows, i], hidden[rows, j])[0, 1]) > 0.05 for i in range(6)]
        assert niches(hidden, v, above=0.05)[:, j].tolist() == want


def test_a_concept_known_as_present_alone_is_left_out() -> None:
    c, v = world(6)
    wide = np.c_[c, np.where(c[:, 0] > 0.5, 1, np.nan)], np.c_[v, v[:, 0]]
    assert np.isfinite(metrics.nis(*wide))


def test_states_of_one_concept_share_a_niche() -> None:
    draw = np.random.default_rng(1)
    state, other = draw.integers(0, 4, 4000), draw.integers(0, 2, 4000).astype(float)
    c = np.c_[np.eye(4)[state], other]
    v = c + draw.normal(size=c.shape) * 0.1
    assert metrics.nis(c, v) > 0.6  # three columns tell the fourth
    assert metrics.nis(c, v, blocks=[[0, 1, 2, 3]]) == pytest.approx(0.5, abs=0.03)
    inside = niches(c, v, blocks=[[0, 1, 2, 3]])
    np.testing.assert_array_equal(inside, np.kron([[1, 0], [0, 1]], np.ones((4, 4)))[:5, :5] > 0)
    vectors = np.stack([v, draw.normal(size=v.shape)], -1)
    assert metrics.nis(c, vectors, blocks=[[0, 1, 2, 3]]) == pytest.approx(0.5, abs=0.03)
    with pytest.raises(DataError, match="as many columns"):
        niches(c, v[:, :4], blocks=[[0, 1]])


@given(SEEDS, st.sampled_from([0.0, 0.5]), st.integers(3, 12))
@settings(max_examples=12, deadline=None)
def test_the_control_of_nis_is_that_of_its_own_predictors(seed: int, shared: float, k: int) -> None:
    """Columns that hold their own label and noise score their control, however labels go together; those that leak more."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(4000, k)) * (1 - shared) ** 0.5 + draw.normal(size=(4000, 1)) * shared**0.5
    c, kinds = (z > 0).astype(float), Kinds(tuple(range(k)), ())
    honest = 2 * c + draw.normal(size=c.shape)
    clean = unleaked(c, honest, kinds)
    assert metrics.nis(c, honest) == pytest.approx(metrics.nis(c, honest, asked=clean), abs=0.02)
    leaking = honest + 1.4 * c[:, np.r_[1:k, 0]]
    assert metrics.nis(c, leaking) > metrics.nis(c, leaking, asked=unleaked(c, leaking, kinds)) + 0.015
    assert metrics.nis(c, honest, asked=honest) == metrics.nis(c, honest)


def test_whole_groups_are_cut() -> None:
    """Vectors that name the patient tell the labels of patients seen, and nothing of others."""
    draw = np.random.default_rng(0)
    patient = draw.integers(0, 40, 1600)
    c = (draw.random((40, 3)) < 0.5).astype(float)[patient]
    names = [f"p{p}" for p in patient]
    fit, at = halves(1600, groups=names)
    assert not {names[row] for row in fit} & {names[row] for row in at}
    assert sorted([*fit, *at]) == list(range(1600)) and 700 < len(fit) < 900
    vectors = np.repeat(np.eye(40)[patient][:, None], 3, 1)
    assert metrics.nis(c, vectors) > 0.6 > metrics.nis(c, vectors, groups=names)
    assert purity(c, vectors)[0][0, 0] == 1 > purity(c, vectors, groups=names)[0][0, 0] + 0.3
    assert np.isnan(metrics.nis(c, vectors, groups=["one"] * 1600)) and not len(halves(1600, groups=["one"] * 1600)[0])
    assert np.isnan(metrics.ois(c, vectors, groups=["one"] * 1600))
    with pytest.raises(DataError, match="halves, groups: expected a group for each of 1600 rows, got 3"):
        metrics.nis(c, vectors, groups=["a", "b", "c"])


@given(SEEDS, st.permutations(range(6)))
@settings(max_examples=15, deadline=None)
def test_the_order_of_concepts_does_not_matter_where_labels_are_unknown(seed: int, order: list[int]) -> None:
    draw = np.random.default_rng(seed)
    state, z = draw.integers(0, 3, 400), draw.normal(size=(400, 3)) + 0.5 * draw.normal(size=(400, 1))
    c = np.c_[np.eye(3)[state], z > 0]
    v = np.round(c + 0.7 * draw.normal(size=c.shape), 1)
    c[draw.random(400) < 0.3, :3] = np.nan
    c[:, 3:] = np.where(draw.random((400, 3)) < [0.1, 0.5, 0.8], np.nan, c[:, 3:])
    place = np.argsort(order)
    blocks, moved = [[0, 1, 2]], [[int(place[k]) for k in (0, 1, 2)]]
    for one, two in ((blocks, moved), ([], [])):
        assert metrics.nis(c, v, blocks=one) == pytest.approx(metrics.nis(c[:, order], v[:, order], blocks=two), abs=1e-9)
        found, again = niches(c, v, above=[0, 0.2], blocks=one), niches(c[:, order], v[:, order], above=[0, 0.2], blocks=two)
        np.testing.assert_array_equal(found[:, order][..., order], again)
    for probe in ("rank", "bins", "ridge"):
        found, again = purity(c, v, probe=probe), purity(c[:, order], v[:, order], probe=probe)  # type: ignore[arg-type]
        for a, b in zip(found, again, strict=True):
            np.testing.assert_allclose(a[np.ix_(order, order)], b, atol=1e-9)


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_a_correlation_of_0_is_outside_in_any_order(seed: int) -> None:
    """A balanced design: each pair of columns has a correlation of 0, which sums miss by a rounding."""
    draw = np.random.default_rng(seed)
    c = np.array(np.meshgrid(*[[0.0, 1.0]] * 5)).reshape(5, -1).T.repeat(3, 0)[draw.permutation(96)]
    v = c * 0.1 * draw.permutation(np.arange(1, 6)) + 0.3
    np.testing.assert_array_equal(niches(c, v, above=0), np.eye(5, dtype=bool))


def test_niches_and_mispredictions_by_listing() -> None:
    c, v = world(5)
    for j in range(4):
        for i in range(4):
            assert niches(c, v)[i, j] == (abs(np.corrcoef(v[:, i], c[:, j])[0, 1]) > 0.5)
    np.testing.assert_array_equal(niches(c, v, above=[0.2, 0.5])[1], niches(c, v))
    right, known = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]], bool), np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1]], bool)
    np.testing.assert_allclose(mispredicted(right, known), [1, 2 / 3, 1 / 3, 1 / 3])


def test_bad_input() -> None:
    with pytest.raises(DataError, match="a column of each concept"):
        metrics.ois(np.zeros((5, 2)), np.zeros((5, 3)))
    with pytest.raises(DataError, match="NIS, asked: expected the shape of representation"):
        metrics.nis(np.eye(6), np.eye(6), asked=np.zeros((6, 2)))
    with pytest.raises(DataError, match="purity: expected a concept with both answers"):
        purity(np.ones((5, 2)), np.zeros((5, 2)))
    with pytest.raises(OptionError, match="'rank', 'bins' or 'ridge'"):
        purity(np.eye(4), np.eye(4), probe="mlp")  # type: ignore[arg-type]
