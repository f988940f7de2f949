"""Model + rows -> trace (arrays) -> named scores with intervals. No method is named here: abilities decide what applies."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isthmus import metrics, registry
from isthmus.data.table import Splits, Table
from isthmus.metrics.concept import Kinds, baseline, decided
from isthmus.metrics.core import Array, Metric, Weighted, interval, resamples
from isthmus.model import ConceptModel
from isthmus.trace import Trace, kinds_of, trace
from isthmus.worded import tie_of, tied_suffix

REPLICATES = 1000
INTERVAL = (
    "95 %, percentile bootstrap of 1000 over test rows (whole groups where there are any) of the mean over seeds; "
    "of ECE, which resampling biases, centred on the value"
)
MAIN = metrics.MAIN


def forms(made: Trace) -> dict[str, Weighted | str]:
    """Every score in a form that can be bootstrapped, or the reason why it does not apply."""
    return _task_forms(made) | _concept_forms(made)


def _task_forms(made: Trace) -> dict[str, Weighted | str]:
    y, answers, width = made.y, made.answers, made.task.width
    if made.task.kind == "value":
        return {name: metrics.METRICS[name].weighted(y, answers) for name in ("r2", "mae", "rmse")}
    found: dict[str, Weighted | str] = {
        "accuracy": metrics.accuracy.weighted(y, answers),
        "macro_f1": metrics.macro_f1.weighted(y, answers, width),
    }
    if made.said is None:
        probabilities = made.probabilities
        found["auroc"] = metrics.auroc.weighted(y, probabilities)
        found["ece"] = metrics.ece.weighted(y, probabilities)
        found["brier"] = metrics.brier.weighted(y, probabilities)
    if made.task.kind == "classes":
        found["balanced_accuracy"] = metrics.balanced_accuracy.weighted(y, answers, width)
    return found


def _concept_forms(made: Trace) -> dict[str, Weighted | str]:
    names = ("concept_accuracy", "concept_macro_f1", "concept_auroc", "concept_all_right", "concept_ece")
    c, values = made.c, made.values
    found: dict[str, Weighted | str] = dict.fromkeys(names, "")
    if not len(made.space):
        found = dict.fromkeys(names, "no concepts")
        found |= {"bypass": "no concepts: everything passes"}
        return found
    assert made.crossed is not None
    if c is None:
        found = dict.fromkeys(names, "no labels for these concepts")
    else:
        kinds = kinds_of(made.space)
        found = dict.fromkeys(names, "continuous concepts only")
        if kinds.binary or kinds.blocks:
            found = {name: metrics.METRICS[name].weighted(c, values, kinds) for name in names[:4]}
            discrete = [k for k in range(values.shape[1]) if not bool(made.space.continuous[k])]
            soft = made.probable and bool(((values[:, discrete] > 0) & (values[:, discrete] < 1)).any())
            plain = metrics.concept_ece.weighted(c[:, discrete], values[:, discrete]) if soft else None
            found["concept_ece"] = plain or "values are not probabilities"
        if kinds.continuous:
            found["concept_error"] = metrics.concept_error.weighted(c, values, kinds)
    return found | {"bypass": metrics.bypass.weighted(made.crossed)}


@dataclass
class Scored:
    """Scores of one method over its seeds: plain data, and the replicates that paired differences need."""

    scores: dict[str, dict[str, Any]]
    curves: dict[str, list[dict[str, float | None]]]
    replicates: dict[str, Array]


def main_form(made: Trace, answers: Array) -> Weighted:
    """The task's main score for other answers on the same rows."""
    form = _task_forms(replace(made, said=answers))[MAIN[made.task.kind]]
    assert not isinstance(form, str)
    return form


def scored(traces: list[Trace], against: Scored | None = None, *, only: Collection[str] | None = None) -> Scored:
    """Scores of a method over its seeds, with intervals; ``against`` (the black box) gives paired differences.

    ``only``: the names of the row scores wanted, all by default.
    """
    first = traces[0]
    weights = resamples(len(first.y), REPLICATES, groups=first.groups)
    ones = np.ones((1, len(first.y)), dtype=np.float32)
    every = [forms(made) for made in traces]
    scores: dict[str, dict[str, Any]] = {}
    replicates: dict[str, Array] = {}
    for name, form in every[0].items():
        if only is not None and name not in only:
            continue
        if isinstance(form, str):
            scores[name] = {"not_applicable": form}
            continue
        count = metrics.METRICS[name].replicates
        seeds = [f[name].under(ones)[0] for f in every]  # type: ignore[union-attr]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            replicates[name] = np.mean([f[name].under(weights[:count]) for f in every], 0)  # type: ignore[union-attr]
        scores[name] = _score(seeds, replicates[name], metrics.METRICS[name])
    curves = _curve_scores(traces, weights, ones, scores, replicates)
    _plain_scores(traces, scores)
    for name, score in scores.items():
        base = None if against is None else against.replicates.get(name)
        if against is None or base is None or not {"value"} <= score.keys() & against.scores[name].keys():
            continue
        if name in replicates and metrics.METRICS[name].of == "task":
            value = score["value"] - against.scores[name]["value"]
            low, high = interval(replicates[name] - base, around=value if metrics.METRICS[name].centred else None)
            score["difference"] = {"value": _number(value), "low": _number(low), "high": _number(high)}
    return Scored(scores, curves, replicates)


