"""The exact oracles of an audit, as properties: what a perfect, a copied, a random and a permuted strip must score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus import metrics
from isthmus.audit.subject import probes
from isthmus.metrics.concept import Kinds
from isthmus.metrics.disentanglement import completeness

SEEDS = st.integers(0, 10_000)


def toy(draw: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    z = draw.multivariate_normal(np.zeros(3), np.full((3, 3), 0.25) + 0.75 * np.eye(3), n)
    c = (z > 0).astype(float)
    return c, (c.sum(1) >= 2).astype(int)


@given(SEEDS)
@settings(max_examples=5, deadline=None)
def test_true_concepts_are_complete_and_leak_nothing(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = [toy(draw, 300) for _ in range(3)]
    best = max(
        (probe.fit(*rows[0]) for probe in probes("classes", True)),
        key=lambda probe: (probe.predict(rows[1][0]) == rows[1][1]).mean(),
    )
    c, y = rows[2]
    accuracy = metrics.accuracy(y, best.predict(c))
    assert completeness(accuracy, 1.0, float(np.bincount(y).max() / len(y))) == 1
    kinds = Kinds((0, 1, 2), ())
    assert metrics.ctl(y, c, c, kinds) == metrics.icl(c, c, kinds) == metrics.ois(c, c) == 0


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_random_concepts_have_an_auc_of_one_half(seed: int) -> None:
    draw = np.random.default_rng(seed)
    c = (draw.random((4000, 6)) < 0.4).astype(float)
    assert metrics.concept_auroc(c, draw.random(c.shape), Kinds(tuple(range(6)), ())) == pytest.approx(0.5, abs=0.03)


@given(SEEDS, st.integers(6, 40), st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_five_weights_a_class_are_an_nec_of_five(seed: int, concepts: int, classes: int) -> None:
    draw = np.random.default_rng(seed)
    w = np.zeros((classes, concepts))
    for row in w:
        row[draw.permutation(concepts)[:5]] = draw.choice([-1, 1], 5) * (0.1 + draw.random(5))
    assert metrics.nec(w) == 5
    assert metrics.nec(w[:, draw.permutation(concepts)]) == 5


@given(SEEDS)
@settings(max_examples=8, deadline=None)
def test_calibration_error_of_the_calibrated_falls_as_the_root_of_the_rows(seed: int) -> None:
    draw = np.random.default_rng(seed)

    def error(n: int) -> float:
        found: list[float] = []
        for _ in range(8):
            p = draw.random((n, 1))
            found.append(metrics.concept_ece((draw.random((n, 1)) < p).astype(float), p))
        return float(np.mean(found))

    few, many = error(1000), error(16_000)
    assert many < 0.02 and few / many == pytest.approx(4, rel=0.35)


@given(SEEDS, st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_no_score_changes_when_concepts_change_places(seed: int, order: list[int]) -> None:
    draw = np.random.default_rng(seed)
    c = (draw.random((300, 5)) < 0.5).astype(float)
    v = np.clip(0.3 + 0.4 * c + 0.3 * draw.normal(size=c.shape), 0.001, 0.999)
    y, weight, kinds = draw.integers(0, 3, 300), draw.normal(size=c.shape), Kinds(tuple(range(5)), ())
    other = (c[:, order], v[:, order])
    for name in ("concept_accuracy", "concept_macro_f1", "concept_auroc", "concept_all_right"):
        assert metrics.METRICS[name](c, v, kinds) == pytest.approx(metrics.METRICS[name](*other, kinds), abs=1e-9), name
    assert metrics.ctl(y, c, v, kinds) == pytest.approx(metrics.ctl(y, *other, kinds), abs=1e-9)
    assert metrics.icl(c, v, kinds) == pytest.approx(metrics.icl(*other, kinds), abs=1e-6)
    for name in ("ois", "nis", "concept_ece"):
        assert metrics.METRICS[name](c, v) == pytest.approx(metrics.METRICS[name](*other), abs=1e-9), name
    assert metrics.existence(c, weight, 3) == pytest.approx(metrics.existence(c[:, order], weight[:, order], 3))
