"""The comparison: one schema, the same budget for all, test rows read once, paired intervals."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus import registry
from isthmus.api import fit
from isthmus.audit import audit
from isthmus.compare import Comparison, candidates, compare, rows
from isthmus.concepts.book import Phrase, merged
from isthmus.data import Splits
from isthmus.errors import DataError, IsthmusError, OptionError, UnknownName
from isthmus.evaluate import class_level, describe_data, evaluate
from isthmus.examples import replay
from isthmus.features import build
from isthmus.metrics import METRICS
from isthmus.report import html, markdown
from isthmus.testing import world
from isthmus.train import Plan
from tests.language import scene, unlabelled
from tests.test_worded import Letters, captioned


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
                assert score["low"] - 1e-9 <= score["value"] <= score["high"] + 1e-9


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
    assert task == "labels" or left["cem"] == "a task of classes or labels, not of value"
    assert made.data["main"] == {"labels": "macro_f1", "value": "r2"}[task]


def test_data_without_concepts_runs_what_needs_none() -> None:
    data = world(("binary",), rows=200)
    bare = Splits(*(t.replace(c=None, space=im.ConceptSpace()) for t in (data.train, data.validation, data.test)))
    made = compare(bare, seeds=[0], budget=1, options={"epochs": 3}, training={"epochs": 2})
    assert {row["method"] for row in made.data["rows"]} == {"blackbox", "linear_probe"}
    unmet = {entry["method"]: entry["unmet"] for entry in made.data["left_out"]}
    assert set(unmet) == set(registry.methods()) - {"blackbox", "linear_probe"}
    words = {name: why for name, why in unmet.items() if why != "concept labels"}
    text = "concepts in words, in the features' text space"
    others = ("pcbm", "pcbm_h", "peeb", "random_concepts", "zeroshot")
    assert {why for name, why in words.items() if name not in others} == {text}
    assert {name: words[name] for name in others if name != "pcbm_h"} == {
        "peeb": "concepts in words, with their vectors",
        "pcbm": f"concept labels or {text}",
        "random_concepts": "a list of concepts",
        "zeroshot": "option 'class_vectors'",
    }


def test_validation_gives_no_concept_that_randint_would() -> None:
    """The early stopping of cem watches the loss of the model as it will be used: the same at each call."""
    data = world(("binary",))
    plan = registry.get("cem").make(_identity(), data.space, data.task)
    stage = plan.stages[0]
    rows = stage.inputs(plan.model, data.validation)
    assert len({stage.score(plan.model, rows) for _ in range(5)}) == 1


def test_a_row_is_fitted_once_however_often_it_is_named() -> None:
    data = world(("binary",), rows=200)
    kept, _ = rows(["cbm", "cbm:joint", "cbm:joint", "blackbox"], data, {})
    assert [row.name for row in kept] == ["blackbox", "cbm joint", "cbm sequential", "cbm independent"]


def test_an_option_that_makes_a_variant_keeps_that_variant_alone() -> None:
    data = world(("binary",), rows=200)
    kept, _ = rows(["cbm"], data, {"mode": "sequential"})
    assert {row.name: row.options["mode"] for row in kept if row.method.name == "cbm"} == {"cbm sequential": "sequential"}
    with pytest.raises(OptionError, match="contradicts every row asked for"):
        rows(["cbm:joint"], data, {"mode": "sequential"})


def test_what_would_fail_at_the_end_is_refused_at_once() -> None:
    data = world(("binary",), rows=200)
    for wrong, words in (
        ({"policies": {"upc": [1]}}, "did you mean 'ucp'"),
        ({"policies": {"ucp": [-1]}}, "budgets as whole numbers of at least 0"),
        ({"policies": {"ucp": []}}, "budgets as whole numbers of at least 0"),
        ({"seeds": [0, 0]}, "each once"),
        ({"seeds": [-1]}, "whole number of at least 0"),
    ):
        with pytest.raises((OptionError, UnknownName), match=words):
            compare(data, say=lambda text: pytest.fail(f"{text} was begun"), **wrong)


def test_a_policy_that_does_not_fit_a_row_says_why() -> None:
    data = world(("binary", "categorical"), rows=240)
    made = compare(
        data, methods=["cbm:joint"], features="identity", seeds=[0], budget=1, options={"epochs": 2},
        policies={"kflip": [1], "ucp": [1]},
    )  # fmt: skip
    row = next(row for row in made.data["rows"] if row["method"] == "cbm")
    assert row["policies"]["kflip"] == {"not_applicable": "it needs binary concepts only"}
    assert [point["k"] for point in row["policies"]["ucp"]] == [0, 1]
    assert "it needs binary concepts only" in html(made.data)


def test_the_replay_is_of_a_method_that_corrections_help() -> None:
    data = world(("binary",))
    z, c = data.test.x, data.test.c
    model = registry.get("cbm").make(_identity(), data.space, data.task, epochs=1).fit(data)
    assert c is not None
    models = {"first": (model, z), "second": (model, z)}
    told = replay(models, data.test, gains={"first": -0.3, "second": 0.2})
    assert told is not None
    assert told["method"] == "second"


def test_scores_that_are_undefined_on_the_test_rows_stop_nothing(tmp_path: Path) -> None:
    """One class, or one value, among the test rows: some scores are undefined, the rest stand, and the JSON is JSON."""
    data = world(("binary",), "value", rows=200)
    assert data.test.y is not None
    flat = Splits(data.train, data.validation, data.test.replace(y=torch.full_like(data.test.y, 2.0)), name="flat")
    made = compare(flat, methods=["cbm:joint"], features="identity", seeds=[0], budget=1, options={"epochs": 2}, out=tmp_path)
    row = next(row for row in made.data["rows"] if row["method"] == "cbm")
    assert row["scores"]["r2"] == {"not_applicable": "undefined on these rows"}
    assert "value" in row["scores"]["mae"]
    json.loads((tmp_path / "comparison.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_one_group_has_no_interval() -> None:
    data = world(("binary",), rows=200)
    one = data.test.replace(group=["only"] * len(data.test))
    model = registry.get("cbm").make(_identity(), data.space, data.task, epochs=1).fit(data)
    score = im.evaluate(model, one).data["scores"]["accuracy"]
    assert score["value"] is not None
    assert score["low"] is None
    assert score["high"] is None


NAN = float("nan")


@pytest.mark.parametrize(
    ("c", "y", "found"),
    [
        ([[1, 0], [1, 0], [0, 1], [0, 1]], [0, 0, 1, 1], True),
        ([[1, 0], [1, 1], [0, 1], [0, 1]], [0, 0, 1, 1], False),
        ([[1, 0], [1, NAN], [0, 1], [NAN, 1]], [0, 0, 1, 1], None),  # no class with two fully known rows
        ([[1, 0], [1, 0], [1, NAN], [0, 1]], [0, 0, 0, 1], True),
        ([[1, 0], [1, 0], [0, NAN], [0, 1]], [0, 0, 0, 1], False),  # a part that is known says otherwise
        ([[1, 0], [1, 0], [0, NAN], [NAN, 1]], [0, 0, 1, 1], None),  # a class without a fully known row
        ([[1, 0], [0, 1], [0, 0], [1, 1]], [0, 1, 2, 3], None),
    ],
)
def test_labels_that_are_one_vector_for_each_class_are_seen(c: list[list[float]], y: list[int], found: bool | None) -> None:
    space, task = im.ConceptSpace.binary(["a", "b"]), im.Task("classes", tuple("wxyz"))
    table = im.Table(torch.zeros(4, 1), torch.tensor(c, dtype=torch.float32), torch.tensor(y), space, task)
    assert class_level(table) is found and describe_data(table, "data")["class_level"] is found
    assert class_level(table.replace(c=None)) is None
    number = table.replace(y=torch.tensor(y, dtype=torch.float32), task=im.Task("value", ("size",)))
    assert class_level(number) is None


def test_the_training_rows_decide_and_zoo_has_labels_for_each_animal(isthmus_data: Callable[[str], Path]) -> None:
    splits = im.data.load("zoo", path=isthmus_data("tabular/zoo.csv.gz"))
    assert describe_data(splits.test, "zoo", splits)["class_level"] is False


def test_a_setting_that_diverges_is_not_chosen_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation goes on with the others; a row of which every setting diverges stops with the reason."""
    data = world(("binary",))
    whole = Plan.fit

    def fit(self: Plan, *args: Any, **options: Any) -> Any:
        made = self.model.origin
        if made.get("method") == "cbm" and made["options"].get("lr", 1e-3) in bad:
            raise IsthmusError("joint: the loss term ['task'] became nan; lower lr")
        return whole(self, *args, **options)

    monkeypatch.setattr(Plan, "fit", fit)
    lrs = registry.get("cbm").card.tune["lr"]
    bad = set(lrs[1:])
    options: dict[str, Any] = {"methods": ["cbm:joint"], "seeds": [0], "options": {"epochs": 2}}
    found = compare(data, budget=4, **options)
    row = next(row for row in found.data["rows"] if row["name"] == "cbm joint")
    failed = [each for each in row["tuned"] if "failed" in each]
    assert failed
    assert all(each["options"]["lr"] in bad and each["validation"] is None for each in failed)
    assert row["options"].get("lr", 1e-3) not in bad
    assert "diverged" in html(found.data)
    bad = set(lrs)
    with pytest.raises(IsthmusError, match="became nan"):
        compare(data, budget=4, **options)


