"""The progress bar: drawn on a terminal, silent elsewhere, lines when asked."""

from __future__ import annotations

import io

import pytest

from isthmus import progress
from isthmus.progress import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_is_silent_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with Bar("cbm", stream=stream) as bar:
        bar("joint", 1, 10, {"loss": 1.0, "validation": 0.5})
        bar.say("seed 0")
        bar("joint", 10, 10, {})
    assert stream.getvalue() == ""


def test_verbose_prints_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Bar("cbm", verbose=True, stream=stream) as bar:
        for epoch in range(1, 8):
            bar("joint", epoch, 7, {"loss": 1.25, "validation": 0.5})
            now[0] += 2.0
        bar("joint", 7, 7, {})
        bar("head", 1, 2, {"loss": 2.0})
        bar.say("scores")
    assert stream.getvalue().splitlines() == [
        "cbm: joint 1/7  loss 1.25  validation 0.5",
        "cbm: joint 4/7  loss 1.25  validation 0.5",
        "cbm: joint 7/7  loss 1.25  validation 0.5",
        "cbm: head 1/2  loss 2",
        "cbm: scores",
    ]


def test_a_terminal_gets_a_bar_that_is_wiped() -> None:
    stream = Terminal()
    with Bar("[cbm]", stream=stream) as bar:
        bar("joint", 3, 10, {"loss": 1.25})
        bar.say("seed [0]")
        bar("joint", 10, 10, {})
    text = stream.getvalue()
    assert "[cbm]" in text
    assert text.endswith("\x1b[2K"), "the last thing drawn is an empty line"


def test_a_failure_inside_stops_the_bar() -> None:
    stream = Terminal()
    bar = Bar(stream=stream)

    def fail() -> None:
        with bar:
            bar("joint", 3, 10, {"loss": 1.25})
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    before = stream.getvalue()
    assert not bar.verbose
    bar("joint", 4, 10, {"loss": 1.0})
    assert stream.getvalue() == before
