"""fit, predict, evaluate, intervene and report on small worlds, from the command line to the files."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from isthmus import hub
from isthmus.api import predict
from isthmus.commands.source import Loaded, read
from isthmus.commands.writing import write_folder
from isthmus.data import load
from isthmus.errors import DataError
from isthmus.progress import Bar
from isthmus.testing import world

ROOT = Path(__file__).parents[2]
TOY = "tabular_toy:rows=400"
QUICK = ("--epochs", 2)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_fit_says_what_it_did_and_the_model_knows_its_data(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    told = json.loads(run("fit", "cem", TOY, "--out", out, *QUICK, "--width", 4, "--seed", 3, "--json").stdout)
    assert told["method"] == "cem"
    assert told["options"] == {"epochs": 2, "width": 4}
    assert (told["seed"], told["epochs"], told["concepts"]) == (3, 2, 3)
    card = hub.card(out)
    assert card["extra"]["data"]["name"] == TOY
    assert card["seed"] == 3
    assert sorted(file.name for file in out.parent.iterdir()) == ["run"], "no checkpoint is left behind"


def test_fit_is_the_call_it_stands_for(run: Any, tmp_path: Path) -> None:
    import isthmus

    run(
        "fit",
        "cbm",
        TOY,
        "--out",
        tmp_path / "run",
        *QUICK,
        "--mode",
        "sequential",
        "--set",
        "hidden=8",
        "--set",
        "head=mlp",
    )
    data = load("tabular_toy", rows=400)
    model = isthmus.fit("cbm", data, epochs=2, mode="sequential", hidden=8, head="mlp")
    ours = hub.load(tmp_path / "run")
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), model.state_dict().values(), strict=True))


def test_a_bool_option_is_a_pair_of_flags(run: Any, plugin: Path, tmp_path: Path) -> None:
    said = run("fit", "flagged", "--plugin", plugin, "--help").stdout
    assert "--loud" in said
    assert "--no-loud" in said
    assert "--set seed=VALUE" in " ".join(said.split()), "an option that the command has too is set by --set"
    for words, loud in ((["--loud"], True), (["--no-loud"], False), ([], False)):
        out = tmp_path / f"run{len(words)}{loud}"
        told = json.loads(run("fit", "flagged", TOY, "--plugin", plugin, "--out", out, "--epochs", 1, *words, "--json").stdout)
        assert told["options"].get("loud", False) is loud


PLUGIN = '''
"""A method of one's own."""
from isthmus.methods.cbm import cbm
from isthmus.registry import Card, method


@method(Card(title="A flagged bottleneck", paper="none", year=2026, notes="from a file"))
def flagged(features, space, task, *, epochs: int = 3, loud: bool = False, seed: int = 0):
    """A cbm under another name."""
    return cbm(features, space, task, epochs=epochs)


@method(Card(title="Needs a thing", paper="none", year=2026))
def needy(features, space, task, *, thing: str):
    """It cannot do without."""
    return cbm(features, space, task, epochs=1)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "flagged.py"
    file.write_text(PLUGIN)
    return file


def test_a_plugin_is_listed_shown_fitted_and_compared(run: Any, plugin: Path, tmp_path: Path) -> None:
    listed = json.loads(run("list", "--plugin", plugin, "--json").stdout)["methods"]
    assert next(m for m in listed if m["name"] == "flagged")["title"] == "A flagged bottleneck"
    assert "from a file" in run("show", "flagged", "--plugin", plugin).stdout
    words = (
        "compare",
        "xor:rows=200",
        "--plugin",
        plugin,
        "--method",
        "flagged",
        "--seeds",
        1,
        "--budget",
        1,
        "--set",
        "epochs=1",
    )
    told = json.loads(run(*words, "--encoder", "epochs=1", "--json").stdout)
    assert [row["name"] for row in told["rows"]] == ["blackbox", "flagged"]
    lacking = run("fit", "needy", "xor:rows=200", "--plugin", plugin, "--out", tmp_path / "n", code=2).stderr
    assert "needs option 'thing'" in lacking
    every = json.loads(run("compare", "xor:rows=200", "--plugin", plugin, "--seeds", 1, "--budget", 1, "--set", "epochs=1",
                           "--encoder", "epochs=1", "--json").stdout)  # fmt: skip
    assert {"method": "needy", "title": "Needs a thing", "unmet": "option 'thing'"} in every["left_out"]


