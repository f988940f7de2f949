"""``features``: the feature builders there are, and computing one for a data set into the cache."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from isthmus.commands.console import emit, say, table
from isthmus.commands.options import ConceptColumns, DataName, Json, Label, TableFile

app = typer.Typer(no_args_is_help=False, help="List the feature builders, or compute features for a data set once.")


@app.callback(invoke_without_command=True)
def root(ctx: typer.Context, as_json: Json = False) -> None:
    """Features: list the builders; [bold]compute[/] one for a data set."""
    if ctx.invoked_subcommand is None:
        listing(as_json)


@app.command("list")
def listing(as_json: Json = False) -> None:
    """List the feature builders."""
    from isthmus.commands.catalogue import feature_entries, features_json

    found = feature_entries()
    if as_json:
        emit({"schema": "isthmus.feature-builders/1", "features": [features_json(name) for name in found]})
        return
    rows = [(name, ", ".join(entry.options) or "none", entry.summary) for name, entry in found.items()]
    table(("features", "options", "what"), rows)
    say("isthmus show NAME: defaults. Options: mlp:dim=32. isthmus features compute NAME DATA.")


@app.command("compute")
def compute(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Features by name, with options as in mlp:dim=32.")],
    data: DataName,
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    as_json: Json = False,
) -> None:
    """Compute features of all rows of a data set; those of pretrained weights are kept on disk for later commands."""
    from isthmus.commands.source import read
    from isthmus.commands.train import feature_choice
    from isthmus.encoders import encoded, learnable, resolve
    from isthmus.errors import OptionError

    chosen, options = feature_choice(name)
    splits = read(data, label=label, concepts=concepts, table=table_file).splits
    module = resolve(chosen, splits, **options)
    if learnable(module):
        raise OptionError(f"features {chosen!r} learn with the method, so there is nothing to compute before; use them in fit")
    start = time.perf_counter()
    seen = encoded(splits, module)
    told = {
        "schema": "isthmus.features-computed/1",
        "features": chosen,
        "data": splits.name,
        "dim": module.dim,
        "rows": {part: len(getattr(seen, part)) for part in ("train", "validation", "test")},
        "cached": bool(getattr(module, "pretrained", False)),
        "seconds": round(time.perf_counter() - start, 2),
    }
    if as_json:
        emit(told)
        return
    kept = "kept in the cache" if told["cached"] else "not kept: they cost nothing to compute again"
    say(f"{chosen} on {splits.name}: {len(splits.train)} train rows, {module.dim} columns, {told['seconds']} s, {kept}")


@app.command("clear")
def clear(as_json: Json = False) -> None:
    """Empty the feature cache; what is needed again is computed again."""
    from isthmus.data.cache import FeatureCache

    cache = FeatureCache()
    freed = cache.clear()
    if as_json:
        emit({"schema": "isthmus.cache-cleared/1", "folder": str(cache.folder), "bytes": freed})
    else:
        say(f"{cache.folder}: {freed / 2**20:.1f} MiB freed")
