"""KnoBo: scikit-learn's logistic regressions on balanced rows, in order of accuracy, and a prior that pulls tanh(W)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from isthmus import hub
from isthmus.bottlenecks import grounded
from isthmus.bottlenecks.grounded import Grounded
from isthmus.data.table import Splits
from isthmus.errors import DataError, OptionError, UnknownName
from isthmus.heads.association import PriorHead
from isthmus.methods.knobo import told
from isthmus.model import Concepts
from isthmus.space import ConceptSpace, Task
from tests.language import fit, plan, scene, textless

QUICK = {"epochs": 3, "lr": 0.01}


def balanced(data: Splits, k: int) -> bool:
    return int(data.train.c[:, k].sum()) * 2 == len(data.train)


def even(rows: int = 240, **options: int) -> Splits:
    """As many training rows with as without each concept, so that none is cut."""
    data = textless(scene(rows=rows, noise=0.8, **options))
    order = torch.stack([torch.randperm(len(data.train), generator=torch.Generator().manual_seed(k)) for k in range(9)], 1)
    score = data.train.x @ torch.randn(12, 9, generator=torch.Generator().manual_seed(9)) + 1e-6 * order
    c = (score > score.median(0).values).float()
    return Splits(data.train.replace(c=c), data.validation, data.test)


def test_probabilities_are_those_of_separate_regressions_on_unit_features() -> None:
    """The stacked weights and one sigmoid against predict_proba of scikit-learn, concept by concept."""
    data = even()
    model = plan("knobo", data).model
    batch = data.train.batch(data.train.x)
    model.bottleneck.fit(data.train.x, batch)
    unit = lambda x: (x / x.norm(dim=1, keepdim=True)).double().numpy()  # noqa: E731
    found = model.bottleneck(data.test.x).values.detach().numpy()
    for k in range(9):
        assert balanced(data, k)
        other = LogisticRegression(max_iter=5000, tol=1e-9, class_weight="balanced").fit(unit(data.train.x), data.train.c[:, k])
        np.testing.assert_allclose(found[:, k], other.predict_proba(unit(data.test.x))[:, 1], atol=2e-3)
    torch.testing.assert_close(model.bottleneck(7 * data.test.x).values, model.bottleneck(data.test.x).values)


def taken(data: Splits, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Tensor], list[Tensor], Grounded]:
    """The rows that each concept is fitted on."""
    seen: list[list[Tensor]] = []
    made = grounded.directions.sets
    monkeypatch.setattr(grounded.directions, "sets", lambda *sides: (seen.extend(sides), made(*sides))[1])
    part = Grounded(12, data.space)
    part.fit(data.train.x, data.train.batch(data.train.x))
    return seen[0], seen[1], part


def test_the_larger_side_is_cut_to_the_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    data = textless(scene())
    yes, no, part = taken(data, monkeypatch)
    e = torch.nn.functional.normalize(data.train.x, dim=-1)
    for k in range(9):
        sides = [int((data.train.c[:, k] == v).sum()) for v in (1, 0)]
        assert len(yes[k]) == len(no[k]) == min(sides) < max(sides)
        for rows, value in ((yes[k], 1), (no[k], 0)):
            own = {tuple(row.tolist()) for row in e[data.train.c[:, k] == value]}
            assert {tuple(row.tolist()) for row in rows} <= own and len({tuple(r.tolist()) for r in rows}) == len(rows)
    assert bool(part.sure.all())
    monkeypatch.setattr(grounded, "MOST", 12)
    assert {len(rows) for rows in taken(data, monkeypatch)[0]} == {12}


@pytest.mark.filterwarnings("ignore:concept:UserWarning")
@pytest.mark.parametrize("rows", [48, 240])
def test_fewer_than_ten_rows_of_either_side_ground_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten are enough, nine are not, of rows with the concept or without; an unknown label is neither."""
    data = textless(scene(rows=rows))
    c = torch.zeros(len(data.train), 9)
    c[:10, 0] = 1
    c[:9, 1] = 1
    c[9:, 2] = 1
    c[10:, 3] = 1
    c[:10, 4] = 1
    c[0, 4] = torch.nan
    data = Splits(data.train.replace(c=c), data.validation, data.test)
    yes, _, part = taken(data, monkeypatch)
    assert part.sure.tolist() == [True, False, False, True, *[False] * 5]
    assert len(yes) == 2
    model = fit("knobo", data, **QUICK)
    assert set(model.space.names) == {data.space.names[k] for k in (0, 3)}
    nothing = Splits(data.train.replace(c=c * 0), data.validation, data.test)
    with pytest.raises(DataError, match="at least 10 rows"):
        fit("knobo", nothing, **QUICK)


