"""Maps: completeness, closed forms on linear models, each row's own concepts, relevance by captum, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from isthmus import registry, testing
from isthmus.bottlenecks.linear import LinearBottleneck
from isthmus.errors import DataError, IsthmusError, OptionError
from isthmus.features import build
from isthmus.features.registry import Features
from isthmus.heads.linear import LinearHead
from isthmus.maps import chain, maps
from isthmus.model import Bottleneck, ConceptModel, Concepts
from isthmus.space import Concept, ConceptSpace, Task

SPACE = ConceptSpace((Concept("a"), Concept("b"), Concept("shade", "categorical", states=("light", "dark"))))
TASK = Task.classes(("x", "y"))


def pictured(pool: str = "max") -> ConceptModel:
    torch.manual_seed(0)
    features = build("cnn", width=4, dim=8, pool=pool)
    part = LinearBottleneck(features.dim, SPACE)
    model = ConceptModel(features, part, LinearHead(SPACE, TASK), SPACE, TASK).eval()
    for layer in features.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features) * 0.1
            layer.running_var = torch.rand(layer.num_features) + 0.5
    return model.requires_grad_(False)


def pictures(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def test_integrated_gradients_add_up_to_what_the_concept_gained() -> None:
    model, x = pictured("mean"), pictures()
    found = maps(model, x, ["a", "shade=dark"], by="integrated", steps=400)
    assert found.shape == (3, 2, 16, 24)
    gained = model(x).concepts.logits - model(torch.zeros_like(x)).concepts.logits
    torch.testing.assert_close(found.sum((2, 3)), gained[:, [0, 3]], atol=2e-3, rtol=2e-2)
    assert not any(p.requires_grad for p in model.parameters())


def test_each_row_by_its_own_concepts_and_one_row_as_in_a_batch() -> None:
    model, x = pictured(), pictures(70)
    index = torch.randint(4, (70, 2), generator=torch.Generator().manual_seed(2))
    found = maps(model, x, index, by="integrated", steps=4)
    for row in (0, 69):
        names = [SPACE.columns[k] for k in index[row]]
        torch.testing.assert_close(found[row : row + 1], maps(model, x[row : row + 1], names, by="integrated", steps=4))


def test_numbers_have_closed_forms() -> None:
    """On a linear concept gradient x input and integrated gradients are both w x."""
    features = build("identity", dim=5)
    model = ConceptModel(features, LinearBottleneck(5, SPACE), LinearHead(SPACE, TASK), SPACE, TASK).eval()
    x, w = torch.randn(4, 5), model.bottleneck.get_parameter("score.weight")
    for by in ("gradient", "integrated"):
        torch.testing.assert_close(maps(model, x, ["b"], by=by, steps=3)[:, 0], (x * w[1]).detach())
    shifted = maps(model, x, ["b"], by="integrated", baseline=1.0)
    torch.testing.assert_close(shifted[:, 0], ((x - 1) * w[1]).detach())


def test_noise_is_squared_before_it_is_averaged() -> None:
    model, x = pictured(), pictures(2)
    plain = maps(model, x, ["a"], by="gradient")
    torch.testing.assert_close(maps(model, x, ["a"], by="gradient", squared=True), plain.square())
    noisy = maps(model, x, ["a"], by="gradient", copies=3, noise=0.2, squared=True)
    assert bool((noisy >= 0).all()) and not torch.equal(noisy, plain.square())
    assert torch.equal(noisy, maps(model, x, ["a"], by="gradient", copies=3, noise=0.2, squared=True))


class Looking(Bottleneck):
    """A bottleneck that says where it looks."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.map = nn.Linear(8, 4)

    def forward(self, z: Tensor, given: object = None) -> Concepts:
        logits = self.map(z)
        return Concepts(SPACE.activate(logits), logits, where=logits[..., None, None] * torch.ones(2, 3))


def test_a_models_own_maps_come_first() -> None:
    model = pictured()
    model.bottleneck = Looking().eval()
    found = maps(model, pictures(), ["b", "a"])
    assert found.shape == (3, 2, 2, 3)
    torch.testing.assert_close(found[:, 0, 0, 0], model(pictures()).concepts.logits[:, 1])
    assert maps(model, pictures(), ["b"], by="gradient").shape == (3, 1, 16, 24)
    with pytest.raises(OptionError, match="makes no maps"):
        maps(pictured(), pictures(), ["b"], by="where")


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_relevance_runs_on_the_chain_that_the_model_is(pool: str) -> None:
    pytest.importorskip("captum")
    model, x = pictured(pool), pictures()
    layers = chain(model, x)
    assert layers is not None
    torch.testing.assert_close(layers(x), model(x).concepts.logits)
    found = maps(model, x, ["a", "b"], by="relevance")
    assert found.shape == (3, 2, 16, 24) and bool(found.isfinite().all()) and float(found.abs().max()) > 0


def test_relevance_of_linear_layers_without_bias_adds_up() -> None:
    pytest.importorskip("captum")
    torch.manual_seed(3)
    features = build("cnn", width=4, dim=8, pool="mean")
    for layer in features.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.bias.data.zero_()
    part = LinearBottleneck(8, SPACE)
    for name, value in part.named_parameters():
        if name.endswith("bias"):
            value.data.zero_()
    model = ConceptModel(features, part, LinearHead(SPACE, TASK), SPACE, TASK).eval()
    x = pictures()
    found = maps(model, x, ["a"], by="relevance").sum((1, 2, 3))
    torch.testing.assert_close(found, model(x).concepts.logits[:, 0].detach(), atol=1e-3, rtol=1e-2)


def test_a_network_that_is_no_chain_is_refused() -> None:
    model = pictured()
    model.features = build("resnet", width=4, dim=8).eval()
    with pytest.raises(OptionError, match="another network; take by='integrated'"):
        maps(model, pictures(), ["a"], by="relevance")


class Words(Features):
    dim = 4

    def prepare(self, raw: object) -> Tensor:
        return torch.zeros(2, 4, dtype=torch.long)


def test_refusals() -> None:
    model, x = pictured(), pictures()
    for call, said in (
        (lambda: maps(model, x, []), "at least one concept"),
        (lambda: maps(model, x, ["shade"]), "'shade=light'"),
        (lambda: maps(model, x, ["aa"]), "did you mean"),
        (lambda: maps(model, x, torch.full((3, 1), 9)), "column numbers"),
        (lambda: maps(model, x, ["a"], by="lrp"), "expected auto, where"),  # type: ignore[arg-type]
        (lambda: maps(model, x, ["a"], steps=0), "at least 1"),
        (lambda: maps(model, x[:, 0], ["a"]), "pictures"),
    ):
        with pytest.raises(IsthmusError, match=said):
            call()
    model.features = Words()
    with pytest.raises(OptionError, match="read words"):
        maps(model, ["a", "b"], ["a"])


@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_every_method_shows_where_it_looks(name: str) -> None:
    data = testing.world(("binary",), worded=True)
    model = testing._fit(name, data, {}, 0).fit(data)
    if not len(model.space):
        return
    found = maps(model, data.test.x[:4], [model.space.columns[0]])
    assert found.shape[:2] == (4, 1) and bool(found.isfinite().all())


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(DataError, match=r"\(3, P\)"):
        maps(pictured(), pictures(), torch.zeros(2, 1, dtype=torch.long))
