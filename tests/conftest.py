"""Settings of all tests: one thread, an own cache, no network; and tests on real data that cannot be lost unnoticed.

A test on real data asks for its file: ``def test_x(isthmus_data): path = isthmus_data("tabular/zoo.csv.gz")``. It is
skipped when ISTHMUS_DATA is not set; when it is set and the file is not there, the skip is turned into a failure. So is
every other skip whose reason starts with ``data:`` or names ISTHMUS_DATA.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

VARIABLE = "ISTHMUS_DATA"
CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()

settings.register_profile("isthmus", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)


def pytest_configure(config: pytest.Config) -> None:
    """Before anything of ours is imported: environment, threads, hypothesis profile."""
    config.stash[CACHE] = tempfile.TemporaryDirectory(prefix="isthmus-tests-", ignore_cleanup_errors=True)
    os.environ["ISTHMUS_CACHE"] = config.stash[CACHE].name
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    settings.load_profile("ci" if os.environ.get("CI") else "isthmus")
    import torch

    torch.set_num_threads(1)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the cache of this run."""
    if (cache := config.stash.get(CACHE, None)) is not None:
        cache.cleanup()


def data_file(file: str, environment: dict[str, str] | None = None) -> Path:
    """The path of ``file`` below the folder that ISTHMUS_DATA names; skips the running test when it is not there."""
    folder = (os.environ if environment is None else environment).get(VARIABLE)
    path = Path(folder or "") / file
    if not folder or not path.exists():
        pytest.skip(f"data: {file} not found under {VARIABLE} ({folder or 'not set'})")
    return path


def missing_data(reason: str, environment: dict[str, str]) -> bool:
    """Whether a skip for ``reason`` is a failure here: it is about data, and ISTHMUS_DATA says the data is there."""
    said = reason.removeprefix("Skipped: ")
    return bool(environment.get(VARIABLE)) and (said.startswith("data:") or VARIABLE in said)


def _refuse(report: Any) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2])
        if missing_data(reason, dict(os.environ)):
            report.outcome = "failed"
            report.longrepr = f"{VARIABLE} is set, so this must run, but: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """A test that skips for missing data fails when the data should be there."""
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """The same for a whole module."""
    report = yield
    _refuse(report)
    return report


@pytest.fixture(autouse=True)
def _methods_as_installed() -> Generator[None]:
    """A method that a test registers is gone after it: no other test's comparison may meet it."""
    from isthmus import plugins, registry

    registry.methods()
    before, loaded = dict(registry._found), dict(plugins.LOADED)
    yield
    for now, then in ((registry._found, before), (plugins.LOADED, loaded)):
        now.clear()
        now.update(then)


@pytest.fixture(scope="session")
def isthmus_data() -> Callable[[str], Path]:
    """``isthmus_data("tabular/zoo.csv.gz")`` -> its path; skips the test when the file is not there."""
    return data_file
