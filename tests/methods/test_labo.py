"""LaBo and V2C-CBM: raw dot products times 100, a softmax over concepts within a class, and who was chosen for whom."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import isthmus as im
from isthmus import registry
from isthmus.data.table import Splits
from isthmus.encoders import encoded, inside
from isthmus.errors import DataError, OptionError
from isthmus.heads.association import AssociationHead, membership
from isthmus.methods.labo import Choose
from isthmus.model import Concepts
from isthmus.numerics import words
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.stages import OnValues
from isthmus.worded import worded
from tests.language import fit, identity, plan, scene, texts, unlabelled


def head(k: int, own: int, start: float = 1.0, scale: float = 100.0) -> AssociationHead:
    """Two classes; the first has ``own`` of k concepts."""
    concepts = tuple(Concept(f"c{i}", owner="a" if i < own else "b") for i in range(k))
    return AssociationHead(ConceptSpace(concepts), Task.classes("ab"), start=start, scale=scale)


def test_the_fast_form_is_the_slow_form_and_hundred_fold() -> None:
    """s = X (softmax(W) E)', one concept vector for each class; ours is (X E') softmax(W)' on products made before."""
    data = unlabelled(scene())
    model = fit("labo", data, each=2, epochs=5, lr=0.05)
    x, e = data.test.x.double().numpy(), model.bottleneck.rows.double().numpy()
    raw = model.head.raw.double().numpy()
    soft = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    np.testing.assert_allclose(model(data.test.x).logits.numpy(), 100 * x @ (soft @ e).T, rtol=1e-4, atol=1e-2)


def test_each_class_has_a_softmax_over_its_concepts() -> None:
    """Over concepts, not over classes: rows sum to the scale, columns do not."""
    made = head(7, 3)
    made.raw.data = torch.randn(2, 7, generator=torch.Generator().manual_seed(0))
    weights = made.weights.detach()
    torch.testing.assert_close(weights.sum(1), torch.full((2,), 100.0))
    assert bool((weights > 0).all()) and float((weights.sum(0) / 100 - 1).abs().min()) > 0.01


@pytest.mark.parametrize(("k", "own", "start"), [(5000, 50, 1.0), (12, 4, 1.0), (12, 4, 0.1), (3, 3, 1.0)])
def test_the_mass_on_own_concepts_at_the_start(k: int, own: int, start: float) -> None:
    """k e / (k e + K - k): at K = 5,000 and 50 of its own a class begins with 2.7 % of its weight on these."""
    share = float(head(k, own, start).weights.detach()[0, :own].sum()) / 100
    assert share == pytest.approx(own * math.exp(start) / (own * math.exp(start) + k - own), rel=1e-5)
    if k == 5000:
        assert share == pytest.approx(0.027, abs=5e-4)


@pytest.mark.parametrize("text", [None, 5])
def test_values_are_raw_products_with_the_texts(text: int | None) -> None:
    """Neither images nor texts are normalised: twice the text is twice the value, and so is twice the image."""
    data = unlabelled(scene(text=text))
    space = replace(data.space, vectors=data.space.vectors * torch.linspace(1, 9, 9)[:, None])
    data = Splits(*(getattr(data, n).replace(space=space) for n in ("train", "validation", "test")))
    features = identity(data, text)
    model = fit("labo", data, features=features, each=9, epochs=1)
    x = data.test.x if text is None else features.shared(data.test.x)
    want = [[float(a @ b) for b in texts(data, features)] for a in x]
    np.testing.assert_allclose(model(data.test.x).concepts.values.numpy(), want, rtol=1e-4, atol=1e-4)


def test_a_class_keeps_its_own_chosen_phrases_and_starts_from_them() -> None:
    data = unlabelled(scene(each=5))
    made = plan("labo", data, each=2, beta=0.7, score_scale=30.0, start=0.3)
    made.stages[0](made.model, data.fold)
    similarity = words.by_class(data.train.x, data.space.vectors, data.train.y, 3)
    chosen = words.choose(similarity, data.space.vectors, membership(data.space, data.task), 2, beta=0.7, scale=30.0)
    names = [{data.space.names[k] for k in own} for own in chosen]
    assert set(made.model.space.names) == set().union(*names) and len(made.model.space) == 6
    for y, own in enumerate(names):
        start = made.model.head.raw.detach()[y]
        assert [float(v) for v in start] == pytest.approx([0.3 * (name in own) for name in made.model.space.names])


@pytest.mark.parametrize("rule", ["submodular", "group_mi", "group_clip", "random"])
def test_the_choice_reads_no_validation_row(rule: str) -> None:
    data = unlabelled(scene(each=5))
    other = Splits(data.train, data.validation.replace(x=torch.randn_like(data.validation.x)), data.test)
    kept = [fit("labo", each, each=2, select=rule, epochs=1).space.names for each in (data, other)]
    assert kept[0] == kept[1] and len(kept[0]) == 6


