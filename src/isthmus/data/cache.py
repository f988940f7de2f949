"""Frozen features computed once: a cache on disk, keyed by how they are built, their weights and the rows.

Layout: ``<folder>/<key>/manifest.json`` and shards (see ``shards``). The key is a SHA-256 of contents, so a stale entry
is never found; the first and last row are computed anew, to notice code that changed under the same recipe.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from isthmus.data.encode import Source, agrees, compute, content_key, count_rows
from isthmus.data.shards import Check, Shards
from isthmus.errors import OptionError

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""
SHARD_BYTES = 64 * 2**20
_MEMORY_BYTES = 2**30
_memory: OrderedDict[str, Tensor] = OrderedDict()


def default_folder() -> Path:
    """``$ISTHMUS_CACHE``, else ``isthmus/features`` in the user's cache folder."""
    if chosen := os.environ.get("ISTHMUS_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "isthmus" / "features"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time, where the disk can lock; without a lock work may be done twice, never wrongly."""
    from filelock import FileLock

    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / ".lock"))
        except (OSError, NotImplementedError):
            pass
        yield


@contextmanager
def _reporter(progress: bool | Progress) -> Iterator[Progress]:
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda done, total: None
    else:
        from rich.progress import Progress as Bar

        with Bar(transient=True) as bar:
            task = bar.add_task("features")
            yield lambda done, total: bar.update(task, completed=done, total=total)


class FeatureCache:
    """Frozen features on disk in ``folder`` (default: ``$ISTHMUS_CACHE``, else the user's cache folder).

    Damaged files are computed again with a warning; several processes may share the folder. What cannot be written is
    kept in memory, with a warning.
    """

    def __init__(self, folder: str | Path | None = None, *, shard_bytes: int = SHARD_BYTES) -> None:
        if shard_bytes < 1:
            raise OptionError(f"shard_bytes: expected at least 1 byte, got {shard_bytes}")
        self.folder = default_folder() if folder is None else Path(folder).expanduser()
        self.shard_bytes = shard_bytes

    def encode(
        self,
        features: nn.Module,
        rows: Source,
        *,
        batch_size: int = 256,
        progress: bool | Progress = False,
        check: Check = "full",
    ) -> Tensor:
        """Features of all rows, float32 (n, D), computed or read back; memory-mapped where one shard holds them.

        ``check='full'`` compares the SHA-256 of every shard and computes the first and the last row anew; 'quick' looks
        at names, sizes and shapes only. ``progress``: True for a bar, or a function of rows done and rows in all.
        """
        if batch_size < 1:
            raise OptionError(f"batch_size: expected at least 1 row, got {batch_size}")
        if check not in ("full", "quick"):
            raise OptionError(f"check: expected 'full' or 'quick', got {check!r}")
        count, key, recipe = count_rows(rows), content_key(features, rows), getattr(features, "recipe", None)
        about = {"features": type(features).__name__ if recipe is None else recipe.name}
        dim = int(cast("int", features.dim))
        store = Shards(self.folder / key, key, count, dim, shard_bytes=self.shard_bytes, about=about)
        if store.verify(check) and (found := self._found(store, features, rows, check)) is not None:
            return found
        with _locked(store.folder), _reporter(progress) as report:
            if store.verify("full", warn=False):  # another process was faster
                return store.read()
            return self._fill(store, features, rows, batch_size, report)

    @staticmethod
    def _found(store: Shards, features: nn.Module, rows: Source, check: Check) -> Tensor | None:
        """What is stored, unless the features have come to compute other values."""
        z = store.read()
        if check == "quick" or agrees(features, rows, {0: z[0], store.rows - 1: z[-1]}):
            return z
        warnings.warn(f"feature cache {store.folder}: the features give other values now; computed again", stacklevel=3)
        store.forget()
        return None

    @staticmethod
    def _fill(store: Shards, features: nn.Module, rows: Source, batch_size: int, report: Progress) -> Tensor:
        """Compute the shards that do not count yet, writing each as it is ready."""
        store.sweep()
        if store.files:  # left by a run that was interrupted
            first = min(store.files)
            if not agrees(features, rows, {store.span(first)[0]: store.read_shard(first)[0]}):
                store.forget()
        memory: dict[int, Tensor] = {}
        finished = sum(stop - start for start, stop in map(store.span, store.files))
        report(finished, store.rows)

        def step(count: int) -> None:
            nonlocal finished
            finished += count
            report(finished, store.rows)

        for number in range(store.count):
            if number in store.files:
                continue
            z = compute(features, rows, *store.span(number), batch_size=batch_size, done=step)
            try:
                if not memory:
                    store.write(number, z)
                    continue
            except OSError as error:
                reason = error.strerror or str(error)
                warnings.warn(f"feature cache {store.folder}: {reason}; features kept in memory", stacklevel=3)
            memory[number] = z
        parts = [memory[i] if i in memory else store.read_shard(i) for i in range(store.count)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def writable(self) -> bool:
        """Whether entries can be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                return True
        except OSError:
            return False

    def clear(self) -> int:
        """Remove every entry; returns the bytes freed. Tensors read before stay valid where the system allows."""
        freed = 0
        for place in list(self.folder.glob("*")):
            if len(place.name) == 64 and set(place.name) <= set("0123456789abcdef"):
                freed += sum(path.stat().st_size for path in place.iterdir())
                shutil.rmtree(place)
        return freed


def cached(
    features: nn.Module,
    rows: Source,
    *,
    cache: FeatureCache | None = None,
    batch_size: int = 256,
    progress: bool | Progress = False,
) -> Tensor:
    """Features of all rows, float32 (n, D), from ``cache`` (default: the user's), or from memory where it cannot write.

    Memory keeps the latest results of this process, up to 1 GiB.
    """
    cache = cache or FeatureCache()
    if cache.writable():
        return cache.encode(features, rows, batch_size=batch_size, progress=progress)
    key = content_key(features, rows)
    if key not in _memory:
        with _reporter(progress) as report:
            total, finished = count_rows(rows), 0

            def step(count: int) -> None:
                nonlocal finished
                finished += count
                report(finished, total)

            _memory[key] = compute(features, rows, 0, total, batch_size=batch_size, done=step)
        while len(_memory) > 1 and sum(z.nbytes for z in _memory.values()) > _MEMORY_BYTES:
            _memory.popitem(last=False)
    _memory.move_to_end(key)
    return _memory[key].clone()
