"""A score and what it measures: value, interval, difference to the black box, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.report.clean import finite, listing, record
from isthmus.report.numbers import between, number, seconds


@dataclass(frozen=True)
class Measure:
    """A metric as the dict describes it; ``better`` is 'up' or 'down', ``low`` and ``high`` its range or None."""

    key: str
    title: str
    unit: str = "share"
    better: str = "up"
    of: str = "task"
    text: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def range(self) -> str:
        """``0 to 1``, ``0 and up``, ``any``."""
        low, high = (None if v is None else f"{v:g}" for v in (self.low, self.high))
        if low is None:
            return "any" if high is None else f"up to {high}"
        return f"{low} and up" if high is None else f"{low} to {high}"

    def show(self, value: float | None, *, sign: bool = False) -> str:
        """The value in this metric's unit."""
        return seconds(value) if self.unit == "s" else number(value, self.unit, sign=sign)


@dataclass(frozen=True)
class Score:
    """A number with its interval (``low``, ``high``), or the ``reason`` why there is none."""

    measure: Measure
    value: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    seeds: tuple[float, ...] = ()
    difference: tuple[float, float | None, float | None] | None = None
    reason: str = "not measured"

    @property
    def text(self) -> str:
        """The number alone, or ``n/a``."""
        return self.measure.show(self.value)

    @property
    def interval(self) -> str:
        """``[.921, .940]`` or nothing."""
        return between(self.low, self.high, self.measure.unit)

    @property
    def both(self) -> str:
        """``.931 [.921, .940]``."""
        return f"{self.text} {self.interval}".strip()

    @property
    def gap(self) -> str:
        """The difference to the black box, ``−.012 [−.020, −.004]``, or nothing."""
        if self.difference is None:
            return ""
        value, low, high = self.difference
        unit = self.measure.unit
        return f"{number(value, unit, sign=True)} {between(low, high, unit, sign=True)}".strip()


def measured(key: str, found: dict[str, Any], target: str | None) -> Measure:
    """A metric from its entry in the dict; the unit 'target unit' becomes that of the target."""
    unit = str(found.get("unit") or "share")
    return Measure(
        key=key,
        title=str(found.get("title") or key.replace("_", " ")),
        unit=target or unit if unit == "target unit" else unit,
        better=str(found.get("better") or "up"),
        of=str(found.get("of") or "task"),
        text=str(found.get("text") or ""),
        low=finite(found.get("low")),
        high=finite(found.get("high")),
    )


def scored(measure: Measure, found: dict[str, Any]) -> Score:
    """A score from its entry in the dict; without a value it says why."""
    value = finite(found.get("value"))
    if value is None:
        return Score(measure, reason=str(found.get("not_applicable") or "undefined on these rows"))
    gap = record(found.get("difference"))
    apart = finite(gap.get("value"))
    return Score(
        measure,
        value,
        finite(found.get("low")),
        finite(found.get("high")),
        finite(found.get("spread")),
        tuple(s for s in map(finite, listing(found.get("seeds"))) if s is not None),
        None if apart is None else (apart, finite(gap.get("low")), finite(gap.get("high"))),
    )
