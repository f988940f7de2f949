"""Rows that are read only when they are needed: images from files or bytes, texts."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import DataError

PIXELS = 25_000_000  # a picture above 25 megapixels is refused before it is decoded
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")


@runtime_checkable
class Rows(Protocol):
    """Lazy rows of x."""

    def __len__(self) -> int: ...
    def take(self, index: Tensor) -> Self: ...
    def read(self) -> Tensor | list[str]: ...
    def fingerprint(self) -> str: ...


def read_image(source: Path | bytes, name: str, size: int | None = None) -> np.ndarray:
    """One picture as uint8 (H, W, 3); EXIF orientation applied; ``size`` makes it square (bicubic)."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            width, height = image.size
            if width * height > PIXELS:
                raise DataError(f"{name}: expected at most {PIXELS / 1e6:g} megapixels, got {width}x{height}; shrink it")
            picture = ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise DataError(f"{name}: expected an image file, found none; check the path and the folder") from error
    except (OSError, Image.DecompressionBombError, SyntaxError, EOFError) as error:
        reason = str(error).split("\n")[0][:80]
        raise DataError(f"{name}: expected a readable {'/'.join(FORMATS)} image, got {reason!r}; re-save it") from error
    if size is not None:
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.array(picture)


class Images:
    """Pictures by path or as encoded bytes; ``read`` gives uint8 (n, 3, H, W).

    ``size`` resizes every picture to a square; without it all pictures read together must have one size.
    """

    def __init__(self, sources: Sequence[Path | bytes], *, size: int | None = None) -> None:
        self.sources: list[Path | bytes] = [s if isinstance(s, bytes) else Path(s) for s in sources]
        self.size = size

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, index: Tensor) -> Images:
        return Images([self.sources[i] for i in index.tolist()], size=self.size)

    def name(self, row: int) -> str:
        source = self.sources[row]
        return f"image {row}" if isinstance(source, bytes) else str(source)

    def read(self) -> Tensor:
        """Decode all rows: uint8 (n, 3, H, W)."""
        pictures = [read_image(source, self.name(row), self.size) for row, source in enumerate(self.sources)]
        for row, picture in enumerate(pictures):
            if picture.shape != pictures[0].shape:
                first, this = (f"{p.shape[1]}x{p.shape[0]}" for p in (pictures[0], picture))
                raise DataError(f"{self.name(row)}: expected {first} like the first, got {this}; pass size= to resize all")
        if not pictures:
            return torch.empty((0, 3, self.size or 0, self.size or 0), dtype=torch.uint8)
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()

    def check(self) -> None:
        """Open every header now: a missing, unreadable or oversized picture is an error before any work is done."""
        from PIL import Image

        for row, source in enumerate(self.sources):
            try:
                with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
                    small = image.size[0] * image.size[1] <= PIXELS
            except (OSError, Image.DecompressionBombError, SyntaxError, EOFError):
                small = False
            if not small:
                read_image(source, self.name(row))  # raises the error that says why

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(self.size).encode())
        for source in self.sources:
            if isinstance(source, bytes):
                digest.update(hashlib.sha256(source).digest())
            else:
                digest.update(hashlib.sha256(source.read_bytes()).digest())
        return digest.hexdigest()


class Texts:
    """Texts; ``read`` gives them as a list."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        for row, text in enumerate(self.texts):
            if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise DataError(f"x, row {row}: expected a text, got {type(text).__name__}")

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: Tensor) -> Texts:
        return Texts([self.texts[i] for i in index.tolist()])

    def read(self) -> list[str]:
        return self.texts

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for text in self.texts:
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()
