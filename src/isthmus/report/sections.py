"""What the page shows of curves, concepts, mistakes and agreement: drawings, and their numbers beside them."""

from __future__ import annotations

from isthmus.report import bars, grids
from isthmus.report import charts as draw
from isthmus.report.clean import finite, record, records, texts
from isthmus.report.columns import score
from isthmus.report.listing import Context, cell
from isthmus.report.numbers import between, count, listed, percent
from isthmus.report.page import Page, Row
from isthmus.report.small import swatch, training
from isthmus.report.svg import Markup


def charts(page: Page) -> Context:
    """Every drawing of the page; what has no data is empty."""
    best = page.best(page.bottlenecks) or page.best(page.rows)
    top = best.name if best else None
    names = page.answers
    found = [(row, bars.concept_chart(row)) for row in page.rows]
    learned = [(row, training(records(row.data.get("history")))) for row in page.rows]
    sparse = None if page.single else draw.sparsity(page)
    return {
        "sparsity": sparse,
        "sparse": [] if page.single else _sparse(page),
        "sparsity_words": "" if page.single else _sparsity_words(page),
        "curves": [each for level in ("concept", "group") if (each := _curve(page, level)) is not None],
        "concepts": opened([_read(row, chart) for row, chart in found if chart is not None], top),
        "confusion": opened([each for row in page.rows if (each := _mistaken(row, names)) is not None], top),
        "training": [_panel(row) | {"chart": chart} for row, chart in learned if chart is not None],
    }


def opened(panels: list[Context], best: str | None = None) -> list[Context]:
    """Panels of which one is open: that named ``best``, else the first."""
    at = next((i for i, panel in enumerate(panels) if panel["name"] == best), 0)
    return [panel | {"open": i == at} for i, panel in enumerate(panels)]


def _panel(row: Row) -> Context:
    return {"name": row.name, "swatch": swatch(row)}


def _read(row: Row, chart: Markup) -> Context:
    """The concept chart of a row, and in words which concepts are read no better than by their commonest answer."""
    concepts = [c for c in bars.concepts_of(row) if c.accuracy is not None and c.majority is not None]
    idle = [c.name for c in concepts if (c.accuracy or 0.0) <= (c.majority or 0.0)]
    better, every = len(concepts) - len(idle), count(len(concepts), "concept")
    words = f"{better} of {every} are read better than by their commonest answer."
    return _panel(row) | {"chart": chart, "words": words if concepts else "", "idle": listed(idle, 12) if idle else ""}


def _sparsity_words(page: Page) -> str:
    counted = [row for row in page.rows if "nec" in row.scores and row.scores["nec"].value is not None]
    if not counted:
        none = "No method here has a linear head, so the concepts a class uses (NEC) cannot be counted"
        return f"{none}; what accuracy costs in concepts is not known." if any(map(draw.strips, page.rows)) else ""
    how = "Left and high is best; the dashed line is the black box. Equal counts stand side by side."
    return f"Fewer concepts a class are easier to read. {how}"


def _curve(page: Page, level: str) -> Context | None:
    chart = draw.curves(page, level)
    if chart is None:
        return None
    rows = [(row, {p[0]: p for p in draw.points_of(row, level)}) for row in page.rows]
    rows = [(row, points) for row, points in rows if points]
    counts = sorted({k for _, points in rows for k in points})
    show = page.main.show
    lines = [
        {
            "k": f"{k:g}",
            "cells": [f"{show(p[k][1])} {between(*p[k][2:], page.main.unit)}" if k in p else "" for _, p in rows],
        }
        for k in counts
    ]
    return {
        "level": level,
        "chart": chart,
        "names": [row.name for row, _ in rows],
        "lines": lines,
        "k95": any(score(row, "k95", page).value is not None for row, _ in rows) and level == "concept",
        "brief": [_brief(page, row, sorted(points.values())) for row, points in rows],
    }


def _brief(page: Page, row: Row, points: list[tuple[float, float, float, float]]) -> Context:
    """A curve in three numbers, and where most of its gain is had."""
    half = min(points, key=lambda p: abs(p[0] - points[-1][0] / 2))
    three = [page.main.show(p[1]) for p in (points[0], half, points[-1])]
    return _panel(row) | {"three": three, "k95": percent(score(row, "k95", page).value)}


