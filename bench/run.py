"""The command: run the cases, print a table, write JSON, exit 1 when a row is above its limit."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import bench
from bench.cases import Row, cases

RESULTS = Path(__file__).parent / "results"


def discover() -> None:
    """Import every module of this package, so that its cases are registered."""
    for module in iter_modules(bench.__path__):
        if module.name not in ("__main__", "run"):
            import_module(f"bench.{module.name}")


def machine() -> dict[str, Any]:
    """Where and on what the figures were taken."""
    shell = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(shell, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit or "unknown",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def number(value: float | None) -> str:
    """Three digits; a dash for what was not measured."""
    return "-" if value is None else f"{value:.3g}" if abs(value) < 0.1 else f"{value:.3f}"


def show(console: Console, title: str, found: Sequence[Row]) -> None:
    """One table for a case; a failed row is marked by a word, not by colour alone."""
    grid = Table(title=title, title_justify="left")
    grid.add_column("row", overflow="fold")
    for column in ("value", "95 %", "limit"):
        grid.add_column(column, justify="right", overflow="fold")
    grid.add_column("", overflow="fold")
    grid.add_column("beside", overflow="fold")
    for row in found:
        interval = "" if row.interval is None else f"{number(row.interval[0])} to {number(row.interval[1])}"
        verdict = "" if row.limit is None else "[green]ok[/]" if row.ok else "[bold red]ABOVE[/]"
        parts = [f"{name} {number(value)}" for name, value in row.beside.items()]
        limit = "" if row.limit is None else number(row.limit)
        if row.spread is not None:
            parts.append(f"5-95 % of rounds {number(row.spread[0])} to {number(row.spread[1])}")
        beside = "; ".join(part for part in (*parts, row.note) if part)
        grid.add_row(row.name, f"{number(row.value)} {row.unit}", interval, limit, verdict, beside)
    console.print(grid)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns 0, or 1 when a row is above its limit."""
    discover()
    known = cases()
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of isthmus, one thread.")
    parser.add_argument("--only", action="append", metavar="CASE[,CASE]", help=f"these cases only: {', '.join(sorted(known))}")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: a look, not a figure to quote")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write JSON; - prints it and nothing else")
    options = parser.parse_args(arguments)
    only = list(dict.fromkeys(name.strip() for told in options.only or () for name in told.split(",")))
    if strange := [name for name in only if name not in known]:
        parser.error(f"--only {strange[0]!r}: expected cases by comma, of {', '.join(sorted(known))}")
    console = Console(stderr=str(options.json) == "-")
    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's and SciPy's own threads: spinning ones would count as an incumbent's CPU time
    report: dict[str, Any] = {**machine(), "quick": options.quick, "cases": {}}
    failed: list[Row] = []
    for name in only or known:
        found = list(known[name].run(options.quick))
        show(console, f"{name}: {known[name].summary}", found)
        report["cases"][name] = [{**asdict(row), "ok": row.ok} for row in found]
        failed += [row for row in found if not row.ok]
    text = json.dumps(report, indent=1)
    if str(options.json) == "-":
        print(text)
    else:
        path = options.json or RESULTS / "latest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        console.print(f"written to {path}")
    for row in failed:
        console.print(f"above its limit: {row.name} is {number(row.value)} {row.unit}, at most {number(row.limit)}")
    return 1 if failed else 0