def test_concepts_stand_in_the_order_of_validation_accuracy_and_the_best_stay() -> None:
    """Balanced accuracy by hand; validation rows decide, other test rows change nothing."""
    data = textless(scene(noise=1.5))
    whole = plan("knobo", data, **QUICK)
    model = whole.fit(data)
    names = list(model.space.names)
    part = Grounded(12, data.space)
    torch.manual_seed(0)
    part.fit(data.train.x, data.train.batch(data.train.x))
    said = part(data.validation.x).values > 0.5
    right = {}
    for k, name in enumerate(data.space.names):
        sides = [said[data.validation.c[:, k] == v, k].float().mean() for v in (1, 0)]
        right[name] = float(sides[0] + 1 - sides[1]) / 2
    assert names == sorted(data.space.names, key=lambda name: -right[name])
    assert len({round(v, 6) for v in right.values()}) > 5
    best = fit("knobo", data, most=4, **QUICK)
    assert list(best.space.names) == names[:4]
    assert best.history[0]["known"] == pytest.approx({name: right[name] for name in names[:4]}, abs=1e-6)


# the prior


def test_the_pull_is_nought_only_where_tanh_is_the_prior() -> None:
    space, task = ConceptSpace.binary(list("abcd")), Task.classes("xyz")
    head = PriorHead(space, task)
    prior = torch.tensor([[1.0, -1, 0, 1], [0, 0, 0, 0], [-1, 1, -1, 0]])
    head.believe(prior)
    head.map.weight.data = 20 * prior
    assert float(head.pull().detach()) == pytest.approx(0, abs=1e-7)
    for y, k in ((0, 0), (1, 2), (2, 3)):
        head.map.weight.data = 20 * prior
        head.map.weight.data[y, k] += 0.5 if prior[y, k] == 0 else -20.0 * prior[y, k]
        assert float(head.pull().detach()) > 0.03
    w = torch.randn(3, 4)
    head.map.weight.data = w
    cells = [abs(np.tanh(float(w[y, k])) - float(prior[y, k])) for y in range(3) for k in range(4)]
    assert float(head.pull().detach()) == pytest.approx(np.mean(cells), rel=1e-5)
    assert float(head.pull().detach()) != pytest.approx(np.mean(np.square(cells)), rel=1e-2), "not the squares"


def test_the_pull_is_paid_while_the_head_learns_and_only_there() -> None:
    head = PriorHead(ConceptSpace.binary(list("abcd")), Task.classes("xy"), strength=2.5)
    concepts = Concepts(torch.rand(5, 4))
    head.train()(concepts, concepts.values)
    torch.testing.assert_close(concepts.penalties["prior"], 2.5 * head.pull())
    concepts = Concepts(torch.rand(5, 4))
    head.eval()(concepts, concepts.values)
    assert not concepts.penalties


