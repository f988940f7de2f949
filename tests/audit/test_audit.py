"""The audit over every method and task: what applies has interval and control, what does not says why; limits; the card."""

from __future__ import annotations

import json
import shlex
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus import registry, testing
from isthmus.audit import KEYS, SECTIONS, Audit, audit
from isthmus.audit.limits import judged, parse
from isthmus.data.table import Splits, Table
from isthmus.errors import DataError, IsthmusError, OptionError, UnknownName
from isthmus.report import html
from isthmus.space import ConceptSpace, Task

UNSURE = {"k95", "cgim1", "cgim2", "cgim3"}  # no interval, or none where one concept is defined


def fitted(name: str = "cbm", **options: Any) -> tuple[im.ConceptModel, Splits]:
    data = testing.world(("binary", "categorical", "continuous"))
    return testing._fit(name, data, options, 0).fit(data), data


def whole(told: Audit) -> None:
    """Every section has lines with value, interval, control and a sentence, or a reason; the card is plain and renders."""
    text = json.dumps(told.data, allow_nan=False)
    assert json.loads(text)["schema"] == "isthmus.audit/1"
    assert [section["key"] for section in told.data["sections"]] == list(SECTIONS)
    for section in told.data["sections"]:
        if not section["applies"]:
            assert section["why"] and "\n" not in section["why"] and not section["lines"]
            continue
        assert section["definition"] and section["meaning"] and section["question"].endswith("?")
        assert section["lines"], section["key"]
        for line in section["lines"]:
            assert line["key"] in KEYS or line["key"].startswith(("gap_", "accuracy@nec")), line["key"]
            assert line["text"] and line["unit"] and line["better"] in ("up", "down") and line["n"]
            if line["value"] is None:
                continue
            assert line["control"] is not None and line["control_name"], line["key"]
            if line["low"] is None and line["key"] in UNSURE:
                continue
            assert line["low"] is not None and line["low"] - 1e-6 <= line["high"], line
    page = html(told.data)
    assert "<script" not in page and page.count("<section") >= 5


@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_every_method_is_audited(name: str) -> None:
    data = testing.world(("binary",), worded=True)
    model = testing._fit(name, data, {}, 0).fit(data)
    whole(audit(model, data))


@pytest.mark.parametrize("kind", ["classes", "labels", "value"])
def test_every_task_is_audited(kind: str) -> None:
    data = testing.world(("binary", "categorical", "continuous"), kind)  # type: ignore[arg-type]
    model = testing._fit("cbm", data, {}, 0).fit(data)
    whole(audit(model, data))


def plain(n: int = 400, labelled: bool = True) -> Splits:
    """Concepts that the inputs hold, and a class that is one of them."""
    draw = np.random.default_rng(0)
    space, task = ConceptSpace.binary(["a", "b", "c"]), Task.classes(("no", "yes"))
    parts: list[Table] = []
    for _ in range(3):
        c = (draw.random((n, 3)) < 0.5).astype(np.float32)
        x = torch.from_numpy(np.c_[2 * c - 1, draw.normal(size=(n, 2))] + 0.3 * draw.normal(size=(n, 5))).float()
        y = torch.from_numpy((c.sum(1) >= 2).astype(int))
        facts = {"site": torch.from_numpy(draw.integers(0, 2, n))}
        known = torch.from_numpy(c) if labelled else None
        parts.append(Table(x, c=known, y=y, space=space if labelled else ConceptSpace(), task=task, facts=facts))
    return Splits(*parts, name="plain")


def test_an_honest_bottleneck_passes_and_a_copied_label_does_not() -> None:
    data = plain()
    honest = im.fit("cbm", data, mode="independent", epochs=60)
    told = audit(honest, data, fail_if=["bypass>0.01", "ctl>0.1", "task<0.9"])
    assert not told.failed, told.data["limits"]
    assert told["completeness"] > 0.9 and told["concept_accuracy"] > 0.95
    leaking = im.fit("cbm", data, mode="joint", concept_weight=0.0, epochs=60)
    worse = audit(leaking, data, sections=["leaks"], fail_if=["ctl>0.1"])
    assert worse.failed and worse["ctl"] > 0.2
    open_ = im.fit("sidechannel", data, epochs=60)
    assert audit(open_, data, sections=["leaks"]).data["sections"][0]["lines"][0]["key"] == "bypass"


