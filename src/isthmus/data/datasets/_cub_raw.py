"""The text files of CUB-200-2011 as arrays, each line checked; Wah et al. 2011."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np

from isthmus.data.datasets._birds import PARTS
from isthmus.data.datasets._files import Array, Layout, find, read_fields
from isthmus.errors import DataError

LAYOUT = Layout(
    name="cub",
    folder="CUB_200_2011",
    link="https://data.caltech.edu/records/65de6-vp158",
    files=(
        "images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt",
        "images/<species>/<picture>.jpg", "attributes/attributes.txt", "attributes/image_attribute_labels.txt",
        "attributes/certainties.txt", "parts/part_locs.txt",
    ),
)  # fmt: skip
LABELS = "attributes/image_attribute_labels.txt"
T = TypeVar("T")
CERTAINTIES = ("not visible", "guessing", "probably", "definitely")


@dataclass(frozen=True)
class Cub:
    """Rows in the order of images.txt: B pictures, A attributes, Y species.

    files (B,) under images/; y (B,) int64 from 0; train (B,) bool, the official part; species (Y,) and attributes (A,)
    names; present (B, A) int8 in {0, 1}; certainty (B, A) int8 from 1, not visible, to 4, definitely.
    """

    root: Path
    ids: Array
    files: tuple[str, ...]
    y: Array
    train: Array
    species: tuple[str, ...]
    attributes: tuple[str, ...]
    present: Array
    certainty: Array


def read_cub(root: Path) -> Cub:
    """Everything that the concept labels need."""
    images = read_fields(find(root, LAYOUT, "images.txt"), "cub", "<image id> <file>", least=2, most=2)
    ids = _whole([row[0] for row in images], root / "images.txt")
    if len(set(ids.tolist())) < len(ids):
        raise DataError(f"cub: {root / 'images.txt'}: expected each image id once, got {len(ids)} lines with repeats")
    y = _by_image(root, "image_class_labels.txt", ids) - 1
    train = _by_image(root, "train_test_split.txt", ids) == 1
    names = read_fields(
        find(root, LAYOUT, "attributes/attributes.txt", "attributes.txt", "../attributes.txt"),
        "cub", "<attribute id> <name>", least=2, most=2,
    )  # fmt: skip
    files = tuple(row[1] for row in images)
    species = _species(root, files, y)
    _check_certainties(root)
    present, certainty = _labels(find(root, LAYOUT, LABELS), ids, len(names))
    return Cub(root, ids, files, y, train, species, tuple(row[1] for row in names), present, certainty)


def read_boxes(root: Path, ids: Array) -> Array:
    """(B, 4) float32: the bird's box x0, y0, x1, y1 in pixels of the picture."""
    place = find(root, LAYOUT, "bounding_boxes.txt")
    rows = read_fields(place, "cub", "<image id> <x> <y> <width> <height>", least=5, most=5)
    keys = _whole([row[0] for row in rows], place)
    found = {int(key): _numbers(row[1:], place) for key, row in zip(keys, rows, strict=True)}
    boxes = np.array([_of(found, int(image), place) for image in ids], dtype=np.float32)
    if (boxes[:, 2:] <= 0).any():
        image = ids[int((boxes[:, 2:] <= 0).any(1).argmax())]
        raise DataError(f"cub: {place}: expected a width and height above 0 for image {image}; fetch the file again")
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def read_parts(root: Path, ids: Array) -> Array:
    """(B, 15, 3) float32: x, y in pixels of the picture, and 1 if the part is visible, else 0."""
    place = find(root, LAYOUT, "parts/part_locs.txt")
    rows = read_fields(place, "cub", "<image id> <part id> <x> <y> <visible>", least=5, most=5)
    keys = np.stack([_whole([row[column] for row in rows], place) for column in (0, 1)], 1).tolist()
    at = {int(image): row for row, image in enumerate(ids)}
    parts = np.full((len(ids), len(PARTS), 3), np.nan, dtype=np.float32)
    for row, (image, part) in zip(rows, keys, strict=True):
        if image not in at or not 1 <= part <= len(PARTS):
            raise DataError(f"cub: {place}: expected a known image and part 1 to {len(PARTS)}, got {' '.join(row[:2])}")
        parts[at[image], part - 1] = _numbers(row[2:], place)
    if np.isnan(parts).any():
        image, part = np.argwhere(np.isnan(parts[..., 0]))[0]
        raise DataError(f"cub: {place}: expected {len(PARTS)} parts for every image, got none of {ids[image]}, {part + 1}")
    return parts


