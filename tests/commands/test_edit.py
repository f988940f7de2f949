"""``isthmus edit``: the new model is what the function makes, RUN stays as it is, and its history can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus import hub, registry
from isthmus.commands import entries
from isthmus.data import load
from isthmus.features import build

TOY = "tabular_toy:rows=400"
WHY = ("--why", "a test")


@pytest.fixture(scope="module")
def linear(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linear") / "run"
    run("fit", "cbm", TOY, "--out", folder, "--epochs", 8, "--lr", ".01")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_each_edit_is_the_call_it_stands_for(run: Any, linear: Path, tmp_path: Path) -> None:
    model, before = hub.load(linear), files(linear)
    calls = {
        ("prune", "first positive", "third positive", "--class", "yes", "--normalise"): im.edit.prune(
            model, ["first positive", "third positive"], ["yes"], normalise=True, why="a test"
        ),
        ("reweight", "no", "second positive", "--weight", "-1.5"): im.edit.reweight(
            model, {("no", "second positive"): -1.5}, why="a test"
        ),
        ("rename", "first positive", "x1 > 0"): im.edit.rename(model, {"first positive": "x1 > 0"}, why="a test"),
        ("remove", "second positive"): im.edit.remove(model, ["second positive"], why="a test"),
    }
    rows = load("tabular_toy", rows=400).validation
    for words, expected in calls.items():
        out = tmp_path / words[0]
        told = json.loads(run("edit", linear, *words, *WHY, "--who", "ada", "--out", out, "--json").stdout)
        assert told["schema"] == "isthmus.edit/1"
        made = hub.load(out)
        assert told["entry"] == made.history[-1]
        assert made.history[-1]["after"] == expected.history[-1]["after"]
        assert (told["entry"]["who"], told["entry"]["why"]) == ("ada", "a test")
        right = (made(rows.x).logits.argmax(1) == rows.y).double().mean()
        assert told["entry"]["effect"]["after"] == pytest.approx(float(right), abs=1e-6)
        assert told["entry"]["effect"]["rows"] == len(rows)
        assert hub.card(out)["extra"] == hub.card(linear)["extra"]
    assert files(linear) == before


def test_the_folder_may_stand_before_or_after_the_edit_and_history_tells_all(run: Any, linear: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    said = run("edit", linear, "prune", "first positive", *WHY, "--out", one).stdout
    assert "1. prune first positive for no, yes" in said
    assert f"saved in {one}" in said
    run("edit", "rename", one, "second positive", "x2 > 0", "--why", "shorter", "--out", two)
    said = run("edit", two, "history").stdout
    lines = said.splitlines()
    assert lines[0] == "1. prune first positive for no, yes"
    assert "a test" in lines[1]
    assert [line for line in lines if line.startswith("2. ")] == ["2. rename second positive → x2 > 0"]
    assert "decisions changed, 40 rows" in said
    told = json.loads(run("edit", "history", two, "--json").stdout)
    assert told["schema"] == "isthmus.edit-history/1"
    assert told["edits"] == im.edit.history(hub.load(two))
    assert lines[-1].endswith(told["edits"][-1]["hash"])
    assert run("edit", linear, "history").stdout == "no edits\n"


def test_an_edited_run_is_asked_and_scored_under_its_new_names(run: Any, linear: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("edit", linear, "rename", "first positive", "x1 > 0", *WHY, "--out", out)
    scores = [json.loads(run("evaluate", each, "--json").stdout)["scores"] for each in (linear, out)]
    assert scores[0] == scores[1]
    assert "value" in scores[0]["concept_accuracy"]
    assert "x1 > 0" in run("intervene", out, "--set", "x1 > 0=1").stdout
    run("report", out, "--out", tmp_path / "report.html")
    assert "x1 &gt; 0" in (tmp_path / "report.html").read_text()


def test_a_damaged_chain_is_exit_code_3(run: Any, linear: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("edit", linear, "prune", "first positive", *WHY, "--out", out)
    rows = json.loads((out / "history.json").read_text())
    rows[-1]["who"] = "nobody"
    hub.write_json(out / "history.json", rows)
    hub.write_json(out / hub.MANIFEST, {name: hub.digest(out / name) for name in hub.FILES})
    assert "was changed since it was written" in run("edit", out, "history", code=3).stderr
    run("evaluate", out, code=3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pruen", "first positive"], "did you mean 'prune'"),
        ([], "expected what to do with it: prune, reweight"),
        (["prune", "first positiv"], "did you mean 'first positive'"),
        (["prune", "first positive", "--class", "yess"], "did you mean 'yes'"),
        (["rename", "first positive", "third positive"], "named 'third positive' already"),
        (["rename", "first positive", "two\nlines"], "printable"),
        (["remove", "first positive", "second positive", "third positive"], "at least one concept to stay"),
        (["retext", "first positive", "a text"], "either --vector FILE.npy or --encoder FEATURES"),
        (["retext", "first positive", "a text", "--vector", "none.npy"], "none.npy: expected an NPY file"),
        (["retext", "first positive", "a text", "--encoder", "glov"], "did you mean 'glove'"),
        (["retext", "first positive", "a text", "--encoder", "identity:dim=7"], "LinearBottleneck is not made from texts"),
        (["reweight", "yes", "first positive", "--weight", "heavy"], "--weight"),
        (["reweight", "yes", "first positive", "--weight", "1e39"], "expected a finite weight, from -3.4e+38"),
        (["prune"], "CONCEPT"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_and_writes_nothing(
    run: Any, linear: Path, tmp_path: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = run("edit", linear, *words, *WHY, "--out", "out", code=2) if words else run("edit", linear, code=2)
    assert said in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_why_and_another_folder_are_needed(run: Any, linear: Path, tmp_path: Path) -> None:
    assert "--why" in run("edit", linear, "remove", "first positive", "--out", tmp_path / "out", code=2).stderr
    assert "another folder than RUN" in run("edit", linear, "remove", "first positive", *WHY, "--out", linear, code=2).stderr
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "other files" in run("edit", linear, "remove", "first positive", *WHY, "--out", tmp_path, code=2).stderr
    assert "nope" in run("edit", tmp_path / "nope", "history", code=2).stderr


def test_words_of_people_cannot_write_to_the_terminal(run: Any, linear: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "printable" in run("edit", linear, "remove", "first positive", "--why", "a\x1b[31m", "--out", out, code=2).stderr
    model = hub.load(linear)
    new = im.edit.prune(model, 0, why="w")
    new.history[-1] |= {"why": "\x1b[31mred", "who": "a\nb"}
    new.history[-1]["hash"] = im.interventions.chain.sealed(new.history[-1])
    hub.save(new, out)
    said = run("edit", out, "history").stdout
    assert "\x1b" not in said
    assert "?[31mred" in said
    assert len(said.splitlines()) == 5


def test_an_effect_that_cannot_be_measured_is_a_note(run: Any, linear: Path, tmp_path: Path) -> None:
    homeless = tmp_path / "homeless"
    hub.save(hub.load(linear), homeless)
    result = run("edit", homeless, "remove", "first positive", *WHY, "--out", tmp_path / "out")
    assert "note: the effect is not measured" in result.stderr
    assert "effect not measured" in result.stdout
    assert hub.load(tmp_path / "out").history[-1]["effect"] is None


TEXTUAL = '''
"""A bottleneck made from texts."""
import torch
from isthmus.heads.linear import LinearHead
from isthmus.model import Bottleneck, ConceptModel, Concepts
from isthmus.registry import Card, method
from isthmus.train import Plan


class Similar(Bottleneck):
    def __init__(self, dim, space):
        super().__init__(space)
        self.register_buffer("rows", torch.zeros(len(space), dim))

    def forward(self, z, given=None):
        return Concepts(z @ self.rows.T)

    def write_text(self, columns, vectors):
        self.rows[columns] = vectors


@method(Card(title="Similar to texts", paper="none", year=2026, needs=()))
def similar(features, space, task):
    """Dot products."""
    return Plan(ConceptModel(features, Similar(features.dim, space), LinearHead(space, task), space, task), [])
'''


def test_a_text_is_replaced_by_a_vector_or_an_encoder(run: Any, tmp_path: Path) -> None:
    (tmp_path / "similar.py").write_text(TEXTUAL)
    np.savez(tmp_path / "words.npz", words=np.array(["cold", "wet"]), vectors=np.eye(2, 7, dtype=np.float32))
    np.save(tmp_path / "vector.npy", np.arange(1, 8))
    im.plugins.load_file(tmp_path / "similar.py")
    data = load("tabular_toy", rows=400)
    space = im.ConceptSpace(data.space.concepts, torch.zeros(3, 7))
    model = registry.get("similar").make(build("identity", dim=7), space, data.task).fit(data)
    hub.save(model, tmp_path / "run", extra={"data": {"name": TOY, "label": None, "concepts": None, "table": None}})
    how = {
        "vector": ("--vector", tmp_path / "vector.npy"),
        "encoder": ("--encoder", f"glove:weights={tmp_path / 'words.npz'}"),
    }
    expected = {"vector": torch.arange(1.0, 8), "encoder": torch.tensor([0.5, 0.5, 0, 0, 0, 0, 0])}
    for name, words in how.items():
        words = ("first positive", "cold wet", *words, "--name", "damp", *WHY, "--plugin", tmp_path / "similar.py")
        said = run("edit", tmp_path / "run", "retext", *words, "--out", tmp_path / name).stdout
        assert "1. retext first positive: no text → cold wet" in said
        assert "decisions changed, 40 rows" in said
        made = hub.load(tmp_path / name)
        assert torch.equal(made.bottleneck.rows[0], expected[name])
        assert not made.bottleneck.rows[1:].any()
        assert made.space.concepts[0].text == "cold wet"
        assert made.space.names[0] == "damp"


def test_repairs_are_the_calls_they_stand_for(run: Any, linear: Path, tmp_path: Path) -> None:
    model, data = hub.load(linear), load("tabular_toy", rows=400)
    shots = tmp_path / "shots.csv"
    rows = data.test.take(range(12))
    names = [f"x{k}" for k in range(rows.x.shape[1])]
    lines = [",".join([*names, "label"])]
    lines += [
        ",".join([*(f"{v:.6f}" for v in x), data.task.names[y]]) for x, y in zip(rows.x.tolist(), rows.y.tolist(), strict=True)
    ]
    shots.write_text("\n".join(lines))
    calls = {
        ("pin", "no", "second positive", "--weight", "-1.5"): im.repair.pin(
            model, {("no", "second positive"): -1.5}, data, why="a test", validation=data.validation
        ),
        ("recalibrate", "first positive"): im.repair.recalibrate(
            model,
            data.validation.take(range(0, len(data.validation), 2)),
            ["first positive"],
            why="a test",
            validation=data.validation.take(range(1, len(data.validation), 2)),
        ),
        ("forget", "no", "--epochs", "20", "--lr", ".05", "--retain", ".5", "--seed", "3"): im.repair.forget(
            model, data, "no", epochs=20, lr=0.05, retain=0.5, seed=3, why="a test", validation=data.validation
        ),
        ("forget", "no", "--by", "head"): im.repair.forget(
            model, data, "no", by="head", why="a test", validation=data.validation
        ),
    }
    for at, (words, expected) in enumerate(calls.items()):
        out = tmp_path / f"{words[0]}{at}"
        told = json.loads(run("edit", linear, *words, *WHY, "--out", out, "--json").stdout)
        assert told["entry"]["after"] == expected.history[-1]["after"], words
    out = tmp_path / "adapted"
    told = json.loads(run("edit", linear, "adapt", shots, "--label", "label", *WHY, "--out", out, "--json").stdout)
    ones = int((rows.y == 1).sum())
    aside = sum(-(-count // 4) for count in (ones, 12 - ones))
    assert told["entry"]["edit"] == "adapt" and told["entry"]["what"]["support"]["rows"] == 12 - aside
    assert told["entry"]["effect"]["rows"] == aside, "rows of the new domain that chose nothing"
    assert "chose the change" in told["entry"]["what"]["support"]["judged_on"]
    words = ("adapt", shots, "--label", "label", "--held", "0", *WHY, "--json", "--out", tmp_path / "all")
    result = run("edit", linear, *words)
    told = json.loads(result.stdout)["entry"]
    assert told["what"]["support"]["rows"] == 12 and told["effect"]["rows"] == len(data.validation) // 2
    assert "the effect is of source rows" in result.stderr
    run("edit", linear, *words[:5], "1", *WHY, "--out", tmp_path / "none", code=2)
    shown = run("edit", out, "history").stdout
    assert "adapt" in shown and "the chain holds" in shown


def test_what_a_forgetting_did_to_the_class_is_printed_and_warned_of(run: Any, linear: Path, tmp_path: Path) -> None:
    weak = run("edit", linear, "forget", "no", "--epochs", "1", "--lr", "1e-5", *WHY, "--out", tmp_path / "weak")
    assert "warning: forget:" in weak.stderr and "still decided rightly" in weak.stderr
    assert "forget no (random labels, 1 epochs, lr 1e-05)" in weak.stdout and "right on the class" in weak.stdout
    hidden = run("edit", linear, "forget", "no", "--by", "head", *WHY, "--out", tmp_path / "hidden")
    assert "→ 0 (0 to 0)" in hidden.stdout and "membership AUC" in hidden.stdout and not hidden.stderr


def test_a_pin_is_told_with_its_effects_and_what_the_fit_alone_does(run: Any, linear: Path, tmp_path: Path) -> None:
    words = ("pin", "no", "second positive", "--weight", "0", *WHY, "--out", tmp_path / "pinned")
    said = run("edit", linear, *words).stdout
    assert "second positive for no" in said and "(from the mean over classes)" in said
    assert "second positive moves no by" in said and "the fit alone" in said and "the pin beyond it" in said


def test_features_unlearn_where_they_are_told_to(run: Any, linear: Path, tmp_path: Path) -> None:
    run("edit", linear, "forget", "no", "--encoder", "--lr", ".01", "--epochs", "20", *WHY, "--out", tmp_path / "gone")
    (entry,) = im.edit.history(hub.load(tmp_path / "gone"))
    assert entry["what"]["encoder"] and entry["what"]["lr"] == 0.01
    before, after = (hub.load(folder).state_dict() for folder in (linear, tmp_path / "gone"))
    assert any(not torch.equal(value, after[key]) for key, value in before.items() if key.startswith("features."))


def test_entries_of_before_are_told_by_what_they_have() -> None:
    """A pin and a forgotten class were once recorded without their effects."""
    pin = {"weights": [{"class": "M", "concept": "a", "from": 1.0, "to": 0.0}], "rows": 5}
    forget = {"class": "M", "by": "relabel", "labels": "random", "epochs": 5, "lr": 1e-3, "concepts": {"a": 1.0}}
    for edit, what, said in (("pin", pin, "pin a for M: 1 → 0"), ("forget", forget, "forget M (random labels")):
        assert said in entries._what(edit, what)


def test_several_weights_are_pinned_at_once_and_one_after_the_other(run: Any, linear: Path, tmp_path: Path) -> None:
    model, data = hub.load(linear), load("tabular_toy", rows=400)
    first, second = "first positive", "second positive"
    calls = {
        ("no", first, "yes", second, "--weight", "0"): {("no", first): 0.0, ("yes", second): 0.0},
        ("no", first, "yes", second, "--weight", "1", "--weight", "-2"): {("no", first): 1.0, ("yes", second): -2.0},
        (first, second, "--every-class", "--weight", "0"): {(y, k): 0.0 for k in (first, second) for y in ("no", "yes")},
    }
    for at, (words, pins) in enumerate(calls.items()):
        want = im.repair.pin(model, pins, data, why="a test", validation=data.validation)
        told = json.loads(run("edit", linear, "pin", *words, *WHY, "--out", tmp_path / str(at), "--json").stdout)
        assert told["entry"]["after"] == want.history[-1]["after"], words
    run("edit", tmp_path / "1", "pin", "yes", "third positive", "--weight", "0", *WHY, "--out", tmp_path / "more")
    later, columns = hub.load(tmp_path / "more"), model.space.columns
    assert float(later.head.weights[0, columns.index(first)]) == 1
    assert float(later.head.weights[1, columns.index(second)]) == -2
    for words, said in (
        (("no", first, "yes", "--weight", "0"), "expected pairs CLASS CONCEPT, got 3 names"),
        (("no", first, "--weight", "0", "--weight", "1"), "expected one --weight, or one for each of 1, got 2"),
        (("no", first, "no", first, "--weight", "0"), "'no first positive' twice"),
    ):
        assert said in run("edit", linear, "pin", *words, *WHY, "--out", tmp_path / "bad", code=2).stderr


def test_a_forgotten_class_stays_forgotten_when_another_is_pinned(run: Any, linear: Path, tmp_path: Path) -> None:
    run("edit", linear, "forget", "no", "--by", "head", *WHY, "--out", tmp_path / "gone")
    words = ("pin", "yes", "first positive", "--weight", "0", *WHY, "--out", tmp_path / "pinned", "--json")
    entry = json.loads(run("edit", tmp_path / "gone", *words).stdout)["entry"]
    assert entry["what"]["forgotten"] == {"no": {"before": 0.0, "after": 0.0}}
    rows = load("tabular_toy", rows=400).test
    assert not bool((hub.load(tmp_path / "pinned")(rows.x).logits.argmax(1) == 0).any())
    assert "held: forgotten no" in run("edit", tmp_path / "pinned", "history").stdout


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A table of two inputs, two concepts and classes p, q, r, 40 rows each."""
    draw = np.random.default_rng(0)
    lines = ["u,v,big,wide,label"]
    for number, label in enumerate("pqr"):
        for u, v in draw.normal(size=(40, 2)) + 2 * number:
            lines.append(f"{u:.4f},{v:.4f},{int(u > 2)},{int(v > 2)},{label}")
    (tmp_path / "three.csv").write_text("\n".join(lines))
    return tmp_path / "three.csv"


def test_an_adaptation_follows_the_classes_of_the_run(run: Any, three: Path, tmp_path: Path) -> None:
    from isthmus.commands.source import read
    from isthmus.data import only_classes

    data = only_classes(read(str(three), label="label", concepts="big,wide").splits, ["p", "r"])
    model = im.fit("cbm", data, features="identity", epochs=5)
    source = {"name": str(three), "label": "label", "concepts": "big,wide", "table": None}
    hub.save(model, tmp_path / "run", extra={"data": source, "inputs": ["u", "v"], "classes": ["p", "r"]})
    words = ("edit", tmp_path / "run", "adapt", three, "--label", "label", *WHY)
    told = json.loads(run(*words, "--concepts", "big,wide", "--out", tmp_path / "new", "--json").stdout)["entry"]
    assert told["what"]["support"]["rows"] + told["effect"]["rows"] == 80, "rows of p and r alone"
    said = run(*words, "--out", tmp_path / "bad", code=2).stderr
    assert "expected the 2 input columns" in said and "got 4" in said
    assert "not inputs of the run: big, wide; name concept columns by --concepts" in said
