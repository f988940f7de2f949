"""Edits of fitted models: what changes is exactly what was asked, and the model that came in is untouched."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor

import isthmus as im
from isthmus import hub, registry, testing
from isthmus.data.table import Splits
from isthmus.errors import DataError, IsthmusError, OptionError, UnknownName
from isthmus.heads.linear import LinearHead
from isthmus.model import ConceptModel, Concepts
from isthmus.space import Concept, ConceptSpace
from isthmus.testing import world

MIXED = ("binary", "categorical", "continuous")
Fit = tuple[ConceptModel, Splits]
Fitter = Callable[..., Fit]


def weights(model: ConceptModel) -> Tensor:
    return model.head.weights.detach()


def shown(model: ConceptModel, x: Tensor) -> Tensor:
    """What a linear head is shown: numbers on the standardised scale."""
    return model.space.standardised(model(x).concepts.values).double()


def bits(model: ConceptModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor], but: tuple[str, ...] = ()) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a if name not in but)


# the weights


def test_a_new_weight_moves_one_logit_by_the_difference_times_the_value(linear: Fit) -> None:
    model, data = linear
    x, w = data.test.x, weights(model)
    for concept, k in (("yes or no 1", 1), ("colour=green", 5), ("age", 9)):
        assert model.space.columns[k] == concept
        new = im.edit.reweight(model, {("b", concept): float(w[1, k]) + 2.5}, why="too small")
        moved = (new(x).logits - model(x).logits).double()
        assert (moved[:, 1] - 2.5 * shown(model, x)[:, k]).abs().max() < 1e-4
        assert not moved[:, [0, 2]].any()
        assert same(bits(model), bits(new), ("head.map.weight",))
    rows = new.history[-1]["what"]["weights"]
    assert rows == [{"class": "b", "concept": "age", "from": float(w[1, 9]), "to": float(weights(new)[1, 9])}]


def test_several_weights_at_once_by_name_or_index(linear: Fit) -> None:
    model, _ = linear
    new = im.edit.reweight(model, {("a", "age"): -1, (2, 0): 0.25}, why="both")
    expected = weights(model).clone()
    expected[0, 9], expected[2, 0] = -1, 0.25
    assert torch.equal(weights(new), expected)


def test_pruning_takes_the_terms_out_of_the_sum(linear: Fit) -> None:
    model, data = linear
    x, w, a = data.test.x, weights(model).double(), shown(model, data.test.x)
    new = im.edit.prune(model, ["colour", "yes or no 3"], ["a", "c"], why="a shortcut")
    gone = torch.zeros_like(w)
    gone[[[0], [2]], [3, 4, 5, 6]] = 1
    assert (new(x).logits - (model(x).logits - a @ (w * gone).T)).abs().max() < 1e-5
    assert torch.equal(weights(new) == 0, gone.bool() | (w == 0))
    assert torch.equal(weights(new)[1], weights(model)[1])
    what = new.history[-1]["what"]
    assert what["classes"] == ["a", "c"]
    assert what["concepts"] == ["colour=red", "colour=green", "colour=blue", "yes or no 3"]
    assert what["weights"]["c"]["colour=blue"] == float(weights(model)[2, 6])
    everywhere = im.edit.prune(model, "age", why="a shortcut")
    assert not weights(everywhere)[:, 9].any()


def test_normalised_pruning_keeps_each_rows_l1_norm(linear: Fit) -> None:
    model, _ = linear
    new, w = im.edit.prune(model, ["age", 0], ["b"], normalise=True, why="FACT"), weights(model)
    assert not weights(new)[1, [0, 9]].any()
    assert torch.allclose(weights(new).abs().sum(1), w.abs().sum(1), rtol=1e-6)
    rest = [k for k in range(w.shape[1]) if k not in (0, 9)]
    ratio = weights(new)[1, rest] / w[1, rest]
    assert torch.allclose(ratio, ratio[0].expand(len(rest)), rtol=1e-5)
    assert float(ratio[0]) > 1
    assert torch.equal(weights(new)[[0, 2]], w[[0, 2]])
    with pytest.raises(OptionError, match="'a' has no other weight to rescale"):
        im.edit.prune(model, model.space.names, normalise=True, why="all")


@pytest.mark.parametrize("margin", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("kind", ["linear", "beside"])
def test_a_transfer_leaves_exactly_the_margin_asked_for(kind: str, margin: float, request: pytest.FixtureRequest) -> None:
    model, data = request.getfixturevalue(kind)
    logits = model(data.test.x).logits
    row = int((logits.argmax(1) != data.test.y).nonzero()[0])
    x, true, said = data.test.x[row : row + 1], int(data.test.y[row]), int(logits[row].argmax())
    for concept, k in (("age", 9), ("yes or no 2", 2), ("colour=red", 4)):
        new = im.edit.transfer(model, x, concept, true=true, margin=margin, why="wrongly used")
        now = new(x).logits[0]
        assert abs(float(now[true] - now[said]) - margin) < 1e-4
        a = float(shown(model, x)[0, k])
        step = (float(logits[row, said] - logits[row, true]) + margin) / (2 * a)
        expected = weights(model).clone()
        expected[true, k] += step
        expected[said, k] -= step
        assert torch.allclose(weights(new), expected, atol=1e-5 * (1 + abs(step)))
        what = new.history[-1]["what"]
        assert (what["true"], what["predicted"], what["concept"]) == (data.task.names[true], data.task.names[said], concept)
        assert ("beside" in what) == (kind == "beside")


def test_a_transfer_that_cannot_be_is_refused(linear: Fit) -> None:
    model, data = linear
    x, said = data.test.x[:1], int(model(data.test.x[:1]).logits.argmax())
    with pytest.raises(OptionError, match="decided .* already"):
        im.edit.transfer(model, x, "age", true=said, why="no mistake")
    with pytest.raises(DataError, match="one row, got 2"):
        im.edit.transfer(model, data.test.x[:2], "age", true=0, why="two")
    with pytest.raises(OptionError, match="margin of at least 0"):
        im.edit.transfer(model, x, "age", true=(said + 1) % 3, margin=-1, why="negative")
    zero = deepcopy(model)
    zero.bottleneck.score.weight.data[0], zero.bottleneck.score.bias.data[0] = 0, -1e4
    with pytest.raises(DataError, match="'yes or no 0' is 0 on this row"):
        im.edit.transfer(zero, x, "yes or no 0", true=1, predicted=0, why="absent")


def test_a_transfer_under_a_head_that_is_no_plain_sum_is_refused(linear: Fit) -> None:
    model, data = linear

    class Doubled(LinearHead):
        def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
            return 2 * super().forward(concepts, z)

    other = deepcopy(model)
    other.head = Doubled(model.space, model.task)
    said = int(other(data.test.x[:1]).logits.argmax())
    with pytest.raises(IsthmusError, match="no plain sum"):
        im.edit.transfer(other, data.test.x[:1], "age", true=(said + 1) % 3, why="w")


def test_the_side_channel_stays_and_the_entry_says_so(beside: Fit) -> None:
    model, data = beside
    new = im.edit.prune(model, "age", why="a shortcut")
    assert "side channel" in new.history[-1]["what"]["beside"]
    assert torch.equal(new.head.side.weight, model.head.side.weight)
    assert not weights(new)[:, 9].any()
    term = shown(model, data.test.x)[:, 9:10] * weights(model)[:, 9].double()
    assert (new(data.test.x).logits - (model(data.test.x).logits - term)).abs().max() < 1e-5


def test_heads_without_such_weights_are_refused_by_name(fitted: Fitter) -> None:
    for method, options, kind in (("cbm", {"head": "mlp"}, "MLPHead"), ("cem", {}, "VectorHead"), ("scbm", {}, "MonteCarlo")):
        model, _ = fitted(("binary",), method, epochs=1, **options)
        for change in (
            lambda m: im.edit.prune(m, 0, why="w"),
            lambda m: im.edit.reweight(m, {("a", 0): 1.0}, why="w"),
            lambda m: im.edit.transfer(m, torch.zeros(1, 8), 0, true=1, predicted=0, why="w"),
        ):
            with pytest.raises(OptionError, match=f"needs a linear head .*{kind}.*; remove"):
                change(model)


# the space


def test_a_rename_changes_names_everywhere_and_no_answer(linear: Fit, tmp_path: Path) -> None:
    model, data = linear
    new = im.edit.rename(model, {"age": "years lived", "size": "build"}, why="clearer")
    assert new.space.names == ("yes or no 0", "yes or no 1", "yes or no 2", "yes or no 3", "colour", "build", "years lived",
                               "weight")  # fmt: skip
    assert new.space == new.bottleneck.space == new.head.space
    assert new.space.columns[7:9] == ("build=s", "build=l")
    assert same(bits(model), bits(new))
    loaded = hub.load(hub.save(new, tmp_path / "run"))
    assert loaded.space == new.space
    assert torch.equal(loaded(data.test.x).logits, model(data.test.x).logits)
    assert im.edit.rename(model, {"age": "weight", "weight": "age"}, why="swapped").space.names[-2:] == ("weight", "age")
    with pytest.raises(DataError, match="named 'weight' already"):
        im.edit.rename(model, {"age": "weight"}, why="taken")
    with pytest.raises(DataError, match="printable"):
        im.edit.rename(model, {"age": "a\nb"}, why="two lines")
    with pytest.raises(DataError, match="unique|times"):
        im.edit.rename(model, {"age": "x", "size": "x"}, why="twice")


def test_rows_labelled_under_old_names_follow(linear: Fit) -> None:
    model, data = linear
    new = im.edit.rename(im.edit.rename(model, {"age": "a1"}, why="once"), {"a1": "a2", "size": "age"}, why="twice")
    rows = im.edit.follow(new, data.test)
    assert rows.space.names == new.space.names
    assert torch.equal(rows.labels_for(new.space).nan_to_num(), data.test.c.nan_to_num())
    assert data.test.labels_for(new.space) is None
    assert im.edit.follow(new, rows) is not rows
    assert im.edit.follow(new, rows).space == rows.space, "rows that have the new names already"
    some = data.test.replace(c=data.test.c[:, 9:10], space=ConceptSpace.of(Concept("age", "continuous")))
    assert im.edit.follow(new, some).space.names == ("age",), "rows of which it cannot be told what their names mean"
    assert im.evaluate(new, rows)["concept_accuracy"] == im.evaluate(model, data.test)["concept_accuracy"]


def test_removing_a_concept_takes_its_term_and_column(linear: Fit, tmp_path: Path) -> None:
    model, data = linear
    x, w, a = data.test.x, weights(model).double(), shown(model, data.test.x)
    new = im.edit.remove(model, ["colour", "age"], why="not wanted")
    gone, kept = [4, 5, 6, 9], [0, 1, 2, 3, 7, 8, 10]
    assert new.space.columns == tuple(model.space.columns[k] for k in kept)
    assert (new(x).logits - (model(x).logits - a[:, gone] @ w[:, gone].T)).abs().max() < 1e-5
    assert torch.equal(new(x).concepts.values, model(x).concepts.values[:, kept])
    loaded = hub.load(hub.save(new, tmp_path / "run"))
    assert torch.equal(loaded(x).logits, new(x).logits)
    with pytest.raises(OptionError, match="at least one concept to stay"):
        im.edit.remove(model, model.space.names, why="all")


# names


def test_unknown_names_are_answered_with_the_nearest(linear: Fit, fitted: Fitter) -> None:
    model, _ = linear
    for change in (
        lambda: im.edit.prune(model, "agee", why="w"),
        lambda: im.edit.prune(model, "colour=gren", why="w"),
        lambda: im.edit.remove(model, "agee", why="w"),
        lambda: im.edit.rename(model, {"agee": "x"}, why="w"),
        lambda: im.edit.prune(fitted(("binary",), epochs=1)[0], "yes or no 1", "yes or no", why="w"),
    ):
        with pytest.raises(UnknownName, match="did you mean|known: a, b, c"):
            change()
    with pytest.raises(OptionError, match="'colour' has 3 columns.*'colour=red'"):
        im.edit.reweight(model, {("a", "colour"): 1.0}, why="w")
    for nothing in (lambda: im.edit.prune(model, [], why="w"), lambda: im.edit.reweight(model, {}, why="w")):
        with pytest.raises(OptionError, match="got none"):
            nothing()
    with pytest.raises(OptionError, match="finite"):
        im.edit.reweight(model, {("a", "age"): float("inf")}, why="w")
    for weight in (1e39, -1e39, 10**400, float("nan"), True, "1"):
        with pytest.raises(OptionError, match=r"reweight, 'age': expected a finite weight, from -3.4e\+38 to 3.4e\+38, got"):
            im.edit.reweight(model, {("a", "age"): weight}, why="w")  # type: ignore[dict-item]
    exact = im.edit.reweight(model, {("a", "age"): torch.tensor(3.0)}, why="w")  # type: ignore[dict-item]
    assert exact.history[-1]["what"]["weights"][0]["to"] == 3
    with pytest.raises(DataError, match="class index 3"):
        im.edit.prune(model, "age", 3, why="w")


# all methods


@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_every_method_is_edited_or_refuses_in_one_line_and_stays_as_it_was(name: str, tmp_path: Path) -> None:
    data = world(("binary",), worded=True)
    model = testing._fit(name, data, {}, 0).fit(data)
    first, before, space, history = (model.space.names or ("none",))[0], bits(model), model.space, deepcopy(model.history)
    vector, rows = torch.ones(testing.WIDTH), data.validation
    done: dict[str, str] = {}
    for edit, change in {
        "prune": lambda: im.edit.prune(model, first, why="w", validation=rows),
        "reweight": lambda: im.edit.reweight(model, {("a", first): 2.0}, why="w"),
        "rename": lambda: im.edit.rename(model, {first: "another name"}, why="w"),
        "remove": lambda: im.edit.remove(model, first, why="w"),
        "finetune": lambda: im.edit.finetune(model, data, epochs=1, why="w"),
        "retext": lambda: im.edit.retext(model, first, "a text", vector=vector, why="w", validation=rows),
    }.items():
        try:
            new = change()
        except IsthmusError as error:
            done[edit] = str(error)
            continue
        done[edit] = "done"
        loaded = hub.load(hub.save(new, tmp_path / edit))
        assert torch.equal(loaded(data.test.x).logits, new(data.test.x).logits)
        assert loaded.history == new.history
    assert "done" in done.values()
    assert not any("\n" in said for said in done.values())
    assert (done["rename"] == "done") == bool(space.count)
    textual = space.vectors is not None and hasattr(model.bottleneck, "write_text")
    textual &= "class signatures" not in done["retext"]  # cms: a signature of the old text, see test_retext
    assert (done["retext"] == "done") == textual, done["retext"]
    assert same(before, bits(model))
    assert (model.space, model.history) == (space, history)
