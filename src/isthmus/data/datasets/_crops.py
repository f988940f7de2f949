"""Lazy pictures of which one box is cut out and resized to a square."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from isthmus.data.datasets._files import Layout
from isthmus.data.rows import read_image


class Crops:
    """Pictures by path, each cut to its box and resized; ``read`` gives uint8 (n, 3, size, size).

    boxes (B, 4) int: x0, y0, x1, y1 in pixels. A box may reach over the edge of its picture: what lies outside is
    black.
    """

    def __init__(self, sources: Sequence[Path], boxes: Tensor, *, size: int) -> None:
        self.sources, self.boxes, self.size = list(sources), boxes, size

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, index: Tensor) -> Crops:
        return Crops([self.sources[i] for i in index.tolist()], self.boxes[index], size=self.size)

    def read(self) -> Tensor:
        from PIL import Image

        found = torch.empty((len(self), 3, self.size, self.size), dtype=torch.uint8)
        for row, (source, box) in enumerate(zip(self.sources, self.boxes.tolist(), strict=True)):
            part = Image.fromarray(read_image(source, str(source))).crop(tuple(box))
            square = np.array(part.resize((self.size, self.size), Image.Resampling.BICUBIC))
            found[row] = torch.from_numpy(square).permute(2, 0, 1)
        return found

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr((self.size, self.boxes.tolist())).encode())
        for source in self.sources:
            digest.update(hashlib.sha256(source.read_bytes()).digest())
        return digest.hexdigest()


def all_there(files: Sequence[str], folder: Path, root: Path, layout: Layout) -> list[Path]:
    """The paths of ``files`` under ``folder``; the first that is not there is an error that names it."""
    paths = [folder / file for file in files]
    for path in paths:
        if not path.is_file():
            raise layout.missing(str(path.relative_to(root)) if path.is_relative_to(root) else str(path), root)
    return paths