def test_what_is_missing_is_said() -> None:
    data = plain(labelled=False)
    told = audit(im.fit("blackbox", data, epochs=5), data)
    why = {section["key"]: section["why"] for section in told.data["sections"] if not section["applies"]}
    assert "no concepts" in why["leaks"] and "no concepts" in why["existence"]
    data = plain()
    told = audit(im.fit("cbm", data, head="mlp", epochs=5), data)
    why = {section["key"]: section["why"] for section in told.data["sections"] if not section["applies"]}
    assert "no exact contributions" in why["existence"] and "no weight" in why["importance"] and "boxes" in why["location"]
    assert "sparsity" not in why and "faithfulness" not in why


def test_groups_by_facts_concepts_and_class() -> None:
    data = plain()
    model = im.fit("cbm", data, epochs=20)
    told = audit(model, data, sections=["subgroups"], by=["site", "a", "class"])
    keys = told.scores
    assert {"gap_task_site", "gap_task_a", "gap_task_class", "gap_concepts_site"} <= set(keys)
    site = next(line for line in told.data["sections"][0]["lines"] if line["key"] == "gap_task_site")
    assert site["value"] <= site["control"] + 0.1
    with pytest.raises(UnknownName, match="site"):
        audit(model, data, by=["sites"])


@pytest.mark.parametrize("kind", ["labels", "value"])
def test_groups_by_class_take_classes(kind: str) -> None:
    data = testing.world(("binary",), kind)  # type: ignore[arg-type]
    model = testing._fit("cbm", data, {}, 0).fit(data)
    with pytest.raises(OptionError, match=r"--by class: the task is .* not one of several classes; name a fact"):
        audit(model, data, sections=["task"], by=["class"])


