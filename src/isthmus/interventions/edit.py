"""Editing what a fitted model learnt: prune, re-weight, transfer, rename, remove, retext, fine-tune, each with an entry.

Yuksekgonul et al. 2023, Post-hoc CBM, section 4 (global edits; normalised pruning is that of FACT, TMLR 2024); Oikarinen et al.
2023, Label-free CBM (weight moved for one mistake); Pham et al. 2024, PEEB (a descriptor's text replaced without training).

Every function returns a new model whose ``history`` has one more entry: who, when, why, what, the effect on ``validation`` rows
(a ``Table``, optional) and SHA-256 before and after, chained (``isthmus.interventions.chain``) and checked on load. The model
that came in is not touched. ``why`` must be said; ``who`` is the user of the operating system unless given.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import copy, deepcopy
from dataclasses import replace
from math import isfinite
from typing import Any, cast

import torch
from torch import Tensor

from isthmus.data.table import Table
from isthmus.errors import DataError, IsthmusError, OptionError, unknown
from isthmus.interventions import chain
from isthmus.interventions.handles import (
    Encoder,
    Names,
    beside,
    class_indices,
    columns_of,
    foreign,
    listed,
    one_column,
    rebuilt,
    renamed,
    respace,
    vector_of,
    weight_of,
    weights_of,
)
from isthmus.interventions.record import What, answers, edited, features_of, record
from isthmus.interventions.refit import finetune
from isthmus.model import ConceptModel, Concepts, Contributes
from isthmus.space import ConceptSpace
from isthmus.train import encode

__all__ = ["finetune", "follow", "history", "prune", "record", "remove", "rename", "retext", "reweight", "transfer"]


def prune(
    model: ConceptModel, concepts: Names, classes: Names | None = None, *, normalise: bool = False, why: str,
    who: str | None = None, validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Set the head's weights of concepts to 0, for all ``classes`` or those named. A state alone is ``concept=state``.

    ``normalise`` rescales the rest of each of these classes' rows so that its L1 norm is what it was (FACT); the bias stays.
    Needs a linear head. A side channel beside the head keeps what was pruned; the entry says so.
    """

    def change(new: ConceptModel) -> What:
        w, k, y = weights_of(new, "prune"), columns_of(new.space, concepts), class_indices(new.task, classes)
        was = w[y].clone()
        w[torch.tensor(y)[:, None], torch.tensor(k)] = 0
        if normalise:
            left = w[y].abs().sum(1)
            if not bool(left.all()):
                bare = new.task.names[y[int((left == 0).nonzero()[0])]]
                raise OptionError(f"prune: class {bare!r} has no other weight to rescale; leave normalise out")
            w[y] *= (was.abs().sum(1) / left)[:, None]
        names = [new.space.columns[i] for i in k]
        rows = zip(y, was[:, k].tolist(), strict=True)
        had = {new.task.names[i]: dict(zip(names, row, strict=True)) for i, row in rows}
        return {"concepts": names, "classes": list(had), "normalise": normalise, "weights": had, **beside(new)}

    return edited(model, "prune", change, why=why, who=who, validation=validation)


