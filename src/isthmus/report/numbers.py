"""Numbers as the field writes them: shares without the leading zero, intervals in brackets, seconds in words."""

from __future__ import annotations

import math

SHARES = {"share", "score", "squared share", "share of concepts"}
MINUS = "\u2212"


def number(value: float | None, unit: str = "share", *, sign: bool = False) -> str:
    """``0.931`` -> ``.931`` for shares; other units get three significant digits; None -> ``n/a``.

    Negative numbers carry a true minus; ``sign`` adds a plus to positive ones.
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    text = f"{abs(value):.3f}" if unit in SHARES else significant(abs(value))
    if unit in SHARES and text.startswith("0."):
        text = text[1:]
    zero = not any(ch in "123456789" for ch in text)
    return text if zero or (value > 0 and not sign) else ("+" if value > 0 else MINUS) + text


def significant(value: float) -> str:
    """Three significant digits without an exponent where that is short: 12345 -> 12,345; 0.00123 -> 0.00123."""
    if value >= 1e7 or 0 < value < 1e-4:
        return f"{value:.2e}"
    if value >= 100 or value == round(value):
        return f"{value:,.0f}"
    value = float(f"{value:.3g}")
    return f"{value:.{2 - math.floor(math.log10(value))}f}"


def between(low: float | None, high: float | None, unit: str = "share", *, sign: bool = False) -> str:
    """``[.921, .940]``, or nothing where there is no interval."""
    if low is None or high is None:
        return ""
    return f"[{number(low, unit, sign=sign)}, {number(high, unit, sign=sign)}]"


def seconds(value: float | None) -> str:
    """``3.2 s``, ``98 s``, ``5 min 12 s``, ``2 h 5 min``; ``n/a`` for None."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if value < 100:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def percent(value: float | None) -> str:
    """``0.942`` -> ``94.2 %``."""
    return "n/a" if value is None else f"{100 * value:.1f} %"


def count(many: int, one: str, more: str = "") -> str:
    """``1 seed``, ``2 seeds``, ``2,500 rows``."""
    return f"{many:,} {one if many == 1 else more or one + 's'}"


def listed(names: list[str], most: int = 6) -> str:
    """``a``, ``a and b``, ``a, b and c``; beyond ``most`` names ``... and 3 more``."""
    shown = [*names[:most], f"{len(names) - most} more"] if len(names) > most else names
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1] if shown else "none"
