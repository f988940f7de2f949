"""``fit``: one method on one data set. The method's own options are options of the command, read off its builder."""

from __future__ import annotations

import inspect
import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.commands.console import command_line, complain, emit, number, say
from isthmus.commands.options import (
    ConceptColumns,
    DataName,
    Device,
    FeatureName,
    Json,
    Label,
    Plugins,
    TableFile,
    Unseen,
    Verbose,
)
from isthmus.commands.places import forget, free, kept, ready
from isthmus.commands.values import named, pairs, typed
from isthmus.errors import OptionError, unknown


def fit(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A method; see isthmus list.")],
    data: DataName,
    out: Annotated[
        Path, typer.Option("--out", metavar="RUN", help="Where the fitted model goes: a new folder or an older model.")
    ],
    features: FeatureName = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of weights, batches and whatever else is drawn.")] = 0,
    label: Label = None,
    concepts: ConceptColumns = None,
    unseen: Unseen = None,
    table: TableFile = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the method, as in --set lr=.01; repeatable."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FOLDER",
            help="Where an unfinished fit keeps its state.",
            show_default="RUN.checkpoint",
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--restart",
            help="Go on from the checkpoint of an interrupted fit, or begin again.",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    plugin: Plugins = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Fit a method on data and save the model. [bold]isthmus fit METHOD --help[/] shows that method's own options."""
    from isthmus import plugins, registry
    from isthmus.api import fit as run
    from isthmus.commands.source import pinned, read, unseen_classes, word_file
    from isthmus.data.encode import identity
    from isthmus.hub import save
    from isthmus.progress import Bar

    plugins.load_all(plugin or ())
    chosen = registry.get(method)
    options = typed(pairs(settings or (), "--set"), chosen.build, f"method {method!r}")
    lacking = [name for name, p in chosen.options.items() if p.default is p.empty and name not in options]
    if lacking:
        raise OptionError(f"method {method!r}: needs option {lacking[0]!r}; add --set {lacking[0]}=VALUE")
    feature, feature_options = feature_choice(features)
    free(out)
    place = checkpoint or out.with_name(f"{out.name}.checkpoint")
    ready(place, resume)
    words, concepts = word_file(concepts)
    loaded = read(data, label=label, concepts=concepts, table=table, worded=words is not None)
    splits = loaded.splits
    start = time.perf_counter()
    with kept(place), Bar(f"{method} on {splits.name}", verbose=verbose) as bar:
        model = run(
            method,
            splits,
            features=feature,
            feature_options=feature_options,
            seed=seed,
            checkpoint=place,
            progress=bar,
            words=words,
            unseen=unseen_classes(unseen),
            device=device,
            **options,
        )
    source = pinned(data, label=label, concepts=concepts, table=table)
    extra = {
        "data": source | {"train": identity(splits.train, files=False)},
        "inputs": loaded.inputs,
        "words": None if words is None else str(words.resolve()),
        "classes": list(model.task.names) if unseen else None,
        "command": command_line(),
    }
    save(model, out, extra=extra)
    forget(place)
    stage = model.history[-1]["stage"] if model.history else ""
    best = min((row["validation"] for row in model.history if row["stage"] == stage and "validation" in row), default=None)
    told = {
        "schema": "isthmus.fit/1",
        "run": str(out),
        "method": method,
        "data": source,
        "seed": seed,
        "options": dict(model.origin["options"]),
        "concepts": model.space.count,
        "epochs": sum("epoch" in row for row in model.history),
        "stage": stage,
        "validation_loss": best,
        "seconds": round(time.perf_counter() - start, 2),
        "notes": [row["note"] for row in model.history if "note" in row],
    }
    if as_json:
        emit(told)
        return
    for note in (row["note"] for row in model.history if "note" in row):
        complain("note", f"{method}: {note}")
    loss = "" if best is None else f", {stage} validation loss {number(best)}"
    say(
        f"{method} on {splits.name}: {told['epochs']} epochs, {told['seconds']:.1f} s{loss}",
        f"saved in {out}",
        f"next: isthmus evaluate {shlex.quote(str(out))}",
    )


def feature_choice(text: str | None) -> tuple[str | None, dict[str, Any]]:
    """``mlp:dim=32`` as a builder's name and its options by their types; unknown names: "did you mean"."""
    from isthmus.features import entries

    if text is None:
        return None, {}
    name, options = named(text)
    if name not in entries():
        raise unknown("features", name, entries())
    return name, typed(options, inspect.unwrap(entries()[name].build), f"features {name!r}")
