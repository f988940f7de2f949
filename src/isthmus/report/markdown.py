"""The table of methods as GitHub Markdown, with all that is needed to make the numbers again."""

from __future__ import annotations

import re
from typing import Any

from isthmus.report.columns import columns, reference, score, seal
from isthmus.report.made import facts, options
from isthmus.report.numbers import MINUS, number
from isthmus.report.page import Page, Row, read

SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$])")


def markdown(data: dict[str, Any]) -> str:
    """A result (schema ``isthmus.compare/1`` or ``isthmus.evaluation/1``) as Markdown: table, then how it was made.

    Raises ``DataError`` for another schema.
    """
    page = read(data)
    lines = [*_scores(page)] if page.single else [*_methods(page), "", *_reasons(page)]
    return "\n".join([f"## {safe(_title(page))}", "", *lines, "", *_made(page), ""])


def safe(text: object) -> str:
    """Text that Markdown and the HTML in it leave alone, on one line."""
    return (
        SPECIAL.sub(r"\\\1", " ".join(str(text).split()).replace(MINUS, "-"))
        .replace("\\<", "&lt;")
        .replace("\\>", "&gt;")
    )


def _title(page: Page) -> str:
    return f"{page.rows[0].name} on {page.name}" if page.single else f"{page.name}: methods side by side"


def _table(heads: list[str], rows: list[list[str]], left: int = 1) -> list[str]:
    rule = ["---" if i < left else "---:" for i in range(len(heads))]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def _methods(page: Page) -> list[str]:
    shown = columns(page)
    heads = ["method", page.main.title, "to the black box", *(_head(c.over, c.head) for c in shown), "strip", "encoder"]
    rows = [
        [
            row.name,
            row.main.both,
            _gap(row),
            *(score(row, c.key, page).both for c in shown),
            seal(row)[0],
            row.encoder or "-",
        ]
        for row in page.rows
    ]
    known = reference(page)
    if known:
        main = known.get(page.main.key)
        rows.append(
            ["constant answers", number(main) if main is not None else "", ""]
            + [number(known[c.key]) if c.key in known else "" for c in shown]
            + ["", ""]
        )
    return _table([safe(head) for head in heads], [[safe(cell) for cell in row] for row in rows])


def _head(over: str, head: str) -> str:
    return f"concept {head}" if over == "concepts" else "seconds to fit" if head == "fit" else head


def _gap(row: Row) -> str:
    return "-" if row.black else row.main.gap or "n/a"


def _scores(page: Page) -> list[str]:
    row = page.rows[0]
    rows = [
        [
            page.metrics[key].title,
            found.both if found.value is not None else f"n/a: {found.reason}",
            page.metrics[key].text,
        ]
        for key, found in row.scores.items()
    ]
    return _table(["score", "value", "what it is"], [[safe(cell) for cell in each] for each in rows])


def _reasons(page: Page) -> list[str]:
    """Why cells are n/a, and which methods were left out."""
    from isthmus.report.sections import table

    lines = [
        f"- n/a, {safe(each['column'])}: {safe(each['reason'])} ({safe(each['names'])})"
        for each in table(page)["reasons"]
    ]
    lines += [
        f"- left out: {safe(each.get('method'))} needs {safe(each.get('unmet'))}"
        for each in page.data.get("left_out") or []
    ]
    chose = [
        f"{safe(row.name)}: {safe(options(row.data.get('options')))}" for row in page.rows if row.data.get("options")
    ]
    return [*lines, *(f"- options of {each}" for each in chose)]


def _made(page: Page) -> list[str]:
    return [f"- {key}: {_code(value) if key == 'command' else safe(value)}" for key, value in facts(page)]


def _code(text: str) -> str:
    """Inline code that backticks inside cannot close."""
    text = " ".join(text.split())
    ticks = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"
