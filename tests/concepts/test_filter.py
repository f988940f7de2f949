"""Filters of phrases on lists whose answer is known, against loops over pairs, and on the authors' own list where it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.concepts import filter as rules
from isthmus.concepts.book import Book, Phrase, read_words
from isthmus.errors import DataError, OptionError


def book(*texts: str) -> Book:
    return Book(tuple(Phrase(text) for text in texts))


class Known:
    """A similarity that is a table by name; 0 where it says nothing, 1 with itself."""

    def __init__(self, table: dict[tuple[str, str], float]) -> None:
        self.table = table | {(b, a): value for (a, b), value in table.items()}

    def __call__(self, a: Sequence[str], b: Sequence[str]) -> Tensor:
        return torch.tensor([[1.0 if x == y else self.table.get((x, y), 0.0) for y in b] for x in a])


def drawn(seed: int) -> rules.Texts:
    """Random vectors for texts, the same for the same text."""
    return lambda texts: torch.stack(
        [torch.randn(3, generator=torch.Generator().manual_seed(seed + sum(map(ord, t)) * 7919 % 10_007)) for t in texts]
    )


def test_thirty_characters_stay_and_thirty_one_go() -> None:
    found = rules.length(book("x" * 30, "x" * 31, "é" * 30, "short"))
    assert found.book.texts == ["x" * 30, "é" * 30, "short"]
    assert [(phrase.text, why) for phrase, why in found.dropped] == [("x" * 31, "31 characters, at most 30")]


def test_class_names_go_as_they_are_with_articles_and_in_other_letters() -> None:
    """All spellings the authors' code removes; a phrase that merely holds a class name, or an article inside a word, stays."""
    classes = ["cat", "black-footed Albatross", "sea animal"]
    out = [
        *("cat", "a cat", "A cat", "an cat", "the cat", "The cat", "CAT", "Cat"),
        *("black-footed Albatross", "Black-footed Albatross", "BLACK-FOOTED ALBATROSS", "the black-footed Albatross"),
        *("sea animal", "a sea animal", "Sea animal"),
    ]
    stays = ["a cat's whiskers", "seanimal", "sea a animal", "wildcat", "cats", "whiskers", "albatross"]
    found = rules.class_names(book(*stays, *out), classes)
    assert found.book.texts == stays
    assert {why for phrase, why in found.dropped if phrase.text == "A cat"} == {"is the class name 'cat'"}


def test_containing_a_class_name_anywhere() -> None:
    """LaBo's option: its code looks for the name as it is spelt."""
    texts = ["a cat's whiskers", "wildcat", "Cat eyes", "whiskers"]
    assert rules.containing(book(*texts), ["cat"]).book.texts == ["whiskers"]
    assert rules.containing(book(*texts), ["cat"], case=True).book.texts == ["Cat eyes", "whiskers"]


def test_similarity_to_a_class_from_the_cut_on_and_also_where_the_numbers_of_both_are_equal() -> None:
    """The authors pass over the pair whose class and phrase have the same number, by a slip; phrase 0 and class 0 here."""
    like = Known({("aa", "dog"): 0.95, ("ab", "cat"): 0.85, ("ac", "cat"): 0.8499, ("ad", "dog"): 0.1})
    found = rules.similar_to_class(book("aa", "ab", "ac", "ad"), ["dog", "cat"], like)
    assert found.book.texts == ["ac", "ad"]
    assert found.dropped[0][1] == "0.95 similar to the class 'dog', below 0.85 asked"
    assert not len(rules.similar_to_class(book("x"), ["y"], Known({("x", "y"): 0.75}), most=0.75).book)


def greedy(texts: list[str], table: np.ndarray, most: float) -> list[str]:
    """The authors' loops: pairs in order, the one of the smaller sum goes, what has gone drops nothing."""
    gone: list[int] = []
    for i in range(len(texts)):
        for j in range(len(texts)):
            if i != j and table[i, j] >= most and i not in gone and j not in gone:
                gone.append(i if table[i].sum() < table[j].sum() else j)
    return [text for i, text in enumerate(texts) if i not in gone]


