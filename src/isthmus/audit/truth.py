"""Are the concepts what they say? Read right, present where they count, important to the right classes, in the right place."""

from __future__ import annotations

import numpy as np
import torch

from isthmus import metrics
from isthmus.audit.pictures import embedded, sheet
from isthmus.audit.section import Line, Measure, NotHere, Section, beyond, number, over, written
from isthmus.audit.subject import Subject
from isthmus.errors import IsthmusError
from isthmus.evaluate import class_level, concept_rows
from isthmus.maps import maps
from isthmus.metrics.concept import Kinds
from isthmus.metrics.core import Array
from isthmus.metrics.importance import averages, frequencies, global_importance, top

TOPS, ALPHAS = (1, 3, 5), (1, 3, 6)
PLACED, LOOKED, SHEETS = 150, 6, 3  # rows, and concepts of each, whose place is looked for; rows that are drawn
NEAR = 0.01  # accuracy by which a concept must pass its commonest answer to be read better, or worse


def concepts(subject: Subject) -> Section:
    """Accuracy and F1 of the concepts beside the commonest answer."""
    c, values, measure, kinds = subject.labels(), subject.part("test").values, subject.measure, subject.kinds
    lines: list[Line] = []
    if kinds.binary or kinds.blocks:
        plain = _commonest(c, subject.part("train").c, kinds)
        for key, floor, name in (
            ("concept_accuracy", plain, "the commonest answer for each concept"),
            ("concept_macro_f1", 0.0, "absent everywhere"),
            ("concept_auroc", 0.5, "chance"),
        ):
            metric = metrics.METRICS[key]
            lines.append(measure.line(key, metric, metric.weighted(c, values, kinds), control=floor, control_name=name))
    if kinds.continuous:
        error, train = metrics.concept_error, subject.part("train").c
        mean = c if train is None else np.broadcast_to(np.nanmean(train, axis=0), c.shape)
        form = error.weighted(c, values, kinds)
        lines.append(measure.line("concept_error", error, form, control=error(c, mean, kinds), control_name="training's mean"))
    rows = [row for row in concept_rows([subject.trace]) if row["f1"] is not None]
    worst = sorted(rows, key=lambda row: row["f1"])[:8]
    lead = [row["accuracy"] - row["majority"] for row in rows]
    above, below = sum(each > NEAR for each in lead), sum(each < -NEAR for each in lead)
    table = {
        "title": "Concepts read worst",
        "columns": ["concept", "known", "accuracy", "commonest answer", "F1"],
        "rows": [[row[key] for key in ("name", "known", "accuracy", "majority", "f1")] for row in worst],
    }
    return Section(
        key="concepts",
        title="Concepts",
        question="Is each concept read right?",
        definition="Values against labels, unknown ones left out, beside one constant answer for each concept.",
        lines=tuple(lines),
        meaning=f"{above} of {len(rows)} concepts are read better than their commonest answer would be, {below} worse."
        if rows
        else "Numbers only: read the error beside the spread of each.",
        tables=(table,) if worst else (),
    )


def _commonest(c: Array, train: Array | None, kinds: Kinds) -> float:
    """Concept accuracy of training's commonest answer for each concept: present where most rows have it."""
    rate = np.nanmean(c if train is None else train, axis=0)
    answer = np.broadcast_to((rate > 0.5).astype(float), c.shape).copy()
    for block in kinds.blocks:
        answer[:, block] = np.eye(len(block))[int(rate[list(block)].argmax())]
    return metrics.concept_accuracy(c, answer, kinds)


