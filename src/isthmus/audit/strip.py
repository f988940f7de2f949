"""What passes beside the strip and what hides in it: bypass and leakage, impurity, how codes and concepts line up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from isthmus import metrics
from isthmus.audit.section import Line, NotHere, Section, beyond, number, widened, written
from isthmus.audit.subject import Subject
from isthmus.metrics import disentanglement as d
from isthmus.metrics.concept import Kinds, decided, hard
from isthmus.metrics.core import Array, Sums, Weighted, interval, resamples
from isthmus.metrics.leakage import NEIGHBOURS, rows_of_pairs, task_leakage, unleaked
from isthmus.metrics.purity import halves, mispredicted

ALIGNED = 1000  # rows on which codes and concepts are lined up
SLOWEST = 30  # concepts for which boosted trees are fitted without ``full``
REFITTED = 5  # half-samples of DCI, each of which fits its trees anew
SIDE = 10  # rows of either half below which nothing is fitted or measured
GROUPS = 5  # groups below which their resamples say nothing of others
SHOWN, LEAST = 8, 0.005  # concepts of the table of leaks, and by how much they must pass clean values
UNMOVED = 0.01  # share of answers below which nothing to speak of changes
DEALT = "the same values dealt anew among rows with the same label"


def leaks(subject: Subject) -> Section:
    """Bypass and leakage, never one without the other."""
    subject.need_strip()
    made, measure, test = subject.trace, subject.measure, subject.part("test")
    assert made.crossed is not None
    moved = _moved(test.logits.numpy(), subject)
    lines = [
        measure.line(
            "bypass", metrics.bypass, metrics.bypass.weighted(made.crossed), control=moved,
            control_name="answers that change when nothing is held",
        )
    ]  # fmt: skip
    why, tables = "", list[dict[str, Any]]()
    if test.c is None or np.isnan(test.c).all():
        why = "Leakage needs labels for these concepts, and the data have none."
    else:
        clean = unleaked(test.c, test.values, subject.kinds, seed=subject.seed)
        if subject.model.task.kind == "value":
            why = "CTL divides by the entropy of the task, which a number does not have."
        else:
            form, control = (metrics.ctl.weighted(test.y, test.c, v, subject.kinds) for v in (test.values, clean))
            floor = float(control.under(np.ones((1, measure.n)))[0])
            n = known_rows(test.c)
            lines.append(measure.line("ctl", metrics.ctl, form, control=floor, control_name=DEALT, k=NEIGHBOURS, n=n))
            tables = _most(subject, test.c, form, control)
        lines += _between(subject, test.c, test.values, clean)
    return Section(
        "leaks", "Bypass and leakage", "Does the answer come from the concepts, and do they say only what their names say?",
        "Bypass: what goes around the strip. CTL, ICL: what hides inside its values of the task and of other concepts. ICL "
        "divides values that are measured by psi(n) - psi(k), labels by their entropies: where labels are correlated the first "
        "can hide what values share. Of decided concepts both divisors are entropies: read the two together.",
        tuple(lines), f"{_leaking(lines, subject.worth)} {why}".strip(), tables=tuple(tables),
    )  # fmt: skip


def _most(subject: Subject, c: Array, form: Weighted, control: Weighted) -> list[dict[str, Any]]:
    """The concepts whose values say most of the task beyond their labels, if any does beyond clean ones."""
    kinds, measure, space = subject.kinds, subject.measure, subject.model.space
    first = [*kinds.binary, *(block[0] for block in kinds.blocks), *(k for k, _ in kinds.continuous)]
    name = {part.start: concept.name for concept, part in zip(space.concepts, space.slices, strict=True)}
    value, clean = task_leakage(form), task_leakage(control)
    with np.errstate(all="ignore"):
        drawn = task_leakage(form, resamples(measure.n, metrics.ctl.replicates, groups=measure.groups))
    rows: list[list[Any]] = []
    for m in np.argsort(-np.nan_to_num(value), kind="stable")[:SHOWN]:
        low, high = interval(drawn[:, m], around=float(value[m]))
        if value[m] > clean[m] + LEAST and low > clean[m]:
            known = int((~np.isnan(c[:, first[m]])).sum())
            rows.append([name[first[m]], known, *(number(float(v)) for v in (value[m], low, high, clean[m]))])
    columns = ["concept", "known", "CTL", "from", "to", "clean"]
    return [{"title": "Concepts that leak most of the task", "columns": columns, "rows": rows}] if rows else []


def _between(subject: Subject, c: Array, values: Array, clean: Array) -> list[Line]:
    """ICL of the values, and of what they decide."""
    kinds, measure, lines = subject.kinds, subject.measure, list[Line]()
    told = "the same of decided concepts (present or not, the state): divisors alike, but it sees no more than decisions show"
    for key, title, text, of, a, b in (
        ("icl", None, None, kinds, values, clean),
        ("icl_decided", "ICL, decided", told, Kinds(kinds.binary, kinds.blocks), hard(values, kinds), hard(clean, kinds)),
    ):
        if len(of.binary) + len(of.blocks) + len(of.continuous) < 2:
            continue
        form, control = (metrics.icl.weighted(c, v, of) for v in (a, b))
        assert isinstance(form, Sums)
        floor = float(control.under(np.ones((1, measure.n)))[0])
        lines.append(
            measure.line(key, metrics.icl, form, title=title, text=text, control=floor, control_name=DEALT,
                         k=NEIGHBOURS if key == "icl" else None, n=rows_of_pairs(form))
        )  # fmt: skip
    return lines


def known_rows(c: Array) -> int:
    """Rows with a label, in the middle of the concepts: what an estimate is made of where some are unknown."""
    return int(np.median((~np.isnan(c)).sum(0)))


def _moved(logits: Array, subject: Subject) -> float:
    said = subject.model.task.predict(torch.from_numpy(logits)).numpy()
    other = np.roll(said[np.random.default_rng(subject.seed).permutation(len(said))], 1, axis=0)
    if subject.model.task.kind == "value":
        return float((np.abs(said - other) > 0.01 * subject.model.task.scale).mean())
    changed = said != other
    return float((changed if changed.ndim == 1 else changed.any(1)).mean())


def _leaking(lines: list[Line], worth: dict[str, float | None]) -> str:
    """What the numbers say together; ``worth``: the score gained when every concept is corrected, with its interval, if any."""
    found = {line.key: line for line in lines}
    bypass, free = found["bypass"].value or 0.0, found["bypass"].control or 0.0
    if bypass > UNMOVED:
        told = [f"{bypass:.0%} of answers change with the input while every concept is held: correcting concepts is not enough"]
    elif free <= UNMOVED:
        told = [f"whether anything goes around the concepts cannot be told: {free:.0%} of answers change when nothing is held"]
    else:
        gain, low = worth.get("value"), worth.get("low")
        told = [f"nothing to speak of is seen to go around the concepts ({free:.0%} of answers change when they are not held)"]
        if gain is not None and low is not None and low > 0:
            told.append(f"correcting all of them moves the score by {gain:+.3f}")
        elif gain is not None:
            told.append(f"yet correcting all of them is not shown to raise the score ({gain:+.3f})")
    for key, what in (("ctl", "of the task"), ("icl", "of each other")):
        line = found.get(key)
        if line is None or line.value is None:
            continue
        floor = line.control or 0.0
        above = line.low is not None and line.low > floor + LEAST
        say = "say" if above else "are not shown to say"
        hidden = "" if above or key == "ctl" else ", which correlated labels can hide"
        told.append(f"values {say} more {what} than their labels do ({line.value:.3f}, clean {floor:.3f}){hidden}")
    line = found.get("icl_decided")
    if line is not None and line.value is not None and line.low is not None and line.low > (line.control or 0.0) + LEAST:
        told.append(f"decisions go together more than labels do ({line.value:.3f}, clean {line.control or 0:.3f})")
    return "; ".join(told).capitalize() + "."


def impurity(subject: Subject) -> Section:
    """OIS, NIS, and rows with several wrong concepts."""
    c, test, measure = subject.labels(), subject.part("test"), subject.measure
    columns = np.flatnonzero(subject.discrete)
    if len(columns) < 2:
        raise NotHere("purity needs two or more concepts that are present or not")
    c, values = c[:, columns], test.values[:, columns]
    if np.isnan(c).all():
        raise NotHere("no label of a concept that is present or not is known")
    clean = unleaked(test.c if test.c is not None else c, test.values, subject.kinds, seed=subject.seed)[:, columns]
    at, lines = {int(k): i for i, k in enumerate(columns)}, list[Line]()
    blocks = [[at[k] for k in block] for block in subject.kinds.blocks]
    niche = {"blocks": blocks, "groups": measure.groups}
    for key, metric, floor, name, more in (
        ("ois", metrics.ois, metrics.ois(c, clean), DEALT, {}),
        ("nis", metrics.nis, metrics.nis(c, values, asked=clean, **niche), f"the same predictors and niches, {DEALT}", niche),
    ):
        form = metric.weighted(c, values, **more)
        lines.append(measure.line(key, metric, form, control=floor, control_name=name, n=known_rows(c)))
    lines = _told_apart(lines, halves(measure.n, groups=measure.groups), measure.groups)
    right, known = decided(test.c if test.c is not None else c, test.values, subject.kinds)
    wrong = mispredicted(right, known)
    rows = [[m, number(float(share))] for m, share in enumerate(wrong) if m and (share > 0 or m < 4)][:12]
    worst = f"{wrong[1] if len(wrong) > 1 else 0:.0%} of rows have at least one concept wrong."
    return Section(
        "impurity", "Impurity", "Does each column know its own concept alone?",
        "OIS: columns one by one. NIS: predictors of all columns, fitted on half the rows (groups whole), less a niche, the "
        "states of one concept together. Its control asks them on values that hold their own label alone: what correlated "
        "labels tell counts in both, and below it columns share their errors. Of fewer than "
        f"{GROUPS} groups that are measured there is no interval. MPO: m wrong.",
        tuple(lines), f"{_impure(lines)}; {worst}",
        tables=({"title": "MPO", "columns": ["at least so many concepts wrong", "share of rows"], "rows": rows},),
    )  # fmt: skip


def _told_apart(lines: list[Line], cut: tuple[Array, Array], groups: list[str] | None) -> list[Line]:
    """OIS and NIS without an interval where fewer than ``GROUPS`` groups are measured; NIS n/a where a half has a few rows."""
    ois, nis = lines
    if min(map(len, cut)) < SIDE:
        nis = replace(nis, value=None, low=None, high=None)
    if groups is None:
        return [ois, nis]
    many = [len({groups[row] for row in rows}) for rows in (np.concatenate(cut), cut[1])]
    return [one if n >= GROUPS else replace(one, low=None, high=None) for one, n in zip((ois, nis), many, strict=True)]


def _impure(lines: list[Line]) -> str:
    """What OIS and NIS say, each beside values that hold their own label alone."""
    told: list[str] = []
    for line, margin, columns, what in zip(
        lines, (0.02, 0.01), ("Columns", "columns outside a niche together"),
        ("of other concepts what their labels do not", "more of its concept than their labels do"), strict=True,
    ):  # fmt: skip
        if line.value is None:
            told.append(f"{line.title} is not defined on these rows")
            continue
        floor = line.control or 0.0
        above = line.value > floor + margin and line.low is not None and line.low > floor
        say = "tell" if above else "are not shown to tell"
        told.append(f"{columns} {say} {what} ({line.title} {line.value:.3f}, clean {floor:.3f})")
    return "; ".join(told)


def alignment(subject: Subject) -> Section:
    """MIG, SAP, modularity, CAS, DCI."""
    rows = subject.some(ALIGNED)
    f, held = _factors(subject, rows)
    n, groups, values = len(f), subject.measure.of(rows).groups, subject.part("test").values[rows]
    codes = [values[:, part] for part in subject.model.space.slices]
    shuffled = np.random.default_rng(subject.seed).permutation(len(f))
    title = {"mig": "MIG", "modularity": "modularity", "told": "best values tell", "sap": "SAP", "cas": "CAS"}
    text = {
        "mig": "gap of the two concepts' values that know most of a concept, as a share of its entropy",
        "modularity": "do each concept's values know of one concept?",
        "told": "share of a concept's entropy that the values which know most of it know",
        "sap": "gap of the two concepts' values that tell a concept best by a threshold (states: by the nearest mean)",
        "cas": "are clusters of a concept's representation pure in its label?",
    }

    def scores(rows: Array, mixed: Array) -> dict[str, float]:
        """All of them on some rows, codes taken at ``mixed``."""
        told, whole = d.informations([code[mixed] for code in codes], f[rows])
        best = told.max(0)[whole > 0] / whole[whole > 0]
        found = {
            "mig": d.mig(told, whole),
            "modularity": d.modularity(told),
            "told": float(best.mean()) if len(best) else np.nan,
        }
        found["sap"] = d.sap([code[mixed] for code in codes], f[rows])
        return found | ({"cas": d.cas(f[rows], [x[mixed] for x in held], seed=subject.seed)} if held else {})

    every = np.arange(n)
    value, chance, wide = scores(every, every), scores(every, shuffled), halved(scores, n, subject.seed, groups)
    clean = unleaked(subject.labels()[rows], values, subject.kinds, seed=subject.seed)
    dealt = d.informations([clean[:, part] for part in subject.model.space.slices], f)[0]
    chance["modularity"] = d.modularity(dealt)  # of shuffled rows it is that of noise: near .9, whatever the values hold
    lines = [
        Line(
            key=key,
            title=title[key],
            value=number(v),
            unit="share",
            better="up",
            text=text[key],
            low=edges(v, wide.get(key))[0],
            high=edges(v, wide.get(key))[1],
            control=number(chance[key]),
            control_name=DEALT if key == "modularity" else "the same values, rows shuffled",
            n=known_rows(f),
            k=None if key in ("sap", "cas") else NEIGHBOURS,
        )
        for key, v in value.items()
    ]
    by = {line.key: line for line in lines}
    slow = " DCI is left out above 30 concepts unless the audit is full."
    if f.shape[1] <= SLOWEST or subject.full:
        slow, lines = "", lines + _dci(subject, codes, f, groups)
    return Section(
        "alignment", "Columns and concepts", "Is each concept in its own columns, and are those for one concept?",
        "Scores of disentanglement: each concept's values (a column, or one for each state) as a code, labels as factors. "
        "Intervals by half-samples of the rows (whole groups), for which DCI's trees are fitted anew; of DCI's I by bootstrap. "
        "Modularity counts what correlated labels tell: read it beside that of values that hold their own label alone.",
        tuple(lines), f"{_holding(by['told'])}{_modular(by['modularity'])}.{slow}",
    )  # fmt: skip


def _holding(line: Line) -> str:
    """What values tell of concepts, beside what they tell of other rows'."""
    if line.value is None:
        return "What values hold of a concept is not defined on these rows"
    if beyond(line):
        return f"The values that know most of a concept hold {line.value:.0%} of what there is to know of it"
    of = f"{line.value:.0%}, shuffled {written(line.control)}"
    return f"The values that know most of a concept are not shown to hold more of it than those of other rows do ({of})"


