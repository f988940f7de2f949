"""DCI, MIG, SAP, modularity, CAS and completeness where the answer is known, and against scikit-learn's parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, homogeneity_score

from isthmus.errors import DataError
from isthmus.metrics import disentanglement as d


def factors(seed: int, n: int = 1500) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.c_[draw.integers(0, 2, n), draw.integers(0, 4, n), draw.integers(0, 3, n)].astype(float)


def test_each_factor_in_a_code_of_its_own_is_perfect_and_a_rotation_is_not() -> None:
    f = factors(0)
    codes = f[:, [2, 0, 1]] + 0.0
    found, whole = d.informations(codes, f)
    assert d.mig(found, whole) == pytest.approx(1, abs=0.02) and d.modularity(found) == pytest.approx(1, abs=1e-3)
    assert d.sap(codes, f) == pytest.approx(1, abs=0.1)  # a code that knows nothing leads by chance alone
    r, told = d.importances(codes, f, np.arange(750, 1500))
    assert d.dci(r) == pytest.approx((1, 1), abs=0.01) and told.shape == (750, 3) and (told == 1).all()
    turned = codes @ np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    mixed, whole = d.informations(turned, f)
    assert d.mig(mixed, whole) < 0.5 and d.modularity(mixed) < 0.95
    assert max(d.dci(d.importances(turned, f, np.arange(750, 1500))[0])) < 0.9


@given(
    st.integers(0, 1000), st.permutations([0, 1, 2]), st.permutations([0, 1, 2]), st.sampled_from(["mixed", "coarse", "blocks"])
)
@settings(max_examples=12, deadline=None)
def test_the_order_of_codes_and_of_factors_does_not_matter(seed: int, one: list[int], two: list[int], kind: str) -> None:
    """Unknown factors, equal codes and codes of a few values, whose splits tie."""
    draw, f = np.random.default_rng(seed), factors(seed, 300)
    each = [(f @ draw.normal(size=(3, 1 + (kind == "blocks")))) for _ in range(3)]
    if kind == "coarse":
        each = [(code > np.median(code)).astype(float) for code in each]
        each[1] = each[0].copy()
    f[draw.random(f.shape) < 0.2] = np.nan
    moved, turned, fresh = [each[i] for i in one], f[:, two], np.arange(150, 300)
    (told, whole), (again, rest) = d.informations(each, f), d.informations(moved, turned)
    np.testing.assert_allclose(told[np.ix_(one, two)], again, atol=1e-9)
    np.testing.assert_allclose(whole[two], rest)
    assert d.mig(told, whole) == pytest.approx(d.mig(again, rest), abs=1e-9)
    assert d.modularity(told) == pytest.approx(d.modularity(again), abs=1e-6)
    assert d.sap(each, f) == pytest.approx(d.sap(moved, turned), abs=1e-9)
    held = [each[j] for j in range(3)]
    assert d.cas(f, held) == pytest.approx(d.cas(turned, [held[j] for j in two]), abs=1e-9)
    (r, right), (s, told_) = d.importances(each, f, fresh), d.importances(moved, turned, fresh)
    assert d.dci(r) == pytest.approx(d.dci(s), abs=1e-6) if r.sum() > 0 else s.sum() == 0
    np.testing.assert_array_equal(right[:, two], told_)


def test_trees_of_no_rows_tell_nothing() -> None:
    f = factors(2, 40)
    r, right = d.importances(f, f, np.arange(40))
    assert (r == 0).all() and np.isnan(right).all()


def test_a_concept_of_states_is_one_code() -> None:
    """Columns of a true one-hot code tell each other's states; as one code they are perfect."""
    f = factors(5)
    columns = [np.eye(int(factor.max()) + 1)[factor.astype(int)] for factor in f.T]
    found, whole = d.informations(columns, f)
    assert found.shape == (3, 3) and d.mig(found, whole) == pytest.approx(1, abs=0.02)
    assert d.modularity(found) == pytest.approx(1, abs=1e-3) and d.sap(columns, f) == pytest.approx(1, abs=0.1)
    soft = [code * 0.8 + np.random.default_rng(0).random(code.shape) * 0.1 for code in columns]
    found, whole = d.informations(soft, f)
    assert d.mig(found, whole) > 0.95 and d.sap(soft, f) > 0.9
    split, whole = d.informations(np.concatenate(columns, 1), f)
    assert d.mig(split, whole) < 0.5 and d.sap(np.concatenate(columns, 1), f) < 0.5
    r, right = d.importances(columns, f, np.arange(750, 1500))
    assert r.shape == (3, 3) and d.dci(r) == pytest.approx((1, 1), abs=0.01)
    assert d.informativeness(right).under(np.ones((1, 750))) == 1


