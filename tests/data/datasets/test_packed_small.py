"""Loaders of packed sets on tiny files of the same form, so that they are tested where the real data is not."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import isthmus.data as data
from isthmus.data.datasets import cards
from isthmus.data.datasets.movies import ratings
from isthmus.data.datasets.reviewers import reviewers
from isthmus.data.datasets.wbcatt import KEYS
from isthmus.data.registry import datasets
from isthmus.errors import DataError, IsthmusError


def _npz(place: Path, **arrays: Any) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    np.savez(place, **{name: np.asarray(value) for name, value in arrays.items()})  # pyright: ignore[reportArgumentType]


def _encoded(shades: Sequence[int], side: int = 6) -> dict[str, np.ndarray]:
    parts: list[bytes] = []
    for shade in shades:
        file = io.BytesIO()
        Image.fromarray(np.full((side, side, 3), shade, dtype=np.uint8)).save(file, "WEBP", lossless=True)
        parts.append(file.getvalue())
    return {
        "buf": np.frombuffer(b"".join(parts), dtype=np.uint8),
        "off": np.cumsum([0, *map(len, parts)]),
    }


def _jsonl(place: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(place, "wt", encoding="utf8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _csv(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(place, "wt", encoding="utf8") as file:
        file.write(text)


def _wbcatt(root: Path, **changes: Any) -> None:
    arrays: dict[str, Any] = {
        **_encoded([10, 20, 30, 40]),
        "concepts": np.array([[0, 2], [1, 0], [0, 1], [1, 2]], dtype=np.int8),
        "concept_names": ["cell_size", "granule_type"],
        "concept_values": json.dumps([["big", "small"], ["coarse", "nil", "round"]]),
        "y": np.array([0, 1, 0, 1], dtype=np.int8),
        "class_names": ["Basophil", "Eosinophil"],
        "split": ["train", "train", "val", "test"],
        "filename": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
    }
    _npz(root / "images" / "wbcatt_128.npz", **(arrays | changes))


def test_wbcatt_blocks_and_states(tmp_path: Path) -> None:
    _wbcatt(tmp_path)
    splits = data.load("wbcatt", path=tmp_path)
    assert splits.space.columns == (
        "cell_size=big", "cell_size=small", "granule_type=coarse", "granule_type=nil", "granule_type=round",
    )  # fmt: skip
    assert splits.train.c is not None
    assert splits.train.c.tolist() == [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]]
    assert splits.validation.ids == ["c.jpg"]
    assert splits.test.ids == ["d.jpg"]
    assert splits.test.read().shape == (1, 3, 6, 6)
    assert int(splits.test.read()[0, 0, 0, 0]) == 40
    assert data.load("wbcatt", path=tmp_path, size=3).test.read().shape == (1, 3, 3, 3)
    place = tmp_path / "images" / "wbcatt_128.npz"  # the file itself serves as well
    with pytest.warns(UserWarning, match="'granule_type=nil' never varies in train"):
        states = data.load("wbcatt", path=place, concepts="states")
    assert states.space.count == len(states.space) == 5
    assert states.space.columns == splits.space.columns
    assert states.train.c is not None
    assert torch.equal(states.train.c, splits.train.c)
    assert states.space.groups == {"cell_size": (0, 1), "granule_type": (2, 3, 4)}


def test_packed_features_stand_for_the_images(tmp_path: Path) -> None:
    _wbcatt(tmp_path)
    q = np.arange(4 * 5, dtype=np.uint8).reshape(4, 5)
    _npz(tmp_path / "features" / "wbcatt_128_mnv2.npz", q=q, scale=np.float32(0.5))
    splits = data.load("wbcatt", path=tmp_path, inputs="mobilenetv2")
    assert torch.equal(splits.test.x, torch.from_numpy(q[3:]).float() * 0.5)
    _npz(tmp_path / "features" / "wbcatt_128_mnv2.npz", q=q[:3], scale=np.float32(0.5))
    with pytest.raises(DataError, match=r"expected 4 rows in .*mnv2.npz like the images, got 3"):
        data.load("wbcatt", path=tmp_path, inputs="mobilenetv2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": ["train", "train", "val", "last"]}, "column 'split', row 3: expected"),
        ({"off": [0, 5, 4, 8, 9]}, "expected rising offsets"),
        (
            {"concepts": [[0, 3], [1, 0], [0, 1], [1, 2]]},
            "'granule_type', row 0: expected a state index below 3, got 3",
        ),
        ({"y": [0, 1, 2, 1]}, "y, row 2: expected a class index from 0 to 1, got 2"),
        ({"concept_values": json.dumps([["big", "small"]])}, "expected 2 lists of states"),
        ({"split": ["train", "train", "val", "val"]}, "expected at least one test row, got none"),
    ],
)
def test_wbcatt_damaged(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    _wbcatt(tmp_path, **changes)
    with pytest.raises(IsthmusError) as caught:
        data.load("wbcatt", path=tmp_path)
    assert said in str(caught.value)


def test_archive_that_is_none_or_lacks_an_array(tmp_path: Path) -> None:
    place = tmp_path / "images" / "wbcatt_128.npz"
    _wbcatt(tmp_path)
    place.write_bytes(place.read_bytes()[:100])
    with pytest.raises(DataError, match=r"wbcatt_128.npz: expected a NumPy archive, got .*; the file is damaged"):
        data.load("wbcatt", path=tmp_path)
    _npz(place, y=[0])
    with pytest.raises(DataError, match=r"expected array 'buf' in .*wbcatt_128.npz, got y"):
        data.load("wbcatt", path=tmp_path)
    np.save(place.with_suffix(".npy"), np.zeros(3))
    place.with_suffix(".npy").replace(place)
    with pytest.raises(DataError, match="expected a NumPy archive"):
        data.load("wbcatt", path=tmp_path)
    pickled = dict.fromkeys(KEYS, np.array([{}], dtype=object))
    np.savez(place, **pickled)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"expected a NumPy archive, got .*llow_pickle"):  # nothing pickled is read
        data.load("wbcatt", path=tmp_path)


REAL = set(cards()) - {"reviewers"}


@pytest.mark.parametrize("name", sorted(REAL))
def test_missing_file_is_one_line_that_names_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        data.load(name)
    said = str(caught.value)
    assert str(tmp_path) in said
    assert "path=<folder>" in said
    assert "ISTHMUS_DATA" in said
    assert "\n" not in said
    monkeypatch.delenv("ISTHMUS_DATA")
    with pytest.raises(DataError, match=r"got neither path= nor \$ISTHMUS_DATA"):
        data.load(name)


def test_every_real_data_set_has_a_card_and_a_card_its_data_set() -> None:
    assert {name for name, found in datasets().items() if not found.synthetic} == REAL
    for name, card in cards().items():
        assert card.name == name
        assert card.title
        assert card.licence
        assert card.source
        assert card.terms
        assert card.share in ("permissive", "share-alike", "research")


def _cebab_row(split: str, original: str, edit: str, stars: str, **aspects: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "split": split, "original_id": original, "id": f"{original}_{edit}", "text": f"text {original} {edit}",
        "review_majority": stars, "review_distribution": {"1": 3, "4": 1},
        "in_observational": edit == "0" if split == "train" else None, "in_exclusive": edit == "1",
    }  # fmt: skip
    for aspect in ("food", "ambiance", "service", "noise"):
        row[aspect], row[f"{aspect}_distribution"] = aspects.get(aspect, ("Positive", {"Positive": 4, "unknown": 1}))
    return row


CEBAB = [
    _cebab_row("train", "a", "0", "1"),
    _cebab_row("train", "a", "1", "5", food=("", ""), noise=("no majority", {"Negative": 2, "Positive": 2, "unknown": 1})),
    _cebab_row("train", "b", "0", "no majority"),
    _cebab_row("dev", "c", "0", "3", service=("unknown", {"unknown": 5})),
    _cebab_row("test", "d", "0", "2", ambiance=("Negative", {"Negative": 3, "Positive": 2})),
]


@pytest.mark.filterwarnings("ignore:concept .* train:UserWarning")
def test_cebab(tmp_path: Path) -> None:
    _jsonl(tmp_path / "text" / "cebab.jsonl.gz", CEBAB)
    splits = data.load("cebab", path=tmp_path)
    assert splits.train.read() == ["text a 0", "text a 1"]
    assert splits.train.group == ["a", "a"]
    assert [part.y.tolist() for part in (splits.train, splits.validation, splits.test)] == [[0, 4], [2], [1]]  # pyright: ignore[reportOptionalMemberAccess]
    nan = float("nan")
    assert splits.train.c is not None
    assert splits.validation.c is not None
    assert splits.test.c is not None
    assert splits.train.c[1].tolist() == pytest.approx([nan] * 3 + [1, 0, 0] * 2 + [nan] * 3, nan_ok=True)
    assert splits.validation.c[0, 6:9].tolist() == [0, 0, 1]  # 'unknown' is a state of its own
    assert splits.test.c[0, 3:6].tolist() == [0, 1, 0]
    votes = data.load("cebab", path=tmp_path, labels="votes")
    assert votes.train.c is not None
    assert votes.train.c[1].tolist() == pytest.approx([nan] * 3 + [0.8, 0, 0.2] * 2 + [0.4, 0.4, 0.2], nan_ok=True)
    mean = data.load("cebab", path=tmp_path, target="mean")
    assert mean.train.y is not None
    assert mean.train.y.tolist() == [1.75] * 3
    assert mean.task.kind == "value"
    assert data.load("cebab", path=tmp_path, train="observational").train.ids == ["a_0"]
    assert data.load("cebab", path=tmp_path, train="exclusive", target="mean").train.ids == ["a_1"]


def test_cebab_refuses_a_review_in_two_splits_and_unknown_states(tmp_path: Path) -> None:
    _jsonl(tmp_path / "text" / "cebab.jsonl.gz", [*CEBAB, _cebab_row("test", "a", "2", "1")])
    with pytest.raises(DataError, match="group 'a' stands in train and test"):
        data.load("cebab", path=tmp_path)
    _jsonl(tmp_path / "text" / "cebab.jsonl.gz", [*CEBAB, _cebab_row("test", "e", "2", "1", food=("Good", {}))])
    with pytest.raises(DataError, match="column 'food', row e_2: expected Positive, Negative, unknown or nothing, got 'Good'"):
        data.load("cebab", path=tmp_path)


def test_text_sets(tmp_path: Path) -> None:
    rows = [{"split": s, "text": f"t{i}", "title": f"T{i}", "y": i % 2} for i, s in enumerate(["train"] * 20 + ["test"] * 4)]
    _jsonl(tmp_path / "text" / "agnews_7600.jsonl.gz", rows)
    news = data.load("agnews", path=tmp_path, validation=0.25)
    assert (len(news.train), len(news.validation), len(news.test)) == (15, 5, 4)
    assert news.test.read()[0] == "T20. t20"
    assert news.task.names == ("world", "sports", "business", "sci/tech")
    assert not len(news.space)
    assert news.train.c is None
    _jsonl(tmp_path / "text" / "sst2.jsonl.gz", [*rows, {"split": "dev", "text": "d", "y": 1}])
    assert data.load("sst2", path=tmp_path).validation.read() == ["d"]
    place = tmp_path / "text" / "sst2.jsonl.gz"
    place.write_bytes(gzip.compress(b'{"split": "train", "text": "a", "y": 1}\n{"split": \n'))
    with pytest.raises(DataError, match=r"sst2.jsonl.gz, line 2: expected a JSON object"):
        data.load("sst2", path=tmp_path)
    place.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"sst2.jsonl.gz: expected UTF-8 text, got"):
        data.load("sst2", path=tmp_path)


def test_zoo_and_car(tmp_path: Path) -> None:
    names = "hair,feathers,eggs,milk,airborne,aquatic,predator,toothed,backbone,breathes,venomous,fins,legs,tail,domestic"
    kinds = ["mammal", "bird", "reptile", "fish", "amphibian", "insect", "invertebrate"]
    rows = [
        f"a{i}," + ",".join(("true", "false")[(i + j) % 2] for j in range(12)) + f",{(0, 4, 8)[i % 3]}," + "true,false,"
        + f"{('true', 'false')[i % 2]},{kinds[i % 7]}"
        for i in range(42)
    ]  # fmt: skip
    _csv(tmp_path / "tabular" / "zoo.csv.gz", f"animal,{names},catsize,type\n" + "\n".join(rows) + "\n")
    with pytest.warns(UserWarning, match="never varies"):
        splits = data.load("zoo", path=tmp_path)
    assert splits.space.count == 16
    assert len(splits.space) == 21
    assert splits.train.x.shape[1] == 16
    for part in (splits.train, splits.validation, splits.test):
        assert part.c is not None
        assert part.y is not None
        for name, c, x, y in zip(part.ids or (), part.c.tolist(), part.x.tolist(), part.y.tolist(), strict=True):
            row = int(name[1:])
            assert splits.task.names[y] == kinds[row % 7]
            assert x[12] == (0, 4, 8)[row % 3]
            assert c[12:18].index(1) == (0, 2, 5)[row % 3]
            assert x[:12] == c[:12]
            assert x[0] == (row + 1) % 2
    with pytest.warns(UserWarning, match="never varies"):
        assert set(data.load("zoo", path=tmp_path, inputs="names").test.read()) == set(splits.test.ids or ())

    cars = [f"{'vhigh' if i % 2 else 'low'},med,{2 + i % 3},more,big,high,{('unacc', 'acc')[i % 2]}" for i in range(30)]
    _csv(
        tmp_path / "tabular" / "car.csv.gz",
        "buying,maint,doors,persons,lug_boot,safety,class\n" + "\n".join(cars) + "\n",
    )
    with pytest.warns(UserWarning, match="never varies"):
        splits = data.load("car", path=tmp_path)
    assert splits.space.groups == {"price": (0, 1), "comfort": (2, 3, 4), "safety": (5,)}
    assert splits.train.c is not None
    assert splits.train.y is not None
    assert torch.equal(splits.train.c[:, splits.space.columns.index("buying=vhigh")], splits.train.y.float())
    cars[3] = cars[3].replace("vhigh", "extreme")
    _csv(
        tmp_path / "tabular" / "car.csv.gz",
        "buying,maint,doors,persons,lug_boot,safety,class\n" + "\n".join(cars) + "\n",
    )
    with pytest.raises(DataError, match="column 'buying', row 3: expected low, med, high, vhigh or nothing, got 'extreme'"):
        data.load("car", path=tmp_path)


def test_movies_and_ratings(tmp_path: Path) -> None:
    films = np.repeat(np.arange(1, 41), 2)
    stars = np.where(np.arange(80) % 2 == 0, 1.0, 4.0).astype(np.float32)
    user = np.arange(80, dtype=np.int16)
    _npz(tmp_path / "rec/ratings_ml_small.npz", userId=user, movieId=films, rating=stars, timestamp=films)
    rows = [
        {"movieId": m, "title": f"m{m}", "wiki_extract": f"about {m}" if m != 7 else None,
         "genres": [] if m == 3 else ["Drama"] if m % 2 else ["Comedy", "War"]}
        for m in range(1, 50)
    ]  # fmt: skip
    _jsonl(tmp_path / "rec/movies_ml_small_wiki.jsonl.gz", rows)
    with pytest.warns(UserWarning, match="never varies"):
        splits = data.load("movies", path=tmp_path, least_ratings=2)
    parts = (splits.train, splits.validation, splits.test)
    assert sum(map(len, parts)) == 39  # 40 of 49 films are rated, one of them has no text
    for part in parts:
        assert part.y is not None
        assert part.c is not None
        assert part.y.tolist() == [2.5] * len(part)
        for name, c in zip(part.ids or (), part.c, strict=True):
            found = [genre for genre, value in zip(part.space.names, c.tolist(), strict=True) if value == 1]
            assert found == ([] if name == "m3" else ["Drama"] if int(name[1:]) % 2 else ["Comedy", "War"])
            assert bool(c.isnan().all()) == (name == "m3")
    assert len(ratings(tmp_path).stars) == 80
    with pytest.raises(DataError, match="expected films with at least 3 ratings, got 0; lower least_ratings"):
        data.load("movies", path=tmp_path, least_ratings=3)


def test_reviewers(tmp_path: Path) -> None:
    paper = {"title": "t", "abstract": None, "year": 2020, "areas": None}
    person = {"user": 0, "profile_papers": ["p"], "candidates": ["q"], "expertise": [3.5]}
    _jsonl(tmp_path / "rec/reviewer_papers.jsonl.gz", [{"id": "p", **paper}, {"id": "q", **paper, "areas": ["Medicine"]}])
    _jsonl(tmp_path / "rec/reviewer_users.jsonl.gz", [person])
    found = reviewers(tmp_path)
    assert found.people[0].expertise == (3.5,)
    assert found.papers["q"].areas == ("Medicine",)
    assert found.papers["p"].areas == ()
    _jsonl(tmp_path / "rec/reviewer_users.jsonl.gz", [{**person, "candidates": ["r"]}])
    with pytest.raises(DataError, match="user 0"):
        reviewers(tmp_path)
