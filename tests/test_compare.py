"""The comparison: one schema, the same budget for all, test rows read once, paired intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus import registry
from isthmus.compare import Comparison, candidates, compare, rows
from isthmus.data import Splits, load
from isthmus.errors import OptionError, UnknownName
from isthmus.metrics import METRICS
from isthmus.testing import world


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    data = world(("binary", "categorical"), rows=400)
    return compare(data, seeds=[0, 1], budget=2, options={"epochs": 8}, training={"epochs": 3}, policies={"ucp": [0, 2]},
                   out=tmp_path_factory.mktemp("compare"))  # fmt: skip


def test_every_method_the_data_allows_is_a_row(result: Comparison) -> None:
    names = [row["method"] for row in result.data["rows"]]
    assert names[0] == "blackbox"
    assert set(names) | {entry["method"] for entry in result.data["left_out"]} == set(registry.methods())
    assert [row["name"] for row in result.data["rows"] if row["method"] == "cbm"] == [
        "cbm joint",
        "cbm sequential",
        "cbm independent",
    ]


def test_the_result_is_plain_json(result: Comparison) -> None:
    text = json.dumps(result.data, allow_nan=False)
    assert json.loads(text)["schema"] == "isthmus.compare/1"
    for row in result.data["rows"]:
        for name, score in row["scores"].items():
            assert name in METRICS
            assert ("value" in score) != ("not_applicable" in score)
            if "value" in score and score["low"] is not None:
                assert score["low"] - 1e-9 <= score["value"] <= score["high"] + 1e-9 or name in ("ece", "concept_ece")


def test_the_black_box_has_no_concepts(result: Comparison) -> None:
    scores = result.data["rows"][0]["scores"]
    assert scores["concept_accuracy"] == {"not_applicable": "no concepts"}
    assert scores["accuracy"]["difference"] is None
    assert result.data["rows"][3]["scores"]["accuracy"]["difference"]["value"] is not None


def test_every_row_had_the_same_budget(result: Comparison) -> None:
    assert {len(row["tuned"]) for row in result.data["rows"]} == {2}
    for row in result.data["rows"]:
        best = max(row["tuned"], key=lambda tried: tried["validation"])
        first = next(tried for tried in row["tuned"] if tried["validation"] == best["validation"])
        assert first["options"].items() <= row["options"].items()


def test_candidates_start_at_the_defaults_and_change_one_option_first() -> None:
    row = rows(["cbm:joint"], world(("binary",)), {})[0][1]
    tried = candidates(row, 4)
    assert tried[0] == {"lr": 1e-3, "weight_decay": 4e-5}
    assert tried[1] == {"lr": 1e-2, "weight_decay": 4e-5}
    assert len(tried) == 4


def test_test_rows_do_not_choose_anything() -> None:
    """With other test rows the fitted weights and the choices are the same."""
    data = world(("binary",), rows=300)
    other = Splits(data.train, data.validation, data.test.replace(x=torch.randn_like(data.test.x)))
    made = [
        compare(d, methods=["cbm:joint"], features="identity", seeds=[0], budget=3, options={"epochs": 5})
        for d in (data, other)
    ]
    weights = [m.models["cbm joint"].state_dict() for m in made]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert made[0].data["rows"][1]["options"] == made[1].data["rows"][1]["options"]


def test_the_difference_is_paired() -> None:
    """A row against itself differs by exactly nothing, interval included."""
    from isthmus.evaluate import scored
    from isthmus.trace import trace

    data = world(("binary",), rows=300)
    model = registry.get("cbm").make(_identity(), data.space, data.task, epochs=5).fit(data)
    made = [trace(model, data.test)]
    base = scored(made)
    again = scored(made, base).scores["accuracy"]["difference"]
    assert again == {"value": 0.0, "low": 0.0, "high": 0.0}


def _identity():
    from isthmus.features import build

    return build("identity", dim=8)


def test_policies_are_scored_at_their_budgets(result: Comparison) -> None:
    row = next(row for row in result.data["rows"] if row["name"] == "cbm sequential")
    assert [point["k"] for point in row["policies"]["ucp"]] == [0, 2]
    assert "balanced_accuracy" in row["policies"]["ucp"][0]


def test_files_are_written(result: Comparison, tmp_path: Path) -> None:
    page = result.save(tmp_path)
    assert page.read_text().startswith("<!doctype html>") or page.read_text().startswith("<!DOCTYPE html>")
    assert {p.name for p in tmp_path.iterdir()} == {"comparison.json", "table.md", "report.html"}


def test_agreement_is_symmetric_and_explained(result: Comparison) -> None:
    found = result.data["agreement"]
    matrix = np.array(found["matrix"])
    assert np.allclose(matrix, matrix.T)
    assert np.allclose(np.diag(matrix), 1)
    for pair in found["flagged"]:
        assert pair["share"] > 0.995
        assert pair["why"]


def test_a_wrong_name_is_answered(tmp_path: Path) -> None:
    data = world(("binary",))
    with pytest.raises(UnknownName, match="did you mean 'cbm'"):
        compare(data, methods=["cbn"])
    with pytest.raises(UnknownName, match="did you mean 'sequential'"):
        compare(data, methods=["cbm:sequentil"])
    with pytest.raises(UnknownName, match="did you mean 'head'"):
        compare(data, options={"haed": "mlp"}, out=tmp_path / "x")
    with pytest.raises(OptionError, match="at least one seed"):
        compare(data, seeds=[])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["labels", "value"])
def test_other_targets(task: str) -> None:
    data = world(("binary",), task, rows=300)
    made = compare(data, seeds=[0], budget=1, options={"epochs": 5}, training={"epochs": 2})
    names = [row["method"] for row in made.data["rows"]]
    assert "cbm" in names
    assert ("cem" in names) is (task == "labels")
    left = {entry["method"]: entry["unmet"] for entry in made.data["left_out"]}
    assert task == "labels" or left["cem"].startswith("task 'value'")
    assert made.data["main"] == {"labels": "macro_f1", "value": "r2"}[task]


def test_data_without_concepts_runs_what_needs_none() -> None:
    data = world(("binary",), rows=200)
    bare = Splits(*(t.replace(c=None, space=im.ConceptSpace()) for t in (data.train, data.validation, data.test)))
    made = compare(bare, seeds=[0], budget=1, options={"epochs": 3}, training={"epochs": 2})
    assert {row["method"] for row in made.data["rows"]} == {"blackbox", "linear_probe"}
    assert {entry["unmet"] for entry in made.data["left_out"]} == {"concept labels"}


def test_intervene_tells_in_words() -> None:
    data = load("tabular_toy", rows=800)
    model = im.fit("cbm", data, features="identity", epochs=30, lr=1e-2)
    told = im.intervene(model, data.test.x[:1], {"first positive": 1, "second positive": 1, "third positive": 1})
    assert told.after == "yes"
    assert told.text.endswith(f"answer: {told.before} → yes")
    assert told.ask_next == []
    free = im.intervene(model, data.test.x[:1])
    assert free.before == free.after
    assert len(free.ask_next) == 3
    with pytest.raises(UnknownName, match="did you mean 'first positive'"):
        im.intervene(model, data.test.x[:1], {"first positiv": 1})
    with pytest.raises(ValueError, match="expected one row, got 2"):
        im.intervene(model, data.test.x[:2])
    more = im.intervene(model, data.test.x[:1], truth=data.test.c[0], policy="ucp", budget=2)
    assert len(more.steps) == 2


def test_predict_names_its_decisions() -> None:
    data = load("tabular_toy", rows=400)
    model = im.fit("cbm", data, features="identity", epochs=3)
    told = im.predict(model, data.test)
    assert set(told.decisions) <= {"yes", "no"}
    assert told.concepts.shape == (len(data.test), 3)
    torch.testing.assert_close(told.probabilities, model(data.test.x).logits.softmax(-1))


def test_fit_says_what_is_unmet() -> None:
    data = world(("binary",))
    bare = Splits(*(t.replace(c=None, space=im.ConceptSpace()) for t in (data.train, data.validation, data.test)))
    with pytest.raises(ValueError, match="needs concept labels; this data runs blackbox, linear_probe"):
        im.fit("cbm", bare)


def test_a_probe_of_features_that_nobody_trained_trains_them_first() -> None:
    """Else it would read a random network; its accuracy would be that of random features."""
    data = load("xor", rows=1200)
    probe = im.fit("linear_probe", data, epochs=60, lr=1e-2)
    assert im.evaluate(probe, data.test)["accuracy"] > 0.9


def test_validation_gives_no_concept_that_randint_would() -> None:
    """The early stopping of cem watches the loss of the model as it will be used: the same at each call."""
    data = world(("binary",))
    plan = registry.get("cem").make(_identity(), data.space, data.task)
    stage = plan.stages[0]
    rows = stage.inputs(plan.model, data.validation)
    assert len({stage.score(plan.model, rows) for _ in range(5)}) == 1
