"""What the answers are worth: accuracy beside yardsticks, calibration, corrections, answering only when sure, and who pays."""

from __future__ import annotations

import numpy as np
import torch

from isthmus import metrics
from isthmus.audit.section import Line, Measure, NotHere, Section, number, written
from isthmus.audit.subject import Seen, Subject
from isthmus.errors import OptionError, unknown
from isthmus.evaluate import main_form
from isthmus.interventions.curve import curve, points
from isthmus.interventions.named import policy
from isthmus.interventions.policies import askable, members
from isthmus.metrics.core import Array, Metric, Weighted, interval
from isthmus.metrics.selective import asked, threshold
from isthmus.metrics.subgroups import by_group, dealt, gap

SURE = 20  # validation rows that must be as sure as the threshold
CORRECTED = 500  # rows whose corrections are followed until the model is sure


def task(subject: Subject) -> Section:
    """The main score beside the commonest answer and a probe of the features."""
    measure, made = subject.measure, subject.trace
    metric = metrics.METRICS[metrics.MAIN[subject.model.task.kind]]
    plain = subject.constant()
    form = main_form(made, made.answers)
    lines = [measure.line("task", metric, form, control=plain, control_name="the commonest answer")]
    lost = ""
    try:
        said = subject.told(subject.inputs("features"), trees=False)
    except NotHere:
        said = None
    if said is not None:
        (score, drawn), (own, draws) = measure.drawn(metric, main_form(made, said)), measure.drawn(metric, form)
        low, high = interval(drawn - draws)
        lost = f"; a linear probe of the same features reaches {score:.3f}"
        lines.append(
            Line(
                key="task_gap",
                title="lost against a linear probe",
                value=number(score - own),
                unit=metric.unit,
                better="down",
                text="score of a linear probe of the same features, strength chosen on validation rows, minus the model's",
                low=number(low),
                high=number(high),
                control=0.0,
                control_name="no loss",
                n=measure.n,
            )
        )
    return Section(
        key="task",
        title="Answers",
        question="Are the answers right?",
        definition=f"{metric.title.capitalize()} on {measure.n:,} test rows, beside one constant answer; the loss is paired.",
        lines=tuple(lines),
        meaning=f"{metric.title.capitalize()} {written(lines[0].value, '.3f')}, against {written(plain, '.3f')} of one "
        f"constant answer{lost}.",
    )


def calibration(subject: Subject) -> Section:
    """ECE of the task and of the concepts, beside a perfectly calibrated model of the same confidences."""
    if subject.model.task.kind == "value":
        raise NotHere("the task is a number: it has no probabilities")
    test, measure, draw = subject.part("test"), subject.measure, np.random.default_rng(subject.seed)
    probabilities = subject.model.task.probabilities(test.logits).double().numpy()
    lines = [
        measure.line(
            "ece",
            metrics.ece,
            metrics.ece.weighted(test.y, probabilities),
            control=float(metrics.ece(_drawn(probabilities, subject, draw), probabilities)),
            control_name="labels drawn from the model's own probabilities",
        ),
        measure.line(
            "brier",
            metrics.brier,
            metrics.brier.weighted(test.y, probabilities),
            control=float(metrics.brier(test.y, np.broadcast_to(_shares(subject), probabilities.shape))),
            control_name="training's shares for every row",
        ),
    ]
    fair = f"perfect calibration would seem off by {written(lines[0].control, '.1%')} on so few rows"
    told = f"A confidence is off by {written(lines[0].value, '.1%')} on average; {fair}"
    if test.c is not None and subject.trace.probable and subject.discrete.any():
        c, values = test.c[:, subject.discrete], test.values[:, subject.discrete]
        if ((values > 0) & (values < 1)).any() and not np.isnan(c).all():
            drawn = np.where(np.isnan(c), np.nan, draw.random(c.shape) < values)
            lines.append(
                measure.line(
                    "concept_ece",
                    metrics.concept_ece,
                    metrics.concept_ece.weighted(c, values),
                    control=float(metrics.concept_ece(drawn, values)),
                    control_name="labels drawn from the values",
                )
            )
    return Section(
        key="calibration",
        title="Calibration",
        question="Does 80 % mean 80 %?",
        definition="15 equal-width bins, L1. The control is what so few rows make of perfect calibration.",
        lines=tuple(lines),
        meaning=f"{told}.",
    )


