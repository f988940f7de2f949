"""The command ``isthmus``: its commands by name, errors as one line, exit codes.

Nothing imports this module. A command's own work, and every heavy import, stands in ``isthmus.commands``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from isthmus import __version__
from isthmus.commands import (
    audit,
    catalogue,
    choose,
    claims,
    data,
    doctor,
    dynamic,
    edit,
    features,
    manual,
    maps,
    predictions,
    study,
    train,
    use,
)
from isthmus.commands.console import ASKED, MEANING, Code, code_of, complain, one_line, warned

_USAGE = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
_START, _MODELS, _ABOUT = "Start here", "One model", "What there is"
_EXITS = "Exit codes: " + ". ".join(f"{code.value} {text}" for code, text in MEANING.items()) + "."
_HELP = """Concept bottleneck models: same data, same call, same metrics, same report.

[bold]isthmus demo[/] shows several methods and the black box side by side on playing cards, in six minutes.
[bold]isthmus list[/] shows the methods. [bold]isthmus compare DATA[/] runs all of them that your data allows."""


class Commands(TyperGroup):
    """The group of all commands: ``fit`` is built for the method it names; every error is one line and an exit code."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, dynamic.command_for(rest) if name == "fit" else command, rest

    def main(self, args: Sequence[str] | None = None, *rest: Any, **named: Any) -> Any:
        """Run and exit with a code of ``isthmus.commands.console.Code``."""
        asked = list(sys.argv[1:] if args is None else args)
        ends = asked.index("--") if "--" in asked else len(asked)
        debug = "--debug" in asked[:ends]
        asked = [word for word in asked[:ends] if word != "--debug"] + asked[ends:]
        named |= {"standalone_mode": False, "prog_name": "isthmus"}
        ASKED.set(tuple(asked))
        try:
            with warned():
                code = super().main(asked, *rest, **named)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of our output went away, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = Code.DONE
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                raise
            code = _told(error)
        sys.exit(int(code) if isinstance(code, int) else int(Code.DONE))


def _misuse(error: Any) -> str:
    """What is wrong with the words of a command, in our own form where an option is not known."""
    near = getattr(error, "possibilities", None)
    if hasattr(error, "option_name") and near is not None:
        hint = f"; did you mean {' or '.join(map(repr, near[:2]))}?" if near else ""
        return f"unknown option {error.option_name!r}{hint}"
    return str(error.format_message()).rstrip(".")


def _told(error: BaseException) -> Code:
    """Say an error in one line; its exit code."""
    if isinstance(error, _USAGE):
        context: Any = getattr(error, "ctx", None)
        path = "isthmus" if context is None else context.command_path
        complain("error", f"{_misuse(error)}; see {path} --help")
        return Code.USAGE
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Code.STOPPED
    code = code_of(error)
    if code is not Code.FAILED:
        complain("error", error)
    elif isinstance(error, OSError) and error.strerror:
        complain("error", f"{error.filename or 'file'}: {error.strerror}")
    else:
        said = one_line(error)[:300]
        complain("error", f"unexpected {type(error).__name__}: {said}; run it again with --debug for the traceback")
    return code


app = typer.Typer(
    name="isthmus",
    cls=Commands,
    help=_HELP,
    epilog=_EXITS,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; stands anywhere.")] = False,
) -> None:
    """What every command shares."""
    if version:
        typer.echo(f"isthmus {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


app.command("demo", rich_help_panel=_START)(study.demo)
app.command("list", rich_help_panel=_START)(catalogue.listing)
app.command("compare", rich_help_panel=_START)(study.compare)
app.command("fit", rich_help_panel=_MODELS)(train.fit)
app.command("predict", rich_help_panel=_MODELS)(predictions.predict)
app.command("evaluate", rich_help_panel=_MODELS)(use.evaluate)
app.command("intervene", rich_help_panel=_MODELS)(use.intervene)
app.command("audit", rich_help_panel=_MODELS)(audit.audit)
app.command("maps", rich_help_panel=_MODELS)(maps.maps)
app.add_typer(edit.app, name="edit", rich_help_panel=_MODELS)
app.command("report", rich_help_panel=_MODELS)(study.report)
app.command("show", rich_help_panel=_ABOUT)(catalogue.show)
app.add_typer(data.app, name="data", rich_help_panel=_ABOUT)
app.add_typer(features.app, name="features", rich_help_panel=_ABOUT)
app.add_typer(choose.app, name="concepts", rich_help_panel=_ABOUT)
app.command("claims", rich_help_panel=_ABOUT)(claims.claims)
app.command("doctor", rich_help_panel=_ABOUT)(doctor.doctor)
app.command("manual", hidden=True)(manual.manual)


def main() -> None:
    """Entry point of the ``isthmus`` script."""
    app()


if __name__ == "__main__":
    main()
