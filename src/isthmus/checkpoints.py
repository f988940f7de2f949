"""The folder of an unfinished fit: an interrupted one goes on bit for bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isthmus.errors import IntegrityError
from isthmus.files import write
from isthmus.train import State


class CheckpointFolder:
    """Where an unfinished fit keeps its stages: one safetensors file a stage, numbers in its header.

    ``key`` says what is being fitted; a folder that holds another fit is refused, never overwritten.
    """

    def __init__(self, folder: str | Path, key: str = "") -> None:
        self.folder, self.key = Path(folder), key

    def path(self, stage: int) -> Path:
        return self.folder / f"stage-{stage}.safetensors"

    def load(self, stage: int, state: State) -> int:
        """Fill the state from the stage's file; returns the epoch to go on from, 0 when the stage has not begun."""
        from safetensors import SafetensorError, safe_open

        path = self.path(stage)
        if not path.exists():
            return 0
        try:
            with safe_open(path, framework="pt") as file:
                numbers: dict[str, Any] = json.loads(file.metadata()["numbers"])
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise IntegrityError(f"{path}: expected a checkpoint, got a damaged file ({error}); delete it") from error
        if numbers["key"] != self.key:
            raise IntegrityError(f"{path}: holds the checkpoint of another fit; choose another folder or delete this one")
        _unpack(state, tensors)
        state.lowest, state.stale = math.inf if numbers["lowest"] is None else numbers["lowest"], numbers["stale"]
        return int(numbers["epoch"])

    def save(self, stage: int, state: State, epoch: int) -> None:
        """Write the state after ``epoch`` epochs, with torch's random state, so that a resumed fit is bit for bit."""
        from safetensors.torch import save

        packed = {name: tensor.detach().cpu().contiguous() for name, tensor in _pack(state).items()}
        lowest = None if math.isinf(state.lowest) else state.lowest
        numbers = {"epoch": epoch, "lowest": lowest, "stale": state.stale, "key": self.key}
        write(self.path(stage), save(packed, {"numbers": json.dumps(numbers)}))


def _pack(state: State) -> dict[str, Tensor]:
    tensors = {f"now.{name}": tensor for name, tensor in state.modules.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in (state.best or {}).items()} | {"rng": torch.get_rng_state()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{key}": value for key, value in moments.items()}
    return tensors


def _unpack(state: State, tensors: dict[str, Tensor]) -> None:
    def part(start: str) -> dict[str, Tensor]:
        return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}

    state.modules.load_state_dict(part("now."))
    state.best = part("best.") or None
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in part("adam.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": moments})
    torch.set_rng_state(tensors["rng"])
