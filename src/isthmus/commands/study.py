"""``demo``, ``compare`` and ``report``: methods side by side, and the pages that show them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.commands.console import command_line, complain, console, emit, one_line, say
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
from isthmus.commands.values import hints_of, loosened, pairs, typed
from isthmus.errors import DataError, IntegrityError, OptionError, unknown

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="Write report.html, comparison.json and table.md here; what is finished before that, as it goes.",
    ),
]


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where report.html, comparison.json and table.md go.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the hands, the encoders and the methods.")] = 0,
    small: Annotated[bool, typer.Option("--small", help="A tenth of the hands: quick, and the scores mean little.")] = False,
    as_json: Json = False,
) -> None:
    """Methods and the black box side by side on rendered playing cards, with a report: six minutes on two cores."""
    from isthmus.commands.places import writable
    from isthmus.demo import main
    from isthmus.progress import Bar

    writable(out)
    size: dict[str, Any] = {"train": 600, "test": 200, "epochs": 2} if small else {}
    start = time.perf_counter()
    with Bar("demo", verbose=True) as bar:
        result = main(out, seed=seed, say=bar.say, command=command_line(), **size)
    if as_json:
        emit(result.data)
    else:
        _tell(result, out)
        say(f"{time.perf_counter() - start:.0f} s")


def compare(
    data: DataName,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", metavar="NAME", help="A method, or a variant as in cbm:joint; repeatable. Default: all."),
    ] = None,
    features: FeatureName = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds, from 0; three or more for a claim.")] = 3,
    budget: Annotated[int, typer.Option("--budget", min=1, help="Settings that each row may try on validation.")] = 4,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option for every method that has it; repeatable."),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder", metavar="NAME=VALUE", help="How features are trained here: epochs, lr, batch_size; repeatable."
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME[=1,3]|all",
            help="Also score a correction policy, at these budgets or up to all concepts; repeatable; all: every policy.",
        ),
    ] = None,
    out: Out = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Audit every row's first model, too; the report links to the pages. Needs --out.")
    ] = False,
    label: Label = None,
    concepts: ConceptColumns = None,
    unseen: Unseen = None,
    table_file: TableFile = None,
    device: Device = None,
    plugin: Plugins = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Every method that the data allows, on the same features and with the same tuning, the black box beside them."""
    from isthmus import plugins, registry
    from isthmus.commands.places import writable
    from isthmus.commands.source import read, unseen_classes, word_file
    from isthmus.commands.train import feature_choice
    from isthmus.compare import compare as run
    from isthmus.data.classes import only_classes
    from isthmus.data.table import replacing
    from isthmus.encoders import TRAINING, train_encoder
    from isthmus.progress import Bar

    plugins.load_all(plugin or ())
    chosen = [registry.get(name.split(":")[0]) for name in method or registry.methods()]
    options = _options(settings or (), chosen)
    asked = pairs(encoder or (), "--encoder")
    for name in asked:
        if name not in TRAINING:
            raise unknown("option of --encoder", name, TRAINING)
    training = typed(asked, train_encoder, "the encoder")
    policies = _policies(policy or ())
    feature, feature_options = feature_choice(features)
    if audit and out is None:
        raise OptionError("--audit: expected --out FOLDER, where the pages go")
    if out is not None:
        writable(out)
    start, results = time.perf_counter(), []
    for part, source in _parts(data):
        words, columns = word_file(concepts)
        splits = read(source, label=label, concepts=columns, table=table_file, worded=words is not None).splits
        place = out / part if out is not None and part else out
        with Bar(splits.name, verbose=verbose) as bar:
            result = run(
                splits,
                methods=method,
                features=feature,
                feature_options=feature_options,
                seeds=range(seeds),
                budget=budget,
                options=options,
                training=training,
                policies=policies or None,
                words=words,
                unseen=unseen_classes(unseen),
                device=device,
                out=place,
                command=command_line(),
                say=bar.say,
            )
            if audit and place is not None:
                from isthmus.pages import audited

                if unseen:
                    with replacing(True):
                        splits = only_classes(splits, result.data["words"]["unseen"])
                audited(result, splits, place, say=bar.say)
        results.append(result.data)
        if not as_json:
            _tell(result, place)
    if as_json:
        emit(results[0] if len(results) == 1 else {"schema": "isthmus.comparisons/1", "parts": results})
    else:
        say(f"{time.perf_counter() - start:.0f} s" + ("" if out is not None else "; --out FOLDER writes the report"))
    if seeds < 3:
        complain("note", f"{seeds} of the three seeds that a claim needs")


