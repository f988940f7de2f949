"""Small drawings: the strips of the table, markers in text, bars of probabilities, training losses."""

from __future__ import annotations

from typing import Any

from isthmus.report.clean import finite
from isthmus.report.numbers import count
from isthmus.report.page import Page, Row
from isthmus.report.svg import Markup, Scale, cut, el, figure, join, label, line, marker, path, spanned


def swatch(row: Row) -> Markup:
    """The row's marker in its colour, for tables and lists."""
    inside = el("g", marker(row.index, 8, 8, 4.6), class_=row.paint)
    return el("svg", inside, viewBox="0 0 16 16", width=16.0, height=16.0, aria_hidden="true", class_="swatch")


def share_bar(value: float | None, *, right: bool = False) -> Markup:
    """A thin bar for a probability in [0, 1]."""
    width = 0.0 if value is None else 100 * min(max(value, 0.0), 1.0)
    inside = el("path", d=path([(0, 4), (width, 4)]), class_="right" if right else "other")
    return el("svg", inside, viewBox="0 0 100 8", width=100.0, height=8.0, aria_hidden="true", class_="chance")


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
    history = [step for step in history if "edit" not in step]  # edits have no loss
    stages = [str(step.get("stage") or "") for step in history]
    losses = [(finite(step.get("loss")), finite(step.get("validation"))) for step in history]
    values = [v for pair in losses for v in pair if v is not None]
    if not values:
        return None
    low, high = spanned(values)
    x, y = Scale(0, len(stages) - 1, 40, 252), Scale(low, high, 104, 22)
    parts: list[Markup] = []
    for value in (low, high):
        parts += [
            line(40, y(value), 252, y(value), "grid"),
            label(34, y(value) + 4, f"{value:.2g}", anchor="end", class_="tick"),
        ]
    starts = [i for i in range(len(stages)) if not i or stages[i] != stages[i - 1]]
    for start, stop in zip(starts, [*starts[1:], len(stages)], strict=True):
        for k, name in ((0, "loss"), (1, "validation")):
            found = [(x(i), y(v)) for i in range(start, stop) if (v := losses[i][k]) is not None]
            parts += [el("path", d=path(found), class_=name)] if len(found) > 1 else [_lone(found, name)]
        parts += [label(x(start) + 2, 16, cut(stages[start], 14), class_="tick")]
        parts += [line(x(start), 22, x(start), 104, "axis")] if start else []
    parts += [label(252, 120, count(len(stages), "epoch"), anchor="end", class_="tick")]
    last = next((v for v in (pair[1] for pair in reversed(losses)) if v is not None), None)
    desc = f"{count(len(stages), 'epoch')}" + ("" if last is None else f", last validation loss {last:.3g}")
    return figure(260, 126, "Training of the first seed", desc, el("g", *parts, class_="training"))


def _lone(found: list[tuple[float, float]], name: str) -> Markup:
    return join(el("circle", cx=x, cy=y, r=2.5, class_=f"{name} point") for x, y in found)
