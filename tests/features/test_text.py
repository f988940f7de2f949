"""Mean word vectors: by hand on a tiny table, real ones from the packed file, the vocabulary saved with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from isthmus.errors import DataError, OptionError
from isthmus.features.registry import rebuild
from isthmus.features.text import WordVectors, glove, texts, words


def tiny(path: Path) -> WordVectors:
    np.savez(path, words=np.array(["good", "bad", "soup", "é"]), vectors=np.eye(4, 3, dtype=np.float32))
    return glove(weights=path)


def test_the_mean_of_known_words(tmp_path: Path) -> None:
    module = tiny(tmp_path / "g.npz")
    z = module(module.prepare(["Good, GOOD soup", "unknown words", "", "É bad"]))
    expected = torch.tensor([[2 / 3, 0, 1 / 3], [0, 0, 0], [0, 0, 0], [0, 0.5, 0]])
    assert torch.allclose(z, expected)
    assert torch.equal(module(module.prepare(["É bad"])), z[3:])
    x = module.prepare(["soup"])
    assert module.prepare(x) is x
    assert module.prepare([]).shape == (0, 1)


def test_words_are_lower_case_and_punctuation_stands_alone() -> None:
    assert words("I can't, really_not 2x!") == ["i", "can't", ",", "really", "not", "2x", "!"]


def test_the_vocabulary_travels_in_the_state(tmp_path: Path) -> None:
    module = tiny(tmp_path / "g.npz")
    (tmp_path / "g.npz").unlink()
    assert module.recipe is not None
    assert module.recipe.options == {"weights": str(tmp_path / "g.npz"), "count": 4, "dim": 3}
    again = rebuild(module.recipe)
    assert not again.prepare(["good"]).ge(0).any()
    state: dict[str, Tensor] = load(save(module.state_dict()))
    again.load_state_dict(state)
    z = module(module.prepare(["soup é good"]))
    assert torch.equal(again(again.prepare(["soup é good"])), z)
    assert z.any()


def test_real_vectors_know_neighbours(isthmus_data: Callable[[str], Path]) -> None:
    module = glove(weights=isthmus_data("weights/glove_twitter_25d_12k.npz"))
    assert module.dim == 25
    z = torch.nn.functional.normalize(module(module.prepare(["monday", "tuesday", "pizza"])), dim=1)
    assert z[0] @ z[1] > 0.9 > z[0] @ z[2]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("abc", "x: expected a list of texts, got str"),
        (3, "x: .* got int"),
        (["a", 2], "x, row 1: expected a text, got int"),
    ],
)
def test_what_is_no_text_is_refused(raw: object, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}$"):
        texts(raw)


def test_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "g.npz", words=np.array(["a"]), vectors=np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"^glove, weights .*: expected words \(V,\) and vectors \(V, D\)"):
        glove(weights=tmp_path / "g.npz")
    with pytest.raises(OptionError, match="^glove, count: expected"):
        glove(weights=None, count=0)
