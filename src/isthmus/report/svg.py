"""Drawing by hand: escaped elements, scales that survive equal values, round ticks, markers; colours: style.css."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

MARKERS = ("circle", "square", "diamond", "up", "down", "cross")


class Markup(str):
    """Text that is markup already: everything of the data in it has been escaped."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def coordinate(value: float) -> str:
    """A coordinate with one decimal. Raises ``ValueError`` for NaN and infinity: ``clean`` has taken them out."""
    if not math.isfinite(value):
        raise ValueError(f"svg: expected a finite coordinate, got {value}")
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def el(tag: str, *children: object, **attributes: object) -> Markup:
    """``<tag a="b">children</tag>``: attributes, text escaped, ``Markup`` kept, None left out, ``class_`` is class."""
    pairs: list[str] = []
    for key, value in attributes.items():
        if value is not None:
            text = coordinate(value) if isinstance(value, float) else str(value)
            pairs.append(f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    return Markup(f"<{tag}{''.join(pairs)}>{join(children)}</{tag}>")


def join(parts: Iterable[object]) -> Markup:
    """Parts one after the other; what is no ``Markup`` is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(str(part)) for part in parts if part is not None))


def figure(width: float, height: float, title: str, desc: str, *children: object, least: float | None = None) -> Markup:
    """A chart: ``least`` is the width in px below which the page scrolls it instead of shrinking its letters."""
    return el(
        "svg",
        el("title", title),
        el("desc", desc),
        *children,
        viewBox=f"0 0 {coordinate(width)} {coordinate(height)}",
        width=float(width),
        height=float(height),
        role="img",
        class_="chart",
        style=f"max-width:{coordinate(1.12 * width)}px" + (f";min-width:{coordinate(least)}px" if least else ""),
    )


def label(x: float, y: float, text: object, *, anchor: str = "start", class_: str | None = None) -> Markup:
    """Text at a point; ``anchor`` is start, middle or end."""
    return el("text", text, x=float(x), y=float(y), text_anchor=None if anchor == "start" else anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return el("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def path(points: Sequence[tuple[float, float]], *, close: bool = False) -> str:
    """The ``d`` of a path through points."""
    steps = " ".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
    return f"M{steps}{'Z' if close else ''}" if points else ""


def cut(text: str, most: int) -> str:
    """At most ``most`` characters, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: max(most - 1, 1)].rstrip() + "…"


@dataclass(frozen=True)
class Scale:
    """Data ``low``..``high`` onto pixels ``start``..``stop``: equal ends in the middle, values outside at the edge."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        if self.high <= self.low:
            return (self.start + self.stop) / 2
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)


def spanned(values: Iterable[float], low: float | None = None, high: float | None = None) -> tuple[float, float]:
    """The range of values widened to round ticks, never empty; a metric's own ``low`` and ``high`` are not crossed."""
    known = list(values) or [0.0, 1.0]
    a, b = min(known), max(known)
    if b - a < 1e-9 * max(1.0, abs(a), abs(b)):
        a, b = a - (abs(a) * 0.05 or 0.5), b + (abs(b) * 0.05 or 0.5)
    step = step_of(a, b, 5)
    a, b = math.floor(a / step + 1e-9) * step, math.ceil(b / step - 1e-9) * step
    a, b = (a if low is None else max(a, low)), (b if high is None else min(b, high))
    return (a, b) if a < b else (min(known) - 0.5, max(known) + 0.5)


def step_of(low: float, high: float, about: int) -> float:
    """A round step (1, 2 or 5 times a power of ten) that cuts ``low``..``high`` into about that many parts."""
    raw = (high - low) / max(about, 1)
    if raw <= 0 or not math.isfinite(raw):
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return next((m * power for m in (1, 2, 5) if m * power >= raw * 0.999), 10 * power)


def ticks(low: float, high: float, about: int = 5, *, whole: bool = False) -> list[float]:
    """Round values from ``low`` to ``high``; ``whole`` keeps to integers."""
    step = step_of(low, high, about)
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, first + 60) if k * step <= high + 1e-9 * step]


def marker(index: int, x: float, y: float, size: float = 4.5) -> Markup:
    """The marker of the series at ``index``, centred on a point."""
    s = size
    shapes: dict[str, list[tuple[float, float]]] = {
        "square": [(-s, -s), (s, -s), (s, s), (-s, s)],
        "diamond": [(0, -1.35 * s), (1.35 * s, 0), (0, 1.35 * s), (-1.35 * s, 0)],
        "up": [(0, -1.2 * s), (1.15 * s, s), (-1.15 * s, s)],
        "down": [(0, 1.2 * s), (1.15 * s, -s), (-1.15 * s, -s)],
        "cross": [(-s, -s), (0, -s / 3), (s, -s), (s / 3, 0), (s, s), (0, s / 3), (-s, s), (-s / 3, 0)],
    }
    shape = MARKERS[index % len(MARKERS)]
    if shape == "circle":
        return el("circle", cx=float(x), cy=float(y), r=float(s), class_="mark")
    return el("path", d=path([(x + dx, y + dy) for dx, dy in shapes[shape]], close=True), class_="mark")
