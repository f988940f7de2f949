"""VLG-CBM: the weight of positives, the standardised logits, what has no positive goes, and a sparse head on top."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.bottlenecks.layered import Layered
from isthmus.data.table import Splits
from isthmus.given import Batch
from isthmus.methods.vlgcbm import Positives
from isthmus.model import ConceptModel, Output
from isthmus.numerics import elastic_net
from tests.language import fit, plan, scene, textless


def rare(drop: int | None = None, unknown: bool = False) -> Splits:
    """Concepts of unequal rarity; ``drop`` has no positive training row."""
    data = textless(scene(rows=320))
    c = data.train.c.clone()
    c[:, 1] *= (torch.arange(len(c)) % 5 == 0).float()
    if drop is not None:
        c[:, drop] = 0.0
    if unknown:
        c[torch.rand(c.shape, generator=torch.Generator().manual_seed(0)) < 0.2] = torch.nan
    return Splits(data.train.replace(c=c), data.validation, data.test)


def seen_loss(data: Splits, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[ConceptModel, Positives]:
    """The loss with which the concept layer was trained."""
    found: list[Positives] = []
    call = Positives.__call__

    def heard(self: Positives, out: Output, batch: Batch, task: Any) -> dict[str, Tensor]:
        found.append(self)
        return call(self, out, batch, task)

    monkeypatch.setattr(Positives, "__call__", heard)
    model = fit("vlgcbm", data, epochs=1, **options)
    assert len({each.pos for each in found}) == 1
    return model, found[0]


@pytest.mark.parametrize("unknown", [False, True])
def test_auto_weights_are_negatives_over_positives_times_their_scale(unknown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rare(unknown=unknown)
    _, loss = seen_loss(data, monkeypatch, pos_weight=0.2)
    c = data.train.c.numpy()
    want = [0.2 * sum(v == 0 for v in column) / sum(v == 1 for v in column) for column in c.T]
    np.testing.assert_allclose(loss.pos, want, rtol=1e-6)
    assert max(want) > 3 * min(want)


def test_without_auto_every_concept_has_the_same_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    _, loss = seen_loss(rare(), monkeypatch, pos_weight=7.0, auto_weight=False)
    assert loss.pos == (7.0,) * 9


def test_the_concept_loss_is_weighted_cross_entropy_of_known_labels() -> None:
    """Cell by cell: w y log p + (1 - y) log(1 - p), mean over what is known; a NaN is no label."""
    data = rare(unknown=True)
    model, weights = plan("vlgcbm", data).model.requires_grad_(False), tuple(0.5 + k for k in range(9))
    batch = data.train.batch(data.train.x)
    out = model(data.train.x)
    cells = []
    for i, k in (data.train.c.isnan() == 0).nonzero().tolist():
        p, y = 1 / (1 + math.exp(-float(out.concepts.logits[i, k]))), float(data.train.c[i, k])
        cells.append(-weights[k] * y * math.log(p) - (1 - y) * math.log(1 - p))
    assert float(Positives(weights)(out, batch, data.task)["concept"]) == pytest.approx(np.mean(cells), rel=1e-5)


def test_weights_on_positives_move_the_layer() -> None:
    data = rare()
    low, high = (fit("vlgcbm", data, epochs=10, lr=0.01, pos_weight=w, auto_weight=False) for w in (0.2, 5.0))
    assert bool((high(data.test.x).concepts.logits.mean(0) > low(data.test.x).concepts.logits.mean(0) + 0.5).all())


@pytest.mark.filterwarnings("ignore:concept:UserWarning")
@pytest.mark.parametrize("hidden", [0, 1])
def test_concepts_without_a_positive_training_row_are_dropped(hidden: int) -> None:
    """Whatever validation and test rows show of them."""
    data = rare(drop=3)
    assert float(data.validation.c[:, 3].sum()) > 0
    model = fit("vlgcbm", data, epochs=2, hidden=hidden)
    assert model.space.names == tuple(name for k, name in enumerate(data.space.names) if k != 3)
    assert model.head.map.weight.shape == (3, 8)
    assert bool(model(data.test.x).logits.isfinite().all())


@pytest.mark.parametrize("hidden", [0, 1, 2])
def test_values_are_the_layers_logits_in_training_deviations(hidden: int) -> None:
    """Linear, then ReLU and a square layer as often as asked, written out; the sparse head is fitted on these."""
    data = rare()
    model = fit("vlgcbm", data, epochs=2, hidden=hidden, lam=0.02)
    part = model.bottleneck
    assert isinstance(part, Layered)
    linear = [layer for layer in part.layers if hasattr(layer, "weight")]
    assert [tuple(layer.weight.shape) for layer in linear] == [(9, 12)] + [(9, 9)] * hidden

    def raw(x: Tensor) -> np.ndarray:
        h = x.numpy()
        for number, layer in enumerate(linear):
            h = (h if number == 0 else np.maximum(h, 0)) @ layer.weight.numpy().T + layer.bias.numpy()
        return h

    train, test = raw(data.train.x), raw(data.test.x)
    out = model(data.test.x).concepts
    np.testing.assert_allclose(out.logits.numpy(), test, atol=1e-4)
    np.testing.assert_allclose(out.values.numpy(), (test - train.mean(0)) / train.std(0), atol=1e-3)
    shown = model(data.train.x).concepts.values
    assert bool((shown.mean(0).abs() < 1e-4).all()) and torch.allclose(shown.std(0, correction=0), torch.ones(9), atol=1e-3)
    how = {"lam": 0.02 / 0.99, "l1_ratio": 0.99}
    value, bound = elastic_net.certificate(shown, data.train.y, model.head.map.weight, model.head.map.bias, **how)
    assert value <= bound * (1 + 2e-4)


def test_the_number_of_effective_concepts_can_be_asked_for() -> None:
    model = fit("vlgcbm", rare(), epochs=3, lr=0.01, nec=2)
    assert int((model.head.map.weight != 0).sum()) == 6


def test_the_concept_layer_keeps_its_best_epoch_on_validation_rows_not_its_last() -> None:
    """The reference stores its best state by reference, so that its best is its last."""
    data = rare()
    model = fit("vlgcbm", data, epochs=40, lr=0.3, patience=40)
    scores = [row["validation"] for row in model.history if row["stage"] == "concept layer"]
    assert min(scores) < scores[-1]
    pos = (data.train.c == 0).sum(0) / data.train.c.sum(0)
    weighted = Positives(tuple(pos.tolist()))(model(data.validation.x), data.validation.batch(data.validation.x), data.task)
    assert float(weighted["concept"]) == pytest.approx(min(scores), rel=1e-4)


@pytest.mark.filterwarnings("ignore:no head of this path has 9 concepts a class:UserWarning")
def test_more_effective_concepts_than_there_are_is_all_of_them() -> None:
    """In the reference t / K above 1 zeroes nearly every weight; here t is K, and that cuts nothing."""
    model, whole = (fit("vlgcbm", rare(), epochs=3, lr=0.01, nec=t) for t in (30, 9))
    torch.testing.assert_close(model.head.map.weight, whole.head.map.weight)
    assert int((model.head.map.weight != 0).sum()) >= 15
