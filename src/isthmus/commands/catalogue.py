"""``list`` and ``show``: the methods, data sets and features there are, from their registries alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.commands.console import emit, plain, say, table
from isthmus.commands.options import Json, Plugins
from isthmus.commands.values import described, hints_of
from isthmus.errors import unknown

if TYPE_CHECKING:
    from isthmus.registry import Method


def listing(plugin: Plugins = None, as_json: Json = False) -> None:
    """List the methods: family, needs, whether sealed, paper."""
    from isthmus import plugins, registry

    plugins.load_all(plugin or ())
    found = registry.methods()
    if as_json:
        emit({"schema": "isthmus.methods/1", "methods": [method_json(method) for method in found.values()]})
        return
    rows = [
        (name, m.card.family, ", ".join(m.card.needs) or "nothing", "yes" if m.card.sealed else "no", m.card.paper)
        for name, m in found.items()
    ]
    table(("method", "family", "needs", "sealed", "paper"), rows)
    say(
        f"{len(found)} methods. sealed: nothing but the concepts reaches the answer.",
        "isthmus show METHOD: its card and options. isthmus data, isthmus features: what else there is.",
    )


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A method, a data set, or features.")],
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Show the card and the options of a method, a data set or features."""
    from isthmus import plugins, registry
    from isthmus.data.registry import datasets

    plugins.load_all(plugin or ())
    methods, sets, features = registry.methods(), datasets(), feature_entries()
    if name not in {**methods, **sets, **features}:
        raise unknown("name", name, (*methods, *sets, *features))
    if name in methods:
        _show(method_json(methods[name]), methods[name].build, as_json)
    elif name in sets:
        _show(dataset_json(name), sets[name].build, as_json)
    else:
        _show(features_json(name), features[name].build, as_json)


def feature_entries() -> dict[str, Any]:
    """All feature builders by name."""
    from isthmus.features import entries

    return entries()


def _show(card: Mapping[str, Any], build: Callable[..., Any], as_json: bool) -> None:
    if as_json:
        emit(card)
        return
    facts = [
        (key, value) for key, value in card.items() if key not in ("schema", "options", "doc") and value not in ("", None, {})
    ]
    table(("", ""), [(key, words(value)) for key, value in facts])
    if card["doc"]:
        say(card["doc"], "")
    if card["options"]:
        tuned: Mapping[str, Any] = card.get("tune", {})
        rows = [(o["name"], o["type"], o["shown"], words(tuned.get(o["name"], ""))) for o in card["options"]]
        table(
            ("option", "type", "default", *(("validation may choose",) if tuned else ())),
            [r if tuned else r[:3] for r in rows],
        )


def words(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(words(each) for each in value) or "none"
    return str(value)


def options_json(options: Mapping[str, inspect.Parameter], build: Callable[..., Any]) -> list[dict[str, Any]]:
    """Options as data: name, type in words, default, whether required, and the default as shown."""
    hints = hints_of(build)
    rows: list[dict[str, Any]] = []
    for name, parameter in options.items():
        required = parameter.default is inspect.Parameter.empty
        default = None if required else plain(parameter.default)
        rows.append(
            {
                "name": name,
                "type": described(hints.get(name, parameter.annotation)),
                "default": default,
                "required": required,
                "shown": "required" if required else "none" if default is None else words(default),
            }
        )
    return rows


def method_json(method: Method) -> dict[str, Any]:
    """A method's card, options and docstring as data (schema ``isthmus.method/1``)."""
    card = {"name": method.name, **asdict(method.card), "sealed": method.card.sealed}
    doc = inspect.getdoc(method.build) or ""
    return plain({"schema": "isthmus.method/1", **card, "doc": doc, "options": options_json(method.options, method.build)})


def dataset_json(name: str) -> dict[str, Any]:
    """A data set's summary, terms where known without reading it, and options (schema ``isthmus.dataset/1``)."""
    from isthmus.data.registry import datasets

    found = datasets()[name]
    card = known_card(name)
    return {
        "schema": "isthmus.dataset/1",
        "name": name,
        "summary": found.summary,
        "synthetic": found.synthetic,
        **({} if card is None else {key: value for key, value in plain(card).items() if key != "name"}),
        "doc": inspect.getdoc(found.build) or "",
        "options": options_json(found.options, found.build),
    }


def known_card(name: str) -> Any:
    """The licence card of a data set that can be had without reading it, else None."""
    import sys

    from isthmus.data.registry import datasets

    module = sys.modules[datasets()[name].build.__module__]
    card = getattr(module, "CARD", None)
    return card if card is not None and card.name == name else None


def features_json(name: str) -> dict[str, Any]:
    """A feature builder's summary and options (schema ``isthmus.features/1``)."""
    entry = feature_entries()[name]
    return {
        "schema": "isthmus.features/1",
        "name": name,
        "summary": entry.summary,
        "doc": inspect.getdoc(entry.build) or "",
        "options": options_json(entry.options, inspect.unwrap(entry.build)),
    }
