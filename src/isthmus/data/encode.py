"""Features of many rows: computed in batches, and the key that says what they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from isthmus.data.rows import Rows, Texts
from isthmus.data.shards import FORMAT
from isthmus.errors import DataError
from isthmus.given import moved

Source = Tensor | Rows | Sequence[str] | dict[str, "Tensor | Rows"]
_TOLERANCE = 2e-3  # of the largest value: above the noise between machines, below a change of preparation


def fingerprint(rows: Source) -> str:
    """SHA-256 (hex) of the content of rows: for a tensor its type, shape and bytes."""
    if isinstance(rows, dict):
        return hashlib.sha256("".join(f"{k}:{fingerprint(rows[k])};" for k in sorted(rows)).encode()).hexdigest()
    if isinstance(rows, Tensor):
        digest = hashlib.sha256(f"{rows.dtype}{tuple(rows.shape)}".encode())
        digest.update(rows.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()
    return rows.fingerprint() if isinstance(rows, Rows) else Texts(rows).fingerprint()


def identity(*tables: Any, files: bool = True) -> str:
    """SHA-256 (hex) of tables' rows, concept labels and task labels: where it is equal, a fit on them would be.

    ``files=False`` leaves out rows that would have to be read from files first.
    """
    parts = [x for table in tables for x in (table.x, table.c, table.y) if files or isinstance(x, Tensor)]
    return hashlib.sha256(";".join("none" if x is None else fingerprint(x) for x in parts).encode()).hexdigest()


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
    kind = type(features)
    how = f"{kind.__module__}.{kind.__qualname__} {features!r}" if recipe is None else recipe.to_json()
    return hashlib.sha256(f"{FORMAT}|{how}|{weights_digest(features)}|{fingerprint(rows)}".encode()).hexdigest()


def _take(rows: Any, index: Tensor) -> Any:
    """Raw rows at ``index``, read."""
    if isinstance(rows, dict):
        return {name: _take(part, index) for name, part in cast("dict[str, Any]", rows).items()}
    if isinstance(rows, Tensor):
        return rows[index]
    return rows.take(index).read() if isinstance(rows, Rows) else [rows[i] for i in index.tolist()]


def count_rows(rows: Any) -> int:
    """How many rows there are; none is a ``DataError``."""
    count = len(next(iter(cast("dict[str, Any]", rows).values()))) if isinstance(rows, dict) and rows else len(rows)
    if not count:
        raise DataError("x: expected at least one row to compute features of, got none")
    return count


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
                z = features(moved(features.prepare(_take(rows, index)), device))  # pyright: ignore[reportCallIssue]
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


def agrees(features: nn.Module, rows: Source, known: dict[int, Tensor]) -> bool:
    """Whether these rows, computed anew, still have the values (D,) that are known."""
    for row, before in known.items():
        now = compute(features, rows, row, row + 1)[0]
        if float((now - before).abs().max()) > _TOLERANCE * float(before.abs().max()) + 1e-6:
            return False
    return True