def existence(subject: Subject) -> Section:
    """Are the concepts that speak most for an answer in the row?"""
    c = subject.labels()
    weight, how = subject.importance()
    columns = _columns(subject)
    c, weight, known = c[:, columns], weight[:, columns], ~np.isnan(c[:, columns])
    if not known.any():
        raise NotHere("no label of a concept that is present or not is known")
    rate = float((c > 0.5).sum() / known.sum())
    lines = [
        subject.measure.line(
            f"existence@{most}",
            metrics.existence,
            metrics.existence.weighted(c, weight, most),
            title=f"existence@{most}",
            control=rate,
            control_name="a concept taken at random: the rate of presence",
        )
        for most in TOPS
        if most <= len(columns)
    ]
    shared = class_level(subject.splits.train)
    level = " Labels are one vector for each class, so this measures how often a class has a concept." if shared else ""
    return Section(
        key="existence",
        title="Existence",
        question="Are the concepts that an answer rests on there?",
        definition=f"Share of the l weightiest concepts that the row's own labels have; weight: {how}.",
        lines=tuple(lines),
        meaning=f"Of the concepts that speak most for an answer {written(lines[0].value)} are in the row; taken at random "
        f"{rate:.0%} would be{_more(lines[0])}.{level}",
    )


def _more(line: Line) -> str:
    """What a sentence adds where the interval does not lie above the control."""
    return "" if beyond(line) else ": it is not shown to be more"


def _columns(subject: Subject) -> Array:
    """Columns that are present or not."""
    found = np.flatnonzero(subject.discrete)
    if not len(found):
        raise NotHere("no concept is present or not: numbers only")
    return found


def importance(subject: Subject) -> Section:
    """Are concepts important to the classes that have them?"""
    c, y, space, width = subject.labels("train"), subject.classes(), subject.model.space, subject.model.task.width
    weights = getattr(subject.model.head, "weights", None)
    if not isinstance(weights, torch.Tensor):
        raise NotHere("the head has no weight for each class and concept")
    columns, test = _columns(subject), subject.part("test")
    v = frequencies(c, subject.part("train").y, width)[columns]
    u = averages(test.values, y, test.logits.argmax(1).numpy(), width)[columns]
    w = weights.detach().cpu().double().numpy().T[columns]
    found, mixed = global_importance(w, u, v), global_importance(w, u, np.roll(v, 1, axis=0))
    what = {"CGIM1": "weights", "CGIM2": "mean values of rows decided rightly", "CGIM3": "their product"}
    lines: list[Line] = []
    for key, each in found.items():
        value, low, high = over(each, seed=subject.seed)
        lines.append(
            Line(
                key=key.lower(),
                title=key,
                value=number(value),
                unit="cosine",
                better="up",
                text=f"cosine over classes of {what[key]} and of how often a class has the concept",
                low=number(low),
                high=number(high),
                control=number(over(mixed[key])[0]),
                control_name="another concept's frequencies",
                n=len(columns),
            )
        )
    least = np.argsort(np.nan_to_num(found["CGIM1"], nan=2))[:5]
    table = {
        "title": "Concepts weighed least like their classes",
        "columns": ["concept", *found],
        "rows": [[space.columns[columns[k]], *(number(float(found[key][k])) for key in found)] for k in least],
    }
    return Section(
        key="importance",
        title="Global importance",
        question="Do classes weigh the concepts that they have?",
        definition="Cosines over classes, one concept at a time, training rows' frequencies; the interval is over concepts.",
        lines=tuple(lines),
        meaning="Whether weights follow the classes' own concepts is not defined: no concept has both weights and frequencies."
        if lines[0].value is None
        else f"Weights follow the classes' own concepts with a cosine of {lines[0].value:.2f}; with another concept's "
        f"frequencies it would be {written(lines[0].control, '.2f')}{_more(lines[0])}.",
        tables=(table,),
    )


