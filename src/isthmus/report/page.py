"""The dict read once into what every writer needs: rows with their scores, metrics with their units, the yardsticks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from isthmus.errors import DataError
from isthmus.report.clean import clean, finite
from isthmus.report.numbers import between, number, seconds

COLOURS, GREYS = 8, 3  # --s0 to --s7 and --y0 to --y2 in style.css; markers tell the rest apart
COMPARE, EVALUATION = "isthmus.compare/1", "isthmus.evaluation/1"


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


@dataclass(frozen=True)
class Row:
    """One method: its number among bottlenecks (or yardsticks), its scores, and the dict's own fields."""

    index: int
    data: dict[str, Any]
    scores: dict[str, Score]
    main: Score

    @property
    def name(self) -> str:
        return str(self.data.get("name") or self.data.get("method") or "model")

    @property
    def title(self) -> str:
        return str(self.data.get("title") or self.name)

    @property
    def encoder(self) -> str:
        return str(self.data.get("encoder") or "")

    @property
    def black(self) -> bool:
        """A black box: the reference of the differences."""
        return self.data.get("method") == "blackbox"

    @property
    def yardstick(self) -> bool:
        """A row that bottlenecks are read against, not one of them."""
        return self.black or self.data.get("family") == "yardstick"

    @property
    def paint(self) -> str:
        """The classes that colour its line and marker: one of eight colours, greys for yardsticks."""
        return f"series y{self.index % GREYS}" if self.yardstick else f"series s{self.index % COLOURS}"

    @property
    def control(self) -> bool:
        """A yardstick that has a strip, of concepts that mean nothing."""
        return self.yardstick and not self.black and self.data.get("sealed") is True

    @property
    def sealed(self) -> bool | None:
        """True when only the concepts reach the task; None where nobody said."""
        value = self.data.get("sealed")
        return value if isinstance(value, bool) else None

    @property
    def leak(self) -> str:
        """Why the row is not sealed."""
        return str((self.data.get("exempt") or {}).get("5") or "the card does not say why")


@dataclass(frozen=True)
class Page:
    """A whole result; ``single`` when it is the evaluation of one model."""

    data: dict[str, Any]
    rows: list[Row]
    metrics: dict[str, Measure]
    main: Measure
    single: bool
    about: dict[str, Any] = field(default_factory=dict[str, Any])

    @cached_property
    def black(self) -> Row | None:
        """The best black box, None when there is none with a score."""
        return self.best([row for row in self.rows if row.black])

    @cached_property
    def bottlenecks(self) -> list[Row]:
        """The rows that are no yardsticks."""
        return [row for row in self.rows if not row.yardstick]

    def best(self, rows: list[Row]) -> Row | None:
        """The row with the best main score; the first of equals."""
        sign = 1 if self.main.better == "up" else -1
        known = [row for row in rows if row.main.value is not None]
        return max(known, key=lambda row: sign * (row.main.value or 0.0), default=None)

    @cached_property
    def name(self) -> str:
        """What the data are called."""
        return str(self.about.get("title") or self.data.get("title") or self.about.get("name") or "data")

    @property
    def test_rows(self) -> int:
        return int((self.about.get("rows") or {}).get("test") or 0)

    @property
    def majority(self) -> float | None:
        """Share of the commonest class among the test rows."""
        return finite(self.about.get("majority"))

    @property
    def absent(self) -> float | None:
        """Concept accuracy of the commonest answer for each concept ('absent' for binary ones)."""
        return finite(self.about.get("all_absent"))

    @property
    def seeds(self) -> list[Any]:
        return list(self.data.get("seeds") or [])


def read(data: dict[str, Any]) -> Page:
    """A result's dict as a ``Page``. Raises ``DataError`` for another schema."""
    schema = data.get("schema")
    if schema not in (COMPARE, EVALUATION):
        raise DataError(f"report: expected a result with schema {COMPARE!r} or {EVALUATION!r}, got {schema!r}")
    data = clean(data)
    about = data.get("data") or {}
    target = (about.get("task") or {}).get("unit")
    metrics = {key: _measure(key, found, target) for key, found in (data.get("metrics") or {}).items()}
    key = str(data.get("main") or "accuracy")
    main = metrics.setdefault(key, Measure(key, key.replace("_", " ")))
    single = schema == EVALUATION
    raw: list[dict[str, Any]] = [data] if single else list(data.get("rows") or [])
    rows: list[Row] = []
    for each in raw:
        row = _row(0, each, metrics, main)
        rows.append(replace(row, index=sum(row.yardstick == other.yardstick for other in rows)))
    return Page(data, rows, metrics, main, single, about)


def _measure(key: str, found: dict[str, Any], target: str | None) -> Measure:
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


def _row(index: int, data: dict[str, Any], metrics: dict[str, Measure], main: Measure) -> Row:
    found: dict[str, Any] = data.get("scores") or {}
    scores = {key: _score(metrics.setdefault(key, Measure(key, key.replace("_", " "))), each) for key, each in found.items()}
    return Row(index, data, scores, scores.get(main.key) or Score(main))


def _score(measure: Measure, found: dict[str, Any]) -> Score:
    value = finite(found.get("value"))
    if value is None:
        return Score(measure, reason=str(found.get("not_applicable") or "undefined on these rows"))
    gap: dict[str, Any] = found.get("difference") or {}
    apart = finite(gap.get("value"))
    return Score(
        measure,
        value,
        finite(found.get("low")),
        finite(found.get("high")),
        finite(found.get("spread")),
        tuple(s for s in map(finite, found.get("seeds") or []) if s is not None),
        None if apart is None else (apart, finite(gap.get("low")), finite(gap.get("high"))),
    )
