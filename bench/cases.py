"""What a benchmark is: a case gives rows, a row is a figure with its spread and, where one is promised, its limit."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Row:
    """One figure: ``value`` in ``unit``, lower is better; None = not measured, and ``note`` says why.

    ``interval`` is the 95 % interval of the value, ``spread`` the 5th and 95th percentile of single rounds. Above
    ``limit`` the row fails. ``beside`` are the figures it was made of, by name and unit.
    """

    name: str
    value: float | None
    unit: str
    interval: tuple[float, float] | None = None
    spread: tuple[float, float] | None = None
    limit: float | None = None
    beside: dict[str, float] = field(default_factory=dict[str, float])
    note: str = ""

    @property
    def ok(self) -> bool:
        """False when a limit is promised and the value is above it, not a number, or missing."""
        return self.limit is None or (self.value is not None and self.value <= self.limit)


Run = Callable[[bool], Iterable[Row]]


@dataclass(frozen=True)
class Case:
    """A registered benchmark: ``run(quick)`` gives its rows."""

    name: str
    summary: str
    run: Run


_found: dict[str, Case] = {}


def case(name: str, summary: str) -> Callable[[Run], Run]:
    """Register a function ``(quick) -> rows`` as a benchmark."""

    def register(run: Run) -> Run:
        if name in _found and _found[name].run.__module__ != run.__module__:
            raise ValueError(f"benchmark {name!r} is registered by {_found[name].run.__module__} already; rename it")
        _found[name] = Case(name, summary, run)
        return run

    return register


def cases() -> dict[str, Case]:
    """All registered benchmarks by name."""
    return dict(_found)


def alternate(runs: Mapping[str, Callable[[], Callable[[], object]]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each run, ``repeats`` times after one unmeasured round, taking turns in an order that reverses.

    Each entry of ``runs`` sets up and returns what is timed. Taking turns lets the machine's drift cancel in ratios of
    one round; CPU time leaves out what other programs take (with one thread, it is wall time on a free machine).
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name in list(runs)[:: 1 if turn % 2 else -1]:
            timed = runs[name]()
            gc.collect()
            start = time.process_time()
            timed()
            spent = time.process_time() - start
            if turn:
                seconds[name].append(spent)
    return seconds


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios of paired times, its 95 % interval (bootstrap over rounds), and how far rounds spread."""

    value: float
    interval: tuple[float, float]
    spread: tuple[float, float]


def ratio(ours: list[float], theirs: list[float], draws: int = 2000) -> Ratio:
    """Ours over theirs, round by round."""
    every = np.array(ours) / np.array(theirs)
    index = np.random.default_rng(0).integers(len(every), size=(draws, len(every)))
    low, high = np.quantile(np.median(every[index], axis=1), (0.025, 0.975)).tolist()
    p5, p95 = np.quantile(every, (0.05, 0.95)).tolist()
    return Ratio(float(np.median(every)), (low, high), (p5, p95))
