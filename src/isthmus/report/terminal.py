"""The table of methods for a terminal of 100 columns, or one model's scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus.report.clean import record
from isthmus.report.columns import Column, columns, score, seal
from isthmus.report.made import unseen
from isthmus.report.numbers import MINUS, number
from isthmus.report.page import Page, Row, read
from isthmus.report.sections import nearest, policies, published
from isthmus.report.svg import cut
from isthmus.report.worth import Grid, few, grids, notes, reasons, reveals, short

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

WIDTH, WORD, LEAST = 100, 14, 6  # columns of a terminal; of a method's name, at most and at least
TERMS = {
    "concept_macro_f1": "cF1 concept macro F1",
    "concept_all_right": "all: share of rows with every concept right",
    "concept_error": "cErr concept error in sd",
    "curve_area": "area under the correction curve",
    "bypass": "byp: share of decisions that go around the strip",
    "nec": "NEC concepts a class uses",
    "fit_seconds": "fit in seconds, encoder not counted",
}


def table(data: dict[str, Any]) -> Table:
    """A result (schema ``isthmus.compare/1`` or ``isthmus.evaluation/1``) as a rich table, its heads explained below.

    Raises ``DataError`` for another schema.
    """
    page = read(data)
    return _one(page) if page.single else _several(page)


def corrections(data: dict[str, Any]) -> Table | None:
    """Scores after corrections by named policies, the published figures beside; None when no policy was scored.

    None too where they are too many lines: ``worth`` has them in short.
    """
    page = read(data)
    found = policies(page)
    if found is None or (not few(page) and grids(page)):
        return None
    made = _plain(f"{page.name}: after k corrected concepts")
    for head in ("method", "policy"):
        made.add_column(head, no_wrap=True)
    for head in ("k", *found["names"]):
        made.add_column(head, justify="right", no_wrap=True)
    for line in found["lines"]:
        made.add_row(*map(_text, (line["method"], line["policy"], line["k"], *line["cells"])))
    for line in published(page):
        made.add_row(*map(_text, ("published", line["policy"], line["k"], line["value"])), style="italic")
    source = record(page.data.get("published")).get("source")
    said = (_beside(page), f"Published: {source}" if source else "", _capital(reveals(page)))
    made.caption = _text(". ".join(each for each in said if each) + ".")
    return made


def worth(data: dict[str, Any]) -> list[Table | Text]:
    """What each correction policy is worth: areas under the curve, policies by methods, in tables of 100 columns, and notes.

    Empty where no policy was scored from none corrected on, and where ``corrections`` lists every score in a few lines.
    """
    page = read(data)
    found = grids(page)
    if not found or few(page):
        return []
    said = notes(page, found, "most harm")
    said += [f"- not applicable, {each['policies']} ({each['names']}): {each['reason']}" for each in reasons(found)]
    source = record(page.data.get("published")).get("source")
    figures = ", ".join(" ".join(filter(None, (f["policy"], f["k"], f["value"]))) for f in published(page))
    said += [f"published{f' ({source})' if source else ''}: {figures}"] if figures else []
    said += [reveals(page)] if reveals(page) else []
    title = _text(f"{page.name}: what each correction policy is worth, area under the curve")
    title.stylize("italic")
    return [
        title,
        *(_worth(page, found, part) for part in _parts(found)),
        *(_text(f"{_capital(each)}.") for each in said),
        _text(""),
    ]


def _parts(found: list[Grid]) -> list[range]:
    """Which methods stand in one table, by number."""
    room = WIDTH - max(len(line.name) for grid in found for line in grid.lines) - 3  # two edges, one divider
    parts, start, used = list[range](), 0, 0
    for i, row in enumerate(found[0].rows):
        wide = _wide(row.name) + 1
        if used + wide > room and i > start:
            parts.append(range(start, i))
            start, used = i, 0
        used += wide
    return [*parts, range(start, len(found[0].rows))]


def _wide(name: str) -> int:
    """The width of a method's column: its longest word, within limits."""
    return min(max(LEAST, *map(len, name.split()), 0), WORD)


