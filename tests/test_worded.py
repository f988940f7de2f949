"""Words as concepts: labels left out, weak where labels made the captions, and a map that no validation or test row moved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from isthmus import registry
from isthmus.api import fit
from isthmus.concepts.book import Book, Measured, Phrase, merged
from isthmus.data.table import Splits, Table
from isthmus.errors import DataError, OptionError, UnknownName
from isthmus.features import Features, build
from isthmus.features.aligned import Aligned
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.worded import MADE, Worded, captions_of, in_words, tied_suffix, vectors, worded
from tests.language import Shut, identity, scene, sealed


class Letters(Features):
    """A text encoder that counts letters, and then mixes them."""

    dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mix", torch.randn(26, 6, generator=torch.Generator().manual_seed(0)))
        self.batches: list[int] = []

    def prepare(self, raw: Sequence[str]) -> Tensor:
        self.batches.append(len(raw))
        return torch.tensor([[float(text.lower().count(chr(97 + i))) for i in range(26)] for text in raw])

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.mix


class Weights(Features):
    """A frozen backbone with weights of its own, of which the cache remembers the rows."""

    pretrained = True

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.map = 5, torch.nn.Linear(12, 5)

    def prepare(self, raw: Any) -> Tensor:
        return raw

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x)


WORDS = merged(
    Phrase(text, (owner,), approved="me")
    for owner, texts in {"a": ["red wings", "long beak"], "b": ["round eyes", "red wings"], "c": ["grey tail"]}.items()
    for text in texts
)


def captioned(data: Splits, **changed: Tensor) -> Splits:
    """The rows with captions; x of validation or test, or their captions, may be ``changed``."""

    def said(table: Table) -> list[str]:
        return [f"a {'big' if size > 0 else 'small'} bird of kind {y}" for size, y in zip(table.x[:, 0], table.y, strict=True)]

    parts = {}
    for name in ("train", "validation", "test"):
        table = getattr(data, name)
        captions = said(table) if name not in changed else ["poison"] * len(table)
        parts[name] = table.replace(x=changed.get(name, table.x), caption=captions)
    return Splits(**parts)


def test_concept_labels_are_left_out_and_words_take_their_place() -> None:
    data = scene()
    assert data.train.c is not None
    found = worded(data, WORDS, text=Letters())
    for name in ("train", "validation", "test"):
        table, was = getattr(found.splits, name), getattr(data, name)
        assert table.c is None and table.where is None and table.askable is None and table.caption is None
        assert table.space == found.splits.space and torch.equal(table.x, was.x) and torch.equal(table.y, was.y)
    assert found.splits.space.names == ("red wings", "long beak", "round eyes", "grey tail")
    assert [c.owners for c in found.splits.space.concepts] == [("a", "b"), ("a",), ("b",), ("c",)]
    torch.testing.assert_close(found.splits.space.vectors, vectors(Letters(), WORDS.texts))
    torch.testing.assert_close(found.options["class_vectors"], vectors(Letters(), ["a", "b", "c"]))
    assert data.train.c is not None and data.space.names[0] == "a 0", "the data that came in stays as it was"
    assert (found.card["words"], found.card["for_classes"]) == (4, 3)


def test_captions_made_from_labels_are_weak_and_captions_of_the_table_are_not() -> None:
    data = scene()
    weak, told = worded(data, WORDS, text=Letters()), worded(captioned(data), WORDS, text=Letters())
    assert weak.weak and weak.card["aligned"]["weak"] and weak.card["aligned"]["pairs"] == MADE
    assert not told.weak and not told.card["aligned"]["weak"] and told.card["aligned"]["pairs"] != MADE
    assert not torch.equal(weak.features.shared.weight, told.features.shared.weight)
    unlabelled = Splits(*(getattr(captioned(data), n).replace(c=None) for n in ("train", "validation", "test")))
    again = worded(unlabelled, WORDS, text=Letters())
    assert torch.equal(again.features.shared.weight, told.features.shared.weight), "with captions no concept label is read"
    own = worded(data, WORDS, features=identity(data, 6), text=Letters())
    assert not own.weak and own.card["aligned"] is None


def test_labels_of_training_rows_move_a_weak_map_and_nothing_but_training_rows_does() -> None:
    """Other features, captions and labels of validation and test rows give the same map bit for bit."""
    data = scene()
    junk = {n: 1e6 * torch.randn_like(getattr(data, n).x) for n in ("validation", "test")}
    for clean, poisoned in (
        (captioned(data), captioned(data, **junk)),
        (data, Splits(data.train, *(getattr(data, n).replace(x=junk[n], c=1 - getattr(data, n).c) for n in junk))),
    ):
        a, b = (worded(each, WORDS, text=Letters()) for each in (clean, poisoned))
        assert torch.equal(a.features.shared.weight, b.features.shared.weight)
        assert torch.equal(a.features.shared.bias, b.features.shared.bias) and a.card == b.card
    other = Splits(data.train.replace(c=1 - data.train.c), data.validation, data.test)
    a, b = (worded(each, WORDS, text=Letters()).features.shared for each in (data, other))
    assert not torch.equal(a.weight, b.weight)


@pytest.mark.parametrize("pretrained", [False, True])
def test_rows_of_validation_and_test_are_not_even_looked_at(pretrained: bool) -> None:
    data = sealed(scene())
    data = Splits(data.train, data.validation.replace(x=Shut(data.validation.x.x)), data.test)
    torch.manual_seed(0)
    found = worded(data, WORDS, features=Weights() if pretrained else build("identity", dim=12), text=Letters())
    assert isinstance(found.features, Aligned) and found.weak


def test_what_is_fitted_on_words_runs_and_its_features_stay_frozen() -> None:
    data = scene()
    found = worded(data, WORDS, text=Letters())
    before = {name: t.clone() for name, t in found.features.state_dict().items()}
    model = fit("labo", found.splits, features=found.features, epochs=2)
    assert bool(model(data.test.x).logits.isfinite().all())
    assert not any(p.requires_grad for p in found.features.parameters()) and not found.features.training
    assert all(torch.equal(t, before[name]) for name, t in found.features.state_dict().items())
    e = data.test.x @ before["shared.weight"].T + before["shared.bias"]
    want = e @ model.bottleneck.rows.T
    torch.testing.assert_close(model(data.test.x).concepts.values, want, atol=1e-4, rtol=1e-4)


def test_the_same_seed_gives_the_same_map() -> None:
    data = captioned(scene())
    a, b = (worded(data, WORDS, text=Letters(), seed=1) for _ in range(2))
    assert torch.equal(a.features.shared.weight, b.features.shared.weight) and a.card == b.card


def test_features_without_weights_learn_the_task_first_and_then_stay() -> None:
    """On classes alone: other concept labels give the same features, other test rows too."""
    data = captioned(scene())
    other = Splits(
        *(getattr(data, n).replace(c=None) for n in ("train", "validation")), data.test.replace(c=None, x=0 * data.test.x)
    )
    made = [worded(each, WORDS, features="mlp", text=Letters(), training={"epochs": 2}) for each in (data, other)]
    a, b = (each.features.backbone.state_dict() for each in made)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(p.requires_grad for each in made for p in each.features.parameters())


def test_a_phrase_that_nobody_let_in_is_no_concept() -> None:
    waiting = Book((Phrase("red wings"),))
    with pytest.raises(DataError, match="not approved"):
        worded(scene(), waiting, text=Letters())


@pytest.mark.filterwarnings("ignore:.*no phrase was written for 'b':UserWarning")
def test_words_from_a_file_by_class(tmp_path: Path) -> None:
    (tmp_path / "birds.json").write_text('{"a": ["red wings"], "c": ["grey tail", "red wings"]}')
    found = worded(scene(), tmp_path / "birds.json", text=Letters())
    assert [(c.name, c.owner) for c in found.splits.space.concepts] == [("red wings", ("a", "c")), ("grey tail", "c")]
    assert found.card["source"] == ["file birds.json"]


def test_a_sentence_about_a_row_is_its_class_and_what_is_known_to_be_there() -> None:
    """Text before name, a state before its concept; an unknown label, an absent concept and a number say nothing."""
    space = ConceptSpace.of(
        Concept("red_wing", text="red wings"),
        Concept("beak", "categorical", ("long", "short")),
        Concept("weight", "continuous"),
        Concept("in_flight"),
    )
    nan = torch.nan
    c = torch.tensor([[1.0, 0, 1, 70, 1], [0, 1, 0, 9, 0], [nan, nan, nan, nan, 1], [0, 0, 1, 5, nan]])
    table = Table(torch.zeros(4, 2), c=c, y=torch.tensor([0, 1, 1, 0]), space=space, task=Task.classes(["barn_owl", "gull"]))
    assert captions_of(table) == [
        "barn owl, red wings, short beak, in flight",
        "gull, long beak",
        "gull, in flight",
        "barn owl, short beak",
    ]
    assert captions_of(table.replace(c=None)) == ["barn owl", "gull", "gull", "barn owl"]
    number = Table(torch.zeros(4, 2), y=torch.rand(4), task=Task.value("price"))
    with pytest.raises(OptionError, match="expected captions for the training rows"):
        captions_of(number)


def test_texts_are_embedded_in_parts_and_come_out_in_order() -> None:
    texts, encoder = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(600)], Letters()
    torch.testing.assert_close(vectors(encoder, texts), encoder(encoder.prepare(texts)))
    assert encoder.batches[:3] == [256, 256, 88]


def written(**phrases: str) -> Book:
    return Book(tuple(Phrase(text, (owner,), approved="me") for owner, text in phrases.items()))


def test_a_class_that_is_misspelt_is_answered_and_one_without_words_is_named() -> None:
    """Near a class that has no phrase: an error. A class of another data set beside all of ours: a warning."""
    data = scene()
    task = Task.classes(["car", "bird", "airplane"])
    data = Splits(*(getattr(data, n).replace(task=task) for n in ("train", "validation", "test")))
    for slip, meant in (("brid", "bird"), ("Bird", "bird"), ("aeroplane", "airplane")):
        own = {name: f"{len(name)} words" for name in task.names if name != meant}
        with pytest.raises(UnknownName, match=f"{slip!r}; did you mean {meant!r}"):
            worded(data, written(**own, **{slip: "two wings"}), text=Letters())
    whole = {name: f"{len(name)} words" for name in task.names}
    with pytest.warns(UserWarning, match="phrases of 'cat' count for no class") as told:
        worded(data, written(**whole, cat="four legs"), text=Letters())
    assert len(told) == 1
    with pytest.warns(UserWarning, match=r"no phrase was written for 'bird', 'airplane'; .* \(describe, peeb\) never"):
        worded(data, written(car="four wheels"), text=Letters())
    worded(data, Book((Phrase("round", approved="me"),)), text=Letters())  # for no class: nothing to say
    with pytest.raises(DataError, match="expected at least one phrase"):
        worded(data, Book(()), text=Letters())


@pytest.mark.filterwarnings("ignore:concept:UserWarning")
def test_labels_of_captions_are_those_of_training_and_validation_rows_alone() -> None:
    data = captioned(scene())
    labels = {text: (1.0, 0.0, None, 1.0) for text in set(data.train.caption or ()) if "big" in text}
    book = Book(WORDS.phrases, Measured(labels, {"a": {"red wings": 1}, "elsewhere": {"red wings": -1}}))
    found = worded(data, book, text=Letters())
    big = torch.tensor(["big" in text for text in data.train.caption or ()])
    want = torch.where(big[:, None], torch.tensor([1.0, 0.0, torch.nan, 1.0]), torch.nan)
    torch.testing.assert_close(found.splits.train.c, want, equal_nan=True)
    assert not bool(found.splits.validation.c.isnan().all()) and bool(found.splits.test.c.isnan().all())
    assert found.options["prior"] == {"a": {"red wings": 1}}
    with pytest.raises(DataError, match="expected labels of the captions of these rows, got none"):
        worded(data, Book(WORDS.phrases, Measured({"another": (1.0, 1.0, 1.0, 1.0)}, {})), text=Letters())


WORLD = scene(classes=5)
SEEN, UNSEEN = ["a", "b", "d"], ["c", "e"]


def poisoned(data: Splits, classes: Sequence[str]) -> Splits:
    """Other rows, concept labels and captions for the training and validation rows of these classes."""
    parts = {}
    for name in ("train", "validation"):
        table = getattr(data, name)
        rows = torch.isin(table.y, torch.tensor([data.task.names.index(each) for each in classes]))
        said = table.caption and [f"poison{'x' * (i % 5)}" if on else table.caption[i] for i, on in enumerate(rows)]
        x, c = (torch.where(rows[:, None], other, was) for was, other in ((table.x, 9 - table.x), (table.c, 1 - table.c)))
        parts[name] = table.replace(x=x, c=c, caption=said)
    return Splits(**parts, test=data.test, name=data.name)


@pytest.mark.parametrize("features", [None, "mlp"])
@pytest.mark.parametrize("with_captions", [False, True])
def test_no_row_of_a_class_that_is_kept_apart_reaches_the_map_or_the_features(with_captions: bool, features: Any) -> None:
    data = captioned(WORLD) if with_captions else WORLD
    how: dict[str, Any] = {"text": Letters(), "features": features, "training": {"epochs": 2}, "unseen": UNSEEN}
    book = Book(tuple(Phrase(text, approved="me") for text in ("red wings", "long beak", "grey tail")))
    clean, other, seen = (worded(each, book, **how) for each in (data, poisoned(data, UNSEEN), poisoned(data, SEEN)))
    before, same, moved = (each.features.state_dict() for each in (clean, other, seen))
    assert all(torch.equal(value, same[name]) for name, value in before.items()) and clean.card == other.card
    assert not torch.equal(before["shared.weight"], moved["shared.weight"]), "rows of the other classes do make it"
    with_all = worded(data, book, **(how | {"unseen": None})).features.shared.weight
    assert not torch.equal(before["shared.weight"], with_all)
    rows = int(torch.isin(data.train.y, torch.tensor([0, 1, 3])).sum())
    assert clean.card["unseen"] == UNSEEN and clean.card["aligned"]["classes"] == SEEN and clean.card["aligned"]["rows"] == rows
    assert clean.card["features_learnt"] is (features == "mlp")
    assert clean.weak is not with_captions and "of the other 3 classes" in clean.card["aligned"]["pairs"]


def said(found: Worded) -> str:
    """What stands behind the name of a method that learns nothing but the map."""
    return tied_suffix(registry.get("describe"), found.card["aligned"], found.splits.task)


def test_classes_kept_apart_are_the_task_and_rows_that_learn_nothing_else_are_zero_shot() -> None:
    data = captioned(WORLD)
    found = worded(data, WORDS, text=Letters(), unseen=["c", "b"])
    assert found.splits.task.names == ("b", "c") and said(found) == ""
    plain = Book((Phrase("red wings", approved="me"),))
    assert said(worded(data, plain, text=Letters())) == " (classes seen by the map)"
    assert found.splits.space.names == ("red wings", "round eyes", "grey tail"), "phrases of a alone are out"
    for name in ("train", "validation", "test"):
        table, was = getattr(found.splits, name), getattr(data, name)
        rows = (was.y == 1) | (was.y == 2)
        assert torch.equal(table.x, was.x[rows]) and torch.equal(table.y, was.y[rows] - 1)
    torch.testing.assert_close(found.options["class_vectors"], vectors(Letters(), ["b", "c"]))
    weak = worded(WORLD, WORDS, text=Letters(), unseen=["b", "c"])
    assert said(weak) == " (weakly supervised)"
    own = worded(WORLD, WORDS, features=identity(WORLD, 6), text=Letters(), unseen=["b", "c"])
    assert own.card["aligned"] is None and own.splits.task.names == ("b", "c") and not own.card["fitted_here"]


@pytest.mark.parametrize(
    ("caption", "tells"),
    [
        ("a Red panda asleep", True), ("two red pandas", True), ("red_panda", True), ("a red-panda", True),
        ("red pandamonium", False), ("the foxes", True), ("(fox)", True), ("foxtrot", False), ("a firefox", False),
        ("Red\npanda", True), ("a f\u043ex", True), ("two flies", True), ("a fly's wing", True),
    ],
)  # fmt: skip
def test_a_caption_that_names_a_class_kept_apart_is_no_pair(caption: str, tells: bool) -> None:
    task = Task.classes(["bear", "wolf", "red_panda", "fox", "fly"])
    told = [f"a bear {i}" if i % 2 else f"a wolf {i}" for i in range(39)] + [caption]
    y = torch.tensor([1 - i % 2 for i in range(39)] + [0, 2, 3, 4])
    x = torch.randn(43, 4, generator=torch.Generator().manual_seed(0))
    table = Table(x, y=y, task=task, caption=[*told, "?", "!", "-"])
    book = Book((Phrase("long tail", approved="me"),))
    found = worded(Splits(table, table, table), book, text=Letters(), unseen=["red_panda", "fox", "fly"]).card["aligned"]
    assert found["rows"] == 40 - tells and ("1 left out, as their captions name an unseen one" in found["pairs"]) is tells


def test_made_up_captions_leave_out_concepts_that_name_a_class_kept_apart_and_classes_that_do() -> None:
    task = Task.classes(["straight flush", "pair", "flush", "straight"])
    space = ConceptSpace.binary(("like a flush", "red"))
    y = torch.arange(40) % 4
    c = torch.ones(40, 2)
    c[::3] = 0
    table = Table(torch.randn(40, 5), c=c, y=y, space=space, task=task)
    assert "straight flush, like a flush, red" in captions_of(table)
    assert set(captions_of(table, ["flush", "straight"])) == {n + end for n in task.names for end in ("", ", red")}
    book = Book((Phrase("long tail", approved="me"),))
    card = worded(Splits(table, table, table), book, text=Letters(), unseen=["flush", "straight"]).card["aligned"]
    assert card["rows"] == 10 and "rows of the other 2 classes alone, 10 left out" in card["pairs"]


def test_a_map_that_features_bring_is_refused_where_it_saw_a_class_that_is_to_be_unseen() -> None:
    data = captioned(WORLD)
    plain = Book((Phrase("red wings", approved="me"),))
    full, part = worded(data, plain, text=Letters()), worded(data, plain, text=Letters(), unseen=UNSEEN)
    with pytest.raises(OptionError, match="whose map these classes were kept from, got one that may have seen rows of 'c'"):
        worded(data, plain, features=full.features, text=Letters(), unseen=UNSEEN)
    with pytest.raises(OptionError, match="may have seen rows of 'b'"):
        worded(data, plain, features=part.features, text=Letters(), unseen=["b", "c"])
    again = worded(data, plain, features=part.features, text=Letters(), unseen=UNSEEN)
    assert again.features is part.features and said(again) == "" and not again.card["fitted_here"]
    assert said(worded(data, plain, features=full.features, text=Letters())) == " (classes seen by the map)"
    del part.features.card["classes"]
    with pytest.raises(OptionError, match="may have seen rows of 'c'"):
        worded(data, plain, features=part.features, text=Letters(), unseen=UNSEEN)


def test_a_module_that_is_given_is_not_trained_in_place() -> None:
    data = captioned(WORLD)
    module = build("mlp", dim_in=12)
    before = {name: t.clone() for name, t in module.state_dict().items()}
    plain = Book((Phrase("red wings", approved="me"),))
    made = [
        worded(data, plain, features=module, text=Letters(), training={"epochs": 1}, unseen=each) for each in (SEEN[1:], UNSEEN)
    ]
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    assert not any(torch.equal(t, before[name]) for name, t in made[0].features.backbone.named_parameters())


def test_a_misspelt_class_of_a_list_is_answered_though_it_is_kept_out() -> None:
    task = Task.classes(["airplane", "bird", "frog", "ship", "truck"])
    data = Splits(*(getattr(captioned(WORLD), n).replace(task=task) for n in ("train", "validation", "test")))
    own = {name: f"words {name[0]}" for name in task.names if name != "airplane"}
    with pytest.raises(UnknownName, match="'airplan'; did you mean 'airplane'"):
        worded(data, written(airplan="two wings", **own), text=Letters(), unseen=["frog", "ship"])
    with pytest.warns(UserWarning, match="phrases of 'cow' count for no class") as told:
        found = worded(data, written(cow="four legs", airplane="two wings", **own), text=Letters(), unseen=["frog", "ship"])
    assert len(told) == 1 and found.splits.space.names == ("words f", "words s")
    with pytest.warns(UserWarning, match="no phrase was written for 'frog'; "):
        worded(data, written(ship="a bow"), text=Letters(), unseen=["frog", "ship"])


def test_what_no_class_can_be_kept_apart_from_is_refused() -> None:
    with pytest.raises(OptionError, match="unseen: expected words, too"):
        in_words(WORLD, None, ["a", "b"])
    assert in_words(WORLD, None, None) is None
    only = Book(tuple(phrase for phrase in WORDS if phrase.owners == ("a",)))
    with (
        pytest.raises(DataError, match="words: expected phrases of the unseen classes, or of none"),
        pytest.warns(UserWarning, match="no phrase was written for 'b', 'c'"),
    ):
        worded(WORLD, only, text=Letters(), unseen=["b", "c"])
    telling = captioned(WORLD)
    telling.train.caption = ["an a, a b, a c"] * len(telling.train)
    with pytest.raises(DataError, match="captions of other classes that name none of these, got none"):
        worded(telling, WORDS, text=Letters(), unseen=["a", "b"])
