"""Methods from outside: the ``isthmus.methods`` entry points of installed packages, and files named by the user."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from isthmus import registry
from isthmus.errors import DataError, OptionError

LOADED: dict[Path, str] = {}


def load_file(file: str | Path) -> list[str]:
    """Run a Python file that registers methods; returns the names it added. The file is code: run only your own."""
    path = Path(file).resolve()
    if path in LOADED:
        return []
    if not path.is_file() or path.suffix != ".py":
        raise DataError(f"plugin {file}: expected a Python file (.py), found none")
    before, name = set(registry.methods()), f"isthmus_plugin_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise OptionError(
            f"plugin {file}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    LOADED[path] = name
    return [added for added in registry.methods() if added not in before]


def load_all(files: Iterable[str | Path] = ()) -> None:
    """Register the library's methods, those of installed packages (entry points), and those of ``files``."""
    registry.methods()
    for file in files:
        load_file(file)
