"""What every metric refuses before it counts anything."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus import metrics
from isthmus.errors import DataError
from isthmus.metrics.concept import Kinds
from isthmus.metrics.selective import threshold


def test_what_is_not_a_number_or_not_of_the_same_rows_is_refused_by_name() -> None:
    c, bad = np.eye(3), np.full((3, 3), np.nan)
    boxes, maps = np.tile([0.0, 0, 2, 2], (3, 1, 1)), np.ones((3, 1, 4, 4))
    kinds, y = Kinds((0, 1, 2), ()), np.arange(3)
    for call, said in (
        (lambda: metrics.ois(c, bad), "OIS, representation: expected finite numbers, got 9"),
        (lambda: metrics.nis.weighted(c, bad), "NIS, representation"),
        (lambda: metrics.location(maps * np.nan, boxes, (8, 8)), "location, maps"),
        (lambda: metrics.pointing(maps * np.nan, boxes, (8, 8)), "pointing game, maps"),
        (lambda: metrics.location(maps[:0], boxes[:0], (8, 8)), "one row or more"),
        (lambda: metrics.nec(bad), "NEC, weights"),
        (lambda: metrics.existence(c, bad, 1), "existence, importance"),
        (lambda: metrics.aurc(np.ones(3), np.ones(5)), "right: expected 3 rows, as confidence has, got 5"),
        (lambda: metrics.ctl(y[:2], c, c, kinds), "CTL, c: expected 2 rows, as y has, got 3"),
        (lambda: metrics.ece(y[:2], c), "ECE, probabilities: expected 2 rows"),
        (lambda: metrics.concept_accuracy(c, bad, kinds), "concept accuracy, values"),
        (
            lambda: metrics.concept_accuracy(c / 0.0, c, kinds),
            "c: expected NaN .unknown. or finite numbers, got 3 that are inf",
        ),
        (lambda: threshold(np.ones(3), np.ones(5), 0.5), "threshold, right"),
    ):
        with np.errstate(all="ignore"), pytest.raises(DataError, match=said):
            call()
    unknown = np.where(c > 0, np.nan, c)
    assert metrics.concept_accuracy(unknown, c, kinds) == 1
    assert np.isnan(metrics.location(maps, boxes * np.nan, (8, 8)))
