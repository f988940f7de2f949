"""The scikit-learn face: scikit-learn's own checks, concepts in and out, corrections, and travel through its tools."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from isthmus.errors import DataError, OptionError, UnknownName
from isthmus.features import build
from isthmus.sklearn import ConceptBottleneckClassifier, carve
from isthmus.space import Concept, ConceptSpace

QUICK: dict[str, Any] = {"lr": 0.03, "epochs": 40, "patience": 5}

EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "weighting rows and repeating them draws other validation rows and "
    "other mini-batches, so the stochastic fit ends at other weights",
    "check_methods_sample_order_invariance": "float32: a vectorised sigmoid and its remainder differ in the last bit, the "
    "check allows 1e-7",
    "check_methods_subset_invariance": "float32: a product's last bit depends on the number of rows, the check allows 1e-7",
}


class FromColumns(ConceptBottleneckClassifier):
    """Concepts derived from X: whether each column lies above its quartiles."""

    def fit(self, X: Any, y: Any, *, sample_weight: Any = None) -> FromColumns:
        x, _ = validate_data(self, X, y, dtype=np.float32)
        above = np.concatenate([x > np.quantile(x, q, axis=0) for q in (0.25, 0.5, 0.75)], 1)
        super().fit(X, y, concepts=above, sample_weight=sample_weight)
        return self


@parametrize_with_checks(
    [ConceptBottleneckClassifier(method="linear_probe", options=QUICK), FromColumns(options=QUICK)],
    expected_failed_checks=lambda _: EXPECTED,
    xfail_strict=False,
)
@pytest.mark.filterwarnings("ignore:concept .* never varies")
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_few_failures_are_expected() -> None:
    assert len(EXPECTED) <= 4


def world(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (n, 6); three binary concepts, one for each of the first columns; a class in words from the first two."""
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(n, 6)) * 2
    C = (X[:, :3] > 0).astype(float)
    y = np.array(["neither", "first", "second", "both"])[(C[:, 0] + 2 * C[:, 1]).astype(int)]
    return X, C, y


@pytest.fixture(scope="module")
def fitted() -> ConceptBottleneckClassifier:
    X, C, y = world()
    return ConceptBottleneckClassifier(options=QUICK).fit(X, y, concepts=C)


def test_classes_in_words_and_concepts(fitted: ConceptBottleneckClassifier) -> None:
    X, C, y = world(seed=1)
    assert fitted.classes_.tolist() == ["both", "first", "neither", "second"]
    assert set(fitted.predict(X)) <= set(fitted.classes_)
    assert fitted.score(X, y) > 0.9
    proba = fitted.predict_proba(X)
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-12)
    assert (fitted.classes_[proba.argmax(1)] == fitted.predict(X)).all()
    concepts = fitted.predict_concepts(X)
    assert concepts.dtype == np.int64
    assert (concepts == C).mean() > 0.9
    read = fitted.predict_concepts_proba(X)
    assert ((read > 0.5) == concepts).all()
    assert (fitted.transform(X) == read).all()
    assert fitted.get_feature_names_out().tolist() == list(fitted.space_.columns)


@pytest.mark.parametrize("reading", ["soft", "hard", "logit"])
def test_concepts_are_probabilities_under_every_reading(reading: str) -> None:
    X, C, y = world()
    model = ConceptBottleneckClassifier(options=QUICK | {"reading": reading}).fit(X, y, concepts=C)
    read = model.predict_concepts_proba(X)
    assert ((read >= 0) & (read <= 1)).all()
    assert len(np.unique(read)) > 10
    assert ((read > 0.5) == C).mean() > 0.9


def test_a_method_that_needs_concepts_names_those_that_do_not() -> None:
    X, _, y = world()
    with pytest.raises(ValueError, match=r"'cbm' needs concept labels.*concepts=.*blackbox.*linear_probe"):
        ConceptBottleneckClassifier().fit(X, y)


def test_a_method_without_concepts() -> None:
    X, C, y = world()
    model = ConceptBottleneckClassifier(method="linear_probe", options=QUICK).fit(X, y, concepts=C)
    assert model.score(X, y) > 0.8
    assert model.transform(X).shape == (len(X), 0)
    assert model.predict_concepts(X).shape == (len(X), 0)
    with pytest.raises(DataError, match="no concepts"):
        model.intervene(X, {"concept 0": 1})