def test_a_model_of_a_plugin_asks_for_its_file(run: Any, plugin: Path, tmp_path: Path) -> None:
    run("fit", "flagged", "xor:rows=200", "--plugin", plugin, "--out", tmp_path / "run", "--epochs", 1)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    asked = [sys.executable, "-m", "isthmus.cli", "evaluate", str(tmp_path / "run"), "--json"]
    alone = subprocess.run(asked, capture_output=True, text=True, env=env, timeout=120)
    assert alone.returncode == 2
    assert "--plugin" in alone.stderr
    beside = subprocess.run([*asked, "--plugin", str(plugin)], capture_output=True, text=True, env=env, timeout=120)
    assert beside.returncode == 0, beside.stderr
    assert json.loads(beside.stdout)["method"] == "flagged"


def test_predictions_are_those_of_the_model(run: Any, fitted: Path, tmp_path: Path) -> None:
    x = load("tabular_toy", rows=400).test.x
    np.savez(tmp_path / "rows.npz", x=x.numpy())
    made = predict(hub.load(fitted), x)
    found = rows(run("predict", fitted, tmp_path / "rows.npz").stdout)
    assert [row["decision"] for row in found] == made.decisions
    assert [float(row["first positive"]) for row in found] == pytest.approx(made.concepts[:, 0].tolist(), rel=1e-5)
    assert [float(row["probability"]) for row in found] == pytest.approx(made.probabilities.max(1).values.tolist(), rel=1e-5)
    assert found[3]["row"] == "rows.npz:3"
    told = json.loads(run("predict", fitted, tmp_path / "rows.npz", "--json").stdout)
    assert told["rows"][0]["probabilities"] == pytest.approx(
        dict(zip(("no", "yes"), made.probabilities[0].tolist(), strict=True))
    )


