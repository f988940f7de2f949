"""Text-to-concept and its kin: cosines in the text space, standardised on train, and means of a class's own descriptors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from isthmus.data.table import Splits
from isthmus.errors import DataError, OptionError
from isthmus.features import Features
from isthmus.heads.association import membership
from isthmus.methods.text2concept import banned_in
from isthmus.model import Concepts
from isthmus.space import Concept, ConceptSpace, Task
from tests.language import fit, identity, plan, scene, texts, unlabelled

PROBED = ("text2concept", "medical")


def cosines(data: Splits, features: Features, part: str = "test") -> np.ndarray:
    """cos(W z + b, t), one row and one text at a time; the map by its own weights."""
    z = getattr(data, part).x.double().numpy()
    if hasattr(features, "shared"):
        z = z @ features.shared.weight.double().numpy().T + features.shared.bias.double().numpy()
    t = texts(data, features).double().numpy()
    return np.array([[a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for b in t] for a in z])


@pytest.mark.parametrize("name", PROBED)
@pytest.mark.parametrize("text", [None, 5])
def test_values_are_cosines_after_the_map_in_training_deviations(name: str, text: int | None) -> None:
    """Normalised after the affine map, its bias included: without it the values would be others."""
    data = unlabelled(scene(text=text))
    features = identity(data, text)
    model = fit(name, data, features=features, epochs=2)
    train, test = (cosines(data, features, part) for part in ("train", "test"))
    values = model(data.test.x).concepts.values.numpy()
    np.testing.assert_allclose(values, (test - train.mean(0)) / train.std(0), atol=2e-3)
    if text is not None:
        features.shared.bias.zero_()
        assert np.abs(cosines(data, features) - test).max() > 0.05


@pytest.mark.parametrize("name", PROBED)
def test_the_common_part_of_a_text_space_is_taken_out(name: str) -> None:
    """Cosines of CLIP are all about .2; what the head sees has mean 0 and deviation 1, and a text that no row moves is 0."""
    data = unlabelled(scene())
    far = [getattr(data, n).replace(x=getattr(data, n).x + 20) for n in ("train", "validation", "test")]
    data = Splits(*far)
    model = fit(name, data, epochs=2)
    shown = model(data.train.x).concepts.values
    assert np.ptp(cosines(data, identity(data)), axis=0).max() < 0.15, "cosines hardly differ"
    torch.testing.assert_close(shown.mean(0), torch.zeros(9), atol=1e-3, rtol=0)
    torch.testing.assert_close(shown.std(0, correction=0), torch.ones(9), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", [*PROBED, "describe", "labo", "pcbm", "labelfree", "sparsecbm", "cms"])
@pytest.mark.parametrize("at", [0.0, 100.1])
def test_a_concept_that_no_row_moves_is_nought_and_makes_no_nan(name: str, at: float) -> None:
    """Rows vary in all columns but two, and the text of one concept lies in these two."""
    data = unlabelled(scene(noise=1.0))
    vectors = data.space.vectors.clone()
    vectors[4] = torch.eye(12)[10] - torch.eye(12)[11]
    space = replace(data.space, vectors=vectors)

    def flat(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, 10:] = at
        return torch.nn.functional.normalize(x, dim=-1) if at == 0.0 else x

    data = Splits(*(getattr(data, n).replace(x=flat(getattr(data, n).x), space=space) for n in ("train", "validation", "test")))
    options = {"labelfree": {"similarity_cutoff": -1.0}, "cms": {"class_vectors": torch.eye(12)[:3], "scaling": "columns"}}
    short = {} if name in ("describe", "pcbm", "cms", "labelfree") else {"epochs": 2}
    model = fit(name, data, **short, **options.get(name, {}))
    out = model(data.test.x)
    assert bool(out.logits.isfinite().all()) and bool(out.concepts.values.isfinite().all())
    if name in PROBED:
        assert float(out.concepts.values[:, 4].abs().max()) < 1e-3


def test_the_head_is_a_linear_map_that_learns_on_values_alone() -> None:
    data = unlabelled(scene())
    made = plan("text2concept", data, epochs=30, lr=0.05)
    before = made.model.bottleneck.rows.clone()
    model = made.fit(data)
    assert torch.equal(before, model.bottleneck.rows)
    out = model(data.test.x)
    w, b = model.head.map.weight, model.head.map.bias
    torch.testing.assert_close(out.logits, out.concepts.values @ w.T + b)
    assert float((out.logits.argmax(-1) == data.test.y).float().mean()) > 0.7


@pytest.mark.parametrize("kind", ["labels", "value"])
def test_other_tasks(kind: str) -> None:
    data = unlabelled(scene())
    task = Task.labels("pq") if kind == "labels" else Task.value("v")
    made = lambda x: (x[:, :2] > 0).float() if kind == "labels" else x[:, 0]  # noqa: E731
    parts = [getattr(data, n).replace(y=made(getattr(data, n).x), task=task) for n in ("train", "validation", "test")]
    model = fit("text2concept", Splits(*parts), epochs=40, lr=0.05)
    answer = model.task.predict(model(data.test.x).logits)
    y = parts[2].y
    gap = (answer - y).abs().mean()
    assert float(gap) < 0.6 * float((y.mean(0) - y).abs().mean())


# description and names


@pytest.mark.parametrize("text", [None, 5])
def test_a_class_scores_the_mean_of_its_own_descriptors(text: int | None) -> None:
    """Not the sum: a class with more descriptors has no advantage; and one without any is never answered."""
    data = unlabelled(scene(text=text))
    keep = [0, 1, 2, 3, 7]  # three of a, one of b, one of c
    owners = ["a", "a", "a", "b", "c"]
    space = data.space.keep(keep)
    task = Task.classes("abcd")
    data = Splits(*(getattr(data, n).replace(space=space, task=task) for n in ("train", "validation", "test")))
    features = identity(data, text)
    model = fit("describe", data, features=features, scale=10.0)
    cos = cosines(data, features)
    want = [[np.mean([row[k] for k in range(5) if owners[k] == y] or [-2.0]) for y in "abcd"] for row in cos]
    np.testing.assert_allclose(model(data.test.x).logits.numpy(), 10 * np.array(want), atol=1e-4)
    assert not list(model.parameters())
    dark = data.test.x - 10 * data.train.x.mean(0)  # every cosine may be negative: 0 would win there
    assert 3 not in model(dark).logits.argmax(-1).tolist()
    lowest = model.head(Concepts(torch.full((1, 5), -1.0)), data.test.x[:1])[0]
    assert float(lowest[3]) < float(lowest[:3].min())
    whole = model(data.test.x)
    parts = model.head.contributions(whole.concepts).sum(-1) + model.head.remainder(whole.concepts, data.test.x)
    torch.testing.assert_close(parts, whole.logits)


def test_a_descriptor_of_two_classes_counts_for_both() -> None:
    """With the very phrases of the first class the last one scores the same, row by row."""
    data = unlabelled(scene())
    both = tuple(replace(c, owner=("a", "c")) if c.owner == "a" else c for c in data.space.concepts if c.owner != "c")
    vectors = data.space.vectors
    assert vectors is not None
    data = Splits(*(getattr(data, n).replace(space=ConceptSpace(both, vectors[:6])) for n in ("train", "validation", "test")))
    model = fit("describe", data)
    logits = model(data.test.x).logits
    assert torch.equal(logits[:, 0], logits[:, 2]) and bool(logits[:, 2].abs().max() > 1)
    assert membership(data.space, data.task).sum(1).tolist() == [3, 3, 3]


def test_zero_shot_is_the_class_whose_name_is_nearest() -> None:
    data = unlabelled(scene(text=5))
    features, names = identity(data, 5), torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    model = fit("zeroshot", data, features=features, class_vectors=names)
    e, t = features.shared(data.test.x).numpy(), (names - features.shared.center).numpy()
    cos = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in t] for a in e]
    np.testing.assert_allclose(model(data.test.x).logits.numpy(), 100 * np.array(cos), rtol=1e-3, atol=1e-3)
    assert model.space.names == ("a", "b", "c")


def test_no_label_moves_a_zero_shot_classifier() -> None:
    data = unlabelled(scene())
    shuffled = Splits(data.train.replace(y=data.train.y.flip(0) * 0), data.validation, data.test)
    for name, options in (("describe", {}), ("zeroshot", {"class_vectors": data.space.vectors[:3]})):
        a, b = (fit(name, each, **options)(data.test.x).logits for each in (data, shuffled))
        assert torch.equal(a, b)


# medical


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("opacity in an old man", True),
        ("Male patient", True),
        ("scar from the SCANNER", True),
        ("image,portable", True),
        ("pale skin colour", True),
        ("golden border", False),  # 'old' inside another word
        ("emanating from the hilum", False),
        ("a female", True),
        ("enlarged heart", False),
        ("reviewed", False),
        *((text, True) for text in ("two men", "women", "boys at play", "hospitals", "CT scanners", "children's ward")),
        *((text, False) for text in ("a young bird", "old building", "front view", "lateral view of the lung", "race car")),
        *((text, False) for text in ("old fracture", "an implanted device")),
    ],
)
def test_confounders_are_whole_words(text: str, out: bool) -> None:
    from isthmus.methods.text2concept import DEMOGRAPHIC

    assert banned_in(Concept("c", text=text), DEMOGRAPHIC) is out


def test_confounders_leave_the_space_and_the_rest_is_text2concept() -> None:
    data = unlabelled(scene())
    concepts = tuple(
        replace(c, text="seen by the portable device" if k == 3 else c.text) for k, c in enumerate(data.space.concepts)
    )
    told = ConceptSpace(concepts, data.space.vectors)
    data = Splits(*(getattr(data, n).replace(space=told) for n in ("train", "validation", "test")))
    model = fit("medical", data, epochs=3)
    assert model.space.names == tuple(c.name for k, c in enumerate(concepts) if k != 3)
    assert model.history[0]["dropped"] == [concepts[3].name] and "left out: 'b 0'" in model.history[0]["note"]
    assert not any("note" in row for row in fit("medical", unlabelled(scene()), epochs=1).history)
    less = Splits(*(getattr(data, n).replace(space=model.space) for n in ("train", "validation", "test")))
    other = fit("text2concept", less, epochs=3)
    torch.testing.assert_close(model(data.test.x).logits, other(data.test.x).logits)
    with pytest.raises(OptionError, match="every concept names a person or a device"):
        plan("medical", data, banned=("a", "b", "c", "portable"))


@pytest.mark.parametrize("name", ["text2concept", "medical", "describe", "zeroshot"])
def test_texts_of_another_width_are_refused_by_name(name: str) -> None:
    options = {"class_vectors": torch.ones(3, 5)} if name == "zeroshot" else {}
    with pytest.raises(DataError, match=r"concept vectors: expected shape \(K, 12\), .*, 5\)"):
        plan(name, unlabelled(scene(text=5)), **options)


@pytest.mark.parametrize("name", ["zeroshot", "cms"])
def test_without_texts_of_the_class_names_nothing_is_fitted(name: str) -> None:
    with pytest.raises(OptionError, match=f"{name}: expected class_vectors"):
        fit(name, unlabelled(scene()))