def test_a_frame_with_every_kind_of_concept() -> None:
    X, C, y = world()
    size = np.where(X[:, 3] < -1, "small", np.where(X[:, 3] > 1, "large", "medium"))
    frame = pd.DataFrame({"first": C[:, 0], "size": size, "length": 10 * X[:, 1] + 50})
    frame.loc[::7, "size"] = None
    frame.loc[::5, "first"] = np.nan
    model = ConceptBottleneckClassifier(options=QUICK | {"mode": "independent", "head": "mlp"})
    model.fit(X, y, concepts=frame)
    assert [c.kind for c in model.space_.concepts] == ["binary", "categorical", "continuous"]
    assert model.get_feature_names_out().tolist() == ["first", "size=large", "size=medium", "size=small", "length"]
    read = model.predict_concepts(X)
    assert read.shape == (len(X), 3)
    assert (read[:, 0] == C[:, 0]).mean() > 0.9
    assert (np.array(model.space_.concepts[1].states)[read[:, 1].astype(int)] == size).mean() > 0.85
    assert np.corrcoef(read[:, 2], frame["length"])[0, 1] > 0.9
    np.testing.assert_allclose(model.transform(X)[:, 1:4].sum(1), 1)
    by_name = model.intervene(X, {"size": "large", "length": 61.0}, proba=True)
    by_row = model.intervene(X, {"size": ["large"] * len(X), "length": np.full(len(X), 61.0)}, proba=True)
    by_index = model.intervene(X, pd.DataFrame({"size": [0] * len(X), "length": 61}), proba=True)
    np.testing.assert_array_equal(by_name, by_row)
    np.testing.assert_array_equal(by_name, by_index)
    assert not np.allclose(by_name, model.predict_proba(X))


def test_corrections(fitted: ConceptBottleneckClassifier) -> None:
    X, C, y = world(seed=2)
    unknown = np.full(C.shape, np.nan)
    plain = fitted.predict_proba(X)
    np.testing.assert_array_equal(fitted.intervene(X, unknown, proba=True), plain)
    np.testing.assert_array_equal(fitted.intervene(X, {}, proba=True), plain)
    assert (fitted.intervene(X, C) == y).mean() > 0.97
    some = unknown.copy()
    some[:50, 0] = C[:50, 0]
    moved = fitted.intervene(X, some, proba=True)
    np.testing.assert_array_equal(moved[50:], plain[50:])
    assert (moved[:50] != plain[:50]).any(1).all()
    names = fitted.space_.names
    rows = fitted.intervene(X, {names[0]: some[:, 0], names[1]: np.float32(np.nan)}, proba=True)
    np.testing.assert_array_equal(rows, moved)
    assert set(fitted.intervene(X, {names[0]: 1, names[1]: np.int64(1)})) == {"both"}


def test_wrong_corrections_are_named(fitted: ConceptBottleneckClassifier) -> None:
    X, C, _ = world()
    with pytest.raises(UnknownName, match="did you mean 'concept 1'"):
        fitted.intervene(X, {"concpt 1": 1})
    with pytest.raises(UnknownName, match="did you mean 'concept 1'"):
        fitted.intervene(X, {"concpt 1": C[:, 0]})
    with pytest.raises(DataError, match=r"corrections: expected shape \(240, 3\)"):
        fitted.intervene(X, C[:, :2])
    with pytest.raises(DataError, match="'concept 1': expected 240 rows"):
        fitted.intervene(X, {"concept 1": C[:5, 0]})
    with pytest.raises(DataError, match="concept 2"):
        fitted.intervene(X, {"concept 2": 3.0})


def test_a_space_orders_and_names_columns() -> None:
    X, C, y = world()
    space = ConceptSpace.of(Concept("b"), Concept("a"))
    frame = pd.DataFrame({"a": C[:, 0], "b": C[:, 1]})
    model = ConceptBottleneckClassifier(space=space, options=QUICK).fit(X, y, concepts=frame)
    assert model.space_.names == ("b", "a")
    assert (model.predict_concepts(X) == C[:, [1, 0]]).mean() > 0.9


def test_frames_out_of_step_are_refused() -> None:
    X, C, y = world()
    X, C = pd.DataFrame(X), pd.DataFrame(C).iloc[::-1]
    X.columns, C.columns = [f"x{i}" for i in X], [f"c{i}" for i in C]
    with pytest.raises(DataError, match="expected the index of X"):
        ConceptBottleneckClassifier().fit(X, y, concepts=C)
    model = ConceptBottleneckClassifier(options=QUICK | {"epochs": 1}).fit(X, y, concepts=C.iloc[::-1])
    assert model.feature_names_in_.tolist() == list(X)


@pytest.mark.parametrize("wrong", [{"concepts": np.zeros((3, 2))}, {"sample_weight": [1.0]}, {"groups": [1, 2]}])
def test_columns_of_another_length_are_refused(wrong: dict[str, Any]) -> None:
    X, C, y = world()
    with pytest.raises(DataError, match="240"):
        ConceptBottleneckClassifier(options=QUICK).fit(X, y, **{"concepts": C} | wrong)