def reweight(
    model: ConceptModel, weights: Mapping[tuple[Any, Any], float], *, why: str, who: str | None = None,
    validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Set weights of the head: ``{(class, concept): weight}``, finite numbers; a state is ``concept=state``.

    A weight multiplies what the head is shown of the concept: a probability, a score, or a number of training deviations
    (continuous). Needs a linear head.
    """

    def change(new: ConceptModel) -> What:
        w = weights_of(new, "reweight")
        if not weights:
            raise OptionError("reweight: expected {(class, concept): weight}, got none")
        rows: list[dict[str, Any]] = []
        for (label, concept), weight in weights.items():
            (y,), k = class_indices(new.task, [label]), one_column(new.space, concept, "reweight")
            row = {"class": new.task.names[y], "concept": new.space.columns[k], "from": float(w[y, k])}
            w[y, k] = weight_of(weight, w, f"reweight, {new.space.columns[k]!r}")
            rows.append(row | {"to": float(w[y, k])})
        return {"weights": rows, **beside(new)}

    return edited(model, "reweight", change, why=why, who=who, validation=validation)


def transfer(
    model: ConceptModel, x: Any, concept: str | int, *, true: str | int, predicted: str | int | None = None,
    margin: float = 1.0, why: str, who: str | None = None, validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Move weight of one wrongly used concept from the class ``predicted`` to the ``true`` one (Label-free CBM).

    On one row ``x`` (1, ...) (or a table of one), where the head is shown a of the concept, d = (logit of predicted - logit of
    true + margin) / 2a is added to the true class's weight and taken from the other's: the true class then leads the other
    by ``margin`` (logits, at least 0). ``predicted`` is what the model decides unless given. Needs classes and a linear head.
    """

    def change(new: ConceptModel) -> What:
        w, k = weights_of(new, "transfer"), one_column(new.space, concept, "transfer")
        if new.task.kind != "classes" or not (isfinite(margin) and margin >= 0):
            raise OptionError(f"transfer: expected classes and a margin of at least 0, got {new.task.kind} and {margin!r}")
        z = encode(new.features, x, new.device).to(new.device) if isinstance(x, Table) else new.encode(x)
        if len(z) != 1:
            raise DataError(f"transfer: expected one row, got {len(z)}; pass x[i:i+1]")
        out = new.answer(z)
        logits, other = out.logits[0], predicted
        (g,) = class_indices(new.task, [true])
        (p,) = class_indices(new.task, [int(logits.argmax()) if other is None else other])
        if g == p:
            raise OptionError(f"transfer: the row is decided {new.task.names[g]!r} already; name the other class: predicted=")
        a, gap = _shown(new, out.concepts, k), float(logits[p] - logits[g])
        if abs(a) < 1e-6:
            raise DataError(f"transfer: {new.space.columns[k]!r} is 0 on this row, so its weight moves nothing; take another")
        step = (gap + margin) / (2 * a)
        w[g, k] += step
        w[p, k] -= step
        now = new.answer(z).logits[0]
        lead = float(now[g] - now[p])
        if abs(lead - margin) > 1e-4 * (1 + margin + float(logits.abs().max())):
            raise IsthmusError(f"transfer: asked for a lead of {margin:g}, got {lead:g}; this model's answer is no plain sum")
        said = {"concept": new.space.columns[k], "true": new.task.names[g], "predicted": new.task.names[p], "margin": margin}
        return {**said, "shown": a, "step": step, "decides": new.task.names[int(now.argmax())], **beside(new)}

    return edited(model, "transfer", change, why=why, who=who, validation=validation)


def _shown(model: ConceptModel, concepts: Concepts, k: int) -> float:
    """What the head is shown of column k on the only row: its contribution under weights of 1."""
    w, head = weights_of(model, "transfer"), cast("Contributes", model.head)
    was = w.clone()
    w.fill_(1.0)
    found = float(head.contributions(concepts)[0, 0, k])
    w.copy_(was)
    return found


def rename(
    model: ConceptModel, names: Mapping[str, str], *, why: str, who: str | None = None, validation: Table | None = None
) -> ConceptModel:
    """Give concepts other names: ``{old: new}``; two may swap, the name of a third is refused. No weight changes.

    ``follow`` gives the new names to rows that were labelled under the old ones.
    """

    def change(new: ConceptModel) -> What:
        for old in listed(names, "rename"):
            if old not in new.space.names:
                raise unknown("concept", str(old), new.space.names)
        respace(new, renamed(new.space, names))
        rebuilt(new, "rename")
        return {"names": dict(names)}

    return edited(model, "rename", change, why=why, who=who, validation=validation)


def remove(
    model: ConceptModel, concepts: Names, *, why: str, who: str | None = None, validation: Table | None = None
) -> ConceptModel:
    """Drop concepts from the space, the bottleneck and the head; the other columns and their weights stay as they are."""

    def change(new: ConceptModel) -> What:
        gone = sorted({new.space.index(name) for name in listed(concepts, "remove")})
        kept = [m for m in range(new.space.count) if m not in gone]
        if not kept:
            raise OptionError(f"remove: expected at least one concept to stay, got all {len(gone)}; leave one out")
        names = [new.space.names[m] for m in gone]
        try:
            new.keep(kept)
        except NotImplementedError as error:
            raise OptionError(f"remove: {error}; prune them where the head is linear") from error
        rebuilt(new, "remove")
        return {"concepts": names, **beside(new)}

    return edited(model, "remove", change, why=why, who=who, validation=validation)


def retext(
    model: ConceptModel, concept: str | int, text: str, *, vector: Tensor | None = None, encoder: Encoder | None = None,
    name: str | None = None, why: str, who: str | None = None, validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Replace a concept's text and rebuild what was made from it, without training (PEEB).

    The text's ``vector`` (D,) in the model's text space, or an ``encoder`` for it: text features, or a function, [text] ->
    (1, D), the one of the fit: one that does not make of the old text the vector that the model has is warned of and written
    down. The bottleneck must be made from texts (``write_text``, and a space with ``vectors``); a head that is made from
    them too is told as well. Mean, deviation and percentiles of the column are read off ``validation`` rows; without such rows
    they stay those of the old text, which is warned of and written down. No other column may change: ``validation`` rows check
    it. ``name``: a new name, too. Needs a concept of one column.
    """

    def change(new: ConceptModel) -> What:
        write, tell = (getattr(part, "write_text", None) for part in (new.bottleneck, new.head))
        if write is None or new.space.vectors is None:
            kind = type(new.bottleneck).__name__
            raise OptionError(f"retext: this {kind} is not made from texts, so none can be written into it; rename the concept")
        m = new.space.index(concept)
        k, old = one_column(new.space, m, "retext"), new.space.concepts[m]
        row = vector_of(chain.line(text, "text"), vector, encoder)
        strange = {} if encoder is None else _strange(foreign(encoder, new.space, m))
        names = {} if name in (None, old.name) else {old.name: chain.line(name, "name")}
        respace(new, _retold(new.space, m, k, text, names, row))
        for put in (write, tell):
            if put is not None:
                put(torch.tensor([k], device=new.device), row.to(new.device)[None])
        said = _statistics(new, k, validation)
        texts = {"from": old.text, "to": text}
        return {"concept": old.name, "text": texts, "vector": chain.sha(row.tolist()), "names": names, **said, **strange}

    new = edited(model, "retext", change, why=why, who=who, validation=validation)
    if validation is not None:
        _alone(model, new, new.space.slices[new.space.index(name or concept)].start, validation)
    return new


@torch.no_grad()
def _statistics(new: ConceptModel, k: int, rows: Table | None) -> dict[str, str]:
    """Read what was measured of the old text (mean, deviation, percentiles) off ``rows``; warn where there are none."""
    refresh = getattr(new.bottleneck, "refresh", None)
    if refresh is None:
        return {}
    if rows is None:
        said = "those of the old text: give validation rows to read them anew"
        warnings.warn(f"retext: mean, deviation and percentiles of {new.space.columns[k]!r} are {said}", stacklevel=5)
        return {"statistics": said}
    refresh(torch.tensor([k], device=new.device), features_of(new, rows).to(new.device))
    return {"statistics": f"read off {len(rows)} validation rows"}


def _strange(why: str) -> dict[str, str]:
    """What the entry says of an encoder that is not known to be the model's; warned of."""
    if why:
        warnings.warn(f"retext: {why}: vectors of two encoders cannot be compared; take the one of the fit", stacklevel=5)
    return {"encoder": why} if why else {}


def _retold(space: ConceptSpace, m: int, k: int, text: str, names: Mapping[str, str], row: Tensor) -> ConceptSpace:
    """The space with another text, vector and perhaps name for concept m, column k."""
    assert space.vectors is not None
    vectors = space.vectors.clone()
    if vectors.shape[1] != len(row):
        raise DataError(f"retext: expected a vector of {vectors.shape[1]} numbers as the other texts have, got {len(row)}")
    vectors[k] = row.to(vectors)
    concepts = renamed(space, names).concepts
    return ConceptSpace((*concepts[:m], replace(concepts[m], text=text), *concepts[m + 1 :]), vectors)


def _alone(old: ConceptModel, new: ConceptModel, k: int, rows: Table) -> None:
    """Refuse a bottleneck that moved another column than k."""
    z = features_of(old, rows)
    moved = (answers(old, z)[1] != answers(new, z)[1]).any(0)
    moved[k] = False
    if bool(moved.any()):
        first = old.space.columns[int(moved.nonzero()[0])]
        raise IsthmusError(f"retext: {first!r} changed too; {type(old.bottleneck).__name__}.write_text must write one column")


def follow(model: ConceptModel, table: Table) -> Table:
    """Rows labelled under the names that the concepts had before any edit, under those they have now; others as they are."""
    now: dict[str, str] = {}
    for _, entry in chain.edits(model.history):
        step: dict[str, str] = entry["what"].get("names") or {}
        found = {first: step.get(name, name) for first, name in now.items()}
        now = found | {old: new for old, new in step.items() if old not in now.values()}
    made = copy(table)
    if now and set(now) <= set(table.space.names) and not set(now.values()) & (set(table.space.names) - set(now)):
        made.space = renamed(table.space, now)
    return made


def history(model: ConceptModel) -> list[dict[str, Any]]:
    """The entries of a model's edits, oldest first."""
    return [deepcopy(entry) for _, entry in chain.edits(model.history)]
