"""Where a command may write: refused before any work is done; and the checkpoint of an unfinished fit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.commands.console import complain
from isthmus.errors import DataError, OptionError


def free(out: Path) -> None:
    """Refuse, before any work, a place that a model cannot be written to."""
    from isthmus.hub import MANIFEST

    if out.is_dir() and not (out / MANIFEST).exists() and any(out.iterdir()):
        raise DataError(f"--out {out}: expected a new folder or a saved model, got other files; choose another place")
    writable(out)


def writable(out: Path) -> None:
    """Refuse, before any work, a folder that cannot be made or written to."""
    above = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise DataError(f"--out {out}: expected a place that can be written, got {above}, which cannot; choose another")


def ready(place: Path, resume: bool | None) -> None:
    """Check a checkpoint folder against what was asked: an unfinished fit is never taken up, or dropped, unasked."""
    writable(place)
    if not place.exists():
        if resume:
            complain("note", f"{place}: no checkpoint there; the fit begins")
        return
    if not place.is_dir() or any(not _stage(file) for file in place.iterdir()):
        raise DataError(f"--checkpoint {place}: expected a checkpoint or a new folder, got other files; choose another place")
    if resume is None and any(place.iterdir()):
        raise OptionError(f"{place}: holds an unfinished fit; add --resume to go on from it, or --restart to begin again")
    if resume is False:
        forget(place)


def _stage(file: Path) -> bool:
    return file.name.startswith(("stage-", ".stage-")) and file.suffix in (".safetensors", ".part")


def forget(place: Path) -> None:
    """Remove a checkpoint folder, if it holds nothing else."""
    if place.is_dir() and all(_stage(file) for file in place.iterdir()):
        shutil.rmtree(place)


@contextmanager
def kept(place: Path) -> Iterator[None]:
    """Say where the state lies when the user stops a fit."""
    try:
        yield
    except KeyboardInterrupt:
        there = place.is_dir() and any(place.iterdir())
        complain(
            "stopped",
            f"the state lies in {place}; add --resume to go on" if there else "before the first epoch was done",
        )
        raise
