"""A few test rows as a person would look at them: the input, the concepts, what they added, and a correction replayed."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.api import intervene_on
from isthmus.data.rows import Images, Texts
from isthmus.data.table import Table
from isthmus.interventions.policies import readings
from isthmus.model import ConceptModel, Contributes
from isthmus.trace import Trace, run

MOST = 12  # concepts shown for an example


def choose_rows(traces: dict[str, Trace], count: int = 6) -> list[int]:
    """Test rows for every method alike: those on which the methods disagree most first, then evenly spread ones."""
    first = next(iter(traces.values()))
    n = len(first.y)
    right = np.stack([_right(made) for made in traces.values()])
    spread = right.mean(0) * (1 - right.mean(0))
    split = [int(i) for i in np.argsort(-spread, kind="stable")[: count // 2] if spread[i] > 0]
    even = [int(i) for i in np.linspace(0, n - 1, count * 2) if int(i) not in split]
    return (split + even)[:count]


def _right(made: Trace) -> Any:
    if made.task.kind == "value":
        return (np.abs(made.answers - made.y) < 0.5 * made.task.scale).astype(float)
    same = made.answers == made.y
    return (same if same.ndim == 1 else same.all(1)).astype(float)


def picture(table: Table, row: int) -> str | None:
    """The row's image as a PNG data address, None where x is no image."""
    x = table.x
    if isinstance(x, Images):
        pixels = x.take(torch.tensor([row])).read()[0]
    elif isinstance(x, Tensor) and x.ndim == 4 and x.dtype == torch.uint8 and x.shape[1] == 3:
        pixels = x[row]
    else:
        return None
    from PIL import Image

    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((224, 224))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def words(table: Table, row: int) -> str | None:
    """The row as text, where x is text or a short list of numbers."""
    if isinstance(table.x, Texts):
        return table.x.texts[row][:600]
    if isinstance(table.x, Tensor) and table.x.ndim == 2 and table.x.shape[1] <= 30:
        return ", ".join(f"{v:.3g}" for v in table.x[row].tolist())
    return None


@torch.no_grad()
def examples(model: ConceptModel, table: Table, z: Tensor, rows: list[int]) -> list[dict[str, Any]]:
    """The rows at ``rows`` (features z of the whole table) as plain data, see the report's schema."""
    out = run(model, z[rows])
    answer, chance = model.task.predict(out.logits), model.task.probabilities(out.logits)
    read = model.bottleneck.read(out.concepts.values.to(model.device)).cpu()
    shares, remainder, why = _shares(model, z[rows])
    c = table.labels_for(model.space)
    found: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        assert table.y is not None
        truth, said = _word(model, table.y[row]), _word(model, answer[i])
        share = None if shares is None else shares[i]
        found.append(
            {
                "row": row,
                "id": table.ids[row] if table.ids is not None else f"test {row}",
                "image": picture(table, row),
                "text": words(table, row),
                "truth": truth,
                "answer": said,
                "right": truth == said,
                "probabilities": _chances(model, chance[i]),
                "concepts": _concepts(model, read[i], None if c is None else c[row], share),
                "remainder": None if remainder is None else round(float(remainder[i]), 4),
                "contributions": why,
            }
        )
    return found


def _word(model: ConceptModel, value: Tensor) -> str:
    task = model.task
    if task.kind == "classes":
        return task.names[int(value)]
    if task.kind == "labels":
        return ", ".join(n for n, on in zip(task.names, value.tolist(), strict=True) if on == 1) or "none"
    return f"{float(value):.4g}" + (f" {task.unit}" if task.unit else "")


def _chances(model: ConceptModel, chance: Tensor) -> list[dict[str, Any]]:
    if model.task.kind == "value":
        return []
    order = chance.argsort(descending=True, stable=True)[:6].tolist()
    return [{"name": model.task.names[j], "value": round(float(chance[j]), 4)} for j in order]


