"""``fit`` as a command whose options are those of the method it names, read off the builder's signature."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from isthmus.commands.train import fit
from isthmus.commands.values import described, hints_of

if TYPE_CHECKING:
    from isthmus.registry import Method

_OWN = "own_"  # before the name of a method's option among the parameters of the command


def command_for(args: Sequence[str]) -> Any:
    """The command ``fit`` with the options of the method that ``args`` name beside its own."""
    from typer.main import get_command

    plain: Any = get_command(_app(fit))
    words, files = _asked(args, plain.params)
    if not words:
        return plain
    from isthmus import plugins, registry

    plugins.load_all(files)
    known = registry.methods()
    method = registry.get(next((word for word in words if word in known), words[0]))
    taken = {spelling for parameter in plain.params for spelling in (*parameter.opts, *parameter.secondary_opts)}
    return get_command(_app(_with_options(method, taken | {"--help", "--debug"})))


def _app(function: Any) -> typer.Typer:
    names = {"help_option_names": ["--help", "-h"]}
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", context_settings=names)
    app.command("fit")(function)
    return app


def _asked(args: Sequence[str], parameters: Iterable[Any]) -> tuple[list[str], list[str]]:
    """(words that may be the method, plugin files) among the arguments."""
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
    return words, files


def _with_options(method: Method, taken: set[str]) -> Any:
    """``fit`` with a parameter for each option of ``method``, passed on as ``--set name=value``."""
    static = inspect.signature(fit, eval_str=True)
    notes = get_type_hints(fit, include_extras=True)
    own = {name: p for name, p in method.options.items() if not _spellings(name) & taken}
    hints = hints_of(method.build)

    def fit_method(**values: Any) -> None:
        given = {name: values.pop(_OWN + name) for name in own}
        texts = [f"{name}={_text(value)}" for name, value in given.items() if value != _default(own[name])]
        fit(**{**values, "settings": [*(values["settings"] or ()), *texts]})

    parameters = [*static.parameters.values()]
    for name, parameter in own.items():
        note = notes[_OWN + name] = _annotated(name, hints.get(name, str), method)
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(_OWN + name, kind, default=_default(parameter), annotation=note))
    fit_method.__doc__ = _about(method, [name for name in method.options if name not in own])
    fit_method.__annotations__ = notes
    fit_method.__signature__ = static.replace(parameters=parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return fit_method


def _about(method: Method, hidden: list[str]) -> str:
    lines = [f"Fit {method.name}: {method.card.title} ({method.card.paper}).", inspect.getdoc(method.build) or ""]
    lines += [f"Its option {name!r} is set by --set {name}=VALUE." for name in hidden]
    return "\n\n".join(line for line in lines if line).replace("[", r"\[")


def _spellings(name: str) -> set[str]:
    dashed = name.replace("_", "-")
    return {f"--{dashed}", f"--no-{dashed}"}


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _default(parameter: inspect.Parameter) -> Any:
    """The default as the command line has it: text, a bool, or None for none and for required."""
    value = parameter.default
    return None if value is parameter.empty or value is None else value if isinstance(value, bool) else _text(value)


def _annotated(name: str, kind: Any, method: Method) -> Any:
    """The command-line option for one option of a method."""
    tuned = method.card.tune.get(name)
    look: dict[str, Any] = {
        "help": f"compare chooses among {', '.join(map(str, tuned))}" if tuned else "",
        "rich_help_panel": f"Options of {method.name}",
    }
    dashed = name.replace("_", "-")
    if kind is bool:
        return Annotated[bool | None, typer.Option(f"--{dashed}/--no-{dashed}", **look)]
    return Annotated[str | None, typer.Option(f"--{dashed}", metavar=described(kind), **look)]
