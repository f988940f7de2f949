"""The benchmarks: figures, verdict and exit code; and that the plain loops compute what ours computes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import cases, peer, plain, plot, run, steps
from bench.cases import Row


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> dict[str, cases.Case]:
    """A registry with nothing in it."""
    found: dict[str, cases.Case] = {}
    monkeypatch.setattr(cases, "_found", found)
    monkeypatch.setattr(run, "discover", lambda: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    return found


@pytest.mark.parametrize(
    ("value", "limit", "ok"),
    [(1.0, None, True), (1.1, 1.1, True), (1.2, 1.1, False), (None, 1.1, False), (float("nan"), 1.1, False)],
)
def test_a_row_fails_above_its_limit_or_without_a_value(value: float | None, limit: float | None, ok: bool) -> None:
    assert Row("a", value, "x", limit=limit).ok is ok


def test_exit_code_table_and_json(only: dict[str, cases.Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[bool] = []

    @cases.case("good", "within")
    def good(quick: bool) -> Iterator[Row]:
        seen.append(quick)
        yield Row("a good row", 1.0, "x", limit=1.1, interval=(0.9, 1.05), beside={"ours (ms)": 5.0}, note="told")

    @cases.case("bad", "above")
    def bad(quick: bool) -> Iterator[Row]:
        yield Row("a bad row", 1.2, "x", limit=1.1)
        yield Row("no row", None, "x", note="not installed")

    path = tmp_path / "deep" / "found.json"
    assert run.main(["--only", "good", "--quick", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert list(report["cases"]) == ["good"]
    assert report["cases"]["good"][0]["value"] == 1.0
    assert {"commit", "torch", "processor", "threads", "date", "quick"} <= set(report)
    assert "above its limit" not in capsys.readouterr().out
    assert run.main(["--json", str(path)]) == 1
    said = capsys.readouterr().out
    assert "above its limit: a bad row is 1.200 x, at most 1.100" in said
    assert "not installed" in said
    assert [row["ok"] for row in json.loads(path.read_text())["cases"]["bad"]] == [False, True]
    assert seen == [True, False]
    assert run.main(["--only", "good", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["cases"]["good"][0]["note"] == "told"
    assert run.main(["--only", "bad, good", "--json", "-"]) == 1
    assert list(json.loads(capsys.readouterr().out)["cases"]) == ["bad", "good"]
    with pytest.raises(SystemExit):
        run.main(["--only", "good,goud"])
    assert "--only 'goud': expected cases by comma, of bad, good" in capsys.readouterr().err


def test_a_name_is_registered_once(only: dict[str, cases.Case]) -> None:
    def again(quick: bool) -> list[Row]:
        return []

    cases.case("one", "")(again)
    other: Any = lambda quick: []  # noqa: E731
    other.__module__ = "elsewhere"
    with pytest.raises(ValueError, match="rename"):
        cases.case("one", "")(other)


def test_runs_take_turns_and_ratios_pair_rounds() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: lambda: order.append(name) for name in "ab"}
    seconds = cases.alternate(runs, 3)
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    found = cases.ratio([1.0, 2.0, 30.0], [1.0, 1.0, 10.0])
    assert found.value == 2.0
    assert found.interval[0] <= found.value <= found.interval[1]
    assert 1 <= found.spread[0] < found.spread[1] <= 3


@pytest.mark.parametrize("method", ["cbm", "cem"])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_the_plain_loop_computes_the_same(method: str, missing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("DIM", 20), ("CONCEPTS", 6), ("CLASSES", 5)):
        monkeypatch.setattr(steps, name, size)
    data = steps.table(96, missing)
    assert data.c is not None
    assert bool(data.c.isnan().any()) is (missing > 0)
    how = plain.Settings(epochs=1, batch=32, lr=1e-2)
    assert steps.difference(method, data, how) < 1e-5
    monkeypatch.setitem(steps.PLAIN, "cem", lambda *sizes: plain.PlainCEM(*sizes, randint=0.9))
    if method == "cem":
        assert steps.difference(method, data, how) > 1e-4


def test_rows_of_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("DIM", 20), ("CONCEPTS", 6), ("CLASSES", 5)):
        monkeypatch.setattr(steps, name, size)
    monkeypatch.setattr(peer, "release", lambda: None)
    step, loss, other = steps.rows("cbm", 0.0, repeats=3, steps=2)
    assert step.limit == 1.1
    assert step.value is not None
    assert step.value > 0
    assert {"isthmus (ms)", "plain (ms)", "plain, fused Adam (ms)"} == set(step.beside)
    assert loss.ok
    assert loss.limit == 1e-5
    assert (other.value, other.note) == (None, "not installed")
    assert len(list(steps.rows("cbm", 0.2, repeats=3, steps=2))) == 2


def test_the_picture_of_the_cost_holds_every_axis_and_figure() -> None:
    rows = [
        {
            "name": f"exponent in {name}",
            "value": power,
            "beside": {f"{size:,} (s)": 0.05 * (size / 4000) ** power for size in sizes},
        }
        for name, power, sizes in (("rows", 1.0, (4000, 8000, 16000)), ("classes", 0.5, (4000, 8000)))
    ]
    lines = plot.measured({"cases": {"elastic_net": [*rows, {"name": "another", "value": 1.0, "beside": {}}]}})
    assert lines["rows"][0] == [1, 2, 4] and lines["classes"][2] == 0.5
    picture = plot.drawn(lines, "a title")
    assert picture.count("<circle") == 5 and "rows: power 1.00" in picture and "classes: power 0.50" in picture
    with pytest.raises(SystemExit, match="no exponents"):
        plot.measured({"cases": {"elastic_net": []}})
