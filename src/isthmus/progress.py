"""A progress bar for long work: the callback that ``Plan.fit`` takes, and the ``say`` that a comparison takes.

Drawn on stderr and wiped when done; where stderr is no terminal it is silent, or prints a line now and then if verbose.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

EVERY = 5.0  # seconds between two lines of a stage where there is no terminal


class Bar:
    """``with Bar("cbm") as bar: plan.fit(data, progress=bar)``.

    A call is (stage, epoch from 1, epochs, {loss, validation}). ``verbose`` prints lines where ``stream`` (stderr) is
    no terminal; on a terminal a bar is drawn in either case.
    """

    def __init__(self, title: str = "", *, verbose: bool = False, stream: TextIO | None = None) -> None:
        self.title, self.verbose, self.stream = title, verbose, stream or sys.stderr
        self.drawn = self.stream.isatty()
        self._bar: Progress | None = None
        self._tasks: dict[str, Any] = {}
        self._last: tuple[str, float] = ("", 0.0)

    def __enter__(self) -> Self:
        if self.drawn:
            bar = self._bar = _bar(self.stream)
            bar.start()
            if self.title:
                self._tasks[""] = bar.add_task(self.title, total=None, count="", numbers="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            self._tasks.clear()

    def __call__(self, stage: str, epoch: int, epochs: int, numbers: Mapping[str, float]) -> None:
        """Show that ``stage`` has done ``epoch`` of ``epochs``; an empty ``numbers`` ends the stage."""
        said = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        if self._bar is None:
            self._line(stage, epoch, epochs, said)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=epochs, count="", numbers=said)
        if numbers:
            self._bar.update(self._tasks[stage], completed=epoch, total=epochs, count=f"{epoch}/{epochs}", numbers=said)
        else:  # stopped early or not: the bar is full
            self._bar.update(self._tasks[stage], completed=epochs, total=epochs)

    def say(self, text: str) -> None:
        """Show what is being done now."""
        if self._bar is not None:
            for name in [name for name in self._tasks if name]:
                self._bar.remove_task(self._tasks.pop(name))
            if "" not in self._tasks:
                self._tasks[""] = self._bar.add_task("", total=None, count="", numbers="")
            self._bar.update(self._tasks[""], description=f"{self.title}  {text}" if self.title else text)
        elif self.verbose:
            self._print(text)

    def _line(self, stage: str, epoch: int, epochs: int, said: str) -> None:
        """A line at a stage's first epoch and then every few seconds, where there is no terminal to draw on."""
        now = time.monotonic()
        if not (self.verbose and said) or (self._last[0] == stage and now - self._last[1] < EVERY):
            return
        self._last = (stage, now)
        self._print(f"{stage} {epoch}/{epochs}  {said}")

    def _print(self, text: str) -> None:
        print(f"{self.title}: {text}" if self.title else text, file=self.stream, flush=True)


def _bar(stream: TextIO) -> Progress:
    """A transient bar: what, how far, how long, and the losses."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[numbers]}", markup=False),
    )
    return Progress(*columns, console=Console(file=stream, highlight=False, emoji=False), transient=True)
