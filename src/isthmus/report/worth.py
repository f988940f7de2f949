"""What each correction policy is worth: areas under the curve, policies by methods, with what the marks mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.report.clean import finite, record, records
from isthmus.report.numbers import between, listed
from isthmus.report.page import Page, Row

ABOVE, BELOW, ORACLE, SAMPLE = "▲", "▼", "†", "‡"
LEVELS = ("concept", "group")
FEW, EACH = 40, 4  # lines of single budgets that a terminal shows; lines a method that it always shows
Triple = tuple[float, float | None, float | None]  # value, low, high
REVEALS = "corrections reveal the class: concept labels are one vector for each class"


@dataclass(frozen=True)
class Cell:
    """A policy on a method: the area and the difference to random order, or why there is none; points (k, score)."""

    area: Triple | None = None
    over: Triple | None = None
    harm: float | None = None
    gain: float | None = None
    k95: float | None = None
    sample: str = ""
    reason: str = ""
    points: tuple[tuple[float, float], ...] = ()

    @property
    def mark(self) -> str:
        """▲ or ▼ where the paired interval leaves out zero."""
        _, low, high = self.over or (0.0, None, None)
        return ABOVE if low is not None and low > 0 else BELOW if high is not None and high < 0 else ""


@dataclass(frozen=True)
class Line:
    """A policy at one level, its cells in the order of the grid's rows; ``ends``: its last budget, where others go on."""

    policy: str
    cells: tuple[Cell, ...]
    oracle: bool = False
    ends: float | None = None

    @property
    def random(self) -> bool:
        """The order that others are read against."""
        return self.policy.split(":")[0] == "random"

    @property
    def bare(self) -> str:
        """The name without its level, which the section says."""
        base, *changes = self.policy.split(":")
        return ":".join([base, *(change for change in changes if change not in LEVELS)])

    @property
    def name(self) -> str:
        """``lcp †``, ``kflip to 2``."""
        ends = "" if self.ends is None else f" to {self.ends:g}"
        return f"{self.bare}{ends}{' ' + ORACLE if self.oracle else ''}"


@dataclass(frozen=True)
class Grid:
    """The policies of one level on the methods that were asked."""

    level: str
    rows: tuple[Row, ...]
    lines: tuple[Line, ...]

    @property
    def cells(self) -> list[Cell]:
        """Every cell."""
        return [cell for line in self.lines for cell in line.cells]

    @property
    def harm(self) -> list[float | None]:
        """For each method the most harm that a policy did."""
        columns = zip(*(line.cells for line in self.lines), strict=True)
        return [max((cell.harm for cell in cells if cell.harm is not None), default=None) for cells in columns]


def grids(page: Page) -> list[Grid]:
    """A grid for each level with an area; none where curves do not begin without corrections."""
    rows = tuple(row for row in page.rows if record(row.data.get("policies")))
    names = list(dict.fromkeys(name for row in rows for name in record(row.data.get("policies"))))
    found: list[Grid] = []
    for level in LEVELS:
        lines = [_line(page, rows, name) for name in names if _level(rows, name) == level]
        reach = max((_last(line) for line in lines), default=0.0)
        lines = [Line(x.policy, x.cells, x.oracle, _last(x) if 0 < _last(x) < reach else None) for x in lines]
        if any(cell.area for line in lines for cell in line.cells):
            found.append(Grid(level, rows, tuple(lines)))
    return found


def _last(line: Line) -> float:
    return max((k for cell in line.cells for k, _ in cell.points), default=0.0)


def _level(rows: tuple[Row, ...], name: str) -> str:
    known = [record(record(row.data.get("asked")).get(name)).get("level") for row in rows]
    return "group" if "group" in known or "group" in name.split(":")[1:] else "concept"


def _line(page: Page, rows: tuple[Row, ...], name: str) -> Line:
    told = [record(record(row.data.get("asked")).get(name)) for row in rows]
    cells = [_cell(page, record(row.data.get("policies")).get(name), each) for row, each in zip(rows, told, strict=True)]
    return Line(name, tuple(cells), any(each.get("oracle") is True for each in told))


def _cell(page: Page, points: Any, told: dict[str, Any]) -> Cell:
    if "not_applicable" in record(points):
        return Cell(reason=str(record(points)["not_applicable"]))
    line = [(finite(point.get("k")), finite(record(point.get(page.main.key)).get("value"))) for point in records(points)]
    known = sorted((k, value) for k, value in line if k is not None and value is not None)
    area = _triple(told.get("area"))
    if area is None or len(known) < 2 or known[0][0] != 0:
        return Cell()
    harm, gain, k95 = (finite(told.get(key)) for key in ("harm", "gain", "k95"))
    return Cell(area, _triple(told.get("over_random")), harm, gain, k95, str(told.get("sample") or ""), "", tuple(known))


