"""Files that are whole or absent: atomic writes, digests, and the folder of an unfinished fit."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

from isthmus.errors import IntegrityError


def digest(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, whole or not at all."""
    write(path, (json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n").encode())


class CheckpointFolder:
    """Where an unfinished fit keeps its stages: one safetensors file a stage, numbers in its header.

    ``key`` says what is being fitted; a folder that holds another fit is refused, never overwritten.
    """

    def __init__(self, folder: str | Path, key: str = "") -> None:
        self.folder, self.key = Path(folder), key

    def path(self, stage: int) -> Path:
        return self.folder / f"stage-{stage}.safetensors"

    def load(self, stage: int) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The stage's tensors and numbers, None when it has not begun."""
        from safetensors import SafetensorError, safe_open

        path = self.path(stage)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                numbers: dict[str, Any] = json.loads(file.metadata()["numbers"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise IntegrityError(f"{path}: expected a checkpoint, got a damaged file ({error}); delete it") from error
        if numbers["key"] != self.key:
            raise IntegrityError(f"{path}: holds the checkpoint of another fit; choose another folder or delete this one")
        return tensors, numbers

    def save(self, stage: int, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        from safetensors.torch import save

        packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write(self.path(stage), save(packed, {"numbers": json.dumps({**numbers, "key": self.key})}))
