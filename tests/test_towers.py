"""Two-tower models: concepts in words on features of a CLIP or SigLIP folder, whose own text tower embeds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import isthmus as im
from isthmus import hub
from isthmus.concepts import Book, Phrase
from isthmus.data.table import Splits, Table
from isthmus.space import Task
from isthmus.worded import worded

hf: Any = pytest.importorskip("transformers", reason="transformers is not installed (extra 'vision')")
TINY = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURE = {"image_size": 32, "patch_size": 16}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "round", "square", "cat", "dog"]
BOOK = Book(tuple(Phrase(text, approved="ana") for text in ("red round", "green square", "blue square", "blue")))


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    own = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]", "bos_token": "[CLS]"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=own, model_max_length=12, **names)


def towers(kind: str, folder: Path) -> Any:
    torch.manual_seed(0)
    hf.logging.disable_progress_bar()
    text = {**TINY, "vocab_size": len(WORDS), "max_position_embeddings": 12, "eos_token_id": 3, "pad_token_id": 0}
    if kind == "clip":
        whole = hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config={**TINY, **PICTURE}, projection_dim=12))
        processor = hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    else:
        whole = hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config={**TINY, **PICTURE}))
        processor = hf.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    whole.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return whole.eval()


def pictures(rows: int = 60) -> Splits:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(rows) % 2
    x = torch.randint(0, 120, (rows, 3, 32, 32), generator=generator, dtype=torch.uint8)
    x[y == 1, 0] += 120
    table = Table(x, y=y, task=Task.classes(["cat", "dog"]))
    parts = [table.take(torch.arange(a, b)) for a, b in ((0, 30), (30, 44), (44, 60))]
    return Splits(*parts, name="pictures")


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_words_are_embedded_by_the_models_own_text_tower(kind: str, tmp_path: Path) -> None:
    whole = towers(kind, tmp_path / kind)
    made = worded(pictures(), BOOK, features="vision_backbone", feature_options={"name_or_folder": str(tmp_path / kind)})
    padded = {"padding": "max_length", "max_length": 12} if kind == "siglip" else {"padding": True}
    tokens = tokenizer()(BOOK.texts, return_tensors="pt", **padded)
    with torch.no_grad():
        asked = {"input_ids": tokens["input_ids"]} | ({"attention_mask": tokens["attention_mask"]} if kind == "clip" else {})
        want = whole.get_text_features(**asked)
    want = getattr(want, "pooler_output", want)
    assert made.splits.space.vectors is not None
    torch.testing.assert_close(made.splits.space.vectors, want, atol=1e-5, rtol=1e-5)
    assert made.card["aligned"] is None and not made.weak and made.splits.train.c is None
    assert tuple(made.options["class_vectors"].shape) == (2, want.shape[1])


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_model_on_them_is_saved_and_loaded_without_the_folder(kind: str, tmp_path: Path) -> None:
    towers(kind, tmp_path / kind)
    data = pictures()
    options = {"name_or_folder": str(tmp_path / kind)}
    model = im.fit("text2concept", data, words=BOOK, features="vision_backbone", feature_options=options, epochs=2)
    want = model(data.test.x).logits
    folder = hub.save(model, tmp_path / "model")
    (tmp_path / kind).rename(tmp_path / "gone")
    again = hub.load(folder)
    assert torch.equal(again(data.test.x).logits, want)
    assert again.space.names == tuple(BOOK.texts) and again.space.vectors is not None
