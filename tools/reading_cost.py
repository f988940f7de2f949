"""Reading cost: the files, and their lines, that one must read to follow a module through its imports.

``python tools/reading_cost.py [src/isthmus/methods/cbm.py]`` prints them; exit code 1 above the budget.

A file is reached by an import statement anywhere in a reached file, inside a function or ``if TYPE_CHECKING`` too.
``import isthmus.a.b`` also runs ``isthmus/a/__init__.py``, so that file counts when it holds more than a docstring. The
top ``__init__`` is run by every import; it counts when it imports anything of ours. Printed beside, not counted: the
lines of a top ``__init__`` that is only a table of names, and what ``import_module("isthmus...")`` asks for by name.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START = ROOT / "src" / "isthmus" / "methods" / "cbm.py"
MAX_LINES = 1500
MAX_FILES = 10


@dataclass(frozen=True)
class Cost:
    """``lines`` of each file to read, in the order they are reached.

    ``lazy``: lines of a top ``__init__`` left out; ``named``: our modules that are imported by a name in quotes only.
    """

    lines: dict[Path, int]
    lazy: int = 0
    named: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Lines of all files."""
        return sum(self.lines.values())

    def within(self, lines: int = MAX_LINES, files: int = MAX_FILES) -> bool:
        """True when neither budget is passed."""
        return self.total <= lines and len(self.lines) <= files


def reading_cost(start: Path, source: Path) -> Cost:
    """The cost of ``start``, a file below ``source`` (the folder that holds the package)."""
    top = source / start.relative_to(source).parts[0] / "__init__.py"
    seen: dict[Path, int] = {}
    quoted: set[str] = set()
    todo = [start]
    while todo:
        file = todo.pop(0)
        if file in seen:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        if file != start and file.name == "__init__.py" and not _counts(tree, file == top, file, source):
            continue
        seen[file] = _lines(file)
        todo += [found for name in imported(tree, file, source) for found in _run_by(name, source)]
        quoted |= {name for name in named(tree) if any(_run_by(name, source))}
    unseen = [name for name in sorted(quoted) if list(_run_by(name, source))[-1] not in seen]
    return Cost(seen, 0 if top in seen or not top.exists() else _lines(top), tuple(unseen))


def imported(tree: ast.AST, file: Path, source: Path) -> Iterator[str]:
    """Dotted names in the import statements of ``file``, ``from a import b`` as 'a.b' (b may be a module or a name)."""
    package = list(file.relative_to(source).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def named(tree: ast.AST) -> Iterator[str]:
    """Module names written out in a call of ``import_module``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).split(".")[-1] == "import_module":
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _run_by(name: str, source: Path) -> Iterator[Path]:
    """The files below ``source`` that importing ``name`` runs: the ``__init__`` files on the way, then the module."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        place = source.joinpath(*parts[:depth])
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file


def _counts(tree: ast.Module, top: bool, file: Path, source: Path) -> bool:
    """Whether an ``__init__`` must be read: any code beyond a docstring; for the top one, an import of ours."""
    if top:
        return any(any(_run_by(name, source)) for name in imported(tree, file, source))
    first = tree.body[0] if tree.body else None
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return len(tree.body) > has_docstring


def _lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def main(arguments: list[str]) -> int:
    """Print the cost of the file named (default: the joint CBM); 1 when it is above the budget."""
    start = Path(arguments[0]).resolve() if arguments else START
    source = next(parent for parent in start.parents if not (parent / "__init__.py").exists())
    cost = reading_cost(start, source)
    verdict = "ok" if cost.within() else "TOO MUCH"
    print(f"reading cost of {start.stem}: {cost.total} lines in {len(cost.lines)} files ", end="")
    print(f"(at most {MAX_LINES} in {MAX_FILES}): {verdict}")
    for file, lines in cost.lines.items():
        print(f"  {lines:5d}  {file.relative_to(source)}")
    if cost.lazy:
        print(f"  beside: {cost.lazy} lines of the top __init__.py, which imports nothing of ours by a statement")
    if cost.named:
        print(f"  beside: {', '.join(cost.named)}, imported by a name in quotes")
    return 0 if cost.within() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
