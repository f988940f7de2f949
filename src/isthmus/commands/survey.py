"""What a data set holds, as data: rows, inputs, classes, concepts with their rates, terms, warnings."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.data.table import Splits, Table
    from isthmus.space import Concept

PARTS = ("train", "validation", "test")
COMMON = 0.98  # a concept in one state on more of the rows than this is nearly constant


def survey(data: Splits) -> dict[str, Any]:
    """A description of ``data`` (schema ``isthmus.data/1``); rates are over the known labels of train."""
    train = data.train
    concepts = concept_rows(train)
    return {
        "schema": "isthmus.data/1",
        "name": data.name,
        "title": data.card.title if data.card else data.name,
        "rows": {part: len(getattr(data, part)) for part in PARTS},
        "inputs": inputs(train.x),
        "task": {"kind": data.task.kind, "names": list(data.task.names), "unit": data.task.unit},
        "classes": class_rows(train),
        "value": value_row(train),
        "groups": f"{len(set(train.group))} in train" if train.group is not None else "none",
        "captions": f"{len(set(train.caption))} different in train" if train.caption is not None else "none",
        "places": train.where is not None,
        "columns": len(data.space),
        "concepts": concepts,
        "card": None if data.card is None else asdict(data.card),
        "published": data.published,
        "suggest": data.suggest,
        "warnings": warnings(data, concepts),
    }


def inputs(x: Any) -> str:
    """What a row of x is, in words."""
    import torch

    from isthmus.data.rows import Images, Texts

    if isinstance(x, dict):
        return "; ".join(f"{name}: {inputs(part)}" for name, part in x.items())
    if isinstance(x, torch.Tensor) and x.ndim == 4:
        return f"images of {x.shape[3]}x{x.shape[2]} px"
    if isinstance(x, torch.Tensor):
        return f"{x.shape[1]} numbers" if x.ndim == 2 else f"numbers of shape {tuple(x.shape[1:])}"
    if isinstance(x, Images):
        height, width = x.take(torch.zeros(1, dtype=torch.long)).read().shape[2:]
        return f"image files; the first has {width}x{height} px"
    return "texts" if isinstance(x, Texts) else type(x).__name__


def class_rows(table: Table) -> list[dict[str, Any]]:
    """Each class or label with its count and share of the rows where it is known; none for a value."""
    import torch

    assert table.task is not None and table.y is not None
    if table.task.kind == "value":
        return []
    if table.task.kind == "classes":
        counts = torch.bincount(table.y, minlength=table.task.width).tolist()
        known = [len(table)] * table.task.width
    else:
        counts, known = table.y.nansum(0).int().tolist(), (~table.y.isnan()).sum(0).tolist()
    named = zip(table.task.names, counts, known, strict=True)
    return [{"name": name, "count": count, "share": count / max(of, 1)} for name, count, of in named]


def value_row(table: Table) -> dict[str, float] | None:
    """Mean, spread, least and most of a continuous target."""
    assert table.task is not None and table.y is not None
    if table.task.kind != "value":
        return None
    y = table.y[~table.y.isnan()].double()
    return {"mean": float(y.mean()), "sd": float(y.std(correction=0)), "least": float(y.min()), "most": float(y.max())}


def concept_rows(table: Table) -> list[dict[str, Any]]:
    """Each concept: kind, group, share of known labels, and its rates (a rate, a share for each state, or a mean)."""
    if table.c is None:
        return []
    rows: list[dict[str, Any]] = []
    for concept, part in zip(table.space.concepts, table.space.slices, strict=True):
        block = table.c[:, part]
        seen = block[~block.isnan().any(1)].double()
        rates = seen.mean(0).tolist() if len(seen) else None
        rows.append(
            {
                "name": concept.name,
                "kind": concept.kind,
                "group": concept.group,
                "unit": concept.unit,
                "known": len(seen) / len(table),
                "rate": rates[0] if rates and concept.kind == "binary" else None,
                "states": dict(zip(concept.states, rates, strict=True)) if rates and concept.states else None,
                "mean": rates[0] if rates and concept.kind == "continuous" else None,
                "rate_text": _text(concept, rates),
            }
        )
    return rows


def _text(concept: Concept, rates: list[float] | None) -> str:
    if rates is None:
        return "unknown"
    if concept.kind == "categorical":
        return ", ".join(f"{state} {rate:.2f}" for state, rate in zip(concept.states, rates, strict=True))
    if concept.kind == "continuous":
        return f"{rates[0]:.4g} ± {concept.scale:.3g}" + (f" {concept.unit}" if concept.unit else "")
    return f"{rates[0]:.3f}"


def warnings(data: Splits, concepts: list[dict[str, Any]]) -> list[str]:
    """What to know before reading a number: nearly constant concepts, classes without a row, rows in two splits."""
    found: list[str] = []
    states = [(c["name"], list(c["states"].values()) if c["states"] else [c["rate"], 1 - c["rate"]])
              for c in concepts if c["states"] or c["rate"] is not None]  # fmt: skip
    rare = [name for name, rates in states if COMMON < max(rates) < 1]
    if rare:
        constant = f"{len(rare)} concepts are in one state on more than {COMMON:.0%} of train"
        found.append(f"{constant}: {_few(rare)}; read F1, not accuracy")
    for part in PARTS:
        absent = [row["name"] for row in class_rows(getattr(data, part)) if not row["count"]]
        if absent:
            found.append(f"{part} has no row of {_few(absent)}")
    unknown = [c["name"] for c in concepts if c["known"] < 1]
    if unknown:
        found.append(f"{len(unknown)} concepts have unknown labels in train: {_few(unknown)}")
    return found


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
