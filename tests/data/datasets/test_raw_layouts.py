"""AwA2, CelebA and Derm7pt from tiny folders in their official raw layouts, right and wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isthmus.data as data
from isthmus.data.datasets.celeba import most_balanced
from isthmus.errors import DataError, OptionError


# AwA2 -------------------------------------------------------------------------------------------------------
def test_awa2(tmp_path: Path, raw: Any) -> None:
    root = tmp_path / "Animals_with_Attributes2"
    raw.awa2(root)
    splits = data.load("awa2", path=tmp_path, size=8)
    assert splits.task.names == ("antelope", "grizzly+bear", "killer+whale")
    assert splits.space.names == ("black", "water", "furry", "hooves")
    matrix = torch.tensor([[0, 0, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0]]).float()
    for part in (splits.train, splits.validation, splits.test):
        assert part.c is not None
        assert part.y is not None
        assert set(part.y.tolist()) == {0, 1, 2}  # each animal in each split
        assert torch.equal(part.c, matrix[part.y])
        assert part.read()[:, 0, 0, 0].div(10).round().tolist() == part.y.tolist()
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 18
    ids = [name for part in (splits.train, splits.validation, splits.test) for name in part.ids or ()]
    assert len(set(ids)) == 18
    assert "killer+whale/killer+whale_10001.jpg" in ids
    again = data.load("awa2", path=root, size=8)
    assert again.test.ids == splits.test.ids != data.load("awa2", path=root, seed=1).test.ids


@pytest.mark.parametrize("file", ["classes.txt", "predicates.txt", "predicate-matrix-binary.txt"])
def test_awa2_missing(tmp_path: Path, raw: Any, file: str) -> None:
    raw.awa2(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(DataError, match=rf"awa2: expected '{file}' in .*https://cvml.ista.ac.at/AwA2/.*JPEGImages/<animal>"):
        data.load("awa2", path=tmp_path)


def test_awa2_animal_without_photos(tmp_path: Path, raw: Any) -> None:
    raw.awa2(tmp_path)
    (tmp_path / "JPEGImages" / "antelope").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"expected 'JPEGImages/antelope/<picture>\.jpg'"):
        data.load("awa2", path=tmp_path)


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ("0 0 1 1\n1 0 1\n1 1 0 0\n", "predicate-matrix-binary.txt, line 2: expected '4 times 0 or 1', got '1 0 1'"),
        ("0 0 1 1\n1 0 1 0\n", "expected 3 rows of 0 and 1 as in classes.txt, got 2 rows"),
        ("0 0 1 1\n1 0 1 0\n1 1 -1 0\n", "got something else in row 3"),
    ],
)
def test_awa2_malformed(tmp_path: Path, raw: Any, matrix: str, said: str) -> None:
    raw.awa2(tmp_path)
    (tmp_path / "predicate-matrix-binary.txt").write_text(matrix)
    with pytest.raises(DataError) as caught:
        data.load("awa2", path=tmp_path)
    assert said in str(caught.value)


# CelebA -----------------------------------------------------------------------------------------------------
VALUES = np.array(
    # columns:  0 rare, 1 half, 2 nearly half, 3 always but one, 4 half, 5 a quarter
    [
        [0, 0, 0, 1, 1, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 0], [0, 1, 1, 1, 0, 1], [0, 0, 0, 1, 1, 0], [0, 1, 0, 0, 0, 0],
    ]
)  # fmt: skip
PARTITION = [0, 0, 0, 0, 1, 1, 2, 2]


def test_celeba_code(tmp_path: Path, raw: Any) -> None:
    root = tmp_path / "celeba"
    names = raw.celeba(root, VALUES, partition=PARTITION)
    assert most_balanced(VALUES, 4) == [1, 4, 2, 5]
    splits = data.load("celeba", path=tmp_path, given=2, hidden=2, every=1, size=16)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [4, 2, 2]
    assert splits.space.names == (names[1], names[4])  # the two most balanced, and only they
    assert splits.task.names[:3] == ("0000", "0001", "0010")
    assert splits.task.width == 16
    codes = [f"{row[1]}{row[4]}{row[2]}{row[5]}" for row in VALUES]
    rows = iter(range(8))
    for part in (splits.train, splits.validation, splits.test):
        assert part.y is not None
        assert part.c is not None
        for y, c in zip(part.y.tolist(), part.c.tolist(), strict=True):
            row = next(rows)
            assert splits.task.names[y] == codes[row]
            assert c == VALUES[row, [1, 4]].tolist()
    assert splits.test.ids == ["000007.jpg", "000008.jpg"]
    assert splits.test.read().shape == (2, 3, 16, 16)


def test_celeba_attribute(tmp_path: Path, raw: Any) -> None:
    names = raw.celeba(tmp_path, VALUES, partition=PARTITION)
    with pytest.warns(UserWarning, match="'Attr_3' never varies in train"):
        splits = data.load("celeba", path=tmp_path, target="Attr_1", every=1)
    assert splits.task.names == ("not Attr_1", "Attr_1")
    assert len(splits.space) == 5
    assert names[1] not in splits.space.names
    assert splits.train.y is not None
    assert splits.train.y.tolist() == [0, 1, 0, 1]


def test_celeba_every_nth_image(tmp_path: Path, raw: Any) -> None:
    raw.celeba(tmp_path, VALUES, partition=[0, 0, 0, 1, 1, 1, 2, 2])
    with pytest.warns(UserWarning, match="never varies in train"):  # one row
        splits = data.load("celeba", path=tmp_path, given=1, hidden=1, every=3)
    ids = [name for part in (splits.train, splits.validation, splits.test) for name in part.ids or ()]
    assert ids == ["000001.jpg", "000004.jpg", "000007.jpg"]
    # balance is measured over all images, not over these three
    assert splits.space.names == ("Attr_1",)


def test_celeba_crops_the_middle_square(tmp_path: Path, raw: Any) -> None:
    raw.celeba(tmp_path, VALUES, partition=PARTITION)
    from PIL import Image

    pixels = np.zeros((218, 178, 3), dtype=np.uint8)
    pixels[20:198] = 200
    for file in (tmp_path / "img_align_celeba").iterdir():
        Image.fromarray(pixels).save(file, quality=100)
    splits = data.load("celeba", path=tmp_path, given=2, hidden=1, every=1, size=178)
    middle = splits.train.read()[:, :, 4:-4]
    assert int(middle.min()) > 190


def test_celeba_nested_download_folders(tmp_path: Path, raw: Any) -> None:
    raw.celeba(tmp_path, VALUES, partition=PARTITION)
    for folder, file in (
        ("Anno", "list_attr_celeba.txt"),
        ("Eval", "list_eval_partition.txt"),
        ("Img", "img_align_celeba"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / file).rename(tmp_path / folder / file)
    assert len(data.load("celeba", path=tmp_path, given=2, hidden=1, every=1).train) == 4


@pytest.mark.parametrize("file", ["list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba/000003.jpg"])
def test_celeba_missing(tmp_path: Path, raw: Any, file: str) -> None:
    raw.celeba(tmp_path, VALUES, partition=PARTITION)
    (tmp_path / file).unlink()
    with pytest.raises(DataError, match=rf"celeba: expected '{file}' in .*mmlab.*img_align_celeba/<number>.jpg"):
        data.load("celeba", path=tmp_path, given=2, hidden=1, every=1)


@pytest.mark.parametrize(
    ("file", "line", "text", "said"),
    [
        ("list_attr_celeba.txt", 2, "000001.jpg 1 -1", "expected <file> and 6 times -1 or 1 on each line, got line 3"),
        ("list_attr_celeba.txt", 3, "000002.jpg 1 -1 1 1 0 1", "got line 4"),
        ("list_eval_partition.txt", 0, "000001.jpg 3", "expected 0, 1 or 2 for '000001.jpg', got '3'"),
        ("list_eval_partition.txt", 0, "000009.jpg 0", "expected 0, 1 or 2 for '000001.jpg', got None"),
        ("list_eval_partition.txt", 1, "000002.jpg", "list_eval_partition.txt, line 2: expected '<file> <0, 1 or 2>'"),
    ],
)
def test_celeba_malformed(tmp_path: Path, raw: Any, file: str, line: int, text: str, said: str) -> None:
    raw.celeba(tmp_path, VALUES, partition=PARTITION)
    rows = (tmp_path / file).read_text().splitlines()
    rows[line] = text
    (tmp_path / file).write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError) as caught:
        data.load("celeba", path=tmp_path, given=2, hidden=1, every=1)
    assert said in str(caught.value)


def test_celeba_options(tmp_path: Path, raw: Any) -> None:
    raw.celeba(tmp_path, VALUES, partition=PARTITION)
    with pytest.raises(OptionError, match="did you mean 'Attr_1'"):
        data.load("celeba", path=tmp_path, target="attr_1")
    with pytest.raises(OptionError, match="given from 1"):
        data.load("celeba", path=tmp_path, given=0)
    with pytest.raises(OptionError, match="at most 6, got 8"):
        data.load("celeba", path=tmp_path)
    with pytest.raises(DataError, match=r"celeba: expected at least one (train|validation) row, got none"):
        data.load("celeba", path=tmp_path, given=1, hidden=1, every=8)


# Derm7pt ----------------------------------------------------------------------------------------------------
def test_derm7pt_grouped(tmp_path: Path, raw: Any) -> None:
    raw.derm7pt(tmp_path / "derm7pt")
    splits = data.load("derm7pt", path=tmp_path, size=8)
    assert [part.ids for part in (splits.train, splits.validation, splits.test)] == [["1", "3", "5"], ["2"], ["4", "6"]]
    assert splits.space.count == 7
    assert len(splits.space) == 19
    assert splits.task.names == ("basal cell carcinoma", "nevus", "melanoma", "miscellaneous", "seborrheic keratosis")
    assert [part.y.tolist() for part in (splits.train, splits.validation, splits.test)] == [[2, 0, 3], [1], [4, 1]]  # pyright: ignore[reportOptionalMemberAccess]
    assert _states(splits.train, 0) == {
        "pigment_network": "atypical", "blue_whitish_veil": "present", "vascular_structures": "dotted/irregular",
        "pigmentation": "irregular", "streaks": "irregular", "dots_and_globules": "irregular",
        "regression_structures": "present",
    }  # fmt: skip
    assert _states(splits.test, 0)["vascular_structures"] == "regular"  # hairpin
    pixels = splits.train.read()
    assert pixels.shape == (3, 3, 8, 8)
    assert int(pixels.min()) > 190


def test_derm7pt_full_melanoma_clinic(tmp_path: Path, raw: Any) -> None:
    raw.derm7pt(tmp_path)
    splits = data.load("derm7pt", path=tmp_path, states="full", target="melanoma", picture="clinic", size=8)
    assert len(splits.space) == 28
    assert _states(splits.train, 0)["vascular_structures"] == "linear irregular"
    assert splits.task.names == ("not melanoma", "melanoma")
    assert splits.train.y is not None
    assert splits.train.y.tolist() == [1, 0, 0]
    assert int(splits.train.read().max()) < 110


@pytest.mark.parametrize(
    "file",
    ["meta/meta.csv", "meta/train_indexes.csv", "meta/valid_indexes.csv", "meta/test_indexes.csv", "images/NEL/d4.jpg"],
)
def test_derm7pt_missing(tmp_path: Path, raw: Any, file: str) -> None:
    raw.derm7pt(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(DataError, match=rf"derm7pt: expected '{file}' in .*derm.cs.sfu.ca.*meta/valid_indexes.csv"):
        data.load("derm7pt", path=tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("meta/meta.csv", "clark nevus", "clark", "column 'diagnosis', row 1: expected one of basal cell carcinoma"),
        ("meta/meta.csv", "typical,absent,comma", "typical,maybe,comma", "column 'blue_whitish_veil', row 1"),
        ("meta/meta.csv", "streaks", "strokes", "expected column 'streaks'"),
        ("meta/meta.csv", ",NEL/c1.jpg", "", "line 3: expected 11 cells as above, got 10"),
        ("meta/valid_indexes.csv", "\n1\n", "\n6\n", "line 2: expected a row of meta.csv from 0 to 5"),
        ("meta/valid_indexes.csv", "\n1\n", "\n0\n", "that no other line names, got '0'"),
        ("meta/valid_indexes.csv", "\n1\n", "\none\n", "got 'one'"),
        ("meta/valid_indexes.csv", "indexes", "rows", "expected column 'indexes'"),
    ],
)
def test_derm7pt_malformed(tmp_path: Path, raw: Any, file: str, old: str, new: str, said: str) -> None:
    raw.derm7pt(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        data.load("derm7pt", path=tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def _states(table: data.Table, row: int) -> dict[str, str]:
    assert table.c is not None
    hot = [column for column, value in zip(table.space.columns, table.c[row].tolist(), strict=True) if value == 1]
    return dict(column.split("=", 1) for column in hot)
