"""Forgetting a class through its concepts: which concepts make the class, and three ways to take it out of a model.

Class Machine Unlearning for Complex Data via Concepts Inference and Data Poisoning, arXiv 2405.15662. Our reconstruction from
the abstract (no code and no formula were at hand): concepts of a class by integrated gradients on the bottleneck, then random
or targeted labels for its rows. A result that disappoints says nothing of theirs. Editing the head hides a class and does not
erase it: ``forgotten`` says what a probe still finds.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from isthmus import losses
from isthmus.data.table import Fold, Splits, Table
from isthmus.errors import DataError, OptionError
from isthmus.given import Given
from isthmus.interventions import chain
from isthmus.interventions.checks import rate_of, share_of, table_of, whole_of
from isthmus.interventions.edit import follow
from isthmus.interventions.handles import bias_of, class_indices, splits, weights_of
from isthmus.interventions.holds import held, taught
from isthmus.interventions.record import What, edited, features_of, record
from isthmus.interventions.refit import Held, holding
from isthmus.metrics import METRICS, interval, resamples
from isthmus.model import ConceptModel, Concepts, Contributes, feedforward
from isthmus.space import EMPTY
from isthmus.train import CHUNK, encode, seeded
from isthmus.train import encoder as trainable

How = Literal["head", "relabel"]
Labels = Literal["random", "targeted"]


@torch.no_grad()
def attributions(model: ConceptModel, z: Tensor, label: int, baseline: Tensor | None = None, steps: int = 32) -> Tensor:
    """(n, K) integrated gradients of a class's logit over the concept values of rows with features z, from ``baseline`` (K,).

    ``baseline``: the rows' mean by default. Under a head that adds up they are the difference of contributions, W (c - c0),
    exactly; else midpoints of ``steps`` on the straight line. Columns sum to the logit's gain over the baseline.
    A head that reads vectors made of the values has no such gradient: each concept is then set to the baseline alone.
    """
    concepts = model.answer(z.to(model.device)).concepts
    start = concepts.values.mean(0) if baseline is None else baseline.to(concepts.values)
    if isinstance(model.head, Contributes) and concepts.vectors is None:
        own = model.head.contributions(concepts)[:, label]
        zero = deepcopy(concepts)
        zero.values = start.expand_as(concepts.values)
        return (own - model.head.contributions(zero)[:, label]).cpu()
    if not _reads_values(model, concepts, z):
        return _one_by_one(model, z, label, start)
    away, total = concepts.values - start, torch.zeros_like(concepts.values)
    for time_ in ((torch.arange(steps) + 0.5) / steps).tolist():
        inner = deepcopy(concepts)
        with torch.enable_grad():
            inner.values = (start + time_ * away).detach().requires_grad_()
            score = model.head(inner, z.to(model.device))[:, label].sum()
            (gradient,) = torch.autograd.grad(score, inner.values)
        total += gradient / steps
    return (away * total).cpu()


def _reads_values(model: ConceptModel, concepts: Concepts, z: Tensor) -> bool:
    """Does the head's answer depend on the values themselves (and not on vectors that the bottleneck made of them)?"""
    inner = deepcopy(concepts)
    with torch.enable_grad():
        inner.values = concepts.values.detach().requires_grad_()
        score = model.head(inner, z.to(model.device)).sum()
        if not score.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(score, inner.values, allow_unused=True)
    return gradient is not None


@torch.no_grad()
def _one_by_one(model: ConceptModel, z: Tensor, label: int, start: Tensor) -> Tensor:
    """(n, K) what the logit loses when one concept after another is set to its neutral value, within what may be given."""
    z = z.to(model.device)
    neutral = model.bottleneck.read(start[None])[0]
    neutral = torch.where(model.space.continuous.to(z.device), neutral, neutral.clamp(0, 1))
    for index in model.space.blocks:
        neutral[index] = neutral[index] / neutral[index].sum(-1, keepdim=True).clamp(min=1e-9)
    whole, found = model.answer(z).logits[:, label], torch.zeros(len(z), len(model.space))
    for part in model.space.slices:
        mask = torch.zeros(len(z), len(model.space), dtype=torch.bool, device=z.device)
        mask[:, part] = True
        told = model.answer(z, Given(neutral.expand(len(z), -1), mask)).logits[:, label]
        found[:, part] = ((whole - told) / (part.stop - part.start))[:, None].cpu()
    return found