def _shares(model: ConceptModel, z: Tensor) -> tuple[Tensor | None, Tensor | None, str]:
    """Contributions (n, K) to the answered class and the remainder (n,), or the sentence that says why there are none."""
    if not len(model.space):
        return None, None, "no concepts"
    if not isinstance(model.head, Contributes):
        return None, None, "no exact contributions: the head is no sum over concepts"
    out = model.answer(z.to(model.device))
    at = out.logits.argmax(-1)
    every = model.head.contributions(out.concepts)
    rows = torch.arange(len(z))
    return every[rows, at].cpu(), model.head.remainder(out.concepts, out.features)[rows, at].cpu(), "exact"


def _concepts(model: ConceptModel, values: Tensor, c: Tensor | None, share: Tensor | None) -> list[dict[str, Any]]:
    """The most telling columns: largest contributions, else labels that are present and the highest values."""
    if share is not None:
        telling = share.abs()
    else:
        telling = model.space.standardised(values).abs()
        telling = telling if c is None else telling + 2 * (c.nan_to_num() > 0.5) * ~model.space.continuous
    order = telling.argsort(descending=True, stable=True)[:MOST].tolist()
    return [
        {
            "name": model.space.columns[k],
            "value": round(float(values[k]), 4),
            "truth": None if c is None or bool(c[k].isnan()) else round(float(c[k]), 4),
            "contribution": None if share is None else round(float(share[k]), 4),
        }
        for k in order
    ]


@torch.no_grad()
def replay(
    models: dict[str, tuple[ConceptModel, Tensor]], table: Table, most: int = 3, *, gains: dict[str, float] | None = None
) -> dict[str, Any] | None:
    """One correction in words: a row that is wrong, and right after few misread concepts are given.

    Of a method that corrections help, where there is one: methods come in the order of ``gains``, what the score gains
    when every concept is given. Concepts are corrected where the model misread them most, until the answer is right.
    """
    best: dict[str, Any] | None = None
    for name, (model, z) in sorted(models.items(), key=lambda item: -(gains or {}).get(item[0], 0.0)):
        if best is not None and (gains or {}).get(name, 0.0) <= 0:
            return best
        c = table.labels_for(model.space)
        if c is None or table.y is None or model.task.kind != "classes":
            continue
        out = run(model, z)
        wrong = (model.task.predict(out.logits) != table.y).nonzero().flatten().tolist()
        for row in wrong[:40]:
            told = _repair(model, z[row : row + 1], c[row], int(table.y[row]), most)
            if told is not None and (best is None or len(told["steps"]) < len(best["steps"])):
                best = {"row": row, "method": name, "truth": model.task.names[int(table.y[row])], **told}
            if best is not None and len(best["steps"]) == 1:
                return best
    return best


def _repair(model: ConceptModel, z: Tensor, c: Tensor, y: int, most: int) -> dict[str, Any] | None:
    """Correct the misread concepts of one row, worst first; None unless the answer becomes right within ``most``."""
    space, values = model.space, readings(model, z)[0]
    gap = (values - c).abs().nan_to_num()
    each = torch.stack([gap[part].max() for part in space.slices])
    known: dict[str, float | str | None] = {}
    rows: list[dict[str, Any]] = []
    before = None
    for m in each.argsort(descending=True, stable=True)[:most].tolist():
        if each[m] < 0.3:
            return None
        concept, part = space.concepts[m], space.slices[m]
        truth = concept.states[int(c[part].argmax())] if concept.kind == "categorical" else float(c[part].item())
        known[concept.name] = truth
        told = intervene_on(model, z, known)
        before = before or told.before
        step = next(s for s in told.steps if s["concept"] == concept.name)
        rows.append(step | {"answer_before": rows[-1]["answer_after"] if rows else told.before, "answer_after": told.after})
        if told.after == model.task.names[y]:
            return {"steps": rows, "text": told.text}
    return None