@pytest.mark.parametrize("seed", range(6))
def test_near_duplicates_are_those_of_the_loops_over_sorted_pairs(seed: int) -> None:
    texts = [f"{letter}{number}" for letter in "dacb" for number in range(8)]
    encode = drawn(1000 * seed)
    similarity = rules.cosine((encode, 1.0))
    ordered = sorted(texts)
    want = greedy(ordered, similarity(ordered, ordered).numpy(), 0.9)
    found = rules.near_duplicates(book(*texts), similarity)
    assert found.book.texts == [text for text in texts if text in want], "the order of the list stays"
    assert 0 < len(found.dropped) < 30
    assert rules.near_duplicates(book(*texts[::-1]), similarity).book.texts == found.book.texts[::-1]


def test_of_two_alike_the_one_less_like_all_goes_and_what_is_gone_drops_nothing() -> None:
    """b goes for a, so that c, alike to b alone, stays; sums count the dropped too; of equal sums the second goes."""
    like = Known({("a", "b"): 0.95, ("b", "c"): 0.95, ("a", "d"): 0.8, ("a", "e"): 0.7})
    found = rules.near_duplicates(book("a", "b", "c", "d", "e"), like)
    assert found.book.texts == ["a", "c", "d", "e"]
    assert found.dropped[0][1] == "0.95 similar to 'a', below 0.9 asked"
    assert rules.near_duplicates(book("y", "x"), Known({("x", "y"): 0.9})).book.texts == ["x"]
    assert rules.near_duplicates(book("only"), Known({})).book.texts == ["only"]


def test_similarity_is_the_weighted_mean_of_encoders_cosines() -> None:
    """(mpnet + 3 CLIP) / 4."""
    a, b = drawn(1), drawn(2)
    found = rules.cosine((a, 1.0), (b, 3.0))(["p", "q"], ["r"])
    for i, text in enumerate(("p", "q")):
        each = []
        for encode in (a, b):
            v, w = (encode([t])[0].double().numpy() for t in (text, "r"))
            each.append(v @ w / np.linalg.norm(v) / np.linalg.norm(w))
        assert float(found[i, 0]) == pytest.approx((each[0] + 3 * each[1]) / 4, abs=1e-6)


def test_the_chain_in_its_order_with_a_reason_for_each() -> None:
    like = Known({("wheels", "tyres"): 0.92, ("vehicle", "car"): 0.9, ("vehicle", "wheels"): 0.95, ("tyres", "rubber"): 0.5})
    texts = ["wheels", "a car", "tyres", "vehicle", "rubber", "a very long phrase about what a car has"]
    found = rules.labelfree(book(*texts), ["car"], like)
    assert found.book.texts == ["tyres", "rubber"]
    assert [(phrase.text, why.split(" ")[0]) for phrase, why in found.dropped] == [
        ("a very long phrase about what a car has", "39"),
        ("a car", "is"),
        ("vehicle", "0.90"),
        ("wheels", "0.92"),
    ]
    assert rules.labelfree(book(*texts), ["car"], None).book.texts == ["wheels", "tyres", "vehicle", "rubber"]


def test_cut_offs_on_images_and_projections() -> None:
    """The mean of the five highest (of all, where there are fewer); what is exactly at a cut-off goes."""
    g = torch.Generator().manual_seed(0)
    table = torch.rand(12, 4, generator=g)
    mean = [np.mean(sorted(table[:, k].tolist())[-5:]) for k in range(4)]
    cut = sorted(mean)[1]
    found = rules.active(book("a", "b", "c", "d"), table, cut + 1e-6)
    assert found.book.texts == [text for text, m in zip("abcd", mean, strict=True) if m > cut + 1e-6]
    assert rules.active(book("a", "b"), torch.tensor([[0.2, 0.3], [0.4, 0.6]]), 0.35).book.texts == ["b"]
    assert rules.predicted(book("a", "b", "c"), torch.tensor([0.45, 0.4500001, 0.9])).book.texts == ["b", "c"]


