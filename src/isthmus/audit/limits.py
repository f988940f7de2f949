"""Limits that a user sets on an audit: ``bypass>0.05`` fails it; a number that could not be had fails it, too."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.errors import OptionError, unknown

SIGNS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
FORM = re.compile(
    r"\s*(\S|\S.*?\S)(?:\.(low|high))?\s*(>=|<=|>|<)\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*"
)
GAPS = re.compile(r"gap_(task|ece|concepts|gain)_.+|accuracy@nec[0-9]+")


@dataclass(frozen=True)
class Limit:
    """``key``, its value or an ``end`` of its interval, and what must not be so of it."""

    text: str
    key: str
    end: str
    sign: str
    edge: float


def parse(texts: Sequence[str], keys: Sequence[str] | None = None) -> list[Limit]:
    """``bypass>0.05``, ``ctl.high>=0.1``, ``task<0.9`` -> limits; with ``keys``, of scores that an audit can have.

    Raises ``OptionError`` for what is no limit (also one that nothing could break), ``UnknownName`` for an unknown score.
    """
    found: list[Limit] = []
    for text in texts:
        match = FORM.fullmatch(text)
        try:
            edge = float(match[4]) if match else float("nan")
        except ValueError:
            edge = float("nan")
        if match is None or not math.isfinite(edge):
            raise OptionError(
                f"--fail-if {text!r}: expected a score, >, >=, < or <=, and a number, as bypass>0.05 or ctl.high>0.1"
            )
        if keys is not None and match[1] not in keys and not GAPS.fullmatch(match[1]):
            raise unknown("score", match[1], tuple(keys))
        found.append(Limit(text.strip(), match[1], match[2] or "value", match[3], edge))
    return found


def judged(limits: Sequence[Limit], sections: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each limit with the value found, and whether it ``fails``."""
    lines = {line["key"]: line for section in sections for line in section["lines"]}
    made: list[dict[str, Any]] = []
    for limit in limits:
        value = lines.get(limit.key, {}).get(limit.end)
        fails = value is None or SIGNS[limit.sign](value, limit.edge)
        why = "not there: the section does not apply, or the score is undefined" if value is None else ""
        made.append({"limit": limit.text, "key": limit.key, "value": value, "fails": bool(fails), "why": why})
    return made
