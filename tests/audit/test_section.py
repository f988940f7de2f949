"""Intervals have width where a share is 0 or 1, hold their value, and stay within what a score can be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

import isthmus as im
from isthmus import metrics
from isthmus.audit import audit
from isthmus.audit.section import Measure, widened
from isthmus.report import html
from tests.audit.test_audit import plain


@pytest.mark.parametrize("n", [1, 10, 20, 2000])
def test_no_case_among_n_is_bounded_as_clopper_and_pearson_do(n: int) -> None:
    assert widened(0, 0, n) == pytest.approx((0, beta.ppf(0.975, 1, n)))
    assert widened(1, 1, n) == pytest.approx((beta.ppf(0.025, n, 1), 1))
    assert widened(0.3, 0.99999, n)[1] == 0.99999


def test_a_bypass_of_0_on_few_rows_may_be_more() -> None:
    none = metrics.bypass.weighted(np.zeros(20))
    line = Measure(20).line("bypass", metrics.bypass, none)
    assert line.value == 0 == line.low and line.high == pytest.approx(0.168, abs=1e-3)
    patients = Measure(20, [f"p{row // 4}" for row in range(20)]).line("bypass", metrics.bypass, none)
    assert patients.high == pytest.approx(0.522, abs=1e-3)  # five patients, not twenty rows
    assert Measure(20, ["one"] * 20).line("bypass", metrics.bypass, none).high is None
    known = np.array([1.0] * 10 + [np.nan] * 10)[:, None]
    right = Measure(20).line("task", metrics.accuracy, metrics.accuracy.weighted(known, np.ones((20, 1))))
    assert right.low == pytest.approx(0.692, abs=1e-3) and right.high == 1  # ten rows that count


def test_the_interval_of_a_middling_share_is_the_bootstraps() -> None:
    form = metrics.bypass.weighted(np.arange(400) % 2)
    measure = Measure(400)
    line = measure.line("bypass", metrics.bypass, form)
    assert (line.low, line.high) == pytest.approx(metrics.interval(measure.drawn(metrics.bypass, form)[1]))


def test_a_limit_on_the_end_of_a_bypass_is_broken_by_few_rows() -> None:
    data = plain(40)
    told = audit(im.fit("cbm", data, epochs=2), data, sections=["leaks"], fail_if=["bypass.high>0.001"])
    assert told["bypass"] == 0 and told.failed


def test_gaps_and_signs_stay_within_their_range() -> None:
    data = plain(100)
    model = im.fit("cbm", data, mode="independent", epochs=60)
    told = audit(model, data, sections=["subgroups", "faithfulness"], by=["site", "class"])
    lines = [line for section in told.data["sections"] for line in section["lines"]]
    gaps = [line for line in lines if line["key"].startswith("gap_")]
    assert gaps and all(
        0 <= line["low"] <= line["value"] <= line["high"] <= 1 for line in gaps if line["key"] != "gap_gain_site"
    )
    sign = next(line for line in lines if line["key"] == "cace_sign")
    assert sign["value"] == 1 and sign["low"] == pytest.approx(0.025 ** (1 / sign["n"]), abs=1e-5)


def test_the_page_writes_minus_as_its_numbers_do() -> None:
    data = plain(40)
    told = audit(im.fit("cbm", data, epochs=1), data, sections=["task"])
    told.data["sections"][0]["meaning"] = "It moves by -0.270 (-.5), not a-1 or 2-3."
    assert "by \u22120.270 (\u2212.5), not a-1 or 2-3." in html(told.data)
