"""Single cards made hard to read: a grey band over a part, or a blur, with a record of how much of each card it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import OptionError, unknown

Floats = NDArray[np.float32]
Reals = NDArray[np.float64]
VEILS = ("both", "blur", "occlusion")
GREY = 128
WIDEST = 0.25
"""Standard deviation of a blur of level 1, in widths of the card."""


@dataclass(frozen=True)
class Veils:
    """For each card (n, H): ``blur`` 0..1 its level, ``cover`` 0..1 the part of its height under the band, ``start``
    0..1 where in the height that is left the band begins."""

    blur: Reals
    cover: Reals
    start: Reals

    def rows(self, index: NDArray[np.int64]) -> Veils:
        """The hands at ``index`` alone."""
        return Veils(self.blur[index], self.cover[index], self.start[index])

    def lay(self, picture: Floats, boxes: Floats) -> Floats:
        """Change ``picture`` (n, height, width, 3) in place; ambiguity (n, H) of the cards in ``boxes`` (n, H, 4).

        The ambiguity of a card is the mean over its box: 1 under a band, the level under a blur, 0 in the clear. A veil
        reaches what it lies on, so that cards which overlap share it.
        """
        corners = boxes.astype(np.int64)
        level = np.zeros(picture.shape[:3], dtype=np.float32)
        for row, place in np.argwhere(self.blur > 0):
            x0, y0, x1, y1 = corners[row, place]
            spread = float(self.blur[row, place]) * WIDEST * float(x1 - x0)
            picture[row, y0:y1, x0:x1] = blurred(picture[row, y0:y1, x0:x1], spread)
            np.maximum(level[row, y0:y1, x0:x1], self.blur[row, place], out=level[row, y0:y1, x0:x1])
        for row, place in np.argwhere(self.cover > 0):
            x0, y0, x1, y1 = corners[row, place]
            high = round(float(self.cover[row, place]) * float(y1 - y0))
            top = y0 + round(float(self.start[row, place]) * float(y1 - y0 - high))
            picture[row, top : top + high, x0:x1] = GREY
            level[row, top : top + high, x0:x1] = 1
        found = np.zeros(boxes.shape[:2], dtype=np.float32)
        for row, place in np.ndindex(found.shape):
            x0, y0, x1, y1 = corners[row, place]
            found[row, place] = level[row, y0:y1, x0:x1].mean()
        return found


def blurred(picture: Floats, spread: float) -> Floats:
    """(h, w, 3) under a Gaussian of standard deviation ``spread`` pixels that stays inside the picture."""
    down, across = (_gaussian(side, spread) for side in picture.shape[:2])
    return np.einsum("ih,hwk,jw->ijk", down, picture, across, optimize=True).astype(np.float32)


def _gaussian(side: int, spread: float) -> Reals:
    """(side, side), rows sum to 1."""
    gap = np.subtract.outer(np.arange(side), np.arange(side)) / spread
    raw = np.exp(-(gap**2) / 2)
    return raw / raw.sum(1, keepdims=True)


def draw_veils(n: int, count: int, rng: np.random.Generator, *, ambiguous: float, veil: str, strength: float) -> Veils:
    """Veils of n hands of ``count`` cards: each card has one with probability ``ambiguous``, a blur or a band as ``veil``
    says ('both': by a fair coin), its level even in (0, ``strength``]."""
    if not 0 <= ambiguous <= 1:
        raise OptionError(f"ambiguous: expected a probability in 0..1, got {ambiguous:g}")
    if not 0 < strength <= 1:
        raise OptionError(f"strength: expected the largest level, above 0 and at most 1, got {strength:g}")
    if veil not in VEILS:
        raise unknown("veil", veil, VEILS)
    chance, coin, level, start = rng.random((4, n, count))
    level = np.where(chance < ambiguous, strength * (1 - level), 0)
    blurs = coin < {"both": 0.5, "blur": 1.0, "occlusion": 0.0}[veil]
    return Veils(np.where(blurs, level, 0), np.where(blurs, 0, level), start)