def test_what_a_section_cannot_compute_is_its_reason_and_a_bug_is_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strip that says the same of every row: no sparse head can be fitted to it, and everything else is still told."""
    data = plain(120)
    model = im.fit("cbm", data, reading="hard", mode="independent", epochs=2)
    with torch.no_grad():
        for parameter in model.bottleneck.parameters():
            parameter.mul_(0).sub_(1)
    told = audit(model, data, fail_if=["anec<0.5", "task<0"])
    whole(told)
    assert "constant" in next(section for section in told.data["sections"] if section["key"] == "sparsity")["why"]
    assert [limit["fails"] for limit in told.data["limits"]] == [True, False]
    one = replace(data, train=data.train.take(np.flatnonzero(data.train.y.numpy() == 1)))
    whole(audit(model, one))

    def bug(_: Any) -> Any:
        raise ValueError("a bug")

    monkeypatch.setitem(SECTIONS, "task", ("Answers", bug))
    with pytest.raises(ValueError, match="a bug"):
        audit(model, data, sections=["task"])


def test_groups_by_texts_and_rows_of_which_nothing_is_known() -> None:
    data = plain()
    sites = lambda part: ["north" if i % 3 else "unknown" for i in range(len(part))]  # noqa: E731
    age = lambda part: torch.tensor([61.0 if i % 3 else float("nan") for i in range(len(part))])  # noqa: E731
    parts = {n: getattr(data, n) for n in ("train", "validation", "test")}
    facts = {n: p.replace(facts={"site": sites(p), "age": age(p)}) for n, p in parts.items()}
    told = audit(im.fit("cbm", data, epochs=2), replace(data, **facts), sections=["subgroups"], by=["site", "age"])
    tables = {t["title"]: {row[0] for row in t["rows"]} for t in told.data["sections"][0]["tables"]}
    groups = [names for title, names in tables.items() if title.endswith(("by site", "by age"))]
    assert {"site=north", "unknown"} in groups and {"age=61", "unknown"} in groups


def test_the_same_seed_gives_the_same_card_and_rows_are_capped() -> None:
    data = plain()
    model = im.fit("cbm", data, epochs=5)
    one, two = (audit(model, data, rows=100, sections=["task", "leaks", "impurity"]) for _ in range(2))
    assert one.scores == two.scores and one.data["test_rows"] == 100
    said = one.data["command"]
    assert said == "isthmus.audit(model, <data plain>, sections=['task', 'leaks', 'impurity'], rows=100)"
    few = audit(model, data, sections=["task"], by=["site"], fail_if=["task<2"], target=0.9, seed=1).data["command"]
    assert few == ("isthmus.audit(model, <data plain>, sections=['task'], fail_if=['task<2'], by=['site'], target=0.9, seed=1)")


def test_nothing_of_the_test_rows_teaches_a_probe() -> None:
    """Test labels that are turned over change no probe: its accuracy becomes one minus what it was."""
    data = plain()
    model = im.fit("cbm", data, epochs=20)
    before = audit(model, data, sections=["completeness"])
    from isthmus.audit.subject import Subject

    said = Subject(model, data).told(Subject(model, data).inputs("values"))
    flipped = Splits(data.train, data.validation, data.test.replace(y=1 - data.test.y), name="flipped")
    again = Subject(model, flipped).told(Subject(model, flipped).inputs("values"))
    np.testing.assert_array_equal(said, again)
    assert before["completeness"] > 0.9


def test_limits() -> None:
    limits = parse(["bypass>0.05", " ctl.high >= .1", "task<0.9"])
    assert [(limit.key, limit.end, limit.sign, limit.edge) for limit in limits] == [
        ("bypass", "value", ">", 0.05), ("ctl", "high", ">=", 0.1), ("task", "value", "<", 0.9),
    ]  # fmt: skip
    spaced = parse([" gap_task_ace of spades > 0.9", "gap_task_ace of spades.low>=0.9", "gap_task_a<b<0.9"], KEYS)
    assert [(limit.key, limit.end, limit.sign) for limit in spaced] == [
        ("gap_task_ace of spades", "value", ">"), ("gap_task_ace of spades", "low", ">="), ("gap_task_a<b", "value", "<"),
    ]  # fmt: skip
    lines = [
        {
            "lines": [
                {"key": "bypass", "value": 0.05, "low": 0.0, "high": 0.2},
                {"key": "ctl", "value": 0.0, "low": None, "high": 0.1},
            ]
        }
    ]
    told = judged(limits, lines)
    assert [one["fails"] for one in told] == [False, True, True] and "not there" in told[2]["why"]
    for bad in ("bypass", "bypass=1", "bypass>x", ">1", "bypass>nan", "", "ctl>inf", "ctl>1e999", "ctl>0_1"):
        with pytest.raises(OptionError, match="--fail-if"):
            parse([bad])
    with pytest.raises(UnknownName, match="did you mean"):
        parse(["bypas>1"], KEYS)
    with pytest.raises(UnknownName):
        parse(["gap_>1"], KEYS)
    assert parse(["gap_task_class>0.1"], KEYS)


def test_refusals() -> None:
    data = plain(60)
    model = im.fit("cbm", data, epochs=2)
    for call, said in (
        (lambda: audit(model, data.test), "expected Splits"),  # type: ignore[arg-type]
        (lambda: audit(model, data, target=0), "target"),
        (lambda: audit(model, data, rows=5), "20 rows"),
        (lambda: audit(model, data, rows=20.5), r"20 rows or more, got 0.95 and 20.5"),  # type: ignore[arg-type]
        (lambda: audit(model, data, target="x"), "got 'x' and 2000"),  # type: ignore[arg-type]
        (lambda: audit(model, data, sections="leak"), "section 'leak'; did you mean"),
        (lambda: audit(model, data, sections=["leak"]), "did you mean"),
        (lambda: audit(model, testing.world(("binary",))), "labelled with"),
    ):
        with pytest.raises(IsthmusError, match=said):
            call()


def test_hostile_names_stay_text() -> None:
    data = plain(80)
    evil = "<script>alert(1)</script>\u202e"
    space = ConceptSpace.binary([evil[:25], "b", "c"])
    parts = [getattr(data, name).replace(space=space) for name in ("train", "validation", "test")]
    data = Splits(*parts, name=evil[:25])
    page = html(audit(im.fit("cbm", data, epochs=2), data, name="<img src=x>").data)
    assert "<script>alert" not in page and "<img src=x" not in page


def test_the_command(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from isthmus.cli import app

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = CliRunner()
        assert (
            run.invoke(app, ["fit", "cbm", "tabular_toy:rows=600", "--out", str(tmp_path / "m"), "--set", "epochs=5"]).exit_code
            == 0
        )
        sections = ["--section", "leaks", "--section", "task"]
        done = run.invoke(app, ["audit", str(tmp_path / "m"), "--json", *sections])
        assert done.exit_code == 0 and json.loads(done.stdout)["schema"] == "isthmus.audit/1"
        assert (tmp_path / "m.audit.html").is_file() and (tmp_path / "m.audit.json").is_file()
        asked = ["--rows", "40", "--seed", "3", "--target", ".9", "--by", "class", "--section", "subgroups", "--json"]
        asked += ["--fail-if", "gap_task_a class>2"]
        words = json.loads(run.invoke(app, ["audit", str(tmp_path / "m"), *asked]).stdout)["command"]
        assert shlex.split(words) == ["isthmus", "audit", str(tmp_path / "m"), *asked]
        failed = run.invoke(app, ["audit", str(tmp_path / "m"), "--fail-if", "task<=1", *sections])
        assert failed.exit_code == 5 and "FAILS: task<=1" in failed.stdout
        wrong = run.invoke(app, ["audit", str(tmp_path / "m"), "--fail-if", "tusk<=1", *sections])
        assert wrong.exit_code == 2 and "did you mean" in wrong.stderr
    with pytest.raises(DataError):
        html({"schema": "isthmus.audit/9"})


def test_a_comparison_links_to_its_audits(tmp_path: Path) -> None:
    from isthmus.pages import audited

    data = plain(120)
    result = im.compare(data, methods=["cbm:joint"], seeds=[0], budget=1, options={"epochs": 3}, out=tmp_path)
    pages = audited(result, data, tmp_path)
    assert [page.name for page in pages] == ["blackbox.html", "cbm-joint.html"] and all(page.is_file() for page in pages)
    made = json.loads((tmp_path / "audits" / "cbm-joint.json").read_text())["command"]
    assert made == f"{result.data['command']}, then of row cbm joint: isthmus.audit(model, <data plain>)"
    report = (tmp_path / "report.html").read_text()
    assert 'href="audits/cbm-joint.html"' in report
    result.data["rows"][0]["audit"] = "javascript:alert(1)"
    assert "javascript" not in html(result.data)


def test_numbers_of_the_card_are_those_of_the_definitions() -> None:
    """Existence by weight times value; controls by hand; the threshold comes from validation rows alone."""
    from isthmus import metrics
    from isthmus.metrics.selective import threshold

    data = plain()
    model = im.fit("cbm", data, mode="independent", epochs=60)
    told = audit(model, data, sections=["existence", "concepts", "faithfulness", "selective", "importance"])
    out = model(data.test.x)
    at, c = out.logits.argmax(1), data.test.c.double().numpy()
    speaks = (out.concepts.values * model.head.weights[at]).detach().double().numpy()
    assert told["existence@1"] == pytest.approx(metrics.existence(c, speaks, 1), abs=1e-6)
    lines = {line["key"]: line for section in told.data["sections"] for line in section["lines"]}
    assert lines["existence@1"]["control"] == pytest.approx(c.mean(), abs=1e-6)
    rate = data.train.c.double().numpy().mean(0)
    assert lines["concept_accuracy"]["control"] == pytest.approx(((c > 0.5) == (rate > 0.5)).mean(), abs=1e-6)
    assert (
        lines["deletion"]["value"] < lines["deletion"]["control"]
        and lines["insertion"]["value"] > lines["insertion"]["control"]
    )
    assert lines["cgim1"]["control"] != lines["cgim1"]["value"]
    sure = model(data.validation.x).logits.softmax(1).amax(1).double().numpy()
    right = (model(data.validation.x).logits.argmax(1) == data.validation.y).numpy()
    test = out.logits.softmax(1).amax(1).detach().double().numpy()
    assert lines["coverage"]["value"] == pytest.approx((test >= threshold(sure, right, 0.95, least=20)).mean(), abs=1e-6)


def test_decisions_of_labels_are_spoken_for_in_their_own_direction() -> None:
    data = testing.world(("binary",), "labels")
    model = testing._fit("cbm", data, {}, 0).fit(data)
    from isthmus.audit.subject import Subject

    found, _ = Subject(model, data).importance()
    out = model(data.test.x)
    sign = torch.where(out.logits > 0, 1.0, -1.0)
    want = (model.head.contributions(out.concepts) * sign[..., None]).mean(1)
    np.testing.assert_allclose(found, want.detach().numpy(), atol=1e-5)