def test_predictions_go_into_a_file(run: Any, fitted: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", load("tabular_toy", rows=400).test.x[:5].numpy())
    run("predict", fitted, tmp_path / "rows.npy", "--out", tmp_path / "out" / "p.csv")
    run("predict", fitted, tmp_path / "rows.npy", "--out", tmp_path / "out" / "p.json")
    assert len(rows((tmp_path / "out" / "p.csv").read_text())) == 5
    assert len(json.loads((tmp_path / "out" / "p.json").read_text())["rows"]) == 5
    assert ".csv or .json" in run("predict", fitted, tmp_path / "rows.npy", "--out", "p.txt", code=2).stderr


@pytest.mark.parametrize("task", ["labels", "value"])
def test_other_tasks_are_predicted_and_corrected(task: str, run: Any, tmp_path: Path) -> None:
    write_folder(Loaded(world(("binary", "categorical"), task)), tmp_path / "data")
    run("fit", "cbm", tmp_path / "data", "--out", tmp_path / "run", "--epochs", 3)
    found = rows(run("predict", tmp_path / "run", tmp_path / "data" / "table.csv").stdout)
    made = predict(hub.load(tmp_path / "run"), read(str(tmp_path / "data")).splits.train.x)
    if task == "labels":
        assert list(found[0])[:5] == ["row", "decision", "p(a)", "p(b)", "p(c)"]
        assert [row["decision"] for row in found[:5]] == ["; ".join(names) for names in made.decisions[:5]]  # type: ignore[arg-type]
    else:
        assert "probability" not in found[0]
        assert [float(row["decision"]) for row in found[:5]] == pytest.approx(made.decisions[:5])
    told = json.loads(run("intervene", tmp_path / "run", "--set", "colour=blue", "--set", "size=l=0", "--json").stdout)
    assert [step["given"] for step in told["steps"]] == ["blue", "l=0"]
    said = run("evaluate", tmp_path / "run").stdout
    assert "on data, 32 test rows" in said
    assert ("not applicable" in said) == (task == "value"), "NEC needs a linear head, which cbm has"


def test_images_of_any_size_are_predicted(run: Any, tmp_path: Path) -> None:
    run("data", "make", "poker:train=24,validation=8,test=8", "--out", tmp_path / "cards")
    words = ("--features", "cnn:width=4,dim=8", "--epochs", 1)
    run("fit", "cbm", tmp_path / "cards", "--out", tmp_path / "run", *words)
    (tmp_path / "big").mkdir()
    picture = tmp_path / "cards" / "images" / "test" / "000000.png"
    shutil.copy(picture, tmp_path / "big" / "a.png")
    with Image.open(picture) as opened:
        opened.resize((224, 112)).save(tmp_path / "big" / "b.jpg")
    told = json.loads(run("predict", tmp_path / "run", tmp_path / "big", picture, "--json").stdout)["rows"]
    assert [Path(row["row"]).name for row in told] == ["a.png", "b.jpg", "000000.png"]
    assert told[0]["concepts"] == pytest.approx(told[2]["concepts"], abs=1e-5)
    assert len(told[1]["concepts"]) == 52


def test_demo_hands_its_options_on(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isthmus import compare, demo

    asked: list[Any] = []

    def main(out: Path, **options: Any) -> Any:
        assert options.pop("command").startswith(f"isthmus demo --out {tmp_path / 'd'} --s")
        asked.append((out, options.pop("say") is not None, options))
        return compare("xor", methods=["cbm:joint"], seeds=[0], budget=1, options={"epochs": 1}, training={"epochs": 1})

    monkeypatch.setattr(demo, "main", main)
    said = run("demo", "--out", tmp_path / "d", "--seed", 2).stdout
    assert "cbm joint" in said
    assert f"report: {tmp_path / 'd' / 'report.html'}" in said
    run("demo", "--out", tmp_path / "d", "--small")
    assert asked == [
        (tmp_path / "d", True, {"seed": 2}),
        (tmp_path / "d", True, {"seed": 0, "train": 600, "test": 200, "epochs": 2}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "x1,x2\n1,2\n", "expected 7 columns"),
        ("b.csv", "x1,x2,x3,x4,x5,x6,x7\n1,2,3,4,5,6,word\n", "column 'x7', row 0"),
        ("c.csv", "x1,x2,x3,x4,x5,x6,x7\n1,2,3,4,5,6\n", "row 0: expected 7 cells"),
        ("d.csv", "x1,x2,x3,x4,x5,x6,x7\n", "at least one row"),
        ("e.csv", "", "header"),
        ("f.npz", "not an archive", "NumPy"),
        ("g.xyz", "1", ".csv"),
        ("h.csv", "x1,x2,x3,x4,x5,x6,x7\n1,2,3,4,5,6,nan\n", "finite"),
        ("i.png", "not a picture", "readable"),
    ],
)
def test_rows_that_do_not_fit_are_named(name: str, content: str, said: str, run: Any, fitted: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    message = run("predict", fitted, tmp_path / name, code=2).stderr
    assert said in message
    assert name in message


def test_files_of_two_kinds_and_missing_ones_are_refused(run: Any, fitted: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "a.npy").write_text("x")
    assert "one kind" in run("predict", fitted, tmp_path / "a.csv", tmp_path / "a.npy", code=2).stderr
    assert "gone.csv" in run("predict", fitted, tmp_path / "gone.csv", code=2).stderr
    assert "image files" in run("predict", fitted, tmp_path, code=2).stderr


def test_evaluate_scores_the_data_it_was_fitted_on(run: Any, fitted: Path) -> None:
    import isthmus

    told = json.loads(run("evaluate", fitted, "--json").stdout)
    ours = isthmus.evaluate(hub.load(fitted), load("tabular_toy", rows=400).test)
    assert told["scores"]["accuracy"]["value"] == ours["accuracy"]
    assert told["schema"] == "isthmus.evaluation/1"
    assert told["split"] == "test"
    said = run("evaluate", fitted, TOY, "--split", "validation").stdout
    assert "40 validation rows" in said
    assert "task accuracy" in said
    assert "after correcting k concepts" in said


def test_evaluate_refuses_another_task(run: Any, fitted: Path) -> None:
    message = run("evaluate", fitted, "poker:train=20,validation=10,test=10", code=2).stderr
    assert "classes no, yes" in message
    assert "high card" in message


def test_intervene_in_words_and_as_json(run: Any, fitted: Path) -> None:
    words = ("intervene", fitted, "--row", 3, "--set", "first positive=1", "--set", "second positive=1")
    said = run(*words).stdout
    assert "first positive: 0." in said or "first positive: 1." in said
    assert "given 1; second positive" in said
    assert "truth: " in said
    assert "ask next: third positive" in said
    greedy = run(*words, "--policy", "greedy")
    assert "ask next (by ucp, for greedy: it looks at the true answer): third positive" in greedy.stdout
    told = json.loads(run(*words, "--json").stdout)
    assert told["ask_next_by"] == "ucp" and told["ask_next_why"] == ""
    every = json.loads(run("intervene", fitted, "--row", 3, "--budget", 10**21, "--json").stdout)
    assert len(every["steps"]) == 3 and every["ask_next"] == []
    assert json.loads(run(*words, "--policy", "ectp", "--json").stdout)["ask_next_by"] == "ectp"
    assert json.loads(run(*words, "--policy", "random:group", "--json").stdout)["ask_next_by"] == "ucp:group"
    assert told["text"] in said
    assert [step["concept"] for step in told["steps"]] == ["first positive", "second positive"]
    assert set(told["probabilities"]) == {"no", "yes"}


def test_a_state_may_be_called_no_or_none(run: Any, tmp_path: Path) -> None:
    lines = "".join(f"{i},{('no', 'yes')[i % 2]},{('2', 'none.')[i % 2]},{'uv'[i % 2]}\n" for i in range(40))
    (tmp_path / "rows.csv").write_text("a,grain,shape,y\n" + lines)
    words = ("--label", "y", "--concepts", "grain,shape", "--epochs", 1)
    run("fit", "cbm", tmp_path / "rows.csv", "--out", tmp_path / "run", *words)
    asked = ("intervene", tmp_path / "run", "--set")
    told = json.loads(run(*asked, "grain=no", "--set", "shape=2", "--json").stdout)
    assert [step["given"] for step in told["steps"]] == ["no", "2"]
    assert json.loads(run(*asked, "grain=unknown", "--json").stdout)["steps"] == []
    assert "did you mean 'yes'" in run(*asked, "grain=yess", code=2).stderr
    assert "known: no, yes" in run(*asked, "grain=1", code=2).stderr


def test_a_policy_reveals_labels(run: Any, fitted: Path) -> None:
    assert len(json.loads(run("intervene", fitted, "--budget", 1, "--json").stdout)["steps"]) == 1
    told = json.loads(run("intervene", fitted, "--row", 0, "--budget", 3, "--policy", "random", "--json").stdout)
    c = load("tabular_toy", rows=400).test.c
    assert c is not None
    assert [step["given"] for step in told["steps"]] == [f"{value:g}" for value in c[0].tolist()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--row", "80"], "0 to 79"),
        (["--row", "-1"], "0 to 79"),
        (["--set", "first positiv=1"], "did you mean 'first positive'"),
        (["--set", "first positive=7"], "0 to 1"),
        (["--set", "first positive"], "name=value"),
        (["--policy", "ucpp", "--budget", "1"], "did you mean 'ucp'"),
    ],
    ids=" ".join,
)
def test_a_wrong_correction_is_refused(words: list[str], said: str, run: Any, fitted: Path) -> None:
    assert said in run("intervene", fitted, *words, code=2).stderr


def test_a_flipped_byte_is_exit_code_3_and_named(run: Any, fitted: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(fitted, broken)
    weights = bytearray((broken / "weights.safetensors").read_bytes())
    weights[-3] ^= 1
    (broken / "weights.safetensors").write_bytes(weights)
    for words in (["evaluate", broken], ["predict", broken, "x.csv"], ["intervene", broken], ["report", broken]):
        assert "weights.safetensors" in run(*words, code=3).stderr
    (broken / "weights.safetensors").unlink()
    assert "missing" in run("evaluate", broken, code=3).stderr


def test_reports_of_a_run_and_of_a_comparison(run: Any, fitted: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("report", fitted, "--out", page).stdout.strip() == str(page)
    assert "tabular_toy" in page.read_text()
    out = tmp_path / "compared"
    quick = ("--seeds", 1, "--budget", 1, "--set", "epochs=1", "--encoder", "epochs=1", "--method", "cbm:joint")
    result = run("compare", "xor:rows=200", *quick, "--out", out)
    command = json.loads((out / "comparison.json").read_text())["command"]
    assert command.startswith("isthmus compare xor:rows=200 --seeds 1 --budget 1 --set epochs=1")
    assert "cbm joint" in result.stdout
    assert "three seeds" in result.stderr
    first = (out / "report.html").read_text()
    (out / "report.html").unlink()
    run("report", out)
    assert (out / "report.html").read_text() == first
    run("report", out / "comparison.json", "--out", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == first


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        ("{", 3, "expected the JSON"),
        ("[]", 2, "isthmus.compare/1"),
        ('{"schema": "isthmus.fit/1"}', 2, "isthmus.fit/1"),
        ('{"schema": "isthmus.compare/1"}', 2, "'rows'"),
    ],
)
def test_a_broken_result_is_refused(content: str, code: int, said: str, run: Any, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(content)
    assert said in run("report", tmp_path / "result.json", code=code).stderr
    assert not (tmp_path / "result.html").exists()


def test_a_result_that_breaks_the_page_is_damaged(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def html(found: dict[str, Any]) -> str:
        return found["rows"][0]["scores"]

    monkeypatch.setattr(import_module("isthmus.report"), "html", html)
    (tmp_path / "result.json").write_text('{"schema": "isthmus.compare/1", "rows": []}')
    assert "IndexError" in run("report", tmp_path / "result.json", code=3).stderr


def test_compare_hands_on_what_was_asked_and_leaves_the_rest_to_the_data(run: Any, monkeypatch: Any) -> None:
    asked: list[dict[str, Any]] = []

    def compare(splits: Any, **named: Any) -> Any:
        asked.append(named)
        raise DataError("enough")

    monkeypatch.setattr(import_module("isthmus.compare"), "compare", compare)
    run("compare", "xor:rows=200", code=2)
    words = ("--policy", "kflip=1,3", "--set", "epochs=3", "--encoder", "lr=.1", "--features", "mlp:hidden=[8,4]")
    run("compare", "xor:rows=200", *words, "--seeds", 5, "--budget", 2, "--method", "cem", code=2)
    for name in ("policies", "features", "methods", "out"):
        assert asked[0][name] is None, name
    assert (asked[0]["options"], asked[0]["training"], list(asked[0]["seeds"]), asked[0]["budget"]) == ({}, {}, [0, 1, 2], 4)
    assert asked[1]["policies"] == {"kflip": [1, 3]}
    assert asked[1]["options"] == {"epochs": "3"}
    assert asked[1]["training"] == {"lr": 0.1}
    assert (asked[1]["features"], asked[1]["feature_options"]) == ("mlp", {"hidden": [8, 4]})
    assert (list(asked[1]["seeds"]), asked[1]["budget"], asked[1]["methods"]) == ([0, 1, 2, 3, 4], 2, ["cem"])


def test_fit_never_writes_over_other_files(run: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    early = run("fit", "cbm", "gone.csv", "--out", tmp_path, *QUICK, code=2).stderr
    assert "other files" in early, "before any data is read"
    assert "cannot" in run("fit", "cbm", TOY, "--out", tmp_path / "thesis.txt" / "run", *QUICK, code=2).stderr
    assert "other files" in run("fit", "cbm", TOY, "--out", tmp_path / "r", "--checkpoint", tmp_path, *QUICK, code=2).stderr
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_stopped_fit_goes_on_where_it_was(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("fit", "cbm", TOY, "--epochs", 4, "--mode", "sequential", "--out")
    run(*words, tmp_path / "whole")

    def stop(self: Bar, stage: str, epoch: int, epochs: int, numbers: dict[str, float]) -> None:
        if (stage, epoch) == ("head", 2):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bar, "__call__", stop)
        stopped = run(*words, tmp_path / "run", code=130)
    assert f"stopped: the state lies in {tmp_path / 'run.checkpoint'}; add --resume" in stopped.stderr
    assert not (tmp_path / "run").exists()
    assert "unfinished fit" in run(*words, tmp_path / "run", code=2).stderr
    another = run("fit", "cbm", TOY, "--epochs", 5, "--out", tmp_path / "run", "--resume", code=3).stderr
    assert "another fit" in another
    run(*words, tmp_path / "run", "--resume")
    whole, resumed = (hub.load(tmp_path / name).state_dict() for name in ("whole", "run"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not (tmp_path / "run.checkpoint").exists()


def test_predict_takes_the_test_rows_of_a_data_set_and_columns_by_tab(run: Any, fitted: Path, tmp_path: Path) -> None:
    told = json.loads(run("predict", fitted, TOY, "--json").stdout)
    loaded = read(TOY).splits
    assert [row["row"] for row in told["rows"]] == [f"test {i}" for i in range(len(loaded.test))]
    assert "expected classes" in run("predict", fitted, "poker:train=12,validation=6,test=6", code=2).stderr
    columns = loaded.test.x[:3]
    lines = ["\t".join(f"x{i + 1}" for i in range(columns.shape[1])), *("\t".join(f"{v:.6f}" for v in row) for row in columns)]
    (tmp_path / "rows.tsv").write_text("\n".join(lines) + "\n")
    tabbed = json.loads(run("predict", fitted, tmp_path / "rows.tsv", "--json").stdout)
    assert [row["decision"] for row in tabbed["rows"]] == [row["decision"] for row in told["rows"][:3]]


def test_data_that_changed_since_the_fit_is_not_scored_unasked(run: Any, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    lines = [f"{a:.3f},{b:.3f},{int(a > 0)},{'yes' if b > 0 else 'no'}" for a, b in draw.normal(size=(80, 2))]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(["p,q,high,y", *lines]) + "\n")
    run("fit", "cbm", file, "--label", "y", "--concepts", "high", "--out", tmp_path / "run", *QUICK)
    run("evaluate", tmp_path / "run")
    file.write_text("\n".join(["p,q,high,y", *lines, "1.000,1.000,1,yes"]) + "\n")
    assert "rows that were trained on may be scored" in run("evaluate", tmp_path / "run", code=2).stderr
    run("evaluate", tmp_path / "run", file, "--label", "y", "--concepts", "high")


def test_restart_drops_the_checkpoint(run: Any, tmp_path: Path) -> None:
    place = tmp_path / "run.checkpoint"
    place.mkdir()
    (place / "stage-0.safetensors").write_bytes(b"damaged")
    words = ("fit", "cbm", TOY, *QUICK, "--out", tmp_path / "run")
    assert "stage-0.safetensors" in run(*words, "--resume", code=3).stderr
    run(*words, "--restart")
    assert not place.exists()
    assert "no checkpoint there" in run(*words, "--resume").stderr


def test_ctrl_c_of_a_real_process(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    words = ["fit", "cbm", "tabular_toy", "--epochs", "100000", "--patience", "0", "--out", str(tmp_path / "run")]
    asked = [sys.executable, "-m", "isthmus.cli", *words]
    # A child of a background job inherits SIGINT ignored: start one that heeds it, as from a terminal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        until = time.monotonic() + 100
        while not (tmp_path / "run.checkpoint" / "stage-0.safetensors").exists() and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 130, err
    assert out == ""
    assert "run.checkpoint; add --resume" in err
    assert "Traceback" not in err