def _shares(subject: Subject) -> Array:
    """(Y,) how often each class or label is in training."""
    y, task = subject.part("train").y, subject.model.task
    return np.bincount(y, minlength=task.width) / len(y) if task.kind == "classes" else np.nanmean(y, axis=0)


def _drawn(probabilities: Array, subject: Subject, draw: np.random.Generator) -> Array:
    if subject.model.task.kind == "labels":
        return (draw.random(probabilities.shape) < probabilities).astype(float)
    edge = probabilities.cumsum(1) > draw.random((len(probabilities), 1))
    return np.where(edge.any(1), edge.argmax(1), probabilities.shape[1] - 1)


def corrections(subject: Subject) -> Section:
    """What correcting concepts is worth, in random order."""
    subject.labels()
    result = subject.corrected
    names = ("gain_all", "curve_area", "k95")
    base = _start(result.curves)
    lines: list[Line] = []
    for key in names:
        found, metric = result.scores[key], metrics.METRICS[key]
        if "value" not in found:
            continue
        control = {"gain_all": 0.0, "curve_area": base, "k95": 0.95}[key]
        name = {"gain_all": "no gain", "curve_area": "no correction", "k95": "a straight line"}[key]
        lines.append(
            Line(key, metric.title, found["value"], metric.unit, metric.better, metric.text, found["low"], found["high"],
                 number(control), name, subject.measure.n)
        )  # fmt: skip
    if not lines:
        raise NotHere(result.scores["gain_all"].get("not_applicable", "nothing can be corrected"))
    gain = lines[0]
    told = f"Correcting every concept moves the score by {written(gain.value, '+.3f')}"
    if gain.high is not None and gain.high < 0:
        told += ": corrections harm this model"
    elif gain.low is None or gain.low <= 0:
        told += ": corrections are not shown to help this model"
    table = {
        "title": "Corrected in random order",
        "columns": ["concepts corrected", "score", "from", "to"],
        "rows": [[p["k"], p["value"], p["low"], p["high"]] for p in result.curves.get("concept", [])],
    }
    return Section(
        key="corrections",
        title="Corrections",
        question="Does a person who corrects concepts correct the answer?",
        definition="The main score after k concepts of each row were set to their labels, in random order.",
        lines=tuple(lines),
        meaning=f"{told}.",
        tables=(table,),
    )


def _start(curves: dict[str, list[dict[str, float | None]]]) -> float | None:
    found = curves.get("concept") or []
    return found[0]["value"] if found else None


def selective(subject: Subject) -> Section:
    """Answering only when sure, and the work that corrections leave."""
    subject.classes()
    measure, target = subject.measure, subject.target
    sure, right = _confidence(subject.part("validation"), subject)
    confidence, good = _confidence(subject.part("test"), subject)
    at = threshold(sure, right, target, least=SURE)
    error = 1 - float(good.mean())
    lines = [
        measure.line(
            "aurc",
            metrics.aurc,
            metrics.aurc.weighted(confidence, good),
            control=error,
            control_name="confidence that says nothing",
        )
    ]
    if np.isfinite(at):
        lines.append(
            measure.line(
                "coverage",
                metrics.coverage,
                metrics.coverage.weighted(confidence, at),
                control=float(right.mean() >= target),
                control_name="answering all or nothing",
            )
        )
        lines.append(
            measure.line(
                "selective_accuracy",
                metrics.selective_accuracy,
                metrics.selective_accuracy.weighted(confidence, good, at),
                control=target,
                control_name="the target, on validation rows",
            )
        )
        lines += _automated(subject, at)
        told = f"Answering only where validation rows were {target:.0%} right covers {written(lines[1].value)} of test rows"
    else:
        told = f"On no {SURE} validation rows or more is a confidence high enough for {target:.0%}"
    return Section(
        key="selective",
        title="Answering when sure",
        question="Which answers can be left to the model?",
        definition=f"Confidence: the answer's probability; threshold: validation's least with accuracy {target:.0%} from there "
        "on. Work automated: rows answered, less the share of concepts that a person was asked first (most uncertain first).",
        lines=tuple(lines),
        meaning=f"{told}.",
    )


