"""Models of the ``transformers`` library, imported when first used: loading them, and the vision backbones.

Configuration and picture processor stand in the recipe, so that a saved model is rebuilt without the hub.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from isthmus.errors import DataError, OptionError, require
from isthmus.features.images import pictures
from isthmus.features.registry import Features, features_builder

VisionPooling = Literal["auto", "cls", "mean", "pooler", "projection"]
Json = dict[str, Any]

_PROJECTED = {
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "clip_text_model": "CLIPTextModelWithProjection",
    "metaclip_2_vision_model": "MetaClip2VisionModelWithProjection",
    "metaclip_2_text_model": "MetaClip2TextModelWithProjection",
}
_OWN = {"siglip_text_model": "SiglipTextModel", "siglip2_text_model": "Siglip2TextModel"}
"""Models that AutoModel does not know."""
_POOLED = ("siglip_vision_model", "siglip2_vision_model", "swin", "swinv2")
"""Models whose pooler is the published picture embedding."""


@contextmanager
def quiet() -> Iterator[Any]:
    """The transformers module, silent while loading: what matters is checked here and raised."""
    hf = require("transformers", "vision")
    level, bar = hf.logging.get_verbosity(), hf.logging.is_progress_bar_enabled()
    hf.logging.set_verbosity_error()
    hf.logging.disable_progress_bar()
    try:
        yield hf
    finally:
        hf.logging.set_verbosity(level)
        if bar:
            hf.logging.enable_progress_bar()


def load(what: str, loader: Any, source: str | Path, **options: Any) -> Any:
    """``loader.from_pretrained`` with its failures in one line."""
    path = Path(source).expanduser()
    local = path.is_dir()
    if not local and (path.is_absolute() or str(source).startswith((".", "~"))):
        raise DataError(f"{what}: expected a folder with config.json and weights, found no {path}; check the path")
    try:
        return loader.from_pretrained(str(path) if local else str(source), trust_remote_code=False, **options)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{what}: expected a folder or hub name that loads, got {str(source)!r}: {reason}") from error


def tower(config: Any, side: Literal["vision", "text"]) -> Any:
    """The configuration of one side of a two-tower model such as CLIP; a single model's own."""
    own = getattr(config, f"{side}_config", None)
    if own is None:
        return config
    if hasattr(config, "projection_dim") and hasattr(own, "projection_dim"):
        own.projection_dim = config.projection_dim
    return own


def _model_class(hf: Any, config: Any, pooling: str) -> Any:
    if pooling == "projection":
        if config.model_type not in _PROJECTED:
            raise OptionError(f"pooling 'projection': expected a CLIP model, got {config.model_type!r}; use 'mean'")
        return getattr(hf, _PROJECTED[config.model_type])
    if config.model_type in _OWN:
        return getattr(hf, _OWN[config.model_type])
    return hf.AutoModelForTextEncoding if getattr(config, "is_encoder_decoder", False) else hf.AutoModel


def model_of(hf: Any, what: str, source: str | Path, config: Any, pooling: str, weights: Json | None) -> Any:
    """The network in float32: from ``source`` with these loading options, or (None) its bare structure."""
    kind = _model_class(hf, config, pooling)
    if weights is None:
        model = kind.from_config(config) if kind.__name__.startswith("Auto") else kind(config)
    else:
        model, info = load(what, kind, source, config=config, dtype=torch.float32, output_loading_info=True, **weights)
        missing = sorted(name for name in info["missing_keys"] if pooling == "pooler" or "pooler" not in name)
        if missing:
            raise DataError(f"{what}: {str(source)!r} lacks weights for {missing[0]!r} and {len(missing) - 1} more")
    pooler = getattr(model, "pooler", None)
    if pooler is not None and pooling != "pooler" and list(pooler.parameters()):
        model.pooler = None  # not used, and random in many checkpoints
    return model.eval()


def saved(config: Any) -> Json:
    """A configuration or processor as JSON, without the place it came from."""
    options = {"use_diff": False} if hasattr(config, "model_type") else {}
    return {key: value for key, value in json.loads(config.to_json_string(**options)).items() if key != "_name_or_path"}


def width(config: Any, pooling: str) -> int:
    """D, from a configuration."""
    found = config.projection_dim if pooling == "projection" else getattr(config, "hidden_size", None)
    found = found or (getattr(config, "hidden_sizes", None) or [getattr(config, "d_model", None)])[-1]
    if not isinstance(found, int):
        raise OptionError(f"model type {config.model_type!r}: expected hidden_size in its configuration, found none")
    return found


class VisionBackbone(Features):
    """A picture encoder of transformers with its own picture processor (Pillow)."""

    pretrained = True

    def __init__(self, model: Any, processor: Any, pooling: VisionPooling) -> None:
        super().__init__()
        self.model, self.processor, self.pooling = model, processor, pooling
        self.dim = width(model.config, pooling)
        self.resolved = {"config": saved(model.config), "processor": saved(processor), "pooling": pooling}

    def prepare(self, raw: Any) -> Tensor:
        """Pictures -> float32 (B, 3, H, W) as the checkpoint's processor makes them; float tensors pass unchanged."""
        if isinstance(raw, Tensor) and raw.is_floating_point():
            return raw.float()
        rows = raw if isinstance(raw, list | tuple) else list(pictures(raw))
        images = [pictures([row])[0] for row in rows]
        return self.processor(images, return_tensors="pt", input_data_format="channels_first")["pixel_values"].float()

    def forward(self, x: Tensor) -> Tensor:
        """Prepared pictures (B, 3, H, W) -> z (B, D)."""
        out = self.model(pixel_values=x)
        if self.pooling == "projection":
            return out.image_embeds
        if self.pooling == "pooler":
            return out.pooler_output.flatten(1)
        hidden = out.last_hidden_state
        if hidden.ndim == 4:
            return hidden.mean((2, 3))
        return hidden[:, 0] if self.pooling == "cls" else hidden.mean(1)


@features_builder("vision_backbone")
def vision_backbone(
    name_or_folder: str | Path,
    *,
    pooling: VisionPooling = "auto",
    revision: str | None = None,
    config: Json | None = None,
    processor: Json | None = None,
) -> VisionBackbone:
    """A vision model of transformers (ViT, DINOv2, CLIP, SigLIP, ConvNeXt ...), by hub name or local folder.

    ``pooling``: 'cls' token, 'mean' over tokens or places, 'pooler' output, 'projection' into CLIP's shared space, or
    'auto': projection, else pooler for SigLIP and Swin, else mean over a map, else the cls token. ``config`` and
    ``processor`` are saved settings: with both given the structure is built with random weights and nothing is read.
    """
    with quiet() as hf:
        if config is not None and processor is not None:
            own, weights = hf.AutoConfig.for_model(**config), None
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
                prepare = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
        else:
            what, weights = "vision_backbone", {"revision": revision}
            own = tower(load(what, hf.AutoConfig, name_or_folder, **weights), "vision")
            prepare = load(what, hf.AutoImageProcessor, name_or_folder, backend="pil", **weights)
        if pooling == "auto":
            flat = hasattr(own, "hidden_sizes")
            pooling = "projection" if own.model_type in _PROJECTED else "mean" if flat else "cls"
            pooling = "pooler" if own.model_type in _POOLED else pooling
        model = model_of(hf, "vision_backbone", name_or_folder, own, pooling, weights)
    return VisionBackbone(model, prepare, pooling)
