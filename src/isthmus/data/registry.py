"""Data sets by name: a function with keyword options that returns ``Splits``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

from isthmus.data.table import Splits
from isthmus.errors import OptionError, unknown


@dataclass(frozen=True)
class Dataset:
    """A registered data set: ``summary`` in one line, ``build(**options)`` -> ``Splits``.

    ``parts``: options of each part that a comparison of the whole set runs in turn.
    """

    name: str
    summary: str
    build: Callable[..., Splits]
    synthetic: bool = False
    parts: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(self.build).parameters)


_found: dict[str, Dataset] = {}


Build = TypeVar("Build", bound=Callable[..., Splits])


def dataset(name: str, *, summary: str, synthetic: bool = False, **more: dict[str, Any]) -> Callable[[Build], Build]:
    """Register a data set under ``name``; ``more`` are the further fields of ``Dataset``."""

    def register(build: Build) -> Build:
        _found[name] = Dataset(name, summary, build, synthetic, **more)
        return build

    return register


def datasets() -> dict[str, Dataset]:
    """All data sets by name."""
    import_module("isthmus.data.worlds")
    import_module("isthmus.data.datasets")
    return dict(sorted(_found.items()))


def load(name: str, **options: Any) -> Splits:
    """Data by name; options are those of its function (``path=`` for real sets). Unknown names: 'did you mean'."""
    known = datasets()
    if name not in known:
        raise unknown("data set", name, known)
    for option in options:
        if option not in known[name].options:
            raise unknown(f"option of data set {name!r}", option, known[name].options)
    try:
        return known[name].build(**options)
    except TypeError as error:
        if any(p.kind is p.KEYWORD_ONLY for p in known[name].options.values()) and "argument" in str(error):
            raise OptionError(f"data set {name!r}: {error}") from error
        raise
