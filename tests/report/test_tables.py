"""The table in the terminal and in Markdown, and numbers as the field writes them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from isthmus.report import alike, markdown, table
from isthmus.report.clean import clean, picture, seen
from isthmus.report.markdown import safe
from isthmus.report.numbers import between, count, listed, number, seconds

Result = dict[str, Any]
Build = dict[str, Callable[..., Result]]


def printed(data: Result, width: int = 100) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(table(data))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_the_table_fits_a_hundred_columns(build: Build) -> None:
    lines = printed(build["compare"]())
    rows = {line.split("  ")[0].strip(): line for line in lines if re.search(r"\[\.\d{3}, ", line)}
    assert max(map(len, lines)) <= 100 and len(rows) == 8
    joint = next(line for line in lines if line.strip().startswith("cbm joint"))
    scores = ".951 [.942, .960] -.005 [-.011, +.001] .902 .692 .979 .000 - 6.3 sealed b"
    assert " ".join(joint.split()) == f"cbm joint {scores}"
    text = " ".join(lines)
    for part in (
        "Rendered poker hands",
        "3 seeds",
        "cF1 concept macro F1",
        "b resnet on",
        "commonest class .167",
        ".942 of the labels",
    ):
        assert part in " ".join(text.split())


def test_markup_in_names_is_printed_not_obeyed(build: Build) -> None:
    data = build["compare"](methods=4)
    data["rows"][3]["name"] = "[red]x[/red]\x1b[31m"
    assert any("[red]x[/red]⟨U+001B⟩" in line for line in printed(data, 140))
    assert not any("\x1b" in line for line in printed(build["hostile"](), 140))


def test_one_model_in_the_terminal(build: Build) -> None:
    lines = printed(build["evaluation"]())
    assert max(map(len, lines)) <= 100
    assert any(re.match(r"\s*task accuracy\s+\.944\s+\[\.935, \.953\]\s+share\s+higher", line) for line in lines)
    assert any("the head has a hidden layer" in line for line in lines)


def test_units_of_a_number_to_predict(build: Build) -> None:
    data = build["value_task"]()
    data |= {"main": "mae"}
    lines = printed(data)
    assert any("mean absolute error" in line for line in lines) and any("1.05 [0.852, 1.25]" in line for line in lines)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.mark.parametrize("kind", ["compare", "evaluation", "hostile", "value_task"])
def test_markdown_rows_have_the_same_columns(build: Build, kind: str) -> None:
    text = markdown(build[kind]())
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    lines = tables[0]
    for each in tables:
        assert len({len(cells(line)) for line in each}) == 1
    assert len(lines) > 6
    assert set(lines[1]) == set("| -:") and "<" not in re.sub(r"- command: .*", "", text)


def test_markdown_holds_numbers_and_how_they_were_made(build: Build) -> None:
    data = build["compare"]()
    text = markdown(data)
    row = next(cells(line) for line in text.splitlines() if line.startswith("| cbm joint"))
    assert row[1] == ".951 [.942, .960]" and row[2] == "-.005 [-.011, +.001]" and row[-2:] == ["sealed", "resnet on concepts"]
    assert "| constant answers | .167 |  |  | .000 |  | .942 |" in text
    assert re.search(r"- standard deviation of task accuracy over 3 seeds: blackbox \.\d{3}, .*, cem \.\d{3}", text)
    assert "standard deviation" not in markdown(build["compare"](seeds=1))
    for part in ("- command: `isthmus compare poker --seeds 3`", "- seeds: 0, 1, 2", "- commit: b2e591100", data["interval"]):
        assert part in text
    assert "left out: pcbm needs texts for the concepts" in text and "NEC: the head has a hidden layer (cbm joint" in text
    assert "options of cem: lr 0.01, weight_decay 0, head mlp" in text and text.endswith("\n") and "\n\n\n" not in text


def test_markdown_escapes() -> None:
    assert safe("a|b *c* [d](e) <f> & `g` weight_decay _h_") == (
        "a\\|b \\*c\\* \\[d\\](e) &lt;f&gt; &amp; \\`g\\` weight_decay \\_h\\_"
    )
    assert "\n" not in safe("a\nb")


def test_a_command_with_backticks_stays_code(build: Build) -> None:
    data = build["compare"](methods=4)
    data["command"] = "isthmus `x`"
    assert "- command: `` isthmus `x` ``" in markdown(data)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9312, "share", ".931"),
        (1.0, "share", "1.000"),
        (-0.0123, "share", "\u2212.012"),
        (-0.0001, "share", ".000"),
        (-1.5, "score", "\u22121.500"),
        (52.0, "concepts a class", "52"),
        (46.8, "concepts a class", "46.8"),
        (12345.6, "days", "12,346"),
        (0.0123, "days", "0.0123"),
        (1.0, "sd", "1"),
        (999.7, "days", "1,000"),
        (9.996, "days", "10.0"),
        (3e-9, "days", "3.00e-09"),
        (None, "share", "n/a"),
        (float("nan"), "share", "n/a"),
    ],
)
def test_numbers(value: float | None, unit: str, text: str) -> None:
    assert number(value, unit) == text


def test_signs_intervals_and_words() -> None:
    assert number(0.012, sign=True) == "+.012" and number(0.0, sign=True) == ".000"
    assert between(0.921, 0.94) == "[.921, .940]" and between(None, 0.9) == ""
    assert [seconds(s) for s in (0.04, 3.21, 98.1, 99.7, 312.4, 7500, None)] == [
        "0.0 s",
        "3.2 s",
        "98 s",
        "100 s",
        "5 min 12 s",
        "2 h 5 min",
        "n/a",
    ]
    assert count(1, "class", "classes") == "1 class" and count(2500, "row") == "2,500 rows"
    assert listed([]) == "none" and listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdefgh"), 2) == "a, b and 6 more"


def test_texts_are_made_visible() -> None:
    assert seen("a\u202eb\x00\ud800\u200b") == "a⟨U+202E⟩b⟨U+0000⟩⟨U+D800⟩⟨U+200B⟩"
    assert seen("grün, 三, אב\n\t") == "grün, 三, אב\n\t"
    assert clean({1: (float("inf"), {"x": [True, 3, 0.5, None]})}) == {"1": [None, {"x": [True, 3, 0.5, None]}]}


def test_only_embedded_pictures() -> None:
    assert picture("data:image/png;base64,AAAA") == "data:image/png;base64,AAAA"
    assert not any(map(picture, ["http://x/y.png", "data:image/svg+xml;base64,AA", 'data:image/png;base64,A" x="', None, 3]))


def test_methods_that_decide_alike_are_named_with_the_reason(build: Build) -> None:
    data = build["compare"]()
    matrix = [[1.0 if i == j else round(0.9 - 0.01 * abs(i - j), 3) for j in range(3)] for i in range(3)]
    data["agreement"] = {"names": ["a", "b", "c"], "matrix": matrix, "flagged": []}
    assert alike(data) == ["no two methods decide nearly alike: b and c do on 89.0 % of the rows, the most"]
    data["agreement"]["flagged"] = [{"a": "a", "b": "b", "share": 0.998, "why": "they are one"}]
    assert alike(data) == ["a and b decide 99.8 % of the rows alike: they are one"]
    assert "- a and b decide 99.8 % of the rows alike: they are one" in markdown(data)
    del data["agreement"]
    assert alike(data) == []


def test_corrections_by_policy_stand_in_markdown(build: Build) -> None:
    data = build["compare"](methods=4)
    for row in data["rows"]:
        row.pop("policies", None)
    assert "| policy |" not in markdown(data)
    data["rows"][3]["policies"] = {
        "ucp": [{"k": 2, "accuracy": {"value": 0.97, "low": 0.96, "high": 0.98}}],
        "kflip": {"not_applicable": "it needs binary concepts only"},
    }
    data["published"] = {"source": "a paper", "ucp": {"2": 0.961}, "blackbox": 0.9}
    told = markdown(data)
    assert "| cbm joint | ucp | 2 | .970 [.960, .980] |" in told
    assert "| cbm joint | kflip |  | not applicable: it needs binary concepts only |" in told
    assert "| published | ucp | 2 | .961 |" in told
    assert "- published: a paper" in told
