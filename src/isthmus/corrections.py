"""What named policies are worth on a fitted row: the score after each budget, and each curve in a few numbers."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus import metrics
from isthmus.data.table import Splits
from isthmus.errors import OptionError
from isthmus.evaluate import MAIN, main_form
from isthmus.interventions.curve import Curve, along, prepared
from isthmus.interventions.look import composable
from isthmus.interventions.named import POLICIES, policy, rescores
from isthmus.interventions.policies import Case, Level, Ordered, Policy, Random
from isthmus.metrics.core import Array, interval, resamples
from isthmus.model import ConceptModel
from isthmus.trace import Trace

SLOW_ROWS = 300  # of a policy that foresees answers or re-scores, where each look at the model is a whole inference
LOOKS, SLOW_STEPS = 60_000, (2, 10)  # of a re-scored one: looks with one model, and how few and how many questions they allow
Points = list[dict[str, Any]]
Asked = Mapping[str, Sequence[int] | None] | Sequence[str] | str  # policies, with budgets or without


def budgets_of(asked: Asked, splits: Splits) -> dict[str, tuple[int, ...]]:
    """Policies with their budgets. 'all' is every policy by concept, and by group where groups are fewer.

    Without budgets: 0, 1, 2, 3, 5, 8 ... up to all that can be asked. Budgets come out in order, each once, from 0 (what
    a correction is worth is a difference from none) and up to all that can be asked.
    """
    if isinstance(asked, str):
        asked = [asked]
    if not isinstance(asked, Mapping) and not all(isinstance(name, str) for name in asked):
        raise OptionError(f"policies: expected names, or {{name: budgets}}, got {asked!r}")
    named: dict[str, Sequence[int] | None] = dict(asked) if isinstance(asked, Mapping) else dict.fromkeys(asked)
    found: dict[str, tuple[int, ...]] = {}
    for name, budgets in named.items():
        every = _every(splits) if name == "all" else [name]
        for each in every:
            level = getattr(policy(each), "level", "concept")
            total = len(splits.space.groups) if level == "group" else splits.space.count
            usual = budgets_to(2 if each.startswith("kflip") else total)
            if budgets is not None and not _whole(budgets):
                raise OptionError(f"policy {each!r}: expected budgets as whole numbers of at least 0, got {budgets!r}")
            found[each] = usual if budgets is None else tuple(sorted({0, *(min(int(k), total) for k in budgets)}))
    return found


def _whole(budgets: Any) -> bool:
    """Are these budgets, at least one?"""
    if isinstance(budgets, str) or not hasattr(budgets, "__iter__") or not len(budgets):
        return False
    return all(hasattr(k, "__index__") and not isinstance(k, bool) and k >= 0 for k in budgets)


def _every(splits: Splits) -> list[str]:
    """All policies, and those with levels by group too where groups are fewer."""
    grouped = len(splits.space.groups) < splits.space.count
    by_group = [f"{name}:group" for name in POLICIES if isinstance(policy(name), Ordered)] if grouped else []
    return [*POLICIES, *by_group]


def budgets_to(total: int) -> tuple[int, ...]:
    """0, 1, 2, 3, 5, 8, 13 ... and ``total``."""
    found, a, b = [0], 1, 2
    while a < total:
        found.append(a)
        a, b = b, a + b
    return (*found, total) if total else (0,)


@torch.no_grad()
def asked(
    models: Sequence[ConceptModel],
    traces: Sequence[Trace],
    features: Sequence[Splits],
    budgets: Mapping[str, Sequence[int]],
) -> tuple[dict[str, Points | dict[str, str]], dict[str, dict[str, Any]]]:
    """Points (k, share, cost, scores with intervals) and a summary for each policy, mean over the seeds' models.

    ``features``: for each model its splits with features as x. A policy that does not fit says why. The summary: ``area``
    under the curve (mean score over budgets, trapezoid), ``gain`` at the last budget, ``k95`` the fewest questions with 95 % of
    it (where each look is a whole inference the first such budget; None where not all budgets were asked), ``harm`` the largest
    share of rows that corrections turned from right to wrong, ``over_random`` the area less that of random order at the same
    level with a paired interval; ``oracle`` (it looks at the truth before it asks), rows, seconds, ``sample`` if one was taken.
    """
    points: dict[str, Points | dict[str, str]] = {}
    summaries: dict[str, dict[str, Any]] = {}
    beside: dict[tuple[str, int, tuple[int, ...]], tuple[float, Array]] = {}  # areas of random order, by level, rows, budgets
    if features[0].test.labels_for(models[0].space) is None:
        return points, summaries
    n, seen = len(features[0].test), dict[tuple[int, int], Case]()
    for name, ks in budgets.items():
        chooser, ks = policy(name), tuple(sorted({0, *ks}))  # a gain is a difference from none
        if reason := chooser.unfit(models[0], max(ks)):
            points[name] = {"not_applicable": reason}
            continue
        start = time.perf_counter()
        level: Level = chooser.level if isinstance(chooser, Ordered) else "concept"
        slow = (chooser.looks(models[0].space) > 1 or rescores(chooser)) and not composable(models[0], features[0].test.x)
        rows = _sample(n) if slow and n > SLOW_ROWS else torch.arange(n)
        asks = max(ks, default=0)
        most = min(asks, _questions(chooser, models[0], len(rows))) if slow and rescores(chooser) else asks
        ks = tuple(k for k in ks if k <= most)
        cut = [_cut(made, rows.numpy()) for made in traces]
        line, summary, area = _scores(cut, _curves(models, features, chooser, ks, rows, seen), ks)
        points[name] = line
        summary |= {"level": level, "oracle": chooser.oracle, "rows": len(rows)}
        summary["seconds"] = round(time.perf_counter() - start, 2)
        key = (level, len(rows), ks)
        if isinstance(chooser, Random):
            beside.setdefault(key, area)
        else:
            if key not in beside:
                beside[key] = _scores(cut, _curves(models, features, Random(level=level), ks, rows, seen), ks)[2]
            low, high = interval(area[1] - beside[key][1])
            value = area[0] - beside[key][0]
            summary["over_random"] = {"value": _round(value), "low": _round(low), "high": _round(high)}
        if most < asks:
            summary["k95"] = None
        elif summary["k95"] and isinstance(chooser, Ordered) and composable(models[0], features[0].test.x):
            summary["k95"] = _fewest(summary["k95"], line, cut, models, features, chooser, rows, seen)
        if len(rows) < n or most < asks:
            which = f"{len(rows)} rows" if len(rows) < n else f"all {n} rows"
            summary["sample"] = which + (f" and at most {most} questions" if most < asks else "")
        summaries[name] = summary
    return points, summaries


def _fewest(
    first: int, points: Points, traces: list[Trace], models: Sequence[ConceptModel], features: Sequence[Splits],
    chooser: Policy, rows: Tensor, seen: dict[tuple[int, int], Case],
) -> int:  # fmt: skip
    """The fewest questions with 95 % of the gain, where the budget ``first`` has it and the budgets before have not."""
    main = MAIN[traces[0].task.kind]
    value = {point["k"]: point[main]["value"] for point in points}
    before = max(k for k in value if k < first)
    between = tuple(range(before + 1, first))
    if not between:
        return first
    wanted = value[0] + 0.95 * (value[max(value)] - value[0])
    lines, ones = _curves(models, features, chooser, between, rows, seen), np.ones((1, len(rows)), dtype=np.float32)
    for at, k in enumerate(between):
        score = [main_form(made, line.answers[at].numpy()).under(ones)[0] for made, line in _pairs(traces, lines)]
        if float(np.mean(score)) >= wanted - 1e-9:
            return k
    return first


def _questions(chooser: Policy, model: ConceptModel, rows: int) -> int:
    """How many questions a policy that re-scores may ask within its looks."""
    few, most = SLOW_STEPS
    return min(most, max(few, LOOKS // (rows * chooser.looks(model.space))))


def _sample(n: int) -> Tensor:
    """The same rows for every policy and method."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(zlib.crc32(b"sample")))[:SLOW_ROWS].sort().values