def _sparse(page: Page) -> list[Context]:
    """NEC beside the score, the sparsest first, those that cannot be counted last."""
    rows = [row for row in page.rows if draw.strips(row)]
    rows.sort(key=lambda row: (row.scores["nec"].value is None, row.scores["nec"].value or 0.0))
    return [_panel(row) | {"nec": cell(row.scores["nec"]), "main": row.main.both} for row in rows]


def _mistaken(row: Row, names: list[str]) -> Context | None:
    if grids.table_of(row.data.get("confusion")) is None:
        return None
    return _panel(row) | {"chart": grids.confusion_chart(row, names), "mistakes": grids.mistakes(row, names)}


def policies(page: Page) -> Context | None:
    """Scores after corrections by named policies, one line for each row, policy and budget."""
    found = [
        (row, str(policy), point)
        for row in page.rows
        for policy, points in record(row.data.get("policies")).items()
        for point in records(points)
    ]
    unfit = [
        (row, str(policy), record(points)["not_applicable"])
        for row in page.rows
        for policy, points in record(row.data.get("policies")).items()
        if "not_applicable" in record(points)
    ]
    if not found and not unfit:
        return None
    keys = list(dict.fromkeys(key for _, _, point in found for key in point if key in page.metrics))
    lines = [
        {
            "method": row.name,
            "policy": policy,
            "k": f"{finite(point.get('k')) or 0:g}",
            "cells": [_after(page, point, k) for k in keys],
        }
        for row, policy, point in found
    ]
    for row, policy, reason in unfit:
        cells = [f"not applicable: {reason}", *("" for _ in keys[1:])]
        lines.append({"method": row.name, "policy": policy, "k": "", "cells": cells})
    return {"names": [page.metrics[key].title for key in keys] or ["score"], "lines": lines, "published": published(page)}


def published(page: Page) -> list[Context]:
    """Figures of the data's own paper: a line for each policy and budget, then the black box."""
    found = record(page.data.get("published"))
    show = page.main.show
    lines = [
        {"policy": str(policy), "k": str(k), "value": show(finite(value))}
        for policy, points in found.items()
        for k, value in record(points).items()
    ]
    black = finite(found.get("blackbox"))
    return [*lines, *([{"policy": "black box", "k": "", "value": show(black)}] if black is not None else [])]


def _after(page: Page, point: Context, key: str) -> str:
    found = point.get(key)
    if not isinstance(found, dict):
        return page.metrics[key].show(finite(found))
    value, low, high = (finite(record(found).get(part)) for part in ("value", "low", "high"))
    return f"{page.metrics[key].show(value)} {between(low, high, page.metrics[key].unit)}".strip()


def nearest(page: Page) -> list[str]:
    """How far methods decide alike, in sentences: each flagged pair with its reason, else the nearest pair."""
    found = record(page.data.get("agreement"))
    flagged = records(found.get("flagged"))
    if flagged:
        told = [(str(f.get("a")), str(f.get("b")), percent(finite(f.get("share"))), str(f.get("why"))) for f in flagged]
        return [f"{a} and {b} decide {share} of the rows alike: {why}" for a, b, share, why in told]
    names, matrix = texts(found.get("names")), grids.table_of(found.get("matrix"))
    if matrix is None or len(names) < 2:
        return []
    share, i, j = max((matrix[i][j], i, j) for i in range(len(names)) for j in range(i))
    return [f"no two methods decide nearly alike: {names[j]} and {names[i]} do on {percent(share)} of the rows, the most"]


def agreement(page: Page) -> Context:
    """The agreement matrix and its flagged pairs."""
    found = record(page.data.get("agreement"))
    flagged = [each | {"share": percent(finite(each.get("share")))} for each in records(found.get("flagged"))]
    return {
        "chart": grids.agreement_chart(found),
        "flagged": [{"why": "", "a": "", "b": ""} | each for each in flagged],
    }
