"""The robots of ``robot``: every figure is drawn once as four coverage maps, then coloured for each row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.float32]
Points = list[tuple[float, float]]

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "head": ("square", "round"),
    "body": ("square", "round"),
    "knees": ("no", "yes"),
    "elbows": ("no", "yes"),
    "antennae": ("no", "yes"),
    "ears": ("square", "triangle"),
    "mouth": ("closed", "open"),
    "hand": ("circle", "wide oval", "tall oval", "triangle", "square", "trapezoid"),
    "foot": (
        "flat trapezoid",
        "flat rounded",
        "flat square",
        "flat five-sided",
        "flat l-shaped",
        "pointy trapezoid",
        "pointy rounded",
        "pointy square",
        "pointy three-sided",
        "pointy four-sided",
    ),
}
"""The nine attributes of a robot and their values; all 7,680 combinations exist."""

PAIRS = np.array(
    [
        [(214, 69, 65), (247, 202, 101)],
        [(58, 110, 165), (152, 203, 232)],
        [(39, 139, 96), (184, 222, 131)],
        [(120, 81, 169), (231, 160, 196)],
        [(230, 126, 34), (93, 173, 226)],
        [(22, 160, 133), (243, 156, 18)],
        [(192, 57, 43), (86, 101, 115)],
        [(52, 73, 94), (241, 148, 138)],
        [(125, 102, 8), (130, 224, 170)],
        [(169, 50, 38), (169, 204, 227)],
        [(81, 46, 95), (249, 231, 159)],
        [(17, 122, 101), (245, 183, 177)],
    ],
    dtype=np.float32,
)
"""Fill colours of the left and right half, (12, 2, 3) in 0..255."""

_FINE = 4
_PAPER, _LEFT, _RIGHT, _INK = range(4)
# Feet in a box from (-1, 0) to (1, 2), y downwards; the flat ones end on a line, the pointy ones in a point.
_FEET: dict[str, Points] = {
    "flat trapezoid": [(-0.9, 0.0), (0.9, 0.0), (0.45, 2.0), (-0.45, 2.0)],
    "flat rounded": [(-0.95, 0.9), (-0.7, 0.25), (0.0, 0.0), (0.7, 0.25), (0.95, 0.9), (0.5, 2.0), (-0.5, 2.0)],
    "flat square": [(-1.0, 0.0), (1.0, 0.0), (1.0, 1.5), (0.5, 2.0), (-0.5, 2.0), (-1.0, 1.5)],
    "flat five-sided": [(0.0, 0.0), (1.0, 0.6), (1.0, 2.0), (-1.0, 2.0), (-1.0, 0.6)],
    "flat l-shaped": [(-0.5, 0.0), (0.5, 0.0), (0.5, 2.0), (-1.3, 2.0), (-1.3, 1.0), (-0.5, 1.0)],
    "pointy trapezoid": [(-0.9, 0.0), (0.9, 0.0), (0.4, 1.6), (0.0, 2.0), (-0.4, 1.6)],
    "pointy rounded": [(-0.95, 0.9), (-0.7, 0.25), (0.0, 0.0), (0.7, 0.25), (0.95, 0.9), (0.0, 2.0)],
    "pointy square": [(-1.0, 0.0), (1.0, 0.0), (1.0, 1.3), (0.0, 2.0), (-1.0, 1.3)],
    "pointy three-sided": [(-1.0, 0.0), (1.0, 0.0), (0.0, 2.0)],
    "pointy four-sided": [(0.0, 0.0), (1.0, 1.0), (0.0, 2.0), (-1.0, 1.0)],
}
# Hands in the same box, the arm on the left edge; ovals are made below.
_HANDS: dict[str, Points] = {
    "triangle": [(-1.0, 0.0), (-1.0, 2.0), (1.0, 1.0)],
    "square": [(-1.0, 0.0), (1.0, 0.0), (1.0, 2.0), (-1.0, 2.0)],
    "trapezoid": [(-1.0, 0.5), (-1.0, 1.5), (1.0, 2.0), (1.0, 0.0)],
}
_OVALS = {"circle": (1.0, 1.0), "wide oval": (1.5, 0.9), "tall oval": (0.9, 1.5)}


class _Sketch:
    """Draws on a grid of colour roles; coordinates in 64ths of the picture, the robot's middle at x = 32."""

    def __init__(self, size: int) -> None:
        self.unit = size * _FINE / 64
        self.sheet = Image.new("L", (size * _FINE, size * _FINE), _PAPER)
        self.draw = ImageDraw.Draw(self.sheet)
        self.pen = max(1, round(self.unit))

    def _pixels(self, points: Points) -> Points:
        return [(x * self.unit, y * self.unit) for x, y in points]

    def polygon(self, points: Points, role: int) -> None:
        corners = self._pixels(points)
        self.draw.polygon(corners, fill=role)
        self.draw.line([*corners, corners[0]], fill=_INK, width=self.pen, joint="curve")

    def oval(self, x: float, y: float, wide: float, high: float, role: int) -> None:
        box = self._pixels([(x - wide, y - high), (x + wide, y + high)])
        self.draw.ellipse([*box[0], *box[1]], fill=role, outline=_INK, width=self.pen)

    def line(self, points: Points, width: float = 1.0) -> None:
        self.draw.line(self._pixels(points), fill=_INK, width=max(1, round(width * self.unit)))

    def trunk(self, shape: str, top: float, bottom: float, half: float) -> None:
        """A part in the middle whose left and right half have different colours."""
        if shape == "square":
            for side, role in ((-1, _LEFT), (1, _RIGHT)):
                edge = [(32.0, top), (32 + side * half, top), (32 + side * half, bottom), (32.0, bottom)]
                self.draw.polygon(self._pixels(edge), fill=role)
            box = [(32 - half, top), (32 + half, top), (32 + half, bottom), (32 - half, bottom)]
            self.draw.line(self._pixels([*box, box[0]]), fill=_INK, width=self.pen, joint="curve")
            return
        box = self._pixels([(32 - half, top), (32 + half, bottom)])
        extent = [*box[0], *box[1]]
        self.draw.pieslice(extent, 90, 270, fill=_LEFT)
        self.draw.pieslice(extent, 270, 450, fill=_RIGHT)
        self.draw.ellipse(extent, outline=_INK, width=self.pen)

    def coverage(self) -> Floats:
        """(4, size, size) part of every pixel that is paper, left colour, right colour and ink."""
        fine = np.asarray(self.sheet)
        size = fine.shape[0] // _FINE
        cells = fine.reshape(size, _FINE, size, _FINE)
        return np.stack([(cells == role).mean((1, 3), dtype=np.float32) for role in range(4)])


