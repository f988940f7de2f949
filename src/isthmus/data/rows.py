"""Rows that are read only when they are needed: images from files or bytes, texts."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

PIXELS = 25_000_000  # a picture above 25 megapixels is refused before it is decoded
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")


@runtime_checkable
class Rows(Protocol):
    """Lazy rows of x."""

    def __len__(self) -> int: ...
    def take(self, index: Tensor) -> Self: ...
    def read(self) -> Tensor | list[str]: ...
    def fingerprint(self) -> str: ...


@contextmanager
def opened(source: Path | bytes, name: str) -> Iterator[Image.Image]:
    """The picture with its header read and its size checked; what goes wrong inside is a ``DataError`` naming it."""
    from PIL import Image, UnidentifiedImageError

    limit = f"{name}: expected at most {PIXELS / 1e6:g} megapixels"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a decoder's remarks on damaged metadata; damage to the pixels raises
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
                width, height = image.size
                if width * height > PIXELS:
                    raise DataError(f"{limit}, got {width}x{height}; shrink it")
                yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: expected an image file, found none; check the path and the folder") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{limit}, got more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f}; shrink it") from error
    except Exception as error:  # a decoder may raise anything on a damaged file
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "an unknown or damaged format" if unknown else " ".join(str(error).split())[:80]
        raise DataError(f"{name}: expected a readable {'/'.join(FORMATS)} image, got {reason!r}; re-save it") from error


def check_image(source: Path | bytes, name: str) -> None:
    """Read the header only: a missing, unreadable or oversized picture is an error naming it."""
    with opened(source, name):
        pass


def read_image(source: Path | bytes, name: str, size: int | None = None) -> np.ndarray:
    """One picture as uint8 (H, W, 3); EXIF orientation applied; ``size`` makes it square (bicubic).

    16-bit greyscale is scaled to 8 bits; 32-bit and floating-point pictures have no known range and are refused.
    """
    from PIL import Image, ImageOps

    with opened(source, name) as image:
        picture = ImageOps.exif_transpose(image)
        if picture.mode in ("I", "F"):
            raise DataError(f"{name}: expected 8 or 16 bits a channel, got 32-bit pixels; scale them to 0-255 and re-save")
        if picture.mode.startswith("I;16"):  # a plain conversion would clip at 255 and paint the picture white
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        picture = picture.convert("RGB")
        if size is not None:
            picture = picture.resize((size, size), Image.Resampling.BICUBIC)
        return np.array(picture)


class Images:
    """Pictures by path or as encoded bytes; ``read`` gives uint8 (n, 3, H, W).

    ``size`` resizes every picture to a square; without it all pictures read together must have one size.
    """

    def __init__(self, sources: Sequence[Path | bytes], *, size: int | None = None) -> None:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(f"images: expected size, a side in pixels of at least 1, got {size!r}")
        for row, source in enumerate(sources):
            if not isinstance(source, bytes | str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise DataError(f"x, row {row}: expected the path or bytes of an image, got {type(source).__name__}")
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
        for row, source in enumerate(self.sources):
            check_image(source, self.name(row))

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(self.size).encode())
        for row, source in enumerate(self.sources):
            try:
                data = source if isinstance(source, bytes) else source.read_bytes()
            except OSError as error:
                raise DataError(f"{self.name(row)}: expected a readable image file, got {error.strerror}") from error
            digest.update(hashlib.sha256(data).digest())
        return digest.hexdigest()


class Texts:
    """Texts; ``read`` gives them as a list."""

    def __init__(self, texts: Sequence[str]) -> None:
        if isinstance(texts, str):
            raise DataError("x: expected a list of texts, got one text; put it into a list")
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
            data = text.encode(errors="surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()
