"""Feature extractors by name: a builder function gives a ``Features`` module that knows how to be rebuilt.

A builder is stamped: the module it returns carries a ``Recipe`` of the call that made it, so a saved model is rebuilt
from JSON and its ``state_dict``, without the outside file its weights once came from.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from os import PathLike, fspath
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from isthmus.errors import OptionError, unknown


@dataclass(frozen=True)
class Recipe:
    """How features were built: the builder's ``name`` and its ``options``, JSON values only.

    Enough for the structure; the weights are in the module's ``state_dict``.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> str:
        """One canonical line of JSON: equal recipes give equal text."""
        return json.dumps({"name": self.name, "options": self.options}, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe written by ``to_json``; ``OptionError`` when the text is not one."""
        try:
            found = json.loads(text)
            name, options = found["name"], found["options"]
        except (ValueError, TypeError, KeyError) as error:
            raise OptionError(f"recipe: expected JSON with name and options, got {text[:60]!r}") from error
        if not isinstance(name, str) or not isinstance(options, dict):
            raise OptionError(f"recipe: expected a name and a dict of options, got {text[:60]!r}")
        return cls(name, cast("dict[str, Any]", options))

    def __hash__(self) -> int:
        return hash(self.to_json())


class Features(nn.Module):
    """Raw rows to features z (B, D): ``dim`` is D; ``prepare`` turns raw rows into what ``forward`` takes.

    ``pretrained``: weights came with it, so it is used frozen and cached unless asked otherwise. ``recipe`` is None for
    a module made by hand: it works, but a model around it cannot be saved by recipe.
    ``resolved`` holds options found while building (a loaded configuration) that rebuilding needs.
    """

    dim: int
    pretrained: bool = False
    recipe: Recipe | None = None
    resolved: Mapping[str, Any] = MappingProxyType({})

    def prepare(self, raw: Any) -> Any:
        """Raw rows -> the float tensor, or dict of tensors, ``forward`` takes; float tensors pass unchanged."""
        raise NotImplementedError(f"{type(self).__name__} has no prepare")


P = ParamSpec("P")
F = TypeVar("F", bound=Features)
Builder = Callable[..., Features]


@dataclass(frozen=True)
class Entry:
    """A registered builder; ``blank`` are the options that name outside files, replaced when rebuilding."""

    name: str
    build: Builder
    blank: dict[str, Any]

    @property
    def summary(self) -> str:
        """The first line of the builder's docstring."""
        return (inspect.getdoc(self.build) or "").split("\n")[0]

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The builder's options by name, with defaults."""
        return dict(inspect.signature(self.build).parameters)


_found: dict[str, Entry] = {}


def features_builder(name: str, *, blank: Mapping[str, Any] | None = None) -> Callable[[Callable[P, F]], Callable[P, F]]:
    """Register a builder under ``name`` and stamp what it returns with the recipe of the call.

    ``blank``: values that take the place of options when the structure alone is rebuilt, such as ``{"weights": None}``.
    Options must be JSON values, paths, tuples of these, or other ``Features`` with a recipe.
    """

    def register(build: Callable[P, F]) -> Callable[P, F]:
        signature = inspect.signature(build)
        for option, parameter in signature.parameters.items():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise OptionError(f"features {name!r}: expected named options only, got *{option}; name each option")
        for option in blank or {}:
            if option not in signature.parameters:
                raise unknown(f"blank option of features {name!r}", option, signature.parameters)

        @wraps(build)
        def stamped(*args: P.args, **kwargs: P.kwargs) -> F:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            module = build(*args, **kwargs)
            options = {**bound.arguments, **module.resolved}
            module.recipe = Recipe(name, {k: _plain(v, f"features {name!r}, option {k!r}") for k, v in options.items()})
            return module

        _found[name] = Entry(name, stamped, dict(blank or {}))
        return stamped

    return register


def _plain(value: Any, place: str) -> Any:
    """``value`` as JSON: paths as text, tuples as lists, features as their recipe."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, PathLike):
        return fspath(cast("PathLike[str]", value))
    if isinstance(value, list | tuple):
        return [_plain(each, place) for each in cast("list[Any]", value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in cast("dict[Any, Any]", value)):
        return {key: _plain(each, place) for key, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, Features):
        if value.recipe is None:
            raise OptionError(f"{place}: {type(value).__name__} has no recipe; build it by a registered builder")
        return {"recipe": value.recipe.name, "options": value.recipe.options}
    raise OptionError(f"{place}: expected a JSON value, got {type(value).__name__}")


def entries() -> dict[str, Entry]:
    """All registered builders by name."""
    return dict(sorted(_found.items()))


def names() -> list[str]:
    """The names ``build`` knows, sorted."""
    return sorted(_found)


def _entry(name: str) -> Entry:
    if name not in _found:
        raise unknown("features", name, _found)
    return _found[name]


def build(name: str, *args: Any, **options: Any) -> Features:
    """Features by name; ``args`` and ``options`` are the builder's. Unknown names and options: "did you mean"."""
    entry = _entry(name)
    for option in options:
        if option not in entry.options:
            raise unknown(f"option of features {name!r}", option, entry.options)
    try:
        inspect.signature(entry.build).bind(*args, **options)
    except TypeError as error:
        raise OptionError(f"features {name!r}: {error}; options are {', '.join(entry.options)}") from error
    return entry.build(*args, **options)


def rebuild(recipe: Recipe) -> Features:
    """The structure a recipe describes, with fresh weights; reads no outside file and leaves the caller's seed alone.

    The weights then come through ``load_state_dict``. ``recipe`` of the result equals the one given.
    """
    entry = _entry(recipe.name)
    options = {key: _revive(value) for key, value in recipe.options.items()}
    with torch.random.fork_rng(devices=[]):
        module = build(recipe.name, **{**options, **entry.blank})
    module.pretrained |= any(recipe.options.get(option) is not None for option in entry.blank)
    module.recipe = recipe
    return module


def _revive(value: Any) -> Any:
    """Recipes inside options become modules again."""
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return rebuild(Recipe(found["recipe"], found["options"])) if set(found) == {"recipe", "options"} else found
    return value


class Chain(Features):
    """A frozen ``prefix`` and a trained ``neck``: training computes the prefix once and caches it.

    The prefix stays in eval mode and without gradient, whatever ``train`` and ``requires_grad_`` say.
    """

    def __init__(self, prefix: Features, neck: Features) -> None:
        super().__init__()
        expected = getattr(neck, "dim_in", prefix.dim)
        if expected != prefix.dim:
            raise OptionError(f"chain: expected a neck that takes the prefix's {prefix.dim} columns, got {expected}")
        self.prefix, self.neck, self.dim = prefix.eval().requires_grad_(False), neck, neck.dim
        if prefix.recipe is not None and neck.recipe is not None:
            parts = {"prefix": prefix, "neck": neck}
            self.recipe = Recipe("chain", {name: _plain(part, f"chain {name}") for name, part in parts.items()})

    def train(self, mode: bool = True) -> Chain:
        super().train(mode)
        self.prefix.eval()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Chain:
        super().requires_grad_(requires_grad)
        self.prefix.requires_grad_(False)
        return self

    def prepare(self, raw: Any) -> Any:
        """As the prefix prepares."""
        return self.prefix.prepare(raw)

    def forward(self, x: Any) -> Tensor:
        """Prepared rows (B, ...) -> z (B, D)."""
        with torch.no_grad():
            z = self.prefix(x)
        return self.neck(z)


@features_builder("chain")
def chain(prefix: Features, neck: Features) -> Chain:
    """A frozen prefix followed by a trained neck; the prefix is computed once and cached."""
    return Chain(prefix, neck)


def positive(place: str, *sizes: int) -> None:
    """Refuse a size below 1, naming ``place``."""
    for size in sizes:
        if not isinstance(cast("Any", size), int) or size < 1:
            raise OptionError(f"{place}: expected a whole number of at least 1, got {size!r}")
