"""DermaCon-IN from a tiny folder in its published layout, right and wrong."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isthmus.data as data
from isthmus.data.table import Splits
from isthmus.errors import DataError, OptionError

COLUMNS = (
    "Descriptors_Plaque",
    "Descriptors_Scale",
    "Body_part_Back",
    "Body_part_Armpits (Axillary Region)",
    "Body_part_Scalp",
)


def load(root: Path, **options: Any) -> Splits:
    return data.load("dermacon", path=root, size=8, **options)


def rows_of(splits: Splits) -> list[int]:
    return [int(name[4:8]) for part in (splits.train, splits.validation, splits.test) for name in part.ids or ()]


def test_layout_concepts_and_official_test(tmp_path: Path, raw: Any) -> None:
    raw.dermacon(tmp_path / "DermaCon-IN")
    splits = load(tmp_path)  # the folder around it serves as well
    # concepts in file order, descriptors first, in two groups
    assert splits.space.names == COLUMNS
    assert splits.space.groups == {"lesion descriptor": (0, 1), "body part": (2, 3, 4)}
    assert [concept.text for concept in splits.space.concepts] == [
        "Plaque",
        "Scale",
        "Back",
        "Armpits (Axillary Region)",
        "Scalp",
    ]
    assert sorted(rows_of(splits)) == list(range(32))
    assert sorted(int(name[4:8]) for name in splits.test.ids or ()) == list(range(24, 32))
    for part in (splits.train, splits.validation, splits.test):
        assert part.c is not None
        assert part.y is not None
        for i, name in enumerate(part.ids or ()):
            n = int(name[4:8])
            assert part.c[i].tolist() == [n >> k & 1 for k in range(5)]
            assert splits.task.names[int(part.y[i])] == ("Infectious", "Infectious", "Neoplasms")[n // 2 % 3]
            assert part.group is not None
            assert part.group[i] == f"SUB{n // 2:05d}"
    shades = splits.test.read()[:, 0, 0, 0].tolist()
    assert np.abs(np.array(shades) - np.arange(24, 32)).max() <= 1
    assert splits.card is not None
    assert splits.card.licence == "CC BY-NC-SA 4.0"


def test_validation_is_patients_of_training_in_proportion_to_sub_classes(tmp_path: Path, raw: Any) -> None:
    raw.dermacon(tmp_path, train=60, test=6)
    splits = load(tmp_path, target="sub", validation=0.2)
    held = set(splits.validation.group or ())
    assert len(held) == 12
    assert not held & (set(splits.train.group or ()) | set(splits.test.group or ()))
    assert np.bincount(splits.validation.y.numpy()).tolist() == [8, 8, 8]  # type: ignore[union-attr]
    # the same rows whatever is asked for, others by another seed
    with pytest.warns(UserWarning, match="dermacon: 1 of 132 rows have no Disease_label: left out"):
        disease = load(tmp_path, target="disease", validation=0.2)
    main = load(tmp_path, validation=0.2)
    assert main.validation.ids == splits.validation.ids
    assert set(main.validation.ids or ()) - set(disease.validation.ids or ()) <= {"IMG_0003.jpg"}
    assert load(tmp_path, validation=0.2, seed=1).validation.ids != main.validation.ids
    # the test rows choose nothing: other test rows leave train and validation as they are
    raw.dermacon(tmp_path, train=60, test=9)
    again = load(tmp_path, validation=0.2)
    assert again.validation.ids == main.validation.ids
    assert again.train.ids == main.train.ids


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("main", ("Infectious", "Neoplasms")),
        ("sub", ("Benign", "Fungal", "Viral")),
        ("disease", ("Disease 00", "Disease 01", "Disease 10", "Disease 11", "Disease 20", "Disease 21")),
    ],
)
def test_levels_of_the_hierarchy(tmp_path: Path, raw: Any, target: str, names: tuple[str, ...]) -> None:
    raw.dermacon(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splits = load(tmp_path, target=target)
    assert splits.task.names == names
    assert len(rows_of(splits)) == (31 if target == "disease" else 32)
    assert 3 not in rows_of(splits) or target != "disease"


@pytest.mark.parametrize(("family", "columns"), [("descriptors", COLUMNS[:2]), ("body parts", COLUMNS[2:])])
def test_one_family_alone(tmp_path: Path, raw: Any, family: str, columns: tuple[str, ...]) -> None:
    raw.dermacon(tmp_path)
    both, alone = load(tmp_path), load(tmp_path, concepts=family)
    assert alone.space.names == columns
    at = [COLUMNS.index(name) for name in columns]
    assert both.train.c is not None
    assert alone.train.c is not None
    assert torch.equal(both.train.c[:, at], alone.train.c)


def test_metadata_are_facts(tmp_path: Path, raw: Any) -> None:
    raw.dermacon(tmp_path)
    test = load(tmp_path).test
    assert test.facts is not None
    n = [int(name[4:8]) for name in test.ids or ()]
    assert test.facts["fitzpatrick"].tolist() == [i % 6 + 1 for i in n]
    assert test.facts["monk"].tolist() == [i % 10 + 1 for i in n]
    assert test.facts["confidence"].tolist() == [i % 5 + 1 for i in n]
    assert test.facts["age"].tolist() == [10 * (i % 8) for i in n]
    assert test.facts["gradable"].tolist() == [1 - i % 2 for i in n]
    female = test.facts["female"]
    assert female.isnan().tolist() == [i % 3 == 2 for i in n]
    assert female.nan_to_num(0).tolist() == [float(i % 3 == 1) for i in n]


def test_the_long_name_of_the_main_class_and_unknown_concepts(tmp_path: Path, raw: Any) -> None:
    raw.dermacon(tmp_path)
    for part in ("train", "test"):
        place = tmp_path / "METADATA" / f"{part}_split.csv"
        text = place.read_text().replace("Main_class", "Main_class(Rook's_Classification)")
        lines = text.splitlines()
        lines[1] = lines[1][: lines[1].rindex(",")] + ",N/A"  # the last concept of the first row
        place.write_text("\n".join(lines) + "\n")
    splits = load(tmp_path)
    assert splits.test.c is not None
    assert splits.test.c[0].isnan().tolist() == [False] * 4 + [True]


@pytest.mark.parametrize("file", ["METADATA/train_split.csv", "METADATA/test_split.csv", "DATASET/IMG_0005.jpg"])
def test_missing_files(tmp_path: Path, raw: Any, file: str) -> None:
    raw.dermacon(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(DataError, match=rf"dermacon: expected '{file}' in .*10.7910/DVN/W7OUZM.*METADATA/train_split.csv"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("part", "old", "new", "said"),
    [
        ("train", "Image_name", "Image", "expected column 'Image_name' in"),
        ("test", "Subject_ID", "Subject", "expected column 'Subject_ID' in"),
        ("train", "Main_class", "Class", "expected column 'Main_class' in"),
        ("train", "Sub_class", "Class", "expected column 'Sub_class' in"),
        ("train", "Descriptors_", "D_", "expected columns with 'Descriptor' in their names"),
        ("train", "Body_part_", "B_", "expected columns with 'Body_part' in their names"),
        ("test", "Descriptors_Scale", "Descriptors_Scales", "expected column 'Descriptors_Scale' of train_split.csv in"),
        ("train", "train,0,0,0,0,0", "train,0,2,0,0,0", "column 'Descriptors_Scale', row 0: expected 0 or 1, got '2'"),
        ("train", "SUB00000", "", "column 'Subject_ID', row 0: expected a patient, got ''"),
        ("test", "SUB00012", "SUB00003", "expected patients that train_split.csv does not have, got 'SUB00003'"),
    ],
)
def test_malformed(tmp_path: Path, raw: Any, part: str, old: str, new: str, said: str) -> None:
    raw.dermacon(tmp_path)
    place = tmp_path / "METADATA" / f"{part}_split.csv"
    text = place.read_text()
    assert old in text
    place.write_text(text.replace(old, new))
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_class_alone_is_refused_and_so_are_empty_files(tmp_path: Path, raw: Any) -> None:
    raw.dermacon(tmp_path)
    place = tmp_path / "METADATA" / "train_split.csv"
    for part in ("train", "test"):
        file = tmp_path / "METADATA" / f"{part}_split.csv"
        file.write_text(file.read_text().replace("Neoplasms", "Infectious"))
    with pytest.raises(DataError, match=r"expected two or more values of Main_class, got \['Infectious'\]"):
        load(tmp_path)
    place.write_text(place.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match="expected rows, got none"):
        load(tmp_path)


def test_options(tmp_path: Path, raw: Any) -> None:
    raw.dermacon(tmp_path)
    with pytest.raises(OptionError, match="did you mean 'disease'"):
        load(tmp_path, target="diseases")
    with pytest.raises(OptionError, match="did you mean 'descriptors'"):
        load(tmp_path, concepts="descriptor")
