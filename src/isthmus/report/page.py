"""The dict read once into what every writer needs: rows with their scores, metrics with their units, the yardsticks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from isthmus.errors import DataError
from isthmus.report.clean import clean, finite, record, records, texts
from isthmus.report.scores import Measure, Score, measured, scored

COLOURS, GREYS = 8, 3  # --s0 to --s7 and --y0 to --y2 in style.css; markers tell the rest apart
COMPARE, EVALUATION = "isthmus.compare/1", "isthmus.evaluation/1"


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
        return str(record(self.data.get("exempt")).get("5") or "the card does not say why")


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
        return int(finite(record(self.about.get("rows")).get("test")) or 0)

    @property
    def majority(self) -> float | None:
        """Share of the commonest class among the test rows."""
        return finite(self.about.get("majority"))

    @property
    def absent(self) -> float | None:
        """Concept accuracy of the commonest answer for each concept ('absent' for binary ones)."""
        return finite(self.about.get("all_absent"))

    @property
    def seeds(self) -> list[str]:
        return texts(self.data.get("seeds"))

    @property
    def task(self) -> dict[str, Any]:
        """Kind, names and unit of what is predicted."""
        return record(self.about.get("task"))

    @property
    def answers(self) -> list[str]:
        """The names of the classes, labels or number."""
        return texts(self.task.get("names"))


def read(data: dict[str, Any]) -> Page:
    """A result's dict as a ``Page``. Raises ``DataError`` for another schema and for a comparison of nothing."""
    schema = data.get("schema")
    if schema not in (COMPARE, EVALUATION):
        raise DataError(f"report: expected a result with schema {COMPARE!r} or {EVALUATION!r}, got {schema!r}")
    data = clean(data)
    about = record(data.get("data"))
    target = record(about.get("task")).get("unit")
    metrics = {key: measured(key, record(found), target) for key, found in record(data.get("metrics")).items()}
    key = str(data.get("main") or "accuracy")
    main = metrics.setdefault(key, Measure(key, key.replace("_", " ")))
    single = schema == EVALUATION
    raw = [data] if single else records(data.get("rows"))
    if not raw:
        raise DataError("report: expected at least one method in 'rows', got none")
    rows: list[Row] = []
    for each in raw:
        row = _row(0, each, metrics, main)
        rows.append(replace(row, index=sum(row.yardstick == other.yardstick for other in rows)))
    return Page(data, rows, metrics, main, single, about)


def _row(index: int, data: dict[str, Any], metrics: dict[str, Measure], main: Measure) -> Row:
    found = record(data.get("scores"))
    scores = {
        key: scored(metrics.setdefault(key, Measure(key, key.replace("_", " "))), record(each)) for key, each in found.items()
    }
    return Row(index, data, scores, scores.get(main.key) or Score(main))
