"""``predict``: what a saved model says of rows, as CSV, JSON or a table."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.commands.console import emit, number, plain, say, table
from isthmus.commands.options import Json, Plugins, RunFolder
from isthmus.errors import OptionError

TOLD = 4  # concepts shown for a row on a terminal


def predict(
    run: RunFolder,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Images or a folder of them; a CSV, TSV, Parquet, NPY or NPZ file of rows; a text file; "
            "or a data set, for its test rows.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write to a file that ends in .csv or .json.")
    ] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Predict rows: decision, probability and concepts, as CSV into a file or pipe and as a table on a terminal."""
    from isthmus.api import predict as ask
    from isthmus.commands.runs import open_run, rows_of

    if out is not None and out.suffix.lower() not in (".csv", ".json"):
        raise OptionError(f"--out {out}: expected a file that ends in .csv or .json")
    opened = open_run(run, plugin or ())
    names, x = rows_of(opened, files)
    made = ask(opened.model, x)
    task = opened.model.task
    rows = [
        {
            "row": name,
            "decision": decision,
            "probability": None if task.kind == "value" else max(chances) if task.kind == "classes" else None,
            "probabilities": {} if task.kind == "value" else dict(zip(task.names, chances, strict=True)),
            "concepts": dict(zip(made.columns, values, strict=True)),
        }
        for name, decision, chances, values in zip(
            names, made.decisions, made.probabilities.tolist(), made.concepts.tolist(), strict=True
        )
    ]
    told = {"schema": "isthmus.predictions/1", "run": str(run), "task": task.kind, "rows": rows}
    if out is not None:
        _write(out, told, task.kind)
    if as_json:
        emit(told)
    elif out is not None:
        say(f"{len(rows)} rows in {out}")
    elif sys.stdout.isatty():
        _print(rows)
    else:
        sys.stdout.write(_csv(rows, task.kind))


def _write(out: Path, told: dict[str, Any], kind: str) -> None:
    from isthmus.files import write, write_json

    if out.suffix.lower() == ".json":
        write_json(out, plain(told))
    else:
        write(out, _csv(told["rows"], kind).encode())


def _csv(rows: list[dict[str, Any]], kind: str) -> str:
    """row, decision, probability (of the decided class, or of each label), and a column for each concept column."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    chances = (
        [f"p({name})" for name in rows[0]["probabilities"]]
        if kind == "labels"
        else ["probability"]
        if kind == "classes"
        else []
    )
    table.writerow(["row", "decision", *chances, *rows[0]["concepts"]])
    for row in rows:
        decision = "; ".join(row["decision"]) if isinstance(row["decision"], list) else row["decision"]
        values = row["probabilities"].values() if kind == "labels" else [row["probability"]] if kind == "classes" else []
        table.writerow([row["row"], decision, *(f"{v:.6g}" for v in (*values, *row["concepts"].values()))])
    return text.getvalue()


def _print(rows: Iterable[dict[str, Any]]) -> None:
    def most(row: dict[str, Any]) -> str:
        first = sorted(row["concepts"].items(), key=lambda item: -item[1])[:TOLD]
        return ", ".join(f"{name} {value:.2f}" for name, value in first)

    table(
        ("row", "decision", "probability", "highest concepts"),
        [(r["row"], _joined(r["decision"]), number(r["probability"]), most(r)) for r in rows],
        right=("probability",),
    )


def _joined(decision: Any) -> str:
    if isinstance(decision, float):
        return f"{decision:.4g}"
    return decision if isinstance(decision, str) else ", ".join(decision) or "none"
