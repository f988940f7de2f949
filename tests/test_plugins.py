"""A method from outside: one short file, and every command, comparison and report knows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import isthmus as im
from isthmus import plugins, testing
from isthmus.data import load
from isthmus.errors import DataError, OptionError

PLUGIN = '''"""A concept bottleneck whose head is trained on labels smoothed towards one half."""

from dataclasses import dataclass

import isthmus as im
from isthmus import losses
from isthmus.bottlenecks.linear import LinearBottleneck
from isthmus.heads.linear import LinearHead


@dataclass(frozen=True)
class Smoothed:
    by: float

    def __call__(self, batch):
        given = im.everything(batch)
        return im.Given(given.values * (1 - self.by) + self.by / 2, given.mask)


@im.method(im.Card("Smoothed bottleneck", "ours, for a test", 2026, kinds=("binary",), tasks=("classes",)))
def smoothed(features, space, task, *, by: float = 0.1, epochs: int = 20, lr: float = 1e-2):
    model = im.ConceptModel(features, LinearBottleneck(features.dim, space), LinearHead(space, task), space, task)
    read = im.Learn(losses.concept, ("features", "bottleneck"), epochs=epochs, lr=lr)
    return im.Plan(model, [read, im.Learn(losses.task, ("head",), given=Smoothed(by), epochs=epochs, lr=lr)])
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return path


def test_the_file_is_short() -> None:
    code = [line for line in PLUGIN.splitlines() if line.strip() and not line.startswith(("import", "from", '"""'))]
    assert len(code) <= 20


def test_a_plugin_file_registers_and_keeps_the_laws(plugin: Path) -> None:
    assert plugins.load_file(plugin) == ["smoothed"]
    assert plugins.load_file(plugin) == []
    verdicts = testing.check_method("smoothed", fresh=True)
    assert {said for verdict in verdicts for said in verdict.laws.values()} == {"holds"}


def test_it_is_a_row_of_the_comparison_and_of_the_report(plugin: Path, tmp_path: Path) -> None:
    plugins.load_file(plugin)
    data = load("tabular_toy", rows=600)
    result = im.compare(data, methods=["smoothed", "cbm:joint"], features="identity", seeds=[0], budget=1, out=tmp_path / "out")
    assert [row["name"] for row in result.data["rows"]] == ["blackbox", "smoothed", "cbm joint"]
    assert "Smoothed bottleneck" in (tmp_path / "out" / "report.html").read_text()
    saved = im.save(result.models["smoothed"], tmp_path / "run")
    assert im.card(saved)["method"] == "smoothed"
    im.load(saved)


def test_the_command_line_lists_it(plugin: Path) -> None:
    command = [sys.executable, "-m", "isthmus.cli", "list", "--json", "--plugin", str(plugin)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "smoothed" in json.dumps(json.loads(found.stdout))


def test_an_entry_point_registers(plugin: Path, tmp_path: Path) -> None:
    """An installed package needs nothing but the entry point."""
    site = tmp_path / "site"
    info = site / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "mine_methods.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[isthmus.methods]\nmine = mine_methods\n")
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import isthmus as im; print(im.methods())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "smoothed" in found.stdout


def test_a_plugin_that_is_not_one_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a Python file"):
        plugins.load_file(tmp_path / "none.py")
    bad = tmp_path / "bad.py"
    bad.write_text("import isthmus as im\nraise RuntimeError('line one\\nline two')")
    with pytest.raises(OptionError, match="RuntimeError: line one$"):
        plugins.load_file(bad)


def test_a_name_cannot_be_taken_twice(plugin: Path, tmp_path: Path) -> None:
    plugins.load_file(plugin)
    other = tmp_path / "other.py"
    other.write_text(PLUGIN)
    with pytest.raises(OptionError, match="registered by"):
        plugins.load_file(other)
