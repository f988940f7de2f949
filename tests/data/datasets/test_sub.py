"""SUB from tiny folders in its published layouts, beside a tiny CUB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isthmus.data as data
from isthmus import metrics
from isthmus.data.datasets._birds import CANONICAL, group_of
from isthmus.data.table import Splits
from isthmus.errors import DataError, OptionError

# labels are drawn at random over three species: some concept is the same for all of them
pytestmark = pytest.mark.filterwarnings("ignore:concept .* in train:UserWarning")
NAMES = [f"has_{('wing_color', 'bill_shape', 'size')[a % 3]}::value_{a}" for a in range(312)]
# attributes 1, 4 and 6 are among the 112, attribute 0 is not
ROWS = [
    (NAMES[1].replace("::", "--"), "Bird_0"),
    (NAMES[0].replace("::", "--"), "Bird_1"),
    (NAMES[4], "002.Bird_1"),
    (NAMES[6].replace("::", "--"), "bird 2"),
    (NAMES[1].replace("::", "--"), "Bird_2"),
]
KEPT = [0, 2, 3, 4]


def write(tmp_path: Path, raw: Any, rows: list[tuple[str, str]] = ROWS, **how: Any) -> dict[str, Path]:
    raw.cub(tmp_path / "CUB_200_2011")
    raw.sub(tmp_path / "SUB", rows, **how)
    return {"path": tmp_path / "SUB", "cub": tmp_path}


def load(places: dict[str, Path], **options: Any) -> Splits:
    return data.load("sub", **places, size=8, **options)


@pytest.mark.parametrize("how", ["folder", "parquet", "texts"])
def test_rows_pictures_and_swaps(tmp_path: Path, raw: Any, how: str) -> None:
    splits = load(write(tmp_path, raw, how=how))
    test = splits.test
    assert test.c is not None
    assert test.y is not None
    assert test.facts is not None
    assert test.y.tolist() == [0, 1, 2, 2]
    target, removed = test.facts["target"].numpy(), test.facts["removed"].numpy()
    assert [CANONICAL[k] for k in target] == [1, 4, 6, 1]
    assert test.read()[:, 0, 0, 0].tolist() == [3 * i for i in KEPT]
    assert test.take([3, 1]).read()[:, 0, 0, 0].tolist() == [12, 6]
    vectors = {int(label): splits.train.c[i].numpy() for i, label in enumerate(splits.train.y.tolist())}  # type: ignore[union-attr, index]
    for i in range(4):
        own = vectors[int(test.y[i])]
        group = group_of(splits.space.names[target[i]])
        expected = [own[k] == 1 and k != target[i] and group_of(name) == group for k, name in enumerate(splits.space.names)]
        assert removed[i].tolist() == expected
        assert sum(expected) > 1  # groups can hold several
        after = own.copy()
        after[expected] = 0
        after[target[i]] = 1
        np.testing.assert_array_equal(test.c[i].numpy(), after)
    values = test.c.numpy()
    assert (metrics.s_plus(values, target), metrics.s_minus(values, removed)) == (1, 1)
    ones = np.ones_like(values)
    assert (metrics.s_plus(ones, target), metrics.s_minus(ones, removed)) == (1, 0)


def test_removed_first_is_the_one_the_published_script_takes(tmp_path: Path, raw: Any) -> None:
    places = write(tmp_path, raw)
    every, first = (load(places, removed=removed).test.facts for removed in ("all", "first"))
    assert every is not None
    assert first is not None
    for a, b in zip(every["removed"].numpy(), first["removed"].numpy(), strict=True):
        assert np.flatnonzero(b).tolist() == np.flatnonzero(a)[:1].tolist()


def test_train_and_validation_are_those_of_cub(tmp_path: Path, raw: Any) -> None:
    places = write(tmp_path, raw)
    splits, birds = load(places, seed=3), data.load("cub", path=tmp_path, size=8, seed=3)
    for mine, other in ((splits.train, birds.train), (splits.validation, birds.validation)):
        assert mine.ids == other.ids
        assert torch.equal(mine.c, other.c)  # type: ignore[arg-type]
        assert torch.equal(mine.read(), other.read())
    assert splits.space == birds.space
    assert splits.task == birds.task
    assert splits.card is not None
    assert "CC-BY-NC-4.0" in splits.card.licence


def test_fingerprints_follow_the_pictures(tmp_path: Path, raw: Any) -> None:
    places = write(tmp_path, raw, how="parquet")
    one = load(places).test
    assert one.fingerprint() == load(places).test.fingerprint()
    # row order matters, the row groups do not
    assert one.take([1, 0, 2, 3]).fingerprint() != one.fingerprint()
    again = tmp_path / "again"
    raw.sub(again, ROWS, how="parquet", group_size=1)
    assert load(places | {"path": again}).test.fingerprint() == one.fingerprint()


def test_the_data_folder_holds_both(tmp_path: Path, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, raw)
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path))
    assert len(data.load("sub", size=8).test) == 4


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("has_wing_color--plaid", "Bird_0")], "row 0: expected an attribute of CUB as has_back_color--grey"),
        ([ROWS[0], (NAMES[4], "Dodo")], "row 1: expected a species of"),
        ([ROWS[1]], "expected rows whose attribute is among the 112 concepts, got none"),
    ],
)
def test_labels_that_cub_does_not_know(tmp_path: Path, raw: Any, rows: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(DataError) as caught:
        load(write(tmp_path, raw, rows))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_columns(tmp_path: Path, raw: Any) -> None:
    places = write(tmp_path, raw)
    table = places["path"] / "metadata.csv"
    text = table.read_text()
    table.write_text(text.replace("bird_label", "bird"))
    with pytest.raises(DataError, match="sub: expected column 'bird_label' in .*metadata.csv"):
        load(places)
    table.write_text(text)
    (places["path"] / "images" / "3.png").unlink()
    with pytest.raises(DataError, match=r"sub: expected 'images/3.png' in .*Jessica-bader/SUB"):
        load(places)
    table.unlink()
    with pytest.raises(DataError, match=r"sub: expected 'data/\*.parquet or metadata.csv' in"):
        load(places)
    raw.sub(places["path"], ROWS)
    with pytest.raises(DataError, match=r"cub: expected 'images.txt' in"):
        load({"path": places["path"], "cub": tmp_path / "nowhere"})
    with pytest.raises(OptionError, match="did you mean 'first'"):
        load(places, removed="frist")


def test_parquet_that_is_not_as_published(tmp_path: Path, raw: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    places = write(tmp_path, raw, how="parquet")
    file = places["path"] / "data" / "test-00000-of-00002.parquet"
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({}), file)
    with pytest.raises(DataError, match="column 'attr_label', row 0: expected a name or the code of one, got"):
        load(places)
    pq.write_table(table.drop_columns(["image"]), file)
    with pytest.raises(DataError, match="sub: expected column 'image' in"):
        load(places)
    pq.write_table(table.set_column(1, "attr_label", pa.array([7, 8])), file)
    with pytest.raises(DataError, match="row 0: expected a name or the code of one, got 7"):
        load(places)
    file.write_bytes(b"not parquet")
    with pytest.raises(DataError, match="expected a Parquet file, got"):
        load(places)
