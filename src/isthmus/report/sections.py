"""What the page's templates show of scores, curves, concepts and mistakes: plain values, in the order they are read."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from isthmus.report import bars, grids
from isthmus.report import charts as draw
from isthmus.report.clean import finite
from isthmus.report.columns import Column, columns, reference, score, seal
from isthmus.report.numbers import between, listed, number, percent
from isthmus.report.page import Page, Row, Score
from isthmus.report.svg import spanned

Context = dict[str, Any]


def table(page: Page) -> Context:
    """The table of methods: caption, columns, rows, constant answers, and why some cells are n/a."""
    shown = columns(page)
    low, high = spanned(draw.framed(page), page.main.low, page.main.high)
    return {
        "caption": f"Brackets: {page.data['interval']}." if page.data.get("interval") else "",
        "main": _head(page, Column(page.main.key, page.main.title, "", "")),
        "low": page.main.show(low),
        "high": page.main.show(high),
        "columns": [_head(page, column) for column in shown],
        "over": [(name, len(list(group))) for name, group in groupby(shown, key=lambda c: c.over)],
        "rows": [_line(page, row, order, shown, low, high) for order, row in enumerate(page.rows)],
        "reference": _constant(page, shown),
        "reasons": _reasons(page, shown),
    }


def _head(page: Page, column: Column) -> Context:
    measure = page.metrics.get(column.key) or page.main
    words = "higher is better" if measure.better == "up" else "lower is better"
    return {
        "head": column.head,
        "title": measure.title,
        "text": measure.text,
        "better": measure.better,
        "better_words": words,
    }


def _line(page: Page, row: Row, order: int, shown: list[Column], low: float, high: float) -> Context:
    mark, why = seal(row)
    return {
        "name": row.name,
        "title": row.title,
        "order": order,
        "yardstick": row.yardstick,
        "swatch": bars.swatch(row),
        "main": cell(row.main),
        "gap": _gap(page, row),
        "strip": draw.strip(page, row, low, high),
        "cells": [cell(score(row, column.key, page)) for column in shown],
        "seal": mark,
        "sealed": why,
        "encoder": row.encoder or "–",
    }


def cell(found: Score) -> Context:
    """A score as a table cell: text, interval, spread, the value to sort by, and the reason of an ``n/a``."""
    return {
        "text": found.text,
        "interval": found.interval,
        "spread": f"± {found.measure.show(found.spread)}" if found.spread is not None else "",
        "value": "" if found.value is None else repr(found.value),
        "reason": found.reason if found.value is None else "",
    }


def _gap(page: Page, row: Row) -> Context:
    gap, main = row.main.difference, page.main
    if gap is None or row is page.black:
        reason = (
            "the black box itself"
            if row.black
            else "no black box to compare with"
            if page.black is None
            else "not measured"
        )
        return {"text": "–" if row.black else "n/a", "interval": "", "value": "", "reason": reason, "told": False}
    value, low, high = gap
    return {
        "text": main.show(value, sign=True),
        "interval": between(low, high, main.unit, sign=True),
        "value": repr(value),
        "reason": "",
        "told": low is not None and high is not None and not low <= 0 <= high,
    }


def _constant(page: Page, shown: list[Column]) -> Context | None:
    known = reference(page)
    if not known:
        return None
    main = known.get(page.main.key)
    return {
        "main": "" if main is None else page.main.show(main),
        "cells": [number(known[c.key]) if c.key in known else "" for c in shown],
    }


def _reasons(page: Page, shown: list[Column]) -> list[Context]:
    """Why cells are n/a: one entry for each column and reason, with the rows it holds for."""
    found: dict[tuple[str, str], list[str]] = {}
    for column in [Column(page.main.key, page.main.title, "", ""), *shown]:
        for row in page.rows:
            each = score(row, column.key, page)
            if each.value is None:
                found.setdefault((column.head, each.reason), []).append(row.name)
    merged: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (head, reason), names in found.items():
        merged.setdefault((reason, tuple(names)), []).append(head)
    return [
        {"column": ", ".join(heads), "reason": reason, "names": listed(list(names))}
        for (reason, names), heads in merged.items()
    ]


def charts(page: Page) -> Context:
    """Every drawing of the page; what has no data is empty."""
    names = [str(name) for name in (page.about.get("task") or {}).get("names") or []]
    found = [(row, bars.concept_chart(row)) for row in page.rows]
    learned = [(row, draw.training(row.data.get("history") or [])) for row in page.rows]
    sparse = None if page.single else draw.sparsity(page)
    return {
        "sparsity": sparse,
        "sparse": [] if page.single else _sparse(page),
        "sparsity_words": _sparsity_words(page),
        "curves": [each for level in ("concept", "group") if (each := _curve(page, level)) is not None],
        "concepts": opened([_panel(row) | {"chart": chart} for row, chart in found if chart is not None]),
        "confusion": opened([each for row in page.rows if (each := _mistaken(row, names)) is not None]),
        "training": [_panel(row) | {"chart": chart} for row, chart in learned if chart is not None],
    }


def opened(panels: list[Context], best: str | None = None) -> list[Context]:
    """Panels of which one is open: that named ``best``, else the first."""
    at = next((i for i, panel in enumerate(panels) if panel["name"] == best), 0)
    return [panel | {"open": i == at} for i, panel in enumerate(panels)]


def _panel(row: Row) -> Context:
    return {"name": row.name, "swatch": bars.swatch(row)}


def _sparsity_words(page: Page) -> str:
    counted = [row for row in page.rows if "nec" in row.scores and row.scores["nec"].value is not None]
    if not counted:
        return "No method here has a linear head, so the concepts a class uses cannot be counted."
    return "Fewer concepts a class are easier to read. Left and high is best; the dashed line is the black box."


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
        "brief": [_brief(page, row, sorted(points.values())) for row, points in rows],
    }


def _brief(page: Page, row: Row, points: list[tuple[float, float, float, float]]) -> Context:
    """A curve in three numbers, and where most of its gain is had."""
    half = min(points, key=lambda p: abs(p[0] - points[-1][0] / 2))
    three = [page.main.show(p[1]) for p in (points[0], half, points[-1])]
    return _panel(row) | {"three": three, "k95": percent(score(row, "k95", page).value)}


def _sparse(page: Page) -> list[Context]:
    """NEC beside the score, the sparsest first, those that cannot be counted last."""
    rows = [row for row in page.rows if "nec" in row.scores and row.main.value is not None and not row.black]
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
        for policy, points in (row.data.get("policies") or {}).items()
        for point in points
    ]
    if not found:
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
    return {"names": [page.metrics[key].title for key in keys], "lines": lines}


def _after(page: Page, point: Context, key: str) -> str:
    found = point.get(key)
    if isinstance(found, dict):
        low, high = finite(found.get("low")), finite(found.get("high"))
        text = page.metrics[key].show(finite(found.get("value")))
        return f"{text} {between(low, high, page.metrics[key].unit)}".strip()
    return page.metrics[key].show(finite(found))


def agreement(page: Page) -> Context:
    """The agreement matrix and its flagged pairs."""
    found: Context = page.data.get("agreement") or {}
    flagged = [each | {"share": percent(finite(each.get("share")))} for each in found.get("flagged") or []]
    return {
        "chart": grids.agreement_chart(found),
        "flagged": [{"why": "", "a": "", "b": ""} | each for each in flagged],
    }