def _worth(page: Page, found: list[Grid], part: range) -> Table:
    made = _plain("")
    made.add_column("policy", no_wrap=True, min_width=max(len(line.name) for grid in found for line in grid.lines))
    for i in part:
        name = cut(found[0].rows[i].name, 3 * WORD)
        made.add_column(_text(name), justify="right", width=_wide(name), overflow="fold")
    for grid in found:
        if len(found) > 1:
            made.add_row(_text(f"by {grid.level}"), *("" for _ in part), style="italic")
        for line in grid.lines:
            cells = [_text(short(page, line.cells[i])) for i in part]
            made.add_row(_text(line.name), *cells, style="dim" if line.random or line.oracle else "")
        harm = grid.harm
        if any(each is not None for each in harm):
            made.add_row("most harm", *(_text("" if harm[i] is None else number(harm[i])) for i in part), style="italic")
        made.add_section()
    return made


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plain(title: str) -> Table:
    """An empty table, its title and caption at the left."""
    from rich import box
    from rich.table import Table

    made = Table(title=_text(title) if title else None, box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    made.title_justify = made.caption_justify = "left"
    return made


def alike(data: dict[str, Any]) -> list[str]:
    """Which methods decide alike, in sentences: the pairs that are flagged, each with its reason, else the nearest."""
    return nearest(read(data))


def _several(page: Page) -> Table:
    shown, made = _shown(page), _empty(page)
    encoders = list(dict.fromkeys(row.encoder for row in page.rows if row.encoder))
    made.add_column("method", min_width=min(20, max(len(row.name) for row in page.rows)), max_width=20, overflow="fold")
    for head in ("accuracy" if page.main.key == "accuracy" else page.main.title, "vs black box"):
        made.add_column(head, justify="right", no_wrap=True)
    for column in shown:
        made.add_column(column.short, justify="right", no_wrap=True)
    for head in ("strip", *(["enc"] if len(encoders) > 1 else [])):
        made.add_column(head, no_wrap=True)
    for row in page.rows:
        cells = [_bare(page, row, column) for column in shown]
        code = [letter(encoders, row.encoder)] if len(encoders) > 1 else []
        made.add_row(
            *map(
                _text,
                (row.name, row.main.both, _gap(row), *cells, seal(row)[0].removeprefix("no strip") or "none", *code),
            ),
            style=_style(page, row),
        )
    made.caption = _text(". ".join(each for each in _captions(page, shown, encoders) if each) + ".")
    return made


def _captions(page: Page, shown: list[Column], encoders: list[str]) -> list[str]:
    return [_terms(shown), _beside(page), _encoders(encoders), _capital(reveals(page)), unseen(page.data)]


def _shown(page: Page) -> list[Column]:
    """The columns a newcomer needs, as many as fit."""
    return [column for column in columns(page) if column.key in TERMS]


def _bare(page: Page, row: Row, column: Column) -> str:
    found = score(row, column.key, page)
    return "-" if found.value is None else found.text.removesuffix(" s")


def letter(encoders: list[str], name: str) -> str:
    """``a`` for the first encoder, ``b`` for the second, ``27`` for the 27th; ``-`` for none."""
    at = encoders.index(name) if name in encoders else -1
    return "-" if at < 0 else chr(ord("a") + at) if at < 26 else str(at + 1)


def _one(page: Page) -> Table:
    made = _empty(page)
    made.add_column("score", overflow="fold")
    for head in ("value", "interval"):
        made.add_column(head, justify="right", no_wrap=head == "value")
    for head in ("unit", "better"):
        made.add_column(head, no_wrap=head == "better")
    for key, found in page.rows[0].scores.items():
        measure = page.metrics[key]
        beside = found.reason if found.value is None else found.interval
        better = "higher" if measure.better == "up" else "lower"
        made.add_row(*map(_text, (measure.title, found.text, beside, measure.unit, better)))
    made.caption = _text(str(page.data.get("interval") or ""))
    return made


def _empty(page: Page) -> Table:
    rows = f"{page.test_rows:,} test rows" if page.test_rows else "test rows"
    seeds = f", {len(page.seeds)} seed{'s' * (len(page.seeds) != 1)}" if page.seeds else ""
    return _plain(f"{page.rows[0].name + ' on ' if page.single else ''}{page.name}: {rows}{seeds}")


def _text(value: object) -> Text:
    """Text as it is: no markup, one line, an ASCII minus."""
    from rich.text import Text

    return Text(" ".join(str(value).split()).replace(MINUS, "-"))


def _gap(row: Row) -> str:
    return "-" if row.black else row.main.gap or "-"


def _style(page: Page, row: Row) -> str:
    """The best bottleneck stands out, the yardsticks step back."""
    return "dim" if row.yardstick else "bold" if row is page.best(page.bottlenecks) else ""


def _terms(shown: list[Column]) -> str:
    return "; ".join(["[interval]", *(TERMS[column.key] for column in shown), "- not applicable"])


def _beside(page: Page) -> str:
    """What constant answers score, in words."""
    parts: list[str] = []
    if page.majority is not None and page.main.key == "accuracy":
        parts.append(f"the commonest class {number(page.majority)}")
    if page.absent is not None:
        parts.append(f"the commonest state of each concept {number(page.absent)} of the labels")
    return "Constant answers get " + ", ".join(parts) + " right" if parts else ""


def _encoders(encoders: list[str]) -> str:
    if len(encoders) < 2:
        return f"Encoder: {encoders[0]}" if encoders else ""
    return "Encoders: " + ", ".join(f"{letter(encoders, name)} {name}" for name in encoders)
