"""Sentences of the audit are true of the numbers beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus.audit import audit
from isthmus.audit.holds import _apart
from isthmus.audit.section import Line, beyond, written
from isthmus.audit.strip import _holding, _impure, _leaking, _modular, halved
from isthmus.audit.truth import _more
from tests.audit.test_audit import plain


def line(key: str, value: float, low: float | None = None, control: float | None = 0.0) -> Line:
    return Line(key, key, value, "share", "down", "", low, None, control)


def test_only_a_gain_makes_corrections_worth_it() -> None:
    sealed = line("bypass", 0.0, 0.0, 0.8)
    gains = {"value": 0.2, "low": 0.1}, {"value": -0.27, "low": -0.3}, {}
    better, worse, none = (_leaking([sealed], gain) for gain in gains)
    assert "moves the score by +0.200" in better and "not shown" not in better
    assert "not shown to raise the score (-0.270)" in worse
    assert "correcting" not in none and "nothing to speak of" in none.lower()


def test_a_model_that_never_changes_its_answer_shows_nothing_of_a_bypass() -> None:
    told = _leaking([line("bypass", 0.0, 0.0, 0.0)], {"value": 0.2, "low": 0.1})
    assert "cannot be told" in told and "nothing to speak of" not in told.lower()
    assert "is not enough" in _leaking([line("bypass", 0.2, 0.1, 0.0)], {})


def test_what_is_not_proven_is_not_shown() -> None:
    sealed = line("bypass", 0.0, 0.0, 0.8)
    told = _leaking([sealed, line("ctl", 0.035, 0.001)], {})
    assert "are not shown to say more of the task" in told and "no more" not in told
    assert "values say more of the task" in _leaking([sealed, line("ctl", 0.035, 0.02)], {})
    assert "decisions go together" in _leaking([sealed, line("icl_decided", 0.2, 0.1)], {})
    assert "decisions" not in _leaking([sealed, line("icl_decided", 0.2, 0.0)], {})


def test_to_follow_takes_a_margin_and_an_exact_0_is_a_number() -> None:
    assert not _apart(0.657, 0.660, 0.665, -1)  # beside the interval, and nothing to speak of
    assert _apart(0.5, 0.6, 0.665, -1) and not _apart(0.5, 0.7, 0.665, -1)
    assert _apart(0.0, 0.0, 0.3, -1) and _apart(0.2, 0.1, 0.0, 1)
    assert not _apart(0.5, None, 0.665, -1)


def meanings(model: im.ConceptModel, data: im.Splits, *sections: str, **more: Any) -> dict[str, dict[str, Any]]:
    return {section["key"]: section for section in audit(model, data, sections=sections, **more).data["sections"]}


def test_a_constant_answer_is_not_said_to_follow_or_to_be_corrected() -> None:
    data = plain()
    model = im.fit("cbm", data, epochs=20)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.mul_(0.0)
    told = meanings(model, data, "leaks", "faithfulness", "corrections")
    assert "cannot be told" in told["leaks"]["meaning"]
    assert "is not shown to follow" in told["faithfulness"]["meaning"]
    assert "not shown to help" in told["corrections"]["meaning"]


def test_completeness_may_pass_1_as_its_interval_does() -> None:
    """Inputs of which probes make less than the model's own concepts do."""
    data = plain()
    model = im.fit("cbm", data, mode="independent", epochs=60)
    found = meanings(model, data, "completeness")["completeness"]["lines"][0]
    assert found["low"] <= found["value"] <= found["high"]
    from isthmus.audit import holds
    from isthmus.audit.subject import Subject

    subject = Subject(model, data)
    truth = {part: getattr(data, part).c.double().numpy() for part in ("train", "validation", "test")}
    seen = subject.inputs
    subject.inputs = lambda what, width=None: truth if what == "values" else seen(what, width)  # type: ignore[method-assign]
    best = holds.completeness(subject).lines[0]
    assert best.value is not None and best.value > 1 and best.low is not None and best.high is not None
    assert best.low <= best.value <= best.high


def stated(n: int = 600) -> im.Splits:
    """A concept of four states and one that is there or not; the class is their parity."""
    draw = np.random.default_rng(0)
    space = im.ConceptSpace([im.Concept("shape", "categorical", states=("a", "b", "c", "d")), im.Concept("dark")])
    parts: list[im.Table] = []
    for _ in range(3):
        state, dark = draw.integers(0, 4, n), draw.integers(0, 2, n)
        c = torch.from_numpy(np.c_[np.eye(4)[state], dark]).float()
        y = torch.from_numpy((state + dark) % 2)
        parts.append(im.Table(c + 0.1 * torch.randn(c.shape), c=c, y=y, space=space, task=im.Task.classes(("no", "yes"))))
    return im.Splits(*parts, name="stated")


