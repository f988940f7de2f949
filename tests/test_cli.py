"""The command ``isthmus`` as a whole: help, names, exit codes, one-line errors, the page of the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner, Result

from isthmus import errors
from isthmus.cli import app
from isthmus.commands import manual
from isthmus.commands.console import MEANING, Code, code_of, one_line, plain

ROOT = Path(__file__).parents[1]


def run(words: Sequence[object], code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, f"exit code {result.exit_code}\n{result.stdout}\n{result.stderr}"
    return result


def error(words: Sequence[object], code: int = 2) -> str:
    """The one line that a failing command says on stderr; stdout stays empty."""
    result = run(words, code)
    assert result.stdout == ""
    assert result.stderr.startswith("error: "), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


def paths() -> list[list[str]]:
    """Every command and subcommand as words."""
    root: Any = get_command(app)
    found: list[list[str]] = []
    for name, command in root.commands.items():
        found += [[name], *([name, sub] for sub in getattr(command, "commands", {}))]
    return found


def process(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A real process."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    asked = [sys.executable, "-m", "isthmus.cli", *map(str, words)]
    return subprocess.run(asked, capture_output=True, text=True, env=env, timeout=120)


@pytest.mark.parametrize("words", paths(), ids=" ".join)
def test_every_command_explains_itself(words: list[str]) -> None:
    said = run([*words, "--help"]).stdout
    assert "Usage: isthmus " + " ".join(words) in said
    assert "--help" in said


def test_alone_it_names_the_three_commands_a_newcomer_wants() -> None:
    said = run([]).stdout
    start = said[said.index("Start here") : said.index("One model")]
    assert [line.split()[1] for line in start.splitlines() if line.startswith("│ ") and line[2] != " "] == [
        "demo",
        "list",
        "compare",
    ]
    assert "Exit codes" in said


def test_help_of_fit_shows_the_options_of_the_method() -> None:
    said = run(["fit", "cbm", "--help"]).stdout
    assert "Options of cbm" in said
    assert "--mode" in said
    assert "[default: joint]" in said
    assert "--randint" not in said
    assert "--randint" in run(["fit", "cem", "--help"]).stdout
    assert "Options of" not in run(["fit", "--help"]).stdout


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["fti"], "fit"),
        (["fit", "cbn", "xor", "--out", "never"], "cbm"),
        (["fit", "cbm", "xorr", "--out", "never"], "xor"),
        (["fit", "cbm", "xor:row=3", "--out", "never"], "rows"),
        (["fit", "cbm", "xor", "--out", "never", "--epoch", "3"], "--epochs"),
        (["fit", "cbm", "xor", "--out", "never", "--features", "mpl"], "mlp"),
        (["fit", "cbm", "xor", "--out", "never", "--features", "mlp:dimm=3"], "dim"),
        (["fit", "cbm", "xor", "--out", "never", "--set", "epoch=3"], "epochs"),
        (["show", "cbmm"], "cbm"),
        (["compare", "xor", "--method", "cemm"], "cem"),
        (["compare", "xor", "--method", "cbm:joynt"], "joint"),
        (["compare", "xor", "--set", "heat=mlp"], "head"),
        (["compare", "xor", "--policy", "kflop=1"], "kflip"),
        (["compare", "xor", "--encoder", "epoch=1"], "epochs"),
        (["features", "compute", "idntity", "xor"], "identity"),
        (["data", "show", "pokr"], "poker"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_name_is_answered_with_the_nearest(words: list[str], near: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    said = error(words)
    assert "did you mean" in said.lower()
    assert near in said.lower().split("did you mean")[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "cbm", "xor"], "--out"),
        (["fit", "cbm", "xor", "--out", "never", "--lr", "fast"], "lr"),
        (["fit", "cbm", "xor", "--out", "never", "--mode", "jont"], "mode"),
        (["fit", "cbm", "xor", "--out", "never", "--lr", ".1", "--set", "lr=.2"], "given twice"),
        (["fit", "cbm", "xor", "--out", "never", "--set", "lr"], "name=value"),
        (["fit", "cbm", "xor:rows=many", "--out", "never"], "rows"),
        (["fit", "cbm", "xor:300", "--out", "never"], "option=value"),
        (["fit", "cbm", "xor", "--out", "never", "--label", "y"], "--label"),
        (["fit", "cbm", "missing.csv", "--out", "never", "--label", "y"], "missing.csv"),
        (["fit", "cbm", "missing.csv", "--out", "never"], "--label"),
        (["fit", "cbm", "xor", "--out", "never", "--plugin", "no.py"], "no.py"),
        (["compare", "xor", "--seeds", "0"], "--seeds"),
        (["compare", "xor", "--set", "lr=fast"], "lr"),
        (["compare", "xor", "--policy", "ucp=a"], "ucp"),
        (["evaluate", "nowhere"], "nowhere"),
        (["predict", "nowhere", "x.csv"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["data", "show", "xor", "--sheet", "a.jpg"], ".png"),
        (["data", "show", "xor", "--sheet", "a.png"], "images"),
        (["features", "compute", "mlp", "xor"], "learn"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_writes_nothing(words: list[str], said: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in error(words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (errors.DataError("d"), 2),
        (errors.OptionError("o"), 2),
        (errors.UnknownName("u"), 2),
        (errors.IsthmusError("i"), 2),
        (errors.IntegrityError("w"), 3),
        (errors.MissingExtra("m"), 4),
        (KeyboardInterrupt(), 130),
        (RuntimeError("r"), 1),
        (FileNotFoundError(2, "No such file", "gone.txt"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_exit_code_of_each_kind_of_error(raised: BaseException, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from isthmus import plugins

    def load_all(files: object) -> None:
        raise raised

    monkeypatch.setattr(plugins, "load_all", load_all)
    assert code_of(raised) == code
    result = run(["list"], code)
    assert result.stdout == ""
    if code == 130:
        return
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert ("--debug" in result.stderr) == isinstance(raised, RuntimeError)
    assert isinstance(raised, errors.MissingExtra | RuntimeError) or str(raised.args[-1]) in result.stderr


def test_debug_shows_the_traceback_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    from isthmus import plugins

    def load_all(files: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr(plugins, "load_all", load_all)
    for words in (["--debug", "list"], ["list", "--debug"]):
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, RuntimeError)


def test_a_message_of_several_lines_becomes_one() -> None:
    assert one_line("a\n  b\tc\x1b[31m") == "a b c?[31m"


def test_json_has_no_nan_and_no_objects() -> None:
    import torch

    given = {"a": float("nan"), 1: (torch.tensor([1.0, float("inf")]), Path("x/y")), "b": [True, None, 3]}
    told = json.loads(json.dumps(plain(given), allow_nan=False))
    assert told == {"a": None, "1": [[1.0, None], "x/y"], "b": [True, None, 3]}


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["show", "cbm"],
        ["show", "poker"],
        ["show", "mlp"],
        ["data"],
        ["data", "list"],
        ["data", "show", "xor:rows=200"],
        ["features"],
        ["features", "list"],
        ["features", "compute", "identity", "xor:rows=200"],
    ],
    ids=" ".join,
)
def test_json_is_one_document_with_a_schema(words: list[str]) -> None:
    result = run([*words, "--json"])
    assert json.loads(result.stdout)["schema"].startswith("isthmus.")
    assert result.stderr == ""
    assert run(words).stdout.strip(), "the same without --json is a table"


def test_list_and_show_read_the_registry() -> None:
    from isthmus import registry

    told = json.loads(run(["list", "--json"]).stdout)["methods"]
    assert [row["name"] for row in told] == list(registry.methods())
    cbm = next(row for row in told if row["name"] == "cbm")
    assert cbm["sealed"] is True
    assert cbm["needs"] == ["concepts"]
    options = {row["name"]: row for row in cbm["options"]}
    assert list(options) == list(registry.get("cbm").options)
    assert options["mode"] == {
        "name": "mode",
        "type": "joint|sequential|independent",
        "default": "joint",
        "required": False,
        "shown": "joint",
    }
    assert "Koh" in run(["show", "cbm"]).stdout


def test_show_of_real_data_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISTHMUS_DATA", raising=False)
    told = json.loads(run(["show", "zoo", "--json"]).stdout)
    assert told["licence"]
    assert "ISTHMUS_DATA" in error(["data", "show", "zoo"])


def test_the_page_of_the_commands_is_true() -> None:
    page = manual.page(get_command(app))
    assert (ROOT / "docs" / "cli.md").read_text() == page, "run: isthmus manual > docs/cli.md"
    assert run(["manual"]).stdout == page
    for code in Code:
        assert f"| {code.value} | {MEANING[code]} |" in page
    for words in paths():
        assert words == ["manual"] or f"`isthmus {' '.join(words)}`" in page


def test_help_is_light_and_the_entry_point_runs() -> None:
    code = "import sys, isthmus.cli; print(sorted({'torch', 'numpy', 'pydantic', 'pandas', 'sklearn'} & set(sys.modules)))"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    assert process("--version").stdout.startswith("isthmus ")
    wrong = process("fitt")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: ")


def test_exit_of_typer_keeps_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from isthmus import plugins

    def load_all(files: object) -> None:
        raise typer.Exit(7)

    monkeypatch.setattr(plugins, "load_all", load_all)
    run(["list"], 7)
