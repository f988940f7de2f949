"""The audit of a fitted model: does the strip mean what it says? Sections with definition, interval, control and meaning."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from isthmus import registry
from isthmus.audit import answers, holds, strip, truth
from isthmus.audit.limits import judged, parse
from isthmus.audit.section import NotHere, Section
from isthmus.audit.subject import Subject
from isthmus.data.cooccurrence import audit as audit_labels
from isthmus.data.table import Splits
from isthmus.errors import DataError, IsthmusError, OptionError, unknown
from isthmus.evaluate import describe_data
from isthmus.interventions.edit import history
from isthmus.model import ConceptModel
from isthmus.provenance import provenance
from isthmus.worded import tie_of, tied_suffix

SCHEMA = "isthmus.audit/1"
INTERVAL = (
    "95 %: bootstrap over test rows (whole groups where there are any) unless the section says otherwise; of scores that "
    "resampling biases (ECE, OIS, CTL, ICL), centred on the value; of a share of rows (whole groups) no nearer to 0 or 1 "
    "than so many without a single case allow (Clopper and Pearson)"
)
SECTIONS: dict[str, tuple[str, Callable[[Subject], Section]]] = {
    "task": ("Answers", answers.task),
    "leaks": ("Bypass and leakage", strip.leaks),
    "concepts": ("Concepts", truth.concepts),
    "corrections": ("Corrections", answers.corrections),
    "completeness": ("Completeness", holds.completeness),
    "existence": ("Existence", truth.existence),
    "location": ("Location", truth.location),
    "importance": ("Global importance", truth.importance),
    "faithfulness": ("Faithfulness", holds.faithfulness),
    "sparsity": ("Few concepts", holds.sparsity),
    "impurity": ("Impurity", strip.impurity),
    "alignment": ("Columns and concepts", strip.alignment),
    "calibration": ("Calibration", answers.calibration),
    "selective": ("Answering when sure", answers.selective),
    "subgroups": ("Subgroups", answers.subgroups),
}
KEYS = (
    "task", "task_gap", "bypass", "ctl", "icl", "icl_decided", "concept_accuracy", "concept_macro_f1", "concept_auroc",
    "concept_error", "gain_all", "curve_area", "k95", "completeness", "existence@1", "existence@3", "existence@5",
    "pointing", "pointing_distance", "mass_inside", *(f"location@{most}_a{alpha}" for most in (1, 3, 5) for alpha in (1, 3, 6)),
    "cgim1", "cgim2", "cgim3", "deletion", "insertion", "cace_sign", "nec", "accuracy@nec5", "anec", "ois", "nis", "mig",
    "sap", "modularity", "told", "cas", "dci_d", "dci_c", "dci_i", "ece", "brier", "concept_ece", "aurc", "coverage",
    "selective_accuracy", "automated", "automated_accuracy",
)  # fmt: skip


@dataclass(frozen=True)
class Audit:
    """The report card as plain data (schema ``isthmus.audit/1``)."""

    data: dict[str, Any]

    @property
    def failed(self) -> bool:
        """Was a limit broken, or could it not be checked?"""
        return any(limit["fails"] for limit in self.data["limits"])

    @property
    def scores(self) -> dict[str, float]:
        """Every number of the sections that apply, by key."""
        lines = (line for section in self.data["sections"] for line in section["lines"])
        return {line["key"]: line["value"] for line in lines if line["value"] is not None}

    def __getitem__(self, key: str) -> float:
        return self.scores[key]


def audit(
    model: ConceptModel, data: Splits, *, sections: Sequence[str] | None = None, fail_if: Sequence[str] = (),
    by: Sequence[str] = (), target: float = 0.95, rows: int = 2000, full: bool = False, seed: int = 0,
    say: Callable[[str], None] | None = None, name: str | None = None,
) -> Audit:  # fmt: skip
    """Audit a fitted model on its data: probes are fitted on training rows, chosen on validation rows, all judged on test rows.

    ``sections``: which, all by default; what does not apply says why. ``fail_if``: limits, ``bypass>0.05`` or ``ctl.high>0.1``,
    that make it fail. ``by``: groups of rows for the section on subgroups: concepts, facts of the table, or 'class' (default).
    ``target``: the accuracy that answers without a person must have. ``rows``: at most so many test rows, drawn by ``seed``.
    ``full`` makes what is slow, too (DCI above 30 concepts). Raises ``DataError`` and ``OptionError``.
    """
    if not isinstance(data, Splits):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"audit: expected Splits (probes need training and validation rows), got {type(data).__name__}")
    if (data.task.kind, data.task.names) != (model.task.kind, model.task.names):
        want, got = (f"{task.kind} {list(task.names[:4])}" for task in (model.task, data.task))
        raise DataError(f"audit: the model decides {want}, got rows labelled with {got}; give the data that it was fitted on")
    asked: tuple[object, object] = target, rows
    if not (isinstance(asked[0], Real) and isinstance(asked[1], Integral) and 0 < target <= 1 and rows >= 20):
        raise OptionError(f"audit: expected a target above 0 and at most 1, and 20 rows or more, got {target!r} and {rows!r}")
    sections = [sections] if isinstance(sections, str) else sections
    wanted = list(SECTIONS) if sections is None else list(sections)
    for key in wanted:
        if key not in SECTIONS:
            raise unknown("section", key, tuple(SECTIONS))
    wanted = list(dict.fromkeys(wanted))
    limits, began = parse(fail_if, KEYS), time.perf_counter()
    subject = Subject(model, data, by=tuple(dict.fromkeys(by)), target=target, most=rows, seed=seed, full=full)
    for group in subject.by:
        try:
            answers.grouped(subject, group)
        except NotHere as reason:
            raise OptionError(f"--by {group}: {reason}; name a fact of the table or a concept") from reason
    made: list[dict[str, Any]] = []
    for at, key in enumerate(wanted):
        if say is not None:
            say(f"{SECTIONS[key][0]} ({at + 1} of {len(wanted)})")
        title, ask = SECTIONS[key]
        start = time.perf_counter()
        try:
            section = ask(subject)
        except (NotHere, IsthmusError) as reason:  # what cannot be computed is that section's reason; bugs stay loud
            section = Section(key, title, "", "", why=str(reason))
        made.append(section.plain() | {"seconds": round(time.perf_counter() - start, 2)})
    result = {
        "schema": SCHEMA,
        "model": _about(model, name),
        "data": describe_data(data.test, data.name, data),
        "test_rows": len(subject.part("test").table),
        "interval": INTERVAL,
        "sections": made,
        "labels": audit_labels(data),
        "history": history(model),
        "limits": judged(limits, made),
        "seed": seed,
        "seconds": round(time.perf_counter() - began, 1),
        **provenance(_call(data.name, sections, fail_if, by, target=target, rows=rows, full=full, seed=seed)),
    }
    return Audit(result)


def _call(data: str, sections: Sequence[str] | None, fail_if: Sequence[str], by: Sequence[str], **rest: object) -> str:
    """The call that made the card, ``data`` loaded as what it is named after; what was left at its default left out."""
    said = {"sections": sections and list(sections), "fail_if": list(fail_if), "by": list(by)}
    said = {name: each for name, each in said.items() if each}
    said |= {name: each for name, each in rest.items() if each != inspect.signature(audit).parameters[name].default}
    return ", ".join([f"isthmus.audit(model, <data {data}>", *(f"{name}={each!r}" for name, each in said.items())]) + ")"


def _about(model: ConceptModel, name: str | None) -> dict[str, Any]:
    method = registry.get(model.origin["method"]) if model.origin else None
    card = None if method is None else method.card
    said = tied_suffix(method, tie_of(model), model.task) if method else ""
    return {
        "name": name or (method.name + said if method else "model"),
        "method": method.name if method else None,
        "title": card.title + said if card else "model",
        "paper": card.paper if card else "",
        "sealed": card.sealed if card else None,
        "exempt": {str(k): v for k, v in card.exempt.items()} if card else {},
        "notes": card.notes if card else "",
        "options": {k: v for k, v in model.origin.get("options", {}).items() if isinstance(v, str | int | float | bool)},
        "concepts": model.space.count,
        "columns": len(model.space),
    }
