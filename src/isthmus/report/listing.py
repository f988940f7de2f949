"""The table of methods as plain cells: scores, differences, constant answers, and why some cells are n/a."""

from __future__ import annotations

import re
from typing import Any

from isthmus.report.columns import Column, columns, reference, score, seal
from isthmus.report.frames import framed
from isthmus.report.numbers import between, listed, number
from isthmus.report.page import Page, Row
from isthmus.report.scores import Score
from isthmus.report.small import strip, swatch
from isthmus.report.svg import spanned

Context = dict[str, Any]
AUDIT = re.compile(r"audits/[a-z0-9-]+\.html")
LAST = ("strip", "cost")  # groups of columns that end with a word: the seal, the encoder


def table(page: Page) -> Context:
    """The table of methods: caption, columns, rows, constant answers, and why some cells are n/a."""
    shown = columns(page)
    low, high = spanned(framed(page), page.main.low, page.main.high)
    return {
        "caption": f"Brackets: {page.data['interval']}." if page.data.get("interval") else "",
        "main": _head(page, Column(page.main.key, page.main.title.removeprefix("task "), "", "task")),
        "low": page.main.show(low),
        "high": page.main.show(high),
        "columns": [_head(page, column) for column in shown if column.over not in LAST],
        "last": {over: [_head(page, column) for column in shown if column.over == over] for over in LAST},
        "over": _over(shown),
        "rows": [_line(page, row, order, shown, low, high) for order, row in enumerate(page.rows)],
        "reference": _constant(page, shown),
        "reasons": _reasons(page, shown),
    }


def _over(shown: list[Column]) -> list[tuple[str, int]]:
    """The heads above the heads, with the columns each spans; score, scale, difference, seal and encoder are fixed."""
    fixed = {"task": 3, "strip": 1, "cost": 1}
    names = dict.fromkeys(["task", *(column.over for column in shown if column.over not in fixed), "strip", "cost"])
    return [(name, fixed.get(name, 0) + sum(column.over == name for column in shown)) for name in names]


def _head(page: Page, column: Column) -> Context:
    measure = page.metrics.get(column.key) or page.main
    words = "higher is better" if measure.better == "up" else "lower is better"
    return {
        "head": column.head,
        "over": column.over,
        "title": measure.title,
        "text": measure.text,
        "better": measure.better,
        "better_words": words,
    }


def _line(page: Page, row: Row, order: int, shown: list[Column], low: float, high: float) -> Context:
    mark, why = seal(row)
    return {
        "name": row.name,
        "audit": _audit(row),
        "title": row.title,
        "order": order,
        "yardstick": row.yardstick,
        "swatch": swatch(row),
        "main": cell(row.main),
        "gap": _gap(page, row),
        "strip": strip(page, row, low, high),
        "cells": [cell(score(row, column.key, page)) for column in shown if column.over not in LAST],
        "last": {over: [cell(score(row, c.key, page)) for c in shown if c.over == over] for over in LAST},
        "seal": mark,
        "mark": mark.split()[0],
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
            "the black box itself" if row.black else "no black box to compare with" if page.black is None else "not measured"
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
        "cells": [number(known[c.key]) if c.key in known else "" for c in shown if c.over not in LAST],
        "blank": sum(c.over in LAST for c in shown) + 2,
    }


def _reasons(page: Page, shown: list[Column]) -> list[Context]:
    """Why cells are n/a: one entry for each column and reason, with the rows it holds for."""
    found: dict[tuple[str, str], list[str]] = {}
    for column in [Column(page.main.key, page.main.title, "", ""), *shown]:
        for row in page.rows:
            each = score(row, column.key, page)
            if each.value is None:
                found.setdefault((column.full, each.reason), []).append(row.name)
    merged: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (head, reason), names in found.items():
        merged.setdefault((reason, tuple(names)), []).append(head)
    entries = sorted((reason, listed(list(names)), ", ".join(heads)) for (reason, names), heads in merged.items())
    return [{"reason": reason, "names": names, "column": heads} for reason, names, heads in entries]


def _audit(row: Row) -> str:
    """Where the row's audit lies beside the page; only what ``pages.audited`` writes is a link."""
    place = row.data.get("audit")
    return place if isinstance(place, str) and AUDIT.fullmatch(place) else ""
