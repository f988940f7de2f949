"""``edit``: change what a saved model learnt, keep the model as it was, and write who did what and why beside the new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from isthmus.commands.console import complain, emit, one_line, say
from isthmus.commands.entries import told
from isthmus.commands.options import ConceptColumns, Json, Label, Plugins, RunFolder, TableFile
from isthmus.errors import DataError, IsthmusError, OptionError, unknown

if TYPE_CHECKING:
    from isthmus.commands.runs import Run
    from isthmus.data.table import Splits, Table
    from isthmus.model import ConceptModel

Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; it stands in the history of the new model.")]
Who = Annotated[
    str | None, typer.Option("--who", metavar="NAME", help="Who edits.", show_default="the operating system's user")
]
Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the new model goes; RUN stays as it is.")]
OneConcept = Annotated[
    str, typer.Argument(metavar="CONCEPT", help="A concept by name; a state of one as in colour=red, where the edit takes one.")
]
Several = Annotated[list[str], typer.Argument(metavar="CONCEPT...", help="Concepts by name.")]


class Edits(TyperGroup):
    """The edits by name; RUN may stand before the name, as in ``isthmus edit RUN prune``, or after it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and len(args) > 1 and args[1] in known:
            args = [args[1], args[0], *args[2:]]
        if args[0] not in known and not args[0].startswith("-"):
            if not Path(args[0]).is_dir():
                raise unknown("edit", args[0], known)
            if len(args) == 1 or args[1].startswith("-"):
                raise OptionError(f"edit {args[0]}: expected what to do with it: {', '.join(known)}; see isthmus edit --help")
            raise unknown("edit", args[1], known)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Edits,
    no_args_is_help=True,
    help="Edit what a saved model learnt: isthmus edit RUN prune CONCEPT --why TEXT --out FOLDER. RUN itself stays; the new "
    "model's history says who did what, when and why, chained by SHA-256 and checked whenever it is loaded.",
)


@app.command()
def prune(
    run: RunFolder,
    concepts: Annotated[list[str], typer.Argument(metavar="CONCEPT...", help="Concepts by name; a state as in colour=red.")],
    why: Why,
    out: Out,
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="For this class only; repeatable. Default: all.")
    ] = None,
    normalise: Annotated[
        bool, typer.Option("--normalise", help="Rescale the rest of each row, so that its L1 norm stays.")
    ] = False,
    who: Who = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Set the weights of concepts to 0, for all classes or some."""
    from isthmus.interventions import edit

    _run(
        run, out, plugin, as_json,
        lambda model, rows: edit.prune(model, concepts, classes, normalise=normalise, why=why, who=who, validation=rows),
    )  # fmt: skip


@app.command()
def reweight(
    run: RunFolder,
    label: Annotated[str, typer.Argument(metavar="CLASS", help="A class by name.")],
    concept: OneConcept,
    weight: Annotated[float, typer.Option("--weight", metavar="NUMBER", help="The new weight.")],
    why: Why,
    out: Out,
    who: Who = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Set the weight of one concept for one class."""
    from isthmus.interventions import edit

    pairs = {(label, concept): weight}
    _run(run, out, plugin, as_json, lambda model, rows: edit.reweight(model, pairs, why=why, who=who, validation=rows))


