"""``fit``: one method on one data set. The method's own options are options of the command, read off its builder."""

from __future__ import annotations

import inspect
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from isthmus.commands.console import complain, emit, number, say
from isthmus.commands.options import ConceptColumns, DataName, FeatureName, Json, Label, Plugins, TableFile, Verbose
from isthmus.commands.values import described, hints_of, named, pairs, typed
from isthmus.errors import DataError, OptionError

if TYPE_CHECKING:
    from isthmus.registry import Method

_OWN = "own_"  # before the name of a method's option among the parameters of the command


def fit(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A method; see isthmus list.")],
    data: DataName,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Where the fitted model goes: a new folder or an older model.")],
    features: FeatureName = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of weights, batches and whatever else is drawn.")] = 0,
    label: Label = None,
    concepts: ConceptColumns = None,
    table: TableFile = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An option of the method, as in --set lr=.01; repeatable.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FOLDER", help="Where an unfinished fit keeps its state.", show_default="RUN.checkpoint")
    ] = None,
    resume: Annotated[
        bool | None, typer.Option("--resume/--restart", help="Go on from the checkpoint of an interrupted fit, or begin again.", show_default=False)
    ] = None,
    plugin: Plugins = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Fit a method on data and save the model. [bold]isthmus fit METHOD --help[/] shows that method's own options."""
    from isthmus import plugins, registry
    from isthmus.api import fit as run
    from isthmus.commands.source import read
    from isthmus.hub import save
    from isthmus.progress import Bar

    plugins.load_all(plugin or ())
    chosen = registry.get(method)
    options = typed(pairs(settings or (), "--set"), chosen.build, f"method {method!r}")
    feature, feature_options = feature_choice(features)
    free(out)
    place = checkpoint or out.with_name(f"{out.name}.checkpoint")
    _ready(place, resume)
    loaded = read(data, label=label, concepts=concepts, table=table)
    splits = loaded.splits
    start = time.perf_counter()
    with _kept(place), Bar(f"{method} on {splits.name}", verbose=verbose) as bar:
        model = run(
            method, splits, features=feature, feature_options=feature_options, seed=seed, checkpoint=place, progress=bar, **options
        )
    source = {"name": data, "label": label, "concepts": concepts, "table": None if table is None else str(table)}
    extra = {"data": source, "inputs": loaded.inputs, "command": shlex.join(["isthmus", *sys.argv[1:]])}
    save(model, out, extra=extra)
    _forget(place)
    last = min(model.history, key=lambda row: row["validation"], default=None)
    told = {
        "schema": "isthmus.fit/1",
        "run": str(out),
        "method": method,
        "data": source,
        "seed": seed,
        "options": {name: value for name, value in model.origin["options"].items()},
        "concepts": model.space.count,
        "epochs": len(model.history),
        "validation_loss": None if last is None else last["validation"],
        "seconds": round(time.perf_counter() - start, 2),
    }
    if as_json:
        emit(told)
        return
    loss = number(told["validation_loss"])
    say(
        f"{method} on {splits.name}: {told['epochs']} epochs in {told['seconds']:.1f} s, best validation loss {loss}",
        f"saved in {out}",
        f"next: isthmus evaluate {shlex.quote(str(out))}",
    )


def feature_choice(text: str | None) -> tuple[str | None, dict[str, Any]]:
    """``mlp:dim=32`` as a builder's name and its options by their types; unknown names are answered with 'did you mean'."""
    from isthmus.errors import unknown
    from isthmus.features import entries

    if text is None:
        return None, {}
    name, options = named(text)
    if name not in entries():
        raise unknown("features", name, entries())
    return name, typed(options, inspect.unwrap(entries()[name].build), f"features {name!r}")


def free(out: Path) -> None:
    """Refuse, before any work, a place that a model cannot be written to."""
    from isthmus.hub import MANIFEST

    if out.is_dir() and not (out / MANIFEST).exists() and any(out.iterdir()):
        raise DataError(f"--out {out}: expected a new folder or a saved model, got other files; choose another place")
    writable(out)


def writable(out: Path) -> None:
    """Refuse, before any work, a folder that cannot be made or written to."""
    above = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise DataError(f"--out {out}: expected a place that can be written, got {above}, which cannot; choose another")


