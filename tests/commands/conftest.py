"""A runner of commands in this process, and a small fitted model that several tests ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from isthmus.cli import app

Run = Callable[..., Result]


def run(*words: object, code: int = 0) -> Result:
    """Run a command; the exit code must be ``code``, and an error must be one line on stderr."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, f"exit code {result.exit_code}\n{result.stdout}\n{result.stderr}"
    if code in (1, 2, 3, 4) and result.stderr:
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, result.stderr
        assert "Traceback" not in result.stderr
    return result


@pytest.fixture(name="run", scope="session")
def run_fixture() -> Run:
    return run


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cbm on the toy world: 7 inputs, 3 concepts, 2 classes."""
    folder = tmp_path_factory.mktemp("fitted") / "run"
    run("fit", "cbm", "tabular_toy:rows=400", "--out", folder, "--epochs", 8, "--lr", ".01", "--head", "mlp")
    return folder