def test_values_of_a_concept_of_states_are_one_code_and_share_a_niche() -> None:
    """The truth itself on the strip: perfect MIG and SAP, no impurity beyond what labels share."""
    data = stated()
    model = im.fit("cbm", data, epochs=2)
    from isthmus.audit import strip
    from isthmus.audit.subject import Subject

    subject = Subject(model, data)
    test = subject.part("test")
    assert test.c is not None
    subject.made["test"] = replace(test, values=test.c)
    lines = {each.key: each for each in strip.alignment(subject).lines}
    assert lines["mig"].value == pytest.approx(1, abs=0.03) and lines["sap"].value == pytest.approx(1, abs=0.15)
    assert lines["dci_d"].value == pytest.approx(1, abs=0.01) and lines["dci_i"].value == 1
    assert 0.98 < lines["dci_i"].low < lines["dci_i"].high == 1 and lines["dci_i"].control < 1
    nis = next(each for each in strip.impurity(subject).lines if each.key == "nis")
    assert nis.value is not None and nis.value < 0.6


def test_impure_is_what_clean_values_are_not() -> None:
    told = _impure([line("ois", 0.26, 0.25, 0.17), line("nis", 0.59, 0.585, 0.66)])
    assert told.startswith("Columns tell of other") and "together are not shown to tell more" in told
    assert "clean 0.660" in told
    told = _impure([line("ois", 0.18, 0.17, 0.17), line("nis", 0.62, 0.61, 0.58)])
    assert "Columns are not shown to tell" in told and "outside a niche together tell more of its concept" in told
    assert "nis is not defined" in _impure([line("ois", 0.1), replace(line("nis", 0.1), value=None)])


def test_the_control_of_nis_silences_what_the_model_silences() -> None:
    """Correlated labels and leaks: predictors fitted anew on clean values would make the control the greater (.71)."""
    data, draw = stated(2000), np.random.default_rng(0)
    from isthmus.audit import strip
    from isthmus.audit.subject import Subject

    subject = Subject(im.fit("cbm", data, epochs=2), data)
    test, state = subject.part("test"), draw.integers(0, 4, 2000)
    dark = ((state >= 2) ^ (draw.random(2000) < 0.1)).astype(float)
    c = np.c_[np.eye(4)[state], dark]
    honest = c + 0.5 * draw.normal(size=c.shape)
    leaking = c + 0.5 * np.c_[np.outer(dark, [1, -1, 1, -1]), state % 2]
    leaking += 0.3 * draw.normal(size=(2000, 1)) + 0.4 * draw.normal(size=c.shape)
    subject.made["test"] = replace(test, c=c, values=leaking)
    section = strip.impurity(subject)
    nis = next(each for each in section.lines if each.key == "nis")
    assert nis.low is not None and nis.control is not None and nis.low > nis.control + 0.02
    assert "together tell more of its concept" in section.meaning
    subject.made["test"] = replace(test, c=c, values=honest)
    nis = next(each for each in strip.impurity(subject).lines if each.key == "nis")
    assert nis.value == pytest.approx(nis.control, abs=0.03)


def alone(n: int, k: int, shared: float, leak: float, seed: int = 0) -> Any:
    """The subject of a strip whose columns hold their own label of correlated ones, and ``leak`` of the next."""
    from isthmus.audit.subject import Subject

    draw = np.random.default_rng(seed)
    z = draw.normal(size=(n, k)) * (1 - shared) ** 0.5 + draw.normal(size=(n, 1)) * shared**0.5
    c = (z > 0).astype(float)
    space, task = im.ConceptSpace.binary([f"c{i}" for i in range(k)]), im.Task.classes(("no", "yes"))
    x, y = torch.from_numpy(c).float(), torch.from_numpy((c.sum(1) > k / 2).astype(int))
    table = im.Table(x, c=x, y=y, space=space, task=task)
    subject = Subject(im.fit("cbm", im.Splits(table, table, table, name="alone"), epochs=1), im.Splits(table, table, table))
    values = 2 * c + draw.normal(size=c.shape) * 0.6 + leak * c[:, np.r_[1:k, 0]]
    subject.made["test"] = replace(subject.part("test"), values=values)
    return subject


