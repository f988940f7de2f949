"""One float32 matrix on disk as safetensors shards and a JSON manifest, each file written whole or not at all.

Shards are named by number and SHA-256 and never rewritten, so a reader is safe from every writer; the manifest,
replaced whole after each shard, says which shards count. Damage is found by size, shape and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

FORMAT = 1
Check = Literal["full", "quick"]
_LITTER_AGE = 3600.0  # seconds after which a file that no manifest names is no longer somebody's work in progress


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a crash: temporary file, fsync, rename."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name[:16], suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if os.name != "nt":  # the rename itself
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Shards:
    """The matrix (rows, dim) called ``key``, in ``folder``; ``about`` stands in the manifest for people to read."""

    def __init__(self, folder: Path, key: str, rows: int, dim: int, *, shard_bytes: int, about: dict[str, Any]) -> None:
        self.folder, self.key, self.rows, self.dim, self.about = folder, key, rows, dim, about
        self.each = max(1, shard_bytes // (4 * dim))
        self.files: dict[int, str] = {}

    @property
    def count(self) -> int:
        """How many shards the matrix has."""
        return -(-self.rows // self.each)

    def span(self, number: int) -> tuple[int, int]:
        """First and past-the-last row of a shard."""
        return number * self.each, min((number + 1) * self.each, self.rows)

    def verify(self, check: Check, *, warn: bool = True) -> bool:
        """Find the shards that count; True when all do. Damage is a warning, once, and the shard does not count."""
        self.files, damage = {}, ""
        try:
            manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            expected = {"format": FORMAT, "key": self.key, "rows": self.rows, "dim": self.dim}
            if any(manifest[name] != value for name, value in expected.items()):
                raise ValueError("manifest.json describes another matrix")
            each, shards = int(manifest["rows_per_shard"]), {int(k): str(v) for k, v in manifest["shards"].items()}
            if each < 1:
                raise ValueError("rows_per_shard is below 1")
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            each, shards, damage = self.each, {}, f"manifest.json: {error}"
        self.each = each
        for number, name in shards.items():
            if reason := self._damage(number, name, check):
                damage = damage or f"{name[:100]}: {reason}"
            else:
                self.files[number] = name
        if damage and warn:
            warnings.warn(f"feature cache {self.folder}: {damage}; computed again", stacklevel=4)
        return len(self.files) == self.count

    def _damage(self, number: int, name: str, check: Check) -> str:
        """What is wrong with a shard, '' when nothing is."""
        try:
            digest, size = name.removesuffix(".safetensors").split("-")[1:]
            if name != self._name(number, digest, int(size)):
                return "not the name of a shard of this matrix"
            path = self.folder / name
            if path.stat().st_size != int(size):
                return f"expected {size} bytes, got {path.stat().st_size}"
            if check == "full":
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                        return "content does not match its SHA-256"
            start, stop = self.span(number)
            with safe_open(path, framework="pt") as file:
                part = file.get_slice("z")
                if part.get_shape() != [stop - start, self.dim] or part.get_dtype() != "F32":
                    return f"expected float32 ({stop - start}, {self.dim}), got {part.get_dtype()} {part.get_shape()}"
                if (file.metadata() or {}).get("key") != self.key:
                    return "belongs to another matrix"
        except (OSError, ValueError, SafetensorError) as error:
            return " ".join(str(error).split())[:120] or type(error).__name__
        return ""

    @staticmethod
    def _name(number: int, digest: str, size: int) -> str:
        return f"{number:05d}-{digest}-{size}.safetensors"

    def read(self) -> Tensor:
        """The matrix, float32 (rows, dim): memory-mapped when it is one shard, else put together in memory."""
        parts = [self.read_shard(number) for number in range(self.count)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def read_shard(self, number: int) -> Tensor:
        """One shard that counts, memory-mapped; writing into it does not reach the file."""
        with safe_open(self.folder / self.files[number], framework="pt") as file:
            return file.get_tensor("z")

    def write(self, number: int, z: Tensor) -> None:
        """Write a shard and the manifest that names it; ``OSError`` when the disk says no."""
        content = save({"z": z.contiguous()}, metadata={"key": self.key})
        name = self._name(number, hashlib.sha256(content).hexdigest(), len(content))
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / name, content)
        files = {**self.files, number: name}
        manifest = {
            "format": FORMAT, "key": self.key, "rows": self.rows, "dim": self.dim, "rows_per_shard": self.each,
            "shards": {str(i): files[i] for i in sorted(files)}, "torch": torch.__version__, **self.about,
        }  # fmt: skip
        write_whole(self.folder / "manifest.json", json.dumps(manifest, indent=1).encode())
        self.files = files

    def forget(self) -> None:
        """No shard counts any longer."""
        self.files = {}
        (self.folder / "manifest.json").unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove temporary files and shards that no manifest names, once they are an hour old."""
        for path in self.folder.glob("*"):
            if path.suffix in (".tmp", ".safetensors") and path.name not in self.files.values():
                try:
                    if time.time() - path.stat().st_mtime > _LITTER_AGE:
                        path.unlink()
                except OSError:
                    continue
