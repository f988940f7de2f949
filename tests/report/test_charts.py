"""Drawings: equal values, single points, crowded names, and numbers that are none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.report import bars, charts, frames, grids, small, svg
from isthmus.report.page import Page, read

Build = dict[str, Callable[..., dict[str, Any]]]
number = st.floats(-1e6, 1e6, allow_subnormal=False)


def page_of(build: Build, change: Callable[[dict[str, Any]], None] = lambda data: None, **options: Any) -> Page:
    data = build["compare"](**options)
    change(data)
    return read(data)


def test_elements_escape_text_and_attributes() -> None:
    made = svg.el("text", "<b> & 'q'", svg.el("title", '"'), data_name='"><x', x=1.25, class_=None)
    assert made == '<text data-name="&quot;&gt;&lt;x" x="1.2">&lt;b&gt; &amp; &#x27;q&#x27;<title>&quot;</title></text>'
    assert ElementTree.fromstring(made).get("data-name") == '"><x'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_place_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        svg.coordinate(value)


def test_coordinates_are_short() -> None:
    assert [svg.coordinate(v) for v in (0.0, -0.01, 12.34, 5.0, -3.06)] == ["0", "0", "12.3", "5", "-3.1"]


@given(st.lists(number, min_size=0, max_size=9), st.none() | st.just(0.0), st.none() | st.just(1.0))
def test_ranges_hold_their_values(values: list[float], low: float | None, high: float | None) -> None:
    values = [v for v in values if (low is None or v >= low) and (high is None or v <= high)]
    a, b = svg.spanned(values, low, high)
    assert math.isfinite(a) and math.isfinite(b) and a < b
    slack = 1e-6 * max(1.0, abs(a), abs(b))
    assert all(a - slack <= v <= b + slack for v in values)


@given(number, number)
def test_ticks_are_few_and_inside(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    found = svg.ticks(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert len(found) <= 60 and all(low - slack <= v <= high + slack for v in found)


def test_ticks_are_round() -> None:
    assert svg.ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert svg.ticks(0, 52, 7, whole=True) == [0, 10, 20, 30, 40, 50] and svg.ticks(0, 2, 7, whole=True) == [0, 1, 2]


def test_equal_ends_land_in_the_middle_and_outliers_at_the_edge() -> None:
    assert svg.Scale(3, 3, 0, 100)(3) == 50
    assert svg.Scale(0, 1, 0, 100)(7) == 100 and svg.Scale(0, 1, 100, 0)(0.25) == 75


@given(st.lists(st.floats(0, 300), max_size=12))
def test_names_keep_apart_and_in_order(wanted: list[float]) -> None:
    placed = frames.spaced(wanted, 17, 0, 300)
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    gaps = [placed[b] - placed[a] for a, b in itertools.pairwise(order)]
    assert all(gap >= 17 - 1e-6 for gap in gaps) and all(y >= -1e-6 for y in placed)


def test_names_that_have_room_stay_where_they_are() -> None:
    assert frames.spaced([200.0, 10.0, 100.0], 17, 0, 300) == [200.0, 10.0, 100.0]


def drawn(chart: str | None) -> ElementTree.Element:
    assert chart is not None
    return ElementTree.fromstring(chart)


def test_a_curve_of_one_point_and_curves_of_equal_values(build: Build) -> None:
    def flat(data: dict[str, Any]) -> None:
        for i, row in enumerate(data["rows"]):
            point = {"k": 0, "share": 0.0, "value": 0.5, "low": 0.5, "high": 0.5}
            row["curves"] = {"concept": [point] if i < 5 else [point, point | {"k": 3, "share": 1.0}]}
            row["scores"]["accuracy"] |= {"value": 0.5, "low": 0.5, "high": 0.5}

    page = page_of(build, flat)
    chart = drawn(charts.curves(page))
    assert len([g for g in chart if "series" in (g.get("class") or "")]) == 9  # eight rows and the black box's line
    drawn(charts.sparsity(page))
    assert small.strip(page, page.rows[0], 0.5, 0.5)


def test_curves_hold_their_points(build: Build) -> None:
    page = page_of(build)
    found = charts.points_of(page.rows[3], "concept")
    assert len(found) == 14 and found[0][0] == 0 and found[-1][0] == 52
    assert found[0][1] == pytest.approx(0.951) and found[-1][1] == pytest.approx(0.988)
    assert charts.curves(page, "nothing") is None
    names = [text.text for text in drawn(charts.curves(page)).iter("text")]
    assert {"cbm joint", "cem", "blackbox"} <= set(names) and "linear_probe" not in names


def test_sparsity_needs_a_linear_head(build: Build) -> None:
    assert charts.sparsity(page_of(build, methods=7)) is None
    names = [text.text for text in drawn(charts.sparsity(page_of(build))).iter("text")]
    assert "sidechannel" in names and "not countable" in names and "random_concepts .694 ↓" in names
    assert "linear_probe" not in names


def test_equal_counts_stand_side_by_side() -> None:
    assert charts.dodged([10, 50, 10, 10], 9) == [1, 50, 10, 19]
    assert charts.dodged([], 9) == [] and charts.dodged([3], 9) == [3]


def test_contributions_carry_a_sign_unless_they_are_nothing() -> None:
    assert [bars.signed(v) for v in (1.678, -1.08, 0.001, -0.001)] == ["+1.68", "\u22121.08", "0.00", "0.00"]


def test_concepts_come_worst_first(build: Build) -> None:
    def plain(data: dict[str, Any]) -> None:
        data["rows"][3]["concepts"] = [
            {"name": "good", "known": 9, "accuracy": 1.0, "f1": 1.0, "majority": 0.5},
            {"name": "length", "known": 9, "accuracy": None, "f1": None, "majority": None},
            {"name": "bad", "known": 9, "accuracy": 0.5, "f1": 0.0, "majority": 0.5},
        ]

    row = page_of(build, plain).rows[3]
    assert [c.name for c in bars.concepts_of(row)] == ["bad", "good", "length"]
    chart = drawn(bars.concept_chart(row))
    widths = [float(bar.get("width") or "nan") for bar in chart.iter("rect")]
    assert widths == [0, 320]  # F1 of 0 and of 1
    assert "n/a: a number, or no known label" in [text.text for text in chart.iter("text")]


def test_contributions_are_signed_and_the_remainder_is_a_bar_of_its_own(build: Build) -> None:
    page = page_of(build)
    example = {
        "id": "e",
        "concepts": [
            {"name": "a", "value": 0.9, "truth": 0.0, "contribution": 2.0},
            {"name": "b", "value": 0.1, "contribution": -1.0},
        ],
        "remainder": 0.5,
    }
    chart = drawn(bars.example_chart(page.rows[7], example))
    bars_of = {
        kind: [r for r in chart.iter("rect") if r.get("class") == kind] for kind in ("plus", "minus", "rest", "bar wrong")
    }
    assert {kind: len(found) for kind, found in bars_of.items()} == {"plus": 1, "minus": 1, "rest": 1, "bar wrong": 1}
    assert float(bars_of["plus"][0].get("width") or 0) == 2 * float(bars_of["minus"][0].get("width") or 0)
    texts = [text.text for text in chart.iter("text")]
    assert "remainder" in texts and "+2.00" in texts and "\u22121.00" in texts and ".900 ✗" in texts
    for each in example["concepts"]:
        each["contribution"] = None
    assert "remainder" not in [text.text for text in drawn(bars.example_chart(page.rows[7], example)).iter("text")]


def test_values_beyond_zero_and_one_have_room(build: Build) -> None:
    example = {"concepts": [{"name": "score", "value": -3.2}, {"name": "size", "value": 41.0, "truth": 40.0}]}
    chart = drawn(bars.example_chart(page_of(build).rows[3], example))
    assert all(166 <= float(bar.get("x") or 0) <= 316 for bar in chart.iter("rect"))


def test_confusions_are_counted_and_named(build: Build) -> None:
    def three(data: dict[str, Any]) -> None:
        data["rows"][3]["confusion"] = [[8, 2, 0], [0, 0, 0], [1, 3, 6]]

    row = page_of(build, three).rows[3]
    found = grids.mistakes(row, ["cat", "dog"])
    assert [(m["truth"], m["answer"], m["count"], m["share"]) for m in found] == [
        ("class 2", "dog", "3", "30.0 %"),
        ("cat", "dog", "2", "20.0 %"),
        ("class 2", "cat", "1", "10.0 %"),
    ]
    chart = drawn(grids.confusion_chart(row, ["cat", "dog"]))
    assert len(list(chart.iter("rect"))) == 9
    assert grids.table_of([[1, 2], [3]]) is None and grids.table_of(3) is None


def test_agreement_frames_flagged_pairs() -> None:
    found = {"names": ["a", "b", "c"], "matrix": [[1, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]], "flagged": [{"a": "b", "b": "a"}]}
    chart = drawn(grids.agreement_chart(found))
    assert len([r for r in chart.iter("rect") if r.get("class") == "flag"]) == 1
    assert grids.agreement_chart({"names": ["a"], "matrix": [[1.0]]}) is None
    drawn(grids.agreement_chart({"names": ["a", "b"], "matrix": [[1, 1], [1, 1]]}))


def test_training_leaves_out_what_is_no_number() -> None:
    history = [
        {"stage": "a", "epoch": 0, "loss": 1.0, "validation": None},
        {"stage": "b", "epoch": 0, "loss": math.nan, "validation": 2.0},
    ]
    chart = drawn(small.training(history))
    assert len(list(chart.iter("circle"))) == 2
    assert small.training([{"stage": "a", "loss": None}]) is None and small.training([]) is None
    assert str(small.training([*history, {"edit": "prune", "why": "w"}])) == str(small.training(history)), "edits are no epochs"
