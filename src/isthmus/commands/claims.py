"""``claims``: what papers claim, tested by the short scripts in ``claims/`` of a checkout.

A script prints, as its last line, a JSON object: ``claim`` (a sentence), ``number`` (what was measured), ``verdict``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.commands.console import Code, complain, emit, say, table
from isthmus.commands.options import Json
from isthmus.errors import DataError, unknown
from isthmus.progress import Bar

KEYS = ("claim", "number", "verdict")


def claims(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Claims to test; default: all.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="FOLDER", help="Default: claims/ here or in the checkout.")
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Show the names and run nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Test what papers claim with the scripts in claims/ and print what comes out; exit code 1 if one does not run."""
    place = _folder(folder)
    scripts = {} if place is None else {file.stem: file for file in sorted(place.glob("*.py")) if not file.stem.startswith("_")}
    for name in names or ():
        if name not in scripts:
            raise unknown("claim", name, scripts)
    rows: list[dict[str, Any]] = []
    with Bar("claims") as bar:
        for name in names or scripts:
            bar.say(name)
            rows.append({"name": name} if only_list else _run(name, scripts[name]))
    if as_json:
        emit({"schema": "isthmus.claims/1", "folder": None if place is None else str(place), "claims": rows})
    elif not scripts:
        say("no claims yet: " + (f"{place} holds no script" if place else "this checkout has no folder claims/"))
    elif only_list:
        say(*(row["name"] for row in rows))
    else:
        table(
            ("name", "claim", "number", "verdict", "s"),
            [[row.get(k, "") for k in ("name", *KEYS, "seconds")] for row in rows],
            right=("s",),
        )
    stopped = [row["name"] for row in rows if row.get("verdict") == "did not run"]
    if stopped:
        complain("error", f"claims that did not run: {', '.join(stopped)}")
        raise typer.Exit(Code.FAILED)


def _folder(given: Path | None) -> Path | None:
    if given is not None:
        if not given.is_dir():
            raise DataError(f"--folder {given}: expected a folder of scripts, found none")
        return given
    checkout = Path(__file__).parents[3] / "claims"
    return next((place for place in (Path("claims"), checkout) if place.is_dir()), None)


def _run(name: str, script: Path) -> dict[str, Any]:
    """Run one script; what its last line says, or why there is none."""
    start = time.perf_counter()
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    row: dict[str, Any] = {"name": name, "seconds": round(time.perf_counter() - start, 1)}
    lines = done.stdout.strip().splitlines() or [""]
    try:
        told = json.loads(lines[-1])
        if done.returncode == 0 and isinstance(told, dict) and set(KEYS) <= set(told):
            return row | {str(key): value for key, value in told.items()}
    except ValueError:
        pass
    reason = (
        done.stderr.strip().splitlines() or [f"exit code {done.returncode}, no JSON with {', '.join(KEYS)} as its last line"]
    )[-1]
    return row | {"claim": reason[:200], "number": "", "verdict": "did not run"}
