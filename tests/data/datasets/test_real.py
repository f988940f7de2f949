"""The real data sets: counts, splits and the known figures that are cheap to check."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import isthmus.data as data
from isthmus.data.datasets.cebab import read as cebab_rows
from isthmus.data.datasets.movies import films, ratings
from isthmus.data.datasets.playing_cards import faces
from isthmus.data.datasets.reviewers import reviewers
from isthmus.data.rows import Images, Texts
from isthmus.data.table import Splits

At = Callable[[str], Path]
load = cache(data.load)  # no test changes what it gets
SETS = {
    # name: file, rows of the three splits, M, K, Y
    "agnews": ("text/agnews_7600.jsonl.gz", (4845, 855, 1900), 0, 0, 4),
    "car": ("tabular/car.csv.gz", (1123, 260, 345), 6, 21, 4),
    "cebab": ("text/cebab.jsonl.gz", (9848, 1673, 1689), 4, 12, 5),
    "cifar10_8k": ("images/cifar10_8k.npz", (5100, 900, 2000), 0, 0, 10),
    "ctg": ("tabular/ctg.csv.gz", (1383, 318, 425), 1, 10, 3),
    "cub100": ("images/cub_100cls.npz", (2550, 449, 2903), 112, 112, 100),
    "dermatology": ("tabular/dermatology.csv.gz", (237, 56, 73), 22, 88, 6),
    "heart_cleveland": ("tabular/heart_cleveland.csv.gz", (196, 46, 61), 6, 13, 2),
    "mnist": ("images/mnist_22k.npz", (12750, 2250, 7000), 0, 0, 10),
    "mnist_addition": ("images/mnist_22k.npz", (8000, 1500, 3000), 2, 20, 19),
    "movies": ("rec/ratings_ml_small.npz", (1306, 301, 402), 19, 19, 1),
    "playing_cards": ("images/playing_cards.npz", (26, 10, 16), 2, 17, 4),
    "sprites_video": ("images/sprites_video.npz", (585, 135, 180), 4, 24, 9),
    "sst2": ("text/sst2.jsonl.gz", (6920, 872, 1821), 0, 0, 2),
    "wbcatt": ("images/wbcatt_128.npz", (6169, 1030, 3099), 11, 31, 5),
    "zoo": ("tabular/zoo.csv.gz", (65, 16, 20), 16, 21, 7),
}


def _accuracy(splits: Splits, *, inputs: bool = False) -> float:
    """Test accuracy of a linear model from true concepts (unknown as nought), or from x, to the class."""

    def rows(table: data.Table) -> np.ndarray:
        assert inputs or table.c is not None
        return table.x.numpy() if inputs else table.c.nan_to_num().numpy()  # pyright: ignore[reportOptionalMemberAccess]

    assert splits.train.y is not None
    assert splits.test.y is not None
    model = LogisticRegression(max_iter=3000).fit(rows(splits.train), splits.train.y.numpy())
    return float(model.score(rows(splits.test), splits.test.y.numpy()))


@pytest.mark.parametrize("name", sorted(SETS))
def test_sizes(name: str, isthmus_data: At) -> None:
    file, sizes, concepts, columns, classes = SETS[name]
    isthmus_data(file)
    splits = load(name)
    assert tuple(map(len, (splits.train, splits.validation, splits.test))) == sizes
    assert (splits.space.count, len(splits.space), splits.task.width) == (concepts, columns, classes)
    assert splits.card is not None
    assert splits.card.name == splits.name == name
    if splits.task.kind == "classes":
        for part in (splits.train, splits.test):
            assert part.y is not None
            assert len(part.y.unique()) == classes


def test_wbcatt(isthmus_data: At) -> None:
    isthmus_data("images/wbcatt_128.npz")
    splits = load("wbcatt")
    assert isinstance(splits.train.x, Images)
    assert splits.train.x.take(torch.arange(3)).read().shape == (3, 3, 128, 128)
    assert splits.train.c is not None
    assert not bool(splits.train.c.isnan().any())
    assert _accuracy(splits) == pytest.approx(0.989, abs=0.002)  # one-hot concepts -> class
    assert len(splits.test.ids or ()) == len(set(splits.test.ids or ()))
    assert not set(splits.train.ids or ()) & set(splits.test.ids or ())


def test_cub100_concepts_are_those_of_the_200_species(isthmus_data: At) -> None:
    isthmus_data("images/cub_100cls.npz")
    with np.load(isthmus_data("attrs/cub_attributes.npz")) as real:
        matrix, names, index = real["class_attr_112"], real["attribute_names"], real["attr_112_index"]
        row_of = {str(file): int(cls) for file, cls in zip(real["image_file"], real["image_class"], strict=True)}
        in_train = {str(file): bool(mark) for file, mark in zip(real["image_file"], real["image_is_train"], strict=True)}
    splits = load("cub100")
    assert splits.space.names == tuple(str(name) for name in names[index])
    assert len(splits.space.groups) == 28
    for part, trained in ((splits.train, True), (splits.validation, True), (splits.test, False)):
        assert part.c is not None
        assert part.ids is not None
        assert {in_train[name] for name in part.ids} == {trained}
        assert np.array_equal(part.c.numpy(), matrix[[row_of[name] for name in part.ids]])
    assert _accuracy(splits) == 1.0  # the class-level concepts settle the class by construction
    assert splits.test.x.take(torch.tensor([0])).read().shape == (1, 3, 144, 144)


def test_cub100_invisible_parts(isthmus_data: At) -> None:
    isthmus_data("images/cub_100cls.npz")
    kept, unknown, unaskable = (load("cub100", invisible=rule).train for rule in ("keep", "unknown", "unaskable"))
    assert kept.c is not None
    assert unknown.c is not None
    assert unaskable.c is not None
    assert unaskable.askable is not None
    hidden = unknown.c.isnan()
    assert 0.04 < float(hidden.float().mean()) < 0.07
    assert torch.equal(~hidden, unaskable.askable)
    assert torch.equal(unknown.c[~hidden], kept.c[~hidden])
    assert torch.equal(unaskable.c, kept.c)
    assert kept.askable is None
    legs = [i for i, name in enumerate(kept.space.names) if name.startswith("has_leg_color")]
    sizes = [i for i, name in enumerate(kept.space.names) if name.startswith("has_size")]
    assert float(hidden[:, legs].float().mean()) > 0.15
    assert not bool(hidden[:, sizes].any())


@pytest.mark.parametrize(
    ("name", "inputs", "file", "width"),
    [
        ("wbcatt", "mobilenetv2", "features/wbcatt_128_mnv2.npz", 1280),
        ("cub100", "birds", "features/cub_100cls_birdnet.npz", 1280),
        ("cub100", "mobilenetv2", "features/cub_100cls_mnv2.npz", 1280),
        ("cifar10_8k", "mobilenetv2", "features/cifar10_8k_mnv2.npz", 1280),
    ],
)
def test_packed_features(name: str, inputs: str, file: str, width: int, isthmus_data: At) -> None:
    isthmus_data(file)
    splits = load(name, inputs=inputs)
    assert splits.train.x.shape == (SETS[name][1][0], width)
    assert splits.train.x.dtype == torch.float32
    assert float(splits.train.x.min()) >= 0
    assert float(splits.train.x.max()) <= 6 + 1e-5


def test_cebab(isthmus_data: At) -> None:
    isthmus_data("text/cebab.jsonl.gz")
    rows = cebab_rows()
    assert len(rows) == 15090
    assert len({row["original_id"] for row in rows}) == 2299
    splits = load("cebab")
    assert _accuracy(splits) == pytest.approx(0.52, abs=0.015)  # true aspects -> stars: the set is incomplete
    groups = [set(part.group or ()) for part in (splits.train, splits.validation, splits.test)]
    assert not (groups[0] & groups[1])
    assert not (groups[0] & groups[2])
    assert not (groups[1] & groups[2])
    assert all(row["review_majority"] != "no majority" for row in rows if row["split"] != "train")
    everything = load("cebab", target="mean", labels="votes")
    parts = (everything.train, everything.validation, everything.test)
    assert tuple(map(len, parts)) == (11728, 1673, 1689)
    c = torch.cat([part.c for part in parts if part.c is not None]).view(15090, 4, 3)
    assert c.isnan().all(2).sum(0).tolist() == [1025, 4241, 2892, 5549]
    assert [len(load("cebab", target="mean", train=t).train) for t in ("observational", "exclusive")] == [
        1755,
        1755,
    ]


@pytest.mark.parametrize(("name", "figure"), [("sst2", 0.811), ("agnews", 0.874)])
def test_texts_give_the_known_tfidf_accuracy(name: str, figure: float, isthmus_data: At) -> None:
    isthmus_data(SETS[name][0])
    splits = load(name)
    assert isinstance(splits.train.x, Texts)
    assert splits.train.y is not None
    assert splits.test.y is not None
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model = LogisticRegression(C=3, max_iter=1000).fit(words.fit_transform(splits.train.read()), splits.train.y.numpy())
    assert model.score(words.transform(splits.test.read()), splits.test.y.numpy()) == pytest.approx(figure, abs=0.012)


def test_tables(isthmus_data: At) -> None:
    for name in ("ctg", "dermatology", "zoo", "car", "heart_cleveland"):
        isthmus_data(SETS[name][0])
    assert _accuracy(load("ctg")) == pytest.approx(0.984, abs=0.01)
    assert _accuracy(load("ctg", patterns="binary")) == _accuracy(load("ctg"))
    found = [_accuracy(load("dermatology", seed=seed)) for seed in range(5)]
    assert float(np.mean(found)) == pytest.approx(0.937, abs=0.03)
    assert _accuracy(load("zoo")) >= 0.9
    assert _accuracy(load("car")) > 0.85


def test_standardised_inputs(isthmus_data: At) -> None:
    isthmus_data("tabular/ctg.csv.gz")
    plain, scaled = load("ctg"), load("ctg", standardise=True)
    deviation = scaled.train.x.std(0, correction=0)
    assert float(scaled.train.x.mean(0).abs().max()) < 1e-4
    assert sorted(set(deviation.round(decimals=3).tolist())) == [0.0, 1.0]  # DR is constant
    assert scaled.test.x[:, 0].mean().item() != pytest.approx(0, abs=1e-6)  # by training rows alone
    assert plain.train.x.max() > 200


def test_dermatology_grades(isthmus_data: At) -> None:
    isthmus_data("tabular/dermatology.csv.gz")
    states, numbers, present = (load("dermatology", grades=g).train for g in ("categorical", "continuous", "present"))
    assert states.c is not None
    assert numbers.c is not None
    assert present.c is not None
    assert torch.equal(states.c.view(-1, 22, 4).argmax(2).float(), numbers.c)
    assert torch.equal(present.c, (numbers.c > 0).float())
    assert present.space.kinds == {"binary"}
    assert numbers.space.kinds == {"continuous"}
    assert states.x[:, -1].max() <= 75
    assert states.x.isfinite().all()


def test_heart_unknown_findings_stay_unknown(isthmus_data: At) -> None:
    isthmus_data("tabular/heart_cleveland.csv.gz")
    splits = load("heart_cleveland")
    c = torch.cat([part.c for part in (splits.train, splits.validation, splits.test) if part.c is not None])
    missing = {
        concept.name: int(c[:, part].isnan().all(1).sum())
        for concept, part in zip(splits.space.concepts, splits.space.slices, strict=True)
    }
    assert missing == {"thalach": 0, "exang": 0, "oldpeak": 0, "slope": 0, "ca": 5, "thal": 2}
    assert 140 < splits.space.concepts[0].center < 160  # beats per minute, from the training rows


def test_sprites(isthmus_data: At) -> None:
    isthmus_data("images/sprites_video.npz")
    splits = load("sprites_video", motion=True)
    assert splits.train.x.shape == (585, 8, 3, 64, 64)
    assert splits.train.x.dtype == torch.uint8
    assert _accuracy(splits) == 1.0  # action and view settle the class
    assert _accuracy(load("sprites_video")) < 0.25  # the four factors say nothing about it
    assert not set(splits.train.group or ()) & set(splits.test.group or ())


def test_cards_and_pairs(isthmus_data: At) -> None:
    for file in ("images/playing_cards.npz", "rec/reviewer_users.jsonl.gz", "rec/ratings_ml_small.npz"):
        isthmus_data(file)
    deck = faces()
    assert len({*zip(deck.ranks, deck.suits, strict=True)}) == 52
    assert deck.images.read().shape == (52, 3, 186, 128)
    splits = load("playing_cards")
    total = torch.cat([part.y for part in (splits.train, splits.validation, splits.test) if part.y is not None])
    assert total.bincount().tolist() == [20, 6, 20, 6]
    found = reviewers()
    assert (len(found.people), len(found.papers)) == (58, 3374)
    assert sum(len(person.expertise) for person in found.people) == 477
    assert sum(bool(paper.areas) for paper in found.papers.values()) == 462
    assert len(ratings().stars) == 100836
    assert sum(bool(film["wiki_extract"]) for film in films()) == 6265


COUNTS = {
    "ctg": {"normal": 1655, "suspect": 295, "pathologic": 176, "pattern=calm sleep": 384, "pattern=REM sleep": 579,
            "pattern=shift pattern": 72, "pattern=suspect pattern": 197, "pattern=flat-sinusoidal pattern": 69},
    "dermatology": {"psoriasis": 112, "seborrheic dermatitis": 61, "lichen planus": 72, "pityriasis rosea": 49,
                    "chronic dermatitis": 52, "pityriasis rubra pilaris": 20, "spongiosis=absent": 199,
                    "melanin incontinence=strong": 16, "band-like infiltrate=slight": 3},
    "heart_cleveland": {"<50": 165, ">50_1": 138, "ca=0": 175, "ca=1": 65, "ca=2": 38, "ca=3": 20, "thal=normal": 166,
                        "thal=fixed_defect": 18, "slope=down": 21, "exang": 99},
    "car": {"unacc": 1210, "acc": 384, "good": 69, "vgood": 65, "safety=high": 576, "doors=5more": 432},
    "zoo": {"mammal": 41, "invertebrate": 10, "reptile": 5, "legs=6": 10, "legs=5": 1, "feathers": 20, "venomous": 8},
    "sst2": {"negative": 4650, "positive": 4963},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_counts_by_name(name: str, isthmus_data: At) -> None:
    """Classes and states stand under their right names: the counts are those of the files."""
    isthmus_data(SETS[name][0])
    splits = load(name)
    parts = (splits.train, splits.validation, splits.test)
    y = torch.cat([part.y for part in parts if part.y is not None])
    found = dict(zip(splits.task.names, y.bincount().tolist(), strict=True))
    if len(splits.space):
        c = torch.cat([part.c for part in parts if part.c is not None]).nan_to_num()
        found |= dict(zip(splits.space.columns, c.sum(0).long().tolist(), strict=True))
    assert {key: found[key] for key in COUNTS[name]} == COUNTS[name]


def test_topics_stand_under_their_right_names(isthmus_data: At) -> None:
    isthmus_data("text/agnews_7600.jsonl.gz")
    splits = load("agnews")
    assert splits.test.y is not None
    words = {"sports": "coach", "business": "profit", "sci/tech": "software", "world": "troops"}
    topics = [splits.task.names[y] for y in splits.test.y.tolist()]
    for topic, word in words.items():
        hits = [found for found, text in zip(topics, splits.test.read(), strict=True) if f" {word}" in text.lower()]
        assert max(set(hits), key=hits.count) == topic
