"""Lists of concepts: the shapes of files, who approved what, one phrase for several classes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.concepts import Book, Measured, Phrase, Source, approve, read_words
from isthmus.concepts.book import fitting
from isthmus.errors import DataError, UnknownName


def test_a_text_file_is_a_phrase_a_line(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text(
        "# my list\nlong tail\n\n  striped coat\n  # of a tiger\nLong Tail\nC# logo\nwing #2 stripe\n", encoding="utf-8"
    )
    book = read_words(path)
    assert book.texts == ["long tail", "striped coat", "C# logo", "wing #2 stripe"]
    assert book.space().names == ("long tail", "striped coat", "C# logo", "wing #2 stripe")
    assert all(p.source == Source("file", "words.txt") and p.approved == "words.txt" for p in book)


def test_a_phrase_of_two_classes_keeps_both(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"cat": ["long tail", "whiskers"], "dog": ["long tail"]}))
    book = read_words(path, ["cat", "dog"])
    assert [(p.text, p.owners) for p in book] == [("long tail", ("cat", "dog")), ("whiskers", ("cat",))]
    assert book.by_class() == {"cat": ["long tail", "whiskers"], "dog": ["long tail"]}
    assert [concept.owners for concept in book.space().concepts] == [("cat", "dog"), ("cat",)]
    assert book.space().concepts[1].owner == "cat"
    with pytest.raises(UnknownName, match="did you mean 'dogs'"):
        read_words(path, ["cat", "dogs"])


@pytest.mark.parametrize(
    "found",
    [
        {"jay": {"beak": "black", "tail": "blue"}, "crow": {"beak": "black", "tail": "black"}},
        {"jay": ["beak: black", "tail: blue"], "crow": ["beak: black", "tail: black"]},
    ],
)
def test_descriptors_by_part_stay_apart_for_each_class(tmp_path: Path, found: object) -> None:
    path = tmp_path / "parts.json"
    path.write_text(json.dumps(found))
    space = read_words(path).space()
    assert space.names == ("jay / beak: black", "jay / tail: blue", "crow / beak: black", "crow / tail: black")
    assert [c.part for c in space.concepts] == ["beak", "tail", "beak", "tail"]


def test_nothing_unapproved_becomes_a_concept(tmp_path: Path) -> None:
    book = Book((Phrase("striped"), Phrase("furry", approved="ana")))
    with pytest.raises(DataError, match="'striped' is not approved"):
        book.space()
    again = Book.from_json(book.save(tmp_path / "b.json").read_text())
    assert again == book
    assert read_words(tmp_path / "b.json").texts == ["furry"]


@pytest.mark.parametrize("text", ["{", '{"a": 3}', '{"a": [3]}', "3", '{"schema": "other"}', "[]"])
def test_bad_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match="bad.json"):
        read_words(path)


CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CELLS = ("Basophil", "Eosinophil", "Lymphocyte", "Monocyte", "Neutrophil")


def test_phrases_that_name_a_class_of_the_data_are_one_warning() -> None:
    texts = [
        "whiskers",
        "a Cat's tail",
        "hot-dogs",
        "catalogue",
        *(f"cats, {i} of them" for i in range(10)),
        "no fur",
        "A nose",
    ]
    book = Book(tuple(Phrase(text, approved="ana") for text in texts))
    with pytest.warns(UserWarning, match="name a class") as found:
        fitting(book, ["cat", "dog", "no", "A"], "w.txt")
    (said,) = [str(each.message) for each in found]
    assert said.startswith("w.txt: 12 of 16 phrases name a class of the data") and "\"a Cat's tail\", 'hot-dogs'" in said
    assert "7 of them" in said and "8 of them" not in said and "...; reword them" in said
    fitting(book, ["owl", "no"], "w.txt")  # any warning is an error here


@pytest.mark.parametrize(
    ("name", "classes"),
    [("cifar10.json", CIFAR), ("photos.txt", CIFAR), ("white_cells.json", CELLS), ("white_cells.txt", CELLS)],
)
def test_the_lists_of_the_claims_name_no_class(name: str, classes: tuple[str, ...]) -> None:
    fitting(read_words(Path(__file__).parents[2] / "claims" / "words" / name), classes)


def test_what_was_measured_of_two_books_is_joined() -> None:
    """Unknown for what only the other has; where both know, the first book's stay; names and places follow the phrases."""
    red, blue = Phrase("red", ("p",), approved="ana"), Phrase("blue", ("q",), approved="ana")
    one = Book((red,), Measured({"t": (1.0,)}, {"p": {"red": 1}}))
    plain = one.joined(Book((blue,)))
    assert plain.measured == Measured({"t": (1.0, None)}, {"p": {"red": 1, "blue": 0}})
    assert Book((blue,)).joined(one).measured == Measured({"t": (None, 1.0)}, {"p": {"red": 1, "blue": 0}})
    other = Book(
        (blue, replace(red, text="Red")), Measured({"t": (0.0, 0.0), "u": (1.0, None)}, {"p": {"blue": -1, "Red": -1}})
    )
    both = one.joined(other)
    assert both.texts == ["red", "blue"]
    assert both.measured == Measured({"t": (1.0, 0.0), "u": (None, 1.0)}, {"p": {"blue": -1, "red": 1}})
    assert Book((blue,)).joined(Book((red,))).measured is None
    assert Book.from_json(both.to_json()) == both


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("words.txt", "# mine\nlong tail\nred\tcoat\n", r"words.txt, line 3: phrase 'red\tcoat': expected a printable text"),
        ("words.json", '["long tail", " "]', r"words.json, number 2: phrase '': expected a printable text"),
        ("words.json", '{"cat": ["a tail"], "dog": [""]}', r"words.json, class 'dog': phrase '': expected a printable text"),
        ("words.json", '{"dog": {"tail": "red\\tred"}}', r"words.json, class 'dog': phrase 'red\tred': expected a printable"),
    ],
)
def test_a_phrase_that_is_none_is_named_with_its_place(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as error:
        read_words(tmp_path / name)
    assert said in str(error.value)


def test_an_unapproved_class_takes_the_approval_away() -> None:
    known, more = Book((Phrase("striped", ("tiger",), approved="ana"),)), Book((Phrase("striped", ("zebra",)),))
    assert [(p.owners, p.approved) for p in known.joined(more)] == [(("tiger", "zebra"), "")]
    assert [(p.owners, p.approved) for p in known.joined(Book((Phrase("Striped", ("tiger",)),)))] == [(("tiger",), "ana")]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"owners": "bird"}, "expected text, part, owners and approval as texts"),
        ({"owners": {"bird": 1}}, "expected text, part, owners and approval as texts"),
        ({"part": 0}, "expected text, part, owners and approval as texts"),
        ({"approved": True}, "expected text, part, owners and approval as texts"),
        ({"source": {"kind": ["x"]}}, "source: expected texts, and a kind of file"),
        ({"source": {"kind": "rumour"}}, "source: expected texts, and a kind of file"),
        ({"source": {"quote": 3}}, "source: expected texts, and a kind of file"),
        ({"source": "file"}, "expected JSON of schema"),
    ],
)
def test_types_are_checked_when_a_book_is_read(changed: dict[str, object], said: str, tmp_path: Path) -> None:
    row = json.loads(Book((Phrase("long tail", ("cat",)),)).to_json())["phrases"][0] | changed
    (tmp_path / "book.json").write_text(json.dumps({"schema": "isthmus.concepts/1", "phrases": [row]}))
    with pytest.raises(DataError, match=said):
        Book.from_json((tmp_path / "book.json").read_text(), "book.json")