def _triple(found: Any) -> Triple | None:
    value, low, high = (finite(record(found).get(key)) for key in ("value", "low", "high"))
    return None if value is None else (value, low, high)


def short(page: Page, cell: Cell, none: str = "-") -> str:
    """``▲.403``, with ‡ where a sample was asked; ``none`` where there is no area."""
    if cell.area is None:
        return none if cell.reason else ""
    return (SAMPLE if cell.sample else "") + cell.mark + page.main.show(cell.area[0])


def told(page: Page, cell: Cell) -> str:
    """All that a cell knows, in words."""
    if cell.area is None:
        return f"not applicable: {cell.reason}" if cell.reason else ""
    parts = [f"area {_interval(page, cell.area)}"]
    parts += [f"to random order {_interval(page, cell.over, sign=True)}"] if cell.over else []
    parts += [f"gain at the last budget {page.main.show(cell.gain, sign=True)}"] if cell.gain is not None else []
    parts += [f"95 % of it with {cell.k95:g}"] if cell.k95 is not None else []
    parts += [f"harm {page.main.show(cell.harm)}"] if cell.harm is not None else []
    return "; ".join([*parts, *([cell.sample] if cell.sample else [])])


def _interval(page: Page, found: Triple, *, sign: bool = False) -> str:
    value, low, high = found
    return f"{page.main.show(value, sign=sign)} {between(low, high, page.main.unit, sign=sign)}".strip()


def notes(page: Page, found: list[Grid], harm: str = "harm") -> list[str]:
    """What the numbers and marks of the grids mean, one sentence each; only what is there is explained."""
    cells, lines = [cell for grid in found for cell in grid.cells], [line for grid in found for line in grid.lines]
    what = page.main.title
    said = [f"Area under the curve: mean {what} over the number corrected, from none to a policy's last budget (trapezoid)"]
    if any(cell.over for cell in cells):
        chance = "of cells without any difference about 1 in 20 is marked by chance"
        said.append(f"{ABOVE} above, {BELOW} below random order: the interval of the paired difference leaves out 0; {chance}")
    if any(cell.harm is not None for cell in cells):
        said.append(f"{harm[:1].upper()}{harm[1:]}: the largest share of rows, over budgets, that corrections turn wrong")
    if any(line.ends is not None for line in lines):
        said.append("'To k': its last budget is k; its area is not comparable with others, its mark is")
    if any(line.oracle for line in lines):
        said.append(f"{ORACLE} an oracle: it looks at the truth before it asks, as nobody can")
    samples = list(dict.fromkeys(cell.sample for cell in cells if cell.sample))
    if samples:
        which = f"{SAMPLE} each look is a whole inference, so a sample ({'; or '.join(samples)})"
        said.append(f"{which}: an area is comparable within the same sample alone")
    return said


def reasons(found: list[Grid]) -> list[dict[str, str]]:
    """Why cells are n/a: an entry for each reason, with the policies and methods it holds for."""
    by: dict[str, dict[str, list[str]]] = {}
    for grid in found:
        for line in grid.lines:
            for row, cell in zip(grid.rows, line.cells, strict=True):
                if cell.reason:
                    by.setdefault(cell.reason, {}).setdefault(line.policy, []).append(row.name)
    entries: list[dict[str, str]] = []
    for reason, policies in by.items():
        merged: dict[tuple[str, ...], list[str]] = {}
        for policy, names in policies.items():
            merged.setdefault(tuple(names), []).append(policy)
        for names, those in merged.items():
            every = len(names) == len(found[0].rows) > 1
            entries.append(
                {"reason": reason, "policies": listed(those), "names": "every method" if every else listed([*names])}
            )
    return entries


def reveals(page: Page) -> str:
    """A warning where concept labels are a function of the class, else nothing."""
    return REVEALS if page.about.get("class_level") is True else ""


def few(page: Page) -> bool:
    """Is the list of single budgets short enough for a terminal?"""
    every = [record(row.data.get("policies")).values() for row in page.rows]
    counts = [sum(max(len(records(points)), 1) for points in each) for each in every]
    return max(counts, default=0) <= EACH or sum(counts) <= FEW