def test_modularity_stands_beside_values_that_hold_their_own_label_alone() -> None:
    """Shuffled rows have the modularity of noise, near .9, above honest columns of correlated labels."""
    from isthmus.audit import strip

    lines = [{each.key: each for each in strip.alignment(alone(1000, 4, 0.9, leak)).lines} for leak in (0.0, 2.0)]
    honest, leaking = (each["modularity"] for each in lines)
    assert honest.value is not None and honest.control == pytest.approx(honest.value, abs=0.03) and honest.value < 0.85
    assert leaking.high is not None and leaking.control is not None and leaking.high < leaking.control
    assert "not shown to be of more" in _modular(honest) and "also of concepts" in _modular(leaking)
    assert _modular(replace(honest, value=None)) == ""
    for each in (lines[0]["dci_d"], lines[0]["dci_c"]):
        assert each.value is not None and each.low is not None and each.high is not None
        assert 0 <= each.low <= each.value <= each.high <= 1 and each.high - each.low > 0.01 and each.n == 500


def test_half_samples_spread_as_fresh_rows_do() -> None:
    draw = np.random.default_rng(0)

    def mean(x: np.ndarray) -> Any:
        return lambda rows, _: {"mean": float(x[rows].mean())}

    widths = [halved(mean(draw.normal(size=400)), 400, seed)["mean"] for seed in range(40)]
    assert np.median(widths) == pytest.approx(2.26 / 400**0.5, rel=0.2)
    assert halved(mean(draw.normal(size=50)), 50, 0, ["one"] * 50) == {}
    groups = [f"p{row // 10}" for row in range(400)]
    each = draw.normal(size=40).repeat(10)
    wide = [halved(mean(each), 400, seed, groups)["mean"] for seed in range(20)]
    assert np.median(wide) == pytest.approx(2.26 * each.std() / 40**0.5, rel=0.3)


@pytest.mark.parametrize("many", [30, 1])
def test_patients_are_on_one_side_of_a_cut(many: int) -> None:
    """Values that name the patient: trees that saw each tell every concept, and nothing of patients that they never saw."""
    from isthmus.audit import strip

    subject, draw = alone(600, 2, 0.0, 0.0), np.random.default_rng(1)
    patient = draw.integers(0, 30, 600)
    c, test = (draw.random((30, 2)) < 0.5).astype(float)[patient], subject.part("test")
    named = patient[:, None] + np.array([0.0, 0.5])
    subject.made["test"] = replace(test, c=c, values=named)
    row = {each.key: each for each in strip.alignment(subject).lines}["dci_i"]
    assert row.value is not None and row.value > 0.95
    subject.measure = replace(subject.measure, groups=[f"p{p % many}" for p in patient])
    lines = {each.key: each for each in strip.alignment(subject).lines}
    if many == 1:
        assert lines["dci_i"].value is None and lines["dci_d"].low is None and lines["mig"].low is None
        assert strip.impurity(subject).lines[1].value is None
    else:
        assert lines["dci_i"].value is not None and lines["dci_i"].value < 0.8


def test_the_concepts_that_leak_most_are_named() -> None:
    """The second of three columns says of the class what its label does not."""
    from isthmus import metrics
    from isthmus.audit import strip
    from isthmus.metrics.leakage import task_leakage

    subject, draw = alone(800, 3, 0.0, 0.0), np.random.default_rng(0)
    test = subject.part("test")
    assert test.c is not None
    assert strip.leaks(subject).tables == ()
    values = test.c + np.outer(test.y, [0, 0.6, 0]) + 0.1 * draw.normal(size=test.c.shape)
    subject.made["test"] = replace(test, values=values)
    (table,) = strip.leaks(subject).tables
    ((name, known, value, low, high, clean),) = table["rows"]
    assert name == "c1" and known == 800 and clean < 0.02 < low <= value <= high
    form = metrics.ctl.weighted(test.y, test.c, values, subject.kinds)
    assert value == pytest.approx(task_leakage(form)[1], abs=1e-6)


def test_few_groups_have_no_interval_of_purity_and_claim_nothing() -> None:
    """Two hospitals: the half that is measured is one of them. One patient says nothing of another."""
    from isthmus.audit import strip

    subject = alone(200, 4, 0.5, 1.0)
    at = np.arange(200)
    for groups, sure in ((at % 2, (False, False)), (at % 1, (False, False)), (at % 6, (True, False)), (at % 40, (True, True))):
        subject.measure = replace(subject.measure, groups=[f"g{g}" for g in groups])
        section = strip.impurity(subject)
        assert tuple(each.low is not None for each in section.lines) == sure
        assert sure[1] or "together are not shown to tell more" in section.meaning or "NIS is not defined" in section.meaning
    subject.measure = replace(subject.measure, groups=["small" if row < 3 else "large" for row in at])
    assert strip.impurity(subject).lines[1].value is None
    found = {each.key: each for each in strip.alignment(subject).lines}
    assert found["dci_d"].value is None and found["dci_i"].value is None


