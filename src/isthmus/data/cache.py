"""Frozen features computed once: a cache on disk, keyed by how they are built, their weights and the rows.

Layout: ``<folder>/<key>/manifest.json`` and shards (see ``shards``); the key is a SHA-256 of contents, so a stale entry is
never found, and the first and last row are computed anew to notice code that changed under the same recipe.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from isthmus.data.rows import Rows, Texts
from isthmus.data.shards import FORMAT, Check, Shards
from isthmus.errors import DataError, OptionError

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""
Source = Tensor | Rows | Sequence[str] | dict[str, "Tensor | Rows"]
SHARD_BYTES = 64 * 2**20
_TOLERANCE = 2e-3  # of the largest value: above the noise between machines, below a change of preparation
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


def fingerprint(rows: Source) -> str:
    """SHA-256 (hex) of the content of rows: for a tensor its type, shape and bytes."""
    if isinstance(rows, dict):
        return hashlib.sha256("".join(f"{k}:{fingerprint(rows[k])};" for k in sorted(rows)).encode()).hexdigest()
    if isinstance(rows, Tensor):
        digest = hashlib.sha256(f"{rows.dtype}{tuple(rows.shape)}".encode())
        digest.update(rows.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()
    return rows.fingerprint() if isinstance(rows, Rows) else Texts(rows).fingerprint()


def weights_digest(module: nn.Module) -> str:
    """SHA-256 (hex) of a module's ``state_dict``: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        content = fingerprint(value) if isinstance(value, Tensor) else repr(value)
        digest.update(f"{name}={content};".encode())
    return digest.hexdigest()


def content_key(features: nn.Module, rows: Source) -> str:
    """What computed features depend on, as SHA-256 (hex): how they are built, their weights, the rows."""
    recipe = getattr(features, "recipe", None)
    how = f"{type(features).__module__}.{type(features).__qualname__} {features!r}" if recipe is None else recipe.to_json()
    return hashlib.sha256(f"{FORMAT}|{how}|{weights_digest(features)}|{fingerprint(rows)}".encode()).hexdigest()


def _take(rows: Any, index: Tensor) -> Any:
    """Raw rows at ``index``, read."""
    if isinstance(rows, dict):
        return {name: _take(part, index) for name, part in cast("dict[str, Any]", rows).items()}
    if isinstance(rows, Tensor):
        return rows[index]
    return rows.take(index).read() if isinstance(rows, Rows) else [rows[i] for i in index.tolist()]


def _count(rows: Any) -> int:
    count = len(next(iter(cast("dict[str, Any]", rows).values()))) if isinstance(rows, dict) and rows else len(rows)
    if not count:
        raise DataError("x: expected at least one row to compute features of, got none")
    return count


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {name: _move(part, device) for name, part in cast("dict[str, Any]", value).items()}
    return value.to(device) if isinstance(value, Tensor) else value


@contextmanager
def _frozen(features: nn.Module) -> Iterator[torch.device]:
    """The module in eval mode under inference mode; the modes of all its parts come back after."""
    modes = [(module, module.training) for module in features.modules()]
    device = next(features.parameters(), next(features.buffers(), torch.empty(0))).device
    features.eval()
    try:
        with torch.inference_mode():
            yield device
    finally:
        for module, training in modes:
            module.training = training


def compute(
    features: nn.Module,
    rows: Source,
    start: int,
    stop: int,
    *,
    batch_size: int = 256,
    done: Callable[[int], None] | None = None,
) -> Tensor:
    """Features of rows ``start`` to ``stop``, float32 (stop - start, D) on the CPU, without gradient.

    Halves the batch when the device runs out of memory. ``done`` is told the number of rows after each batch. Raises
    ``DataError`` for a wrong shape, and for a value that is not finite, naming the row.
    """
    dim, at = int(cast("int", features.dim)), start
    out = torch.empty(stop - start, dim)
    with _frozen(features) as device:
        while at < stop:
            index = torch.arange(at, min(at + batch_size, stop))
            try:
                z = features(_move(features.prepare(_take(rows, index)), device))  # pyright: ignore[reportCallIssue]
            except torch.OutOfMemoryError:
                if batch_size == 1:
                    raise
                batch_size = max(1, batch_size // 2)
                continue
            if tuple(z.shape) != (len(index), dim):
                raise DataError(f"features: expected shape ({len(index)}, {dim}), got {tuple(z.shape)}")
            if not bool(z.isfinite().all()):
                row = at + int((~z.isfinite()).nonzero()[0, 0])
                raise DataError(f"features of row {row}: expected finite numbers, got NaN or infinity; look at x there")
            out[at - start : at - start + len(index)] = z.float().cpu()
            at += len(index)
            if done is not None:
                done(len(index))
    return out


def _agrees(features: nn.Module, rows: Source, known: dict[int, Tensor]) -> bool:
    """Whether these rows, computed anew, still have the values (D,) that are known."""
    for row, before in known.items():
        now = compute(features, rows, row, row + 1)[0]
        if float((now - before).abs().max()) > _TOLERANCE * float(before.abs().max()) + 1e-6:
            return False
    return True


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
        count, key, recipe = _count(rows), content_key(features, rows), getattr(features, "recipe", None)
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
        if check == "quick" or _agrees(features, rows, {0: z[0], store.rows - 1: z[-1]}):
            return z
        warnings.warn(f"feature cache {store.folder}: the features compute other values now; computed again", stacklevel=3)
        store.forget()
        return None

    @staticmethod
    def _fill(store: Shards, features: nn.Module, rows: Source, batch_size: int, report: Progress) -> Tensor:
        """Compute the shards that do not count yet, writing each as it is ready."""
        store.sweep()
        if store.files:  # left by a run that was interrupted
            first = min(store.files)
            if not _agrees(features, rows, {store.span(first)[0]: store.read_shard(first)[0]}):
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
    """Features of all rows, float32 (n, D), from ``cache`` (the default one), or from memory where no folder is writable.

    Memory keeps the latest results of this process, up to 1 GiB.
    """
    cache = cache or FeatureCache()
    if cache.writable():
        return cache.encode(features, rows, batch_size=batch_size, progress=progress)
    key = content_key(features, rows)
    if key not in _memory:
        with _reporter(progress) as report:
            total, finished = _count(rows), 0

            def step(count: int) -> None:
                nonlocal finished
                finished += count
                report(finished, total)

            _memory[key] = compute(features, rows, 0, total, batch_size=batch_size, done=step)
        while len(_memory) > 1 and sum(z.nbytes for z in _memory.values()) > _MEMORY_BYTES:
            _memory.popitem(last=False)
    _memory.move_to_end(key)
    return _memory[key].clone()