def test_documents_move_the_weights_and_without_them_it_is_the_head_alone() -> None:
    data = textless(scene())
    against = {y: {name: (-1 if name.startswith(y) else 1) for name in data.space.names} for y in "abc"}
    how = {"epochs": 100, "lr": 0.05, "patience": 0}  # else validation rows, which obey no document, choose an early epoch
    free, wrong, right = (
        fit("knobo", data, **how, **options)
        for options in ({"strength": 0.0}, {"prior": against, "strength": 20.0}, {"strength": 5.0, "prior": None})
    )
    own = torch.tensor([[name.startswith(y) for name in free.space.names] for y in "abc"])
    assert bool((free.head.map.weight[own] > 0).all()), "the rows say that a class has its own"
    own_wrong = wrong.head.map.weight[torch.tensor([[n.startswith(y) for n in wrong.space.names] for y in "abc"])]
    assert bool((own_wrong < 0).all()), "the documents say the opposite, more strongly"
    assert torch.equal(right.head.prior, own.float())
    assert float(right.head.pull()) < float(free.head.pull())
    unsaid = fit("knobo", data, prior={}, strength=50.0, **how)
    assert float(unsaid.head.map.weight.abs().max()) < 0.3, "unknown pulls to 0"


def test_the_head_reads_probabilities_with_a_bias() -> None:
    data = textless(scene())
    model = fit("knobo", data, **QUICK)
    out = model(data.test.x)
    assert float(out.concepts.values.min()) >= 0 and float(out.concepts.values.max()) <= 1
    torch.testing.assert_close(out.logits, out.concepts.values @ model.head.map.weight.T + model.head.map.bias)


def test_a_prior_is_checked() -> None:
    space, task = ConceptSpace.binary(["red", "round"]), Task.classes(["apple", "sky"])
    found = told({"apple": {"red": 1, "round": 1, "gone": 1}, "sky": {"round": -1}}, space, task)
    assert found.tolist() == [[1, 1], [0, -1]]
    with pytest.raises(UnknownName, match="did you mean 'apple'"):
        told({"aple": {}}, space, task)
    with pytest.raises(OptionError, match="expected -1, 0 or 1, got 2"):
        told({"apple": {"red": 2}}, space, task)
    with pytest.raises(OptionError, match=r"prior: expected \(2, 2\) of -1, 0 and 1"):
        PriorHead(space, task).believe(torch.full((2, 2), 0.5))


def test_a_misspelt_concept_of_the_prior_is_answered_and_dropped_ones_are_not(tmp_path) -> None:
    data = textless(scene())
    with pytest.raises(UnknownName, match="unknown concept of the prior 'a O'; did you mean"):
        fit("knobo", data, prior={"a": {"a O": 1}}, **QUICK)
    model = fit("knobo", data, prior={"a": dict.fromkeys(data.space.names, 1)}, most=3, **QUICK)
    assert len(model.space) == 3
    again = hub.load(hub.save(model, tmp_path / "model"))
    assert torch.equal(again(data.test.x).logits, model(data.test.x).logits)


def test_without_a_prior_a_concept_of_two_classes_is_expected_of_both() -> None:
    data = textless(scene())
    concepts = tuple(replace(c, owner=("a", "b")) if c.name == "a 1" else c for c in data.space.concepts)
    shared = Splits(*(getattr(data, n).replace(space=ConceptSpace(concepts)) for n in ("train", "validation", "test")))
    assert plan("knobo", shared, **QUICK).model.head.prior[:, 1].tolist() == [1, 1, 0]


def test_where_nothing_is_known_of_any_class_nothing_is_pulled_to_nought_and_that_is_said() -> None:
    data = textless(scene())
    space = ConceptSpace(tuple(replace(concept, owner=None) for concept in data.space.concepts))
    free = Splits(*(getattr(data, n).replace(space=space) for n in ("train", "validation", "test")))
    model, none = fit("knobo", free, **QUICK), fit("knobo", free, strength=0.0, **QUICK)
    assert torch.equal(model.head.weights, none.head.weights)
    assert not torch.equal(model.head.weights, fit("knobo", data, **QUICK).head.weights)
    assert "no prior was given" in model.history[0]["note"]
    assert not any("note" in row for row in fit("knobo", data, **QUICK).history)
