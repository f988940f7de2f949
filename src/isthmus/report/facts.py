"""The figures at the head of the page: black box, best bottleneck, their difference, the cheapest sealed one."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.report.numbers import count, listed, number, seconds
from isthmus.report.page import Page
from isthmus.report.scores import Score
from isthmus.report.words import cheapest, fit_seconds


@dataclass(frozen=True)
class Fact:
    """A number for the head of the page: ``label`` above, ``value``, its ``interval``, and one line ``note`` below."""

    label: str
    value: str
    interval: str
    note: str
    tone: str = ""


def facts(page: Page) -> list[Fact]:
    """The numbers at the head of the page."""
    return _one_facts(page) if page.single else _several_facts(page)


def _several_facts(page: Page) -> list[Fact]:
    best, black, cheap = page.best(page.bottlenecks), page.black, cheapest(page)
    found: list[Fact] = []
    if black is not None:
        found.append(Fact("Best black box" if _blacks(page) > 1 else "Black box", *_said(black.main), black.name))
    if best is not None:
        seal = {True: ", sealed", False: ", not sealed", None: ""}[best.sealed]
        found.append(Fact("Best bottleneck", *_said(best.main), best.name + seal))
    if best is not None and best.main.difference is not None:
        value, low, high = best.main.difference
        show = [page.main.show(v, sign=True) for v in (value, low, high)]
        even = low is None or high is None or low <= 0 <= high
        good = (value > 0) == (page.main.better == "up")
        note = "not told apart from none" if even else "better than the black box" if good else "what the strip costs"
        found.append(
            Fact(
                "Difference",
                show[0],
                f"[{show[1]}, {show[2]}]" if low is not None else "",
                note,
                "" if even else "told",
            )
        )
    if cheap:
        names = listed([row.name for row in cheap]) if len(cheap) < 4 else f"{len(cheap)} methods, alike"
        note = f"{names}: {cheap[0].main.text}" if len(cheap) == 1 else names
        found.append(Fact("Cheapest sealed", seconds(fit_seconds(cheap[0])), "to fit", note))
    return found


def _blacks(page: Page) -> int:
    return sum(row.black for row in page.rows)


def _said(score: Score) -> tuple[str, str]:
    return score.text, score.interval


def _one_facts(page: Page) -> list[Fact]:
    row = page.rows[0]
    found = [Fact(page.main.title.capitalize(), *_said(row.main), f"{count(page.test_rows, 'row')}")]
    for key, name in (
        ("concept_macro_f1", "Concept macro F1"),
        ("gain_all", "Gain by correcting"),
        ("bypass", "Bypass"),
    ):
        score = row.scores.get(key)
        if score is not None:
            found.append(Fact(name, score.text, score.interval, score.reason if score.value is None else _note(key, page)))
    return found


def _note(key: str, page: Page) -> str:
    if key == "concept_macro_f1":
        return "mean over concepts" if page.absent is None else f"commonest answers: {number(page.absent)} right"
    return {"gain_all": "every concept given", "bypass": "decisions that go around"}.get(key, "")