def test_another_weight_of_coverage_makes_another_choice() -> None:
    data = unlabelled(scene(each=8, noise=1.0))
    kept = {b: fit("labo", data, each=3, beta=b, score_scale=1.0, epochs=1).space.names for b in (0.0, 100.0)}
    top = fit("labo", data, each=3, select="group_mi", epochs=1).space.names
    assert kept[0.0] == top != kept[100.0]
    assert len(fit("labo", data, select="none", epochs=1).space) == 24


@pytest.mark.parametrize("text", [None, 5])
def test_at_the_defaults_coverage_counts_in_any_space(text: int | None) -> None:
    """Similarities of either sign: scores have a median distance of 1 from their median, whatever the scale of the images."""
    data = unlabelled(scene(classes=4, each=12, noise=1.0, text=text))
    features = identity(data, text)
    made = {b: fit("labo", data, features=features, each=4, beta=b, epochs=1) for b in (0.0, 1.0)}
    assert made[0.0].space.names != made[1.0].space.names
    row = made[1.0].history[0]
    e = data.train.x if text is None else features.shared(data.train.x)
    score = words.information(words.by_class(e, texts(data, features), data.train.y, 4)).numpy()
    assert row["score_scale"] == pytest.approx(1 / np.median(np.abs(score - np.median(score))), rel=0.1)
    assert 0 < row["shifted"] < 1 and row["candidates"] == 48 and not row["keeps_all"]
    assert fit("labo", data, features=features, epochs=1).history[0]["keeps_all"]


def test_where_products_are_clips_the_authors_scale_stays() -> None:
    data = unlabelled(scene(each=5))
    space = replace(data.space, vectors=data.space.vectors.abs())
    parts = {n: getattr(data, n).replace(space=space) for n in ("train", "validation", "test")}
    bright = Splits(*(each.replace(x=each.x.abs() + 20) for each in parts.values()))
    model = fit("labo", bright, each=2, epochs=1)
    assert model.history[0]["score_scale"] == 1e7 and model.history[0]["shifted"] == 0
    made = identity(bright, 12)
    made.shared.weight.copy_(torch.eye(12))
    made.shared.bias.zero_()
    made.shared.center.zero_()
    assert fit("labo", bright, features=made, each=2, epochs=1).history[0]["score_scale"] != 1e7, "a map is no CLIP tower"


def test_on_photos_and_real_words_coverage_changes_the_choice(isthmus_data: Any) -> None:
    """The shipped list on aligned features: at the paper's scale no class chooses otherwise for beta 0, .1, 1 or 10."""
    isthmus_data("features/cifar10_8k_mnv2.npz")
    pytest.importorskip("tokenizers")
    data = im.data.load("cifar10_8k", inputs="mobilenetv2")
    told = worded(data, Path(__file__).parents[2] / "claims" / "words" / "cifar10.json")
    seen = encoded(told.splits, told.features)
    kept: dict[tuple[float | None, float], set[str]] = {}
    for scale in (None, 1e7):
        for beta in (0.0, 1.0, 10.0):
            how = {"each": 3, "beta": beta, "score_scale": scale}
            made = registry.get("labo").make(inside(told.features), seen.space, seen.task, **how)
            made.stages[0](made.model, seen.fold)
            kept[scale, beta] = set(made.model.space.names)
    assert kept[1e7, 0.0] == kept[1e7, 1.0] == kept[1e7, 10.0] == kept[None, 0.0]
    assert kept[None, 1.0] != kept[None, 0.0] != kept[None, 10.0] != kept[None, 1.0]


def test_a_class_with_few_phrases_keeps_all_and_columns_are_those_that_are_there() -> None:
    data = unlabelled(scene(each=3))
    model = fit("labo", data, each=50, epochs=1)
    assert model.space.names == data.space.names
    assert model.head.weights.shape == (3, 9)


def test_similarities_below_zero_choose_without_nan() -> None:
    data = unlabelled(scene())
    dark = Splits(*(getattr(data, n).replace(x=getattr(data, n).x - 5) for n in ("train", "validation", "test")))
    model = fit("labo", dark, each=2, epochs=2)
    assert bool(model(dark.test.x).logits.isfinite().all()) and len(model.space) == 6


@pytest.mark.parametrize("select", ["submodular", "random"])
def test_a_phrase_of_two_classes_is_a_candidate_of_the_first_alone(select: str) -> None:
    """c has three phrases of its own and shares those of a, which do not count among its candidates."""
    data = unlabelled(scene())
    concepts = tuple(replace(c, owner=("a", "c")) if c.owner == "a" else c for c in data.space.concepts)
    space = ConceptSpace(concepts, data.space.vectors)
    data = Splits(*(getattr(data, n).replace(space=space) for n in ("train", "validation", "test")))
    made = [fit("labo", data, each=each, epochs=1, select=select) for each in (2, 3)]
    assert [model.history[0]["keeps_all"] for model in made] == [False, True]
    assert [len(model.space) for model in made] == [6, 9]


