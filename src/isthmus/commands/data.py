"""``data``: the data sets there are, what one holds, and a copy of it as files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from isthmus.commands.console import complain, emit, number, say, table
from isthmus.commands.options import ConceptColumns, DataName, Json, Label, TableFile

app = typer.Typer(no_args_is_help=False, help="List data sets, describe one, audit its labels, or write one as files.")
MOST = 60  # concepts shown without --all
FEW = 5  # findings of a kind shown without --all


@app.callback(invoke_without_command=True)
def root(ctx: typer.Context, as_json: Json = False) -> None:
    """Data sets: list them; [bold]show[/] or [bold]audit[/] one; [bold]make[/] its files."""
    if ctx.invoked_subcommand is None:
        listing(as_json)


@app.command("list")
def listing(as_json: Json = False) -> None:
    """List the data sets."""
    from isthmus.commands.catalogue import dataset_json
    from isthmus.data.registry import datasets

    found = datasets()
    if as_json:
        emit({"schema": "isthmus.datasets/1", "datasets": [dataset_json(name) for name in found]})
        return
    table(
        ("data set", "kind", "what"),
        [(d.name, "generated" if d.synthetic else "real", d.summary) for d in found.values()],
    )
    say("isthmus data show NAME reads one; isthmus show NAME lists its options, to be written as poker:cards=5,seed=1")


@app.command("show")
def show(
    name: DataName,
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    everything: Annotated[bool, typer.Option("--all", help=f"Show every concept, not only the first {MOST}.")] = False,
    sheet: Annotated[Path | None, typer.Option("--sheet", metavar="FILE.png", help="Write a sheet of sample images.")] = None,
    as_json: Json = False,
) -> None:
    """Describe a data set: rows, classes, concepts with their rates, licence, warnings."""
    from isthmus.commands.catalogue import words
    from isthmus.commands.source import read
    from isthmus.commands.survey import survey
    from isthmus.commands.writing import image_sheet

    if sheet is not None and sheet.suffix.lower() != ".png":
        from isthmus.errors import OptionError

        raise OptionError(f"--sheet {sheet}: expected a file that ends in .png")
    splits = read(name, label=label, concepts=concepts, table=table_file).splits
    told = survey(splits)
    if sheet is not None:
        image_sheet(splits.train, sheet)
        told["sheet"] = str(sheet)
    if as_json:
        emit(told)
        return
    rows = ", ".join(f"{count} {part}" for part, count in told["rows"].items())
    facts = [("rows", rows), ("inputs", told["inputs"]), ("task", told["task"]["kind"]), ("groups", told["groups"])]
    facts += [("captions", told["captions"])] if told["captions"] != "none" else []
    facts += [(key, told["card"][key]) for key in ("licence", "source", "terms", "notes") if told["card"] and told["card"][key]]
    facts += [("compare uses", words(told["suggest"]))] if told["suggest"] else []
    facts += [("published", words(told["published"]))] if told["published"] else []
    table(("", ""), facts, title=told["title"])
    if told["classes"]:
        table(
            ("class", "share of train"),
            [(c["name"], number(c["share"])) for c in told["classes"]],
            right=("share of train",),
        )
    if told["value"]:
        say("target: " + ", ".join(f"{key} {number(value)}" for key, value in told["value"].items()))
    _concepts(told["concepts"], everything)
    for warning in told["warnings"]:
        complain("warning", warning)
    if sheet is not None:
        say(f"samples: {sheet}")


def _concepts(rows: list[dict[str, object]], everything: bool) -> None:
    if not rows:
        say("no concepts: blackbox, linear_probe and methods that make their own concepts run on it")
        return
    shown = rows if everything else rows[:MOST]
    table(
        ("concept", "kind", "group", "rate in train", "known"),
        [(c["name"], c["kind"], c["group"] or "", c["rate_text"], f"{c['known']:.1%}") for c in shown],
    )
    if len(rows) > len(shown):
        say(f"and {len(rows) - len(shown)} more: --all")


@app.command("audit")
def audit(
    name: DataName,
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    everything: Annotated[bool, typer.Option("--all", help=f"Show every finding, not only {FEW} of a kind.")] = False,
    as_json: Json = False,
) -> None:
    """Before training: concepts that never occur apart, are constant, near-duplicates or the label; rows in two splits."""
    from isthmus.commands.source import read
    from isthmus.data.cooccurrence import audit as told_of

    told = told_of(read(name, label=label, concepts=concepts, table=table_file).splits)
    if as_json:
        emit(told)
        return
    facts = told["facts"]
    lines = [("training rows", f"{facts['rows']:,}"), ("concepts", f"{facts['concepts']} in {facts['columns']} columns")]
    if "combinations" in facts:
        lines.append(("combinations of concepts", f"{facts['combinations']:,} on {facts['complete_rows']:,} rows"))
    table(("", ""), lines, title=f"{told['name']}: what its labels can teach")
    kinds = Counter(found["kind"] for found in told["findings"])
    shown: Counter[str] = Counter()
    for found in told["findings"]:
        shown[found["kind"]] += 1
        if everything or shown[found["kind"]] <= FEW:
            say(f"{'!' if found['level'] == 'warning' else '-'} {found['kind']}: {found['words']}")
        elif shown[found["kind"]] == FEW + 1:
            say(f"  and {kinds[found['kind']] - FEW} more of this kind: --all")
    if facts.get("labels") == "none":
        say("no concept labels: nothing to read of how concepts occur")
    elif not kinds:
        say("nothing found that keeps a model from telling these concepts apart")


@app.command("make")
def make(
    name: DataName,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FOLDER", help="A new folder for table.csv, images/, data.json and sheet.png."),
    ],
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    as_json: Json = False,
) -> None:
    """Write a data set as files: a table, its images, and what it holds; `fit` and `compare` read the folder again."""
    from isthmus.commands.places import writable
    from isthmus.commands.source import read
    from isthmus.commands.writing import write_folder
    from isthmus.errors import DataError

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out {out}: expected a new or empty folder, got other files; choose another place")
    writable(out)
    told = write_folder(read(name, label=label, concepts=concepts, table=table_file), out)
    if as_json:
        emit(told)
        return
    say(*(f"{file}" for file in told["files"]), f"again: {told['again']}")