def _number(value: float) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 6)


def _score(seeds: list[float], replicates: Array | None = None, metric: Metric | None = None) -> dict[str, Any]:
    value = float(np.mean(seeds))
    if not np.isfinite(value):
        return {"not_applicable": "undefined on these rows"}
    low = high = None
    if replicates is not None and metric is not None and metric.centred:
        low, high = (min(max(edge, metric.low), metric.high) for edge in interval(replicates, around=value))
    elif replicates is not None:
        low, high = interval(replicates)
    return {
        "value": _number(value),
        "low": None if low is None else _number(low),
        "high": None if high is None else _number(high),
        "seeds": [_number(s) for s in seeds],
        "spread": _number(float(np.std(seeds, ddof=1))) if len(seeds) > 1 else None,
        "difference": None,
    }


def _curve_scores(
    traces: list[Trace], weights: Array, ones: Array, scores: dict[str, Any], replicates: dict[str, Array]
) -> dict[str, list[dict[str, float | None]]]:
    """Points of each curve with intervals; area, gain and k95 of the curve by concept."""
    names = ("curve_area", "gain_all", "k95")
    if not traces[0].curves:
        reason = "no concepts" if not len(traces[0].space) else "no labels for these concepts"
        scores.update({name: {"not_applicable": reason} for name in names})
        return {}
    found: dict[str, list[dict[str, float | None]]] = {}
    for level, line in traces[0].curves.items():
        point = np.zeros((len(traces), len(line.counts)))
        spread = np.zeros((len(line.counts), len(weights)))
        for s, made in enumerate(traces):
            for k, answers in enumerate(made.curves[level].answers.numpy()):
                form = main_form(made, answers)
                point[s, k] = form.under(ones)[0]
                spread[k] += form.under(weights) / len(traces)
        shares, mean = np.mean([made.curves[level].shares for made in traces], 0), point.mean(0)
        rows = zip(line.counts, shares, mean, spread, strict=True)
        found[level] = [
            {"k": int(k), "share": round(float(share), 6), "value": _number(v), "low": _number(low), "high": _number(high)}
            for k, share, v, r in rows
            if np.isfinite(v)
            for low, high in [interval(r)]
        ]
        if not np.isfinite(point).all():
            scores.update({name: {"not_applicable": "the task's score is undefined on these rows"} for name in names})
        elif level == "concept":
            replicates["curve_area"] = metrics.area(shares, spread.T)
            scores["curve_area"] = _score(list(metrics.area(shares, point)), replicates["curve_area"])
            scores["gain_all"] = _score(list(point[:, -1] - point[:, 0]), spread[-1] - spread[0])
            gains = (scores["gain_all"].get("low") or 0.0) > 0
            scores["k95"] = _score([metrics.smallest(shares, mean)]) if gains else {"not_applicable": "no gain beyond chance"}
    return found


def _plain_scores(traces: list[Trace], scores: dict[str, Any]) -> None:
    """Scores without rows: NEC of linear heads, seconds."""
    if traces[0].weights is not None and len(traces[0].space):
        scores["nec"] = _score([metrics.nec(made.weights) for made in traces])
    else:
        scores["nec"] = {
            "not_applicable": "no concepts" if not len(traces[0].space) else "the head has no weight for each class and concept"
        }
    seconds = [made.seconds for made in traces if made.seconds is not None]
    if seconds:
        scores["fit_seconds"] = _score(seconds)


def concept_rows(traces: list[Trace]) -> list[dict[str, Any]]:
    """One row for each labelled concept: known labels, rate, accuracy, F1, and the majority rate beside."""
    first = traces[0]
    if first.c is None:
        return []
    rows: list[dict[str, Any]] = []
    for concept, part in zip(first.space.concepts, first.space.slices, strict=True):
        c = first.c[:, part]
        row = {
            "name": concept.name,
            "kind": concept.kind,
            "group": concept.group,
            "known": int((~np.isnan(c[:, 0])).sum()),
        }
        if concept.kind == "continuous" or not row["known"]:
            rows.append(row | {"rate": None, "accuracy": None, "f1": None, "majority": None})
            continue
        binary = concept.kind == "binary"
        kinds = Kinds((0,), ()) if binary else Kinds((), (tuple(range(concept.width)),))
        known = c[~np.isnan(c[:, 0])]
        share = np.r_[known.mean(0), 1 - known.mean(0)] if binary else known.mean(0)
        values = [made.values[:, part] for made in traces]
        right = [decided(c, v, kinds)[0].sum() / row["known"] for v in values]
        f1 = [metrics.concept_macro_f1(c, v, kinds) for v in values]
        rows.append(
            row
            | {
                "rate": _number(float(known.mean(0)[0])) if binary else None,
                "accuracy": _number(float(np.mean(right))),
                "f1": _number(float(np.mean(f1))),
                "majority": _number(float(share.max())),
            }
        )
    return rows


