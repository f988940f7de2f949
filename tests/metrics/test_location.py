"""Location and pointing: chance levels, a map drawn by hand, and that each row is judged by its own places."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus import metrics
from isthmus.errors import DataError
from isthmus.metrics.location import peaks


def spot(n: int, h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 1, h, w))


@pytest.mark.parametrize("alpha", [1, 3, 6])
def test_chance_is_alpha_twelfths(alpha: int) -> None:
    draw = np.random.default_rng(1)
    corner = draw.random((6000, 1, 2)) * [46, 22]
    boxes = np.concatenate([corner, corner + 2], -1)
    assert metrics.location(spot(6000, 12, 12), boxes, (24, 48), alpha) == pytest.approx(alpha / 12, abs=0.02)
    assert metrics.location(np.zeros((600, 1, 12, 12)), boxes[:600], (24, 48), alpha) <= 1  # a flat map marks nothing
    flat = metrics.location(np.zeros((600, 1, 12, 12)), boxes[:600], (24, 48), alpha)
    assert flat == pytest.approx(0 if alpha < 6 else 0.5, abs=0.5)


def test_a_map_by_hand_in_the_pictures_frame() -> None:
    maps = np.zeros((2, 1, 4, 6))
    maps[0, 0, 1, 4], maps[1, 0, 3, 0] = 1, 1
    np.testing.assert_allclose(peaks(maps, (40, 120)), [[[90, 15]], [[10, 35]]])
    boxes = np.array([[[80, 10, 100, 20.0]], [[80, 10, 100, 20.0]]])
    size = (40, 120)
    assert metrics.pointing_distance(maps, boxes, size) == pytest.approx(np.mean([0, np.hypot(80, 20)]))
    assert metrics.pointing(maps, boxes, size) == 0.5 and metrics.mass_inside(maps, boxes, size) == 0.5
    assert metrics.location(maps, boxes, size, 1) == pytest.approx(0.5, abs=0.01)


def test_concepts_without_a_place_do_not_count() -> None:
    maps = np.zeros((1, 2, 4, 4))
    maps[0, :, 0, 0] = 1
    boxes = np.array([[[0, 0, 10, 10.0], [np.nan] * 4]])
    assert metrics.pointing(maps, boxes, (40, 40)) == 1 == metrics.location(maps, boxes, (40, 40), 1)
    assert np.isnan(metrics.pointing(maps, np.full((1, 2, 4), np.nan), (40, 40)))
    with pytest.raises(DataError, match=r"maps \(n, P, H, W\)"):
        metrics.pointing(maps, boxes[:, :1], (40, 40))
    with pytest.raises(DataError, match="alpha"):
        metrics.location(maps, boxes, (40, 40), 0)


def test_order_of_rows_and_concepts_does_not_matter() -> None:
    draw = np.random.default_rng(2)
    maps, corner = draw.random((20, 3, 6, 6)), draw.random((20, 3, 2)) * 30
    boxes = np.concatenate([corner, corner + 8], -1)
    rows, columns = draw.permutation(20), [2, 0, 1]
    for metric in (metrics.location, metrics.pointing, metrics.pointing_distance, metrics.mass_inside):
        assert metric(maps, boxes, (40, 40)) == pytest.approx(metric(maps[rows][:, columns], boxes[rows][:, columns], (40, 40)))
