"""The arithmetic of a shift: gap and mean of two scores, on numbers and on rows."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus import metrics
from isthmus.metrics import resamples, shift


@pytest.mark.parametrize(("inside", "outside", "gap", "mean"), [(0.97, 0.31, 0.66, 0.64), (0.4, 0.6, 0.2, 0.5), (0, 0, 0, 0)])
def test_gap_is_the_distance_and_mean_the_middle(inside: float, outside: float, gap: float, mean: float) -> None:
    """Better out of the domain than in it is a gap as well: its size alone is told."""
    assert shift(inside, outside) == pytest.approx({"gap": gap, "mean": mean})
    assert shift(outside, inside) == shift(inside, outside)


def test_on_rows_it_is_the_shift_of_the_two_accuracies() -> None:
    """Each kind of rows counts alike, however many; and so it is of every resample."""
    g = np.random.default_rng(5)
    shifted = g.random(300) < 0.2
    right = g.random(300) < np.where(shifted, 0.4, 0.9)
    want = shift(right[~shifted].mean(), right[shifted].mean())
    found = {name: metrics.METRICS[f"shift_{name}"](right, shifted) for name in ("gap", "mean")}
    assert found == pytest.approx(want)
    assert metrics.METRICS["shift_gap"](right, ~shifted) == pytest.approx(want["gap"]), "better on the shifted rows"
    assert found["mean"] != pytest.approx(right.mean(), abs=0.02)
    weights = resamples(300, 10)
    for r in range(10):
        rows = np.repeat(np.arange(300), weights[r].astype(int))
        again = shift(right[rows][~shifted[rows]].mean(), right[rows][shifted[rows]].mean())
        for name in ("gap", "mean"):
            drawn = metrics.METRICS[f"shift_{name}"].weighted(right, shifted).under(weights)
            assert drawn[r] == pytest.approx(again[name], abs=1e-6)


def test_without_shifted_rows_there_is_no_shift() -> None:
    assert np.isnan(metrics.METRICS["shift_gap"](np.ones(4), np.zeros(4)))