def _confidence(at: Seen, subject: Subject) -> tuple[Array, Array]:
    probabilities = subject.model.task.probabilities(at.logits)
    return probabilities.amax(1).double().numpy(), (probabilities.argmax(1).numpy() == at.y)


def _automated(subject: Subject, at: float) -> list[Line]:
    """Rows asked about concept by concept until the model is sure."""
    test, model = subject.part("test"), subject.model
    if test.c is None or not len(model.space):
        return []
    rows = subject.some(CORRECTED)
    c, allowed = torch.from_numpy(test.c[rows]).float(), test.table.askable_for(model.space)
    allowed = None if allowed is None else allowed[rows]
    total = int(((askable(c, model.space, allowed).float() @ members(model.space, "concept").T) > 0).sum(1).max())
    if not total:
        return []
    budgets = points(total, 11)
    line = curve(model, test.z[rows], c, policy("ucp"), budgets, allowed=allowed, logits=True)
    assert line.logits is not None
    confidence = np.stack([model.task.probabilities(step).amax(1).double().numpy() for step in line.logits])
    first, sure = asked(confidence, at)
    share = np.array([*(k / model.space.count for k in budgets), total / model.space.count])[first]
    measure = subject.measure.of(rows)
    plain = float((confidence[0] >= at).mean())
    form = metrics.automated.weighted(share, sure)
    good = (line.answers.numpy() == test.y[rows])[np.minimum(first, len(budgets) - 1), np.arange(len(c))]
    right = metrics.selective_accuracy.weighted(sure.astype(float), good, 0.5)
    return [
        measure.line("automated", metrics.automated, form, control=plain, control_name="answering without asking"),
        measure.line(
            "automated_accuracy",
            metrics.selective_accuracy,
            right,
            title="accuracy of what is answered in the end",
            control=subject.target,
            control_name="the target",
            text="accuracy over the rows that are answered at once or after corrections; read it beside the work automated",
        ),
    ]


def subgroups(subject: Subject) -> Section:
    """The gap between groups of rows, beside groups dealt at random."""
    names = subject.by or ("class",)
    forms = _forms(subject)
    lines: list[Line] = []
    tables: list[dict[str, object]] = []
    for name in names:
        group = grouped(subject, name)
        for key, (metric, form) in forms.items():
            found = by_group(form, group)
            value = gap(found)
            if not np.isfinite(value):
                continue
            chance = dealt(form, group, times=100, seed=subject.seed)
            low, high = _gap_interval(subject.measure, metric, form, group)
            lines.append(
                Line(
                    key=f"gap_{key}_{name}",
                    title=f"{metric.title}, by {name}",
                    value=number(value),
                    unit=metric.unit,
                    better="down",
                    text=f"largest difference of {metric.title} between groups of at least 20 rows",
                    low=number(low),
                    high=number(high),
                    control=number(float(np.nanquantile(chance, 0.95))),
                    control_name="95 % of random groups of the same sizes",
                    n=subject.measure.n,
                )
            )
            tables.append(
                {
                    "title": f"{metric.title} by {name}",
                    "columns": [name, "rows", metric.title],
                    "rows": [[g, n, number(s)] for g, (n, s) in sorted(found.items(), key=lambda item: item[1][1])][:12],
                }
            )
    if not lines:
        raise NotHere(f"no two groups of at least 20 rows by {', '.join(names)}")
    wide = [line for line in lines if (line.value or 0) > (line.control or 0)]
    return Section(
        key="subgroups",
        title="Subgroups",
        question="Who pays?",
        definition="Scores by group; gaps beside those of groups of the same sizes dealt to the rows at random.",
        lines=tuple(lines),
        meaning=f"{len(wide)} of {len(lines)} gaps are wider than chance makes them"
        + (f": {', '.join(line.title for line in wide[:4])}." if wide else "."),
        tables=tuple(tables),
    )


