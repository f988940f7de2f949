"""``doctor`` and ``claims``."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from isthmus.commands import claims, doctor
from isthmus.errors import MissingExtra

ROOT = Path(__file__).parents[2]


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """A doctor that imports little."""
    monkeypatch.setattr(doctor, "CORE", {"numpy": "numpy"})
    monkeypatch.setattr(doctor, "EXTRAS", {"data": {"nothing-of-this-name": "nothing_of_this_name"}})
    monkeypatch.delenv("ISTHMUS_DATA", raising=False)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a module with this source on the path of this process and of its children."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT / "src")]))

    def put(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)

    yield put
    for name in [name for name in sys.modules if name in {file.stem for file in tmp_path.glob("*.py")}]:
        del sys.modules[name]


def findings(run: Any, code: int = 0) -> dict[str, tuple[str, str]]:
    told = json.loads(run("doctor", "--json", code=code).stdout)
    assert told["broken"] == sum(f["state"] == "broken" for f in told["findings"])
    return {f["what"]: (f["state"], f["text"]) for f in told["findings"]}


def test_doctor_looks_at_what_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = lambda lines: {line.split(">=")[0].split("[")[0] for line in lines}  # noqa: E731
    assert set(doctor.CORE) == names(project["dependencies"])
    for extra, packages in doctor.EXTRAS.items():
        assert set(packages) == names(project["optional-dependencies"][extra])


def test_a_sound_installation(run: Any, light: None) -> None:
    found = findings(run)
    assert found["numpy"][0] == "ok"
    assert found["nothing-of-this-name"] == ("missing", "needed for data: pip install 'isthmus[data]'")
    assert found["torch threads"][0] == "note"
    assert found["methods"][0] == "ok"
    assert found["feature cache"][0] == "ok"
    assert "not set" in found["ISTHMUS_DATA"][1]
    said = run("doctor").stdout
    assert "all well" in said


def test_a_broken_torchvision_is_said_and_not_a_crash(run: Any, light: None, module: Any) -> None:
    module("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    state, text = findings(run, code=1)["torchvision"]
    assert state == "broken"
    assert "torchvision::nms does not exist" in text
    assert "pip uninstall torchvision" in text
    assert "broken: torchvision" in run("doctor", code=1).stdout


def test_a_module_that_ends_the_process_is_told_from_its_neighbours(module: Any) -> None:
    module("fatal", "import os; os._exit(7)")
    module("fine", "print('noise on stdout')")
    assert doctor.importing(["fine", "fatal"]) == {"fine": None, "fatal": "the import ended the process with code 7"}


def test_an_extra_that_does_not_import_is_broken(run: Any, light: None, module: Any, monkeypatch: Any) -> None:
    module("halfway", "import a_module_that_is_not_there")
    monkeypatch.setattr(doctor, "EXTRAS", {"data": {"halfway": "halfway"}})
    state, text = findings(run, code=1)["halfway"]
    assert state == "broken"
    assert "a_module_that_is_not_there" in text
    assert "pip install 'isthmus[data]'" in text


def test_a_cache_that_cannot_be_written(run: Any, light: None, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "file" / "cache"))
    state, text = findings(run, code=1)["feature cache"]
    assert state == "broken"
    assert "ISTHMUS_CACHE" in text


def test_data_that_is_there_absent_or_damaged(run: Any, light: None, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path))
    assert "zoo" in findings(run)["data not there"][1]
    (tmp_path / "tabular").mkdir()
    (tmp_path / "tabular" / "zoo.csv.gz").write_bytes(b"not gzip")
    found = findings(run, code=1)
    assert found["data zoo"][0] == "broken"
    assert "zoo.csv.gz" in found["data zoo"][1]
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path / "gone"))
    assert findings(run, code=1)["ISTHMUS_DATA"][0] == "broken"


def test_offline_flags_and_broken_plugins(run: Any, light: None, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE=1" in findings(run)["Hugging Face"][1]
    (tmp_path / "bad.py").write_text("1 / 0")
    told = json.loads(run("doctor", "--json", "--plugin", tmp_path / "bad.py", code=1).stdout)
    broken = [f for f in told["findings"] if f["state"] == "broken"]
    assert [f["what"] for f in broken] == ["methods"]
    assert "ZeroDivisionError" in broken[0]["text"]


def test_a_missing_extra_is_exit_code_4(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from isthmus.data import frames

    def require(name: str, extra: str) -> Any:
        raise MissingExtra(f"this needs {name!r}: pip install 'isthmus[{extra}]'")

    monkeypatch.setattr(frames, "require", require)
    (tmp_path / "rows.csv").write_text("a,y\n1,u\n")
    assert "pip install 'isthmus[data]'" in run("data", "show", tmp_path / "rows.csv", "--label", "y", code=4).stderr


def test_no_claims_is_said_plainly(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(claims, "__file__", str(tmp_path / "src" / "isthmus" / "commands" / "claims.py"))
    monkeypatch.chdir(tmp_path)
    assert run("claims").stdout.startswith("no claims yet")
    (tmp_path / "claims").mkdir()
    assert "holds no script" in run("claims").stdout
    assert json.loads(run("claims", "--json").stdout)["claims"] == []
    assert "gone" in run("claims", "--folder", "gone", code=2).stderr


def test_claims_are_run_and_read(run: Any, tmp_path: Path) -> None:
    line = {"claim": "one is one", "number": 1.0, "verdict": "holds", "paper": "none"}
    (tmp_path / "one.py").write_text(f"import isthmus, json\nprint('noise')\nprint(json.dumps({line!r}))")
    (tmp_path / "_helper.py").write_text("raise SystemExit(3)")
    told = json.loads(run("claims", "--folder", tmp_path, "--json").stdout)["claims"]
    assert [row["name"] for row in told] == ["one"]
    assert {key: told[0][key] for key in line} == line
    assert "did you mean 'one'" in run("claims", "ones", "--folder", tmp_path, code=2).stderr
    assert run("claims", "--list", "--folder", tmp_path).stdout == "one\n"


@pytest.mark.parametrize("source", ["print('no json')", "print('{\"claim\": 1}')", "raise RuntimeError('broke')", ""])
def test_a_claim_that_does_not_run_is_exit_code_1(source: str, run: Any, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(source)
    result = run("claims", "--folder", tmp_path, "--json", code=1)
    row = json.loads(result.stdout)["claims"][0]
    assert row["verdict"] == "did not run"
    assert ("broke" in row["claim"]) == ("broke" in source)