def test_tables_of_another_shape_are_refused() -> None:
    wrong = lambda a, b: torch.zeros(1, 1)  # noqa: E731
    with pytest.raises(DataError, match=r"similarity: expected shape \(2, 1\), got \(1, 1\)"):
        rules.similar_to_class(book("a", "b"), ["c"], wrong)
    with pytest.raises(DataError, match=r"similarity: expected shape \(2, 2\)"):
        rules.near_duplicates(book("a", "b"), wrong)
    with pytest.raises(DataError, match=r"scores: expected 2, one for each phrase"):
        rules.predicted(book("a", "b"), torch.zeros(3))
    with pytest.raises(DataError, match=r"similarity: expected shape \(4, 2\)"):
        rules.active(book("a", "b"), torch.zeros(4, 3))
    assert not len(rules.similar_to_class(book(), ["c"], wrong).book)


def test_the_authors_list_of_cifar_is_cut_by_length_from_177_to_174() -> None:
    """A clone of Trustworthy-ML-Lab/Label-free-CBM, which has no licence, where ISTHMUS_LABELFREE names one."""
    if not (place := os.environ.get("ISTHMUS_LABELFREE")):
        pytest.skip("expected ISTHMUS_LABELFREE to name a clone of Trustworthy-ML-Lab/Label-free-CBM")
    folder = Path(place) / "data"
    texts = lambda name: read_words(folder / "concept_sets/ablation" / f"cifar10_{name}.txt")  # noqa: E731
    classes = (folder / "cifar10_classes.txt").read_text().split("\n")
    whole, kept = texts("no_filters"), rules.length(texts("no_filters")).book
    assert (len(whole), len(kept)) == (177, 174)
    ends = {name: set(texts(name).texts) for name in ("filtered_rerun", "no_length", "no_class_sim", "no_other_sim")}
    assert [len(each) for each in ends.values()] == [154, 157, 162, 164]
    assert all(ends["filtered_rerun"] <= each for each in ends.values())
    assert ends["no_length"] - ends["filtered_rerun"] == set(whole.texts) - set(kept.texts)
    named = rules.class_names(kept, classes)
    gone = {phrase.text for phrase, _ in named.dropped}
    assert ends["filtered_rerun"] <= set(named.book.texts) and gone <= ends["no_class_sim"]
    assert gone and gone == {text for text in kept.texts if text.removeprefix("a ").removeprefix("the ") in classes}


def test_what_no_filter_can_judge_is_said_and_nothing_is_dropped_by_a_blank() -> None:
    nan = torch.full((3, 2), torch.nan)
    two = book("a", "b")
    for step in (
        lambda: rules.active(two, nan),
        lambda: rules.predicted(two, nan[0]),
        lambda: rules.similar_to_class(two, ["c", "d"], lambda a, b: nan[:2]),
        lambda: rules.near_duplicates(two, lambda a, b: nan[:2]),
    ):
        with pytest.raises(DataError, match="expected numbers, got NaN"):
            step()
    same = lambda a, b: torch.ones(len(a), len(b))  # noqa: E731
    assert rules.labelfree(two, [], same).book.texts in (["a"], ["b"])
    assert rules.containing(two, ["", " "]).book.texts == ["a", "b"]
    with pytest.raises(OptionError, match="at least one text encoder"):
        rules.cosine()


def test_of_two_copies_of_one_phrase_one_stays() -> None:
    one = book("a").phrases[0]
    found = rules.near_duplicates(Book((one, one)), lambda a, b: torch.ones(len(a), len(b)))
    assert found.book.texts == ["a"] and len(found.dropped) == 1
