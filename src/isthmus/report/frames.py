"""The frame of a large chart: scales, axes, the black box's line, names that keep apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.report.page import Page, Row
from isthmus.report.svg import Markup, Scale, cut, el, label, line, marker, path, spanned, ticks

WIDE, LEFT, RIGHT, TOP, BOTTOM = 760.0, 52.0, 190.0, 18.0, 46.0


@dataclass(frozen=True)
class Frame:
    """The plot area of a chart with its two scales."""

    x: Scale
    y: Scale

    @property
    def grid(self) -> tuple[float, float, float, float]:
        return self.x.start, self.y.stop, self.x.stop, self.y.start  # left, top, right, bottom


def frame(page: Page, values: list[float], low: float, high: float, height: float, right: float = RIGHT) -> Frame:
    """A frame for main scores ``values`` over x from ``low`` to ``high``."""
    bottom, top = spanned(values, page.main.low, page.main.high)
    return Frame(Scale(low, high, LEFT, WIDE - right), Scale(bottom, top, height - BOTTOM, TOP))


def axes(shape: Frame, page: Page, x_title: str, x_ticks: list[float]) -> Markup:
    """Horizontal grid lines with their numbers, x ticks, and what both axes mean."""
    left, top, right, bottom = shape.grid
    parts: list[Markup] = []
    for value in ticks(shape.y.low, shape.y.high, 5):
        parts += [line(left, shape.y(value), right, shape.y(value), "grid")]
        parts += [label(left - 8, shape.y(value) + 4, page.main.show(value), anchor="end", class_="tick")]
    for value in x_ticks:
        parts += [line(shape.x(value), bottom, shape.x(value), bottom + 5, "axis")]
        parts += [label(shape.x(value), bottom + 19, f"{value:g}", anchor="middle", class_="tick")]
    parts += [line(left, bottom, right, bottom, "axis")]
    parts += [label((left + right) / 2, bottom + 38, x_title, anchor="middle", class_="axis-title")]
    parts += [label(left, top - 6, page.main.title, class_="axis-title")]
    return el("g", *parts, class_="axes")


def tag(row: Row, at: tuple[float, float], edge: float, end: float, text: str) -> list[Markup]:
    """A name at the right of the chart at height ``end``, with its marker and a thin line from the point it names."""
    x, y = at
    return [
        el("path", d=path([(x, y), (edge + 4, y), (edge + 14, end), (edge + 20, end)]), class_="leader"),
        marker(row.index, edge + 27, end, 4),
        label(edge + 37, end + 4, text, class_="name"),
    ]


def tagged(page: Page, shape: Frame, heights: list[float]) -> tuple[list[float], float]:
    """Where the names go for points at ``heights``, and where the black box's name goes among them."""
    _, top, _, bottom = shape.grid
    black = [] if page.black is None else [shape.y(page.black.main.value or 0.0)]
    ends = spaced([*heights, *black], 17, top + 4, bottom)
    return ends[: len(heights)], ends[-1]


def black_line(page: Page, shape: Frame, edge: float, end: float) -> Markup | None:
    """The black box from the left to ``edge``: a dashed line, its interval a pale band, its name at height ``end``."""
    if page.black is None or page.black.main.value is None:
        return None
    left, score, band = shape.x.start, page.black.main, None
    if score.low is not None and score.high is not None:
        top = shape.y(score.high)
        band = el("rect", x=left, y=top, width=edge - left, height=max(shape.y(score.low) - top, 0.5), class_="band")
    y = shape.y(page.black.main.value)
    named = tag(page.black, (edge, y), edge, end, cut(page.black.name, 22))
    said = el("title", f"{page.black.name} {score.both}")
    return el("g", said, band, line(left, y, edge, y, "black"), *named, class_=page.black.paint)


def spaced(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Heights near those wanted, at least ``gap`` apart, in the same order, from ``low`` to ``high`` if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    placed = [0.0] * len(wanted)
    last = low - gap
    for i in order:
        last = placed[i] = max(wanted[i], last + gap)
    limit = high + gap
    for i in reversed(order):
        limit = placed[i] = min(placed[i], limit - gap)
    shift = max(low - min(placed, default=low), 0.0)
    return [y + shift for y in placed]


def reach(rows: Sequence[Row | None]) -> list[float]:
    """What the main scores of rows, and their intervals, need of an axis."""
    scores = [row.main for row in rows if row is not None]
    return [v for score in scores for v in (score.value, score.low, score.high) if v is not None]


def framed(page: Page) -> list[float]:
    """What an axis must hold: bottlenecks and black box; other yardsticks may lie beyond its edge."""
    return reach([page.black, *page.bottlenecks]) or reach(page.rows)