def _labels(place: Path, ids: Array, attributes: int) -> tuple[Array, Array]:
    """present and certainty (B, A). Some official lines have a sixth column: only the first four are read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file: refused below, with its name
            table = np.loadtxt(place, dtype=np.int32, usecols=(0, 1, 2, 3), ndmin=2, comments=None, encoding="utf-8")
    except (ValueError, OverflowError):
        _name_bad_line(place)
    if not table.size:
        _name_bad_line(place)
    image, attribute, present, certainty = table.T
    order = np.argsort(ids)
    row = order[np.searchsorted(ids, image, sorter=order).clip(max=len(ids) - 1)]
    wrong = (ids[row] != image) | (attribute < 1) | (attribute > attributes) | (present < 0) | (present > 1)
    wrong |= (certainty < 1) | (certainty > 4)
    if wrong.any():
        _name_bad_line(place, set(ids.tolist()), attributes)
    found = np.full((2, len(ids), attributes), -1, dtype=np.int8)
    found[0, row, attribute - 1] = present
    found[1, row, attribute - 1] = certainty
    if (found < 0).any() or len(table) != len(ids) * attributes:
        gaps = np.argwhere(found[0] < 0)
        what = f"none for image {ids[gaps[0][0]]}, attribute {gaps[0][1] + 1}" if len(gaps) else f"{len(table)} lines"
        raise DataError(f"cub: {place}: expected one line for each of {len(ids)} x {attributes} labels, got {what}")
    return found[0], found[1]


def _name_bad_line(place: Path, images: set[int] | None = None, attributes: int = 0) -> NoReturn:
    """Raise for the first line that is not a label; slow, and only run when there is one."""
    wanted = "'<image id> <attribute id> <0 or 1> <certainty 1 to 4> <seconds>'"
    for number, line in enumerate(place.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        fields = line.split()[:4]
        good = len(fields) == 4 and all(field.isascii() and field.isdigit() for field in fields)
        if good and images is not None:
            image, attribute, present, certainty = map(int, fields)
            good = image in images and 1 <= attribute <= attributes and present < 2 and 1 <= certainty <= 4
        if not good and fields:
            raise DataError(f"cub: {place}, line {number}: expected {wanted} of a known image, got {line.strip()[:60]!r}")
    raise DataError(f"cub: {place}: expected lines {wanted}, got a file without them; fetch it again")


def _check_certainties(root: Path) -> None:
    """The meaning of the certainty codes is built in: a file that says otherwise is refused."""
    place = find(root, LAYOUT, "attributes/certainties.txt")
    rows = read_fields(place, "cub", "<certainty id> <name>", least=2)
    said = [(row[0], " ".join(row[1:])) for row in rows]
    wanted = [(str(i), name) for i, name in enumerate(CERTAINTIES, 1)]
    if said != wanted:
        raise DataError(f"cub: {place}: expected {wanted}, got {said[:5]}")


def _species(root: Path, files: tuple[str, ...], y: Array) -> tuple[str, ...]:
    """Names by class id: classes.txt, or without it the folder of each class's first picture."""
    if (root / "classes.txt").exists():
        rows = read_fields(root / "classes.txt", "cub", "<class id> <name>", least=2, most=2)
        keys = _whole([row[0] for row in rows], root / "classes.txt") - 1
        names = {int(key): row[1] for key, row in zip(keys, rows, strict=True)}
    else:
        names = {int(cls): file.split("/")[0] for file, cls in zip(reversed(files), y[::-1], strict=True)}
    top = max(int(y.max()) + 1, len(names))
    lacking = [cls + 1 for cls in range(top) if cls not in names]
    if lacking or y.min() < 0:
        raise DataError(f"cub: {root}: expected class ids from 1 without a gap, got no name for {lacking[:3] or 'id 0'}")
    return tuple(names[cls].split(".", 1)[-1] for cls in range(top))


def _by_image(root: Path, file: str, ids: Array) -> Array:
    """(B,) the number that ``file`` gives each image, in the order of ``ids``."""
    place = find(root, LAYOUT, file)
    rows = read_fields(place, "cub", "<image id> <number>", least=2, most=2)
    keys, values = (_whole([row[column] for row in rows], place) for column in (0, 1))
    found = dict(zip(keys.tolist(), values.tolist(), strict=True))
    return np.array([_of(found, int(image), place) for image in ids], dtype=np.int64)


def _of(found: dict[int, T], image: int, place: Path) -> T:
    if image not in found:
        raise DataError(f"cub: {place}: expected a line for every image of images.txt, got none for image {image}")
    return found[image]


def _whole(cells: list[str], place: Path) -> Array:
    for number, cell in enumerate(cells, 1):
        if not (cell.isascii() and cell.isdigit()):
            raise DataError(f"cub: {place}, row {number}: expected a whole number, got {cell[:30]!r}")
    return np.array([int(cell) for cell in cells], dtype=np.int64)


def _numbers(cells: list[str], place: Path) -> list[float]:
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        raise DataError(f"cub: {place}: expected finite numbers, got {' '.join(cells)[:60]!r}")
    return values
