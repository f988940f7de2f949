"""Images and Texts: read when needed; what is missing, damaged or too large is named before anything is decoded."""

from __future__ import annotations

import io
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from isthmus.data import Images, Texts
from isthmus.data.rows import PIXELS, Rows, check_image, read_image
from isthmus.errors import DataError

RED = (200, 10, 30)


def encoded(width: int = 6, height: int = 4, kind: str = "PNG", colour: object = RED, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), colour).save(buffer, kind)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def header_only(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds one empty data chunk: a bomb that weighs 70 bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def one_line(error: pytest.ExceptionInfo[DataError], *words: str) -> None:
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_reading_gives_bytes_by_channel(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    rows = Images([tmp_path / "a.png", encoded(colour=(0, 255, 0))])
    read = rows.read()
    assert (read.shape, read.dtype) == ((2, 3, 4, 6), torch.uint8)
    assert read[0, :, 0, 0].tolist() == list(RED)
    assert rows.take(torch.tensor([1])).read()[0, :, 0, 0].tolist() == [0, 255, 0]
    assert isinstance(rows, Rows)


def test_paths_may_be_texts(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    assert Images([str(tmp_path / "a.png")]).read().shape == (1, 3, 4, 6)  # pyright: ignore[reportArgumentType]


def test_no_rows_read_as_an_empty_batch() -> None:
    assert Images([], size=8).read().shape == (0, 3, 8, 8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_format_that_is_promised_is_read(kind: str) -> None:
    pixel = read_image(encoded(kind=kind), "x")[1, 1]
    assert np.abs(pixel.astype(int) - RED).max() < 12


def test_another_format_is_refused() -> None:
    with pytest.raises(DataError) as error:
        read_image(encoded(kind="PPM"), "scan.ppm")
    one_line(error, "scan.ppm", "PNG")


@pytest.mark.parametrize(("mode", "colour"), [("L", 90), ("RGBA", (90, 90, 90, 255)), ("P", 0), ("CMYK", 0), ("1", 1)])
def test_other_modes_become_three_channels(mode: str, colour: object) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    assert read_image(encoded(kind=kind, mode=mode, colour=colour), "x").shape == (4, 6, 3)


def test_sixteen_bit_grey_is_scaled_and_not_clipped_to_white() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 0x4000], [0x8000, 0xFFFF]], dtype=np.uint16)).save(buffer, "PNG")
    assert read_image(buffer.getvalue(), "x")[..., 0].tolist() == [[0, 64], [128, 255]]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_of_no_known_range_are_refused(mode: str) -> None:
    with pytest.raises(DataError) as error:
        read_image(encoded(kind="TIFF", mode=mode, colour=3), "depth.tiff")
    one_line(error, "depth.tiff", "8 or 16 bits")


def test_size_makes_squares_of_differing_pictures() -> None:
    rows = Images([encoded(6, 4), encoded(3, 9)], size=5)
    assert rows.read().shape == (2, 3, 5, 5)
    assert rows.take(torch.tensor([0])).size == 5


def test_differing_sizes_without_size_name_the_second_picture() -> None:
    with pytest.raises(DataError) as error:
        Images([encoded(6, 4), encoded(6, 4), encoded(3, 9)]).read()
    one_line(error, "image 2", "6x4", "3x9", "size=")


@pytest.mark.parametrize("size", [0, -3, 2.5, True, "128"])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    with pytest.raises(DataError, match="size"):
        Images([encoded()], size=size)  # pyright: ignore[reportArgumentType]


def test_exif_orientation_is_applied() -> None:
    array = np.zeros((4, 6, 3), np.uint8)
    array[:, :3] = RED  # left half
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # the camera was turned: shown, the left side is on top
    Image.fromarray(array).save(buffer, "PNG", exif=exif)
    turned = read_image(buffer.getvalue(), "x")
    assert turned.shape == (6, 4, 3)
    assert turned[:3].reshape(-1, 3).tolist() == [list(RED)] * 12
    assert not turned[3:].any()


@pytest.mark.parametrize(("width", "height"), [(5001, 5000), (12_000, 10_000), (60_000, 60_000)])
def test_a_bomb_is_refused_by_its_header_at_once(width: int, height: int) -> None:
    bomb = header_only(width, height)
    read_image(encoded(), "warm")
    start = time.perf_counter()
    for look in (check_image, read_image):
        with pytest.raises(DataError) as error:
            look(bomb, "bomb.png")
        one_line(error, "bomb.png", "25 megapixels", "shrink")
    assert time.perf_counter() - start < 0.1


def test_twenty_five_megapixels_pass_the_header_check() -> None:
    assert PIXELS == 25_000_000
    check_image(header_only(5000, 5000), "large.png")


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "good.png").write_bytes(encoded())
    for name, words in {
        "gone.png": ("found none",),
        "text.png": ("readable", "re-save"),
        "empty.png": ("readable",),
        "folder.png": ("readable",),
    }.items():
        rows = Images([tmp_path / "good.png", tmp_path / name])
        for act in (rows.check, rows.read):
            with pytest.raises(DataError) as error:
                act()
            one_line(error, str(tmp_path / name), *words)


def test_a_picture_cut_short_is_named_when_it_is_read() -> None:
    whole = encoded(64, 64, colour=None, kind="JPEG", mode="RGB")
    with pytest.raises(DataError) as error:
        read_image(whole[: len(whole) // 2], "cut.jpg")
    one_line(error, "cut.jpg", "readable")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_picture_is_read_or_refused_by_our_error(kind: str, damage: list[tuple[float, int]]) -> None:
    data = bytearray(encoded(kind=kind))
    for place, value in damage:
        data[int(place * len(data))] = value
    message, picture = "", None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            picture = read_image(bytes(data), "damaged")
        except DataError as error:
            message = str(error)
    if picture is None:
        assert message.startswith("damaged: expected")
        assert "\n" not in message
    else:
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3


def test_what_is_no_source_is_named() -> None:
    with pytest.raises(DataError, match=r"row 1: expected the path or bytes.*int"):
        Images([encoded(), 3])  # pyright: ignore[reportArgumentType]


def test_fingerprints_follow_the_pixels_and_the_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    by_path, by_bytes = Images([tmp_path / "a.png"]), Images([encoded()])
    assert by_path.fingerprint() == by_bytes.fingerprint()
    assert len({by_path.fingerprint(), Images([encoded(7)]).fingerprint(), Images([encoded()], size=4).fingerprint()}) == 3
    with pytest.raises(DataError, match=r"gone\.png"):
        Images([tmp_path / "gone.png"]).fingerprint()


def test_texts_are_read_taken_and_fingerprinted() -> None:
    rows = Texts(["one", "", "drei \ud800"])
    assert (len(rows), rows.read()[1]) == (3, "")
    assert rows.take(torch.tensor([2, 0])).read() == ["drei \ud800", "one"]
    assert Texts(["ab", "c"]).fingerprint() != Texts(["a", "bc"]).fingerprint()
    assert rows.fingerprint() == Texts(rows.read()).fingerprint()
    assert isinstance(rows, Rows)


@pytest.mark.parametrize(("texts", "words"), [(["a", None], "row 1"), ("abc", "list of texts"), (["a", 3], "row 1")])
def test_what_is_no_text_is_named(texts: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Texts(texts)
