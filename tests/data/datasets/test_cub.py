"""CUB from its raw layout: labels, attributes, invisible rules, places, and what is said when a file is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isthmus.data as data
from isthmus.data.datasets._birds import CANONICAL, SOFT, vote
from isthmus.data.table import Splits, Table
from isthmus.errors import DataError, OptionError

# labels are drawn at random over three species: some concept is the same for all of them
pytestmark = pytest.mark.filterwarnings("ignore:concept .* in train:UserWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "CUB_200_2011"


def _rows(splits: Splits) -> dict[str, tuple[Table, int]]:
    """Each row by the name of its file."""
    parts = (splits.train, splits.validation, splits.test)
    return {name: (part, i) for part in parts for i, name in enumerate(part.ids or ())}


def _at(name: str, each: int = 7) -> int:
    """Row of images.txt of a file Bird_<class>_<number>."""
    cls, number = name.split("/")[1].removeprefix("Bird_").removesuffix(".png").split("_")
    return int(cls) * each + int(number)


def test_canonical_class_labels_are_the_vote_of_train_rows(folder: Path, raw: Any) -> None:
    present, certainty, y = raw.cub(folder)
    splits = data.load("cub", path=folder.parent, size=16)  # the folder around it serves as well
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 3, 6)
    assert splits.space.names == tuple(f"has_{('wing_color', 'bill_shape', 'size')[a % 3]}::value_{a}" for a in CANONICAL)
    assert splits.task.names == ("Bird_0", "Bird_1", "Bird_2")
    voters = [_at(name) for name in splits.train.ids or ()]
    wanted = vote(present[voters], certainty[voters], y[voters], 3)[:, list(CANONICAL)]
    for part in (splits.train, splits.validation, splits.test):
        assert part.c is not None
        assert part.y is not None
        assert torch.equal(part.c, torch.from_numpy(wanted[part.y.numpy()]).float())
    # the validation rows had no say
    everyone = vote(present, certainty, y, 3)[:, list(CANONICAL)]
    assert not np.array_equal(everyone, wanted)
    pixels = splits.test.read()
    assert pixels.shape == (6, 3, 16, 16)
    assert splits.test.ids is not None
    assert pixels[0, 0, 0, 0] == _at(splits.test.ids[0])


def test_official_test_rows_are_never_used_before(folder: Path, raw: Any) -> None:
    raw.cub(folder)
    for seed in (0, 1):
        splits = data.load("cub", path=folder, seed=seed)
        assert {_at(name) % 7 for name in splits.test.ids or ()} == {5, 6}
    other = data.load("cub", path=folder, seed=0)
    assert other.train.ids != splits.train.ids
    assert other.train.ids == data.load("cub", path=folder, seed=0).train.ids


def test_tie_rule_changes_labels(folder: Path, raw: Any) -> None:
    raw.cub(folder)
    one, zero = (data.load("cub", path=folder, attributes="all", tie=tie).train.c for tie in ("one", "zero"))
    assert one is not None
    assert zero is not None
    assert bool((one >= zero).all())
    assert bool((one > zero).any())


def test_instance_and_soft_labels(folder: Path, raw: Any) -> None:
    present, certainty, _ = raw.cub(folder, attributes=9)
    instance, soft = (_rows(data.load("cub", path=folder, attributes="all", labels=kind)) for kind in ("instance", "soft"))
    for name, (part, i) in instance.items():
        assert part.c is not None
        assert part.c[i].tolist() == present[_at(name)].tolist()
    for name, (part, i) in soft.items():
        assert part.c is not None
        row = _at(name)
        assert part.c[i].tolist() == SOFT[present[row], certainty[row] - 1].tolist()


def test_invisible_rules(folder: Path, raw: Any) -> None:
    _, certainty, _ = raw.cub(folder, attributes=9)
    kept = _rows(data.load("cub", path=folder, attributes="all"))
    found = {
        rule: _rows(data.load("cub", path=folder, attributes="all", invisible=rule))
        for rule in ("zero", "unknown", "unaskable")
    }
    for name, (part, i) in kept.items():
        assert part.c is not None
        assert part.askable is None
        hidden = torch.from_numpy(certainty[_at(name)] == 1)
        zero, unknown, unaskable = (found[rule][name] for rule in ("zero", "unknown", "unaskable"))
        assert torch.equal(zero[0].c[zero[1]], part.c[i] * ~hidden)  # pyright: ignore[reportOptionalSubscript]
        cells = unknown[0].c[unknown[1]]  # pyright: ignore[reportOptionalSubscript]
        assert torch.equal(cells.isnan(), hidden)
        assert torch.equal(cells[~hidden], part.c[i][~hidden])
        assert torch.equal(unaskable[0].c[unaskable[1]], part.c[i])  # pyright: ignore[reportOptionalSubscript]
        assert torch.equal(unaskable[0].askable[unaskable[1]], ~hidden)  # pyright: ignore[reportOptionalSubscript]


def test_vote_keeps_attributes_of_enough_classes(folder: Path, raw: Any) -> None:
    present, certainty, y = raw.cub(folder, attributes=30)
    splits = data.load("cub", path=folder, attributes="vote", least_classes=3)
    voters = [_at(name) for name in splits.train.ids or ()]
    kept = np.flatnonzero(vote(present[voters], certainty[voters], y[voters], 3).sum(0) >= 3)
    assert 0 < len(kept) < 30
    assert [int(name.split("_")[-1]) for name in splits.space.names] == kept.tolist()
    with pytest.raises(DataError, match="at least 4 species, got none; lower least_classes"):
        data.load("cub", path=folder, attributes="vote", least_classes=4)


def test_canonical_needs_all_312(folder: Path, raw: Any) -> None:
    raw.cub(folder, attributes=9)
    with pytest.raises(DataError, match="expected 312 attributes for attributes='canonical', got 9"):
        data.load("cub", path=folder)


@pytest.mark.parametrize(
    ("crop", "boxes"),
    [
        # the picture of 40 x 20 px becomes 40 x 40: y is doubled; radius .1 of the longer side 20 reaches 2 px
        ("full", {"wing": (18, 16, 22, 24), "bill": (10, 8, 14, 16), "size": (10, 10, 30, 30)}),
        # the bird's box 10..30 x 5..15 becomes 40 x 40: x is doubled, y four times as large
        ("bird", {"wing": (16, 12, 24, 28), "bill": (0, 0, 8, 12), "size": (0, 0, 40, 40)}),
    ],
)
def test_places_in_pixels_of_the_square(folder: Path, raw: Any, crop: str, boxes: dict[str, tuple[int, ...]]) -> None:
    present, _, _ = raw.cub(folder, attributes=9)
    splits = data.load("cub", path=folder, attributes="all", labels="instance", where=True, size=40, crop=crop)
    assert splits.train.read().shape == (12, 3, 40, 40)
    for name, (part, i) in _rows(splits).items():
        assert part.where is not None
        for a in range(9):
            if present[_at(name), a]:
                assert part.where[i, a].tolist() == pytest.approx(boxes[("wing", "bill", "size")[a % 3]])
            else:
                assert bool(part.where[i, a].isnan().all())


def test_hidden_part_has_no_place_and_radius_nought_is_a_point(folder: Path, raw: Any) -> None:
    raw.cub(folder, attributes=3)
    place = folder / "parts" / "part_locs.txt"
    place.write_text(place.read_text().replace("12.0 6.0 1", "0.0 0.0 0"))
    labels = folder / "attributes" / "image_attribute_labels.txt"
    rows = [line.split() for line in labels.read_text().splitlines()]
    labels.write_text("".join(f"{row[0]} {row[1]} 1 4 1.0\n" for row in rows))
    part = data.load("cub", path=folder, attributes="all", where=True, size=40, radius=0).train
    assert part.where is not None
    assert bool(part.where[:, 1].isnan().all())  # the beak
    assert part.where[0, 0].tolist() == [20, 20, 20, 20]  # the wing


def test_crop_reads_the_box(folder: Path, raw: Any) -> None:
    raw.cub(folder, attributes=3, classes=1 + 1)
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[5:15, 10:30] = 255
    from PIL import Image

    for file in (folder / "images").rglob("*.png"):
        Image.fromarray(pixels).save(file)
    splits = data.load("cub", path=folder, attributes="all", crop="bird", size=12)
    assert int(splits.train.read().min()) == 255
    assert int(data.load("cub", path=folder, attributes="all", size=12).train.read().min()) == 0
    # the fingerprint tells the two apart, and rows from rows
    assert (
        splits.train.fingerprint() != data.load("cub", path=folder, attributes="all", crop="bird", size=8).train.fingerprint()
    )
    assert splits.train.x.take(torch.tensor([1])).sources == [splits.train.x.sources[1]]


def test_lines_with_a_sixth_column_are_read(folder: Path, raw: Any) -> None:
    present, _, _ = raw.cub(folder, attributes=9)
    place = folder / "attributes" / "image_attribute_labels.txt"
    rows = place.read_text().splitlines()
    for i in (3, 40):  # as in the official file: '2275 10 0 3 0 8.876'
        fields = rows[i].split()
        rows[i] = " ".join([*fields[:4], "0", fields[4]])
    place.write_text("\n".join(rows) + "\n")
    for name, (part, i) in _rows(data.load("cub", path=folder, attributes="all", labels="instance")).items():
        assert part.c is not None
        assert part.c[i].tolist() == present[_at(name)].tolist()


@pytest.mark.parametrize(
    "file",
    [
        "images.txt", "image_class_labels.txt", "train_test_split.txt", "attributes/attributes.txt",
        "attributes/image_attribute_labels.txt", "attributes/certainties.txt", "images/001.Bird_0/Bird_0_0003.png",
        "bounding_boxes.txt", "parts/part_locs.txt",
    ],
)  # fmt: skip
def test_missing_file_names_file_link_and_layout(folder: Path, raw: Any, file: str) -> None:
    raw.cub(folder, attributes=3)
    (folder / file).unlink()
    with pytest.raises(DataError) as caught:
        data.load("cub", path=folder, attributes="all", where=True)
    said = str(caught.value)
    assert "\n" not in said
    for part in (repr(file), str(folder), "https://data.caltech.edu", "attributes/certainties.txt", "path="):
        assert part in said


def test_classes_file_is_optional_and_attributes_may_lie_beside(folder: Path, raw: Any) -> None:
    raw.cub(folder, attributes=3)
    (folder / "classes.txt").unlink()
    (folder / "attributes" / "attributes.txt").rename(folder.parent / "attributes.txt")
    assert data.load("cub", path=folder, attributes="all").task.names == ("Bird_0", "Bird_1", "Bird_2")


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("images.txt", "1", "images.txt, line 1: expected '<image id> <file>', got '1'"),
        ("images.txt", "x a/b.png", "images.txt, row 1: expected a whole number, got 'x'"),
        ("images.txt", "2 001.Bird_0/Bird_0_0000.png", "expected each image id once"),
        ("image_class_labels.txt", "1", "image_class_labels.txt, line 1"),
        (
            "image_class_labels.txt",
            "99 1",
            "image_class_labels.txt: expected a line for every image of images.txt, got none",
        ),
        ("attributes/image_attribute_labels.txt", "1 1 1", "image_attribute_labels.txt, line 1: expected '<image id>"),
        (
            "attributes/image_attribute_labels.txt",
            "1 1 2 4 1.0",
            "image_attribute_labels.txt, line 1: expected '<image id>",
        ),
        ("attributes/image_attribute_labels.txt", "1 1 1 5 1.0", "of a known image, got '1 1 1 5 1.0'"),
        ("attributes/image_attribute_labels.txt", "99 1 1 4 1.0", "of a known image, got '99 1 1 4 1.0'"),
        ("attributes/image_attribute_labels.txt", "1 x 1 4 1.0", "of a known image, got '1 x 1 4 1.0'"),
        ("attributes/image_attribute_labels.txt", "1 2 1 4 1.0", "got none for image 1, attribute 1"),
        ("attributes/certainties.txt", "1 definitely", "certainties.txt: expected"),
        ("bounding_boxes.txt", "1 a 5 20 10", "bounding_boxes.txt: expected finite numbers, got 'a 5 20 10'"),
        ("bounding_boxes.txt", "1 1 5 0 10", "expected a width and height above 0 for image 1"),
        ("parts/part_locs.txt", "1 16 0 0 0", "part_locs.txt: expected a known image and part 1 to 15, got 1 16"),
        ("parts/part_locs.txt", "1 2 0 0 0", "expected 15 parts for every image, got none of 1, 1"),
        ("parts/part_locs.txt", "1 1 nan 0 0", "expected finite numbers, got 'nan 0 0'"),
    ],
)
def test_malformed_first_line_is_named(folder: Path, raw: Any, file: str, line: str, said: str) -> None:
    raw.cub(folder, attributes=3)
    place = folder / file
    place.write_text("\n".join([line, *place.read_text().splitlines()[1:]]) + "\n")
    with pytest.raises(DataError) as caught:
        data.load("cub", path=folder, attributes="all", where=True)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_and_shortened_label_files(folder: Path, raw: Any) -> None:
    raw.cub(folder, attributes=3)
    place = folder / "attributes" / "image_attribute_labels.txt"
    rows = place.read_text().splitlines()
    place.write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(DataError, match="expected one line for each of 21 x 3 labels, got none for image 21, attribute 3"):
        data.load("cub", path=folder, attributes="all")
    place.write_text("\n".join([*rows, rows[0]]) + "\n")
    with pytest.raises(DataError, match="got 64 lines"):
        data.load("cub", path=folder, attributes="all")
    place.write_text("")
    with pytest.raises(DataError, match=r"image_attribute_labels.txt: expected lines .* got a file without them"):
        data.load("cub", path=folder, attributes="all")


def test_wrong_options(folder: Path, raw: Any) -> None:
    raw.cub(folder, attributes=3)
    for option, value in {
        "labels": "klass",
        "tie": "on",
        "invisible": "drop",
        "crop": "birds",
        "attributes": "112",
    }.items():
        with pytest.raises(OptionError, match=f"{option} of data set 'cub': '{value}'"):
            data.load("cub", path=folder, **{option: value})


def test_nowhere_to_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ISTHMUS_DATA", raising=False)
    with pytest.raises(DataError, match=r"cub: expected the folder .* got neither path= nor \$ISTHMUS_DATA"):
        data.load("cub")
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"cub: expected 'images.txt' in .*caltech"):
        data.load("cub")


def test_environment_folder(folder: Path, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw.cub(folder, attributes=3)
    monkeypatch.setenv("ISTHMUS_DATA", str(folder.parent))
    assert len(data.load("cub", attributes="all").test) == 6
