"""Label-free CBM: cos-cubed in plain sums, its early stop on validation rows, the standardised units, the sparse head."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from isthmus.bottlenecks.projection import Projection, cos_cubed
from isthmus.data.table import Splits
from isthmus.errors import DataError
from isthmus.given import Given
from isthmus.methods.labelfree import Project
from isthmus.numerics import elastic_net
from tests.language import fit, identity, plan, scene, texts


def cubed(q: np.ndarray, p: np.ndarray) -> float:
    """The similarity of two columns as the dossier writes it, one row at a time."""
    a = [(float(v) - float(np.mean(q))) ** 3 for v in q]
    b = [(float(v) - float(np.mean(p))) ** 3 for v in p]
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5)


def columns(seed: int, rows: int = 40, k: int = 5) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    p = torch.randn(rows, k, generator=g)
    return 0.5 * p + torch.randn(rows, k, generator=g), p


def test_similarity_is_the_cosine_of_centred_cubes() -> None:
    """Cubed after centring: neither the cosine of centred columns, nor that of cubes centred afterwards."""
    q, p = columns(0)
    q, p = q + 3, p - 1
    found = cos_cubed(q, p)
    np.testing.assert_allclose(found.numpy(), [cubed(q[:, k].numpy(), p[:, k].numpy()) for k in range(5)], atol=1e-5)
    center = lambda m: m - m.mean(0)  # noqa: E731
    for wrong in ((center(q), center(p)), (center(q**3), center(p**3))):
        other = torch.nn.functional.cosine_similarity(*wrong, dim=0)
        assert float((other - found).abs().max()) > 0.02


@given(seed=st.integers(0, 999), shift=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_place_and_scale_of_either_side_are_free(seed: int, shift: float, scale: float) -> None:
    q, p = (m.double() for m in columns(seed))
    torch.testing.assert_close(cos_cubed(q * scale + shift, p), cos_cubed(q, p), atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(cos_cubed(q, p * scale - shift), cos_cubed(q, p), atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(cos_cubed(q, q * scale), torch.ones(5, dtype=torch.double))
    torch.testing.assert_close(cos_cubed(q, -q + shift), -torch.ones(5, dtype=torch.double))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1000.1, 1e-20, 1e12])
def test_a_constant_column_has_similarity_nought(value: float) -> None:
    """The reference divides by 0. The mean of equal floats is not always that float: its rounding is no signal."""
    for seed, rows in ((0, 7), (1, 40), (2, 333)):
        q, p = columns(seed, rows)
        q[:, 1], p[:, 3] = value, value
        found = cos_cubed(q, p)
        assert found[[1, 3]].tolist() == [0, 0]
        assert bool(found.isfinite().all()) and float(found[[0, 2, 4]].abs().min()) > 0
        q.requires_grad_(True)
        cos_cubed(q, p).mean().backward()
        assert q.grad is not None and bool(q.grad.isfinite().all())


@pytest.mark.parametrize("size", [1e-12, 1e-4, 1e6, 1e12])
def test_cubes_of_large_and_small_columns_stay_finite(size: float) -> None:
    q, p = columns(0)
    torch.testing.assert_close(cos_cubed(q * size, p), cos_cubed(q, p))


def test_the_target_is_the_cosine_of_image_and_text() -> None:
    """In the text space, from its center, where the features have one; neither scale matters."""
    data = scene(text=5)
    features = identity(data, 5)
    part = Projection(12, data.space, shared=features.shared)
    z = data.train.x[:6]
    e, v = features.shared(z).numpy(), texts(data, features).numpy()
    for i in range(6):
        for k in range(len(v)):
            want = e[i] @ v[k] / (np.linalg.norm(e[i]) * np.linalg.norm(v[k]))
            assert float(part.target(z)[i, k]) == pytest.approx(want, abs=1e-5)


def learning(data: Splits, **options: Any) -> tuple[Projection, list[float]]:
    """A projection learnt on the rows, and the validation losses it saw."""
    made = plan("labelfree", data)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Project(**({"lr": 0.02, "steps": 60, "check": 10} | options))(made.model, data.fold)
    assert isinstance(made.model.bottleneck, Projection)
    return made.model.bottleneck, [row["validation"] for row in made.model.history]


def test_training_stops_at_the_first_look_that_is_no_better_and_the_best_weights_stay() -> None:
    """The same steps by hand, by an Adam of our own: looks before the first step, at every tenth, and at the end."""
    data = scene(noise=2.0, rows=64)
    part, seen = learning(data, lr=0.05, steps=400)
    assert 2 < len(seen) < 41, "it must stop early for this test to say anything"
    assert all(b < a for a, b in itertools.pairwise(seen[:-1])) and seen[-1] >= seen[-2]
    w = plan("labelfree", data).model.bottleneck.map.weight.detach().double().numpy().copy()
    z, v = (t.x.double().numpy() for t in (data.train, data.validation))
    text = torch.nn.functional.normalize(data.space.vectors, dim=-1).double().numpy()
    p, q = (m / np.linalg.norm(m, axis=1, keepdims=True) @ text.T for m in (z, v))
    m1, m2, best, kept = 0.0, 0.0, -np.inf, w
    for step in range(401):
        if step % 10 == 0:
            score = np.mean([cubed(v @ w[k], q[:, k]) for k in range(len(w))])
            if score <= best:
                break
            best, kept = score, w.copy()
        leaf = torch.tensor(w, requires_grad=True)
        a, b = (torch.tensor(z) @ leaf.T, torch.tensor(p))
        a, b = (a - a.mean(0)) ** 3, (b - b.mean(0)) ** 3
        (-((a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0))).mean()).backward()
        g = leaf.grad.numpy()
        m1, m2 = 0.9 * m1 + 0.1 * g, 0.999 * m2 + 0.001 * g * g
        w = w - 0.05 * (m1 / (1 - 0.9 ** (step + 1))) / (np.sqrt(m2 / (1 - 0.999 ** (step + 1))) + 1e-8)
    assert step // 10 + 1 == len(seen)
    np.testing.assert_allclose(part.map.weight.numpy(), kept, atol=2e-3)
    assert -min(seen) == pytest.approx(best, abs=1e-4)


def test_validation_rows_decide_when_to_stop_and_what_to_keep() -> None:
    """The authors look at test rows. Other validation rows change both; other test rows nothing."""
    data = scene(rows=96, noise=1.0)
    base, seen = learning(data, steps=400)
    shuffled = data.validation.replace(x=torch.randn_like(data.validation.x))
    other, again = learning(Splits(data.train, shuffled, data.test), steps=400)
    assert len(seen) != len(again) and not torch.equal(base.map.weight, other.map.weight)
    same, _ = learning(Splits(data.train, data.validation, data.test.replace(x=torch.randn_like(data.test.x))), steps=400)
    assert torch.equal(base.map.weight, same.map.weight)


def test_a_cutoff_keeps_what_the_projection_follows_on_validation_rows() -> None:
    data = scene(noise=1.0)
    whole = fit("labelfree", data, similarity_cutoff=-1.0, lr=0.02, steps=100)
    v = data.validation.x
    part = whole.bottleneck
    scores = [cubed((v @ part.map.weight[k]).numpy(), part.target(v)[:, k].numpy()) for k in range(9)]
    cut = float(np.sort(scores)[4])
    kept = fit("labelfree", data, similarity_cutoff=cut + 1e-4, lr=0.02, steps=100)
    assert kept.space.names == tuple(n for n, s in zip(data.space.names, scores, strict=True) if s > cut + 1e-4)
    with pytest.raises(DataError, match="above similarity_cutoff 1, got none .* lower similarity_cutoff"):
        fit("labelfree", data, similarity_cutoff=1.0, lr=0.02, steps=20)


def test_the_activation_cutoff_reads_the_five_nearest_training_images() -> None:
    data = scene()
    z = torch.nn.functional.normalize(data.train.x, dim=-1).numpy()
    t = torch.nn.functional.normalize(data.space.vectors, dim=-1).numpy()
    mean = [np.mean(sorted(z @ t[k])[-5:]) for k in range(9)]
    cut = float(np.sort(mean)[3]) + 1e-4
    kept = fit("labelfree", data, activation_cutoff=cut, similarity_cutoff=-1.0, steps=1)
    assert kept.space.names == tuple(n for n, m in zip(data.space.names, mean, strict=True) if m > cut)


def test_values_are_in_unbiased_training_deviations_from_the_training_mean() -> None:
    data = scene()
    model = fit("labelfree", data, similarity_cutoff=-1.0, steps=50)
    raw = data.train.x @ model.bottleneck.map.weight.T
    want = (data.test.x @ model.bottleneck.map.weight.T - raw.mean(0)) / raw.std(0, correction=1)
    torch.testing.assert_close(model(data.test.x).concepts.values, want, atol=1e-4, rtol=1e-4)
    assert float((want - want * 120 / 119).abs().max()) > 1e-4, "the other deviation would be seen"
    halfway = Given(torch.tensor([[0.0, 1.0, *[0.0] * 7]]), torch.tensor([[True, True, *[False] * 7]]))
    written = model(data.test.x, halfway).concepts.values[:, :2]
    shown = model(data.train.x).concepts.values
    torch.testing.assert_close(written[0], torch.stack([shown[:, 0].quantile(0.05), shown[:, 1].quantile(0.95)]))


def test_the_head_is_the_elastic_net_of_a_strength_divided_by_its_share() -> None:
    """Their solver takes lambda / .99 as its strength; no head is better on that objective, computed in float64."""
    data = scene()
    model = fit("labelfree", data, lam=0.02, similarity_cutoff=-1.0, steps=50)
    shown, y = model(data.train.x).concepts.values, data.train.y
    how = {"lam": 0.02 / 0.99, "l1_ratio": 0.99}
    value, bound = elastic_net.certificate(shown, y, model.head.map.weight, model.head.map.bias, **how)
    assert value <= bound * (1 + 2e-4)
    w, b, x = model.head.map.weight.double(), model.head.map.bias.double(), shown.double()
    loss = torch.nn.functional.cross_entropy(x @ w.T + b, y)
    scaled = w * x.std(0, correction=0)
    plain = loss + 0.02 / 0.99 * (0.99 * scaled.abs().sum() + 0.005 * scaled.square().sum())
    assert value == pytest.approx(float(plain), rel=1e-6)
    other = elastic_net.certificate(shown, y, model.head.map.weight, model.head.map.bias, lam=0.02, l1_ratio=0.99)
    assert other[0] > other[1] * (1 + 2e-4), "an undivided strength has another head"


def test_texts_of_another_width_are_refused_by_name() -> None:
    data = scene(text=5)
    with pytest.raises(DataError, match=r"concept vectors: expected shape \(K, 12\).* got \(9, 5\)"):
        plan("labelfree", data)
