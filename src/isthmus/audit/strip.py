"""What passes beside the strip and what hides in it: bypass and leakage, impurity, how codes and concepts line up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from isthmus import metrics
from isthmus.audit.section import Line, NotHere, Section, number
from isthmus.audit.subject import Subject
from isthmus.metrics import disentanglement as d
from isthmus.metrics.concept import decided
from isthmus.metrics.core import Array
from isthmus.metrics.leakage import NEIGHBOURS, unleaked
from isthmus.metrics.purity import halves, mispredicted

SLOWEST = 30  # concepts for which boosted trees are fitted without ``full``


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
    why = ""
    if test.c is None or np.isnan(test.c).all():
        why = "Leakage needs labels for these concepts, and the data have none."
    else:
        clean = unleaked(test.c, test.values, subject.kinds, seed=subject.seed)
        name = "the same values dealt anew among rows with the same label"
        if subject.model.task.kind == "value":
            why = "CTL divides by the entropy of the task, which a number does not have."
        else:
            form, control = (metrics.ctl.weighted(test.y, test.c, v, subject.kinds) for v in (test.values, clean))
            floor = float(control.under(np.ones((1, measure.n)))[0])
            n = known_rows(test.c)
            lines.append(measure.line("ctl", metrics.ctl, form, control=floor, control_name=name, k=NEIGHBOURS, n=n))
        if subject.model.space.count > 1:
            both = (~np.isnan(test.c)).astype(float)
            most = 1000
            rows = min(most, int(np.median((both.T @ both)[np.triu_indices(both.shape[1], 1)])))
            form, control = (metrics.icl.weighted(test.c, v, subject.kinds, most=most) for v in (test.values, clean))
            floor = float(control.under(np.ones((1, measure.n)))[0])
            lines.append(measure.line("icl", metrics.icl, form, control=floor, control_name=name, k=NEIGHBOURS, n=rows))
    return Section(
        "leaks", "Bypass and leakage", "Does the answer come from the concepts, and do they say only what their names say?",
        "Bypass: what goes around the strip. CTL, ICL: what hides inside its values of the task and of other concepts.",
        tuple(lines), f"{_leaking(lines)} {why}".strip(),
    )  # fmt: skip


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


def _leaking(lines: list[Line]) -> str:
    found = {line.key: line for line in lines}
    bypass, told = found["bypass"].value or 0.0, []
    if bypass > 0.01:
        told.append(
            f"{bypass:.0%} of answers change with the input while every concept is held: correcting concepts is not enough"
        )
    else:
        told.append("nothing to speak of goes around the concepts: whoever corrects them corrects the answer")
    for key, what in (("ctl", "of the task"), ("icl", "of each other")):
        line = found.get(key)
        if line is None or line.value is None:
            continue
        floor = line.control or 0.0
        above = line.low is not None and line.low > floor + 0.005
        told.append(
            f"values say {'more' if above else 'no more'} {what} than their labels do ({line.value:.3f}, clean {floor:.3f})"
        )
    return "; ".join(told).capitalize() + "."


def impurity(subject: Subject) -> Section:
    """OIS, NIS, and rows with several wrong concepts."""
    c, test, measure = subject.labels(), subject.part("test"), subject.measure
    columns = np.flatnonzero(subject.discrete)
    if len(columns) < 2:
        raise NotHere("purity needs two or more concepts that are present or not")
    c, values = c[:, columns], test.values[:, columns]
    clean = unleaked(test.c if test.c is not None else c, test.values, subject.kinds, seed=subject.seed)[:, columns]
    name = "the same values dealt anew among rows with the same label"
    lines: list[Line] = []
    for key, metric in (("ois", metrics.ois), ("nis", metrics.nis)):
        form = metric.weighted(c, values)
        lines.append(measure.line(key, metric, form, control=float(metric(c, clean)), control_name=name, n=known_rows(c)))
    right, known = decided(test.c if test.c is not None else c, test.values, subject.kinds)
    wrong = mispredicted(right, known)
    rows = [[m, number(float(share))] for m, share in enumerate(wrong) if m and (share > 0 or m < 4)][:12]
    ois, base = lines[0].value or 0.0, lines[0].control or 0.0
    told = (
        "columns tell of other concepts what their labels do not" if ois > base + 0.02 else "each column tells its own concept"
    )
    return Section(
        "impurity", "Impurity", "Does each column know its own concept alone?",
        "OIS: columns one by one; NIS: those outside a niche together, fitted on half of these rows; MPO: m wrong.",
        tuple(lines), f"{told.capitalize()} (OIS {ois:.3f}, clean {base:.3f}); {wrong[1] if len(wrong) > 1 else 0:.0%} of rows "
        "have at least one concept wrong.",
        tables=({"title": "MPO", "columns": ["at least so many concepts wrong", "share of rows"], "rows": rows},),
    )  # fmt: skip


def alignment(subject: Subject) -> Section:
    """MIG, SAP, modularity, CAS, DCI."""
    f, held = _factors(subject)
    codes = subject.part("test").values[: len(f)]
    shuffled = np.random.default_rng(subject.seed).permutation(len(f))
    title = {"mig": "MIG", "modularity": "modularity", "told": "best column tells", "sap": "SAP", "cas": "CAS"}
    text = {
        "mig": "gap of the two columns that know most of a concept, as a share of its entropy",
        "modularity": "does each column know of one concept?",
        "told": "share of a concept's entropy that its best column knows",
        "sap": "gap of the two columns that tell a concept best by a threshold",
        "cas": "are clusters of a concept's representation pure in its label?",
    }

    def scores(rows: Array, mixed: Array) -> dict[str, float]:
        """All of them on some rows, codes taken at ``mixed``."""
        told, whole = d.informations(codes[mixed], f[rows])
        best = told.max(0)[whole > 0] / whole[whole > 0]
        found = {
            "mig": d.mig(told, whole),
            "modularity": d.modularity(told),
            "told": float(best.mean()) if len(best) else np.nan,
        }
        found["sap"] = d.sap(codes[mixed], f[rows])
        return found | ({"cas": d.cas(f[rows], [x[mixed] for x in held], seed=subject.seed)} if held else {})

    every = np.arange(len(f))
    value, chance, spread = scores(every, every), scores(every, shuffled), halved(scores, len(f), subject.seed)
    lines = [
        Line(
            key=key,
            title=title[key],
            value=number(v),
            unit="share",
            better="up",
            text=text[key],
            low=number(v - 1.96 * spread[key]),
            high=number(v + 1.96 * spread[key]),
            control=number(chance[key]),
            control_name="the same values, rows shuffled",
            n=known_rows(f),
            k=None if key in ("sap", "cas") else NEIGHBOURS,
        )
        for key, v in value.items()
    ]
    slow = " DCI is left out above 30 concepts unless the audit is full."
    if f.shape[1] <= SLOWEST or subject.full:
        slow, at = "", halves(len(f), subject.seed)[1]
        r, _ = d.importances(codes, f, at)
        flat, made = d.dci(np.ones_like(r)), d.dci(r) if r.sum() > 0 else (np.nan, np.nan)
        for key, name, one, base in (("dci_d", "DCI, D", made[0], flat[0]), ("dci_c", "DCI, C", made[1], flat[1])):
            told = (
                "by boosted trees: each column for one concept?"
                if key == "dci_d"
                else "by boosted trees: each concept in one column?"
            )
            lines.append(
                Line(key, name, number(one), "share", "up", told, control=base, control_name="even importances", n=len(f))
            )
    return Section(
        "alignment", "Columns and concepts", "Is each concept in one column, and each column for one concept?",
        "Scores of disentanglement: columns as codes, concept labels as factors. Intervals by half-samples of the rows.",
        tuple(lines), f"The best column of a concept holds {value['told']:.0%} of what there is to know of it.{slow}",
    )  # fmt: skip


def _factors(subject: Subject) -> tuple[Array, list[Array]]:
    """States (n, M) of the concepts that vary, and what the strip holds of each, at most 1,000 rows."""
    c, test = subject.labels()[:1000], subject.part("test")
    factors: list[Array] = []
    held: list[Array] = []
    for m, (concept, part) in enumerate(zip(subject.model.space.concepts, subject.model.space.slices, strict=True)):
        block = c[:, part]
        state = block[:, 0] if block.shape[1] == 1 else np.where(np.isnan(block[:, 0]), np.nan, block.argmax(1))
        if concept.kind == "continuous" or len(np.unique(state[~np.isnan(state)])) < 2:
            continue
        factors.append(state)
        each = test.vectors is not None and test.vectors.shape[1] == subject.model.space.count
        held.append(test.vectors[:1000, m] if each and test.vectors is not None else test.values[:1000, part])
    if not factors:
        raise NotHere("no concept of states takes two of them on these rows")
    return np.stack(factors, 1), held


def halved(scores: Callable[[Array, Array], dict[str, float]], n: int, seed: int, times: int = 10) -> dict[str, float]:
    """Standard errors at n rows by half-samples: drawn without replacement, their spread is that of n rows."""
    found: dict[str, list[float]] = {}
    for time in range(times):
        rows = np.random.default_rng([seed, time]).permutation(n)[: n // 2]
        for key, value in scores(rows, rows).items():
            found.setdefault(key, []).append(value)
    return {key: float(np.std(values, ddof=1)) for key, values in found.items()}