def test_informativeness_is_the_mean_of_what_is_told_rightly() -> None:
    right = np.array([[1, 0, np.nan], [1, np.nan, np.nan], [0, 1, np.nan]])
    assert d.informativeness(right).under(np.ones((1, 3))) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert d.informativeness(right).under(np.array([[0, 0, 2.0]])) == pytest.approx(0.5)


def test_codes_of_nan_are_refused() -> None:
    f = factors(6, 60)
    for score in (d.informations, d.sap, lambda x, t: d.importances(x, t, np.arange(30))):
        with pytest.raises(DataError, match="code 1: expected finite"):
            score(np.c_[f[:, :1], f[:, :1] * np.nan], f)
    with pytest.raises(DataError, match="representation: expected finite"):
        d.cas(f, f * np.nan)


def test_even_importances_are_0_and_not_a_hair_below() -> None:
    assert min(d.dci(np.ones((5, 3)))) >= 0


def test_dci_by_hand() -> None:
    r = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    h = -(0.5 * np.log(0.5) + 0.5 * np.log(0.5)) / np.log(2)
    assert d.dci(r)[0] == pytest.approx(1 / 5 * 1 + 2 / 5 * (1 - h) + 2 / 5 * 1)
    second = -(1 / 3 * np.log(1 / 3) + 2 / 3 * np.log(2 / 3)) / np.log(3)
    assert d.dci(r)[1] == pytest.approx(2 / 5 * (1 - np.log(2) / np.log(3)) + 3 / 5 * (1 - second))
    with pytest.raises(DataError, match="at least 0"):
        d.dci(np.zeros((2, 2)))


def test_modularity_and_mig_by_hand() -> None:
    i = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 3.0], [0.0, 0.0, 0.0]])
    assert d.modularity(i) == pytest.approx(np.mean([1 - 1 / (4 * 2), 1 - 9 / (9 * 2)]))
    assert d.mig(i, np.array([4.0, 4.0, 0.0])) == pytest.approx(np.mean([2 / 4, 2 / 4]))
    assert d.mig(np.array([[0.3]]), np.array([0.6])) == pytest.approx(0.5)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_threshold_is_the_best_that_listing_finds(seed: int) -> None:
    draw = np.random.default_rng(seed)
    code, yes = draw.normal(size=40).round(1), draw.random(40) < 0.4
    yes[:2] = [True, False]
    every = [balanced_accuracy_score(yes, code > t) for t in np.unique(code)]
    assert d._threshold(code, yes) == pytest.approx(max(abs(2 * s - 1) for s in every))


def test_cas_is_the_homogeneity_of_medoids() -> None:
    f = factors(3, 200)
    told = f[:, 1].astype(int)
    cluster = d.medoids(np.abs(told[:, None] - told[None]).astype(float), 4)
    assert d._pure(cluster, told) == pytest.approx(homogeneity_score(told, cluster)) == pytest.approx(1)
    noise = np.random.default_rng(0).normal(size=f.shape)
    assert d.cas(f, f + 0.01 * noise) > 0.95 and d.cas(f, noise) < 0.5
    assert d.cas(f, np.stack([f + 0.01 * noise, noise * 0.1], -1)) > 0.9
    draw = np.random.default_rng(1).normal(size=(60, 2))
    apart = np.linalg.norm(draw[:, None] - draw[None], axis=-1)
    assert d._pure(d.medoids(apart, 60), np.arange(60)) == pytest.approx(1)


def test_a_cluster_keeps_its_most_central_row() -> None:
    x = np.r_[np.arange(5.0), 100 + np.arange(5.0)]
    cluster = d.medoids(np.abs(x[:, None] - x[None]), 2)
    assert len(set(cluster[:5])) == len(set(cluster[5:])) == 1 and cluster[0] != cluster[-1]


def test_unknown_factors_and_completeness() -> None:
    f = factors(4)
    f[::2, 0] = np.nan
    found, whole = d.informations(np.nan_to_num(f), f)
    assert np.isfinite(found).all() and np.isfinite(whole).all()
    assert d.completeness(0.9, 0.9, 0.5) == 1 and d.completeness(0.7, 0.9, 0.5) == pytest.approx(0.5)
    assert np.isnan(d.completeness(0.7, 0.5, 0.5))
    with pytest.raises(DataError, match="the same rows"):
        d.informations(np.zeros((3, 1)), np.zeros((4, 1)))
