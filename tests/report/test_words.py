"""The answer in words: never surer than the intervals, and every kind of score read the right way round."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from isthmus.report.facts import facts
from isthmus.report.page import read
from isthmus.report.words import cheapest, overlapping, summary

Result = dict[str, Any]
Build = dict[str, Callable[..., Result]]


def said(data: Result) -> list[str]:
    """The sentences without markup."""
    return [re.sub(r"<[^>]+>", "", each).replace("\u00a0", " ").replace("\u2212", "-") for each in summary(read(data))]


def main(row: Result, value: float, low: float, high: float, gap: tuple[float, float, float] | None = None) -> None:
    """Give a row its main score."""
    difference = None if gap is None else dict(zip(("value", "low", "high"), gap, strict=True))
    row["scores"]["accuracy"] |= {"value": value, "low": low, "high": high, "difference": difference}


def test_a_difference_around_zero_is_not_called_a_cost(build: Build) -> None:
    sentences = said(build["compare"]())
    assert sentences[0] == (
        "Of 5 bottlenecks, cem does best: task accuracy .953 [.944, .962]. The black box reaches .956 [.947, .965]. "
        "The difference, -.003 [-.009, +.003], is too small to tell from none on 2,500 test rows."
    )


def test_a_clear_difference_is_a_cost_or_a_gain(build: Build) -> None:
    data = build["compare"](methods=4)
    main(data["rows"][3], 0.90, 0.89, 0.91, (-0.056, -0.07, -0.04))
    assert said(data)[0].endswith("So the strip costs .056 (paired difference -.056 [-.070, -.040]).")
    main(data["rows"][3], 0.97, 0.96, 0.98, (0.014, 0.004, 0.024))
    assert said(data)[0].endswith("It does better by .014 (paired difference +.014 [+.004, +.024]).")


def test_where_less_is_better_the_least_is_best(build: Build) -> None:
    data = build["compare"](methods=5)
    data["metrics"]["accuracy"] |= {"title": "error", "better": "down"}
    main(data["rows"][3], 0.30, 0.29, 0.31, (0.1, 0.09, 0.11))
    main(data["rows"][4], 0.40, 0.39, 0.41, (0.2, 0.19, 0.21))
    first = said(data)[0]
    assert "cbm joint does best: error .300" in first and "So the strip costs .100" in first


def test_overlapping_intervals_leave_the_order_open(build: Build) -> None:
    data = build["compare"](methods=6)
    page = read(data)
    assert [row.name for row in overlapping(page, page.rows[3])] == ["cbm sequential", "cbm independent"]
    assert any("take their order as open, and the best as flattered by the choice" in each for each in said(data))
    main(data["rows"][4], 0.80, 0.79, 0.81)
    main(data["rows"][5], 0.81, 0.80, 0.82)
    assert not any("order as open" in each for each in said(data))


def test_the_cheapest_sealed_one_is_named_with_its_encoder(build: Build) -> None:
    data = build["compare"]()
    data["rows"][4]["scores"]["fit_seconds"]["value"] = 6.0
    assert [row.name for row in cheapest(read(data))] == ["cbm independent"]
    told = next(each for each in said(data) if "cheapest" in each)
    assert "2.9 s to fit, after 98 s for its encoder, which 6 methods share; task accuracy .936" in told
    data["rows"] = [row for row in data["rows"] if not row["sealed"]]
    assert any(each.startswith("No sealed bottleneck") for each in said(data))


def test_times_to_fit_that_are_near_are_not_told_apart(build: Build) -> None:
    data = build["compare"]()
    assert [row.name for row in cheapest(read(data))] == ["cbm independent", "cbm sequential"]
    told = next(each for each in said(data) if "cheapest" in each)
    assert "cbm independent and cbm sequential: 2.9 s to 3.2 s to fit, not told apart by one run, after 98 s" in told


def test_encoders_that_learnt_different_things_are_said(build: Build) -> None:
    data = build["compare"]()
    told = next(each for each in said(data) if "different features" in each)
    assert "cem from an encoder that learnt the concept labels, the black box from one that learnt the task alone" in told
    for encoder in data["encoders"]:
        encoder["learns"] = "nothing"
    assert not any("different features" in each for each in said(data))


def test_corrections_that_harm_are_said(build: Build) -> None:
    data = build["compare"]()
    assert not any("Corrections harm" in each for each in said(data))
    data["rows"][3]["scores"]["gain_all"] |= {"value": -0.5, "low": -0.6, "high": 0.1}
    assert not any("Corrections harm" in each for each in said(data))
    data["rows"][3]["scores"]["gain_all"]["high"] = -0.4
    assert any("Corrections harm cbm joint from .951 to .451 when every concept is given" in each for each in said(data))


def test_a_best_one_that_leaks_is_said_to(build: Build) -> None:
    sentences = said(build["compare"]())
    assert any(each.startswith("cem is not sealed: x still reaches the task") and "21.0 %" in each for each in sentences)
    assert any(each.startswith("The best sealed one is cbm joint: .951") for each in sentences)
    assert not any("is not sealed" in each for each in said(build["compare"](methods=6)))


@pytest.mark.parametrize(("value", "end"), [(0.70, "clearly worse."), (0.949, "not shown to matter.")])
def test_the_control_is_read_beside(build: Build, value: float, end: str) -> None:
    data = build["compare"](methods=4)
    main(data["rows"][2], value, value - 0.01, value + 0.01)
    told = next(each for each in said(data) if each.startswith("The control, random_concepts"))
    assert told.endswith(end)


def test_one_seed_is_said(build: Build) -> None:
    assert any(each.startswith("One seed") for each in said(build["compare"](seeds=1)))
    assert not any(each.startswith("One seed") for each in said(build["compare"]()))


def test_without_black_box_or_bottleneck(build: Build) -> None:
    data = build["compare"]()
    data["rows"] = data["rows"][3:]
    assert said(data)[0].endswith("what the strip costs is not known.")
    assert "Black box" not in [fact.label for fact in facts(read(data))]
    data = build["compare"](methods=3)
    assert said(data) == ["No bottleneck is among these methods. The black box reaches .956 [.947, .965]."]
    data = build["compare"](methods=4)
    data["rows"][3]["scores"] = {"accuracy": {"not_applicable": "it failed"}}
    assert said(data)[0].startswith("No bottleneck could be scored.")


def test_one_model(build: Build) -> None:
    sentences = said(build["evaluation"]())
    assert sentences[0].startswith("Concept bottleneck model has task accuracy .944 [.935, .953] on 2,500 rows.")
    assert "commonest class every time has .167" in sentences[0]
    assert any("macro F1 .931" in each and "72.1 %" in each for each in sentences)
    assert any("+.042" in each and "95 % of that with 62.0 %" in each for each in sentences)


def test_facts_at_the_head(build: Build) -> None:
    found = {fact.label: fact for fact in facts(read(build["compare"]()))}
    assert found["Black box"].value == ".956" and found["Best bottleneck"].note == "cem, not sealed"
    assert found["Difference"].note == "not told apart from none" and found["Cheapest sealed"].value == "2.9 s"
