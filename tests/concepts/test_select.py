"""Which phrases stay for which class: candidates are a class's own, and what the sums choose is what the book keeps."""

from __future__ import annotations

import pytest
import torch

from isthmus.concepts import select
from isthmus.concepts.book import Book, Phrase, merged, read_words
from isthmus.errors import DataError, UnknownName
from isthmus.heads.association import membership
from isthmus.numerics import words
from tests.language import scene


def book(data, share: str = "") -> Book:
    """The world's phrases; the class ``share`` has the first phrase of class a too."""
    own = [Phrase(c.text or "", (c.owner or "",), approved="me") for c in data.space.concepts]
    more = [Phrase(own[0].text, (share,), approved="me")] if share else []
    return merged([*own, *more])


@pytest.mark.parametrize("rule", ["submodular", "group_mi", "group_clip"])
def test_the_phrases_that_stay_are_those_of_the_sums(rule: select.Rule) -> None:
    data = scene(each=5)
    kept = select.by_class(book(data), data.space.vectors, data.train.x, data.train.y, data.task, 2, rule=rule, scale=10.0)
    owned = membership(data.space, data.task)
    similarity = words.by_class(data.train.x, data.space.vectors, data.train.y, 3)
    chosen = words.choose(similarity, data.space.vectors, owned, 2, rule=rule, scale=10.0)
    want = sorted(k for own in chosen for k in own)
    assert kept.texts == [data.space.concepts[k].text for k in want] and len(kept) == 6


def test_random_is_a_seeds_and_leaves_the_callers_generator() -> None:
    data = scene(each=6)

    def draw(seed: int) -> list[str]:
        how = (data.space.vectors, data.train.x, data.train.y, data.task, 2)
        return select.by_class(book(data), *how, rule="random", seed=seed).texts

    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert draw(0) == draw(0)
    assert any(draw(0) != draw(seed) for seed in range(1, 5))
    assert torch.equal(before, torch.get_rng_state())


def test_a_phrase_of_two_classes_keeps_both_and_is_a_candidate_of_the_first() -> None:
    """LaBo's choice keeps the first class alone; the book and the space say both, and the column stands once."""
    data = scene(each=3)
    shared = book(data, share="c")
    assert len(shared) == 9 and shared.phrases[0].owners == ("a", "c")
    space = shared.space(data.space.vectors)
    assert space.concepts[0].owners == ("a", "c") and space.names.count("a 0") == 1
    kept = select.by_class(shared, data.space.vectors, data.train.x, data.train.y, data.task, 3)
    assert kept.texts == shared.texts
    one = select.by_class(shared, data.space.vectors, data.train.x, data.train.y, data.task, 1, rule="group_mi")
    assert len(one) == 3 and ("a 0" in one.texts) == ("a 0" in one.by_class()["a"])
    assert shared.by_class()["c"] == ["a 0", "c 0", "c 1", "c 2"]


def test_tokens_by_class_are_the_most_frequent_first() -> None:
    data = scene()
    found = select.by_frequency(book(data), data.space.vectors, data.train.x, data.train.y, data.task, 4, near=2, pool=30)
    want = words.tokenised(data.train.x, data.space.vectors, data.train.y, 3, near=2, each=4, pool=30)
    assert found == {y: [data.space.concepts[k].text for k in own] for y, own in zip("abc", want, strict=True)}
    assert all(len(own) == 4 for own in found.values())


def test_phrases_of_no_class_and_classes_that_are_misspelt_are_answered(tmp_path) -> None:
    data = scene()
    loose = Book(tuple(Phrase(c.text or "", approved="me") for c in data.space.concepts))
    with pytest.raises(DataError, match="expected phrases written for the classes"):
        select.by_class(loose, data.space.vectors, data.train.x, data.train.y, data.task, 2)
    (tmp_path / "words.json").write_text('{"sparow": ["brown wings"], "owl": ["round face", "brown wings"]}')
    with pytest.raises(UnknownName, match="did you mean 'sparrow'"):
        read_words(tmp_path / "words.json", ["sparrow", "owl"])
    found = read_words(tmp_path / "words.json")
    assert [(p.text, p.owners) for p in found] == [("brown wings", ("sparow", "owl")), ("round face", ("owl",))]
