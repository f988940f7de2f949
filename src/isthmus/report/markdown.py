"""The table of methods as GitHub Markdown, with all that is needed to make the numbers again."""

from __future__ import annotations

import re
from typing import Any

from isthmus.report.clean import record, records
from isthmus.report.columns import Column, columns, reference, score, seal
from isthmus.report.made import absent, facts, options
from isthmus.report.numbers import MINUS, number
from isthmus.report.page import Page, Row, read
from isthmus.report.scores import Score
from isthmus.report.sections import nearest, policies
from isthmus.report.worth import Cell, grids, notes, reasons, reveals, short

SPECIAL = re.compile(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown(data: dict[str, Any]) -> str:
    """A result (schema ``isthmus.compare/1`` or ``isthmus.evaluation/1``) as Markdown: table, then how it was made.

    Raises ``DataError`` for another schema.
    """
    page = read(data)
    lines = [*_scores(page)] if page.single else [*_methods(page), "", *_worth(page), *_corrections(page), *_reasons(page)]
    return "\n".join([f"## {safe(_title(page))}", "", *lines, "", *_made(page), ""])


def safe(text: object) -> str:
    """Text that Markdown, and the HTML in it, show as it is: one line, an ASCII minus."""
    line = " ".join(str(text).split()).replace(MINUS, "-")
    return "".join(ENTITIES.get(ch, ch) for ch in SPECIAL.sub(r"\\\1", line))


def plain(text: str) -> str:
    """A number of ours: nothing to escape but the minus."""
    return text.replace(MINUS, "-")


def _title(page: Page) -> str:
    return f"{page.rows[0].name} on {page.name}" if page.single else f"{page.name}: methods side by side"


def _table(heads: list[str], rows: list[list[str]], numbers: int) -> list[str]:
    """A table whose first column is text, the next ``numbers`` are numbers, and the rest is text."""
    rule = ["---:" if 1 <= i <= numbers else "---" for i in range(len(heads))]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def _methods(page: Page) -> list[str]:
    shown = columns(page)
    heads = [
        "method",
        safe(page.main.title),
        "to the black box",
        *(column.full for column in shown),
        "strip",
        "encoder",
    ]
    rows = [_line(page, row, shown) for row in page.rows]
    known = reference(page)
    if known:
        cells = [number(known[key]) if key in known else "" for key in (page.main.key, "", *(c.key for c in shown))]
        rows.append(["constant answers", *cells, "", ""])
    return _table(heads, rows, 2 + len(shown))


def _line(page: Page, row: Row, shown: list[Column]) -> list[str]:
    numbers = [row.main.both, _gap(row), *(score(row, column.key, page).both for column in shown)]
    return [safe(row.name), *map(plain, numbers), seal(row)[0], safe(row.encoder or "-")]


def _gap(row: Row) -> str:
    return "-" if row.black else row.main.gap or "n/a"


def _scores(page: Page) -> list[str]:
    row = page.rows[0]
    rows = [[safe(found.measure.title), _value(found), safe(found.measure.text)] for found in row.scores.values()]
    return _table(["score", "value", "what it is"], rows, 1)


def _value(found: Score) -> str:
    return f"n/a: {safe(found.reason)}" if found.value is None else plain(found.both)


def _worth(page: Page) -> list[str]:
    """What each correction policy is worth: a table for each level, then what its marks mean, and what corrections reveal."""
    found = grids(page)
    lines: list[str] = []
    for grid in found:
        heads = [f"policy, by {grid.level}", *(safe(row.name) for row in grid.rows)]
        rows = [[safe(line.name), *(safe(_area(page, cell)) for cell in line.cells)] for line in grid.lines]
        lines += [*_table(heads, rows, len(grid.rows)), ""]
    said = [f"- {reveals(page)}"] if reveals(page) else []
    said += [f"- {safe(each)}" for each in notes(page, found, "in brackets harm")] if found else []
    said += [f"- n/a, {safe(each['policies'])} ({safe(each['names'])}): {safe(each['reason'])}" for each in reasons(found)]
    return [*lines, *said, ""] if said else []


def _area(page: Page, cell: Cell) -> str:
    """``▲.921 (.033)``."""
    harm = "" if cell.harm is None else f" ({number(cell.harm)})"
    return short(page, cell, "n/a") + harm


def _corrections(page: Page) -> list[str]:
    """Scores after corrections by named policies, the published figures beneath."""
    found = policies(page)
    if found is None:
        return []
    rows = [([line["method"], line["policy"]], [line["k"], *line["cells"]]) for line in found["lines"]]
    rows += [(["published", each["policy"]], [each["k"], each["value"]]) for each in found["published"]]
    heads = ["method", "policy", "k", *map(safe, found["names"])]
    ours = lambda cell: plain(cell) if re.fullmatch(r"[-+.,\d\s\[\]%−]*", cell) else safe(cell)  # noqa: E731
    rows = [[*map(safe, names), *map(ours, cells)] for names, cells in rows]
    rows = [[*row, *("" for _ in heads[len(row) :])] for row in rows]
    source = record(page.data.get("published")).get("source")
    return [*_table(heads, rows, len(heads) - 1), "", *([f"- published: {safe(source)}"] if source else [])]


def _reasons(page: Page) -> list[str]:
    """The spread over seeds, how near methods decide alike, why cells are n/a, and which methods were left out."""
    from isthmus.report.listing import table

    lines = [
        f"- n/a, {safe(each['column'])}: {safe(each['reason'])} ({safe(each['names'])})" for each in table(page)["reasons"]
    ]
    lines += [f"- left out: {safe(each.get('method'))} {safe(absent(each))}" for each in records(page.data.get("left_out"))]
    chose = [f"{safe(row.name)}: {safe(options(row.data.get('options')))}" for row in page.rows if row.data.get("options")]
    known = [(row.name, row.main.spread) for row in page.rows if row.main.spread is not None]
    spread = [f"{safe(name)} {plain(page.main.show(value))}" for name, value in known]
    over = f"- standard deviation of {safe(page.main.title)} over {len(page.seeds)} seeds: {', '.join(spread)}"
    told = [*([over] if spread else []), *(f"- {safe(each)}" for each in nearest(page))]
    return [*told, *lines, *(f"- options of {each}" for each in chose)]


def _made(page: Page) -> list[str]:
    return [f"- {key}: {_code(value) if key == 'command' else safe(value)}" for key, value in facts(page)]


def _code(text: str) -> str:
    """Inline code that backticks inside cannot close."""
    text = " ".join(text.split())
    ticks = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"