def _modular(line: Line) -> str:
    """Whether values are of one concept, as far as labels let them be."""
    if line.value is None or line.control is None:
        return ""
    mixed = line.high is not None and line.high < line.control - 0.01
    of = "also of concepts that their labels do not tell of" if mixed else "not shown to be of more concepts than their labels"
    return f"; each concept's values are {of} (modularity {line.value:.3f}, clean {line.control:.3f})"


def _dci(subject: Subject, codes: list[Array], f: Array, groups: list[str] | None) -> list[Line]:
    """D and C of the fitted half, and I on the other."""
    fit, at = halves(len(f), subject.seed, groups)
    if min(len(fit), len(at)) < SIDE:
        fit, at = fit[:0], np.arange(len(f))  # nothing is fitted
    r, right = d.importances(codes, f, at)

    def scores(rows: Array, _: Array) -> dict[str, float]:
        """D and C of some of the fitted rows."""
        some, rest = fit[rows], np.setdiff1d(fit, fit[rows])
        both = np.concatenate([some, rest])
        each, _ = d.importances([code[both] for code in codes], f[both], np.arange(len(some), len(both)))
        return dict(zip("dc", d.dci(each) if each.sum() > 0 else (np.nan, np.nan), strict=True))

    wide = halved(scores, len(fit), subject.seed, None if groups is None else [groups[row] for row in fit], REFITTED)
    flat, made = d.dci(np.ones_like(r)), d.dci(r) if r.sum() > 0 else (np.nan, np.nan)
    common = np.array([_commonest(factor[fit]) for factor in f.T])
    plain = np.where(np.isnan(right), np.nan, f[at] == common)
    value, floor = (float(d.informativeness(told).under(np.ones((1, len(at))))[0]) for told in (right, plain))
    with np.errstate(all="ignore"):
        drawn = resamples(len(at), 200, groups=None if groups is None else [groups[row] for row in at])
        low, high = interval(d.informativeness(right).under(drawn))
    units = len(at) if groups is None else len({groups[row] for row in at})
    if value in (0, 1) and units > 1:
        low, high = widened(low, high, units)
    text = {"d": "are each concept's values for one concept?", "c": "is each concept in its own values?"}
    return [
        *(Line(f"dci_{key}", f"DCI, {key.upper()}", number(v), "share", "up", f"by boosted trees: {text[key]}",
               *edges(v, wide.get(key)), number(even), "even importances", len(fit))
          for key, v, even in zip("dc", made, flat, strict=True)),
        Line("dci_i", "DCI, I", number(value), "share", "up", "accuracy of those trees on the other half of the rows, "
             "mean over concepts", number(low), number(high), number(floor), "the commonest state of the fitted half", len(at)),
    ]  # fmt: skip


