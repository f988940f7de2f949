"""What a comparison fits and keeps: a row to be, a fitted row, and both as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from isthmus.encoders import Encoder
from isthmus.evaluate import MAIN, Scored, concept_rows, confusion
from isthmus.hub import exemptions
from isthmus.model import ConceptModel
from isthmus.registry import Method
from isthmus.trace import Trace


@dataclass(frozen=True, eq=False)
class Row:
    """One row to be: a method with the options that make its variant."""

    name: str
    method: Method
    options: dict[str, Any]


@dataclass(eq=False)
class Fitted:
    """A row with what validation chose and, for each seed, the model and its trace."""

    row: Row
    chosen: dict[str, Any]
    tuned: list[dict[str, Any]]
    models: list[ConceptModel] = field(default_factory=list[ConceptModel])
    traces: list[Trace] = field(default_factory=list[Trace])
    seconds: float = 0.0


def row_of(done: Fitted, result: Scored, encoder: Encoder) -> dict[str, Any]:
    """A row of the result as plain data."""
    card, model = done.row.method.card, done.models[0]
    exempt = exemptions(done.row.method, {**done.row.options, **done.chosen})
    head = done.traces[0]
    nec = result.scores.get("nec", {}).get("value")
    main = MAIN[head.task.kind]
    return {
        "name": done.row.name,
        "method": done.row.method.name,
        "title": card.title,
        "paper": card.paper,
        "family": card.family,
        "options": {k: v for k, v in {**done.row.options, **done.chosen}.items() if not isinstance(v, torch.Tensor)},
        "encoder": encoder.name,
        "sealed": 5 not in exempt,
        "exempt": {str(law): reason for law, reason in exempt.items()},
        "notes": " ".join([card.notes, *(f"Here: {row['note']}." for row in model.history if "note" in row)]).strip(),
        "tuned": done.tuned,
        "scores": result.scores,
        "curves": result.curves,
        "concepts": concept_rows(done.traces),
        "confusion": confusion(done.traces),
        "nec_point": None if nec is None else {"nec": nec, main: result.scores[main].get("value")},
        "history": model.history,
        "seconds": round(done.seconds, 2),
        "parameters": sum(p.numel() for part in (model.bottleneck, model.head) for p in part.parameters()),
    }


def encoder_rows(built: dict[str, Encoder], learns: dict[str, str]) -> list[dict[str, Any]]:
    """What turned rows into features, once each, with the rows of the table that share it."""
    named: dict[str, dict[str, Any]] = {}
    for key, encoder in built.items():
        entry = named.setdefault(
            encoder.name,
            {
                "name": encoder.name,
                "learns": encoder.learns,
                "features": asdict(encoder.module.recipe) if encoder.module.recipe else None,
                "dim": encoder.module.dim,
                "seconds": round(encoder.seconds, 1),
                "shared": [],
            },
        )
        entry["shared"] += [name for name, wanted in learns.items() if wanted == key]
    return list(named.values())