def _curves(
    models: Sequence[ConceptModel], features: Sequence[Splits], chooser: Policy, ks: tuple[int, ...], rows: Tensor,
    seen: dict[tuple[int, int], Case],
) -> list[Curve]:  # fmt: skip
    """A curve for each seed's model; ``seen``: its rows as policies before have looked at them."""
    found: list[Curve] = []
    for number, (model, splits) in enumerate(zip(models, features, strict=True)):
        key = (number, len(rows))
        if key not in seen:
            seen[key] = _case(model, splits, rows)
        found.append(along(seen[key], _fitted(chooser, model, splits), ks))
    return found


def _fitted(chooser: Policy, model: ConceptModel, splits: Splits) -> Policy:
    """The policy with what it learns from training and validation rows; nothing from what cannot be asked about."""
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for table in (splits.train, splits.validation):
        labels = table.labels_for(model.space)
        assert labels is not None and table.y is not None
        allowed = table.askable_for(model.space)
        seen = labels if allowed is None else labels.masked_fill(~model.space.widen(allowed), torch.nan)
        parts.append((table.x, seen, table.y))
    return chooser.fitted(model, *parts[0], held=parts[1])


def _case(model: ConceptModel, splits: Splits, rows: Tensor) -> Case:
    """Test rows to be asked about."""
    test = splits.test
    c, allowed = test.labels_for(model.space), test.askable_for(model.space)
    assert c is not None and test.y is not None
    return prepared(model, test.x[rows], c[rows], y=test.y[rows], allowed=None if allowed is None else allowed[rows])


