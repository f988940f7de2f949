"""Forgetting a class through its concepts: taken out of the head, or unlearnt by fine-tuning on rows with other labels.

Class Machine Unlearning for Complex Data via Concepts Inference and Data Poisoning (arXiv 2405.15662). Our reconstruction from
the abstract: the paper's formulas were not read, so what is measured here says nothing against it. How well a class
is forgotten: ``isthmus.interventions.forgotten``.
"""

from __future__ import annotations

import time
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor

from isthmus import losses
from isthmus.data.table import Fold, Splits, Table
from isthmus.errors import DataError, IsthmusError, OptionError
from isthmus.interventions import chain
from isthmus.interventions.attribution import own
from isthmus.interventions.handles import Names, beside, class_indices, columns_of, linear_of, weights_of
from isthmus.interventions.record import What, answers, features_of, record
from isthmus.model import ConceptModel, feedforward
from isthmus.train import Learn, encoder, seeded

NEVER = -1e4  # a logit below any other: probability 0 in float32, and JSON can hold it


def forget(
    model: ConceptModel, data: Splits, cls: str | int, *, by: Literal["relabel", "head", "concepts"] = "relabel",
    labels: Literal["random", "targeted"] = "random", concepts: Names | None = None, count: int = 5, retain: float = 0.3,
    epochs: int = 5, lr: float = 1e-3, batch_size: int = 256, concept_weight: float = 1.0, seed: int = 0, why: str,
    who: str | None = None, validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """A model that no longer knows class ``cls``, by one of three levers; defaults are ours.

    'head': the class's weights become 0 and its logit -10,000, so that it is never decided: at once, and hidden rather than
    erased. 'concepts': the class's own concepts get weight 0 in every class, at once. Both need a linear head. 'relabel': the
    class's training rows get another label, and with a share ``retain`` of the other rows fine-tune what learns
    (features that were not pretrained, bottleneck, head) for ``epochs`` at rate ``lr``. The new label is 'random',
    drawn for each row from the other classes, or 'targeted', the class nearest by its mean concepts. Where rows have
    concept labels they are taught too (times ``concept_weight``), but for the class's own concepts on its own rows.

    The class's own ``concepts``: by name, or up to ``count`` columns found by integrated gradients on the bottleneck (none are
    held back by 'relabel' where the model has none to attribute to). Only training rows are used, validation rows show the
    effect. A side channel is fine-tuned with its head, but keeps what 'head' and 'concepts' take from the concepts.
    """
    label = _checked(model, data, cls, by, labels, retain)
    chain.line(why, "why")
    new = deepcopy(model)
    began = time.perf_counter()
    what: What
    if by == "head":
        what = _silence(new, label)
    else:
        z, y = features_of(model, data.train, "train"), _classes(data.train)
        columns = _own(model, z, y, label, concepts, count, needed=by == "concepts")
        if by == "concepts":
            what = _strike(new, columns)
        else:
            fold, what = _poisoned(model, data, z, label, columns, labels, retain, seed)
            _relearn(new, fold, lr=lr, epochs=epochs, batch_size=batch_size, weight=concept_weight, seed=seed)
            what |= {"retain": retain, "epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed}
            what |= {"concept_weight": concept_weight}
        what = {"concepts": [new.space.columns[k] for k in columns], **what}
    seconds = time.perf_counter() - began
    what = {"class": new.task.names[label], "by": by, **what, "seconds": round(seconds, 3), **_kept(model, new, data, label)}
    if by != "relabel":
        what |= beside(new)
    return record(model, new, "forget", what, why=why, who=who, validation=validation or data.validation)


@torch.no_grad()
def _silence(new: ConceptModel, label: int) -> What:
    """No weights and a logit that never wins."""
    layer = linear_of(new, "forget")
    had = layer.weight[label].tolist()
    layer.weight[label], layer.bias[label] = 0.0, NEVER
    return {"weights": dict(zip(new.space.columns, had, strict=True))}


@torch.no_grad()
def _strike(new: ConceptModel, columns: list[int]) -> What:
    weights_of(new, "forget")[:, columns] = 0.0
    return {}


def _own(
    model: ConceptModel, z: Tensor, y: Tensor, label: int, concepts: Names | None, count: int, *, needed: bool
) -> list[int]:
    """Columns of the class's own concepts: those named, else found."""
    if concepts is not None:
        return columns_of(model.space, concepts)
    try:
        found = own(model, z, y, label, count) if len(model.space) else []
    except OptionError:
        if needed:
            raise
        return []
    if needed and not found:
        raise OptionError(f"forget: no concept is class {model.task.names[label]!r}'s own more than the others'; name concepts")
    return found


def _poisoned(
    model: ConceptModel, data: Splits, z: Tensor, label: int, columns: list[int], labels: str, retain: float, seed: int
) -> tuple[Fold, What]:
    """Rows of the class under other labels with a share of the rest, validation rows of the rest, and what was drawn."""
    y, generator = _classes(data.train), torch.Generator().manual_seed(seed)
    gone, rest = (y == label).nonzero()[:, 0], (y != label).nonzero()[:, 0]
    kept = rest[torch.randperm(len(rest), generator=generator)[: max(1, round(retain * len(rest)))]]
    others = torch.tensor([t for t in range(model.task.width) if t != label])
    if labels == "random":
        told = others[torch.randint(len(others), (len(gone),), generator=generator)]
    else:
        told = torch.full_like(gone, _nearest(model, z, y, label))
    new_y = y.clone()
    new_y[gone] = told
    c = data.train.labels_for(model.space)
    if c is not None:
        c = c.clone()
        concepts = sorted({int(model.space.owner_of[k]) for k in columns})  # a block is known or not as a whole
        c[gone[:, None], model.space.columns_of(concepts)] = torch.nan
    at = torch.cat([gone, kept])
    train = data.train.take(at).replace(
        y=new_y[at], c=None if c is None else c[at], space=model.space, task=model.task, where=None, askable=None
    )
    held = data.validation
    held = held.take((_classes(held) != label).nonzero()[:, 0])
    held = held.replace(c=held.labels_for(model.space), space=model.space, task=model.task, where=None, askable=None)
    counts = {model.task.names[t]: int((told == t).sum()) for t in told.unique().tolist()}
    return Fold(train, held), {"labels": labels, "rows": len(gone), "now": counts, "retained": len(kept)}


@torch.no_grad()
def _nearest(model: ConceptModel, z: Tensor, y: Tensor, label: int) -> int:
    """The other class whose mean concepts, numbers on their standardised scale, lie nearest to the class's."""
    values = model.space.standardised(model.bottleneck.read(answers(model, z)[1].to(model.device)).cpu())
    present = [t for t in y.unique().tolist() if t != label]
    means = torch.stack([values[y == t].mean(0) for t in present])
    return present[int((means - values[y == label].mean(0)).norm(dim=1).argmin())]


def _relearn(
    new: ConceptModel, fold: Fold, *, lr: float, epochs: int, batch_size: int, weight: float, seed: int
) -> None:
    """Fine-tune everything that learns; the concepts too, where both labels and logits of them are there."""
    neck = encoder(new.features)[1]
    learns = bool(list(neck.parameters())) and not getattr(new.features, "pretrained", False)
    parts = tuple(name for name in ("features", "bottleneck", "head") if learns or name != "features")
    c = fold.train.c
    told = c is not None and weight > 0 and not bool(c.isnan().all()) and _scored(new, fold.train)
    learn = Learn(
        losses.Both(weight) if told else losses.task, parts, lr=lr, epochs=epochs, batch_size=batch_size, patience=0,
        name="forget", through="feedforward" if new.solver is feedforward else "solver",
    )  # fmt: skip
    before = len(new.history)
    with seeded(seed):
        learn(new, fold)
    if len(new.history) == before:
        raise OptionError(f"forget: expected parts that learn and epochs of at least 1, got none and {epochs}; use by='head'")


@torch.no_grad()
def _scored(model: ConceptModel, rows: Table) -> bool:
    """Whether the bottleneck's concepts can be scored against labels."""
    batch = rows.take([0])
    concepts = model.answer(features_of(model, batch, "train").to(model.device)).concepts
    return concepts.logits is not None or concepts.draws is not None


def _kept(old: ConceptModel, new: ConceptModel, data: Splits, label: int) -> What:
    """Accuracy on validation rows of the class and of the others, before and after."""
    y = _classes(data.validation)
    # features may have learnt, so each model reads the rows by its own
    hits = [answers(m, features_of(m, data.validation))[0] == y for m in (old, new)]
    mine = y == label
    share = lambda hit, rows: round(float(hit[rows].double().mean()), 6) if bool(rows.any()) else None  # noqa: E731
    return {
        "forget_accuracy": {"before": share(hits[0], mine), "after": share(hits[1], mine)},
        "retain_accuracy": {"before": share(hits[0], ~mine), "after": share(hits[1], ~mine)},
    }


def _classes(table: Table) -> Tensor:
    assert table.y is not None
    return table.y.cpu()


def _checked(model: ConceptModel, data: Splits, cls: str | int, by: str, labels: str, retain: float) -> int:
    """The index of the class, or the error that says what does not fit."""
    if not isinstance(data, Splits):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"forget: expected Splits, got {type(data).__name__}; isthmus.data.split cuts a Table")
    if model.task.kind != "classes" or model.task.width < 3:
        raise OptionError(f"forget: expected three or more classes, got {model.task.kind} {list(model.task.names[:4])}")
    if (data.task.kind, data.task.names) != (model.task.kind, model.task.names):
        raise DataError(f"forget: expected the task {list(model.task.names[:4])}, got {list(data.task.names[:4])}")
    if by not in ("relabel", "head", "concepts") or labels not in ("random", "targeted"):
        raise OptionError(f"forget: expected by relabel, head or concepts and labels random or targeted, got {by!r}, {labels!r}")
    if not 0 < retain <= 1:
        raise OptionError(f"forget: expected retain, a share above 0 and at most 1, got {retain!r}")
    (label,) = class_indices(model.task, [cls])
    if not bool((_classes(data.train) == label).any()):
        raise DataError(f"forget: expected training rows of class {model.task.names[label]!r}, got none")
    if reason := chain.broken(model):
        raise IsthmusError(f"history: {reason}; load the model again, and edit it by isthmus.edit alone")
    return label
