"""Data is hostile: names come from files, other people and language models. One pass makes a dict safe to show.

Escaping is the writers' task (HTML, Markdown); here go the characters that no escaping makes harmless.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any, cast

PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")
UNSEEN = {"Cc", "Cs", "Zl", "Zp"}  # controls, lone surrogates, line and paragraph separators
TURNING = set(map(chr, (0x061C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF)))


def clean(value: Any) -> Any:
    """A copy of JSON-like data: text made visible (``seen``), NaN and infinities as None, every key a string."""
    if isinstance(value, str):
        return value if PICTURE.fullmatch(value) else seen(value)
    if isinstance(value, dict):
        return {seen(str(key)): clean(each) for key, each in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        return list(items) if set(map(type, items)) == {int} else [clean(each) for each in items]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else seen(str(value))


def seen(text: str) -> str:
    """Text with control, bidirectional and zero-width characters spelled out: U+202E becomes ``⟨U+202E⟩``."""
    return "".join(_shown(ch) for ch in text) if not (text.isascii() and text.isprintable()) else text


def _shown(ch: str) -> str:
    if ch in "\n\t":
        return ch
    return f"⟨U+{ord(ch):04X}⟩" if ch in TURNING or unicodedata.category(ch) in UNSEEN else ch


def picture(value: Any) -> str | None:
    """``value`` when it is an embedded PNG, JPEG, GIF or WebP picture, else None: an address is never followed."""
    return value if isinstance(value, str) and PICTURE.fullmatch(value) else None


def finite(value: Any) -> float | None:
    """``value`` as a finite float, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def record(value: Any) -> dict[str, Any]:
    """``value`` when it is a dict, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """``value`` when it is a list, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def records(value: Any) -> list[dict[str, Any]]:
    """The dicts in a list; an empty list for anything else."""
    return [cast("dict[str, Any]", each) for each in listing(value) if isinstance(each, dict)]


def texts(value: Any) -> list[str]:
    """The entries of a list as text; an empty list for anything else."""
    return [str(each) for each in listing(value)]
