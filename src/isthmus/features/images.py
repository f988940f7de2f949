"""Pictures as tensors: uint8 tensors, arrays and PIL images to one float32 batch, resized and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import DataError

Size = tuple[int, int]  # height, width in pixels


def picture(raw: Any, row: int) -> Tensor:
    """One picture as uint8 (3, H, W): a uint8 tensor (1 or 3, H, W), an array (H, W) or (H, W, 1, 3 or 4), or PIL."""
    if hasattr(raw, "convert"):  # PIL
        raw = np.array(raw.convert("RGB"))
    if isinstance(raw, np.ndarray):
        array = cast("np.ndarray[Any, np.dtype[Any]]", raw)
        array = array[..., None] if array.ndim == 2 else array
        if array.ndim != 3:
            raise DataError(f"image {row}: expected an array of shape (height, width, 3), got {array.shape}")
        raw = torch.from_numpy(np.ascontiguousarray(array[..., :3])).permute(2, 0, 1)
    if not isinstance(raw, Tensor):
        raise DataError(f"image {row}: expected a uint8 tensor, an array or a PIL image, got {type(raw).__name__}")
    if raw.dtype != torch.uint8 or raw.ndim != 3 or raw.shape[0] not in (1, 3):
        got = f"{raw.dtype} {tuple(raw.shape)}"
        raise DataError(f"image {row}: expected uint8 of shape (3, height, width), got {got}; values run from 0 to 255")
    return raw.expand(3, -1, -1)


def resized(image: Tensor, size: Size) -> Tensor:
    """uint8 (3, H, W) -> uint8 (3, *size), bicubic as Pillow does it."""
    if tuple(image.shape[1:]) == size:
        return image
    from PIL import Image

    source = Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())
    return torch.from_numpy(np.array(source.resize((size[1], size[0]), Image.Resampling.BICUBIC))).permute(2, 0, 1)


def pictures(raw: Any, size: Size | None = None) -> Tensor:
    """Pictures as uint8 (B, 3, H, W), resized to ``size`` (height, width) where they differ from it.

    raw: a uint8 tensor (B, 1 or 3, H, W), an array (B, H, W, 3), or a list of tensors, arrays or PIL images. Without
    ``size`` all must be equally large. ``DataError`` names the first row that does not fit.
    """
    if isinstance(raw, Tensor) and raw.ndim == 4:
        same = raw.dtype == torch.uint8 and raw.shape[1] in (1, 3)
        if same and (size is None or tuple(raw.shape[2:]) == size):
            return raw.expand(-1, 3, -1, -1)
    if not isinstance(raw, Sequence) and getattr(raw, "ndim", 0) != 4:
        raise DataError(f"x: expected pictures (rows, 3, height, width) or a list of pictures, got {_shape(raw)}")
    rows = [picture(each, row) for row, each in enumerate(cast("Sequence[Any]", raw))]
    if size is not None:
        rows = [resized(each, size) for each in rows]
    for row, each in enumerate(rows):
        if each.shape != rows[0].shape:
            want, got = ("x".join(map(str, s.shape[1:])) for s in (rows[0], each))
            raise DataError(f"image {row}: expected {want} pixels like the first, got {got}; build with size=")
    return torch.stack(rows) if rows else torch.empty((0, 3, *(size or (0, 0))), dtype=torch.uint8)


def prepared(raw: Any, *, size: Size | None, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pictures -> float32 (B, 3, H, W), each channel (v - mean) / std with mean and std in units of 0 to 255.

    A float tensor (B, 3, H, W) is taken as prepared already.
    """
    if isinstance(raw, Tensor) and raw.is_floating_point():
        if raw.ndim != 4 or raw.shape[1] != 3:
            raise DataError(f"x: expected prepared pictures of shape (rows, 3, height, width), got {_shape(raw)}")
        return raw.float()
    x = pictures(raw, size).to(torch.float32, memory_format=torch.channels_last)
    if len(set(mean)) == len(set(std)) == 1:
        return x.sub_(mean[0]).div_(std[0])
    at = x.new_tensor([list(mean), list(std)]).view(2, 3, 1, 1)
    return x.sub_(at[0]).div_(at[1])


def _shape(raw: Any) -> str:
    return f"{type(raw).__name__} {tuple(raw.shape)}" if hasattr(raw, "shape") else type(raw).__name__