@app.command()
def rename(
    run: RunFolder,
    old: Annotated[str, typer.Argument(metavar="OLD", help="A concept by name.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name, which no other concept has.")],
    why: Why,
    out: Out,
    who: Who = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Give a concept another name; no answer changes."""
    from isthmus.interventions import edit

    _run(run, out, plugin, as_json, lambda model, rows: edit.rename(model, {old: new}, why=why, who=who, validation=rows))


@app.command()
def remove(
    run: RunFolder,
    concepts: Several,
    why: Why,
    out: Out,
    who: Who = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Drop concepts from the model; the others stay as they are."""
    from isthmus.interventions import edit

    _run(run, out, plugin, as_json, lambda model, rows: edit.remove(model, concepts, why=why, who=who, validation=rows))


@app.command()
def retext(
    run: RunFolder,
    concept: OneConcept,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the concept shall say.")],
    why: Why,
    out: Out,
    vector: Annotated[
        Path | None, typer.Option("--vector", metavar="FILE.npy", help="The text's vector, made by the model's text encoder.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", metavar="FEATURES", help="Or that encoder: text features by name, as in fit.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="A new name for the concept, too.")] = None,
    who: Who = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Replace the text of a concept and rebuild what was made from it, without training."""
    from isthmus.interventions import edit

    if (vector is None) == (encoder is None):
        raise OptionError("retext: expected either --vector FILE.npy or --encoder FEATURES")
    place: dict[str, Any] = {"vector": _vector(vector)} if vector is not None else {"encoder": _encoder(str(encoder))}
    _run(
        run, out, plugin, as_json,
        lambda model, rows: edit.retext(model, concept, text, **place, name=name, why=why, who=who, validation=rows),
    )  # fmt: skip


@app.command()
def pin(
    run: RunFolder,
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="CLASS CONCEPT...",
            help="Pairs of a class and a concept (a state as in colour=red); with --every-class concepts alone.",
        ),
    ],
    weights: Annotated[
        list[float],
        typer.Option(
            "--weight",
            metavar="NUMBER",
            help="The weight that stays; of a task of classes counted from the mean over classes of that concept. Once for all "
            "pairs, or once for each in order.",
        ),
    ],
    why: Why,
    out: Out,
    every: Annotated[bool, typer.Option("--every-class", help="Pin the concepts for every class.")] = False,
    who: Who = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Set weights of concepts for classes, and learn the rest of the head again around them."""
    from isthmus.interventions import repair

    _run(
        run, out, plugin, as_json,
        lambda model, rows: repair.pin(
            model, _pins(places, weights, model.task.names if every else ()), _splits(run, plugin), why=why, who=who,
            validation=rows,
        ),
    )  # fmt: skip


def _pins(places: Sequence[str], weights: Sequence[float], classes: Sequence[str]) -> dict[tuple[str, str], float]:
    """{(class, concept): weight} of pairs in a row, or of concepts for each of ``classes`` where there are any."""
    if not classes and len(places) % 2:
        raise OptionError(
            f"pin: expected pairs CLASS CONCEPT, got {len(places)} names; concepts for every class need --every-class"
        )
    groups = [[(label, name) for label in classes] for name in places] if classes else [
        [(label, name)] for label, name in zip(places[::2], places[1::2], strict=True)
    ]  # fmt: skip
    if len(weights) not in (1, len(groups)):
        raise OptionError(f"pin: expected one --weight, or one for each of {len(groups)}, got {len(weights)}")
    found: dict[tuple[str, str], float] = {}
    for group, weight in zip(groups, [*weights] * (len(groups) if len(weights) == 1 else 1), strict=True):
        for place in group:
            if place in found:
                raise OptionError(f"pin: expected each pair once, got {' '.join(place)!r} twice; leave one out")
            found[place] = weight
    return found


@app.command()
def recalibrate(
    run: RunFolder,
    why: Why,
    out: Out,
    concepts: Annotated[
        list[str] | None, typer.Argument(metavar="[CONCEPT...]", help="Concepts by name. Default: all.")
    ] = None,
    who: Who = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Scale and shift concepts' logits on validation rows, so that 80 % means 80 %."""
    from isthmus.commands.shots import half
    from isthmus.interventions import repair

    _run(
        run, out, plugin, as_json,
        lambda model, rows: repair.recalibrate(
            model, half(rows, 0, "recalibrate"), concepts or None, why=why, who=who, validation=half(rows, 1, "recalibrate")
        ),
    )  # fmt: skip


@app.command()
def adapt(
    run: RunFolder,
    support: Annotated[str, typer.Argument(metavar="DATA", help="A few labelled rows of the new domain.")],
    why: Why,
    out: Out,
    most: Annotated[int, typer.Option("--most", min=1, help="At most so many concepts are masked, and amplified.")] = 8,
    tolerance: Annotated[float, typer.Option("--tolerance", help="Accuracy that the source may lose.")] = 0.01,
    held: Annotated[
        float,
        typer.Option(
            "--held", metavar="SHARE", help="Share of each class's rows of DATA that measure the effect alone, 0 to .9."
        ),
    ] = 0.25,
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    who: Who = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Repair a model for a new domain by a few of its rows: mask concepts that mislead, amplify those missed."""
    from isthmus.commands.runs import open_run
    from isthmus.commands.shots import few, half, parted, present
    from isthmus.commands.source import read
    from isthmus.interventions import repair

    loaded = read(support, label=label, concepts=concepts, table=table_file)
    shots, aside = parted(few(open_run(run, plugin or ()), loaded), held)
    if aside is None:
        complain("note", "the effect is of source rows; in the new domain nothing is measured on rows that chose nothing")
    _run(
        run, out, plugin, as_json,
        lambda model, rows: repair.adapt(
            model, shots, source=present(rows, "adapt") if aside else half(rows, 0, "adapt"), most=most, tolerance=tolerance,
            why=why, who=who, validation=aside or half(rows, 1, "adapt"),
        ),
    )  # fmt: skip


@app.command()
def forget(
    run: RunFolder,
    label: Annotated[str, typer.Argument(metavar="CLASS", help="The class to forget.")],
    why: Why,
    out: Out,
    by: Annotated[
        Literal["relabel", "head"], typer.Option("--by", help="Go on learning under other labels, or empty its row.")
    ] = ("relabel"),
    labels: Annotated[Literal["random", "targeted"], typer.Option("--labels", help="Any other class, or the nearest one.")] = (
        "random"
    ),
    retain: Annotated[
        float, typer.Option("--retain", metavar="SHARE", help="Share of the other rows that are learnt on, above 0 to 1.")
    ] = 1.0,
    encoder: Annotated[
        bool, typer.Option("--encoder", help="The features unlearn, too, where they have weights to learn.")
    ] = False,
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 5,
    lr: Annotated[
        float | None, typer.Option("--lr", metavar="RATE", help="Learning rate.", show_default=".01; .001 with --encoder")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Of the random labels and the order of rows.")] = 0,
    who: Who = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Make a model forget a class, by the concepts that make it, and say how well; isthmus.repair.forgotten says more."""
    from isthmus.interventions import repair

    _run(
        run, out, plugin, as_json,
        lambda model, rows: repair.forget(
            model, _splits(run, plugin), label, by=by, labels=labels, retain=retain, encoder=encoder, epochs=epochs, lr=lr,
            seed=seed, why=why, who=who, validation=rows,
        ),
    )  # fmt: skip


@app.command()
def history(run: RunFolder, plugin: Plugins = None, as_json: Json = False) -> None:
    """Print the edits of a model, oldest first, after checking their chain."""
    from isthmus.commands.runs import open_run
    from isthmus.interventions.edit import history as entries

    found = entries(open_run(run, plugin or ()).model)
    if as_json:
        emit({"schema": "isthmus.edit-history/1", "run": str(run), "edits": found})
        return
    for count, entry in enumerate(found, 1):
        say(*(one_line(each) if at == 0 else f"   {one_line(each)}" for at, each in enumerate(told(count, entry))))
    say(f"the chain holds; keep this hash elsewhere to know it again: {found[-1]['hash']}" if found else "no edits")


def _run(
    folder: Path, out: Path, plugin: Sequence[Path] | None, as_json: bool,
    change: Callable[[ConceptModel, Table | None], ConceptModel],
) -> None:  # fmt: skip
    """Open, edit, save to ``out`` and say what changed."""
    from isthmus.commands.places import free
    from isthmus.commands.runs import open_run
    from isthmus.hub import save

    if out.resolve() == folder.resolve():
        raise DataError(f"--out {out}: expected another folder than RUN, which stays as it is; choose a new one")
    free(out)
    opened = open_run(folder, plugin or ())
    new = change(opened.model, _rows(opened))
    save(new, out, extra=opened.extra)
    entry = new.history[-1]
    if as_json:
        emit({"schema": "isthmus.edit/1", "run": str(folder), "out": str(out), "entry": entry})
        return
    say(*map(one_line, told(sum("edit" in row for row in new.history), entry)), f"saved in {out}")


def _splits(folder: Path, plugin: Sequence[Path] | None) -> Splits:
    """The data that a run was fitted on."""
    from isthmus.commands.runs import open_run

    return open_run(folder, plugin or ()).data(None).splits


def _rows(run: Run) -> Table | None:
    """Validation rows of the data that the run was fitted on; a note where there are none."""
    from isthmus.commands.runs import part_of

    try:
        return part_of(run, run.data(None), "validation")
    except (IsthmusError, OSError) as error:
        complain("note", f"the effect is not measured: {error}")
        return None


def _vector(file: Path) -> Any:
    """The numbers of an NPY file."""
    import numpy as np
    import torch

    try:
        found = np.load(file, allow_pickle=False)
        return torch.from_numpy(np.asarray(found, dtype=np.float32))
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise DataError(f"--vector {file}: expected an NPY file of numbers, got {str(error)[:80]!r}") from error


def _encoder(text: str) -> Any:
    """Text features by name."""
    from isthmus.commands.train import feature_choice
    from isthmus.features import build

    name, options = feature_choice(text)
    return build(str(name), **options)
