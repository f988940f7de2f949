"""Bars: how well each concept is read, and one example's concepts with what each of them added to the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.report.clean import finite, records
from isthmus.report.numbers import MINUS, count, number
from isthmus.report.page import Row
from isthmus.report.svg import Markup, Scale, cut, el, figure, label, line, ticks

STEP = 20.0  # px between two bars


@dataclass(frozen=True)
class Concept:
    """How one concept is read: shares in [0, 1], None where unknown."""

    name: str
    group: str
    known: int
    rate: float | None
    accuracy: float | None
    f1: float | None
    majority: float | None


def concepts_of(row: Row) -> list[Concept]:
    """A row's concepts, the worst read first (by F1, then accuracy over the majority rate), unknown ones last."""
    found = [
        Concept(
            str(each.get("name")),
            str(each.get("group") or ""),
            int(finite(each.get("known")) or 0),
            *(finite(each.get(key)) for key in ("rate", "accuracy", "f1", "majority")),
        )
        for each in records(row.data.get("concepts"))
    ]
    return sorted(found, key=_goodness)


def _goodness(concept: Concept) -> tuple[bool, float, float]:
    f1, accuracy = concept.f1, concept.accuracy
    return (f1 is None and accuracy is None, 2.0 if f1 is None else f1, accuracy or 0.0)


def concept_chart(row: Row) -> Markup | None:
    """Bars of F1, a dot for accuracy and a tick for the majority rate, worst first; None without labelled concepts."""
    concepts = concepts_of(row)
    if not concepts:
        return None
    height = 34 + STEP * len(concepts) + 8
    x = Scale(0, 1, 216, 536)
    parts: list[Markup] = []
    for value in ticks(0, 1, 4):
        parts += [line(x(value), 26, x(value), height - 6, "grid")]
        parts += [label(x(value), 18, number(value, "share")[:-1], anchor="middle", class_="tick")]
    parts += [label(at, 18, text, anchor="end", class_="tick") for at, text in ((590, "F1"), (640, "acc."), (706, "majority"))]
    for i, concept in enumerate(concepts):
        parts += _concept(concept, 34 + STEP * i, x)
    return figure(
        712,
        height,
        f"How well {row.name} reads each concept",
        f"{count(len(concepts), 'concept')}, worst first: bar F1, dot accuracy, tick the rate of the commonest answer.",
        el("g", *parts, class_="concepts"),
        least=620,
    )


def _concept(concept: Concept, top: float, x: Scale) -> list[Markup]:
    y = top + STEP / 2
    parts = [el("text", el("title", concept.name), cut(concept.name, 31), x=206.0, y=y + 4, text_anchor="end")]
    if concept.f1 is not None:
        parts += [el("rect", x=x(0), y=top + 4, width=x(concept.f1) - x(0), height=STEP - 9, class_="bar")]
    if concept.majority is not None:
        parts += [line(x(concept.majority), top + 1, x(concept.majority), top + STEP - 2, "majority")]
    if concept.accuracy is not None:
        parts += [el("circle", cx=x(concept.accuracy), cy=y - 0.5, r=3.6, class_="accuracy")]
    if concept.f1 is None and concept.accuracy is None:
        return [*parts, label(x(0) + 4, y + 4, "n/a: a number, or no known label", class_="note")]
    shown = ((590, concept.f1), (640, concept.accuracy), (706, concept.majority))
    return parts + [label(at, y + 4, number(value), anchor="end", class_="value") for at, value in shown]


def example_chart(row: Row, example: dict[str, Any]) -> Markup | None:
    """Bars of the concepts' values with a tick at the truth, and signed bars of what each added, remainder last."""
    concepts = records(example.get("concepts"))
    if not concepts:
        return None
    exact = any(finite(each.get("contribution")) is not None for each in concepts)
    remainder = finite(example.get("remainder")) if exact else None
    values = [v for each in concepts for v in (finite(each.get("value")), finite(each.get("truth"))) if v is not None]
    scale = Scale(min([0.0, *values]), max([1.0, *values]), 166, 316)
    width, lines = (600.0 if exact else 372.0), len(concepts) + (remainder is not None)
    height = 30 + STEP * lines + 4
    parts: list[Markup] = [label(166, 16, "value (bar), truth (tick)", class_="tick")]
    for i, each in enumerate(concepts):
        parts += _value(each, 30 + STEP * i, scale)
    if exact:
        parts += _added(row, [finite(each.get("contribution")) for each in concepts], remainder)
    return figure(
        width,
        height,
        f"Concepts of {example.get('id', 'an example')} as {row.name} reads them",
        f"{count(len(concepts), 'concept')}" + (", with signed contributions to the answer" if exact else ""),
        el("g", *parts, class_="example"),
        least=340 if not exact else 540,
    )


def _value(each: dict[str, Any], top: float, x: Scale) -> list[Markup]:
    y = top + STEP / 2
    name, value, truth = str(each.get("name")), finite(each.get("value")), finite(each.get("truth"))
    wrong = value is not None and truth is not None and abs(value - truth) > 0.5
    text = el("text", el("title", name), cut(name, 24), x=156.0, y=y + 4, text_anchor="end", class_="wrong" if wrong else None)
    parts = [text, line(x(0), top + 1, x(0), top + STEP - 1, "axis")]
    if value is not None:
        a, b = sorted((x(0), x(value)))
        parts += [el("rect", x=a, y=top + 4, width=max(b - a, 0.8), height=STEP - 9, class_="bar wrong" if wrong else "bar")]
    if truth is not None:
        parts += [line(x(truth), top + 1, x(truth), top + STEP - 2, "truth")]
    return [*parts, label(368, y + 4, number(value) + (" ✗" if wrong else ""), anchor="end", class_="value")]


def signed(value: float) -> str:
    """``+1.68``, ``−1.08``, ``0.00``."""
    text = f"{value:+.2f}".replace("-", MINUS)
    return text[1:] if text[1:] == "0.00" else text


def _added(row: Row, added: Sequence[float | None], remainder: float | None) -> list[Markup]:
    """Signed bars on one scale; the remainder (bias and all that passes beside the strip) below them."""
    known = [v for v in (*added, remainder) if v is not None]
    reach = max((abs(v) for v in known), default=1.0) or 1.0
    x = Scale(-reach, reach, 396, 546)
    bottom = 30 + STEP * (len(added) + (remainder is not None))
    parts = [label(396, 16, "added to the answer's logit", class_="tick"), line(x(0), 26, x(0), bottom, "axis")]
    for i, value in enumerate([*added, remainder]):
        if value is None:
            continue
        top, last = 30 + STEP * i, i == len(added)
        a, b = sorted((x(0), x(value)))
        name = "rest" if last else "plus" if value >= 0 else "minus"
        parts += [el("rect", x=a, y=top + 4, width=max(b - a, 0.8), height=STEP - 9, class_=name)]
        parts += [label(598, top + STEP / 2 + 4, signed(value), anchor="end", class_="value")]
        if last:
            parts += [label(156, top + STEP / 2 + 4, "remainder", anchor="end", class_="note")]
            parts += [label(166, top + STEP / 2 + 4, "bias and what passes by", class_="note")]
    return parts
