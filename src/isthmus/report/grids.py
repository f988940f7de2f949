"""Matrices: which classes are mistaken for which, and which methods decide alike."""

from __future__ import annotations

from heapq import nsmallest
from typing import Any, cast

from isthmus.report.clean import finite, records, texts
from isthmus.report.numbers import count, number, percent
from isthmus.report.page import Row
from isthmus.report.svg import Markup, cut, el, figure, label

NUMBERED, DRAWN = 14, 40  # classes up to which cells carry numbers, and up to which a matrix is drawn at all


def table_of(matrix: Any) -> list[list[float]] | None:
    """A square table of numbers, None for anything else; what is no number counts 0."""
    whole = cast("list[Any]", matrix) if isinstance(matrix, list) else []
    lines = [cast("list[Any]", line) for line in whole if isinstance(line, list)]
    if not lines or len(lines) != len(whole) or any(len(line) != len(lines) for line in lines):
        return None
    return [line if set(map(type, line)) == {int} else [finite(v) or 0.0 for v in line] for line in lines]


def named(names: list[str], size: int) -> list[str]:
    """One name for each of ``size`` classes."""
    return [str(names[i]) if i < len(names) else f"class {i}" for i in range(size)]


def confusion_chart(row: Row, names: list[str]) -> Markup | None:
    """Counts, truth down, answer across, shaded by the share of the truth's rows; None with no class or too many."""
    matrix = table_of(row.data.get("confusion"))
    if matrix is None or len(matrix) > DRAWN:
        return None
    size, names = len(matrix), named(names, len(matrix))
    cell = min(52.0, max(13.0, 460.0 / size))
    parts: list[Markup] = []
    for i, line in enumerate(matrix):
        total = sum(line) or 1.0
        y = 46 + cell * i
        parts += [_name(names[i], i, 150, y + cell / 2 + 4, size)]
        for j, value in enumerate(line):
            said = f"truth {names[i]}, answer {names[j]}: {value:,.0f} ({percent(value / total)})"
            parts += _cell(170 + cell * j, y, cell, cell, value / total, f"{value:.0f}", said, size, i == j)
    parts += [label(170 + cell * (j + 0.5), 40, j + 1, anchor="middle", class_="tick") for j in range(size) if _spoken(j, size)]
    parts += [label(170, 20, "answer (numbered as the truth at the left)", class_="axis-title")]
    side = 170 + cell * size + 12
    return figure(
        max(side, 420.0),
        46 + cell * size + 10,
        f"Confusion matrix of {row.name}",
        f"{count(size, 'class', 'classes')}, truth down, answer across, counts summed over seeds. " + mistakes_text(row, names),
        el("g", *parts, class_="matrix"),
        least=min(max(side, 420.0), 420.0),
    )


def _spoken(j: int, size: int) -> bool:
    return size <= 20 or j % 5 == 4 or j == 0


def _name(name: str, i: int, x: float, y: float, size: int) -> Markup:
    text = f"{cut(name, 19)}  {i + 1}" if size <= NUMBERED else f"{cut(name, 20)} {i + 1}"
    return el("text", el("title", name), text, x=float(x), y=float(y), dx="12", text_anchor="end", class_="tick")


def _cell(
    x: float, y: float, w: float, h: float, share: float, text: str, said: str, size: int, diagonal: bool
) -> list[Markup]:
    """A shaded cell; its number when there is room for one."""
    tone = min(max(share, 0.0), 1.0) ** 0.7
    kind = "hit" if diagonal else "miss"
    style = f"--t:{tone:.2f}"
    box = el("rect", el("title", said), x=x, y=y, width=w - 1, height=h - 1, class_=kind, style=style)
    if size > NUMBERED or text == "0":
        return [box]
    return [
        box,
        label(x + w / 2 - 0.5, y + h / 2 + 4, text, anchor="middle", class_="count"),
    ]


def mistakes(row: Row, names: list[str], most: int = 8) -> list[dict[str, str]]:
    """The commonest mistakes: truth, answer, count and share of the truth's rows, most first."""
    matrix = table_of(row.data.get("confusion"))
    if matrix is None:
        return []
    names = named(names, len(matrix))
    wrong = [(v, i, j) for i, line in enumerate(matrix) for j, v in enumerate(line) if i != j and v > 0]
    return [
        {"truth": names[i], "answer": names[j], "count": f"{v:,.0f}", "share": percent(v / (sum(matrix[i]) or 1.0))}
        for v, i, j in nsmallest(most, wrong, key=lambda each: (-each[0], each[1], each[2]))
    ]


def mistakes_text(row: Row, names: list[str]) -> str:
    """The commonest mistake in words."""
    found = mistakes(row, names, 1)
    if not found:
        return "No row is decided wrong."
    return f"Commonest mistake: {found[0]['truth']} taken for {found[0]['answer']}, {found[0]['count']} rows."


def agreement_chart(agreement: dict[str, Any]) -> Markup | None:
    """Share of test rows on which two methods decide alike, flagged pairs framed; None with fewer than two methods."""
    names = texts(agreement.get("names"))
    matrix = table_of(agreement.get("matrix"))
    if matrix is None or len(names) != len(matrix) or len(names) < 2:
        return None
    flagged = {frozenset((str(f.get("a")), str(f.get("b")))) for f in records(agreement.get("flagged"))}
    size = len(names)
    cell = min(50.0, max(20.0, 480.0 / size))
    low = min(v for line in matrix for v in line)
    parts: list[Markup] = []
    for i in range(size):
        y = 30 + cell * 0.72 * i
        parts += [_name(names[i], i, 150, y + cell * 0.36 + 4, size)]
        parts += [label(170 + cell * (i + 0.5), 22, i + 1, anchor="middle", class_="tick")]
        for j in range(i + 1):
            share = 1.0 if i == j else (matrix[i][j] - low) / (1 - low) if low < 1 else 1.0
            said = f"{names[i]} and {names[j]} decide alike on {percent(matrix[i][j])} of the test rows"
            parts += _cell(170 + cell * j, y, cell, cell * 0.72, share, number(matrix[i][j]), said, size, True)
            if i != j and frozenset((names[i], names[j])) in flagged:
                frame = {"x": 171 + cell * j, "y": y + 1, "width": cell - 3, "height": cell * 0.72 - 3}
                parts += [el("rect", class_="flag", **frame)]
    return figure(
        max(170 + cell * size + 12, 420.0),
        30 + cell * 0.72 * size + 10,
        "Agreement of the methods",
        f"Share of test rows on which two of {size} methods decide alike; {count(len(flagged), 'pair')} flagged.",
        el("g", *parts, class_="matrix"),
        least=420,
    )
