"""fit, predict, intervene: what they tell, and what they refuse in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus.data import Splits, Table, load
from isthmus.errors import DataError, OptionError, UnknownName
from isthmus.interventions import Case, Uncertain
from isthmus.interventions.policies import hardened
from isthmus.space import Task
from isthmus.testing import world


def test_intervene_tells_in_words() -> None:
    data = load("tabular_toy", rows=800)
    model = im.fit("cbm", data, features="identity", epochs=30, lr=1e-2)
    told = im.intervene(model, data.test.x[:1], {"first positive": 1, "second positive": 1, "third positive": 1})
    assert told.after == "yes"
    assert told.text.endswith(f"answer: {told.before} → yes")
    assert told.ask_next == []
    free = im.intervene(model, data.test.x[:1])
    assert free.before == free.after
    assert len(free.ask_next) == 3
    with pytest.raises(UnknownName, match="did you mean 'first positive'"):
        im.intervene(model, data.test.x[:1], {"first positiv": 1})
    with pytest.raises(ValueError, match="expected one row, got 2"):
        im.intervene(model, data.test.x[:2])
    more = im.intervene(model, data.test.x[:1], truth=data.test.c[0], policy="ucp", budget=2)
    assert len(more.steps) == 2


def test_predict_names_its_decisions() -> None:
    data = load("tabular_toy", rows=400)
    model = im.fit("cbm", data, features="identity", epochs=3)
    told = im.predict(model, data.test)
    assert set(told.decisions) <= {"yes", "no"}
    assert told.concepts.shape == (len(data.test), 3)
    torch.testing.assert_close(told.probabilities, model(data.test.x).logits.softmax(-1))


def test_fit_says_what_is_unmet() -> None:
    data = world(("binary",))
    bare = Splits(*(t.replace(c=None, space=im.ConceptSpace()) for t in (data.train, data.validation, data.test)))
    with pytest.raises(ValueError, match="needs concept labels; this data runs blackbox, linear_probe"):
        im.fit("cbm", bare)


def test_a_probe_of_features_that_nobody_trained_trains_them_first() -> None:
    """Else it would read a random network; its accuracy would be that of random features."""
    data = load("xor", rows=1200)
    probe = im.fit("linear_probe", data, epochs=60, lr=1e-2)
    assert im.evaluate(probe, data.test)["accuracy"] > 0.9


@pytest.fixture(scope="module")
def xor() -> tuple[im.ConceptModel, Splits]:
    data = load("xor", rows=300)
    return im.fit("cbm", data, epochs=2), data


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]), "row 1: expected finite numbers, got nan at \\(1, 0\\)"),
        (np.array([[0.0, float("inf")]]), "row 0: expected finite numbers, got inf"),
        (torch.zeros(3, 5), "expected numbers of shape \\(rows, 2\\), got \\(3, 5\\)"),
        (np.zeros((3, 5)), "expected numbers of shape \\(rows, 2\\), got \\(3, 5\\)"),
        (torch.zeros(2), "for one row use x\\[None\\]"),
    ],
)
def test_rows_that_the_model_cannot_read(xor: tuple[im.ConceptModel, Splits], x: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        im.predict(xor[0], x)


def test_numbers_are_no_pictures() -> None:
    with pytest.raises(DataError, match="numbers take 'mlp'"):
        im.fit("cbm", "xor", features="resnet", epochs=1)


@pytest.mark.parametrize(
    "options",
    [{"epochs": 0}, {"lr": -1}, {"lr": float("nan")}, {"lr": float("inf")}, {"batch_size": 0}, {"hidden": 0}, {"patience": -1},
     {"concept_weight": -1.0}, {"weight_decay": -1.0}],
)  # fmt: skip
def test_options_out_of_range(options: dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(OptionError, match=f"option '{name}' of method 'cbm'"):
        im.fit("cbm", "xor", **options)


@pytest.mark.parametrize("seed", [-1, "x", True, 1.5, None])
def test_seeds_that_are_none(seed: Any) -> None:
    with pytest.raises(OptionError, match="seed: expected a whole number of at least 0"):
        im.fit("cbm", "xor", epochs=1, seed=seed)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, t: im.intervene(m, t, ["first high"]), "expected corrections as {concept: value}, got list"),
        (lambda m, t: im.intervene(m, t, truth=torch.zeros(7), budget=1), "expected 2 labels, .* got shape \\(7,\\)"),
        (lambda m, t: im.intervene(m, t, truth=[0.0, 1.0, 1.0], budget=1), "expected 2 labels, .* got shape \\(3,\\)"),
        (lambda m, t: im.intervene(m, t, truth=torch.zeros(2, 1), budget=1), "expected 2 labels, .* got shape \\(2, 1\\)"),
        (lambda m, t: im.intervene(m, t, truth=["yes", "no"], budget=1), "expected 2 labels, .* got list of other things"),
        (lambda m, t: im.intervene(m, t, truth=[0, 2], budget=1), "truth, row 0, 'second high': expected a label .* got 2"),
        (lambda m, t: im.intervene(m, t, allowed=torch.ones(3).bool()), "allowed: expected 2 of True or False, got .*\\(3,\\)"),
        (lambda m, t: im.intervene(m, t, truth=torch.zeros(2), budget=-1), "a budget of at least 0, got -1"),
        (lambda m, t: im.intervene(m, t, truth=torch.zeros(2), budget=1.5), "a budget of at least 0, got 1.5; .* whole"),
        (lambda m, t: im.intervene(m, t, truth=torch.zeros(2), budget="1"), "a budget of at least 0, got '1'"),
        (lambda m, t: im.intervene(m, t, truth=torch.zeros(2), budget=True), "a budget of at least 0, got True"),
        (lambda m, t: im.intervene(m, t, allowed=[1, 0]), "allowed: expected 2 of True or False, got torch.int64"),
        (lambda m, t: im.intervene(m, t, allowed="no"), "allowed: expected 2 of True or False, got str of other things"),
        (lambda m, t: im.intervene(m, t, truth=torch.zeros(2), budget=1, policy="upc"), "did you mean 'ucp'"),
        (lambda m, t: im.intervene(m, t, budget=1), "a budget needs truth="),
        (lambda m, t: im.intervene(m, t, {(0, 1): 1}), "unknown concept"),
    ],
)
def test_corrections_that_are_refused(
    xor: tuple[im.ConceptModel, Splits], call: Callable[[im.ConceptModel, Table], Any], words: str
) -> None:
    with pytest.raises(im.IsthmusError, match=words):
        call(xor[0], xor[1].test.take([0]))


def test_a_budget_is_spent_on_what_is_not_given_yet(xor: tuple[im.ConceptModel, Splits]) -> None:
    model, data = xor
    one = data.test.take([0])
    assert one.c is not None
    for m, name in enumerate(model.space.names):
        told = im.intervene(model, one, {np.int64(m): 1.0}, truth=one.c[0], policy="ucp", budget=1)
        assert [step["concept"] for step in told.steps] == list(model.space.names)
        assert next(step for step in told.steps if step["concept"] == name)["given"] == "1"
        assert told.ask_next == []


@pytest.mark.parametrize("policy", ["ucp", "random", "coop", "kflip", "lcp", "ucp:group", "static"])
def test_what_cannot_be_seen_is_not_asked_and_not_asked_next(policy: str) -> None:
    data = load("tabular_toy", rows=800)
    model = im.fit("cbm", data, features="identity", mode="independent", epochs=30, lr=1e-2)
    names = model.space.names
    for row in range(12):
        can = torch.tensor([[row % 3 != m for m in range(3)]])
        one = data.test.take([row]).replace(askable=can)
        hidden = names[row % 3]
        budget = 0 if policy == "static" else 3
        truth = None if policy == "static" else one.c[0].tolist()  # a list is as good as a tensor
        told = im.intervene(model, one, truth=truth, policy=policy, budget=budget)
        assert hidden not in [step["concept"] for step in told.steps]
        assert policy in ("kflip", "static") or len(told.steps) == 2
        free = im.intervene(model, one, policy=policy)
        assert hidden not in free.ask_next and len(free.ask_next) == 2
        assert len(im.intervene(model, one.x, policy=policy).ask_next) == 3
        assert hidden not in im.intervene(model, one.x, policy=policy, allowed=can[0]).ask_next
        kept = copy.deepcopy(model)
        kept.keep([2, 1, 0])
        assert hidden not in im.intervene(kept, one, policy=policy).ask_next  # the table's concepts by name
        spoken = im.intervene(model, one, {hidden: 1})  # who sees it may say so
        assert [step["concept"] for step in spoken.steps] == [hidden]


def test_who_says_what_to_ask_next_is_named() -> None:
    data = world(("binary",))
    model = im.fit("cbm", data, features="identity", epochs=3)
    by = dict.fromkeys(("ucp", "random", "kflip", "greedy", "lcp", "learned", "coop:batch"), "ucp")
    for policy, said in (by | {"ectp": "ectp", "eudtp:group": "eudtp:group", "static:group": "ucp:group"}).items():
        assert im.intervene(model, data.test.x[:1], policy=policy).ask_next_by == said
    own = im.fit("intcem", data, features="identity", epochs=1, level="concept")
    assert im.intervene(own, data.test.x[:1], policy="learned").ask_next_by == "learned"


def test_kflip_keeps_what_was_told_before_it() -> None:
    """And reports, beside it, only what it corrects itself."""
    data = load("tabular_toy", rows=800)
    model = im.fit("cbm", data, features="identity", mode="independent", epochs=30, lr=1e-2)
    for row in range(40):
        one = data.test.take([row])
        wrong = {model.space.names[0]: 1 - float(one.c[0, 0])}  # the label says the other: who asks again would undo it
        told = im.intervene(model, one, wrong, truth=one.c[0], policy="kflip", budget=3)
        assert [step["given"] for step in told.steps if step["concept"] in wrong] == [f"{v:g}" for v in wrong.values()]
        assert told.steps[0]["concept"] in wrong
    both = im.intervene(model, one, {model.space.names[m]: 1 for m in (0, 1)}, truth=one.c[0], policy="kflip", budget=1)
    assert len(both.steps) in (2, 3)


def test_kflip_reports_what_it_corrects_not_what_it_holds() -> None:
    data = load("tabular_toy", rows=800)
    model = im.fit("cbm", data, features="identity", mode="independent", epochs=30, lr=1e-2)
    found: set[int] = set()
    for row in range(len(data.test)):
        one = data.test.take([row])
        assert one.c is not None
        found.add(len(im.intervene(model, one, truth=one.c[0], policy="kflip", budget=1).steps))
    assert found == {0, 1}


def test_rows_of_another_task_are_not_scored(xor: tuple[im.ConceptModel, Splits]) -> None:
    model, data = xor
    other = data.test.replace(task=Task.classes(["p", "q"]))
    with pytest.raises(DataError, match="the model decides classes .'no', 'yes'., got rows labelled with classes .'p', 'q'"):
        im.evaluate(model, other)


def test_logits_as_a_reading_are_told_in_concept_units() -> None:
    """reading='logit' feeds logits to the head; what a person reads, and what scores are made from, are probabilities."""
    data = load("tabular_toy", rows=800)
    model = im.fit("cbm", data, features="identity", mode="sequential", reading="logit", epochs=30, lr=1e-2)
    z, c = data.test.x, data.test.c
    assert c is not None
    out = model(z)
    assert out.concepts.logits is not None
    chance = out.concepts.logits.sigmoid()
    torch.testing.assert_close(im.predict(model, data.test).concepts, chance)
    found = im.evaluate(model, data.test)
    assert found["concept_accuracy"] == pytest.approx(float(((chance > 0.5) == c).float().mean()), abs=1e-5)
    torch.testing.assert_close(hardened(model, z).values, (chance > 0.5).float())
    told = im.intervene(model, data.test.take([0]), {"first positive": 1})
    assert told.steps[0]["before"] == f"{float(chance[0, 0]):.2f}"
    assert torch.equal(
        Uncertain().choose(Case(model, z, c, torch.ones_like(c, dtype=torch.bool)), 1).float().argmax(1),
        (chance - 0.5).abs().argmin(1),
    )


def test_a_checkpoint_of_other_data_is_not_taken_up(tmp_path: Path) -> None:
    data = load("tabular_toy", rows=300)
    im.fit("cbm", data, features="identity", epochs=3, checkpoint=tmp_path)
    im.fit("cbm", data, features="identity", epochs=3, checkpoint=tmp_path)
    assert data.train.y is not None
    other = Splits(data.train.replace(y=1 - data.train.y), data.validation, data.test, name=data.name)
    with pytest.raises(im.IntegrityError, match="holds the checkpoint of another fit"):
        im.fit("cbm", other, features="identity", epochs=3, checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, s: im.fit("cbm", s.train), "expected Splits or a data set's name, got Table"),
        (lambda m, s: im.evaluate(m, s), "expected one Table of rows, such as splits.test, got Splits"),
        (lambda m, s: im.compare(s, seeds=3), "expected seeds as a list"),
        (lambda m, s: im.compare(s, training={"epoch": 2}), "did you mean 'epochs'"),
    ],
)
def test_arguments_of_another_kind(
    xor: tuple[im.ConceptModel, Splits], call: Callable[[im.ConceptModel, Splits], Any], words: str
) -> None:
    with pytest.raises(im.IsthmusError, match=words):
        call(*xor)


def test_a_method_that_does_not_fit_the_concepts_names_those_that_do() -> None:
    with pytest.raises(DataError, match="needs binary or categorical concepts alone, got continuous .* runs .*cbm"):
        im.fit("cem", world(("binary", "continuous")))


@pytest.mark.parametrize(
    ("method", "policy"), [("scbm", "ucp"), ("cbm", "ectp"), ("scbm", "coop"), ("cbm", "ucp:group"), ("autoregressive", "ectp")]
)
def test_what_is_asked_next_is_what_a_larger_budget_adds(method: str, policy: str) -> None:
    """Also where an answer moves the other concepts: who scores once goes on in that order."""
    data = world(("binary",))
    options: dict[str, Any] = {"draws": 20} if method != "cbm" else {}
    model = im.fit(method, data, features="identity", epochs=20, lr=1e-2, **options)
    groups, moved = list(model.space.groups.items()), False
    total = len(groups) if ":" in policy else model.space.count
    for row in range(16):
        one = data.test.x[row : row + 1]
        truth = 1 - model.answer(one).concepts.values[0].round()  # each answer is news
        for known in ({}, {model.space.names[2]: 1.0}):
            before = im.intervene(model, one, known, truth=truth, policy=policy)
            for budget in range(1, total + 1):
                after = im.intervene(model, one, known, truth=truth, policy=policy, budget=budget)
                new = {s["concept"] for s in after.steps} - {s["concept"] for s in before.steps}
                if not before.ask_next:
                    assert not new
                    continue
                name = before.ask_next[0]
                unit = [model.space.names[m] for m in dict(groups)[name]] if ":" in policy else [name]
                assert new == set(unit) - set(known)
                moved |= before.ask_next[1:] != after.ask_next[: len(before.ask_next) - 1]
                before = after
    assert moved == (policy == "coop")


def test_a_budget_past_all_numbers_and_masks_of_any_kind(xor: tuple[im.ConceptModel, Splits]) -> None:
    model, data = xor
    one = data.test.take([0])
    assert one.c is not None
    for budget in (999999999999999999999, np.int64(7)):
        assert len(im.intervene(model, one, truth=one.c[0], budget=budget).steps) == 2  # type: ignore[arg-type]
    for can in ([True, False], np.array([True, False]), torch.tensor([[True, False]])):
        assert im.intervene(model, one, allowed=can).ask_next == [model.space.names[0]]


def test_why_another_policy_says_what_to_ask_next() -> None:
    data = world(("binary", "categorical"))
    model = im.fit("cbm", data, features="identity", epochs=3)
    why = {"kflip": "needs binary concepts only", "lcp": "looks at the truth", "random": "no score", "learned": "learnt no"}
    for policy, said in why.items():
        told = im.intervene(model, data.test.x[:1], policy=policy)
        assert told.ask_next_by == "ucp" and said in told.ask_next_why
    assert im.intervene(model, data.test.x[:1], policy="ectp").ask_next_why == ""


@pytest.mark.parametrize("name", ["nowhere", "meta", "cuda:99", 3.5])
def test_a_device_that_is_not_here_is_named(name: Any) -> None:
    data = world(("binary",))
    for call in (lambda: im.fit("cbm", data, device=name), lambda: im.compare(data, methods=["cbm"], device=name)):
        with pytest.raises(OptionError, match=f"device: expected one of cpu.*, got {name!r}; isthmus doctor"):
            call()


def test_the_cpu_by_name_is_the_default() -> None:
    data = world(("binary",))
    one, two = (im.fit("cbm", data, epochs=2, **how) for how in ({}, {"device": "cpu"}))
    assert torch.equal(one(data.test.x).logits, two(data.test.x).logits)
