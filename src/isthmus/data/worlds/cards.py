"""Playing cards drawn here: 52 faces as cached sprites, and hands painted onto a table with the box of every card."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from isthmus.errors import OptionError, unknown

RANKS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "jack", "queen", "king", "ace")
SUITS = ("clubs", "diamonds", "hearts", "spades")
CARDS = tuple(f"{rank} of {suit}" for suit in SUITS for rank in RANKS)
"""Names of the 52 cards; card ``13 * suit + rank``."""
BACKGROUNDS = ("plain", "gradient", "clutter")
HEIGHT, SLOT = 56, 112 / 3
"""Picture height and the width given to one card, in pixels: three cards make 112 x 56."""

_GLYPHS = ("2", "3", "4", "5", "6", "7", "8", "9", "10", "J", "Q", "K", "A")
_RED, _BLACK, _PAPER, _EDGE = (200, 16, 30), (18, 18, 26), (252, 251, 246), (96, 96, 96)
_FELT = np.array([33, 104, 72], dtype=np.float32)
_FINE = 4  # faces are drawn this many times larger and averaged down
_ASPECT = 48 / 34

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Whole = NDArray[np.int64]


def _outline(suit: str) -> list[NDArray[np.float64]]:
    """The polygons (V, 2) whose union is a suit symbol, in the unit square, y downwards."""
    turn = np.linspace(0, 2 * np.pi, 60)
    heart = np.stack(
        [
            0.5 + np.sin(turn) ** 3 / 2,
            0.44 - (13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)) / 30,
        ],
        1,
    )
    stem = np.array([[0.5, 0.5], [0.70, 1.0], [0.30, 1.0]])
    disc = np.stack([np.cos(turn), np.sin(turn)], 1)
    if suit == "diamonds":
        return [np.array([[0.5, 0.0], [0.88, 0.5], [0.5, 1.0], [0.12, 0.5]])]
    if suit == "hearts":
        return [heart]
    if suit == "spades":
        return [np.stack([heart[:, 0], 0.86 * (1 - heart[:, 1])], 1), stem]
    middle = np.array([[0.5, 0.3], [0.72, 0.62], [0.28, 0.62]])
    return [stem, middle, *(disc * 0.235 + np.array(at) for at in ((0.5, 0.235), (0.235, 0.58), (0.765, 0.58)))]


def _symbol(face: ImageDraw.ImageDraw, suit: str, left: float, top: float, size: float, ink: tuple[int, int, int]) -> None:
    for polygon in _outline(suit):
        points = polygon * size + np.array([left, top])
        face.polygon([(float(x), float(y)) for x, y in points], fill=ink)


def _glyph(face: Image.Image, text: str, box: tuple[float, float, float, float], ink: tuple[int, int, int]) -> None:
    """The rank ``text`` stretched to fill ``box`` (left, top, width, height)."""
    font = ImageFont.load_default(200)
    stroke = 5
    _, _, width, height = font.getbbox(text, stroke_width=stroke)
    mask = Image.new("L", (ceil(width) + 40, ceil(height) + 40))
    ImageDraw.Draw(mask).text((20, 20), text, fill=255, font=font, stroke_width=stroke)
    mask = mask.crop(mask.getbbox()).resize((round(box[2]), round(box[3])), Image.Resampling.BOX)
    face.paste(ink, (round(box[0]), round(box[1])), mask)


def _face(card: int, width: int) -> Image.Image:
    """One upright card as RGBA, ``_FINE`` times larger than ``width`` pixels."""
    suit, rank = SUITS[card // 13], card % 13
    unit = width * _FINE / 34
    size = (width * _FINE, round(width * _ASPECT) * _FINE)
    face = Image.new("RGBA", size, (*_PAPER, 0))
    draw = ImageDraw.Draw(face)
    draw.rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), 3.5 * unit, (*_PAPER, 255), (*_EDGE, 255), round(0.8 * unit))
    ink = _RED if suit in ("diamonds", "hearts") else _BLACK
    wide = {"10": 16.5, "Q": 15.5, "A": 15.0, "K": 14.5, "J": 11.0}.get(_GLYPHS[rank], 13.0)
    _glyph(face, _GLYPHS[rank], (3 * unit, 3.5 * unit, wide * unit, 20 * unit), ink)
    _symbol(draw, suit, 3 * unit, 26 * unit, 10 * unit, ink)
    _symbol(draw, suit, 14 * unit, 27.5 * unit, 17.5 * unit, ink)
    return face


@dataclass
class Deck:
    """The 52 faces at one size and any angle, drawn when first asked for.

    ``width`` of an upright card in pixels; a sprite is premultiplied colour (h, w, 3) and coverage (h, w, 1), float32.
    """

    width: int = 34
    _faces: dict[int, Image.Image] = field(default_factory=dict, repr=False)
    _sprites: dict[tuple[int, int], tuple[Floats, Floats]] = field(default_factory=dict, repr=False)

    @property
    def height(self) -> int:
        """Of an upright card, in pixels."""
        return round(self.width * _ASPECT)

    def sprite(self, card: int, angle: int = 0) -> tuple[Floats, Floats]:
        """Colour times coverage in 0..255, and coverage in 0..1, of ``card`` turned ``angle`` degrees anticlockwise."""
        key = (card, angle)
        if key not in self._sprites:
            if card not in self._faces:
                self._faces[card] = _face(card, self.width)
            face = self._faces[card]
            turned = face if angle == 0 else face.rotate(angle, Image.Resampling.BILINEAR, expand=True)
            grid = [ceil(side / _FINE) for side in turned.size]
            whole = Image.new("RGBA", (grid[0] * _FINE, grid[1] * _FINE), (*_PAPER, 0))
            whole.paste(turned, ((whole.width - turned.width) // 2, (whole.height - turned.height) // 2))
            fine = np.asarray(whole, dtype=np.float32)
            alpha = fine[..., 3:] / 255
            parts = [
                part.reshape(grid[1], _FINE, grid[0], _FINE, -1).mean((1, 3), dtype=np.float32)
                for part in (fine[..., :3] * alpha, alpha)
            ]
            rows, columns = (np.flatnonzero(parts[1][..., 0].any(axis)) for axis in (1, 0))
            crop = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            self._sprites[key] = (np.ascontiguousarray(parts[0][crop]), np.ascontiguousarray(parts[1][crop]))
        return self._sprites[key]


@dataclass(frozen=True)
class Layout:
    """Where the cards of n hands lie: the sprite's angle in degrees, top left corner and size (n, H, 2) in pixels."""

    deck: Deck
    width: int
    angle: Whole
    corner: Whole
    size: Whole

    def rows(self, index: Whole) -> Layout:
        """The hands at ``index`` alone."""
        return Layout(self.deck, self.width, self.angle[index], self.corner[index], self.size[index])

    @property
    def boxes(self) -> Floats:
        """(n, H, 4) x0, y0, x1, y1 in pixels around every card as it lies; what a neighbour hides is included."""
        return np.concatenate([self.corner, self.corner + self.size], -1).astype(np.float32)