def test_clone_and_pickle(fitted: ConceptBottleneckClassifier) -> None:
    X, C, y = world(seed=3)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(again.intervene(X, C), fitted.intervene(X, C))
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    assert not hasattr(fresh, "model_")
    X, C, y = world()
    np.testing.assert_array_equal(fresh.fit(X, y, C).predict_proba(X), fitted.predict_proba(X))
    other = clone(fitted).set_params(random_state=1).fit(X, y, C)
    assert (other.predict_proba(X) != fitted.predict_proba(X)).any()


@pytest.mark.parametrize("module", [False, True])
def test_features_learn_and_the_module_given_is_left_alone(module: bool) -> None:
    X, C, y = world()
    features = build("mlp", 6, hidden=(16,), dim=16) if module else "mlp"
    before = None if isinstance(features, str) else [p.clone() for p in features.parameters()]
    model = ConceptBottleneckClassifier(features=features, options=QUICK).fit(X, y, concepts=C)
    assert model.score(X, y) > 0.9
    assert model.model_.features is not features
    if before is not None and not isinstance(features, str):
        assert all(torch.equal(a, b) for a, b in zip(before, features.parameters(), strict=True))


def test_weights_and_groups() -> None:
    X, C, y = world()
    weight = np.ones(len(X))
    weight[::3] = 0
    used = weight > 0
    model = ConceptBottleneckClassifier(options=QUICK)
    kept = clone(model).fit(X, y, C, sample_weight=weight).predict_proba(X)
    np.testing.assert_allclose(kept, clone(model).fit(X[used], y[used], C[used]).predict_proba(X), atol=1e-4)
    # scaled weights say the same; other weights do not
    np.testing.assert_allclose(kept, clone(model).fit(X, y, C, sample_weight=7 * weight).predict_proba(X), atol=1e-4)
    heavy = clone(model).fit(X, y, C, sample_weight=np.where(y == "both", 50.0, 1.0))
    assert heavy.predict_proba(X)[:, 0].mean() > clone(model).fit(X, y, C).predict_proba(X)[:, 0].mean()
    clone(model).fit(X, y, C, groups=np.arange(len(X)) // 10)


def test_pipeline() -> None:
    X, C, y = world()
    pipe = make_pipeline(StandardScaler(), ConceptBottleneckClassifier(options=QUICK))
    pipe.fit(X * 1000, y, conceptbottleneckclassifier__concepts=C)
    assert pipe.score(X * 1000, y) > 0.9


def test_grid_in_two_processes_routes_concepts() -> None:
    X, C, y = world(120)
    with config_context(enable_metadata_routing=True):
        model = ConceptBottleneckClassifier().set_fit_request(concepts=True)
        options = [QUICK | {"epochs": 1, "lr": 1e-5}, QUICK]
        grid = GridSearchCV(model, {"options": options}, cv=2, n_jobs=2, error_score="raise")
        grid.fit(X, y, concepts=C)
    assert grid.best_params_["options"] == QUICK
    assert grid.best_score_ > grid.cv_results_["mean_test_score"].min() + 0.2
    assert grid.best_estimator_.predict_concepts(X).shape == C.shape


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_validation_is_a_share(share: float) -> None:
    X, C, y = world()
    with pytest.raises(OptionError, match="validation"):
        ConceptBottleneckClassifier(validation=share).fit(X, y, C)


@pytest.mark.parametrize("counts", [(1, 1), (2, 1), (3, 3), (5, 5, 5), (200, 7, 1), (20,) * 30])
@pytest.mark.parametrize("share", [0.1, 0.15, 0.5, 0.95])
def test_carving_keeps_every_class_to_train_on(counts: tuple[int, ...], share: float) -> None:
    codes = np.repeat(np.arange(len(counts)), counts)
    for seed in range(5):
        held = carve(codes, None, share, seed)
        assert (held == carve(codes, None, share, seed)).all()
        assert set(codes[~held]) == set(codes)
        assert held.any() == (max(counts) > 1)
        for name, count in enumerate(counts):
            assert abs(held[codes == name].sum() - share * count) <= 1.5


def test_carving_holds_whole_groups() -> None:
    draw = np.random.default_rng(0)
    groups = np.array([f"patient {i}" for i in draw.integers(40, size=400)])
    codes = draw.integers(3, size=400)
    held = carve(codes, groups, 0.25, 0)
    assert not set(groups[held]) & set(groups[~held])
    assert 0.15 < held.mean() < 0.35


def test_a_fit_that_failed_leaves_the_estimator_unfitted() -> None:
    X, C, y = world()
    model = ConceptBottleneckClassifier(options={"lr": -1})
    with pytest.raises(OptionError, match="option 'lr'"):
        model.fit(X, y, concepts=C)
    with pytest.raises(NotFittedError):
        model.predict(X)
