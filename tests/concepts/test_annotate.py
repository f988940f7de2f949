"""Labels of a detector: how phrases are matched, boxes kept, crops cut; similarities corrected by class."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from isthmus.concepts import Book, Phrase
from isthmus.concepts.annotate import Box, corrected, crops, detected, labelled, plain, similarities, stored
from isthmus.data.table import Table
from isthmus.errors import DataError, OptionError
from isthmus.space import ConceptSpace, Task

BOOK = Book(
    (
        Phrase("long tail", ("bird", "cat"), approved="ana"),
        Phrase("A grey beak", ("bird",), approved="ana"),
        Phrase("whiskers", ("cat",), approved="ana"),
    )
)


def table(rows: int = 4) -> Table:
    images = torch.zeros(rows, 3, 20, 40, dtype=torch.uint8)
    images[:, :, 5:15, 10:30] = 200
    return Table(images, y=torch.arange(rows) % 2, task=Task.classes(["bird", "cat"]))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("A long-tailed, (grey) bird.", "long tailed grey bird"),
        ("an  eye", "eye"),
        ("a", ""),
        ("antlers", "antlers"),  # only a whole first word is an article
        ("sea animal", "sea animal"),  # a substring replace would leave 'seanimal'
        ("The beak", "the beak"),
    ],
)
def test_phrases_are_matched_without_marks_and_first_articles(text: str, want: str) -> None:
    assert plain(text) == want


def test_labels_are_those_of_a_loop_over_stored_boxes(tmp_path: Path) -> None:
    """The label matrix of JSON files against brute force; other phrases, the class's name and weak boxes count nothing."""
    names = ["long tail", "a long tail", "grey beak", "bird", "whiskers"]
    generator = torch.Generator().manual_seed(0)
    written: list[list[dict[str, object]]] = []
    for row in range(4):
        count = int(torch.randint(0, 6, (1,), generator=generator))
        draws = torch.rand(count, 2, generator=generator).tolist()
        boxes = [{"label": names[int(a * 5)], "box": [1, 2, 3 + k, 9], "logit": b * 0.3} for k, (a, b) in enumerate(draws)]
        written.append(boxes)
        (tmp_path / f"{row}.json").write_text(json.dumps([{"img": row}, *boxes]))
    found = labelled(table(), BOOK, stored(tmp_path, 4))
    assert found.c is not None and found.where is not None
    for row, boxes in enumerate(written):
        for k, phrase in enumerate(BOOK):
            own = [b for b in boxes if plain(str(b["label"])) == plain(phrase.text) and float(str(b["logit"])) > 0.15]
            assert float(found.c[row, k]) == float(bool(own))
            best = max(own, key=lambda b: float(str(b["logit"])), default=None)
            want = torch.full((4,), math.nan) if best is None else torch.tensor(best["box"], dtype=torch.float32)
            torch.testing.assert_close(found.where[row, k], want, equal_nan=True)
    with pytest.raises(DataError, match="4.json"):
        stored(tmp_path, 5)


def test_by_class_looks_for_the_phrases_of_the_rows_class_alone() -> None:
    asked: list[list[str]] = []

    def everything(image: Tensor, phrases: list[str]) -> list[Box]:
        asked.append(list(phrases))
        return [Box(phrase, (0, 0, 5, 5), 0.9) for phrase in BOOK.texts]  # a detector that sees all, asked or not

    rows: list[tuple[int, int]] = []
    found = detected(table(2), BOOK, everything, by_class=True, progress=lambda done, of: rows.append((done, of)))
    assert asked == [["long tail", "A grey beak"], ["long tail", "whiskers"]] and rows == [(1, 2), (2, 2)]
    assert found.c is not None and found.c.tolist() == [[1, 1, 0], [1, 0, 1]]
    honest = detected(table(2), BOOK, everything)
    assert honest.c is not None and bool((honest.c == 1).all()) and asked[-1] == BOOK.texts
    with pytest.raises(OptionError, match="threshold"):
        detected(table(2), BOOK, everything, threshold=1.0)
    with pytest.raises(DataError, match="expected images"):
        detected(Table(torch.randn(2, 3), y=torch.tensor([0, 1]), task=table().task), BOOK, everything)


def test_a_crop_keeps_its_concept_and_what_overlaps_it_and_never_adds_one() -> None:
    boxes = [
        [Box("long tail", (10, 5, 30, 15), 0.9), Box("a grey beak", (10, 5, 30, 14), 0.9), Box("whiskers", (0, 0, 4, 4), 0.9)],
        [Box("whiskers", (0, 0, 4, 4), 0.9)],
        [],
    ]
    data = labelled(table(3), BOOK, boxes)
    cut = crops(data, 1.0, seed=0)
    assert cut.c is not None and data.c is not None and cut.where is not None
    assert bool((cut.c <= data.c).all())  # never a concept that the annotation lacks
    assert cut.c[0].tolist() in ([1, 1, 0], [0, 0, 1])  # tail and beak overlap by .9, whiskers stand apart
    assert cut.c[1].tolist() == [0, 0, 1] and cut.c[2].tolist() == [0, 0, 0]
    if cut.c[0, 0] == 1:
        assert float(cut.x[0].float().mean()) == pytest.approx(200, abs=1)  # the box, and nothing of the dark ground
        placed = cut.where[0, 0] if not bool(cut.where[0, 0].isnan().any()) else cut.where[0, 1]
        assert float(placed[2]) <= 40 and float(placed[3]) <= 20
    assert torch.equal(crops(data, 0.0).x, data.x)
    again = crops(data, 1.0, seed=0)
    assert torch.equal(again.x, cut.x) and torch.equal(again.c, cut.c)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="labels with boxes"):
        crops(table(), 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_a_box_that_reaches_beyond_the_crop_ends_at_its_edge(seed: int) -> None:
    space = ConceptSpace.binary(["tail", "beak"])
    boxes = torch.tensor([[[4.0, 4, 20, 20], [6, 6, 26, 26]]])
    data = Table(
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8), c=torch.ones(1, 2), y=torch.tensor([0]), space=space,
        task=Task.classes("pq"), where=boxes,
    )  # fmt: skip
    found = crops(data, 1.0, overlap=0.3, seed=seed).where
    assert found is not None
    first, second = [[0.0, 0, 32, 32], [4, 4, 32, 32]], [[0, 0, 22.4, 22.4], [0, 0, 32, 32]]
    assert any(torch.allclose(found[0], torch.tensor(want)) for want in (first, second))


def test_similarities_are_corrected_by_class() -> None:
    scores = similarities(torch.tensor([[1.0, 0], [0, 2.0]]), torch.tensor([[3.0, 0], [-1.0, 0], [0, 1.0]]))
    assert scores.tolist() == [[1, -1, 0], [0, 0, 1]]
    owned = torch.tensor([[1.0, 1, 0], [0, 0, 1]])
    assert corrected(scores, torch.tensor([0, 0]), owned).tolist() == [[1, 0, 0], [0, 0, 0]]
    assert corrected(scores, torch.tensor([1, 1]), owned).tolist() == [[0, 0, 0], [0, 0, 1]]
    with pytest.raises(DataError, match="scores"):
        corrected(scores[:, :2], torch.tensor([0, 0]), owned)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_correction_by_a_class_that_is_not_there_is_refused(label: int) -> None:
    with pytest.raises(DataError, match="expected classes from 0 to 1"):
        corrected(torch.ones(2, 3), torch.tensor([0, label]), torch.ones(2, 3))