def _parts(data: str) -> list[tuple[str, str]]:
    """The parts of a data set that is compared part by part, each with its source; one part '' for all others."""
    from isthmus.data.registry import datasets

    known = datasets().get(data)
    if known is None or not known.parts:
        return [("", data)]
    return [(name, f"{data}:" + ",".join(f"{k}={v}" for k, v in chosen.items())) for name, chosen in known.parts.items()]


def _tell(result: Any, out: Path | None) -> None:
    """Print a comparison, its corrections by policy, where it was written, and one correction in words."""
    from isthmus.report import absent, alike, corrections, worth

    console().print(result.table())
    for each in (corrections(result.data), *worth(result.data)):
        if each is not None:
            console().print(each)
    for line in alike(result.data):
        say(one_line(line))
    replayed = result.data.get("replay")
    if replayed:
        say(f"{replayed['method']}, test row {replayed['row']}: {one_line(replayed['text'])}")
    for row in result.data["left_out"]:
        say(f"left out: {row['method']} {one_line(absent(row))}")
    if out is not None:
        say(f"report: {out / 'report.html'}")


def _options(texts: Any, methods: list[Any]) -> dict[str, Any]:
    """Options for every method that has them, taken apart as the first such method declares them."""
    found: dict[str, Any] = {}
    for name, text in pairs(texts, "--set").items():
        owner = next((m for m in methods if name in m.options), None)
        if owner is None:
            raise unknown("option of these methods", name, {option for m in methods for option in m.options})
        found[name] = loosened(text, hints_of(owner.build).get(name, str))
        for each in methods:
            if name in each.options:
                each.checked({name: found[name]})
    return found


def _policies(texts: Sequence[str]) -> dict[str, Sequence[int] | None]:
    """Budgets by policy; none where none are named."""
    from isthmus.interventions.named import policy

    found: dict[str, Sequence[int] | None] = {}
    for text in texts:
        name, equals, budgets = text.partition("=")
        if name != "all":
            policy(name)
        if name in found:
            raise OptionError(f"--policy {name}: expected once, got twice; write all budgets in one")
        found[name] = _budgets(name, budgets) if equals else None
    return found


def _budgets(name: str, text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 0:
        raise OptionError(f"--policy {name}: expected numbers of corrections as in {name}=1,3, got {text!r}")
    return found


def report(
    what: Annotated[
        Path,
        typer.Argument(metavar="RUN|FILE", help="A run of fit, the folder of a comparison, or a JSON file of one."),
    ],
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="For a run: the data; default: what it was fitted on.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.html",
            help="Default: report.html beside comparison.json, else NAME.html beside what was given.",
        ),
    ] = None,
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write one self-contained page about a run or a comparison; it opens offline."""
    from isthmus.commands.places import writable
    from isthmus.files import write

    if not what.exists():
        raise DataError(f"{what}: expected a run, a comparison's folder or a JSON file, found nothing")
    source = what / "comparison.json" if (what / "comparison.json").is_file() else what
    default = (
        source.with_suffix(".html") if source.is_file() and source.name != "comparison.json" else source.parent / "report.html"
    )
    place = out or (default if source.is_file() else Path(f"{str(what).rstrip('/')}.html"))
    if place.is_dir():
        raise OptionError(f"--out {place}: expected a file that ends in .html, got a folder")
    writable(place.parent)
    if source.is_file():
        write(place, _page(source).encode())
    else:
        from isthmus.commands.runs import open_run, part_of
        from isthmus.pages import report as page

        opened = open_run(what, plugin or ())
        loaded = opened.data(data, label=label, concepts=concepts, table=table_file)
        part_of(opened, loaded, "test")
        page(opened.model, loaded.splits, place)
    if as_json:
        emit({"schema": "isthmus.report/1", "report": str(place)})
    else:
        say(f"{place}")


def _page(file: Path) -> str:
    """The page of a comparison or evaluation, from its JSON file."""
    from isthmus.report import html

    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{file}: expected the JSON of a comparison or evaluation, got {one_line(error)[:80]}") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema not in ("isthmus.compare/1", "isthmus.evaluation/1"):
        raise DataError(f"{file}: expected schema isthmus.compare/1 or isthmus.evaluation/1, got {schema!r}")
    try:
        return html(found)
    except (LookupError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{file}: {type(error).__name__} {one_line(error)[:60]} where the schema has more; write it again"
        ) from error
