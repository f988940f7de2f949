"""Draw the cost of a sparse head against rows, columns and classes from the figures that the bench wrote.

``python -m bench.plot latest.json cost.svg``: logarithms on both axes, a line of the fitted power for each, no dependency.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

WIDE, HIGH, LEFT, RIGHT, TOP, LOW = 720, 400, 64, 150, 40, 48
INK = {"rows": ("#1b6ca8", ""), "columns": ("#b3541e", "7 4"), "classes": ("#3b7a3b", "2 4")}


def measured(report: dict[str, Any]) -> dict[str, tuple[list[float], list[float], float]]:
    """By axis: sizes as multiples of the least, seconds, and the power."""
    found: dict[str, tuple[list[float], list[float], float]] = {}
    for row in report["cases"]["elastic_net"]:
        name = str(row["name"])
        if name.startswith("exponent in "):
            sizes = [float(key.removesuffix(" (s)").replace(",", "")) for key in row["beside"]]
            found[name.removeprefix("exponent in ")] = (
                [each / sizes[0] for each in sizes],
                [*row["beside"].values()],
                row["value"],
            )
    if not found:
        raise SystemExit("the file holds no exponents of elastic_net: run the bench without --quick first")
    return found


def drawn(lines: dict[str, tuple[list[float], list[float], float]], title: str) -> str:
    """SVG."""
    across = np.log([1, max(size for sizes, _, _ in lines.values() for size in sizes)])
    every = [second for _, seconds, _ in lines.values() for second in seconds]
    up = np.log([min(every) / 1.3, max(every) * 1.3])

    def at(size: float, second: float) -> tuple[float, float]:
        x = LEFT + (WIDE - LEFT - RIGHT) * (np.log(size) - across[0]) / (across[1] - across[0])
        return float(x), float(HIGH - LOW - (HIGH - LOW - TOP) * (np.log(second) - up[0]) / (up[1] - up[0]))

    text = 'font-family="sans-serif" font-size="13" fill="#222"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{title}">',
        f'<rect width="{WIDE}" height="{HIGH}" fill="#fff"/><text x="{LEFT}" y="22" {text}>{title}</text>',
    ]
    size = 1
    while size <= np.exp(across[1]) * 1.001:
        x, _ = at(size, every[0])
        out.append(f'<path d="M{x:.1f} {TOP}V{HIGH - LOW}" stroke="#ddd"/>')
        out.append(f'<text x="{x:.1f}" y="{HIGH - LOW + 18}" text-anchor="middle" {text}>{size}</text>')
        size *= 2
    for second in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10):
        _, y = at(1, second)
        if TOP <= y <= HIGH - LOW:
            out.append(f'<path d="M{LEFT} {y:.1f}H{WIDE - RIGHT}" stroke="#ddd"/>')
            out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" {text}>{second:g} s</text>')
    for name, (sizes, seconds, power) in lines.items():
        ink, dash = INK[name]
        points = [at(*each) for each in zip(sizes, seconds, strict=True)]
        middle = float(np.log(seconds).mean() - power * np.log(sizes).mean())
        ends = [at(each, float(np.exp(middle + power * np.log(each)))) for each in (sizes[0], sizes[-1])]
        line = " L".join(f"{x:.1f} {y:.1f}" for x, y in ends)
        out.append(f'<path d="M{line}" stroke="{ink}" stroke-width="2" stroke-dasharray="{dash}" fill="none"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{ink}"/>' for x, y in points]
        out.append(f'<text x="{ends[-1][0] + 10:.1f}" y="{ends[-1][1] + 4:.1f}" {text}>{name}: power {power:.2f}</text>')
    middle_x = (LEFT + WIDE - RIGHT) / 2
    out.append(f'<text x="{middle_x}" y="{HIGH - 10}" text-anchor="middle" {text}>times the smallest size</text></svg>')
    return "\n".join(out) + "\n"


def main() -> None:
    """Read, draw, write."""
    if len(sys.argv) != 3:
        raise SystemExit("python -m bench.plot FIGURES.json PICTURE.svg")
    report = json.loads(Path(sys.argv[1]).read_text())
    title = "CPU seconds of a certified sparse head, one thread, from 8,000 x 250 x 40"
    Path(sys.argv[2]).write_text(drawn(measured(report), title))


if __name__ == "__main__":
    main()
