"""Fine-tuning the head alone: what is held stays bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import isthmus as im
from isthmus.data.table import Splits
from isthmus.errors import DataError, OptionError
from isthmus.interventions import chain
from isthmus.model import ConceptModel

Fit = tuple[ConceptModel, Splits]


def weights(model: ConceptModel) -> Tensor:
    return model.head.weights.detach()


def bits(model: ConceptModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor], but: tuple[str, ...] = ()) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a if name not in but)


def test_finetuning_moves_the_head_alone_and_less_where_it_is_held(linear: Fit) -> None:
    model, data = linear
    state = torch.get_rng_state()
    new = im.edit.finetune(model, data, without=["colour"], freeze="age", lr=1e-2, epochs=5, why="without the shortcut")
    assert torch.equal(torch.get_rng_state(), state)
    assert same(bits(model), bits(new), ("head.map.weight", "head.map.bias"))
    assert not weights(new)[:, 4:7].any()
    assert torch.equal(weights(new)[:, 9], weights(model)[:, 9])
    free = [0, 1, 2, 3, 7, 8, 10]
    assert bool((weights(new)[:, free] != weights(model)[:, free]).all())
    entry = new.history[-1]
    assert entry["what"]["without"] == ["colour=red", "colour=green", "colour=blue"]
    assert entry["what"]["freeze"] == ["age"]
    assert entry["effect"]["rows"] == len(data.validation)
    assert [row["stage"] for row in new.history[len(model.history) : -1]] == ["finetune"] * entry["what"]["ran"]
    assert not any(p.requires_grad for p in new.parameters())
    assert chain.broken(new) is None


def test_finetuning_lowers_the_loss_and_leaves_the_side_channel(fitted: Callable[..., Fit]) -> None:
    model, data = fitted(method="sidechannel", epochs=1)
    new = im.edit.finetune(model, data, lr=1e-2, epochs=30, why="new rows")
    loss = [float(im.losses.task(m(data.train.x), data.train.batch(data.train.x), m.task)["task"]) for m in (model, new)]
    assert loss[1] < 0.8 * loss[0]
    assert same(bits(model), bits(new), ("head.inner.map.weight", "head.inner.map.bias"))
    with pytest.raises(OptionError, match="epochs: expected a whole number of at least 1, got 0"):
        im.edit.finetune(model, data, epochs=0, why="nothing")
    with pytest.raises(DataError, match="expected Splits"):
        im.edit.finetune(model, data.train, why="rows")  # type: ignore[arg-type]
