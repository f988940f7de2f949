"""Directions named by the nearest words, through the linear part of a map alone."""

from __future__ import annotations

import pytest
import torch

from isthmus.concepts.name import nearest_words
from isthmus.errors import DataError
from isthmus.features.aligned import Affine

WORDS = ["red", "round", "small"]


def test_the_nearest_word_comes_first_and_the_maps_offset_does_not_matter() -> None:
    shared = Affine(4, 3)
    shared.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]))
    shared.bias.copy_(torch.tensor([0.0, 0.0, 50.0]))  # with it every direction would be small
    shared.center.copy_(torch.tensor([9.0, 9.0, 9.0]))
    directions = torch.tensor([[2.0, 0.1, 0, 5], [0, 3, 0.2, 0]])
    found = nearest_words(directions, WORDS, torch.eye(3) + 9, shared=shared, most=2)
    assert [[word for word, _ in row] for row in found] == [["red", "round"], ["round", "small"]]
    assert found[0][0][1] == pytest.approx(2 / (4 + 0.01) ** 0.5)


def test_directions_of_the_text_space_need_no_map() -> None:
    assert nearest_words(torch.eye(3)[2:], WORDS, torch.eye(3), most=9)[0][0] == ("small", 1.0)
    with pytest.raises(DataError, match="3 words and 2 vectors"):
        nearest_words(torch.eye(3), WORDS, torch.eye(3)[:2])
    with pytest.raises(DataError, match="expected vectors of 4 columns"):
        nearest_words(torch.eye(4), WORDS, torch.eye(3))