def _forms(subject: Subject) -> dict[str, tuple[Metric, Weighted]]:
    test, kind = subject.part("test"), subject.model.task.kind
    name = metrics.MAIN[kind]
    found = {"task": (metrics.METRICS[name], main_form(subject.trace, subject.trace.answers))}
    if kind == "classes":
        found["ece"] = (metrics.ece, metrics.ece.weighted(test.y, subject.trace.probabilities))
    if test.c is not None and subject.discrete.any() and not np.isnan(test.c).all():
        found["concepts"] = (metrics.concept_accuracy, metrics.concept_accuracy.weighted(test.c, test.values, subject.kinds))
        last = subject.trace.curves.get("concept")
        if last is not None and kind == "classes":
            gained = (last.answers[-1].numpy() == test.y).astype(float) - (last.answers[0].numpy() == test.y)
            found["gain"] = (metrics.METRICS["gain_all"], metrics.METRICS["gain_all"].weighted(gained))
    return found


def _gap_interval(measure: Measure, metric: Metric, form: Weighted, group: list[str]) -> tuple[float, float]:
    """By resampled rows, around the value, 0 or more: a gap is a maximum, which resampling widens."""
    names = [name for name, (n, _) in by_group(form, group).items() if n]
    rows = np.asarray(group)
    each = [measure.drawn(metric, _Part(form, rows == name))[1] for name in names]
    drawn = np.nanmax(each, axis=0) - np.nanmin(each, axis=0)
    low, high = interval(drawn, around=gap(by_group(form, group)))
    return max(low, 0.0), min(high, metric.high - metric.low)


class _Part:
    """A score over some of its rows."""

    def __init__(self, form: Weighted, mask: Array) -> None:
        self.form, self.mask = form, mask.astype(float)

    def under(self, weights: Array) -> Array:
        return self.form.under(weights * self.mask)


def grouped(subject: Subject, name: str) -> list[str]:
    """The group of each test row: a fact, a concept's label, a label's own column, or 'class'."""
    table, space = subject.part("test").table, subject.splits.space
    facts = table.facts or {}
    if name == "class":
        subject.classes()
        return [subject.model.task.names[label] for label in subject.part("test").y]
    if name in facts and len(np.shape(facts[name])) == 1:
        cells = [cell if isinstance(cell, str) else f"{float(cell):g}" for cell in facts[name]]
        return ["unknown" if cell in ("nan", "unknown") else f"{name}={cell}" for cell in cells]
    if name in space.names and table.c is not None:
        concept, part = space.concepts[space.index(name)], space.slices[space.index(name)]
        block = table.c[:, part].numpy()
        if concept.kind == "continuous":
            raise OptionError(f"--by {name}: expected groups, got a number; cut it into states first")
        told = ("no", "yes") if concept.kind == "binary" else concept.states
        code = (block[:, 0] > 0.5).astype(int) if concept.kind == "binary" else np.nan_to_num(block).argmax(1)
        return ["unknown" if np.isnan(row[0]) else f"{name}={told[k]}" for row, k in zip(block, code, strict=True)]
    raise unknown("group of rows", name, ("class", *facts, *space.names))