def location(subject: Subject) -> Section:
    """Do concepts look where they are?"""
    subject.need_strip()
    table = subject.part("test").table
    if table.where is None or table.labels_for(subject.model.space) is None:
        raise NotHere("the data say nowhere where a concept is (no boxes)")
    names = [subject.splits.space.columns.index(name) for name in subject.model.space.columns]
    every = table.where[:, names].double().numpy()
    rows = subject.some(PLACED, among=np.flatnonzero(~np.isnan(every).all((1, 2))))
    if not len(rows):
        raise NotHere("no concept has a place in these rows")
    x, boxes = table.take(rows).read(), every[rows]
    if not isinstance(x, torch.Tensor) or x.ndim != 4:
        raise NotHere("inputs are no pictures of one size")
    present = np.asarray(~np.isnan(boxes).any(-1))
    here = _few(present, subject.seed)
    size, measure = (int(x.shape[2]), int(x.shape[3])), subject.measure.of(rows)
    shown, own = _shown(subject, x, here), np.take_along_axis(boxes, here[..., None], 1)
    dealt = np.random.default_rng(subject.seed).permutation(len(rows))
    filled = np.where(np.isnan(own), np.nanmean(own, (0, 1)), own)
    other = np.empty_like(own)
    other[dealt] = filled[np.roll(dealt, 1)]
    other[np.isnan(own)] = np.nan
    lines = [
        measure.line(
            key,
            metrics.METRICS[key],
            metrics.METRICS[key].weighted(shown, own, size),
            control=metrics.METRICS[key](shown, other, size),
            control_name="boxes of another picture",
        )
        for key in ("pointing", "pointing_distance", "mass_inside")
    ]
    lines += _top_places(subject, measure, rows, x, boxes, size)
    return Section(
        key="location",
        title="Location",
        question="Do concepts look at their own place?",
        definition="Maps (the model's own, else integrated gradients, absolute) of present concepts against their boxes, "
        f"of at most {LOOKED} of a row, drawn, on at most {PLACED} rows; location@l: of the l weightiest (equals drawn) "
        "those with a place in the row, in the alpha twelfths of the picture marked most. n: rows that count.",
        lines=tuple(lines),
        pictures=_sheets(subject, rows, x, shown, here, own),
        meaning=f"A map's peak lies in the concept's own box for {written(lines[0].value)} of present concepts; boxes of "
        f"another picture would hold it for {written(lines[0].control)}{_more(lines[0])}.",
    )


def _few(present: Array, seed: int) -> Array:
    """(n, at most LOOKED) columns of each row, of present (n, K) bool: those drawn that are, in order, then others."""
    most = int(min(present.sum(1).max(), LOOKED))
    drawn = np.where(present, np.random.default_rng(seed).random(present.shape), 2)
    found = np.sort(np.argsort(drawn, axis=1, kind="stable")[:, :most], axis=1)
    return np.take_along_axis(found, np.argsort(~np.take_along_axis(present, found, 1), axis=1, kind="stable"), 1)


def _sheets(
    subject: Subject, rows: Array, x: torch.Tensor, shown: Array, here: Array, own: Array
) -> tuple[dict[str, str], ...]:
    """The first pictures with where their present concepts look."""
    if x.dtype != torch.uint8:
        return ()
    found: list[dict[str, str]] = []
    for at in range(min(SHEETS, len(rows))):
        there = np.flatnonzero(~np.isnan(own[at]).any(-1))
        names = [subject.model.space.columns[k] for k in here[at][there]]
        png = sheet(x[at].numpy(), shown[at][there], names, own[at][there])
        found.append({"title": f"test row {int(rows[at])}: maps of its concepts, boxes in white", "src": embedded(png)})
    return tuple(found)


def _shown(subject: Subject, x: torch.Tensor, index: Array) -> Array:
    try:
        found = maps(subject.model, x, torch.from_numpy(np.ascontiguousarray(index)), steps=16).abs().double().numpy()
    except IsthmusError as error:
        raise NotHere(str(error).removeprefix("maps: ")) from error
    if found.ndim != 4:
        raise NotHere("inputs are no pictures")
    return found


def _top_places(
    subject: Subject, measure: Measure, rows: Array, x: torch.Tensor, boxes: Array, size: tuple[int, int]
) -> list[Line]:
    """location@l of the concepts that speak most for the answer; none where the head offers no contributions."""
    try:
        weight = subject.importance()[0][rows]
    except NotHere:
        return []
    index = top(weight, min(TOPS[-1], weight.shape[1]), seed=subject.seed)
    shown, own = _shown(subject, x, index), np.take_along_axis(boxes, index[..., None], 1)
    return [
        measure.line(
            f"location@{most}_a{alpha}",
            metrics.location,
            metrics.location.weighted(shown[:, :most], own[:, :most], size, alpha),
            title=f"location@{most}, alpha {alpha}",
            control=alpha / 12,
            control_name="chance",
        )
        for most in TOPS
        if most <= index.shape[1]
        for alpha in ALPHAS
    ]
