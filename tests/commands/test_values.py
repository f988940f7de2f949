"""Text from the command line to values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from isthmus.commands.values import described, loosened, named, pair, pairs, typed
from isthmus.errors import OptionError, UnknownName


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("poker", "poker", {}),
        ("poker:cards=5,seed=1", "poker", {"cards": "5", "seed": "1"}),
        ("mlp:hidden=[64,32],dim=8", "mlp", {"hidden": "[64,32]", "dim": "8"}),
        ("my/rows.csv:label=a b,task=value", "my/rows.csv", {"label": "a b", "task": "value"}),
        (r"C:\rows.csv:label=y", r"C:\rows.csv", {"label": "y"}),
        ("a:b/rows.csv", "a:b/rows.csv", {}),
        ('x.csv:concepts={"a":"binary","b":"continuous"}', "x.csv", {"concepts": '{"a":"binary","b":"continuous"}'}),
    ],
)
def test_a_name_with_options(text: str, name: str, options: dict[str, str]) -> None:
    assert named(text) == (name, options)


@pytest.mark.parametrize("text", ["poker:5", "poker:cards=5,seed", "poker:cards=5,cards=3", "poker:"])
def test_a_name_with_broken_options_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="poker:option=value"):
        named(text)


def test_pairs_cut_at_the_first_or_the_last_sign() -> None:
    assert pair("lr=.1=x", "--set") == ("lr", ".1=x")
    assert pair("rank=ace=1", "--set", last=True) == ("rank=ace", "1")
    assert pairs(["a=1", "b = 2"], "--set") == {"a": "1", "b": "2"}
    with pytest.raises(OptionError, match="given twice"):
        pairs(["a=1", "a=2"], "--set")
    with pytest.raises(OptionError, match="expected name=value"):
        pairs(["=1"], "--set")


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("none", int | None, None),
        ("none", str, "none"),
        ("64,32", Sequence[int], ["64", "32"]),
        ("[64,32]", tuple[int, ...], ["64", "32"]),
        ('["a,b","c"]', list[str], ["a,b", "c"]),
        ("a,b", str, "a,b"),
        ('{"a":"binary"}', Mapping[str, str] | None, {"a": "binary"}),
        ("3", int, "3"),
    ],
)
def test_text_is_taken_apart_as_far_as_the_annotation_asks(text: str, annotation: Any, value: Any) -> None:
    assert loosened(text, annotation) == value


def test_one_column_stays_one_text_and_several_become_a_list() -> None:
    assert loosened("review", str | Sequence[str] | None) == "review"
    assert loosened("a,b", str | Sequence[str] | None) == ["a", "b"]
    assert loosened("[a,b]", str | Sequence[str]) == ["a", "b"]


def _build(
    *,
    rows: int = 3,
    share: float = 0.5,
    kind: Literal["a", "b"] = "a",
    path: str | Path | None = None,
    deep: bool = False,
    hidden: Sequence[int] = (1,),
) -> None:
    """A builder."""


def test_options_get_the_types_of_the_builder() -> None:
    given = {"rows": "5", "share": ".25", "kind": "b", "path": "none", "deep": "true", "hidden": "4,5"}
    assert typed(given, _build, "it") == {
        "rows": 5,
        "share": 0.25,
        "kind": "b",
        "path": None,
        "deep": True,
        "hidden": [4, 5],
    }


@pytest.mark.parametrize(
    ("name", "text"), [("rows", "2.5"), ("rows", "x"), ("kind", "c"), ("deep", "perhaps"), ("hidden", "4,x")]
)
def test_a_value_of_another_type_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(OptionError, match=f"option '{name}' of it: .*got '{text}'"):
        typed({name: text}, _build, "it")


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'rows'"):
        typed({"row": "3"}, _build, "it")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Literal["joint", "hard"], "joint|hard"),
        (float, "float"),
        (int | None, "int or none"),
        (bool, "true|false"),
        (str | Path | None, "text or path or none"),
        (Sequence[int], "int,..."),
        (dict[str, str], "JSON object"),
    ],
)
def test_annotations_in_words(annotation: Any, words: str) -> None:
    assert described(annotation) == words
