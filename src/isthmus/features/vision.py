"""Small image encoders that are trained with the model, fast on a CPU: plain and residual convolutions, then one pool.

He et al. 2016, "Deep Residual Learning for Image Recognition". They halve the picture at once and end in a maximum over
places: "is it anywhere in the picture" is what most concepts ask.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import DataError, OptionError
from isthmus.features.images import Size, prepared
from isthmus.features.registry import Features, features_builder, positive

Pool = Literal["max", "mean", "both"]


def _conv(inner: int, outer: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two convolutions beside a 1 x 1 shortcut; the first halves the map."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.first = _conv(inner, outer, stride=2)
        self.second = nn.Sequential(nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer))
        self.short = nn.Sequential(nn.Conv2d(inner, outer, 1, 2, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.short(x))


class ConvNet(Features):
    """Convolutions, then the maximum, the mean or both over places."""

    def __init__(self, layers: list[nn.Module], channels: int, size: Size | None, pool: Pool) -> None:
        super().__init__()
        self.layers, self.size, self.pool = nn.Sequential(*layers), size, pool
        self.dim = channels * (2 if pool == "both" else 1)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def prepare(self, raw: Any) -> Tensor:
        """Pictures -> float32 (B, 3, H, W), resized to ``size`` where it is set, about -2 to 2."""
        return prepared(raw, size=self.size, mean=(127.5,) * 3, std=(64.0,) * 3)

    def forward(self, x: Tensor) -> Tensor:
        """Prepared pictures (B, 3, H, W) -> z (B, D), at least 0."""
        if x.ndim != 4 or x.shape[1] != 3:
            raise DataError(f"x: expected pictures of shape (rows, 3, height, width), got {tuple(x.shape)}; numbers take 'mlp'")
        x = self.layers(x)
        if self.pool == "both":
            return torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1)
        return x.amax((2, 3)) if self.pool == "max" else x.mean((2, 3))


def _checked(name: str, size: Size | None, pool: Pool) -> Size | None:
    if pool not in ("max", "mean", "both"):
        raise OptionError(f"{name}, pool: expected 'max', 'mean' or 'both', got {pool!r}")
    if size is None:
        return None
    if len(size) != 2:
        raise OptionError(f"{name}, size: expected (height, width) in pixels, got {tuple(size)}")
    positive(f"{name}, size", *size)
    return size[0], size[1]


@features_builder("cnn")
def cnn(*, width: int = 32, dim: int = 256, size: Size | None = None, pool: Pool = "max") -> ConvNet:
    """Four convolutions of ``width``, 2 ``width``, 4 ``width`` and ``dim`` channels; the first three halve the picture.

    ``size`` (height, width) resizes pictures; None takes them as they are, any size from 8 pixels. ``pool`` 'both'
    gives 2 ``dim`` features.
    """
    positive("cnn, width", width)
    positive("cnn, dim", dim)
    widths = (3, width, 2 * width, 4 * width)
    layers: list[nn.Module] = [_conv(widths[i], widths[i + 1], 5 if i == 0 else 3, 2) for i in range(3)]
    return ConvNet([*layers, _conv(widths[-1], dim)], dim, _checked("cnn", size, pool), pool)


@features_builder("resnet")
def resnet(*, width: int = 16, blocks: int = 2, dim: int = 256, size: Size | None = None, pool: Pool = "max") -> ConvNet:
    """A small residual network: ``blocks`` blocks between two convolutions, each halving size and doubling channels.

    Channels: ``width`` after the first convolution, ``width`` 2 ** ``blocks`` after the blocks, ``dim`` at the end.
    ``size`` (height, width) resizes pictures; None takes them as they are, any size from 2 ** (blocks + 1) pixels.
    ``pool`` 'both' gives 2 ``dim`` features.
    """
    positive("resnet, width", width)
    positive("resnet, blocks", blocks)
    positive("resnet, dim", dim)
    widths = [width * 2**i for i in range(blocks + 1)]
    layers: list[nn.Module] = [_conv(3, width, 5, 2), *(Residual(a, b) for a, b in pairwise(widths))]
    return ConvNet([*layers, _conv(widths[-1], dim)], dim, _checked("resnet", size, pool), pool)


class Cells(Features):
    """A picture cut into a grid of equal cells, each through the same small network, their features one after another."""

    def __init__(self, inner: ConvNet, grid: tuple[int, int]) -> None:
        super().__init__()
        self.inner, self.grid, self.patches = inner, grid, grid[0] * grid[1]
        self.dim = self.patches * inner.dim

    def prepare(self, raw: Any) -> Tensor:
        """As the small network prepares."""
        return self.inner.prepare(raw)

    def forward(self, x: Tensor) -> Tensor:
        """Prepared pictures (B, 3, H, W) -> z (B, J d), row by row of the grid; edges that do not fill a cell are cut."""
        rows, columns = self.grid
        high, wide = x.shape[-2] // rows, x.shape[-1] // columns
        if not (high and wide):
            raise DataError(f"cells: expected pictures of at least {rows} x {columns} pixels, got {tuple(x.shape[-2:])}")
        cells = x[..., : rows * high, : columns * wide].unfold(2, high, high).unfold(3, wide, wide)
        z = self.inner(cells.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).contiguous())
        return z.unflatten(0, (len(x), self.patches)).flatten(1)


@features_builder("cells")
def cells(*, grid: tuple[int, int] = (1, 3), width: int = 16, dim: int = 64, size: Size | None = None) -> Cells:
    """A small network on each cell of a ``grid`` (rows, columns): ``dim`` features a cell, for methods that match parts."""
    positive("cells, grid", *grid)
    return Cells(cnn(width=width, dim=dim, size=size), (int(grid[0]), int(grid[1])))
