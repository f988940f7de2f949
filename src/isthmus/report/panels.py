"""Curves by policy as small multiples, a panel for each method, and the grid of areas, for the page."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.report.listing import Context
from isthmus.report.numbers import number
from isthmus.report.page import COLOURS, Page, Row
from isthmus.report.svg import Markup, Scale, el, figure, label, line, marker, path, spanned, ticks
from isthmus.report.worth import Cell, Grid, Line, grids, notes, reasons, short, told

PANEL, TALL, LEFT, RIGHT, TOP, BOTTOM = 280.0, 214.0, 38.0, 8.0, 8.0, 40.0
DASHES = 2  # kinds of dashes for oracles, o0 and o1 in style.css
Paint = tuple[int, str]  # number of the marker, classes


def paints(found: Sequence[Grid]) -> dict[str, Paint]:
    """Marker and classes by policy, the same at both levels: random order grey dashes, oracles dashes with hollow marks."""
    lines = {line.bare: line for grid in found for line in grid.lines}
    seers = [name for name, line in lines.items() if line.oracle]
    others = [name for name, line in lines.items() if not (line.oracle or line.random)]
    made = {name: (i, f"series s{i % COLOURS}") for i, name in enumerate(others)}
    made |= {name: (i, f"series y0 oracle o{i % DASHES} hollow") for i, name in enumerate(seers)}
    return made | {name: (0, "series y1 random") for name, line in lines.items() if line.random and name not in made}


def policies(page: Page) -> Context | None:
    """The grids, their panels and what both mean; None without a policy scored from none corrected on."""
    found = grids(page)
    if not found:
        return None
    paint = paints(found)
    return {
        "levels": [_level(page, grid, paint) for grid in found],
        "notes": notes(page, found, "most harm"),
        "reasons": reasons(found),
        "told": [
            {"method": row.name, "policy": line.policy, "words": told(page, cell)}
            for grid in found
            for line in grid.lines
            for row, cell in zip(grid.rows, line.cells, strict=True)
            if cell.area
        ],
    }


def _level(page: Page, grid: Grid, paint: dict[str, Paint]) -> Context:
    lines = [
        {
            "name": line.name,
            "swatch": swatch(*paint[line.bare]),
            "random": line.random,
            "cells": [_shown(page, cell) for cell in line.cells],
        }
        for line in grid.lines
    ]
    legend = [each for each, line in zip(lines, grid.lines, strict=True) if any(cell.points for cell in line.cells)]
    return {
        "level": grid.level,
        "names": [row.name for row in grid.rows],
        "lines": lines,
        "legend": legend,
        "harm": ["" if harm is None else number(harm) for harm in grid.harm],
        "panels": panels(page, grid, paint),
    }


def _shown(page: Page, cell: Cell) -> Context:
    """A cell: its mark apart from the number, and all that it knows in words."""
    text = short(page, cell, "n/a")
    which = {"▲": "up", "▼": "down"}.get(cell.mark, "")
    return {
        "mark": cell.mark,
        "which": which,
        "text": text.replace(cell.mark, "") if which else text,
        "words": told(page, cell),
    }


def swatch(index: int, classes: str) -> Markup:
    """A policy's line and marker, for tables and the legend."""
    mark = None if "random" in classes else marker(index, 15, 8, 3.6)
    inside = el("g", el("path", d=path([(1, 8), (29, 8)]), class_="line"), mark, class_=classes)
    return el("svg", inside, viewBox="0 0 30 16", width=30.0, height=16.0, aria_hidden="true", class_="swatch")


def panels(page: Page, grid: Grid, paint: dict[str, Paint]) -> list[Context]:
    """A chart for each method that has a curve, all on the same scales."""
    points = [point for cell in grid.cells for point in cell.points]
    low, high = spanned([value for _, value in points], page.main.low, page.main.high)
    x = Scale(0, max([1.0, *(k for k, _ in points)]), LEFT, PANEL - RIGHT)
    y = Scale(low, high, TALL - BOTTOM, TOP)
    made: list[Context] = []
    for i, row in enumerate(grid.rows):
        lines = [(each, each.cells[i]) for each in grid.lines if each.cells[i].points]
        if lines:
            made.append({"name": row.name, "chart": _panel(page, grid, row, lines, (x, y), paint)})
    return made


def _panel(
    page: Page, grid: Grid, row: Row, lines: list[tuple[Line, Cell]], scales: tuple[Scale, Scale], paint: dict[str, Paint]
) -> Markup:
    x, y = scales
    bottom, show = TALL - BOTTOM, page.main.show
    axes: list[Markup] = []
    for value in ticks(y.low, y.high, 4):
        axes += [line(LEFT, y(value), PANEL - RIGHT, y(value), "grid")]
        axes += [label(LEFT - 5, y(value) + 4, f"{value:g}".replace("0.", ".", 1), anchor="end", class_="tick")]
    for value in ticks(0, x.high, 5, whole=True):
        axes += [line(x(value), bottom, x(value), bottom + 4, "axis")]
        axes += [label(x(value), bottom + 16, f"{value:g}", anchor="middle", class_="tick")]
    axes += [line(LEFT, bottom, PANEL - RIGHT, bottom, "axis")]
    axes += [label((LEFT + PANEL - RIGHT) / 2, bottom + 32, f"{grid.level}s corrected", anchor="middle", class_="axis-title")]
    ends = "; ".join(f"{each.bare} {show(cell.points[0][1])} to {show(cell.points[-1][1])}" for each, cell in lines)
    front = sorted(lines, key=lambda pair: (pair[0].random, pair[0].oracle))  # random order lies on top: others show between
    return figure(
        PANEL,
        TALL,
        f"{row.name}: {page.main.title} by correction policy, {grid.level} level",
        f"Score with none and with the last budget of {grid.level}s corrected. {ends}.",
        el("g", *axes, class_="axes"),
        *(_curve(page, each, cell, scales, paint[each.bare]) for each, cell in front),
    )


def _curve(page: Page, each: Line, cell: Cell, scales: tuple[Scale, Scale], paint: Paint) -> Markup:
    """A policy's line; markers stand at every third budget, elsewhere for the next policy, that lines on each other be seen."""
    x, y = scales
    at = [(x(k), y(value)) for k, value in cell.points]
    marks = [] if each.random else at[paint[0] % 3 :: 3] or at[-1:]
    return el(
        "g",
        el("title", f"{each.name}: {told(page, cell)}"),
        el("path", d=path(at), class_="line"),
        *(marker(paint[0], *place, 3.2) for place in marks),
        class_=paint[1],
    )