def test_a_share_within_its_control_is_not_claimed() -> None:
    held = replace(line("told", 0.27, 0.17, 0.263), high=0.374, better="up")
    assert "not shown to hold more of it than those of other rows do (27%, shuffled 26%)" in _holding(held)
    assert _holding(replace(held, low=0.265)).startswith("The values that know most of a concept hold 27%")
    assert "not defined" in _holding(replace(held, value=None)) and "0%" not in _holding(replace(held, value=None))
    assert _more(held) == ": it is not shown to be more" and _more(replace(held, low=0.265)) == ""
    assert beyond(held) is False and beyond(replace(held, better="down", high=0.2)) and not beyond(replace(held, low=None))
    assert written(None) == written(float("nan")) == "n/a" and written(-0.25, "+.1f") == "-0.2"


def test_concepts_that_are_read_no_better_than_a_constant_are_not_read_well() -> None:
    data = plain()
    model = im.fit("cbm", data, epochs=1)
    with torch.no_grad():
        for parameter in model.bottleneck.parameters():
            parameter.mul_(0).sub_(9)
    said = meanings(model, data, "concepts")
    assert said["concepts"]["meaning"].startswith("0 of 3 concepts are read better")
    with torch.no_grad():
        model.head.weights.mul_(0)  # type: ignore[operator]
    told = meanings(model, data, "importance")["importance"]
    assert "not defined" in told["meaning"] and "0.00" not in told["meaning"]


def test_a_hint_of_more_than_all_is_no_claim() -> None:
    """Values that seem to tell a little more than features do, on sixty rows."""
    data = plain(60)
    from isthmus.audit import holds
    from isthmus.audit.subject import Subject

    subject = Subject(im.fit("cbm", data, epochs=1), data)
    y = subject.part("test").y
    answers = {wrong: np.where(np.arange(60) < wrong, 1 - y, y) for wrong in (10, 13)}
    turns = iter([answers[10], answers[13], np.zeros(60, dtype=int)])
    subject.told = lambda *_, **__: next(turns)  # type: ignore[method-assign]
    section = holds.completeness(subject)
    (found,) = section.lines
    assert found.value is not None and found.low is not None and found.value > 1 > found.low
    assert "are not shown to hold more" in section.meaning and "tell more of the task" not in section.meaning


def test_numbers_that_are_known_are_not_labels_that_are_unknown() -> None:
    """Only the number's label is known: nothing is said of concepts that are present or not."""
    from isthmus import testing

    data = testing.world(("binary", "continuous"))
    c = data.test.c.clone()
    c[:, ~data.space.continuous] = float("nan")
    hidden = im.Splits(data.train, data.validation, data.test.replace(c=c), name="hidden")
    told = meanings(testing._fit("cbm", data, {}, 0).fit(data), hidden, "existence", "impurity")
    for section in told.values():
        assert "no label of a concept that is present or not is known" in section["why"]


def test_n_of_icl_is_the_rows_that_are_used() -> None:
    data = plain()
    c = data.test.c.clone()
    c[np.random.default_rng(0).random(c.shape) < 0.5] = float("nan")
    hidden = im.Splits(data.train, data.validation, data.test.replace(c=c), name="hidden")
    model = im.fit("cbm", data, epochs=5)
    lines = {each["key"]: each for each in meanings(model, hidden, "leaks")["leaks"]["lines"]}
    known = (~np.isnan(c.numpy())).astype(int)
    pairs = (known.T @ known)[np.triu_indices(3, 1)]
    assert lines["icl"]["n"] == int(np.median(pairs)) == lines["icl_decided"]["n"]


def test_decisions_show_what_soft_values_of_correlated_concepts_hide() -> None:
    from isthmus import metrics
    from isthmus.metrics.concept import Kinds, hard
    from isthmus.metrics.leakage import rows_of_pairs

    draw = np.random.default_rng(0)
    z = draw.multivariate_normal(np.zeros(3), np.full((3, 3), 0.8) + 0.2 * np.eye(3), 2000)
    c, kinds = (z > 0).astype(float), Kinds((0, 1, 2), ())
    soft = np.clip((c @ [1, 2, 4])[:, None] / 8 + draw.normal(size=c.shape) * 0.02, 0, 1)
    assert metrics.icl(c, soft, kinds) < 0.01
    assert metrics.icl(c, hard(soft, kinds), kinds) > 0.3
    assert metrics.icl(c, hard(c, kinds), kinds) == 0
    c[::2, 0] = np.nan
    used = rows_of_pairs(metrics.icl.weighted(c, soft, kinds))  # type: ignore[arg-type]
    assert used == pytest.approx(500, abs=40)  # half of the 1,000 drawn, of two pairs in three
