"""The columns of the table of methods, once for the page, the terminal and Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.report.page import Page, Row
from isthmus.report.scores import Score


@dataclass(frozen=True)
class Column:
    """A score's column: ``key`` in the dict, ``head`` above it, ``short`` in the terminal, ``over`` the group above."""

    key: str
    head: str
    short: str
    over: str

    @property
    def full(self) -> str:
        """The head where no group stands above it."""
        return f"concept {self.head}" if self.over == "concepts" else "seconds to fit" if self.over == "cost" else self.head


SCORES = (
    Column("ece", "ECE", "ECE", "task"),
    Column("concept_macro_f1", "macro F1", "cF1", "concepts"),
    Column("concept_all_right", "all right", "all", "concepts"),
    Column("concept_accuracy", "accuracy", "cAcc", "concepts"),
    Column("concept_error", "error", "cErr", "concepts"),
    Column("curve_area", "curve area", "area", "correction"),
    Column("bypass", "bypass", "byp", "strip"),
    Column("nec", "NEC", "NEC", "strip"),
    Column("fit_seconds", "fit", "fit", "cost"),
)


def columns(page: Page) -> list[Column]:
    """The columns that at least one row has a word on; a number's error only where concepts are numbers."""
    found = [column for column in SCORES if any(column.key in row.scores for row in page.rows)]
    return [c for c in found if c.key != "concept_error" or any(score(r, c.key, page).value is not None for r in page.rows)]


def score(row: Row, key: str, page: Page) -> Score:
    """A row's score, or one that says it was not measured."""
    return row.scores.get(key) or Score(page.metrics.get(key) or page.main)


def reference(page: Page) -> dict[str, float]:
    """What constant answers score: the commonest class, every concept at its commonest answer (absent)."""
    found: dict[str, float] = {}
    if page.majority is not None and page.main.key == "accuracy":
        found["accuracy"] = page.majority
    if page.absent is not None:
        found["concept_accuracy"] = page.absent
        if page.about.get("columns") == page.about.get("concepts") and "concept_macro_f1" in page.metrics:
            found["concept_macro_f1"] = 0.0
    return found


def seal(row: Row) -> tuple[str, str]:
    """The sealed mark and what it means."""
    if row.sealed is None:
        return "–", "not said"
    if row.sealed:
        return "sealed", "nothing but the concepts reaches the answer"
    return ("no strip", row.leak) if row.yardstick else ("open", row.leak)
