"""The two large charts: correction curves with their intervals, and score against sparsity."""

from __future__ import annotations

from isthmus.report.clean import finite, record, records
from isthmus.report.frames import BOTTOM, RIGHT, TOP, WIDE, Frame, axes, black_line, frame, framed, reach, tag, tagged
from isthmus.report.numbers import count
from isthmus.report.page import Page, Row
from isthmus.report.svg import Markup, cut, el, figure, label, line, marker, path, spanned, ticks

EDGE = WIDE - RIGHT - 6  # where the names of the sparsity chart begin


def points_of(row: Row, level: str) -> list[tuple[float, float, float, float]]:
    """(k, value, low, high) of a curve; points without a value are left out."""
    found: list[tuple[float, float, float, float]] = []
    for point in records(record(row.data.get("curves")).get(level)):
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
    ends, black = tagged(page, shape, [shape.y(found[-1][1]) for _, found in lines])
    drawn = [_curve(page, shape, row, found, end) for (row, found), end in zip(lines, ends, strict=True)]
    each = "concepts" if level == "concept" else "groups"
    return figure(
        WIDE,
        height,
        f"Correction curves by {level}",
        f"{page.main.title} of {count(len(lines), 'method')} against the number of corrected {each}, 0 to {most:g}.",
        axes(shape, page, f"number of {each} corrected, in random order", ticks(0, max(most, 1.0), 7, whole=True)),
        black_line(page, shape, shape.x.stop, black),
        *drawn,
        least=600,
    )


def _curve(page: Page, shape: Frame, row: Row, points: list[tuple[float, float, float, float]], end: float) -> Markup:
    above = [(shape.x(k), shape.y(high)) for k, _, _, high in points]
    below = [(shape.x(k), shape.y(low)) for k, _, low, _ in points]
    middle = [(shape.x(k), shape.y(value)) for k, value, _, _ in points]
    every = max(1, len(middle) // 5)
    said = (page.main.show(points[0][1]), page.main.show(points[-1][1]))
    return el(
        "g",
        el("title", f"{row.name}: {said[0]} with {points[0][0]:g} corrected, {said[1]} with {points[-1][0]:g}"),
        el("path", d=path(above + below[::-1], close=True), class_="ribbon") if len(points) > 1 else None,
        el("path", d=path(middle), class_="line"),
        *(marker(row.index, *at, 3.6) for at in middle[::every]),
        *tag(row, middle[-1], shape.x.stop, end, cut(row.name, 22)),
        class_=row.paint,
    )


def strips(row: Row) -> bool:
    """True when a row has a score and a strip of concepts, whether or not they can be counted."""
    passes, counted = row.scores.get("bypass"), row.scores.get("nec")
    there = passes is not None and passes.value is not None
    return row.main.value is not None and counted is not None and (counted.value is not None or there)


def dodged(wanted: list[float], gap: float) -> list[float]:
    """Places of points side by side where they would stand on each other: equal ones spread around their place."""
    together = [[j for j, other in enumerate(wanted) if abs(other - x) < gap / 2] for x in wanted]
    return [x + gap * (near.index(i) - (len(near) - 1) / 2) for i, (x, near) in enumerate(zip(wanted, together, strict=True))]


def sparsity(page: Page) -> Markup | None:
    """Score against NEC; rows with concepts but no linear head stand in a lane of their own. None without a NEC."""
    inside = [row for row in page.rows if strips(row)]
    lane = [row for row in inside if row.scores["nec"].value is None]
    dots = [(row, nec) for row in inside if (nec := row.scores["nec"].value) is not None]
    if not dots:
        return None
    rows = [row for row, _ in dots] + lane
    top = max(nec for _, nec in dots)
    height = max(330.0, 18.0 * len(rows) + TOP + BOTTOM)
    shape = frame(page, framed(page), 0.0, spanned([0.0, top])[1], height, right=RIGHT + 130)
    edge, step, middle = shape.x.stop + 70, min(16.0, 110 / max(len(lane), 1)), (len(lane) - 1) / 2
    across = dodged([shape.x(nec) for _, nec in dots], 9)
    spots = [(row, x, shape.y(row.main.value or 0.0)) for (row, _), x in zip(dots, across, strict=True)]
    spots += [(row, edge + step * (i - middle), shape.y(row.main.value or 0.0)) for i, row in enumerate(lane)]
    ends, black = tagged(page, shape, [y for _, _, y in spots])
    parts = [_dot(shape, *spot, end, spot[0] in lane) for spot, end in zip(spots, ends, strict=True)]
    return figure(
        WIDE,
        height,
        f"{page.main.title} against sparsity",
        f"{count(len(dots), 'method')} by the concepts a class uses; {len(lane)} more cannot be counted.",
        axes(shape, page, "NEC: concepts a class uses (linear heads)", ticks(0, shape.x.high, 6, whole=True)),
        black_line(page, shape, EDGE, black),
        label(edge, height - BOTTOM + 19, "not countable", anchor="middle", class_="tick") if lane else None,
        *parts,
        least=600,
    )


def _dot(shape: Frame, row: Row, x: float, y: float, end: float, hollow: bool) -> Markup:
    low, high, value = row.main.low, row.main.high, row.main.value or 0.0
    whisker = None if low is None or high is None else line(x, shape.y(low), x, shape.y(high), "whisker")
    beyond = not shape.y.low <= value <= shape.y.high
    name = f"{cut(row.name, 15)} {row.main.text} {'↓' if value < shape.y.low else '↑'}" if beyond else cut(row.name, 22)
    nec = "NEC not countable" if hollow else f"NEC {row.scores['nec'].text}"
    return el(
        "g",
        el("title", f"{row.name}: {row.main.both}, {nec}"),
        whisker,
        marker(row.index, x, y, 5.5),
        *tag(row, (x, y), EDGE, end, name),
        class_=row.paint + (" hollow" if hollow else ""),
    )
