"""``audit``: the report card of a saved model, and an exit code by limits that a user sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.commands.console import Code, command_line, emit, number, say, table
from isthmus.commands.options import ConceptColumns, Json, Label, Plugins, RunFolder, TableFile, Verbose
from isthmus.commands.use import OptionalData
from isthmus.errors import OptionError


def audit(
    run: RunFolder,
    data: OptionalData = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option("--fail-if", metavar="LIMIT", help="As bypass>0.05 or ctl.high>0.1; exit code 5 if so; repeatable."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="NAME", help="Groups of rows: a concept, a fact of the table, or class; repeatable."),
    ] = None,
    sections: Annotated[
        list[str] | None, typer.Option("--section", metavar="NAME", help="Only this section; repeatable. Default: all.")
    ] = None,
    target: Annotated[float, typer.Option("--target", help="Accuracy that answers without a person must have.")] = 0.95,
    rows: Annotated[int, typer.Option("--rows", min=20, help="At most so many test rows, drawn by --seed.")] = 2000,
    full: Annotated[bool, typer.Option("--full", help="Also what is slow: DCI above 30 concepts.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of draws, controls and random orders.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; a .json goes beside it. Default: RUN.audit.html.")
    ] = None,
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    plugin: Plugins = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Audit a saved model: bypass, leakage, existence, location, faithfulness ... each with interval, control and meaning."""
    from isthmus.audit import KEYS
    from isthmus.audit import audit as ask
    from isthmus.audit.limits import parse
    from isthmus.commands.places import writable
    from isthmus.commands.runs import open_run, part_of
    from isthmus.files import write, write_json
    from isthmus.progress import Bar
    from isthmus.report import html

    parse(fail_if or (), KEYS)
    page = Path(f"{str(run).rstrip('/')}.audit.html") if out is None else out
    if page.suffix.lower() != ".html" or page.is_dir():
        raise OptionError(f"--out {page}: expected a file that ends in .html")
    opened = open_run(run, plugin or ())
    writable(page.parent)
    loaded = opened.data(data, label=label, concepts=concepts, table=table_file)
    part_of(opened, loaded, "test")
    with Bar(f"audit of {run.name}", verbose=verbose) as bar:
        made = ask(
            opened.model, loaded.splits, sections=sections, fail_if=fail_if or (), by=by or (), target=target, rows=rows,
            full=full, seed=seed, say=bar.say, name=run.name,
        )  # fmt: skip
    made.data["command"] = command_line()
    write(page, html(made.data).encode())
    write_json(page.with_suffix(".json"), made.data)
    if as_json:
        emit(made.data)
    else:
        _show(made.data, page)
    if made.failed:
        raise typer.Exit(Code.BROKEN)


def _show(data: dict[str, Any], page: Path) -> None:
    lines: list[tuple[str, ...]] = []
    for section in data["sections"]:
        for line in section["lines"]:
            ends = f"{number(line['low'])} to {number(line['high'])}" if line["low"] is not None else ""
            value = "-" if line["value"] is None else number(line["value"])
            control = "" if line["control"] is None else f"{number(line['control'])} {line['control_name']}"
            better = "higher" if line["better"] == "up" else "lower"
            lines.append((section["title"], line["key"], value, ends, better, control))
    columns = ("section", "score", "value", "95 % interval", "better", "control")
    table(
        columns,
        lines,
        title=f"{data['model']['name']} on {data['data']['title']}, {data['test_rows']} test rows",
        right=("value",),
    )
    for section in data["sections"]:
        said = section["meaning"] if section["applies"] else f"not applicable: {section['why']}"
        say(f"{section['title']}: {said}")
    findings = data["labels"]["findings"]
    if findings:
        many = "1 finding" if len(findings) == 1 else f"{len(findings)} findings, the first"
        say(f"labels: {many}: {findings[0]['words']}; isthmus data audit shows all")
    for limit in data["limits"]:
        value = limit["why"] or f"found {number(limit['value'])}"
        say(f"{'FAILS' if limit['fails'] else 'holds'}: {limit['limit']} ({value})")
    say(f"page: {page}")
