"""A picture with what its concepts look at laid over it, boxes of where they are, and names: for pages and files."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from isthmus.metrics.core import Array

LARGE = 3  # how many times the picture is enlarged, at most
WIDEST = 420  # px of one panel
HEAT = np.array([[0.0, 0.0, 0.0], [0.55, 0.1, 0.45], [0.93, 0.41, 0.14], [0.99, 0.9, 0.45]]) * 255  # dark to light


def sheet(picture: Array, shown: Array, names: Sequence[str], boxes: Array | None = None) -> bytes:
    """A PNG: the picture (3, H, W) in 0..255, then one panel for each of P maps (P, h, w) >= 0, its name below.

    A panel is the picture in grey under the map as heat, smoothed and scaled to its own maximum; ``boxes`` (P, 4), NaN where
    there is none, are outlined in white.
    """
    from PIL import Image, ImageDraw

    high, wide = picture.shape[1:]
    scale = max(1, min(LARGE, WIDEST // wide))
    size = (wide * scale, high * scale)
    plain = Image.fromarray(np.moveaxis(picture, 0, -1).astype(np.uint8)).resize(size)
    grey = np.asarray(plain.convert("L").convert("RGB"), dtype=float)
    panels: list[tuple[str, Any]] = [("the picture", plain)]
    for p, name in enumerate(names):
        found = Image.fromarray(_unit(shown[p]).astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
        strength = np.clip(np.asarray(found), 0, 1)[..., None]
        colour = np.stack([np.interp(strength[..., 0], np.linspace(0, 1, len(HEAT)), HEAT[:, k]) for k in range(3)], -1)
        panel = Image.fromarray((grey * (1 - 0.85 * strength) * 0.75 + colour * strength).clip(0, 255).astype(np.uint8))
        if boxes is not None and not np.isnan(boxes[p]).any():
            x0, y0, x1, y1 = (float(edge) * scale for edge in boxes[p])
            ImageDraw.Draw(panel).rectangle((x0, y0, x1 - 1, y1 - 1), outline=(255, 255, 255), width=2)
        panels.append((name, panel))
    across = min(len(panels), max(1, 1400 // (size[0] + 12)))
    rows = -(-len(panels) // across)
    whole = Image.new("RGB", (across * (size[0] + 12) - 12, rows * (size[1] + 26)), (255, 255, 255))
    draw = ImageDraw.Draw(whole)
    for at, (name, panel) in enumerate(panels):
        left, above = at % across * (size[0] + 12), at // across * (size[1] + 26)
        whole.paste(panel, (left, above))
        draw.text((left + 2, above + size[1] + 4), _printed(name), fill=(20, 20, 20), font_size=14)
    file = io.BytesIO()
    whole.save(file, "PNG", optimize=True)
    return file.getvalue()


def _unit(found: Array) -> Array:
    """A map averaged over about a tenth of its height, 0 to 1."""
    reach = max(1, found.shape[0] // 10)
    kernel = np.ones(2 * reach - 1) / (2 * reach - 1)
    for axis in (0, 1):
        found = np.apply_along_axis(lambda line: np.convolve(line, kernel, "same"), axis, found)
    most = found.max()
    return found / most if most > 0 else found


def _printed(name: str) -> str:
    """What the default font can draw, at most 46 characters."""
    plain = name.encode("latin-1", "replace").decode("latin-1")
    return plain if len(plain) <= 46 else f"{plain[:45]}..."


def embedded(png: bytes) -> str:
    """The address of a picture that a page carries itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
