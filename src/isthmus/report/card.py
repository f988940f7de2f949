"""The report card of an audit (schema ``isthmus.audit/1``) as one self-contained page: what each section means comes first."""

from __future__ import annotations

import re
from typing import Any

from isthmus.errors import DataError
from isthmus.report.clean import clean, finite, record, records, texts
from isthmus.report.numbers import MINUS, between, count, listed, number, percent, seconds
from isthmus.report.svg import Markup, Scale, el, line, path, spanned

AUDIT = "isthmus.audit/1"
HEADLINES = ("task", "bypass", "ctl", "gain_all", "existence@1", "pointing", "completeness", "coverage")
SHARES = {"share", "score", "cosine", "probability", "AUC", "squared share", "share of concepts", "distance of AUCs", "error"}


def context(data: dict[str, Any]) -> dict[str, Any]:
    """Everything the template needs; raises ``DataError`` for another schema."""
    if data.get("schema") != AUDIT:
        raise DataError(f"report: expected an audit with schema {AUDIT!r}, got {data.get('schema')!r}")
    data = clean(data)
    model, about, sections = record(data.get("model")), record(data.get("data")), records(data.get("sections"))
    there = [section for section in sections if section.get("applies")]
    name, on = str(model.get("name") or "model"), str(about.get("title") or about.get("name") or "data")
    limits = [_limit(each) for each in records(data.get("limits"))]
    findings = records(record(data.get("labels")).get("findings"))
    lines = {line["key"]: line for section in there for line in records(section.get("lines")) if "key" in line}
    return {
        "head": {
            "title": f"{name} on {on}, audited · Isthmus",
            "kind": "audit",
            "heading": f"{name} on {on}: does the strip mean what it says?",
            "about": _about(data, model, about),
            "links": [*((str(each.get("key")), str(each.get("title"))) for each in there), ("made", "How it was made")],
        },
        "verdict": _verdict(limits),
        "failed": any(limit["fails"] for limit in limits),
        "limits": limits,
        "facts": [_fact(lines[key]) for key in HEADLINES if key in lines][:6],
        "sections": [_section(section) for section in there],
        "absent": [(str(section.get("title")), str(section.get("why"))) for section in sections if not section.get("applies")],
        "labels": [(str(f.get("kind")), str(f.get("level")), str(f.get("words"))) for f in findings[:40]],
        "more": max(0, len(findings) - 40),
        "history": [_edit(entry) for entry in records(data.get("history"))],
        "card": {"title": model.get("title") or name, "paper": model.get("paper") or "", "notes": model.get("notes") or "",
                 "seal": _seal(model)},
        "interval": data.get("interval") or "",
        "made": _made(data, about),
    }  # fmt: skip


def _about(data: dict[str, Any], model: dict[str, Any], about: dict[str, Any]) -> str:
    rows = data.get("test_rows")
    parts = [
        str(model.get("title") or ""),
        count(int(model["concepts"]), "concept") if isinstance(model.get("concepts"), int) else "",
        f"{count(rows, 'test row')}" if isinstance(rows, int) else "",
        "synthetic data" if about.get("synthetic") else "",
    ]
    return " · ".join(part for part in parts if part)


def _seal(model: dict[str, Any]) -> str:
    if model.get("sealed") is None:
        return ""
    if model["sealed"]:
        return "Sealed: nothing but the concepts reaches the answer."
    return f"Not sealed: {record(model.get('exempt')).get('5') or 'the card does not say why'}."


def _limit(each: dict[str, Any]) -> dict[str, Any]:
    value = finite(each.get("value"))
    told = "not there" if value is None else f"{value:.4g}"
    return {"limit": str(each.get("limit")), "value": told, "fails": bool(each.get("fails")), "why": str(each.get("why") or "")}


def _verdict(limits: list[dict[str, Any]]) -> str:
    if not limits:
        return "No limit was set: read each section, and set limits with --fail-if."
    broken = [limit["limit"] for limit in limits if limit["fails"]]
    if not broken:
        return f"Passed: {'the limit holds' if len(limits) == 1 else f'all {len(limits)} limits hold'}."
    return f"Failed: {listed(broken, 6)} ({len(broken)} of {count(len(limits), 'limit')})."


def _unit(line: dict[str, Any]) -> str:
    unit = str(line.get("unit") or "")
    return "share" if unit in SHARES or unit.startswith("share") else unit


def _fact(line: dict[str, Any]) -> dict[str, str]:
    unit = _unit(line)
    base = finite(line.get("control"))
    note = "" if base is None else f"{line.get('control_name')}: {number(base, unit)}"
    return {
        "label": str(line.get("title")),
        "value": number(finite(line.get("value")), unit),
        "interval": between(finite(line.get("low")), finite(line.get("high")), unit),
        "note": note,
    }


