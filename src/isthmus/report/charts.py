"""Line and point charts: correction curves with intervals, score against sparsity, training, the table's strips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.report.clean import finite
from isthmus.report.numbers import count
from isthmus.report.page import Page, Row
from isthmus.report.svg import Markup, Scale, cut, el, figure, join, label, line, marker, path, spanned, ticks

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


def black_line(page: Page, shape: Frame, *, name: bool = False) -> Markup | None:
    """The black box: a dashed line, its interval a pale band."""
    if page.black is None or page.black.main.value is None:
        return None
    left, _, right, _ = shape.grid
    score = page.black.main
    band = None
    if score.low is not None and score.high is not None:
        top = shape.y(score.high)
        band = el("rect", x=left, y=top, width=right - left, height=max(shape.y(score.low) - top, 0.5), class_="band")
    y = shape.y(score.value or 0.0)
    said = label(left + 6, y - 5, "black box", class_="note") if name else None
    return el("g", el("title", f"black box {score.both}"), band, line(left, y, right, y, "black"), said)


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


def points_of(row: Row, level: str) -> list[tuple[float, float, float, float]]:
    """(k, value, low, high) of a curve; points without a value are left out."""
    found: list[tuple[float, float, float, float]] = []
    for point in (row.data.get("curves") or {}).get(level) or []:
        k, value = finite(point.get("k")), finite(point.get("value"))
        if k is not None and value is not None:
            low, high = finite(point.get("low")), finite(point.get("high"))
            found.append((k, value, value if low is None else low, value if high is None else high))
    return sorted(found)


def curves(page: Page, level: str = "concept") -> Markup | None:
    """Score against the number of corrected concepts (or groups); None when no row has such a curve."""
    lines = [(row, found) for row in page.rows if (found := points_of(row, level))]
    if not lines:
        return None
    values = [v for _, found in lines for point in found for v in point[1:]] + reach([page.black])
    most = max(point[0] for _, found in lines for point in found)
    height = max(380.0, 18.0 * len(lines) + TOP + BOTTOM)
    shape = frame(page, values, 0.0, max(most, 1.0), height)
    ends = spaced([shape.y(found[-1][1]) for _, found in lines], 17, TOP + 4, height - BOTTOM)
    drawn = [_curve(page, shape, row, found, end) for (row, found), end in zip(lines, ends, strict=True)]
    each = "concepts" if level == "concept" else "groups"
    return figure(
        WIDE,
        height,
        f"Correction curves by {level}",
        f"{page.main.title} of {count(len(lines), 'method')} against the number of corrected {each}, 0 to {most:g}.",
        axes(shape, page, f"number of {each} corrected, in random order", ticks(0, max(most, 1.0), 7, whole=True)),
        black_line(page, shape, name=True),
        *drawn,
        least=600,
    )


def reach(rows: Sequence[Row | None]) -> list[float]:
    """What the main scores of rows, and their intervals, need of an axis."""
    scores = [row.main for row in rows if row is not None]
    return [v for score in scores for v in (score.value, score.low, score.high) if v is not None]


def framed(page: Page) -> list[float]:
    """What an axis must hold: bottlenecks and black box; other yardsticks may lie beyond its edge."""
    return reach([page.black, *page.bottlenecks]) or reach(page.rows)


def _curve(page: Page, shape: Frame, row: Row, points: list[tuple[float, float, float, float]], end: float) -> Markup:
    above = [(shape.x(k), shape.y(high)) for k, _, _, high in points]
    below = [(shape.x(k), shape.y(low)) for k, _, low, _ in points]
    middle = [(shape.x(k), shape.y(value)) for k, value, _, _ in points]
    every = max(1, len(middle) // 5)
    x, y = middle[-1]
    edge, said = shape.x.stop, (page.main.show(points[0][1]), page.main.show(points[-1][1]))
    return el(
        "g",
        el("title", f"{row.name}: {said[0]} with {points[0][0]:g} corrected, {said[1]} with {points[-1][0]:g}"),
        el("path", d=path(above + below[::-1], close=True), class_="ribbon") if len(points) > 1 else None,
        el("path", d=path(middle), class_="line"),
        *(marker(row.index, *at, 3.6) for at in middle[::every]),
        el("path", d=path([(x, y), (edge + 6, y), (edge + 16, end), (edge + 20, end)]), class_="leader"),
        marker(row.index, edge + 27, end, 4),
        label(edge + 37, end + 4, cut(row.name, 22), class_="name"),
        class_=row.paint,
    )


def sparsity(page: Page) -> Markup | None:
    """Score against NEC; rows with concepts but no linear head stand in a lane of their own. None without any row."""
    inside = [(row, row.scores["nec"].value) for row in page.rows if "nec" in row.scores and row.main.value is not None]
    lane = [
        row for row, nec in inside if nec is None and "bypass" in row.scores and row.scores["bypass"].value is not None
    ]
    dots = [(row, nec) for row, nec in inside if nec is not None]
    if not dots and not lane:
        return None
    rows = [row for row, _ in dots] + lane
    top = max([nec for _, nec in dots], default=1.0)
    height = max(330.0, 18.0 * len(rows) + TOP + BOTTOM)
    shape = frame(page, framed(page), 0.0, spanned([0.0, top])[1], height, right=RIGHT + 130)
    edge = shape.x.stop + 70
    spots = [(row, shape.x(nec), shape.y(row.main.value or 0.0)) for row, nec in dots]
    spots += [(row, edge, shape.y(row.main.value or 0.0)) for row in lane]
    ends = spaced([y for _, _, y in spots], 17, TOP + 4, height - BOTTOM)
    scale = ticks(0, shape.x.high, 6, whole=True) if dots else []
    parts = [_dot(shape, *spot, end, spot[0] in lane) for spot, end in zip(spots, ends, strict=True)]
    return figure(
        WIDE,
        height,
        f"{page.main.title} against sparsity",
        f"{count(len(dots), 'method')} by the concepts a class uses; {len(lane)} more cannot be counted.",
        axes(shape, page, "NEC: concepts a class uses (linear heads)", scale),
        black_line(page, shape, name=True),
        label(edge, height - BOTTOM + 19, "not countable:", anchor="middle", class_="tick") if lane else None,
        label(edge, height - BOTTOM + 34, "hidden layer", anchor="middle", class_="tick") if lane else None,
        *parts,
        least=600,
    )


def _dot(shape: Frame, row: Row, x: float, y: float, end: float, hollow: bool) -> Markup:
    low, high, value = row.main.low, row.main.high, row.main.value or 0.0
    whisker = None if low is None or high is None else line(x, shape.y(low), x, shape.y(high), "whisker")
    beyond = not shape.y.low <= value <= shape.y.high
    name = f"{cut(row.name, 15)} {row.main.text} {'↓' if value < shape.y.low else '↑'}" if beyond else cut(row.name, 22)
    edge = WIDE - RIGHT - 20
    nec = "NEC not countable" if hollow else f"NEC {row.scores['nec'].text}"
    return el(
        "g",
        el("title", f"{row.name}: {row.main.both}, {nec}"),
        el("path", d=path([(x, y), (edge + 6, end), (edge + 16, end)]), class_="leader"),
        whisker,
        marker(row.index, x, y, 5.5),
        label(edge + 22, end + 4, name, class_="name"),
        class_=row.paint + (" hollow" if hollow else ""),
    )


def strip(page: Page, row: Row, low: float, high: float) -> Markup:
    """One row's score and interval on the table's common scale, the black box a dashed line."""
    scale = Scale(low, high, 5, 145)
    parts: list[Markup | None] = [line(5, 12, 145, 12, "grid")]
    if page.black is not None and page.black.main.value is not None:
        x = scale(page.black.main.value)
        parts += [line(x, 0, x, 24, "black")]
    if row.main.value is not None:
        if row.main.low is not None and row.main.high is not None and row.main.high >= low and row.main.low <= high:
            parts += [line(scale(row.main.low), 12, scale(row.main.high), 12, "whisker")]
        inside = low <= row.main.value <= high
        parts += [marker(row.index, scale(row.main.value), 12, 3.4)] if inside else [_beyond(row.main.value < low)]
    drawn = el("g", *parts, class_=row.paint)
    return el("svg", drawn, viewBox="0 0 150 24", width=150.0, height=24.0, aria_hidden="true", class_="strip")


def _beyond(below: bool) -> Markup:
    """An arrow at the strip's edge for a score beyond it."""
    x, way = (2.0, 1.0) if below else (148.0, -1.0)
    return el("path", d=path([(x, 12), (x + 8 * way, 7), (x + 8 * way, 17)], close=True), class_="mark")


