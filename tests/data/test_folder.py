"""folder, file and from_frame: columns by name, pictures that stay below their folder, splits that are honoured."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import isthmus.data
from isthmus.data import Images, Splits, Texts, file, folder, from_frame
from isthmus.errors import DataError, IsthmusError, MissingExtra, UnknownName
from isthmus.space import Concept, Task

pandas = pytest.importorskip("pandas")
N = 60


def png(shade: int, width: int = 6, height: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def columns() -> dict[str, list[Any]]:
    return {
        "image": [f"cells/{i:03d}.png" for i in range(N)],
        "label": ["neutrophil" if i % 3 else "monocyte" for i in range(N)],
        "granules": [["yes", "no", None][i % 3] for i in range(N)],
        "nucleus": [["round", "lobed", None, "band"][i % 4] for i in range(N)],
        "diameter": [None if i % 5 == 0 else 7.5 + i % 7 for i in range(N)],
        "dark": [i % 2 for i in range(N)],
        "patient": [f"{i // 4:03d}" for i in range(N)],
        "official": ["test" if i < 12 else "val" if i < 24 else "train" for i in range(N)],
        "age": [20 + i % 40 for i in range(N)],
        "note": [f"slide {i}, seen twice" for i in range(N)],
    }


CONCEPTS = ["granules", "nucleus", "diameter", "dark"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    root = tmp_path / "blood"
    (root / "cells").mkdir(parents=True)
    for i, name in enumerate(columns()["image"]):
        (root / name).write_bytes(png(i))
    pandas.DataFrame(columns()).to_csv(root / "labels.csv", index=False)
    return root


def rewrite(place: Path, **changed: Any) -> None:
    pandas.DataFrame(columns() | changed).to_csv(place / "labels.csv", index=False)


def shades(splits: Splits) -> dict[str, list[int]]:
    """Which pictures lie in which split, by their red."""
    return {n: getattr(splits, n).read()[:, 0, 0, 0].tolist() for n in ("train", "validation", "test")}


def refused(act: Callable[[], Any], *words: str) -> None:
    with pytest.raises(IsthmusError) as error:
        act()
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


# ---- a folder of images


def test_a_folder_becomes_splits_with_concepts(place: Path) -> None:
    made = folder(place, table="labels.csv", concepts=CONCEPTS, size=8)
    assert made.name == "blood"
    assert made.task == Task.classes(["monocyte", "neutrophil"])
    assert made.space.names == tuple(CONCEPTS)
    assert [c.kind for c in made.space.concepts] == ["categorical", "categorical", "continuous", "binary"]
    assert made.space.concepts[1].states == ("band", "lobed", "round")
    assert isinstance(made.train.x, Images)
    assert made.train.read().shape == (len(made.train), 3, 8, 8)
    assert sorted(chain(*shades(made).values())) == list(range(N))
    for part in (made.train, made.validation, made.test):
        assert part.ids is not None
        for i, shade in enumerate(part.read()[:, 0, 0, 0].tolist()):
            assert part.ids[i] == columns()["image"][shade]
            assert made.task.names[part.y[i]] == columns()["label"][shade]
            want = columns()["nucleus"][shade]
            block = part.c[i, 2:5]
            assert block.isnan().all() if want is None else made.space.concepts[1].states[int(block.argmax())] == want
            assert part.c[i, 5].isnan() == (shade % 5 == 0)
    assert [len(part) for part in (made.train, made.validation, made.test)] == [39, 9, 12]


def test_kinds_names_and_whole_concepts_may_be_said(place: Path) -> None:
    full = Concept("nucleus shape", "categorical", ("round", "band", "lobed"), group="nucleus")
    made = folder(
        place,
        table="labels.csv",
        concepts={"granules": "binary", "dark": "dark cell", "nucleus": full, "age": "continuous"},
    )
    assert made.space.names == ("granules", "dark cell", "nucleus shape", "age")
    assert made.space.concepts[2] == full
    assert [c.kind for c in made.space.concepts] == ["binary", "binary", "categorical", "continuous"]
    assert made.space.concepts[3].center == pytest.approx(made.train.c[:, 5].mean().item())


@pytest.mark.parametrize("kind", ["tsv", "parquet", "frame", "semicolon", "elsewhere", "bom"])
def test_the_table_may_come_in_any_of_its_forms(place: Path, tmp_path: Path, kind: str) -> None:
    rows, how = pandas.DataFrame(columns()), {}
    table: Any = f"t.{kind}"
    if kind == "tsv":
        rows.to_csv(place / table, sep="\t", index=False)
    elif kind == "parquet":
        pytest.importorskip("pyarrow")
        rows.to_parquet(place / table)
    elif kind == "frame":
        table = rows
    elif kind == "semicolon":
        table, how = "t.csv", {"separator": ";"}
        rows.to_csv(place / table, sep=";", index=False)
    elif kind == "bom":
        table = "t.csv"
        rows.to_csv(place / table, index=False, encoding="utf-8-sig")
    else:
        table = tmp_path / "t.csv"
        rows.to_csv(table, index=False)
    made = folder(place, table=table, concepts=CONCEPTS, **how)
    first = folder(place, table="labels.csv", concepts=CONCEPTS)
    assert made.space == first.space
    assert shades(made) == shades(first)
    assert torch.equal(made.train.c.nan_to_num(-1), first.train.c.nan_to_num(-1))


def test_the_official_split_is_honoured(place: Path) -> None:
    made = folder(place, table="labels.csv", split_column="official", concepts=CONCEPTS)
    assert shades(made) == {
        "train": list(range(24, N)),
        "validation": list(range(12, 24)),
        "test": list(range(12)),
    }


def test_without_official_validation_it_is_cut_from_train_by_group(place: Path) -> None:
    rewrite(place, official=["test" if i < 12 else "train" for i in range(N)])
    made = folder(place, table="labels.csv", split_column="official", group="patient", validation=0.25)
    parts = shades(made)
    assert parts["test"] == list(range(12))
    assert len(parts["validation"]) == 12
    assert {i // 4 for i in parts["validation"]}.isdisjoint({i // 4 for i in parts["train"]})


def test_patients_stay_together_and_keep_their_names(place: Path) -> None:
    made = folder(place, table="labels.csv", group="patient", seed=5)
    homes = [{i // 4 for i in part} for part in shades(made).values()]
    assert sum(map(len, homes)) == len(set.union(*homes)) == N // 4
    assert "003" in [*made.train.group, *made.validation.group, *made.test.group]  # "003" was not read as 3


def test_a_patient_in_two_official_splits_is_refused(place: Path) -> None:
    rewrite(place, official=["test" if i < 10 else "val" if i < 20 else "train" for i in range(N)])
    refused(lambda: folder(place, table="labels.csv", split_column="official", group="patient"), "'002'", "test", "validation")


def test_pictures_are_named_as_written(place: Path) -> None:
    for i in range(N):
        (place / f"{i:04d}").write_bytes(png(i))
    rewrite(place, image=[f"{i:04d}" for i in range(N)])
    assert len(folder(place, table="labels.csv").train.read()) == 39


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../outside.png", ("row 7", "'../outside.png'", "below")),
        ("cells/../../outside.png", ("row 7", "below")),
        ("/etc/hostname", ("row 7", "'/etc/hostname'", "below")),
        ("link.png", ("row 7", "'link.png'", "below")),
        ("door/outside.png", ("row 7", "below")),
        ("cells/gone.png", ("row 7", "cells/gone.png", "found none")),
        ("cells", ("row 7", "readable")),
        ("text.png", ("row 7", "text.png", "readable")),
        ("bomb.png", ("row 7", "bomb.png", "25 megapixels", "6000x5000")),
        ("a\0b.png", ("row 7",)),
        ("", ("row 7", "column 'image'", "path of an image")),
        (None, ("row 7", "column 'image'", "path of an image")),
        ("x" * 5000, ("row 7",)),
    ],
)  # fmt: skip
def test_a_picture_outside_missing_or_damaged_is_named_with_its_row(
    place: Path, tmp_path: Path, name: str | None, words: tuple[str, ...]
) -> None:
    (tmp_path / "outside.png").write_bytes(png(1))
    (place / "link.png").symlink_to(tmp_path / "outside.png")
    (place / "door").symlink_to(tmp_path)
    (place / "text.png").write_text("no picture")
    head = b"IHDR" + struct.pack(">IIBBBBB", 6000, 5000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    (place / "bomb.png").write_bytes(bomb + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND")))
    images = columns()["image"]
    images[7] = name
    frame = pandas.DataFrame(columns() | {"image": images})
    before = sorted(os.listdir(place))
    refused(lambda: folder(place, table=frame), *words)
    # the headers come before everything else: a wrong label column is not even looked at
    refused(lambda: folder(place, table=frame, label="gone"), *words)
    assert sorted(os.listdir(place)) == before


def test_a_link_that_stays_inside_is_followed(place: Path) -> None:
    (place / "inner.png").symlink_to(place / "cells" / "007.png")
    images = columns()["image"]
    images[7] = "inner.png"
    rewrite(place, image=images)
    assert sorted(chain(*shades(folder(place, table="labels.csv")).values())) == list(range(N))


def test_a_folder_behind_a_link_is_a_folder(place: Path, tmp_path: Path) -> None:
    (tmp_path / "door").symlink_to(place)
    assert len(folder(tmp_path / "door", table="labels.csv").train) == 39


def test_one_picture_on_two_rows_must_be_one_group(place: Path) -> None:
    images = columns()["image"]
    images[9] = "cells/../cells/008.png"
    rewrite(place, image=images)
    refused(lambda: folder(place, table="labels.csv"), "row 9", "008.png", "row 8", "group")
    assert len(folder(place, table="labels.csv", group="patient").train) > 0
    images[9], images[30] = columns()["image"][9], images[8]
    rewrite(place, image=images)
    refused(lambda: folder(place, table="labels.csv", group="patient"), "row 30", "row 8")


def test_a_folder_that_is_none_is_named(place: Path) -> None:
    refused(lambda: folder(place / "gone", table="labels.csv"), "gone", "folder of images", "none")
    refused(lambda: folder(place / "labels.csv", table="labels.csv"), "labels.csv", "a file")
    refused(lambda: folder(place, table="gone.csv"), "gone.csv", "found none")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"image": "imgae"}, ("labels.csv", "'imgae'", "did you mean 'image'")),
        ({"label": "lable"}, ("'lable'", "did you mean 'label'")),
        ({"concepts": ["granuls"]}, ("'granuls'", "did you mean 'granules'")),
        ({"concepts": {"granuls": "binary"}}, ("did you mean 'granules'",)),
        ({"group": "patent"}, ("did you mean 'patient'",)),
        ({"split_column": "offical"}, ("did you mean 'official'",)),
        ({"concepts": ["label"]}, ("'label'", "2 times")),
        ({"concepts": ["dark", "dark"]}, ("'dark'", "2 times")),
        ({"concepts": {"dark": "age", "age": "continuous"}}, ("concept name 'age'", "2 times")),
        ({"concepts": "dark"}, ("concepts", "list")),
        ({"concepts": {"dark": 3}}, ("'dark'", "int")),
        ({"concepts": {"nucleus": "binary"}}, ("'nucleus', row 0", "'round'")),
        ({"split_column": "label"}, ("'label'", "2 times")),
        ({"split_column": "note"}, ("row 0", "train, validation or test", "'slide 0")),
        ({"size": 0}, ("size",)),
        ({"validation": 0.9}, ("shares",)),
        ({"task": "value"}, ("'label'", "number")),
    ],
)
def test_columns_and_options_that_do_not_fit_are_named(place: Path, how: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(lambda: folder(place, table="labels.csv", **how), *words)


def test_a_missing_label_is_named_by_row(place: Path) -> None:
    labels = columns()["label"]
    labels[5] = None
    rewrite(place, label=labels)
    refused(lambda: folder(place, table="labels.csv"), "'label', row 5", "drop the row")


def test_several_labels_and_a_value(place: Path) -> None:
    rewrite(place, wet=[i % 2 for i in range(N)], cold=[[1, None, 0][i % 3] for i in range(N)])
    labels = folder(place, table="labels.csv", label=["wet", "cold"])
    assert labels.task == Task.labels(["wet", "cold"])
    assert labels.train.y.isnan().any()
    value = folder(place, table="labels.csv", label="age", task=Task.value("age", "years"))
    assert (value.task.kind, value.task.unit) == ("value", "years")


# ---- one file of columns, and frames


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = {"height": rng.normal(size=N).round(3), "weight": rng.random(N).round(3) + 0.1}
    pandas.DataFrame(columns() | rows).drop(columns=["image"]).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def test_one_file_becomes_splits(sheet: Path) -> None:
    made = file(
        sheet, label="label", features=["height", "age"], concepts=["dark", "nucleus"], group="patient", weight="weight"
    )
    assert made.name == "rows"
    assert made.train.x.shape[1] == 2
    assert made.space.names == ("dark", "nucleus")
    assert made.train.weight is not None
    assert len(made.train) + len(made.validation) + len(made.test) == N
    official = file(sheet, label="label", features=["height"], split_column="official")
    assert [len(p) for p in (official.train, official.validation, official.test)] == [36, 12, 12]


def test_every_other_column_is_a_feature_unless_they_are_named(sheet: Path) -> None:
    rest = ["granules", "nucleus", "patient", "official", "note", "diameter"]
    frame = pandas.read_csv(sheet).drop(columns=rest)
    made = from_frame(frame, label="label", concepts=["dark"])
    assert made.x.tolist() == torch.tensor(frame[["age", "height", "weight"]].to_numpy(np.float32)).tolist()
    refused(lambda: file(sheet, label="label"), "column 'granules'", "encode")


def test_facts_are_kept_and_no_input(sheet: Path) -> None:
    import pandas

    frame = pandas.DataFrame({"y": ["a", "b"] * 3, "x": range(6), "site": ["north", None] * 3, "age": [61.0, float("nan")] * 3})
    made = from_frame(frame, label="y", facts=["site", "age"])
    assert made.x.shape == (6, 1) and made.facts is not None
    assert list(made.facts["site"][:2]) == ["north", "unknown"]
    age = made.take([1, 0]).facts["age"]  # type: ignore[index]
    assert bool(age[0].isnan()) and float(age[1]) == 61  # type: ignore[union-attr, arg-type]
    assert from_frame(frame, label="y", facts="age", features=["x"]).facts.keys() == {"age"}  # type: ignore[union-attr]
    refused(lambda: from_frame(frame, label="y", facts="sites"), "sites", "site")
    refused(lambda: from_frame(frame, label="y", facts="y"), "'y'", "2 times")
    frame.to_csv(sheet, index=False)
    splits = file(sheet, label="y", facts=["site", "age"], validation=0.3, test=0.3)
    assert set(splits.test.facts["site"]) <= {"north", "unknown"}  # type: ignore[index]


def test_captions_come_from_a_column_as_written_and_follow_the_rows(place: Path, sheet: Path, tmp_path: Path) -> None:
    rows = [f"{i},{i % 2},{'uv'[i % 2]},{i:03d}" for i in range(40)]
    (tmp_path / "codes.csv").write_text("\n".join(["age,dark,y,code", *rows]))
    made = file(tmp_path / "codes.csv", label="y", concepts=["dark"], caption="code", seed=3)
    for part in (made.train, made.validation, made.test):
        assert part.x.shape[1] == 1, "a caption is no input"
        assert part.caption == [f"{int(age):03d}" for age in part.x[:, 0]]
    texts = file(tmp_path / "codes.csv", label="y", features="code")
    assert all(len(text) == 3 for text in texts.train.read())

    note = columns()["note"]
    told = folder(place, table="labels.csv", concepts=CONCEPTS, caption="note", split_column="official", group="patient")
    assert told.test.caption == note[:12]
    assert from_frame(pandas.DataFrame(columns()), label="label", features=["age"], caption="note").caption == note
    assert from_frame(pandas.DataFrame(columns()), label="label", features=["age"]).caption is None


@pytest.mark.parametrize("empty", ["", "   ", "NA"])
def test_a_caption_that_is_missing_or_serves_twice_is_refused(tmp_path: Path, empty: str) -> None:
    said = [empty if i == 7 else f"cell {i}" for i in range(20)]
    lines = [f"{i},{'uv'[i % 2]},{text}" for i, text in enumerate(said)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["age,y,note", *lines]))
    refused(lambda: file(path, label="y", caption="note"), "rows.csv, column 'note', row 7: expected a caption", "drop the row")
    refused(lambda: file(path, label="y", caption="not"), "did you mean 'note'")
    refused(lambda: file(path, label="y", caption="note", facts="note"), "column 'note' is asked for 2 times")
    refused(lambda: file(path, label="y", caption="note", features="note"), "column 'note' is asked for 2 times")


def test_texts_are_a_feature_of_their_own(sheet: Path) -> None:
    made = file(sheet, label="label", features="note", concepts=["dark"])
    assert isinstance(made.train.x, Texts)
    assert made.train.read()[0].startswith("slide")
    frame = pandas.DataFrame({"t": ["a", None, "c"], "y": ["u", "v", "u"]})
    refused(lambda: from_frame(frame, label="y", features="t"), "column 't', row 1", "drop the row")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"features": ["hieght"]}, ("did you mean 'height'",)),
        ({"features": ["label"]}, ("'label'", "2 times")),
        ({"features": ["dark"], "concepts": ["dark"]}, ("'dark'", "2 times")),
        ({"features": ["age", "age"]}, ("'age'", "2 times")),
        ({"features": ["diameter"]}, ("column 'diameter', row 0", "nothing")),
        ({"features": ["nucleus"]}, ("column 'nucleus', row 0", "'round'")),
        ({"features": []}, ("x", "at least one column")),
        ({"features": ["age"], "label": "lable"}, ("rows.csv", "did you mean 'label'")),
        ({"features": ["age"], "seed": -1}, ("seed",)),
    ],
)
def test_columns_of_a_file_that_do_not_fit(sheet: Path, how: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(lambda: file(sheet, **{"label": "label"} | how), *words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", ("a.csv", "readable table")),
        ("a.csv", b"y,a\n", ("at least one row",)),
        ("a.csv", b"y,a,a\nu,1,2\nv,3,4\n", ("a.csv", "'a'", "2 times")),
        ("a.csv", b"y,a\nu,1\nv,2,3\n", ("a.csv", "readable table")),
        ("a.csv", b"y,a\nu,1,9\nv,2,9\n", ("a.csv", "readable table")),
        ("a.csv", b'y,a\n"u,1\n', ("a.csv", "readable table")),
        ("a.csv", b"y,a\n\xff\xfe,1\nv,2\n", ("a.csv", "encoding")),
        ("a.csv", b"y;a\nu;1\nv;2\n", ("a.csv", "separator")),
        ("a.xlsx", b"PK", ("a.xlsx", ".csv, .tsv or .parquet")),
        ("a.parquet", b"not parquet", ("a.parquet", "readable table")),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, name: str, content: bytes, words: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(content)
    refused(lambda: file(tmp_path / name, label="y"), *words)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    refused(lambda: file(tmp_path / "gone.csv", label="y"), "gone.csv", "found none")


def test_frames_without_pandas_need_the_extra(sheet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"isthmus\[data\]"):
        file(sheet, label="label")


@pytest.mark.parametrize("frame", [[1, 2], {"a": [1]}, np.zeros((2, 2)), None])
def test_what_is_no_frame(frame: Any) -> None:
    refused(lambda: from_frame(frame, label="y"), "pandas DataFrame")


def test_a_frame_with_a_column_twice() -> None:
    frame = pandas.DataFrame(np.zeros((4, 3)), columns=["a", "a", "y"])
    refused(lambda: from_frame(frame, label="y"), "'a'", "2 times")
    refused(lambda: from_frame(frame, label="a"), "'a'", "2 times")


def test_a_filtered_frame_is_read_by_position() -> None:
    frame = pandas.DataFrame({"a": range(6), "c": [0, 1] * 3, "y": list("uvuvuv")})
    made = from_frame(frame[frame["a"] > 1], label="y", concepts=["c"])
    assert made.x.flatten().tolist() == [2, 3, 4, 5]
    assert made.c.flatten().tolist() == [0, 1, 0, 1]


def test_the_names_are_functions_of_the_package() -> None:
    public: Sequence[str] = isthmus.data.__all__
    assert {"file", "folder", "from_arrays", "from_frame"} <= set(public)
    assert all(callable(getattr(isthmus.data, name)) for name in public)
    assert issubclass(UnknownName, IsthmusError)
    assert issubclass(DataError, ValueError)
