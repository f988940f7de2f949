"""Examples as a person would look at them: the same rows for every method, and one correction replayed."""

from __future__ import annotations

from typing import Any

from isthmus.report import bars
from isthmus.report.clean import finite, picture, record, records, texts
from isthmus.report.listing import Context
from isthmus.report.numbers import number
from isthmus.report.page import Page, Row
from isthmus.report.sections import opened
from isthmus.report.small import share_bar, swatch


def examples(page: Page) -> list[Context]:
    """One entry for each example row: the input once, and how each method read it, the best bottleneck's view open."""
    found: dict[str, list[tuple[Row, Context]]] = {}
    for row in page.rows:
        for example in records(row.data.get("examples")):
            found.setdefault(str(example.get("row", example.get("id"))), []).append((row, example))
    best = page.best(page.bottlenecks) or page.rows[0]
    return [_example(page, views, best.name) for views in found.values()]


def _example(page: Page, views: list[tuple[Row, Context]], best: str) -> Context:
    first = views[0][1]
    name = str(first.get("id") or f"row {first.get('row', '')}")
    return {
        "id": name,
        "image": next((p for _, each in views if (p := picture(each.get("image"))) is not None), None),
        "alt": f"{name}, truth: {said(first.get('truth'))}",
        "text": first.get("text"),
        "truth": said(first.get("truth")),
        "tally": [_tally(row, each) for row, each in views],
        "views": opened([_view(row, each) for row, each in views], best),
    }


def _tally(row: Row, example: Context) -> Context:
    right = example.get("right")
    mark = "ok" if right is True else "bad" if right is False else "open"
    sign = {"ok": "✓ ", "bad": "✗ "}.get(mark, "")
    return {"name": row.name, "swatch": swatch(row), "mark": mark, "said": sign + said(example.get("answer"))}


def _view(row: Row, example: Context) -> Context:
    right = example.get("right")
    chances = records(example.get("probabilities"))
    truth = said(example.get("truth"))
    why = str(example.get("contributions") or "")
    return {
        "name": row.name,
        "swatch": swatch(row),
        "right": right if isinstance(right, bool) else None,
        "answer": said(example.get("answer")),
        "chances": [_chance(each, truth) for each in chances],
        "chart": bars.example_chart(row, example),
        "why": "" if why == "exact" else why[:1].upper() + why[1:] + ("" if why.endswith(".") or not why else "."),
    }


def _chance(each: Context, truth: str) -> Context:
    value, name = finite(each.get("value")), str(each.get("name"))
    return {"name": name, "text": number(value), "bar": share_bar(value, right=name == truth)}


def said(value: Any) -> str:
    """An answer or a truth in words; lists joined, numbers with four digits."""
    if isinstance(value, list):
        return ", ".join(texts(value)) or "none"
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def replay(page: Page) -> Context | None:
    """One correction in words: each step with what was believed before, what was given, and the answer's change."""
    found = record(page.data.get("replay"))
    if not found:
        return None
    steps = records(found.get("steps"))
    return {
        "row": said(found.get("row")),
        "method": said(found.get("method")),
        "truth": said(found.get("truth")),
        "text": "" if steps else str(found.get("text") or ""),
        "steps": [
            {key: said(step.get(key)) for key in ("concept", "before", "given", "answer_before", "answer_after")}
            for step in steps
        ],
    }