def card_width(rotation: float) -> int:
    """Pixels: the widest card, at most 34, that turned by up to ``rotation`` degrees stays in its slot and picture."""
    angles = np.deg2rad(np.arange(0, min(rotation, 90) + 1))
    across = (np.cos(angles) + _ASPECT * np.sin(angles)).max()
    down = (_ASPECT * np.cos(angles) + np.sin(angles)).max()
    return int(min(34, (SLOT - 2 * (rotation > 0)) / across, (HEIGHT - 3) / down))


def lay(cards: Whole, rng: np.random.Generator, *, rotation: float = 0.0, overlap: float = 0.0) -> Layout:
    """Lay ``cards`` (n, H) in a row, left to right, each turned by up to ``rotation`` degrees either way.

    ``overlap`` in 0..0.5 is the part of a card's width that its right neighbour covers; the rank and suit in the top
    left corner stay in sight. At 0 no card touches another. Positions vary within the room that is left.
    """
    if not 0 <= rotation <= 180:
        raise OptionError(f"rotation: expected degrees in 0..180, got {rotation:g}; give the largest turn either way")
    if not 0 <= overlap <= 0.5:
        raise OptionError(f"overlap: expected a part of the card's width in 0..0.5, got {overlap:g}")
    n, count = cards.shape
    width = round(SLOT * count)
    deck = Deck(card_width(rotation))
    step = max(1, ceil(rotation / 30))
    turns = int(rotation // step)
    angle = step * rng.integers(-turns, turns + 1, (n, count))
    pairs = zip(cards.ravel(), angle.ravel(), strict=True)
    size = np.array([deck.sprite(int(card), int(turn))[1].shape[1::-1] for card, turn in pairs], dtype=np.int64)
    size = size.reshape(n, count, 2)
    place = np.arange(count)
    if overlap:
        pitch = deck.width * (1 - overlap)
        spread = pitch * (count - 1) + size[..., 0].max()
        left = pitch * place + rng.uniform(0, 1, (n, 1)) * max(width - spread, 0)
        left += (size[..., 0].max() - size[..., 0]) / 2
    else:
        left = SLOT * place + rng.uniform(0, 1, (n, count)) * (SLOT - size[..., 0])
    top = rng.uniform(0, 1, (n, count)) * (HEIGHT - size[..., 1])
    corner = np.rint(np.stack([left, top], -1)).astype(np.int64)
    return Layout(deck, width, angle, np.clip(corner, 0, np.array([width, HEIGHT]) - size), size)


def paint(cards: Whole, layout: Layout, ground: Floats) -> Floats:
    """Paint ``cards`` (n, H) over ``ground`` (n, height, width, 3) in 0..255, left card first; -1 leaves a card out."""
    picture = ground.copy()
    for row, hand in enumerate(cards):
        for place, card in enumerate(hand):
            if card >= 0:
                colour, cover = layout.deck.sprite(int(card), int(layout.angle[row, place]))
                x, y = layout.corner[row, place]
                spot = picture[row, y : y + len(cover), x : x + cover.shape[1]]
                spot *= 1 - cover
                spot += colour
    return picture


def table(n: int, width: int, rng: np.random.Generator, background: str = "plain") -> Floats:
    """(n, height, width, 3) in 0..255: plain green felt, a gradient of two random colours, or felt with clutter."""
    if background not in BACKGROUNDS:
        raise unknown("background", background, BACKGROUNDS)
    if background == "gradient":
        ends = rng.uniform(20, 235, (n, 2, 1, 1, 3)).astype(np.float32)
        tilt = rng.uniform(0, 2 * np.pi, (n, 1, 1, 1))
        down, across = np.meshgrid(np.linspace(-1, 1, HEIGHT), np.linspace(-1, 1, width), indexing="ij")
        ramp = np.cos(tilt) * across[None, :, :, None] + np.sin(tilt) * down[None, :, :, None]
        part = (0.5 + ramp / 2.9).astype(np.float32)
        return (ends[:, 0] * (1 - part) + ends[:, 1] * part).astype(np.float32)
    felt = np.broadcast_to(_FELT, (n, HEIGHT, width, 3)).copy()
    if background == "clutter":
        inks = np.array([_RED, _BLACK, _PAPER, (220, 180, 60), (70, 110, 190)], dtype=np.float32)
        for picture in felt:
            for _ in range(int(rng.integers(6, 15))):
                y, x = int(rng.integers(HEIGHT)), int(rng.integers(width))
                high, wide = rng.integers(2, 14, 2)
                picture[y : y + high, x : x + wide] = inks[rng.integers(len(inks))]
    return felt
