"""What every language-born method keeps: exact edits, sealed test rows, two classes, and a life after concepts were dropped."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isthmus import hub
from isthmus.data.table import Splits
from isthmus.features import Features
from isthmus.given import Given
from isthmus.methods.pcbm import Residual
from isthmus.model import ConceptModel
from isthmus.space import Concept, ConceptSpace
from tests.language import ALL, fit, identity, plan, scene, sealed, unlabelled

LINEAR = [name for name in ALL if name != "cms"]
SCORES = [name for name in ALL if name != "knobo"]


def made(name: str, text: int | None = None, **options: Any) -> tuple[ConceptModel, Splits, Features]:
    data = scene(text=text) if name in ("vlgcbm", "knobo") else unlabelled(scene(text=text))
    features = identity(data, text if name not in ("vlgcbm", "knobo", "peeb") else None)
    given = dict(ALL[name])
    if text is not None and "class_vectors" in given:
        given["class_vectors"] = torch.randn(3, text, generator=torch.Generator().manual_seed(2))
    return fit(name, data, features=features, **given | options), data, features


@pytest.mark.parametrize("name", LINEAR)
def test_editing_a_concept_by_d_moves_the_logits_by_its_weights_times_d(name: str) -> None:
    """Whatever unit the values have: no other value moves, and the logits move by W[:, k] d."""
    model, data, _ = made(name)
    weights, before = model.head.weights.double(), model(data.test.x)
    for k in range(len(model.space)):
        for value in (0.0, 0.3, 1.0):
            told, mask = torch.zeros(1, len(model.space)), torch.zeros(1, len(model.space), dtype=torch.bool)
            told[0, k], mask[0, k] = value, True
            after = model(data.test.x, Given(told, mask))
            d = (after.concepts.values - before.concepts.values).double()
            assert int((d.abs().sum(0) > 0).sum()) <= 1 and float(d[:, k].abs().max()) > 0
            moved = (after.logits - before.logits).double()
            size = float(before.logits.abs().max()) + float(after.logits.abs().max())
            np.testing.assert_allclose(moved.numpy(), (d[:, k, None] * weights[:, k]).numpy(), atol=1e-5 * (1 + size))


@pytest.mark.parametrize("name", SCORES)
def test_absent_and_present_are_the_training_percentiles(name: str) -> None:
    """numpy's quantiles of what the model shows of training rows; a correction is read back as it was told."""
    model, data, _ = made(name)
    shown, k = model(data.train.x).concepts.values.numpy(), len(model.space)
    for value, share in ((0.0, 0.05), (1.0, 0.95)):
        held = Given(torch.full((1, k), value), torch.ones(1, k, dtype=torch.bool))
        written = model(data.test.x, held).concepts.values
        np.testing.assert_allclose(written[0].numpy(), np.quantile(shown, share, axis=0), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(model.bottleneck.read(written), torch.full_like(written, value), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", list(ALL))
def test_a_fit_never_reads_a_test_row(name: str) -> None:
    data = scene() if name in ("vlgcbm", "knobo") else unlabelled(scene())
    x = data.test.x
    shut = fit(name, sealed(data), **ALL[name])
    with pytest.raises(AssertionError, match="must not"):
        sealed(data).test.read()
    assert torch.equal(shut(x).logits, fit(name, data, **ALL[name])(x).logits)


@pytest.mark.parametrize("name", list(ALL))
def test_two_classes_have_two_logits_and_a_middle_between_them(name: str) -> None:
    data = scene(classes=2, each=4)
    options = dict(ALL[name])
    if "class_vectors" in options:
        options["class_vectors"] = torch.stack([data.space.vectors[:4].mean(0), data.space.vectors[4:].mean(0)])
    model = fit(name, data if name in ("vlgcbm", "knobo") else unlabelled(data), **options)
    out = model(data.test.x)
    assert out.logits.shape == (60, 2) and bool(out.logits.isfinite().all())
    torch.testing.assert_close(model.task.probabilities(out.logits).sum(1), torch.ones(60))


@pytest.mark.parametrize("name", list(ALL))
@pytest.mark.parametrize("text", [None, 5])
def test_what_is_left_after_concepts_were_dropped_is_saved_and_read_back(name: str, text: int | None, tmp_path: Path) -> None:
    """A subset in another order, on features with a text space of their own or without; the texts' vectors are kept, too."""
    model, data, features = made(name, text)
    x, count = data.test.x, model.space.count
    before = model(x).concepts.values
    left = [count - 1, 0, count // 2]
    model.keep(left)
    torch.testing.assert_close(model(x).concepts.values, before[:, left])
    again = hub.load(hub.save(model, tmp_path / "model"), features=features)
    held = Given(torch.tensor([[1.0, 0.0, 0.3]]), torch.tensor([[True, False, True]]))
    for given in (None, held):
        assert torch.equal(again(x, given).logits, model(x, given).logits)
        assert torch.equal(again(x, given).concepts.values, model(x, given).concepts.values)
    assert again.space == model.space
    if model.space.vectors is not None:
        assert torch.equal(again.space.vectors, model.space.vectors)
    twice = hub.load(hub.save(again, tmp_path / "twice"), features=features)
    assert torch.equal(twice(x).logits, model(x).logits)


FRESH = """
import sys, torch
from safetensors.torch import load_file, save_file
from isthmus import hub
torch.set_num_threads(1)
out = hub.load(sys.argv[1])(load_file(sys.argv[2])["x"])
save_file({"logits": out.logits.contiguous()}, sys.argv[3])
"""


def test_so_it_is_in_a_fresh_process(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model, data, _ = made("labo")
    model.keep([4, 0, 2])
    hub.save(model, tmp_path / "model")
    save_file({"x": data.test.x.contiguous()}, tmp_path / "in.safetensors")
    files = [str(tmp_path / each) for each in ("model", "in.safetensors", "out.safetensors")]
    subprocess.run([sys.executable, "-c", FRESH, *files], check=True)
    torch.testing.assert_close(load_file(files[2])["logits"], model(data.test.x).logits, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("vlgcbm", "knobo", "zeroshot")])
def test_texts_alone_are_enough(name: str) -> None:
    """No concept label is read, where a table has some: the same weights with and without."""
    data = scene()
    a, b = (fit(name, each, **ALL[name]) for each in (data, unlabelled(data)))
    torch.testing.assert_close(a(data.test.x).logits, b(data.test.x).logits)
    assert a.space.names == b.space.names


@pytest.mark.parametrize("name", list(ALL))
def test_a_concept_that_no_class_owns_is_no_obstacle(name: str) -> None:
    """One of nine belongs to nobody: it counts for no class where owners decide."""
    data = scene() if name in ("vlgcbm", "knobo") else unlabelled(scene())
    concepts = tuple(replace(c, owner="elsewhere") if k == 4 else c for k, c in enumerate(data.space.concepts))
    space = ConceptSpace(concepts, data.space.vectors)
    data = Splits(*(getattr(data, n).replace(space=space) for n in ("train", "validation", "test")))
    model = fit(name, data, **ALL[name])
    assert bool(model(data.test.x).logits.isfinite().all())
    if name in ("describe", "peeb"):
        assert float(model.head.weights[:, 4].abs().max()) == 0
    if name == "labo":
        assert "b 1" not in model.space.names


def test_the_residuals_loss_belongs_to_its_own_model() -> None:
    """Two plans at once do not share weights or losses."""
    data = unlabelled(scene())
    one, two = plan("pcbm_h", data), plan("pcbm_h", data)
    losses = [p.stages[-1].loss for p in (one, two)]
    assert all(isinstance(loss, Residual) for loss in losses) and losses[0].model is one.model is not two.model
    assert isinstance(data.space.concepts[0], Concept)
