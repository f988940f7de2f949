"""How a result was made: tuning, methods, encoders, every score with its meaning, command, seeds, versions, licence."""

from __future__ import annotations

from typing import Any

from isthmus.report.clean import finite, record, records, texts
from isthmus.report.columns import score, seal
from isthmus.report.listing import Context, cell
from isthmus.report.numbers import count, listed, percent, seconds
from isthmus.report.page import Page, Row
from isthmus.report.small import swatch


def tuning(page: Page) -> Context | None:
    """What validation tried and chose for each method; None when nothing was tuned."""
    if not any(row.data.get("tuned") for row in page.rows):
        return None
    budget = page.data.get("budget")
    same = (
        f"Every method tried at most {count(budget, 'setting')}" if isinstance(budget, int) else "Every method tried the same"
    )
    words = f"{same} on validation rows, with the first seed; the test rows chose nothing."
    return {"words": words, "lines": [_tuned(page, row) for row in page.rows]}


def chosen(page: Page, row: Row) -> int:
    """The place of the setting that validation chose: the first best."""
    tried = records(row.data.get("tuned"))
    scores = [finite(each.get("validation")) for each in tried]
    known = [s for s in scores if s is not None]
    return scores.index(max(known)) if known else -1


def _tuned(page: Page, row: Row) -> Context:
    tried = records(row.data.get("tuned"))
    best, parameters = chosen(page, row), finite(row.data.get("parameters"))
    return {
        "name": row.name,
        "swatch": swatch(row),
        "tried": [
            {
                "options": options(each.get("options")) or "defaults",
                "score": "diverged" if each.get("failed") else page.main.show(finite(each.get("validation"))),
                "chosen": i == best,
            }
            for i, each in enumerate(tried)
        ],
        "parameters": "n/a" if parameters is None else f"{parameters:,.0f}",
        "seconds": seconds(finite(row.data.get("seconds"))),
    }


def options(found: Any) -> str:
    """``lr 0.001, weight_decay 0``; nothing without options."""
    return ", ".join(f"{key} {_plain(value)}" for key, value in record(found).items())


def _plain(value: Any) -> str:
    if isinstance(value, float) and finite(value) is not None:
        return f"{value:g}"
    return str(value)


def everything(page: Page) -> list[Context]:
    """One line for each metric that the dict describes or any row has, with every row's cell."""
    keys = [key for key in page.metrics if any(key in row.scores for row in page.rows)]
    return [
        {
            "title": page.metrics[key].title,
            "cells": [cell(score(row, key, page)) for row in page.rows],
            "unit": page.metrics[key].unit,
            "range": page.metrics[key].range,
            "better": "higher" if page.metrics[key].better == "up" else "lower",
            "text": page.metrics[key].text,
        }
        for key in keys
    ]


def cards(page: Page) -> list[Context]:
    """What each method is, where it comes from, and with which options it ran."""
    return [
        {
            "name": row.name,
            "swatch": swatch(row),
            "title": row.title,
            "paper": row.data.get("paper") or "",
            "seal": "" if row.sealed is None else f"{'Sealed' if row.sealed else 'Not sealed'}: {seal(row)[1]}.",
            "notes": row.data.get("notes") or "",
            "options": options(row.data.get("options")),
        }
        for row in page.rows
    ]


def encoders(page: Page) -> list[Context]:
    """What turned the rows into features, what it learned, and who shares it."""
    found: list[Context] = []
    for each in records(page.data.get("encoders")):
        features = each.get("features")
        built = record(features).get("name") or (features if isinstance(features, str) else "")
        learns = str(each.get("learns") or "")
        parts = [
            f"built by {built}" if built else "",
            f"{each['dim']} features" if isinstance(each.get("dim"), int) else "",
            {"nothing": "weights as they came, nothing trained", "": ""}.get(learns, f"trained on the {learns}"),
            seconds(finite(each.get("seconds"))) if each.get("seconds") else "",
            f"shared by {listed(texts(each.get('shared')), 40)}" if each.get("shared") else "",
        ]
        found.append({"name": str(each.get("name")), "words": "; ".join(part for part in parts if part) + "."})
    return found


def absent(each: Context) -> str:
    """Why a method is no row of a comparison: what it needs, or the error that stopped its fit."""
    failed = each.get("failed")
    return f"could not be fitted ({failed})" if failed else f"needs {each.get('unmet') or ''}"


def facts(page: Page) -> list[tuple[str, str]]:
    """Command, seeds, commit, versions, time, data and licence, each in words; what is not known is left out."""
    data, about = page.data, page.about
    rows = record(about.get("rows"))
    versions = record(data.get("versions"))
    complete, threads = finite(about.get("complete")), data.get("threads")
    found = [
        ("command", data.get("command")),
        ("data", page.name + (" (synthetic)" if about.get("synthetic") else "")),
        ("rows", ", ".join(f"{count:,} {part}" for part, count in rows.items() if isinstance(count, int))),
        ("target", _target(page)),
        ("concepts in words", _words(data)),
        ("concept labels", "" if complete is None else f"{percent(complete)} known"),
        ("licence", about.get("licence")),
        ("terms", about.get("terms")),
        ("seeds", ", ".join(map(str, page.seeds))),
        ("interval", data.get("interval")),
        ("commit", data.get("commit")),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("time", _time(data)),
        ("threads", "" if threads is None else str(threads)),
    ]
    return [(key, str(value)) for key, value in found if value]


def _words(data: Context) -> str:
    """How many words, from where, and what tied their texts to the rows: the pairs, and how well held-out ones are met."""
    words = record(data.get("words"))
    if not words:
        return ""
    told, source = list[str](), texts(words.get("source"))
    if source:
        told.append(f"{words.get('words')} from {listed(source, 6)}, read by {words.get('text_encoder')}")
    told += [said] if (said := unseen(data)) else []
    aligned = record(words.get("aligned"))
    if aligned:
        kind, once = "weakly supervised: " if aligned.get("weak") else "", ", once for all seeds" if source else ""
        told.append(
            f"features aligned with texts by {aligned.get('rows')} pairs of {aligned.get('captions')} captions ({kind}"
            f"{aligned.get('pairs')}){once}; on {aligned.get('held_out')} held out, which chose its "
            f"strength, too, R² {aligned.get('r2')}, own caption nearest {aligned.get('retrieval')} "
            f"(chance {aligned.get('chance')})"
        )
        if untied := texts(words.get("untied")):
            told.append(f"{listed(untied, 6)}: texts compared with features of its own, not through that map")
    return "; ".join(told)


def unseen(data: Context) -> str:
    """Which classes were kept from what ties rows to texts, and are the only ones compared; '' where that is not so."""
    words = record(data.get("words"))
    kept = texts(words.get("unseen"))
    if not kept:
        return ""
    tied = "kept from the map into the text space" if words.get("fitted_here") else "chosen (no map was fitted here)"
    said = f"{count(len(kept), 'class', 'classes')} {tied} and compared alone: {listed(kept, 12)}"
    learnt = "every row, the black box too, reads features that learnt the other classes"
    return f"{said}; {learnt}" if words.get("features_learnt") else said


def _target(page: Page) -> str:
    unit = page.task.get("unit")
    return listed(page.answers, 12) + (f", in {unit}" if unit else "") if page.answers else ""


def _time(data: Context) -> str:
    took = finite(data.get("seconds"))
    return ", ".join(part for part in (str(data.get("created") or ""), "" if took is None else f"took {seconds(took)}") if part)
