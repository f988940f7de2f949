"""Recipes: stamped by the builder, JSON only, enough to rebuild; chains keep their prefix frozen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from isthmus.errors import OptionError, UnknownName
from isthmus.features import registry
from isthmus.features.registry import Chain, Features, Recipe, build, entries, features_builder, names, rebuild
from isthmus.features.tabular import identity, mlp
from isthmus.features.vision import cnn


class Doubled(Features):
    dim = 2

    def prepare(self, raw: Tensor) -> Tensor:
        return raw

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_every_builder_is_listed_with_a_summary() -> None:
    assert {"identity", "mlp", "cnn", "resnet", "mobilenetv2", "resnet_cifar", "chain", "glove"} <= set(names())
    assert {"vision_backbone", "text_backbone", "sentence_encoder"} <= set(names())
    assert names() == sorted(names()) == list(entries())
    for entry in entries().values():
        assert entry.summary.endswith(".")
        assert set(entry.blank) <= set(entry.options)


def test_importing_features_imports_no_optional_package() -> None:
    code = "import json, sys, isthmus.features, isthmus.data.cache; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"transformers", "tokenizers", "PIL.Image", "pandas"} & set(json.loads(done.stdout))


def test_the_recipe_holds_every_option_of_the_call() -> None:
    module = mlp(3, hidden=(5, 4))
    assert module.recipe == Recipe("mlp", {"dim_in": 3, "hidden": [5, 4], "dim": 64})
    assert Recipe.from_json(module.recipe.to_json()) == module.recipe
    assert hash(module.recipe) == hash(build("mlp", 3, hidden=[5, 4]).recipe)
    assert build("mlp", dim_in=3, hidden=(5, 5)).recipe != module.recipe


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 1, "options": {}}', '{"name": "mlp", "options": []}'])
def test_a_broken_recipe_is_one_line(text: str) -> None:
    with pytest.raises(OptionError, match=r"^recipe: expected .*$"):
        Recipe.from_json(text)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("identity", {"dim": 3}),
        ("mlp", {"dim_in": 3, "hidden": (), "dim": 2}),
        ("cnn", {"width": 4, "dim": 6, "pool": "both"}),
        ("resnet", {"width": 4, "blocks": 1, "size": (16, 24)}),
        ("resnet_cifar", {"depth": 8, "weights": None}),
    ],
)
def test_rebuild_then_state_gives_the_same_features(name: str, options: dict[str, object]) -> None:
    module = build(name, **options).eval()
    assert module.recipe is not None
    again = rebuild(Recipe.from_json(module.recipe.to_json())).eval()
    assert again.recipe == module.recipe
    assert again.dim == module.dim
    again.load_state_dict(module.state_dict())
    raw = torch.randn(2, 3) if name in ("identity", "mlp") else torch.randint(0, 256, (2, 3, 24, 40), dtype=torch.uint8)
    z = module(module.prepare(raw))
    assert z.shape == (2, module.dim)
    assert torch.equal(again(again.prepare(raw)), z)


def test_rebuild_leaves_the_callers_seed_alone() -> None:
    recipe = mlp(3).recipe
    assert recipe is not None
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    rebuild(recipe)
    assert torch.equal(torch.rand(2), expected)


def test_rebuild_replaces_the_options_that_name_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_found", dict(registry._found))

    @features_builder("from file", blank={"weights": None})
    def from_file(*, weights: Path | None) -> Features:
        """Reads."""
        module = identity(2)
        module.register_buffer("w", torch.zeros(1) if weights is None else torch.tensor([float(weights.read_text())]))
        return module

    path = tmp_path / "w.txt"
    path.write_text("3")
    module = from_file(weights=path)
    assert module.recipe == Recipe("from file", {"weights": str(path)})
    path.unlink()
    again = rebuild(module.recipe)
    assert again.recipe == module.recipe
    assert again.state_dict()["w"] == 0
    again.load_state_dict(module.state_dict())
    assert again.state_dict()["w"] == 3


def test_unknown_names_are_answered_with_a_hint() -> None:
    with pytest.raises(UnknownName, match=r"unknown features 'resnt'; did you mean 'resnet'\?"):
        build("resnt")
    with pytest.raises(UnknownName, match=r"unknown option of features 'mlp' 'hiden'; did you mean 'hidden'\?"):
        build("mlp", 3, hiden=(2,))
    with pytest.raises(UnknownName, match="unknown features 'gone'"):
        rebuild(Recipe("gone", {}))
    with pytest.raises(OptionError, match=r"^features 'mlp': missing .*dim_in"):
        build("mlp")


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(OptionError, match="features 'chain', option 'prefix': Doubled has no recipe"):
        registry.chain(Doubled(), identity(2))
    with pytest.raises(OptionError, match="named options only"):
        features_builder("x")(lambda *many: identity(len(many)))
    with pytest.raises(UnknownName, match="blank option"):
        features_builder("x", blank={"weight": None})(identity)
    assert "x" not in names()


@pytest.mark.parametrize("bad", [0, -1, 1.5, "3"])
def test_sizes_are_whole_and_positive(bad: object) -> None:
    with pytest.raises(OptionError, match=r"^identity, dim: expected a whole number of at least 1, got "):
        build("identity", bad)


def chained() -> Chain:
    torch.manual_seed(0)
    return registry.chain(cnn(width=2, dim=5), mlp(5, hidden=(), dim=3))


def test_chain_freezes_its_prefix_for_good() -> None:
    model = chained()
    images = model.prepare(torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8))
    before = {name: value.clone() for name, value in model.prefix.state_dict().items()}
    model.train().requires_grad_(True)
    assert not model.prefix.training
    assert model.neck.training
    assert not any(p.requires_grad for p in model.prefix.parameters())
    assert all(p.requires_grad for p in model.neck.parameters())
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1.0).zero_grad()
    z = model(images)
    z.sum().backward()
    assert z.shape == (4, 3)
    assert all(torch.equal(before[name], value) for name, value in model.prefix.state_dict().items())
    assert torch.equal(model(images), model.neck(model.prefix(images)))


def test_chain_is_rebuilt_with_its_parts() -> None:
    model = chained().eval()
    assert model.recipe is not None
    again = rebuild(Recipe.from_json(model.recipe.to_json())).eval()
    assert isinstance(again, Chain)
    assert again.recipe == model.recipe
    again.load_state_dict(model.state_dict())
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(again(again.prepare(images)), model(model.prepare(images)))
    assert not any(p.requires_grad for p in again.prefix.parameters())


def test_chain_refuses_a_neck_of_the_wrong_width() -> None:
    with pytest.raises(OptionError, match="takes the prefix's 4 columns, got 3"):
        Chain(identity(4), mlp(3))


def test_a_hand_made_module_works_without_a_recipe() -> None:
    model = Chain(Doubled(), mlp(2))
    assert model.recipe is None
    assert model(torch.ones(3, 2)).shape == (3, 64)
    with pytest.raises(NotImplementedError, match="Features has no prepare"):
        Features().prepare(0)
