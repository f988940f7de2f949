"""The entry of an edit: who, when, why, and the effect on rows, against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, r2_score

import isthmus as im
from isthmus.data.table import Splits
from isthmus.errors import DataError
from isthmus.interventions import chain
from isthmus.model import ConceptModel
from isthmus.testing import world

Fit = tuple[ConceptModel, Splits]


def test_the_entry_says_who_when_why_and_the_effect(linear: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = linear
    monkeypatch.setattr(chain, "now", lambda: datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC))
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    new = im.edit.prune(model, ["yes or no 0", "colour", "age"], why="a test", validation=data.validation)
    entry = new.history[-1]
    assert (entry["edit"], entry["who"], entry["when"], entry["why"]) == ("prune", "ada", "2026-05-04T03:02:01+00:00", "a test")
    a, b = (m(data.validation.x).logits.argmax(1).numpy() for m in (model, new))
    y, told = data.validation.y.numpy(), entry["effect"]
    assert told["score"] == "accuracy"
    assert told["before"] == pytest.approx(accuracy_score(y, a), abs=1e-6)
    assert told["after"] == pytest.approx(accuracy_score(y, b), abs=1e-6)
    assert told["changed"] == pytest.approx((a != b).mean(), abs=1e-6)
    assert told["changed"] > 0
    assert told["interval"][0] <= told["after"] - told["before"] <= told["interval"][1]
    together = data.validation.replace(group=["one"] * len(y))
    alone = im.edit.prune(model, ["yes or no 0", "colour", "age"], why="w", validation=together).history[-1]["effect"]
    assert alone == told | {"interval": None}, "one group says nothing of another"
    assert im.edit.prune(model, "age", who="eve", why="w").history[-1]["who"] == "eve"
    assert im.edit.prune(model, "age", why="w").history[-1]["effect"] is None


@pytest.mark.parametrize("task", ["labels", "value"])
def test_the_effect_of_other_tasks_is_their_main_score(task: str, fitted: Callable[..., Fit]) -> None:
    model, data = fitted(("binary",), task=task, epochs=30, lr=1e-2)
    new, rows = im.edit.prune(model, 0, why="w", validation=data.validation), data.validation
    said, y = (new.task.predict(new(rows.x).logits).numpy(), rows.y.numpy())
    told = new.history[-1]["effect"]
    expected = r2_score(y, said) if task == "value" else f1_score(y, said, average="macro", zero_division=np.nan)
    assert told["after"] == pytest.approx(expected, abs=1e-4)
    assert told["score"] == {"labels": "macro_f1", "value": "r2"}[task]
    old = model.task.predict(model(rows.x).logits).numpy()
    moved = np.abs(old - said) > 0.01 * model.task.scale if task == "value" else (old != said).any(1)
    assert told["changed"] == pytest.approx(moved.mean(), abs=1e-6)


def test_words_and_rows_that_do_not_fit_are_refused(linear: Fit) -> None:
    model, data = linear
    for why, who in (("", None), ("two\nlines", None), (None, None), ("fine", " "), ("fine", "a\x1b[31m")):
        with pytest.raises(DataError, match="why|who"):
            im.edit.prune(model, "age", why=why, who=who)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="validation: expected a Table, labelled rows, got Splits; take a part of it"):
        im.edit.prune(model, "age", why="w", validation=data)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="task labels"):
        im.edit.prune(model, "age", why="w", validation=data.validation.replace(y=None))
    with pytest.raises(DataError, match="the model decides"):
        im.edit.prune(model, "age", why="w", validation=world(("binary", "categorical", "continuous"), "labels").validation)


def test_a_number_has_changed_when_it_moved_by_a_hundredth_of_its_deviation(fitted: Callable[..., Fit]) -> None:
    model, data = fitted(("binary",), task="value", epochs=30, lr=1e-2)
    x, old = data.validation.x, model(data.validation.x)
    step = 0.01 / float(old.concepts.values[:, 1].median())  # moves a row by step times its value, in training deviations
    weight = float(model.head.weights[0, 1]) + step
    new = im.edit.reweight(model, {(0, 1): weight}, why="w", validation=data.validation)
    moved = (model.task.predict(new(x).logits) - model.task.predict(old.logits)).abs() > 0.01 * model.task.scale
    assert 0.1 < moved.double().mean() < 0.9
    assert new.history[-1]["effect"]["changed"] == pytest.approx(float(moved.double().mean()), abs=1e-6)
