"""Lists of concepts: the shapes of files, who approved what, one phrase for several classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isthmus.concepts import Book, Phrase, Source, read_words
from isthmus.errors import DataError, UnknownName


def test_a_text_file_is_a_phrase_a_line(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# my list\nlong tail\n\n  striped coat  # of a tiger\nLong Tail\n", encoding="utf-8")
    book = read_words(path)
    assert book.texts == ["long tail", "striped coat"]
    assert book.space().names == ("long tail", "striped coat")
    assert all(p.source == Source("file", "words.txt") and p.approved == "words.txt" for p in book)


def test_a_phrase_of_two_classes_keeps_both(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"cat": ["long tail", "whiskers"], "dog": ["long tail"]}))
    book = read_words(path, ["cat", "dog"])
    assert [(p.text, p.owners) for p in book] == [("long tail", ("cat", "dog")), ("whiskers", ("cat",))]
    assert book.by_class() == {"cat": ["long tail", "whiskers"], "dog": ["long tail"]}
    assert book.space().concepts[0].owner == "cat"
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


def test_an_unapproved_class_takes_the_approval_away() -> None:
    known, more = Book((Phrase("striped", ("tiger",), approved="ana"),)), Book((Phrase("striped", ("zebra",)),))
    assert [(p.owners, p.approved) for p in known.joined(more)] == [(("tiger", "zebra"), "")]
    assert [(p.owners, p.approved) for p in known.joined(Book((Phrase("Striped", ("tiger",)),)))] == [(("tiger",), "ana")]
