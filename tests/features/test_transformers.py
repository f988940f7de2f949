"""Vision models of transformers from a local folder: tiny random ones, saved, loaded, rebuilt offline."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from isthmus.errors import DataError, MissingExtra, OptionError
from isthmus.features.registry import Recipe, rebuild
from isthmus.features.transformers import vision_backbone

hf: Any = pytest.importorskip("transformers", reason="transformers is not installed (extra 'vision')")
TINY = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURE = {"image_size": 32, "patch_size": 8}


def saved(folder: Path, model: Any, processor: Any) -> Path:
    hf.logging.disable_progress_bar()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def vit(folder: Path) -> Path:
    torch.manual_seed(0)
    size = {"height": 32, "width": 32}
    return saved(folder, hf.ViTForImageClassification(hf.ViTConfig(**TINY, **PICTURE)), hf.ViTImageProcessorPil(size=size))


def clip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {**TINY, "vocab_size": 40, "max_position_embeddings": 12}
    config = hf.CLIPConfig(text_config=text, vision_config={**TINY, **PICTURE}, projection_dim=12)
    processor = hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return saved(folder, hf.CLIPModel(config), processor)


def siglip(folder: Path) -> Path:
    torch.manual_seed(0)
    config = hf.SiglipConfig(text_config={**TINY, "vocab_size": 40}, vision_config={**TINY, **PICTURE})
    return saved(folder, hf.SiglipModel(config), hf.SiglipImageProcessorPil(size={"height": 32, "width": 32}))


def convnext(folder: Path) -> Path:
    torch.manual_seed(0)
    config = hf.ConvNextConfig(hidden_sizes=[8, 8, 12, 16], depths=[1, 1, 1, 1])
    return saved(folder, hf.ConvNextModel(config), hf.ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0))


def noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("make", "pooling", "dim"),
    [(vit, "cls", 16), (clip, "projection", 12), (siglip, "pooler", 16), (convnext, "mean", 16)],
)
def test_a_local_folder_loads_and_is_rebuilt_without_it(
    make: Callable[[Path], Path], pooling: str, dim: int, tmp_path: Path
) -> None:
    folder = make(tmp_path / "model")
    module = vision_backbone(folder).eval()
    assert (module.dim, module.pooling, module.pretrained) == (dim, pooling, True)
    raw = noise(3, 3, 40, 52)
    with torch.no_grad():
        x = module.prepare(raw)
        z = module(x)
        assert module.prepare(x) is x
        assert z.shape == (3, dim)
        assert z.std() > 1e-4
        assert torch.allclose(module(x[1:2]), z[1:2], atol=1e-5)
    assert torch.equal(
        vision_backbone(folder).eval().state_dict()[key := next(iter(module.state_dict()))], module.state_dict()[key]
    )
    for path in folder.iterdir():
        path.unlink()
    assert module.recipe is not None
    assert str(tmp_path) not in json.dumps(module.recipe.options["config"])
    again = rebuild(Recipe.from_json(module.recipe.to_json())).eval()
    assert again.recipe == module.recipe
    assert again.pretrained
    again.load_state_dict(load(save(module.state_dict())))
    with torch.no_grad():
        assert torch.equal(again(again.prepare(raw)), z)


def test_projection_is_clips_own_image_feature(tmp_path: Path) -> None:
    folder = clip(tmp_path)
    module = vision_backbone(folder).eval()
    whole = hf.CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        x = module.prepare(noise(2, 3, 32, 32))
        expected = whole.get_image_features(pixel_values=x)
    expected = getattr(expected, "pooler_output", expected)
    assert torch.allclose(module(x), expected, atol=1e-6)
    assert not any("text" in name for name in module.state_dict())


def test_poolings_read_the_hidden_states(tmp_path: Path) -> None:
    folder = vit(tmp_path)
    own = hf.ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    first, mean = vision_backbone(folder, pooling="cls").eval(), vision_backbone(folder, pooling="mean").eval()
    with torch.no_grad():
        x = first.prepare(noise(2, 3, 32, 32))
        hidden = own(pixel_values=x).last_hidden_state
        assert torch.allclose(first(x), hidden[:, 0], atol=1e-6)
        assert torch.allclose(mean(x), hidden.mean(1), atol=1e-6)
    assert clip_pools(clip(tmp_path / "clip"))


def clip_pools(folder: Path) -> bool:
    pooled, first = vision_backbone(folder, pooling="pooler").eval(), vision_backbone(folder, pooling="cls").eval()
    with torch.no_grad():
        x = pooled.prepare(noise(2, 3, 32, 32))
        return pooled(x).shape == first(x).shape == (2, 16) and not torch.equal(pooled(x), first(x))


def test_a_head_missing_in_the_checkpoint_is_never_used(tmp_path: Path) -> None:
    folder = vit(tmp_path)  # saved as a classifier: it has no pooler
    with pytest.raises(DataError, match=r"^vision_backbone: .* lacks weights for 'pooler.dense.bias' and 1 more$"):
        vision_backbone(folder, pooling="pooler")
    first, second = (vision_backbone(folder).state_dict() for _ in range(2))
    assert not any("pooler" in name for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)
    tower = tmp_path / "tower"
    config = hf.CLIPVisionConfig(**TINY, **PICTURE)
    saved(tower, hf.CLIPVisionModel(config), hf.CLIPImageProcessorPil(size={"shortest_edge": 32}))
    with pytest.raises(DataError, match="lacks weights for 'visual_projection.weight'"):
        vision_backbone(tower)


def test_pictures_of_any_size_and_kind_are_processed_alike(tmp_path: Path) -> None:
    module = vision_backbone(clip(tmp_path))
    tall, wide = noise(3, 60, 40), noise(3, 33, 90)
    both = module.prepare([tall, wide.permute(1, 2, 0).numpy()])
    assert both.shape == (2, 3, 32, 32)
    assert torch.equal(both[:1], module.prepare(tall[None]))
    assert torch.equal(both[1:], module.prepare([wide]))
    with pytest.raises(DataError, match="image 0: expected"):
        module.prepare(["a.png"])


def test_half_precision_checkpoints_are_read_as_float32(tmp_path: Path) -> None:
    model = hf.ViTModel(hf.ViTConfig(**TINY, **PICTURE), add_pooling_layer=False).half()
    module = vision_backbone(saved(tmp_path, model, hf.ViTImageProcessorPil(size={"height": 32, "width": 32})))
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32}


def test_what_cannot_load_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"^vision_backbone: expected a folder with config.json and weights, found no .*gone"):
        vision_backbone(tmp_path / "gone")
    with pytest.raises(DataError, match=r"^vision_backbone: expected a folder or hub name that loads, got .*"):
        vision_backbone(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"hub name that loads, got 'no-one/no-model': .*") as caught:
        vision_backbone("no-one/no-model")
    assert "\n" not in str(caught.value)
    folder = vit(tmp_path / "vit")
    with pytest.raises(OptionError, match="^pooling 'projection': expected a CLIP model, got 'vit'"):
        vision_backbone(folder, pooling="projection")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"hub name that loads, got .*vit.*"):
        vision_backbone(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match=r"hub name that loads, got .*image processor"):
        vision_backbone(folder)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'isthmus\[vision\]'"):
        vision_backbone("any")


def test_loading_is_silent_and_leaves_the_loggers_as_they_were(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = vit(tmp_path)
    hf.logging.set_verbosity_warning()
    hf.logging.enable_progress_bar()
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vision_backbone(folder)
    assert capfd.readouterr() == ("", "")
    assert hf.logging.get_verbosity() == hf.logging.WARNING
    assert hf.logging.is_progress_bar_enabled()
