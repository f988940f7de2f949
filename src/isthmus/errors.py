"""Every error a user can meet: one line that names the place, what was expected, what came, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType


class IsthmusError(ValueError):
    """Base of all errors raised on purpose; the message is one line."""


class DataError(IsthmusError):
    """A table, column, file or label that does not fit."""


class OptionError(IsthmusError):
    """An option of a method, policy or command that does not fit."""


class UnknownName(IsthmusError):
    """A name that is not in the list it was looked up in."""


class IntegrityError(IsthmusError):
    """A saved file that is damaged, missing, or not what the manifest says."""


class MissingExtra(IsthmusError, ImportError):
    """An optional dependency that is not installed."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for ``name`` not among ``known``: offers the nearest names."""
    names = sorted(set(known))
    near = get_close_matches(name, names, n=1, cutoff=0.6) or get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return UnknownName(f"unknown {kind} {name!r}; {hint}known: {shown or 'none'}")


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or raise ``MissingExtra`` saying which extra brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(f"this needs {module!r} ({error}): pip install 'isthmus[{extra}]'") from error