def _ready(place: Path, resume: bool | None) -> None:
    """Check a checkpoint folder against what was asked: an unfinished fit is never taken up, or dropped, unasked."""
    writable(place)
    if not place.exists():
        if resume:
            complain("note", f"{place}: no checkpoint there; the fit begins")
        return
    if not place.is_dir() or any(not _stage(file) for file in place.iterdir()):
        raise DataError(f"--checkpoint {place}: expected a checkpoint or a new folder, got other files; choose another place")
    if resume is None and any(place.iterdir()):
        raise OptionError(f"{place}: holds an unfinished fit; add --resume to go on from it, or --restart to begin again")
    if resume is False:
        _forget(place)


def _stage(file: Path) -> bool:
    return file.name.startswith(("stage-", ".stage-")) and file.suffix in (".safetensors", ".part")


def _forget(place: Path) -> None:
    if place.is_dir() and all(_stage(file) for file in place.iterdir()):
        shutil.rmtree(place)


@contextmanager
def _kept(place: Path) -> Iterator[None]:
    """Say where the state lies when the user stops a fit."""
    try:
        yield
    except KeyboardInterrupt:
        there = place.is_dir() and any(place.iterdir())
        complain("stopped", f"the state lies in {place}; add --resume to go on" if there else "before the first epoch was done")
        raise


def command_for(args: Sequence[str]) -> Any:
    """The command ``fit`` with the options of the method that ``args`` name beside its own."""
    from typer.main import get_command

    name, files = _asked(args, get_command(_app(fit)).params)  # pyright: ignore[reportAttributeAccessIssue]
    if name is None:
        return get_command(_app(fit))
    from isthmus import plugins, registry

    plugins.load_all(files)
    known = registry.methods()
    first = next((word for word in name if word in known), name[0])
    return get_command(_app(_with_options(registry.get(first))))


def _app(function: Any) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", context_settings={"help_option_names": ["--help", "-h"]})
    app.command("fit")(function)
    return app


def _asked(args: Sequence[str], parameters: Iterable[Any]) -> tuple[list[str] | None, list[str]]:
    """(words that may be the method, plugin files) among the arguments; None when there is no word at all."""
    options = [p for p in parameters if p.param_type_name == "option" and not getattr(p, "is_flag", False)]
    valued = {name for p in options for name in p.opts}
    words: list[str] = []
    files: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if word == "--":
            words += rest
            break
        if option in valued:
            value = value if equals else rest.pop(0) if rest else ""
            files += [value] if option == "--plugin" and value else []
        elif not word.startswith("-"):
            words.append(word)
    return words or None, files


def _with_options(method: Method) -> Any:
    """``fit`` with a parameter for each option of ``method``, passed on as ``--set name=value``."""
    static = inspect.signature(fit)
    static_hints = get_type_hints(fit, include_extras=True)
    spelt = {"help", "debug", "seed", *(p.replace("_", "-") for p in static.parameters)} | {"set", "json"}
    own = {name: p for name, p in method.options.items() if name.replace("_", "-") not in spelt}
    hints = hints_of(method.build)

    def fit_method(**values: Any) -> None:
        given = {name: values.pop(_OWN + name) for name in own}
        texts = [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in given.items() if value is not None]
        fit(**{**values, "settings": [*(values["settings"] or ()), *texts]})

    parameters = [*static.parameters.values()]
    notes = dict(static_hints)
    for name, parameter in own.items():
        notes[_OWN + name] = _annotated(name, hints.get(name, str), parameter.default, method)
        parameters.append(inspect.Parameter(_OWN + name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=notes[_OWN + name]))
    first = (inspect.getdoc(method.build) or "").replace("[", r"\[").split("\n\n")
    fit_method.__doc__ = f"Fit {method.name}: {method.card.title} ({method.card.paper}).\n\n" + "\n\n".join(first)
    fit_method.__annotations__ = notes
    fit_method.__signature__ = static.replace(parameters=parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return fit_method


def _annotated(name: str, kind: Any, default: Any, method: Method) -> Any:
    """The command-line option for one option of a method."""
    dashed = name.replace("_", "-")
    required = default is inspect.Parameter.empty
    shown = "required" if required else "none" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
    tuned = method.card.tune.get(name)
    about = f"compare chooses among {', '.join(map(str, tuned))}" if tuned else ""
    look: dict[str, Any] = {"help": about, "show_default": shown, "rich_help_panel": f"Options of {method.name}"}
    if kind is bool:
        return Annotated[bool | None, typer.Option(f"--{dashed}/--no-{dashed}", **look)]
    return Annotated[str | None, typer.Option(f"--{dashed}", metavar=described(kind), **look)]