def _cut(made: Trace, rows: Array) -> Trace:
    """The trace of some rows."""
    groups = None if made.groups is None else [made.groups[i] for i in rows]
    return replace(made, y=made.y[rows], logits=made.logits[rows], values=made.values[rows], c=None, curves={}, groups=groups)


def _scores(traces: list[Trace], lines: list[Curve], ks: tuple[int, ...]) -> tuple[Points, dict[str, Any], tuple[float, Array]]:
    """Points, summary, and (area, its replicates)."""
    first = traces[0]
    main = MAIN[first.task.kind]
    weights, ones = resamples(len(first.y), groups=first.groups), np.ones((1, len(first.y)), dtype=np.float32)
    value, spread, rows = np.zeros(len(ks)), np.zeros((len(ks), len(weights))), list[dict[str, Any]]()
    for k in range(len(ks)):
        forms: dict[str, list[Any]] = {main: [main_form(made, line.answers[k].numpy()) for made, line in _pairs(traces, lines)]}
        if first.task.kind == "classes":
            width = first.task.width
            forms["balanced_accuracy"] = [
                metrics.balanced_accuracy.weighted(made.y, line.answers[k].numpy(), width)
                for made, line in _pairs(traces, lines)
            ]
        told: dict[str, Any] = {}
        for name, each in forms.items():
            seeds = [float(form.under(ones)[0]) for form in each]
            replicates = np.mean([form.under(weights) for form in each], 0)
            low, high = interval(replicates)
            told[name] = {"value": _round(np.mean(seeds)), "low": _round(low), "high": _round(high)}
            if name == main:
                value[k], spread[k] = np.mean(seeds), replicates
        share, cost = (float(np.mean([getattr(line, what)[k] for line in lines])) for what in ("shares", "costs"))
        rows.append({"k": int(ks[k]), "share": round(share, 6), "cost": round(cost, 6), **told})
    axis = np.array(ks, dtype=float) / max(ks[-1], 1)
    area = (float(metrics.area(axis, value)), metrics.area(axis, spread.T)) if len(ks) > 1 else (float(value[0]), spread[0])
    low, high = interval(area[1])
    gained = value - value[0]
    k95 = ks[int(np.flatnonzero(gained >= 0.95 * gained[-1])[0])] if gained[-1] > 0 else None
    summary = {
        "area": {"value": _round(area[0]), "low": _round(low), "high": _round(high)},
        "gain": _round(gained[-1]),
        "k95": k95,
        "harm": _round(max(_harm(made, line) for made, line in _pairs(traces, lines))),
    }
    return rows, summary, area


def _pairs(traces: list[Trace], lines: list[Curve]) -> list[tuple[Trace, Curve]]:
    return list(zip(traces, lines, strict=True))


def _harm(made: Trace, line: Curve) -> float:
    """The largest share of rows right without corrections and wrong with them; of labels, of cells."""
    if made.task.kind == "value":
        return float("nan")
    right = line.answers.numpy() == made.y
    return float(max((right[0] & ~after).mean() for after in right))


def _round(value: Any) -> float | None:
    return None if not np.isfinite(value) else round(float(value), 6)