def _limbs(sketch: _Sketch, robot: Mapping[str, str], side: int, role: int) -> None:
    """An arm with its hand and a leg with its foot, on one side (-1 left, 1 right)."""
    sketch.line([(32 + side * 9, 30), (32 + side * 21, 30)])
    sketch.line([(32 + side * 5, 42), (32 + side * 5, 53)])
    if robot["elbows"] == "yes":
        sketch.oval(32 + side * 15.5, 30, 1.5, 1.5, role)
    if robot["knees"] == "yes":
        sketch.oval(32 + side * 5, 48.5, 1.5, 1.5, role)
    hand, foot = robot["hand"], robot["foot"]
    if hand in _OVALS:
        wide, high = _OVALS[hand]
        sketch.oval(32 + side * 23, 30, 2.4 * wide, 2.4 * high, role)
    else:
        sketch.polygon([(32 + side * (23 + 2.4 * x), 27.6 + 2.4 * y) for x, y in _HANDS[hand]], role)
    sketch.polygon([(32 + side * (5 - 4.2 * x), 52.5 + 4.2 * y) for x, y in _FEET[foot]], role)


def figure(robot: Mapping[str, str], size: int = 64) -> Floats:
    """One robot as (4, size, size) coverage of paper, left colour, right colour and ink; ``robot`` names all values."""
    sketch = _Sketch(size)
    for side, role in ((-1, _LEFT), (1, _RIGHT)):
        _limbs(sketch, robot, side, role)
    if robot["antennae"] == "yes":
        for side in (-1, 1):
            sketch.line([(32 + side * 2.5, 8), (32 + side * 6, 2.5)])
    sketch.trunk(robot["body"], 22, 43, 10 if robot["body"] == "square" else 11)
    for side, role in ((-1, _LEFT), (1, _RIGHT)):
        at = [(side * x, y) for x, y in ((7.0, 11.5), (7.0, 15.5), (10.0, 15.5), (10.0, 11.5))]
        ear = at if robot["ears"] == "square" else [at[0], at[1], (side * 10.5, 13.5)]
        sketch.polygon([(32 + x, y) for x, y in ear], role)
    sketch.trunk(robot["head"], 6, 21.5, 7.5)
    for side in (-1, 1):
        sketch.oval(32 + side * 2.8, 11.5, 1.1, 1.1, _INK)
    if robot["mouth"] == "open":
        sketch.polygon([(28.8, 15.3), (35.2, 15.3), (35.2, 18.3), (28.8, 18.3)], _PAPER)
    else:
        sketch.line([(28.8, 16.8), (35.2, 16.8)])
    return sketch.coverage()


def colour(cover: Floats, pair: Floats) -> Floats:
    """Coverage (n, 4, H, W) and fill colours (n, 2, 3) -> pictures (n, 3, H, W) in 0..255, ink black on white."""
    n = len(cover)
    roles = np.concatenate([np.full((n, 1, 3), 255.0), pair, np.full((n, 1, 3), 20.0)], 1).astype(np.float32)
    picture = np.matmul(roles.transpose(0, 2, 1), cover.reshape(n, 4, -1))
    return picture.reshape(n, 3, *cover.shape[2:])