def test_phrases_of_no_class_are_refused() -> None:
    data = unlabelled(scene())
    space = ConceptSpace(tuple(replace(c, owner="nobody") for c in data.space.concepts), data.space.vectors)
    data = Splits(*(getattr(data, n).replace(space=space) for n in ("train", "validation", "test")))
    with pytest.raises(DataError, match="written for a class"):
        fit("labo", data, epochs=1)


def test_the_head_learns_the_association_and_nothing_else() -> None:
    data = unlabelled(scene())
    made = plan("labo", data, each=3, epochs=30, lr=0.05)
    before = made.model.bottleneck.rows.clone()
    model = made.fit(data)
    assert torch.equal(model.bottleneck.rows, before)
    learn = made.stages[-1]
    assert isinstance(learn, OnValues) and learn.parts == ("head",) and [n for n, _ in model.head.named_parameters()] == ["raw"]
    assert float((model(data.test.x).logits.argmax(-1) == data.test.y).float().mean()) > 0.8
    assert isinstance(made.stages[0], Choose)


def test_the_gradient_of_the_head_is_that_of_its_formula() -> None:
    """d CE / d raw by the softmax's own derivative, class by class: 100 w_yk sum_i g_iy (v_ik - sum_j w_yj v_ij)."""
    made, g = head(6, 2), torch.Generator().manual_seed(0)
    values, y = 0.05 * torch.randn(9, 6, generator=g), torch.arange(9) % 2
    torch.nn.functional.cross_entropy(made(Concepts(values), values), y).backward()
    w = made.raw.detach().softmax(-1)
    p = (100 * values @ w.T).softmax(-1) - torch.nn.functional.one_hot(y, 2)
    want = torch.zeros(2, 6)
    for label in range(2):
        mean = values @ w[label]
        for k in range(6):
            want[label, k] = 100 / 9 * w[label, k] * (p[:, label] * (values[:, k] - mean)).sum()
    torch.testing.assert_close(made.raw.grad, want, atol=1e-5, rtol=1e-4)


# V2C-CBM


def most_frequent(data: Splits, vectors: Tensor, near: int, each: int, pool: int) -> list[set[int]]:
    """The words of each class, counted with lists; of equals the lower index."""
    x, found = data.train.x, []
    for y in range(data.task.width):
        mean = x[data.train.y == y].mean(0)
        cosine = [float(torch.nn.functional.cosine_similarity(row, mean, dim=0)) for row in x]
        count = [0] * len(vectors)
        for i in sorted(range(len(x)), key=lambda i, cosine=cosine: -cosine[i])[:pool]:
            product = [float(x[i] @ v) for v in vectors]
            for k in sorted(range(len(vectors)), key=lambda k, product=product: -product[k])[:near]:
                count[k] += 1
        order = sorted(range(len(vectors)), key=lambda k, count=count: (-count[k], k))
        found.append({k for k in order[:each] if count[k]})
    return found


def test_v2c_finds_words_in_images_whatever_class_they_were_written_for() -> None:
    data = unlabelled(scene(each=6))
    plain = ConceptSpace(tuple(replace(c, owner=None) for c in data.space.concepts), data.space.vectors)
    data = Splits(*(getattr(data, n).replace(space=plain) for n in ("train", "validation", "test")))
    made = plan("v2c", data, near=2, each=4, pool=20)
    made.stages[0](made.model, data.fold)
    want = most_frequent(data, plain.vectors, 2, 4, 20)
    union = sorted(set().union(*want))
    assert made.model.space.names == tuple(plain.names[k] for k in union)
    assert made.model.head.raw.detach().tolist() == [[float(k in own) for k in union] for own in want]
    model = made.fit(data)
    assert float((model(data.test.x).logits.argmax(-1) == data.test.y).float().mean()) > 0.6
    np.testing.assert_allclose(
        model(data.test.x).logits.numpy(),
        (data.test.x @ (model.head.weights @ model.bottleneck.rows).T).numpy(),
        rtol=1e-3,
        atol=1e-2,
    )


@pytest.mark.parametrize("name", ["labo", "v2c"])
def test_texts_of_another_width_are_refused_by_name(name: str) -> None:
    with pytest.raises(DataError, match=r"concept vectors: expected shape \(K, 12\), .*got \(9, 5\)"):
        plan(name, unlabelled(scene(text=5)))


def test_words_that_are_no_numbers_are_refused_in_one_line() -> None:
    y, e, texts = torch.tensor([0, 1]), torch.ones(2, 3), torch.ones(4, 3)
    with pytest.raises(DataError, match="expected finite embeddings"):
        words.tokenised(e * torch.nan, texts, y, 2)
    with pytest.raises(OptionError, match="expected at least 1, got 0"):
        words.tokenised(e, texts, y, 2, each=0)
    for rule in ("group_mi", "submodular"):
        with pytest.raises(DataError, match="expected finite embeddings"):
            words.choose(torch.full((4, 2), torch.nan), texts, torch.ones(2, 4), 1, rule=rule)
