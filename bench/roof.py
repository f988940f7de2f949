"""Ours against an incumbent, with the machine's matrix-product roof measured in the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

import torch

from bench.cases import Row, alternate, ratio

SIDE = 1024
KNOWN_ROOF, SLOWER = 83.0, 1.2  # GF/s of the machine that gave the known figures; how much slower an incumbent may be
Timed = Callable[[], object]


def roof() -> Timed:
    """One float32 product of two square matrices: 2 SIDE^3 operations."""
    a = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return lambda: a @ a


def against(
    name: str,
    ours: Timed,
    incumbents: Mapping[str, tuple[Timed, float]],
    *,
    repeats: int,
    operations: float,
    limits: dict[str, float] | None = None,
    known: dict[str, float] | None = None,
    note: str = "",
) -> list[Row]:
    """A row for each incumbent: our CPU time as a share of its, paired by round.

    ``incumbents``: what runs, and by how much its time is multiplied where it does a part of the work. ``operations``
    are the floating-point operations that ours cannot do without: at the roof's speed they would take ``share of roof`` of
    our time. ``known``: seconds that an incumbent written from its description took when it was first measured, at
    ``KNOWN_ROOF``; scaled by the roofs, ours may take a fifth more, or the ratio would flatter us.
    """
    runs = {"ours": lambda: ours, "roof": roof, **{key: lambda run=run: run for key, (run, _) in incumbents.items()}}
    seconds = alternate(runs, repeats)
    speed = 2 * SIDE**3 / median(seconds["roof"])
    mine = median(seconds["ours"])
    rows: list[Row] = []
    for key, (_, scale) in incumbents.items():
        theirs = [scale * each for each in seconds[key]]
        found = ratio(seconds["ours"], theirs)
        beside = {
            "ours (ms)": 1e3 * mine,
            f"{key} (ms)": 1e3 * median(theirs),
            "times faster": 1 / found.value,
            "roof (GF/s)": speed / 1e9,
            "share of roof": operations / speed / mine,
        }
        told = "; ".join(
            part for part in (f"{repeats} rounds", note, f"incumbent's time x {scale:g}" if scale != 1 else "") if part
        )
        limit = (limits or {}).get(key)
        if known and key in known:
            scaled = known[key] * KNOWN_ROOF / (speed / 1e9)
            figures = {f"{key} (ms)": 1e3 * median(theirs), "known, scaled (ms)": 1e3 * scaled}
            rows.append(
                Row(f"{name}, {key}: accepted", median(theirs) / scaled, "of its known time", limit=SLOWER, beside=figures)
            )
        rows.append(Row(f"{name}, {key}", found.value, "of its time", found.interval, found.spread, limit, beside, told))
    return rows