def confusion(traces: list[Trace]) -> list[list[int]] | None:
    """(Y, Y) counts, truth by answer, summed over seeds; None unless classes."""
    if traces[0].task.kind != "classes":
        return None
    size = traces[0].task.width
    total = sum(np.bincount(made.y * size + made.answers, minlength=size * size) for made in traces)
    return np.asarray(total).reshape(size, size).tolist()


def class_level(table: Table) -> bool | None:
    """Are the concept labels one vector for each class? Then corrections reveal the class.

    True when every class that occurs has exactly one distinct vector. None when it cannot be told: no classes, no concept
    labels, a class without a fully known vector, or no class with two of them.
    """
    if table.c is None or table.y is None or not table.c.numel() or table.task is None or table.task.kind != "classes":
        return None
    c, y = table.c.numpy(), table.y.numpy()
    known = ~np.isnan(c)
    counts: list[int] = []
    for each in np.unique(y):
        mine, there = c[y == each], known[y == each]
        high, low = (np.where(there, mine, edge) for edge in (-np.inf, np.inf))
        if (high.max(0) > low.min(0)).any():
            return False
        counts.append(int(there.all(1).sum()))
    return True if min(counts) >= 1 and max(counts) >= 2 else None


def describe_data(data: Table, name: str, splits: Splits | None = None) -> dict[str, Any]:
    """What a report says of the data: rows, concepts, task, licence, and the two rates every score is read against."""
    assert data.task is not None and data.y is not None
    train = data if splits is None else splits.train
    c = data.c
    constant = float("nan")
    if c is not None and not bool(c.isnan().all()):
        constant = baseline(c.numpy(), kinds_of(data.space), None if train.c is None else train.c.numpy())
    card = None if splits is None else splits.card
    majority = None
    if data.task.kind == "classes":
        counts = np.bincount((train if train.y is not None else data).y.numpy(), minlength=data.task.width)  # type: ignore[union-attr]
        majority = float((data.y.numpy() == counts.argmax()).mean())  # what answering training's commonest class would get
    rows = {"test": len(data)} if splits is None else {
        part: len(getattr(splits, part)) for part in ("train", "validation", "test")
    }  # fmt: skip
    return {
        "name": name,
        "title": card.title if card else name,
        "licence": card.licence if card else "",
        "terms": card.terms if card else "",
        "synthetic": bool(card and card.source.startswith("generated")),
        "rows": rows,
        "concepts": data.space.count,
        "columns": len(data.space),
        "groups": len(data.space.groups),
        "task": {"kind": data.task.kind, "names": list(data.task.names), "unit": data.task.unit},
        "majority": _number(majority) if majority is not None else None,
        "all_absent": _number(constant),
        "complete": None if c is None or not c.numel() else _number(float((~c.isnan()).float().mean())),
        "class_level": class_level(train),
    }


@dataclass
class Evaluation:
    """Scores of one model on rows, as plain data (schema ``isthmus.evaluation/1``)."""

    data: dict[str, Any]

    @property
    def scores(self) -> dict[str, float]:
        """Each score that applies, by name."""
        return {name: s["value"] for name, s in self.data["scores"].items() if "value" in s}

    def __getitem__(self, name: str) -> float:
        return self.scores[name]


def evaluate(model: ConceptModel, table: Table, *, seed: int = 0, name: str = "data") -> Evaluation:
    """Score a fitted model on rows with labels: task, concepts, correction curve, bypass, calibration, sparsity."""
    made = trace(model, table, seed=seed)
    result = scored([made])
    method = registry.get(model.origin["method"]) if model.origin else None
    card = None if method is None else method.card
    tie = tie_of(model)
    said = tied_suffix(method, tie, model.task) if method else ""
    row = {
        "name": method.name + said if method else "model",
        "method": method.name if method else None,
        "title": card.title + said if card else "model",
        "paper": card.paper if card else "",
        "family": card.family if card else "",
        "options": dict(model.origin.get("options", {})),
        "sealed": card.sealed if card else None,
        "exempt": {str(k): v for k, v in card.exempt.items()} if card else {},
        "notes": card.notes if card else "",
        "scores": result.scores,
        "curves": result.curves,
        "concepts": concept_rows([made]),
        "confusion": confusion([made]),
        "history": model.history,
        "words": None if tie is None else {"words": model.space.count, "aligned": tie},
    }
    described: dict[str, Callable[..., Any] | Any] = {k: m.described for k, m in metrics.METRICS.items() if k in result.scores}
    return Evaluation(
        {
            "schema": "isthmus.evaluation/1",
            "data": describe_data(table, name),
            "interval": INTERVAL,
            "main": MAIN[model.task.kind],
            "metrics": described,
            **row,
        }
    )