def training(history: list[dict[str, Any]]) -> Markup | None:
    """A small chart of the first seed's training: loss (line) and validation loss (dashed), stage after stage."""
    steps = [
        (finite(step.get("loss")), finite(step.get("validation")), str(step.get("stage") or "")) for step in history
    ]
    values = [v for step in steps for v in step[:2] if v is not None]
    if not values:
        return None
    low, high = spanned(values)
    x, y = Scale(0, len(steps) - 1, 40, 252), Scale(low, high, 104, 22)
    parts: list[Markup] = []
    for value in (low, high):
        parts += [
            line(40, y(value), 252, y(value), "grid"),
            label(34, y(value) + 4, f"{value:.2g}", anchor="end", class_="tick"),
        ]
    starts = [i for i in range(len(steps)) if not i or steps[i][2] != steps[i - 1][2]]
    for start, stop in zip(starts, [*starts[1:], len(steps)], strict=True):
        for k, name in ((0, "loss"), (1, "validation")):
            found = [(x(i), y(v)) for i in range(start, stop) if (v := steps[i][k]) is not None]
            parts += [el("path", d=path(found), class_=name)] if len(found) > 1 else [_lone(found, name)]
        parts += [label(x(start) + 2, 16, cut(steps[start][2], 14), class_="tick")]
        parts += [line(x(start), 22, x(start), 104, "axis")] if start else []
    parts += [label(252, 120, count(len(steps), "epoch"), anchor="end", class_="tick")]
    last = next((v for v in (step[1] for step in reversed(steps)) if v is not None), None)
    desc = f"{count(len(steps), 'epoch')}" + ("" if last is None else f", last validation loss {last:.3g}")
    return figure(260, 126, "Training of the first seed", desc, el("g", *parts, class_="training"))


def _lone(found: list[tuple[float, float]], name: str) -> Markup:
    return join(el("circle", cx=x, cy=y, r=2.5, class_=f"{name} point") for x, y in found)
