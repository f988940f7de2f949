"""What every command shares: tables for people, JSON for machines, warnings in one line, and the exit codes."""

from __future__ import annotations

import json
import math
import shlex
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, is_dataclass
from enum import IntEnum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

from isthmus.errors import IntegrityError, IsthmusError, MissingExtra

if TYPE_CHECKING:
    from rich.console import Console

ASKED: ContextVar[tuple[str, ...]] = ContextVar("isthmus_asked", default=())  # the words of the running command
WIDTH = 140  # columns of a table that goes into a file or a pipe


class Code(IntEnum):
    """How a command ends; ``MEANING`` says each in words."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    DAMAGED = 3
    EXTRA = 4
    BROKEN = 5
    STOPPED = 130


MEANING = {
    Code.DONE: "done",
    Code.FAILED: "something unexpected, or doctor found something broken; --debug shows the traceback",
    Code.USAGE: "bad input: an option, a name, data or a file that does not fit; nothing was written",
    Code.DAMAGED: "a saved file is damaged, missing or not what its manifest says",
    Code.EXTRA: "an optional package is missing; the line says which extra brings it",
    Code.BROKEN: "a limit set with audit --fail-if is broken, or could not be checked; the page was written all the same",
    Code.STOPPED: "stopped by Ctrl-C; an unfinished fit says where its checkpoint lies",
}


def code_of(error: BaseException) -> Code:
    """The exit code of an error."""
    if isinstance(error, KeyboardInterrupt):
        return Code.STOPPED
    if isinstance(error, MissingExtra):
        return Code.EXTRA
    if isinstance(error, IntegrityError):
        return Code.DAMAGED
    return Code.USAGE if isinstance(error, IsthmusError) else Code.FAILED


def command_line() -> str:
    """The running command as it was typed."""
    return shlex.join(("isthmus", *ASKED.get()))


def one_line(text: object) -> str:
    """Text without line breaks or control characters."""
    joined = " ".join(str(text).split())
    return "".join(ch if ch.isprintable() else "?" for ch in joined)


def complain(kind: str, text: object) -> None:
    """One line on stderr: ``error: ...``, ``warning: ...`` or ``note: ...``."""
    print(f"{kind}: {one_line(text)}", file=sys.stderr, flush=True)


@contextmanager
def warned() -> Iterator[None]:
    """Warnings meant for the user become one line on stderr, each text once."""
    said: set[str] = set()
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
            if category is not UserWarning:
                before(message, category, *rest, **named)
            elif str(message) not in said:
                said.add(str(message))
                complain("warning", message)

        warnings.filterwarnings("always", category=UserWarning)
        warnings.showwarning = show
        yield


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is (no markup), as wide as the terminal, or ``WIDTH`` into a file or pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=False,
        width=None if stream.isatty() else WIDTH,
    )


def plain(value: Any) -> Any:
    """``value`` as JSON takes it: tensors and arrays as lists, paths and other objects as text, NaN and inf as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in cast("Iterable[Any]", value)]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if hasattr(value, "tolist") and not isinstance(value, type):
        return plain(value.tolist())
    return str(value) if isinstance(value, PurePath) else repr(value)


def emit(value: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False))


def say(*lines: str) -> None:
    """Print lines for a person on stdout."""
    print(*lines, sep="\n")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None, right: Collection[str] = ()
) -> None:
    """Print a table; ``right`` names the columns that are set flush right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(one_line(cell)) for cell in row))
    console().print(made)


def number(value: float | None, digits: int = 3) -> str:
    """A number with few digits, a dash for none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}g}" if value else "0"
