"""What an audit is made of: sections of lines, each with definition, interval, control, and a sentence on what it means."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from isthmus.metrics.core import Array, Metric, Sums, Weighted, interval, resamples


@dataclass(frozen=True)
class Line:
    """One number: ``value`` with its 95 % interval, how to read it, and the ``control`` it is read against."""

    key: str
    title: str
    value: float | None
    unit: str
    better: str
    text: str
    low: float | None = None
    high: float | None = None
    control: float | None = None
    control_name: str = ""
    n: int | None = None
    k: int | None = None


@dataclass(frozen=True)
class Section:
    """One question of the audit. ``why`` says why it does not apply; then it has no lines."""

    key: str
    title: str
    question: str
    definition: str
    lines: tuple[Line, ...] = ()
    meaning: str = ""
    why: str | None = None
    tables: tuple[dict[str, Any], ...] = field(default=())
    pictures: tuple[dict[str, str], ...] = field(default=())

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        made = asdict(self) | {"applies": self.why is None}
        return made | {"lines": [asdict(line) for line in self.lines], "tables": list(self.tables)}


class NotHere(Exception):
    """A section does not apply; the text says why."""


def number(value: float | None) -> float | None:
    """Six digits, None where it is not finite."""
    return None if value is None or not np.isfinite(value) else round(float(value), 6)


def written(value: float | None, form: str = ".0%") -> str:
    """A number of a sentence; one that is not defined is never 0."""
    return "n/a" if value is None or not np.isfinite(value) else f"{value:{form}}"


def counted(form: Weighted) -> int | None:
    """Rows that count for a sum over a count; None of another score."""
    if not isinstance(form, Sums) or form.rows.shape[1] != 2 or (form.rows[:, 1] < 0).any():
        return None
    return int((form.rows[:, 1] > 0).sum())


def beyond(line: Line) -> bool:
    """Does the whole interval lie on the better side of the control?"""
    end = line.low if line.better == "up" else line.high
    if end is None or line.control is None:
        return False
    return end > line.control if line.better == "up" else end < line.control


@dataclass(frozen=True)
class Measure:
    """Makes lines from metrics on the same rows: ``groups`` are drawn whole by the bootstrap."""

    n: int
    groups: list[str] | None = None

    def of(self, rows: Array) -> Measure:
        """For lines over some of the rows, numbers (m,)."""
        return Measure(len(rows), None if self.groups is None else [self.groups[row] for row in rows])

    def line(
        self, key: str, metric: Metric, form: Weighted, *, title: str | None = None, control: float | None = None,
        control_name: str = "", k: int | None = None, n: int | None = None, text: str | None = None,
    ) -> Line:  # fmt: skip
        """A line of one metric in its bootstrap form; ``n``: by default the rows that count."""
        value, drawn = self.drawn(metric, form)
        low, high = interval(drawn, around=value if metric.centred else None)
        low, high = (min(max(edge, metric.low), metric.high) for edge in (low, high))
        if isinstance(form, Sums) and (metric.low, metric.high) == (0, 1):
            low, high = self._wide(form, value, low, high)
        return Line(
            key, title or metric.title, number(value), metric.unit, metric.better, text or metric.text, number(low),
            number(high), number(control), control_name if number(control) is not None else "", n or counted(form) or self.n, k,
        )  # fmt: skip

    def _wide(self, form: Sums, value: float, low: float, high: float) -> tuple[float, float]:
        """The ends of a share of rows, with width at 0 and 1; of another score as they are."""
        if form.rows.shape[1] != 2:
            return low, high
        a, b = form.rows.T
        if not ((a == 0) | (a == b)).all() or not np.isclose(value, a.sum() / max(b.sum(), 1)):
            return low, high
        rows = np.flatnonzero(b > 0)
        if self.groups is None:
            return widened(low, high, len(rows))
        return widened(low, high, len({self.groups[row] for row in rows})) if value in (0, 1) else (low, high)

    def drawn(self, metric: Metric, form: Weighted) -> tuple[float, Array]:
        """The value, and its bootstrap replicates."""
        value = float(form.under(np.ones((1, self.n)))[0])
        with np.errstate(all="ignore"):
            return value, form.under(resamples(self.n, metric.replicates, groups=self.groups))


def widened(low: float, high: float, n: int) -> tuple[float, float]:
    """Ends of the interval of a share of n things, no nearer to 0 or 1 than n without a single case allow (Clopper, Pearson).

    Resamples of what is nowhere, or everywhere, have no width: 0 of 20 rows may well be 16 %.
    """
    edge = 1 - 0.025 ** (1 / n)
    return min(low, 1 - edge), max(high, edge)


def over(values: Array, *, seed: int = 0, times: int = 1000) -> tuple[float, float, float]:
    """Mean of values (m,) and its 95 % interval over the m things (concepts, classes), NaN left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).choice(known, (times, len(known))).mean(1)
    low, high = interval(drawn) if len(known) > 1 else (float("nan"), float("nan"))
    return float(known.mean()), low, high
