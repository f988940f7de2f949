"""Realignment: its two passes written out, what it learns against counts, and the world in which it helps."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

import isthmus as im
from isthmus import hub, registry
from isthmus.data import Table, split
from isthmus.data.worlds.correlated import correlated
from isthmus.errors import DataError, OptionError
from isthmus.features import build
from isthmus.given import Batch, Given
from isthmus.model import feedforward
from isthmus.realign import Realigner, UpToAll
from isthmus.space import ConceptSpace, Task
from isthmus.testing import valid_given, world


def make(name: str, data: Any, **options: Any):
    return registry.get(name).make(build("identity", dim=data.train.x.shape[1]), data.space, data.task, **options)


def accuracy(model: Any, data: Any, count: int) -> tuple[float, float]:
    mask = torch.rand(data.c.shape, generator=torch.Generator().manual_seed(0)).argsort(1) < count
    right = [(model(data.x, known).concepts.values > 0.5) == (data.c > 0.5) for known in (None, Given(data.c, mask))]
    before, after = (each[~mask].float().mean().item() for each in right)
    return before, after


def test_the_rest_is_what_the_network_says_and_the_answer_is_read_from_that() -> None:
    data = world(("binary", "categorical", "continuous"))
    model = make("realigned", data, epochs=3).fit(data)
    x, n = data.test.x, len(data.test)
    held = valid_given(data.space, n, 3, 0.4)
    held.mask[0] = False
    out, plain = model(x, held), feedforward(model, x, held)
    said = data.space.activate(model.solver.logits(plain.concepts.values))
    binary = ~held.mask[1:, :4]
    torch.testing.assert_close(out.concepts.values[1:, :4][binary], said[1:, :4][binary])
    assert torch.equal(out.concepts.values[held.mask], held.values[held.mask])
    torch.testing.assert_close(out.logits, model.head(out.concepts, x))
    torch.testing.assert_close(out.logits[0], plain.logits[0])
    assert not torch.allclose(out.logits[1:], plain.logits[1:])
    assert torch.equal(model(x).logits, feedforward(model, x, None).logits)
    del model.solver
    model.solver = feedforward  # switched off: the uncorrected concepts stay
    free = ~held.mask & ~data.space.widen(data.space.narrow(held.mask))
    torch.testing.assert_close(model(x, held).concepts.values[free], model(x).concepts.values[free])


def test_the_network_learns_the_conditional_frequencies() -> None:
    """x says nothing: after one answer the best that can be said of the others is how often they go with it."""
    g = torch.Generator().manual_seed(0)
    a = (torch.rand(4000, generator=g) < 0.5).float()
    same, third = torch.rand(4000, generator=g) < 0.85, (torch.rand(4000, generator=g) < 0.3).float()
    c = torch.stack([a, torch.where(same, a, 1 - a), third], 1)
    space, task = ConceptSpace.binary(["a", "b", "third"]), Task.classes(["no", "yes"])
    data = split(Table(torch.randn(4000, 4, generator=g), c=c, y=a.long(), space=space, task=task))
    model = make("realigned", data, epochs=60, batch_size=256, dropout=0.0).fit(data)
    train = data.train.c
    for column in range(3):
        for value in (0.0, 1.0):
            known = im.given(space, {space.names[column]: value}, rows=len(data.test))
            got = model(data.test.x, known).concepts.values.mean(0)
            want = train[train[:, column] == value].mean(0)
            torch.testing.assert_close(got, want, atol=0.1, rtol=0)


def test_nine_corrections_help_the_other_three() -> None:
    """And the base alone is moved by exactly nothing."""
    data = correlated(train=1000, validation=200, test=600)
    plain = make("cbm", data, epochs=15, lr=1e-2).fit(data)
    before, after = accuracy(plain, data.test, 9)
    assert after == before
    model = im.realign(plain, data, epochs=40, lr=1e-2, batch_size=128)
    start, end = accuracy(model, data.test, 9)
    assert start == before
    assert end - start > 0.02
    torch.testing.assert_close(model(data.test.x).logits, plain(data.test.x).logits)
    assert plain.solver is feedforward


@pytest.mark.parametrize("base", ["cbm", "cem", "sidechannel", "scbm"])
def test_any_fitted_model_can_be_realigned_and_saved(base: str, tmp_path) -> None:
    data = world(("binary", "categorical"))
    fitted = make(base, data, epochs=2).fit(data)
    model = im.realign(fitted, data, epochs=2, layers=1)
    held = valid_given(data.space, len(data.test), 1, 0.5)
    again = hub.load(hub.save(model, tmp_path / "model"), features=build("identity", dim=8))
    assert torch.equal(again(data.test.x, held).logits, model(data.test.x, held).logits)
    assert again.origin["options"]["base"] == base
    assert isinstance(pickle.loads(pickle.dumps(model.solver)), Realigner)


def test_what_cannot_be_realigned_is_refused() -> None:
    data = world(("binary",))
    with pytest.raises(OptionError, match="got 'realigned'"):
        make("realigned", data, base="realigned")
    with pytest.raises(OptionError, match="got 'blackbox'"):
        make("realigned", data, base="blackbox")
    with pytest.raises(OptionError, match="expected the option|option"):
        make("realigned", data, base_options={"mode": "together"})
    model = make("cbm", data, epochs=1).fit(data)
    with pytest.raises(DataError, match="got others"):
        im.realign(model, world(("categorical",)))
    assert make("realigned", data, base_options={"mode": "independent"}, epochs=7).stages[0].epochs == 7


@pytest.mark.parametrize("labelled", [0.0, 0.1, 1.0])
def test_a_batch_of_which_nothing_is_known_teaches_nothing(labelled: float) -> None:
    """The last batch of an epoch may be one row without a label; or no row has one."""
    data = world(("binary",))
    data.train.c[torch.arange(len(data.train)) >= labelled * len(data.train)] = float("nan")
    data.train.c[len(data.train) // 2] = float("nan")
    model = make("realigned", data, epochs=2, batch_size=1, weight_decay=0.0).fit(data)
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    if not labelled:
        fresh = make("realigned", data, epochs=2, batch_size=1).model.solver
        assert torch.equal(model.solver.layers[0].weight, fresh.layers[0].weight)


def test_training_corrections_are_one_to_all_of_the_known_concepts() -> None:
    torch.manual_seed(0)
    space = ConceptSpace.binary(f"c{k}" for k in range(4))
    known = torch.ones(40_000, 4, dtype=torch.bool)
    known[:, 3] = False
    rows = Batch(torch.zeros(40_000, 1), torch.zeros(40_000, 4), torch.zeros(40_000), space)
    count = UpToAll()(rows).mask.sum(1)
    for each in (1, 2, 3, 4):
        assert (count == each).float().mean().item() == pytest.approx(0.25, abs=0.01)
    rows.known = known
    assert not bool(UpToAll()(rows).mask[:, 3].any())


def test_a_dropped_concept_is_read_at_its_mean() -> None:
    torch.manual_seed(0)
    space = ConceptSpace.binary("abcd"[k] for k in range(4))
    part = Realigner(space, hidden=6, layers=1)
    values = torch.rand(500, 4)
    for _ in range(60):
        part.logits(values)
    part.eval()
    torch.testing.assert_close(part.mean, values.mean(0), atol=1e-2, rtol=0)
    filled = values[:5].clone()
    filled[:, 2] = part.mean[2]
    want = part.logits(filled)[:, [3, 0, 1]]
    index = torch.tensor([3, 0, 1])
    part.keep(index, space.keep([3, 0, 1]))
    torch.testing.assert_close(part.logits(values[:5, index]), want)