def _section(section: dict[str, Any]) -> dict[str, Any]:
    lines = records(section.get("lines"))
    return {
        "key": str(section.get("key")),
        "title": str(section.get("title")),
        "question": str(section.get("question")),
        "definition": str(section.get("definition")),
        "meaning": re.sub(r"(?<![\w.-])-(?=[.\d])", MINUS, str(section.get("meaning"))),
        "lines": [_line(each) for each in lines],
        "tables": [_table(each) for each in records(section.get("tables"))],
        "pictures": [
            (str(p.get("title")), str(p.get("src"))) for p in records(section.get("pictures")) if _embedded(p.get("src"))
        ],
    }


def _embedded(src: Any) -> bool:
    return isinstance(src, str) and src.startswith("data:image/png;base64,")


def _line(each: dict[str, Any]) -> dict[str, Any]:
    unit = _unit(each)
    base = finite(each.get("control"))
    where = [f"n {each['n']:,}" if isinstance(each.get("n"), int) else "", f"k {each['k']}" if each.get("k") else ""]
    return {
        "title": str(each.get("title")),
        "key": str(each.get("key")),
        "value": number(finite(each.get("value")), unit),
        "interval": between(finite(each.get("low")), finite(each.get("high")), unit),
        "unit": str(each.get("unit") or ""),
        "better": "higher" if each.get("better") == "up" else "lower",
        "text": str(each.get("text") or ""),
        "control": "" if base is None else number(base, unit),
        "control_name": str(each.get("control_name") or ""),
        "rows": " ".join(part for part in where if part),
        "strip": _strip(each),
    }


def _strip(each: dict[str, Any]) -> Markup | None:
    """The value a dot, its interval a line, the control a tick, on a scale of its own: 0 to 1 for shares."""
    value, low, high, base = (finite(each.get(key)) for key in ("value", "low", "high", "control"))
    if value is None:
        return None
    known = [v for v in (value, low, high, base) if v is not None]
    inside = _unit(each) == "share" and min(known) >= 0 and max(known) <= 1
    a, b = (0.0, 1.0) if inside else spanned([*known, 0.0])
    scale = Scale(a, b, 6, 174)
    parts: list[Markup | None] = [line(6, 12, 174, 12, "grid")]
    if low is not None and high is not None:
        parts.append(line(scale(low), 12, scale(high), 12, "whisker"))
    if base is not None:
        parts.append(el("path", d=path([(scale(base), 4), (scale(base), 20)]), class_="control"))
    parts.append(el("circle", cx=scale(value), cy=12.0, r=4.2, class_="mark"))
    drawn = el("g", *parts, class_="series s0")
    return el("svg", drawn, viewBox="0 0 180 24", width=180.0, height=24.0, aria_hidden="true", class_="strip")


def _table(each: dict[str, Any]) -> dict[str, Any]:
    rows: list[list[str]] = []
    for row in each.get("rows") or []:
        rows.append([f"{cell:.3f}" if isinstance(cell, float) else "n/a" if cell is None else f"{cell}" for cell in row])
    return {"title": str(each.get("title")), "columns": texts(each.get("columns")), "rows": rows}


def _edit(entry: dict[str, Any]) -> str:
    effect = record(entry.get("effect"))
    told = f"{entry.get('when')}, {entry.get('who')}: {entry.get('edit')}, because {entry.get('why')}"
    if effect:
        told += (
            f" ({effect.get('score')} {effect.get('before')} to {effect.get('after')} on {effect.get('rows')} validation rows)"
        )
    return told


def _made(data: dict[str, Any], about: dict[str, Any]) -> list[tuple[str, str]]:
    rows = record(about.get("rows"))
    versions = record(data.get("versions"))
    found = [
        ("command", data.get("command")),
        ("data", str(about.get("title") or "") + (" (synthetic)" if about.get("synthetic") else "")),
        ("rows", ", ".join(f"{many:,} {part}" for part, many in rows.items() if isinstance(many, int))),
        ("concept labels", f"{percent(finite(about.get('complete')))} known" if about.get("complete") is not None else ""),
        ("licence", about.get("licence")),
        ("interval", data.get("interval")),
        ("seed", data.get("seed")),
        ("commit", data.get("commit")),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("time", f"{data.get('created')}, took {seconds(finite(data.get('seconds')))}"),
    ]
    return [(key, str(value)) for key, value in found if value not in (None, "")]
