"""A later edit does not undo an earlier one: pins, pruned and masked concepts, forgotten classes; else it says so."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus import repair, testing
from isthmus.data.table import Splits, Table
from isthmus.errors import IsthmusError, OptionError
from isthmus.interventions import adapt as adapting
from isthmus.interventions.holds import held
from isthmus.model import ConceptModel
from isthmus.space import Concept, ConceptSpace, Task

Fit = tuple[ConceptModel, Splits]
Edit = Callable[[ConceptModel, Splits], ConceptModel]


@pytest.fixture(scope="module")
def model() -> Fit:
    """Six binary concepts, three classes a, b, c."""
    data = testing.world(("binary",), rows=400)
    return im.fit("cbm", data, features="identity", epochs=40, lr=0.02), data


def right(model: ConceptModel, data: Splits, label: int) -> float:
    rows = data.test.take((data.test.y == label).nonzero()[:, 0])
    return float((model(rows.x).logits.argmax(1) == label).float().mean())


def pinned(model: ConceptModel, data: Splits) -> ConceptModel:
    return repair.pin(model, {("b", 1): 0.0}, data, why="later")


def tuned(model: ConceptModel, data: Splits) -> ConceptModel:
    return im.edit.finetune(model, data, epochs=5, lr=0.05, why="later")


@pytest.mark.filterwarnings("ignore:forget")
def relabelled(model: ConceptModel, data: Splits) -> ConceptModel:
    return repair.forget(model, data, "c", epochs=5, lr=0.02, why="later")


LATER: list[Edit] = [pinned, tuned, relabelled]


def masked(model: ConceptModel, column: int, gamma: float = 1.0) -> ConceptModel:
    """The model after an adaptation that masked a column, or amplified it, with the entry that it writes."""
    new = deepcopy(model)
    known = adapting.Source(torch.full((len(model.space),), 0.5), torch.zeros(3, 1), torch.zeros(len(model.space)))
    change = adapting.Change((column,)) if gamma == 1 else adapting.Change((), (column,), gamma)
    adapting.fold(new.head.map.weight, new.head.map.bias, known, change)
    names = [[model.space.columns[k] for k in part] for part in (change.masked, change.amplified)]
    return im.edit.record(model, new, "adapt", {"masked": names[0], "amplified": names[1], "gamma": gamma}, why="another stain")


@pytest.mark.filterwarnings("ignore:forget")
@pytest.mark.parametrize("later", LATER)
def test_pins_prunes_masks_and_set_weights_stay(model: Fit, later: Edit) -> None:
    old, data = model
    first = repair.pin(old, {("a", 0): 0.25}, data, why="first")
    new = later(first, data)
    assert float(new.head.weights[0, 0]) == 0.25, "the pin stays bit for bit"
    assert float(new.head.weights[:, 0].sum()) == pytest.approx(0, abs=1e-4), "and counts from the mean over classes"
    assert not torch.equal(new.head.weights[:, 2], first.head.weights[:, 2])
    assert new.history[-1]["what"]["held"]["weights"] == [{"class": "a", "concept": old.space.columns[0], "to": 0.25}]
    for first in (
        im.edit.prune(old, 0, why="first"),
        masked(old, 0),
        masked(old, 0, 2.0),
        im.edit.reweight(old, {("a", 0): 3.0}, why="first"),
        im.edit.finetune(old, data, without=0, epochs=1, why="first"),
        im.edit.prune(im.edit.rename(old, {old.space.names[0]: "other"}, why="w"), "other", why="first"),
        im.edit.rename(im.edit.prune(old, 0, why="first"), {old.space.names[0]: "other"}, why="w"),
    ):
        new = later(first, data)
        assert torch.equal(new.head.weights[:, 0], first.head.weights[:, 0]), first.history[-1]["edit"]
        assert not torch.equal(new.head.weights[:, 2], first.head.weights[:, 2])
        assert new.history[-1]["what"]["held"]["concepts"] == [new.space.columns[0]]


@pytest.mark.filterwarnings("ignore:forget")
@pytest.mark.parametrize("how", [{"by": "head"}, {"epochs": 15, "lr": 0.05}])
@pytest.mark.parametrize("later", LATER)
def test_a_forgotten_class_does_not_come_back(model: Fit, how: dict[str, object], later: Edit) -> None:
    old, data = model
    first = repair.forget(old, data, "a", why="withdrawn", **how)  # type: ignore[arg-type]
    new = later(first, data)
    assert right(old, data, 0) > 0.6
    assert right(new, data, 0) <= right(first, data, 0) + 0.02
    assert right(new, data, 1) > 0.5
    assert torch.equal(new.head.weights[0], first.head.weights[0]) and new.head.map.bias[0] == first.head.map.bias[0]
    assert new.history[-1]["what"]["held"]["forgotten"] == ["a"]
    shares = new.history[-1]["what"]["forgotten"]["a"]
    assert shares["after"] <= shares["before"] + 0.02


def test_forgotten_rows_are_never_taught_as_another_forgotten_class(model: Fit) -> None:
    from isthmus.interventions.forget import _relabelled

    old, data = model
    first = repair.forget(old, data, "a", by="head", why="withdrawn")
    for labels in ("random", "targeted"):
        told = _relabelled(first, data, 1, labels, 1.0, [], 0)
        assert set(told.train.y.tolist()) == {2} and set(told.validation.y.tolist()) == {2}
    with pytest.raises(IsthmusError, match="no class beside 'c' is left"):
        _relabelled(repair.forget(first, data, "b", by="head", why="withdrawn"), data, 2, "random", 1.0, [], 0)


def test_two_pins_hold_and_the_fit_is_that_of_both_at_once(model: Fit) -> None:
    old, data = model
    one = repair.pin(repair.pin(old, {("a", 0): 0.0}, data, why="w"), {("b", 1): 0.5}, data, why="w")
    both = repair.pin(old, {("a", 0): 0.0, ("b", 1): 0.5}, data, why="w")
    torch.testing.assert_close(one.head.weights, both.head.weights, atol=2e-4, rtol=1e-3)
    again = repair.pin(one, {("a", 0): 1.0}, data, why="another value")
    assert float(again.head.weights[0, 0]) == 1.0 and float(again.head.weights[1, 1]) == 0.5
    assert "undone" not in again.history[-1]["what"], "a weight that is named is replaced"


def test_what_a_pin_may_not_bring_back_is_refused(model: Fit) -> None:
    old, data = model
    gone = repair.forget(old, data, "a", by="head", why="withdrawn")
    with pytest.raises(OptionError, match="'a' was forgotten, so no weight of it is set; pin the model before"):
        repair.pin(gone, {("a", 0): 0.0}, data, why="w")
    shut = im.edit.prune(old, 0, why="w")
    with pytest.raises(OptionError, match=r"was shut out \(0 for every class\), and a pin of 1 would bring it back"):
        repair.pin(shut, {("a", 0): 1.0}, data, why="w")
    nothing = repair.pin(shut, {("a", 0): 0.0}, data, why="w")
    assert not bool(nothing.head.weights[:, 0].any()) and held(nothing).shut == {0}
    set_ = im.edit.reweight(shut, {("b", 0): 2.0}, why="a person's word")
    assert float(repair.pin(set_, {("a", 0): 1.0}, data, why="w").head.weights[1, 0]) == 2.0


def test_an_adaptation_leaves_what_was_set_alone(model: Fit) -> None:
    old, data = model
    w = adapting.weights_of(old, "adapt")
    shots = adapting.shown(old, w, data.test.take(range(60)))
    known = adapting.of_source(old, adapting.shown(old, w, data.validation))
    first = adapting.planned(w, shots, known, (2, 2, 2.0))
    column = first.masked[0]
    first_set = im.edit.reweight(old, {("a", column): 1.0}, why="w")
    new = repair.adapt(first_set, data.test.take(range(60)), source=data.validation, tolerance=1.0, why="w")
    assert torch.equal(new.head.weights[:, column], first_set.head.weights[:, column])
    assert new.history[-1]["what"]["held"]["concepts"] == [old.space.columns[column]]
    gone = repair.forget(old, data, "a", by="head", why="withdrawn")
    entry = repair.adapt(gone, data.test, source=data.validation, why="w").history[-1]["what"]
    assert entry["support"]["rows"] == int((data.test.y != 0).sum()), "rows of a forgotten class are not support"


def test_an_edit_that_undoes_another_warns_and_writes_it(model: Fit) -> None:
    old, data = model
    first = repair.pin(old, {("a", 0): 0.5}, data, why="w")
    with pytest.warns(UserWarning, match="prune: this moves what an earlier edit set: .* for a; set it again"):
        new = im.edit.prune(first, 1, normalise=True, why="w")
    assert new.history[-1]["what"]["undone"] == [f"{old.space.columns[0]} for a"]
    moved = deepcopy(first)
    moved.head.map.weight.data[0, 0] = 9
    with pytest.warns(UserWarning, match="prune: this moves"):
        im.edit.record(first, moved, "prune", {}, why="an entry that lacks its words")
    assert moved.history[-1]["what"]["undone"]
    gone = repair.forget(old, data, "a", by="head", why="withdrawn")
    back = deepcopy(gone)
    back.head.map.bias.data[0] = 50
    with pytest.warns(UserWarning, match="100% of the validation rows of 'a', a class that was forgotten, .* 0% before"):
        told = im.edit.record(gone, back, "by hand", {}, why="w", validation=data.validation)
    assert told.history[-1]["what"]["forgotten"] == {"a": {"before": 0.0, "after": 1.0}}


@pytest.mark.filterwarnings("ignore:forget")
def test_what_was_undone_is_held_where_it_is_and_said_once(model: Fit) -> None:
    old, data = model
    first = repair.pin(old, {("a", 0): 0.5}, data, why="w")
    with pytest.warns(UserWarning, match="prune: this moves"):
        new = im.edit.prune(first, 1, normalise=True, why="w")
    weight, column = float(new.head.weights[0, 0]), old.space.columns[0]
    assert abs(weight - 0.5) > 0.01
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*this moves")
        for later in (
            im.edit.rename(new, {old.space.names[2]: "other"}, why="w"),
            tuned(new, data),
            repair.pin(new, {("b", 2): 0.25}, data, why="w"),
            relabelled(new, data),
        ):
            what = later.history[-1]["what"]
            assert float(later.head.weights[0, 0]) == weight and "undone" not in what
            if "held" in what:
                assert {"class": "a", "concept": column, "to": weight} in what["held"]["weights"]
    gone = repair.forget(first, data, "a", epochs=5, lr=0.02, why="w").history[-1]["what"]
    assert not gone.get("held", {}).get("weights"), "a class that is forgotten takes its pins with it"


def test_a_concept_that_was_shut_out_is_none_once_an_edit_has_moved_it(model: Fit) -> None:
    old, data = model
    shut = im.edit.prune(old, 0, why="w")
    back = deepcopy(shut)
    back.head.map.weight.data[1, 0] = 2
    with pytest.warns(UserWarning, match="by hand: this moves"):
        moved = im.edit.record(shut, back, "by hand", {}, why="w")
    new = repair.pin(moved, {("a", 0): 1.0}, data, why="w")
    assert held(new).pins[1, 0] == 2 and not held(new).still, "a pin frees the concept"


@pytest.fixture(scope="module")
def states() -> Fit:
    """A categorical concept of three states, four classes."""
    space, draw = ConceptSpace((Concept("s", "categorical", ("p", "q", "r")), Concept("a"))), np.random.default_rng(0)

    def rows(n: int) -> Table:
        y = draw.integers(0, 4, n)
        s = np.eye(3, dtype=np.float32)[np.where(draw.random(n) < 0.7, y % 3, draw.integers(0, 3, n))]
        c = np.c_[s, (draw.random(n) < np.where(y == 3, 0.9, 0.1)).astype(np.float32)]
        x = 2 * c - 1 + 0.3 * draw.normal(size=c.shape).astype(np.float32)
        return Table(torch.from_numpy(x).float(), torch.from_numpy(c), torch.from_numpy(y), space, Task.classes("wxyz"))

    data = Splits(rows(400), rows(200), rows(200))
    return im.fit("cbm", data, mode="sequential", features="identity", epochs=10, lr=0.02), data


@pytest.mark.filterwarnings("ignore:forget")
@pytest.mark.parametrize("how", ["forgotten", "set"])
def test_states_that_a_later_edit_left_without_a_sum_over_classes_are_held_as_they_are(states: Fit, how: str) -> None:
    old, data = states
    pins = {("w", "s=p"): 0.5, ("x", "s=p"): 0.3, ("y", "s=p"): 0.1}
    if how == "forgotten":
        first = repair.forget(repair.pin(old, pins, data, why="w"), data, "z", by="head", why="w")
    else:
        first = repair.pin(old, pins | {("z", "s=p"): -0.9}, data, why="w")
        first = im.edit.reweight(first, {("w", "s=q"): 5.0}, why="w")
    pinned_again = repair.pin(first, {("x", "a"): 0.1}, data, why="w")
    for new, rows in (
        (tuned(first, data), [0, 1, 2]),
        (im.edit.finetune(first, data, freeze="s=r", epochs=2, why="w"), [0, 1, 2]),
        (pinned_again, [0, 1, 2]),
        (repair.pin(pinned_again, {("x", "s=p"): 0.2}, data, why="w"), [0, 2]),
        (repair.forget(first, data, "y", epochs=2, why="w"), [0, 1]),
    ):
        w, edit = new.head.weights, new.history[-1]["edit"]
        assert torch.equal(w[rows, 0], first.head.weights[rows, 0]), edit
        assert not torch.equal(w[:, 3], first.head.weights[:, 3]), edit
    assert float(pinned_again.head.weights[1, 3]) == pytest.approx(0.1)
    torch.testing.assert_close(pinned_again.head.weights[:3, :3].sum(1), torch.zeros(3), atol=1e-5, rtol=0)


def test_an_entry_that_lacks_what_is_needed_is_made_up_for_by_the_weights(model: Fit) -> None:
    old, data = model
    new = deepcopy(old)
    new.head.map.weight.data[:, 0] = 0
    bare = im.edit.record(old, new, "prune", {}, why="an entry of before")
    assert held(bare).shut == {0}
    assert not bool(pinned(bare, data).head.weights[:, 0].any())


def test_of_a_model_as_fitted_nothing_is_held_or_said(model: Fit) -> None:
    old, data = model
    assert not held(old)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for later in (pinned, tuned):
            assert not {"held", "undone", "forgotten"} & set(later(old, data).history[-1]["what"])
