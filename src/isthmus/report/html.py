"""One self-contained page from a result's dict: escaped, readable without scripts, asking the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from isthmus.report import card, listing, made, panels, sections, shown
from isthmus.report.clean import records
from isthmus.report.facts import facts
from isthmus.report.numbers import count, listed
from isthmus.report.page import Page, read
from isthmus.report.svg import Markup
from isthmus.report.words import summary
from isthmus.report.worth import reveals

HERE = Path(__file__).parent / "templates"


def html(data: dict[str, Any]) -> str:
    """The report of a comparison (schema ``isthmus.compare/1``) or of one model (``isthmus.evaluation/1``) as a page.

    An audit (``isthmus.audit/1``) makes its report card. Every text of ``data`` is escaped, pictures must be embedded, and the
    page's own policy forbids all other loading.
    Raises ``DataError`` for another schema.
    """
    if data.get("schema") == card.AUDIT:
        style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
        return _environment().get_template("audit.html.j2").render(style=style, **card.context(data))
    page = read(data)
    script = (HERE / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    context: dict[str, Any] = {
        "style": Markup((HERE / "style.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": Markup(f"sha256-{digest}"),
        "single": page.single,
        "sentences": summary(page),
        "facts": facts(page),
        "table": None if page.single else listing.table(page),
        "table_title": page.main.title,
        "interval": page.data.get("interval") or "",
        "left_out": [{"method": "", **each, "why": made.absent(each)} for each in records(page.data.get("left_out"))],
        "charts": sections.charts(page),
        "policies": sections.policies(page),
        "worth": panels.policies(page),
        "reveals": reveals(page).capitalize(),
        "replay": shown.replay(page),
        "examples": shown.examples(page),
        "agreement": sections.agreement(page),
        "tuning": made.tuning(page),
        "everything": made.everything(page),
        "made": made.facts(page),
        "cards": made.cards(page),
        "encoders": made.encoders(page),
    }
    return _environment().get_template("page.html.j2").render(head=_head(page, context), **context)


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _head(page: Page, context: dict[str, Any]) -> dict[str, Any]:
    """The title, the heading, what was compared on what, and the links to the sections that are there."""
    names = [row.name for row in page.rows]
    if page.single:
        heading = f"{page.rows[0].title}: what it does on {page.name}"
        title = f"{names[0]} on {page.name}"
    else:
        heading = f"{page.name}: which bottleneck, and what does it cost?"
        title = f"{page.name}: {listed(names)} compared"
    charts = context["charts"]
    links = [
        ("methods", "Scores" if page.single else "Methods", True),
        ("sparsity", "Sparsity", charts["sparsity_words"]),
        ("corrections", "Corrections", charts["curves"] or context["replay"]),
        ("policies", "Policies", charts["curves"] and context["worth"]),
        ("concepts", "Concepts", charts["concepts"]),
        ("examples", "Examples", context["examples"]),
        ("mistakes", "Mistakes", charts["confusion"]),
        ("agreement", "Agreement", context["agreement"]["chart"]),
        ("tuning", "Tuning", context["tuning"]),
        ("training", "Training", charts["training"]),
        ("made", "How it was made", True),
    ]
    return {
        "title": f"{title} · Isthmus",
        "kind": "evaluation" if page.single else "comparison",
        "heading": heading,
        "about": about(page),
        "links": [(key, name) for key, name, there in links if there],
    }


def about(page: Page) -> str:
    """``8 methods · 52 concepts · 6 classes · 2,500 test rows · 3 seeds``."""
    known, names = page.about, len(page.answers)
    kinds = {
        "classes": count(names, "class", "classes"),
        "labels": count(names, "label"),
        "value": "a number to predict",
    }
    parts = [
        "" if page.single else count(len(page.rows), "method"),
        count(int(known["concepts"]), "concept") if isinstance(known.get("concepts"), int) else "",
        kinds.get(str(page.task.get("kind")), ""),
        count(page.test_rows, "test row") if page.test_rows else "",
        count(len(page.seeds), "seed") if page.seeds else "",
    ]
    return " · ".join(part for part in parts if part)
