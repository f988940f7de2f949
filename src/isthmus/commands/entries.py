"""A model's history in words: one entry of an edit, as ``isthmus edit`` prints it."""

from __future__ import annotations

from typing import Any

from isthmus.commands.console import number

BESIDE = ("beside", "held", "undone", "forgotten")  # said in lines of their own


def told(count: int, entry: dict[str, Any]) -> list[str]:
    """An entry in words: what, by whom and when, why, and what it did to the answers."""
    effect, what = entry["effect"], entry["what"]
    lines = [f"{count}. {_what(entry['edit'], what)}", f"{entry['when']}, {entry['who']}: {entry['why']}"]
    if what.get("beside"):
        lines.append(str(what["beside"]))
    lines += _kept(what)
    if effect:
        low, high = ["", ""] if effect["interval"] is None else map(number, effect["interval"])
        range_ = f" (difference {low} to {high})" if low else ""
        scores = f"{effect['score']} {number(effect['before'])} → {number(effect['after'])}{range_}"
        lines.append(f"{scores}, {effect['changed']:.1%} of decisions changed, {effect['rows']} rows")
    else:
        lines.append("effect not measured")
    return [*lines, f"model {entry['before'][:12]} → {entry['after'][:12]}"]


def _kept(what: dict[str, Any]) -> list[str]:
    """What of earlier edits was held, and what was undone."""
    lines, found = list[str](), what.get("held")
    if found:
        parts = (
            ", ".join(f"{row['concept']} for {row['class']} at {row['to']:.4g}" for row in found["weights"][:6])
            + (f" and {len(found['weights']) - 6} more weights" if len(found["weights"]) > 6 else ""),
            f"weights of {', '.join(found['concepts'])}" if found["concepts"] else "",
            f"forgotten {', '.join(found['forgotten'])}" if found["forgotten"] else "",
        )
        lines.append(f"held: {'; '.join(part for part in parts if part)}")
    if what.get("undone"):
        lines.append(f"undone: {', '.join(what['undone'])}")
    shares = what.get("forgotten") or {}
    lines += [f"decided as {name}, forgotten: {row['before']:.1%} → {row['after']:.1%}" for name, row in shares.items()]
    return lines


def _what(edit: str, what: dict[str, Any]) -> str:
    """What was done, in one line."""
    if edit == "prune":
        whole = ", the rest rescaled" if what["normalise"] else ""
        return f"prune {', '.join(what['concepts'])} for {', '.join(what['classes'])}{whole}"
    if edit == "reweight":
        rows = (f"{row['concept']} for {row['class']}: {row['from']:.4g} → {row['to']:.4g}" for row in what["weights"])
        return f"reweight {'; '.join(rows)}"
    if edit == "rename":
        return "rename " + ", ".join(f"{old} → {new}" for old, new in what["names"].items())
    if edit == "remove":
        return f"remove {', '.join(what['concepts'])}"
    if edit == "retext":
        said = f"; its statistics are {what['statistics']}" if what.get("statistics") else ""
        return f"retext {what['concept']}: {what['text']['from'] or 'no text'} → {what['text']['to']}{said}"
    if edit == "pin":
        return _pinned(what)
    if edit == "forget":
        return _forgotten(what)
    said = ", ".join(f"{key} {value}" for key, value in what.items() if key not in BESIDE and value not in (None, [], ""))
    return f"{edit} ({said})" if said else edit


def _pinned(what: dict[str, Any]) -> str:
    """Weights, the concepts' effects, and what the fit does without the pins (older entries have weights alone)."""
    weights = (f"{row['concept']} for {row['class']}: {row['from']:.4g} → {row['to']:.4g}" for row in what["weights"])
    if "effects" not in what:
        return f"pin {'; '.join(weights)}"
    effects = (
        f"{row['concept']} moves {row['class']} by {number(row['before'])}, refitted {number(row['refit'])}, pinned "
        f"{number(row['after'])}"
        for row in what["effects"]
    )
    fit, pins = what["refit"], what["pinning"]
    said = f"of {fit['score']} the fit alone {_moved(fit)}, the pin beyond it {_moved(pins)}"
    return (
        f"pin {'; '.join(weights)}{' (from the mean over classes)' if what['from_mean'] else ''}; {'; '.join(effects)}; {said}"
    )


def _moved(effect: dict[str, Any]) -> str:
    ends = "" if effect["interval"] is None else f" ({number(effect['interval'][0])} to {number(effect['interval'][1])})"
    return "unknown" if effect["before"] is None else f"{number(effect['after'] - effect['before'])}{ends}"


def _forgotten(what: dict[str, Any]) -> str:
    """How, and whether the class is gone."""
    how = (
        "its row of the head emptied"
        if what["by"] == "head"
        else f"{what['labels']} labels, {what['epochs']} epochs, lr {what['lr']:g}"
    )
    names = {"forget": "right on the class", "retain": "right on the others", "membership": "membership AUC"}
    scores = (
        f"{names[name]} {number(row['before']['value'])} → {number(row['after']['value'])} "
        f"({number(row['after']['low'])} to {number(row['after']['high'])})"
        for name, row in what.get("scores", {}).items()
    )
    return f"forget {what['class']} ({how}); concepts that make it: {', '.join(what['concepts']) or 'none'}" + "".join(
        f"; {each}" for each in scores
    )
