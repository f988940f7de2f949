"""Does a concept look where it is? Location of the concepts that matter, and the distance of a map's peak from the truth.

Aysel et al. 2025, arXiv 2501.19271 (their CLM); Furby et al. 2024, arXiv 2402.00912 (pointing distance, by the row's places).
Maps (n, P, H, W) are of P chosen concepts of each row; boxes (n, P, 4) are x0, y0, x1, y1 in pixels of a picture of ``size``
(height, width), the far edges exclusive, NaN where a concept has no place in the row: such a concept does not count.
"""

from __future__ import annotations

import numpy as np

from isthmus.errors import DataError
from isthmus.metrics.core import Array, Metric, Sums

PARTS = 12  # alpha twelfths of the picture are looked at: 1, 3 and 6


def centres(boxes: Array) -> Array:
    """(..., 2) x and y of the middle of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def peaks(maps: Array, size: tuple[int, int]) -> Array:
    """(n, P, 2) x and y, in pixels of a picture of ``size``, of the middle of each map's highest cell (the first of equals)."""
    high, wide = maps.shape[-2:]
    at = maps.reshape(*maps.shape[:-2], -1).argmax(-1)
    return np.stack([(at % wide + 0.5) * size[1] / wide, (at // wide + 0.5) * size[0] / high], -1)


def _checked(maps: Array, boxes: Array) -> Array:
    if maps.ndim != 4 or boxes.shape != (*maps.shape[:2], 4):
        raise DataError(f"location: expected maps (n, P, H, W) and boxes (n, P, 4), got {maps.shape} and {boxes.shape}")
    return np.asarray(~np.isnan(boxes).any(-1))


def _location(maps: Array, boxes: Array, size: tuple[int, int], alpha: float = 1) -> Sums:
    known = _checked(maps, boxes)
    high, wide = maps.shape[-2:]
    if not 0 < alpha <= PARTS:
        raise DataError(f"location, alpha: expected twelfths of the picture above 0 and at most 12, got {alpha:g}")
    middle = np.nan_to_num(centres(boxes))
    x = np.clip((middle[..., 0] * wide / size[1]).astype(int), 0, wide - 1)
    y = np.clip((middle[..., 1] * high / size[0]).astype(int), 0, high - 1)
    rows, which = np.indices(known.shape)
    flat, here = maps.reshape(*maps.shape[:2], -1), maps[rows, which, y, x][..., None]
    rank = (flat > here).sum(-1) + ((flat == here).sum(-1) - 1) / 2  # equals share their places
    inside = np.clip(alpha * high * wide / PARTS - rank, 0, 1) * known
    return Sums(np.c_[inside.sum(1), known.sum(1)].astype(float), lambda s: s[:, 0] / s[:, 1])


def _distance(maps: Array, boxes: Array, size: tuple[int, int]) -> Sums:
    known = _checked(maps, boxes)
    apart = np.linalg.norm(peaks(maps, size) - np.nan_to_num(centres(boxes)), axis=-1) * known
    return Sums(np.c_[apart.sum(1), known.sum(1)].astype(float), lambda s: s[:, 0] / s[:, 1])


def _hit(maps: Array, boxes: Array, size: tuple[int, int]) -> Sums:
    known = _checked(maps, boxes)
    x, y = np.moveaxis(peaks(maps, size), -1, 0)
    b = np.nan_to_num(boxes)
    inside = (x >= b[..., 0]) & (x < b[..., 2]) & (y >= b[..., 1]) & (y < b[..., 3]) & known
    return Sums(np.c_[inside.sum(1), known.sum(1)].astype(float), lambda s: s[:, 0] / s[:, 1])


def _mass(maps: Array, boxes: Array, size: tuple[int, int]) -> Sums:
    known = _checked(maps, boxes)
    high, wide = maps.shape[-2:]
    x, y = (np.arange(wide) + 0.5) * size[1] / wide, (np.arange(high) + 0.5) * size[0] / high
    b = np.nan_to_num(boxes)[..., None]
    across, down = (x >= b[..., 0, :]) & (x < b[..., 2, :]), (y >= b[..., 1, :]) & (y < b[..., 3, :])
    positive = np.maximum(maps, 0)
    total = positive.sum((-2, -1))
    share = np.einsum("nphw,nph,npw->np", positive, down, across) / np.where(total > 0, total, 1)
    known &= total > 0
    return Sums(np.c_[(share * known).sum(1), known.sum(1)].astype(float), lambda s: s[:, 0] / s[:, 1])


location = Metric(
    _location, "location", "share", 0, 1, "up", "concepts",
    "share of the concepts that speak most for the answer whose place is in the alpha twelfths of the picture that their map "
    "marks most; chance alpha/12",
)  # fmt: skip
pointing_distance = Metric(
    _distance, "pointing distance", "px", 0, np.inf, "down", "concepts",
    "mean distance of a map's peak from the middle of the concept's box, in pixels of the picture, present concepts only",
)  # fmt: skip
pointing = Metric(
    _hit, "pointing game", "share", 0, 1, "up", "concepts", "share of present concepts whose map's peak lies in their box",
)  # fmt: skip
mass_inside = Metric(
    _mass, "map inside the box", "share", 0, 1, "up", "concepts",
    "share of a map's positive mass that lies in the concept's box; chance: the box's share of the picture",
)  # fmt: skip