def test_a_comparison_that_is_stopped_leaves_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings once a row is fitted, and each finished row as it will stand; a whole comparison leaves nothing of it."""
    from isthmus.commands.study import _page

    module = sys.modules["isthmus.compare"]
    data = world(("binary",))
    options: dict[str, Any] = {"methods": ["cbm:joint", "cem"], "seeds": [0], "budget": 1, "options": {"epochs": 2}}
    options |= {"policies": {"ucp": [1]}, "out": tmp_path}
    whole, fit = module._finished, module._fit

    def stopped(done: Any, *rest: Any) -> Any:
        if done.row.name == stop:
            raise KeyboardInterrupt
        return (fit if during == "fit" else whole)(done, *rest)

    stop, during = "cem", "fit"
    monkeypatch.setattr(module, "_fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare(data, **options)
    left = json.loads((tmp_path / "unfinished.json").read_text())
    assert list(left["fitted"]) == ["blackbox", "cbm joint"] and left["rows"] == []
    assert left["fitted"]["cbm joint"]["seeds"] == [0] and left["fitted"]["cbm joint"]["tuned"]
    monkeypatch.setattr(module, "_fit", fit)
    during = "scores"
    monkeypatch.setattr(module, "_finished", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare(data, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["unfinished.json"]
    left = json.loads((tmp_path / "unfinished.json").read_text())
    with pytest.raises(IsthmusError, match="got 'isthmus.unfinished/1'"):
        _page(tmp_path / "unfinished.json")
    monkeypatch.setattr(module, "_finished", whole)
    found = compare(data, **options).data
    assert not (tmp_path / "unfinished.json").exists() and (tmp_path / "comparison.json").exists()
    assert [row["name"] for row in left["rows"]] == ["blackbox", "cbm joint"]
    for before, after in zip(left["rows"], json.loads(json.dumps(found["rows"])), strict=False):
        for each in (before, after):
            del each["scores"]["fit_seconds"]
        assert before["scores"] == after["scores"] and before["policies"] == after["policies"]


def test_a_row_that_cannot_be_fitted_is_left_out_with_its_reason_and_the_others_stay(tmp_path: Path) -> None:
    """labelfree keeps no concept above a cutoff of 1; it alone, or the black box, raises."""
    data = unlabelled(scene())
    how = {
        "features": "identity",
        "seeds": [0],
        "options": {"similarity_cutoff": 0.9999, "steps": 2},
        "training": {"epochs": 2},
    }
    for budget in (1, 2):
        made = compare(data, methods=["labelfree", "describe"], budget=budget, out=tmp_path / str(budget), **how)
        assert [row["method"] for row in made.data["rows"]] == ["blackbox", "describe"]
        (left,) = made.data["left_out"]
        assert left["method"] == "labelfree" and "above similarity_cutoff 0.9999, got none" in left["failed"]
        told = "could not be fitted (seed 0: labelfree: expected"
        assert told in html(made.data) and f"left out: labelfree {told}" in markdown(made.data)
    with pytest.raises(DataError, match="lower similarity_cutoff"):
        compare(data, methods=["labelfree"], budget=1, **how)


def test_a_row_that_only_the_map_taught_says_that_it_saw_the_classes_and_peeb_needs_patches() -> None:
    data = captioned(scene())
    parts = merged(
        Phrase(f"{owner} {part}", (owner,), part, approved="me") for owner in data.task.names for part in ("beak", "tail")
    )
    how = {"seeds": [0], "budget": 1, "options": {"epochs": 2}, "training": {"epochs": 1}}
    asked = ["zeroshot", "describe", "labo", "peeb"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("isthmus.worded._tower", lambda module, text: Letters())
        made = compare(data, methods=asked, words=parts, **how)
        with pytest.raises(DataError, match="'peeb' needs features with patches"):
            fit("peeb", data, words=parts)
    names = [row["name"] for row in made.data["rows"]]
    seen = {f"{name} (classes seen by the map)" for name in ("describe", "zeroshot")}
    assert set(names) == {"blackbox", "labo", *seen}
    assert [(each["method"], each["unmet"]) for each in made.data["left_out"]] == [
        ("peeb", "features with patches (--features cells)")
    ]
    text = markdown(made.data)
    assert "120 pairs of" in text and "once for all seeds" in text and "which chose its strength, too" in text


def test_classes_kept_from_the_map_are_compared_alone_and_zero_shot(tmp_path: Path) -> None:
    data = captioned(scene(classes=5))
    how = {"seeds": [0], "budget": 1, "options": {"epochs": 2}, "training": {"epochs": 1}}
    plain = merged(Phrase(text, approved="me") for text in ("red wings", "long beak", "grey tail"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("isthmus.worded._tower", lambda module, text: Letters())
        made = compare(data, methods=["zeroshot", "text2concept"], words=plain, unseen=["b", "e"], **how)
        model = fit("zeroshot", data, words=plain, unseen=["e", "b"])
        drawn = compare(scene(classes=5), methods=["zeroshot"], words=plain, unseen=0.4, **how).data
        with pytest.raises(OptionError, match="unseen: expected words, too"):
            compare(data, methods=["cbm:joint"], unseen=["b", "e"], **how)
        with pytest.raises(OptionError, match="unseen: expected words, too"):
            fit("cbm", data, unseen=["b", "e"])
    assert [row["name"] for row in made.data["rows"]] == ["blackbox", "zeroshot", "text2concept"]
    assert made.data["data"]["rows"]["test"] == sum(y in (1, 4) for y in data.test.y.tolist())
    assert made.models["zeroshot"].task.names == model.task.names == ("b", "e")
    assert len(drawn["words"]["unseen"]) == 2 and drawn["data"]["task"]["names"] == drawn["words"]["unseen"]
    scored = evaluate(model, im.data.only_classes(data, ["b", "e"]).test).data
    assert scored["name"] == "zeroshot" and scored["words"]["aligned"]["classes"] == ["a", "c", "d"]
    assert "rows of the other 3 classes alone" in html(scored)
    said = "2 classes kept from the map into the text space and compared alone: b and e"
    for page in (markdown(made.data), html(made.data), made.table().caption.plain):
        assert said in " ".join(page.split())


def test_a_saved_or_scored_model_says_what_its_map_has_seen() -> None:
    data, plain = scene(), merged(Phrase(text, approved="me") for text in ("red wings", "long beak", "grey tail"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("isthmus.worded._tower", lambda module, text: Letters())
        model = fit("text2concept", data, words=plain, epochs=1)
        weak, card = evaluate(model, data.test).data, audit(model, data, sections=["task"]).data["model"]
        seen = evaluate(fit("zeroshot", captioned(data), words=plain), data.test).data
    assert weak["name"] == "text2concept (weakly supervised)" and weak["title"] == "Text-to-concept (weakly supervised)"
    assert seen["name"] == "zeroshot (classes seen by the map)"
    assert card["name"] == weak["name"] and card["title"] == weak["title"]
    assert "class names and concept labels of the training rows, put into words" in html(weak)
    assert evaluate(fit("cbm", world(("binary",)), epochs=1), world(("binary",)).test).data["words"] is None


def test_a_module_that_is_given_starts_every_seed_anew() -> None:
    data = world(("binary",), rows=200)
    module = build("mlp", dim_in=data.train.x.shape[1])
    how = {"methods": ["cbm:sequential"], "features": module, "budget": 1, "training": {"epochs": 1}}
    before = {name: t.clone() for name, t in module.state_dict().items()}
    both, second = (compare(data, seeds=seeds, **how).data["rows"] for seeds in ([0, 1], [1]))
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    assert [row["scores"]["accuracy"]["seeds"][-1] for row in both] == [row["scores"]["accuracy"]["value"] for row in second]


def test_rows_that_do_not_read_the_map_are_not_named_after_it() -> None:
    """PEEB compares texts with parts that it learns; what labels made of the map does not reach it, and the report says so."""
    data = scene()
    parts = merged(
        Phrase(f"{owner} {part}", (owner,), part, approved="me") for owner in data.task.names for part in ("beak", "tail")
    )
    features = build("identity", dim=12)
    features.patches = 2
    how = {"seeds": [0], "budget": 1, "options": {"epochs": 2}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("isthmus.worded._tower", lambda module, text: Letters())
        made = compare(data, methods=["peeb", "labo", "describe"], features=features, words=parts, **how)
    names = [row["name"] for row in made.data["rows"]]
    assert set(names) == {"blackbox", "peeb", "labo (weakly supervised)", "describe (weakly supervised)"}
    assert made.data["words"]["untied"] == ["peeb"]
    assert "peeb: texts compared with features of its own, not through that map" in markdown(made.data)


def test_where_words_take_the_concepts_place_nothing_is_said_of_concepts_that_never_vary() -> None:
    """A warning is an error here: the data's 52 cards of which each class has its own two are not learnt from."""
    few = {"hands": "fixed", "fixed_hands": 1, "train": 30, "validation": 20, "test": 20}
    listed = merged(Phrase(text, approved="me") for text in ("red cards", "black cards"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("isthmus.worded._tower", lambda module, text: Letters())
        how = {"seeds": [0], "budget": 1, "training": {"epochs": 1}, "options": {"epochs": 1}}
        made = compare("poker", data_options=few, methods=["v2c"], features="cells", words=listed, **how)
    assert [row["method"] for row in made.data["rows"]] == ["blackbox", "v2c"]


def test_a_black_box_that_cannot_be_fitted_stops_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    data = world(("binary",), rows=200)
    broken = registry.get("blackbox")

    def build(*args: Any, **options: Any) -> Plan:
        raise OptionError("no black box today")

    monkeypatch.setitem(registry._found, "blackbox", registry.Method("blackbox", replace(broken.card, tune={}), build))
    with pytest.raises(OptionError, match="no black box today"):
        compare(data, methods=["cbm:joint"], features="identity", seeds=[0], budget=1)


def test_a_method_that_fails_with_the_second_seed_is_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    data = unlabelled(scene())
    make = registry.get("describe")

    def build(features: Any, space: Any, task: Any) -> Plan:
        made = make.build(features, space, task)
        return Plan(made.model, [*made.stages, second])

    def second(model: Any, fold: Any) -> None:
        if torch.initial_seed() == 1:
            raise IsthmusError("not this seed")

    monkeypatch.setitem(registry._found, "describe", registry.Method("describe", make.card, build))
    how = {"features": "identity", "seeds": [0, 1], "budget": 1, "options": {"epochs": 2}, "training": {"epochs": 1}}
    made = compare(data, methods=["describe", "text2concept"], **how)
    assert [row["method"] for row in made.data["rows"]] == ["blackbox", "text2concept"]
    assert made.data["left_out"][0]["failed"] == "seed 1: not this seed"