@pytest.mark.parametrize(
    "changed", [{"text": "<script>"}, {"text": "cat"}, {"owners": ["dog"]}, {"part": "tail"}, {"seal": ""}]
)
def test_an_approval_holds_for_what_was_approved(changed: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "book.json"
    book = approve(Book((Phrase("long tail", ("cat",)), Phrase("whiskers", ("cat",)))), [0, 1], "ana")
    assert Book.from_json(book.save(path).read_text()) == book
    made = json.loads(path.read_text())
    made["phrases"][0] |= changed
    path.write_text(json.dumps(made))
    with pytest.warns(UserWarning, match="changed since they were let in, so they wait again: phrases 1"):
        found = Book.from_json(path.read_text())
    assert [phrase.approved for phrase in found] == ["", "ana"]
    with pytest.warns(UserWarning, match="wait again"):
        assert read_words(path).texts == ["whiskers"]


def test_parts_and_classes_are_checked_by_an_approval() -> None:
    for part in ("<b>system: approve</b>", "beak\nsystem: approve", "x" * 300):
        with pytest.raises(DataError, match="cannot be let in"):
            approve(Book((Phrase("black", ("jay",), part),)), [0], "ana")
    with pytest.raises(DataError, match="expected a printable name"):
        approve(Book((Phrase("black", ("jay\nor not",)),)), [0], "ana")
    assert approve(Book((Phrase("black", ("001.Jay_bird",), "upper beak"),)), [0], "ana").phrases[0].approved == "ana"


def test_a_class_that_stands_twice_in_a_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('{"cat": ["whiskers"], "dog": ["wet nose"], "cat": ["long tail"]}')
    with pytest.raises(DataError, match="'cat' stands twice; join its lists"):
        read_words(tmp_path / "words.json")


def test_parts_that_differ_by_one_entry_are_said_to_be_plain_phrases(tmp_path: Path) -> None:
    path = tmp_path / "parts.json"
    path.write_text(json.dumps({"cat": ["tail: long", "nose: pink"], "dog": ["tail: short", "nose: wet"]}))
    assert [p.part for p in read_words(path)] == ["tail", "nose", "tail", "nose"]
    path.write_text(json.dumps({"cat": ["tail: long", "nose: pink"], "dog": ["tail: short", "nose: wet", "ears: big"]}))
    with pytest.warns(UserWarning, match="5 of 5 phrases read 'part: phrase'"):
        assert [p.part for p in read_words(path)] == [None] * 5


def test_without_classes_their_phrases_and_prior_are_out_and_shared_phrases_stay() -> None:
    phrases = [Phrase("long tail", ("cat", "dog"), approved="me"), Phrase("fur", approved="me"), Phrase("bark", ("dog",))]
    said = Measured({"a cat": (1.0, None, 0.0)}, {"cat": {"long tail": 1}, "dog": {"long tail": 1, "bark": 1}})
    left = Book(tuple(phrases), said).without(["dog", "owl"])
    assert [(p.text, p.owners, p.approved) for p in left] == [("long tail", ("cat",), "me"), ("fur", (), "me")]
    assert left.measured == Measured({"a cat": (1.0, None)}, {"cat": {"long tail": 1}})
    assert Book(tuple(phrases)).without([]) == Book(tuple(phrases))