def class_concepts(model: ConceptModel, rows: Table, label: str | int, most: int = 5) -> dict[str, float]:
    """The ``most`` concepts that make a class: those whose mean |attribution| over its rows leads that over others by most."""
    if model.task.kind != "classes" or not len(model.space):
        raise OptionError("forget: expected a task of classes and a model with concepts")
    (t,) = class_indices(model.task, [label])
    z = features_of(model, rows)
    assert rows.y is not None
    own, rest = rows.y == t, rows.y != t
    if not bool(own.any()) or not bool(rest.any()):
        raise DataError(f"forget: expected rows of {model.task.names[t]!r} and of other classes")
    found = torch.cat([attributions(model, part, t, _mean(model, z)) for part in z.split(CHUNK)]).abs()
    lead = found[own].mean(0) - found[rest].mean(0)
    order = lead.argsort(descending=True, stable=True)[:most]
    return {model.space.columns[k]: float(lead[k]) for k in order.tolist() if lead[k] > 0}


@torch.no_grad()
def _mean(model: ConceptModel, z: Tensor) -> Tensor:
    return torch.cat([model.answer(part.to(model.device)).concepts.values for part in z.split(CHUNK)]).mean(0)


def forget(
    model: ConceptModel, data: Splits, label: str | int, *, by: How = "relabel", labels: Labels = "random", most: int = 5,
    retain: float = 1.0, encoder: bool = False, epochs: int = 5, lr: float | None = None, batch_size: int = 128,
    seed: int = 0, why: str, who: str | None = None, validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Make a model forget a class. ``by`` 'head': its row of a linear head is emptied, at once and exactly; nothing is erased.

    'relabel': bottleneck and head go on learning for ``epochs`` on the class's training rows under other labels ('random', or
    'targeted': the class that is nearest by its ``most`` concepts) and a ``retain`` share of the other rows, whose concept
    labels are learnt, too, where they are known and the bottleneck has logits; features stay frozen, unless ``encoder``: what a
    probe finds in them can only be unlearnt there. ``lr``: .01, and .001 with ``encoder``, unless given; at .001 five epochs
    left white cells' classes half remembered (docs/repair.md).

    The entry names the concepts that make the class, the seconds it took, and before and after, each with a 95 % interval,
    ``forget`` and ``retain`` accuracy on ``validation`` rows (``data``'s by default) and ``membership``, the AUC of telling the
    class's training rows from these by their loss. What earlier edits settled is held (``isthmus.interventions.holds``).
    Warns where the class is still decided more often than by a guess.
    """
    if by not in ("head", "relabel") or labels not in ("random", "targeted"):
        raise OptionError(f"forget: expected by 'head' or 'relabel', labels 'random' or 'targeted', got {by!r}, {labels!r}")
    splits(model, data, "forget")
    if share_of(retain, "forget: retain") == 0:
        raise OptionError(f"forget: expected retain above 0 and at most 1, got {retain}")
    for name, value, least in (("most", most, 1), ("epochs", epochs, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        whole_of(value, f"forget: {name}", least)
    lr = (1e-3 if encoder else 1e-2) if lr is None else rate_of(lr, "forget: lr")
    chain.line(why, "why")
    began = time.perf_counter()
    (t,) = class_indices(model.task, [label])
    made = class_concepts(model, data.train, t, most)
    rows = table_of(data.validation if validation is None else validation, "forget: validation", "labelled rows")
    if by == "head":

        def change(new: ConceptModel) -> What:
            _emptied(new, t)
            took = round(time.perf_counter() - began, 3)
            return {
                "class": new.task.names[t],
                "by": by,
                "concepts": made,
                "seconds": took,
                **_effect(model, new, data, rows, t),
            }

        return edited(model, "forget", change, why=why, who=who, validation=rows)
    if encoder and not any(True for _ in trainable(model.features)[1].parameters()):
        raise OptionError("forget: these features have no weights to learn; leave encoder out")
    parts = ("features", "bottleneck", "head") if encoder else ("bottleneck", "head")
    new, told = deepcopy(model), _relabelled(model, data, t, labels, retain, list(made), seed)
    kept = held(model)
    kept = replace(kept, pins={at: weight for at, weight in kept.pins.items() if at[0] != t})
    again = {y: by for y, by in kept.forgotten.items() if y != t or by == "head"}  # relabelled, a class may be forgotten more
    learn = Held(
        losses.task if told.train.c is None else losses.Both(), parts, lr=lr, epochs=epochs,
        batch_size=batch_size, patience=0, name="forget", through="feedforward" if new.solver is feedforward else "solver",
        **holding(new, replace(kept, forgotten=again)),
    )  # fmt: skip
    with seeded(seed):
        learn(new, told)
    what: What = {
        "class": new.task.names[t], "by": by, "labels": labels, "concepts": made, "retain": retain, "encoder": encoder,
        "epochs": epochs, "lr": lr, "seed": seed, "seconds": round(time.perf_counter() - began, 3),
        **_effect(model, new, data, rows, t), **kept.told(model),
    }  # fmt: skip
    return record(model, new, "forget", what, why=why, who=who, validation=rows)


def _effect(old: ConceptModel, new: ConceptModel, data: Splits, held: Table, t: int) -> What:
    """``scores`` of the class before and after, on ``held`` rows; a warning where it is not forgotten."""
    before, after = (_class_scores(each, data.train, held, t) for each in (old, new))
    left, guess = after["forget"]["value"] if "forget" in after else 0.0, 1 / new.task.width
    if "forget" in before and before["forget"]["value"] == 0:
        warnings.warn(
            f"forget: no validation row of {new.task.names[t]!r} was decided rightly before, so nothing shows a forgetting",
            stacklevel=3,
        )
    if left > guess:
        warnings.warn(
            f"forget: {left:.0%} of the validation rows of {new.task.names[t]!r} are still decided rightly, more than the "
            f"{guess:.0%} of a guess; raise lr or epochs",
            stacklevel=3,
        )
    return {"scores": {name: {"before": before[name], "after": score} for name, score in after.items()}}


def _class_scores(model: ConceptModel, train: Table, held: Table, t: int) -> dict[str, dict[str, float]]:
    """``forget`` and ``retain`` accuracy on ``held`` rows, and ``membership``; what has no rows is left out."""
    assert train.y is not None and held.y is not None
    y, said = held.y.numpy(), _logits(model, held).argmax(1)
    found = {
        name: _scored("accuracy", int(rows.sum()), y[rows], said[rows])
        for name, rows in (("forget", y == t), ("retain", y != t))
        if rows.any()
    }
    own = [part.take((part.y == t).nonzero()[:, 0]) for part in (train, held)]  # type: ignore[union-attr]
    if all(map(len, own)):
        known, other = (-torch.from_numpy(_logits(model, part)).log_softmax(1)[:, t].numpy() for part in own)
        found["membership"] = _scored("membership", len(known) + len(other), known, other)
    return found


def _emptied(model: ConceptModel, t: int) -> None:
    """No row is decided as class t: weights 0, a bias far below all others."""
    w, bias = weights_of(model, "forget"), bias_of(model, "forget")
    w[t], bias[t] = 0, -1e4


def _relabelled(
    model: ConceptModel, data: Splits, t: int, labels: Labels, retain: float, concepts: list[str], seed: int
) -> Fold:
    """Training rows, the class under other labels and concepts unknown, a share of the others; validation rows without it."""
    draw, before = torch.Generator().manual_seed(seed), held(model)
    others = replace(before, forgotten={y: by for y, by in before.forgotten.items() if y != t})
    train, held_out = (taught(model, part, others, never=[t]) for part in (data.train, data.validation))
    y = train.y
    assert y is not None
    own, rest = (y == t).nonzero()[:, 0], (y != t).nonzero()[:, 0]
    kept = rest[torch.randperm(len(rest), generator=draw)[: max(1, round(retain * len(rest)))]]
    if not len(own):
        raise DataError(f"forget: no training row is {model.task.names[t]!r}, so there is nothing to forget")
    open_ = [label for label in range(model.task.width) if label not in {t, *before.forgotten}]
    if not open_:
        raise DataError(f"forget: no class beside {model.task.names[t]!r} is left that was not forgotten; keep one")
    if labels == "random":
        told = torch.tensor(open_)[torch.randint(len(open_), (len(own),), generator=draw)]
    else:
        told = torch.full((len(own),), _nearest(model, train, t, concepts, open_))
    rows = train.take(torch.cat([own, kept]))
    assert rows.y is not None
    changed = _taught(model, rows, y=torch.cat([told, rows.y[len(own) :]]))
    if changed.c is not None:
        changed.c[: len(own)] = torch.nan
    assert held_out.y is not None
    return Fold(changed, _taught(model, held_out.take((held_out.y != t).nonzero()[:, 0])))


def _taught(model: ConceptModel, rows: Table, **changes: Tensor) -> Table:
    """Rows with the labels of the model's concepts, under the names that edits gave them.

    None where one has no label, or where the bottleneck has neither logits nor draws to learn labels by.
    """
    rows = follow(model, rows)
    with torch.no_grad():
        one = model.answer(encode(model.features, rows.take([0]), model.device).to(model.device)).concepts
    c = None if one.logits is None and one.draws is None else rows.labels_for(model.space)
    space = EMPTY if c is None else model.space
    c = None if c is None else c.clone()
    return rows.replace(c=c, space=space, task=model.task, where=None, askable=None, **changes)


@torch.no_grad()
def _nearest(model: ConceptModel, rows: Table, t: int, concepts: list[str], among: list[int]) -> int:
    """The class of ``among`` whose mean values of these concepts are nearest."""
    z = encode(model.features, rows, model.device)
    values = torch.cat([model.answer(part.to(model.device)).concepts.values.cpu() for part in z.split(CHUNK)])
    at = [model.space.columns.index(name) for name in concepts] or list(range(values.shape[1]))
    assert rows.y is not None
    means = torch.stack([values[rows.y == y][:, at].mean(0) if bool((rows.y == y).any()) else torch.full((len(at),), torch.inf)
                         for y in range(model.task.width)])  # fmt: skip
    apart = (means - means[t]).norm(dim=1)
    return min(among, key=lambda y: float(apart[y]))


def forgotten(
    model: ConceptModel, data: Splits, label: str | int, *, original: ConceptModel | None = None,
    retrained: ConceptModel | None = None, seconds: Mapping[str, float] | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """How well a class was forgotten, each score with ``value``, ``low`` and ``high`` (95 %, bootstrap over rows).

    ``forget`` and ``retain`` accuracy on test rows; ``membership``: AUC of telling the class's training rows from its test rows
    by the loss of their true label (.5: nobody can; of ``original`` beside); ``probe_concepts`` and ``probe_features``: AUC on
    test rows of a linear probe for the class; with ``retrained``: ``agreement``, ``divergence`` and ``f1_gap`` (macro F1 less
    the retrained model's) on test rows.
    ``seconds`` {'forget', 'retrain'} add ``speed_up``, without an interval.
    """
    for each in (model, *(other for other in (original, retrained) if other is not None)):
        splits(each, data, "forgotten")
    if seconds is not None and not {"forget", "retrain"} <= set(seconds):
        raise OptionError(f"forgotten: expected seconds of 'forget' and 'retrain', got {sorted(seconds)}")
    (t,) = class_indices(model.task, [label])
    test, train = data.test, data.train
    assert test.y is not None and train.y is not None
    for name, part in (("training", train.y), ("test", test.y)):
        if not 0 < int((part == t).sum()) < len(part):
            raise DataError(f"forgotten: expected {name} rows of {model.task.names[t]!r} and of other classes, to compare")
    y = test.y.numpy()
    logits = {"model": _logits(model, test)} | ({"retrained": _logits(retrained, test)} if retrained is not None else {})
    said = logits["model"].argmax(1)
    found = _class_scores(model, train, test, t)
    if original is not None:
        found["membership_before"] = _class_scores(original, train, test, t)["membership"]
    for name in ("concepts", "features"):
        a, b = (_inputs(model, part, name) for part in (train, test))
        found[f"probe_{name}"] = _probe(a, (train.y == t).numpy(), b, y == t)
    if retrained is not None:
        other = logits["retrained"]
        p, q = (torch.from_numpy(each).softmax(1).numpy() for each in (other, logits["model"]))
        found["agreement"] = _scored("agreement", len(y), said, other.argmax(1))
        found["divergence"] = _scored("divergence", len(y), p, q)
        width = model.task.width
        forms = [METRICS["macro_f1"].weighted(y, each.argmax(1), width) for each in (logits["model"], other)]
        draws = [form.under(np.concatenate([np.ones((1, len(y))), resamples(len(y))])) for form in forms]
        found["f1_gap"] = _ends(draws[0] - draws[1])
    if seconds is not None:
        found["speed_up"] = {"value": seconds["retrain"] / max(seconds["forget"], 1e-9)}
    return found


def _scored(name: str, n: int, *arrays: Any) -> dict[str, float]:
    form = METRICS[name].weighted(*arrays)
    return _ends(form.under(np.concatenate([np.ones((1, n)), resamples(n, METRICS[name].replicates)])))


def _ends(drawn: np.ndarray) -> dict[str, float]:
    low, high = interval(drawn[1:])
    return {"value": float(drawn[0]), "low": low, "high": high}


@torch.no_grad()
def _logits(model: ConceptModel, rows: Table) -> np.ndarray:
    z = encode(model.features, rows, model.device)
    return torch.cat([model.answer(part.to(model.device)).logits.cpu() for part in z.split(CHUNK)]).double().numpy()


@torch.no_grad()
def _inputs(model: ConceptModel, rows: Table, name: str) -> np.ndarray:
    z = encode(model.features, rows, model.device)
    if name == "features":
        return z.flatten(1).double().numpy()
    return torch.cat([model.answer(part.to(model.device)).concepts.values.cpu() for part in z.split(CHUNK)]).double().numpy()


def _probe(x: np.ndarray, own: np.ndarray, at: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """AUC of a logistic probe for the class."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x, own)
    return _scored("auroc", len(truth), truth.astype(int), probe.predict_proba(at))
