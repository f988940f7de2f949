"""``evaluate`` and ``intervene``: how well a saved model does, and what a correction changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from isthmus.commands.console import emit, number, say, table
from isthmus.commands.options import ConceptColumns, Json, Label, Plugins, RunFolder, TableFile
from isthmus.commands.values import pairs
from isthmus.errors import DataError, OptionError

if TYPE_CHECKING:
    from isthmus.space import ConceptSpace

OptionalData = Annotated[
    str | None,
    typer.Argument(metavar="[DATA]", help="A data set as in fit; default: the one that the model was fitted on."),
]
Split = Annotated[
    Literal["train", "validation", "test"], typer.Option("--split", metavar="train|validation|test", help="Which rows.")
]


def evaluate(
    run: RunFolder,
    data: OptionalData = None,
    split: Split = "test",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random orders of corrections.")] = 0,
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Score a saved model: task, concepts, correction curve, bypass, calibration, each with its interval."""
    from isthmus.commands.runs import open_run, part_of
    from isthmus.evaluate import evaluate as score

    opened = open_run(run, plugin or ())
    loaded = opened.data(data, label=label, concepts=concepts, table=table_file)
    rows = part_of(opened, loaded, split)
    told = score(opened.model, rows, seed=seed, name=loaded.splits.name).data
    told["split"] = split
    if as_json:
        emit(told)
        return
    lines = []
    for name, found in told["scores"].items():
        about = told["metrics"].get(name, {})
        if "value" in found:
            interval = f"{number(found['low'])} to {number(found['high'])}" if found.get("low") is not None else ""
            better = {"up": "higher", "down": "lower"}.get(about.get("better", ""), "")
            lines.append((about.get("title", name), number(found["value"]), interval, better, about.get("text", "")))
        else:
            lines.append((about.get("title", name), "-", "", "", f"not applicable: {found['not_applicable']}"))
    title = f"{told['title']} on {loaded.splits.name}, {len(rows)} {split} rows"
    table(("score", "value", "95 % interval", "better", "what"), lines, title=title, right=("value",))
    for level, points in told["curves"].items():
        steps = ", ".join(f"{p['k']}: {number(p['value'])}" for p in points)
        say(f"{told['main']} after correcting k {'groups' if level == 'group' else 'concepts'} in random order: {steps}")


def intervene(
    run: RunFolder,
    data: OptionalData = None,
    row: Annotated[int, typer.Option("--row", help="Number of the row in the split, from 0.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="CONCEPT=VALUE", help="A correction: 0, 1, a state or a number; repeatable."),
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            "--policy", metavar="NAME", help="What --budget reveals, and where it can say, what to ask next: ucp, ectp ..."
        ),
    ] = "ucp",
    budget: Annotated[int, typer.Option("--budget", min=0, help="How many concepts the policy reveals from the labels.")] = 0,
    split: Split = "test",
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Correct concepts of one row and see what the answer becomes, and what to ask next."""
    from isthmus.api import intervene as tell
    from isthmus.commands.runs import open_run, part_of

    given = pairs(settings or (), "--set", last=True)
    opened = open_run(run, plugin or ())
    known = {name: _value(text, _states(opened.model.space, name)) for name, text in given.items()}
    loaded = opened.data(data, label=label, concepts=concepts, table=table_file)
    rows = part_of(opened, loaded, split)
    if not 0 <= row < len(rows):
        raise OptionError(f"--row {row}: expected 0 to {len(rows) - 1}, the {split} rows of {loaded.splits.name}")
    one = rows.take([row])
    labels = one.labels_for(opened.model.space)
    if budget and labels is None:
        raise DataError(f"--budget {budget}: expected concept labels for the policy to reveal, got none; use --set")
    told = tell(opened.model, one, known, truth=None if labels is None else labels[0], policy=policy, budget=budget)
    truth = _truth(one)
    if as_json:
        result = {
            "before": told.before,
            "after": told.after,
            "changed": told.changed,
            "truth": truth,
            "steps": told.steps,
        }
        result |= {"probabilities": {name: {"before": p, "after": q} for name, (p, q) in told.probabilities.items()}}
        result |= {
            "moved": {name: {"before": p, "after": q} for name, (p, q) in told.moved.items()},
            "ask_next": told.ask_next,
            "ask_next_by": told.ask_next_by,
            "ask_next_why": told.ask_next_why,
        }
        emit(
            {
                "schema": "isthmus.intervention/1",
                "run": str(run),
                "split": split,
                "row": row,
                **result,
                "text": told.text,
            }
        )
        return
    say(told.text, f"truth: {truth}")
    for name, (before, after) in told.moved.items():
        say(f"also moved: {name}: {before:.2f} → {after:.2f}")
    if told.ask_next:
        by = "" if told.ask_next_by == policy else f" (by {told.ask_next_by}, for {policy}: {told.ask_next_why})"
        say(f"ask next{by}: {', '.join(told.ask_next)}")


def _states(space: ConceptSpace, name: str) -> tuple[str, ...]:
    """The states of a categorical concept; none for any other name."""
    return space.concepts[space.names.index(name)].states if name in space.names else ()


def _value(text: str, states: tuple[str, ...]) -> float | str | None:
    """A correction: a state's name, a number, yes or no, or None for 'do not know'."""
    if text in states:
        return text
    if text.lower() in ("none", "nan", "unknown", ""):
        return None
    if states:
        return text  # refused with the nearest state
    try:
        return float(text)
    except ValueError:
        return {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}.get(text.lower(), text)


def _truth(one: Any) -> str:
    from isthmus.commands.writing import label_cells

    cells = label_cells(one, 0)
    if one.task.kind == "labels":
        return ", ".join(name for name, cell in zip(one.task.names, cells, strict=True) if cell == "1") or "none"
    return cells[0]