def _commonest(states: Array) -> float:
    """The commonest of states (n,), unknown ones left out; NaN where none is known."""
    found, count = np.unique(states[~np.isnan(states)], return_counts=True)
    return float(found[count.argmax()]) if len(found) else float("nan")


def _factors(subject: Subject, rows: Array) -> tuple[Array, list[Array]]:
    """States (n, M) of the concepts that vary, and what the strip holds of each, on rows (n,)."""
    c, test = subject.labels()[rows], subject.part("test")
    factors: list[Array] = []
    held: list[Array] = []
    for m, (concept, part) in enumerate(zip(subject.model.space.concepts, subject.model.space.slices, strict=True)):
        block = c[:, part]
        state = block[:, 0] if block.shape[1] == 1 else np.where(np.isnan(block[:, 0]), np.nan, block.argmax(1))
        if concept.kind == "continuous" or len(np.unique(state[~np.isnan(state)])) < 2:
            continue
        factors.append(state)
        each = test.vectors is not None and test.vectors.shape[1] == subject.model.space.count
        held.append(test.vectors[rows, m] if each and test.vectors is not None else test.values[rows, part])
    if not factors:
        raise NotHere("no concept of states takes two of them on these rows")
    return np.stack(factors, 1), held


def edges(value: float, wide: float | None) -> tuple[float | None, float | None]:
    """Low and high end of value and half a width, within 0..1; None where there is no width."""
    if wide is None or not np.isfinite(value) or not np.isfinite(wide):
        return None, None
    return number(max(value - wide, 0.0)), number(min(value + wide, 1.0))


def halved(
    scores: Callable[[Array, Array], dict[str, float]], n: int, seed: int, groups: list[str] | None = None, times: int = 10
) -> dict[str, float]:
    """Half the width of 95 % intervals at n rows by half-samples: drawn without replacement, their spread is that of n rows.

    Whole ``groups`` where there are any, nothing of one alone; Student's t of so few draws. NaN: undefined on one of them.
    """
    found: dict[str, list[float]] = {}
    for time in range(times):
        half = halves(n, (seed, time), groups)[0]
        for key, value in (scores(half, half) if len(half) else {}).items():
            found.setdefault(key, []).append(value)
    edge = float(student.ppf(0.975, times - 1))
    return {key: edge * float(np.std(values, ddof=1)) for key, values in found.items()}
