"""Isthmus: concept bottleneck models, as rows of one table. Names load on first use, so that importing costs little."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "isthmus.api": ("fit", "intervene", "methods", "predict"),
    "isthmus.audit": ("Audit", "audit"),
    "isthmus.compare": ("Comparison", "compare"),
    "isthmus.elude": ("Explanation", "elude"),
    "isthmus.evaluate": ("Evaluation", "evaluate"),
    "isthmus.given": ("Given", "everything", "given", "nothing", "randomly", "reveal"),
    "isthmus.hub": ("card", "from_pretrained", "load", "push_to_hub", "save", "save_pretrained"),
    "isthmus.errors": ("DataError", "IntegrityError", "IsthmusError", "OptionError", "UnknownName"),
    "isthmus.maps": ("maps",),
    "isthmus.methods.realigned": ("realign",),
    "isthmus.model": ("Bottleneck", "ConceptModel", "Concepts", "Head", "Output"),
    "isthmus.pages": ("report",),
    "isthmus.registry": ("Card", "method"),
    "isthmus.space": ("Concept", "ConceptSpace", "Task"),
    "isthmus.stages": ("Keep", "Name"),
    "isthmus.train": ("Learn", "Plan", "Solve"),
    "isthmus.data.table": ("Splits", "Table"),
}
_WHERE = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = {
    name: f"isthmus.{name}"
    for name in (
        "bottlenecks",
        "data",
        "features",
        "heads",
        "interventions",
        "losses",
        "metrics",
        "plugins",
        "registry",
        "testing",
    )
} | {"edit": "isthmus.interventions.edit", "repair": "isthmus.interventions.repair"}

__all__ = ["__version__", *_WHERE, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    raise AttributeError(f"module 'isthmus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _call(name: str) -> property:
    """A name that is both a function here and a submodule: importing the submodule must not hide the function."""
    return property(lambda self: __getattr__(name), lambda self, value: None)


class _Package(ModuleType):
    audit, compare, evaluate, given = _call("audit"), _call("compare"), _call("evaluate"), _call("given")
    elude, maps = _call("elude"), _call("maps")
    methods, realign, report = _call("methods"), _call("realign"), _call("report")


sys.modules[__name__].__class__ = _Package
