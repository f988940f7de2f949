"""Probabilistic bottleneck: probabilities by quadrature, classes by loops, uncertainty by SVD, and each known slip."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit, softmax
from torch import nn

from isthmus import hub, registry
from isthmus.bottlenecks.gaussian import GaussianBottleneck, divergence
from isthmus.features import build
from isthmus.given import Batch, Given
from isthmus.heads.prototype import PrototypeHead
from isthmus.methods.probcbm import uncertainty
from isthmus.model import Concepts
from isthmus.solvers import MonteCarlo
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.testing import world

SPACE = ConceptSpace.binary(f"c{k}" for k in range(4))
MIXED = ConceptSpace.of(Concept("a"), Concept("s", "categorical", ("x", "y", "z")), Concept("b"))


def make(data=None, **options):
    data = data or world(("binary",))
    options = {"samples": 7, "width": 4, "hidden": 6, "epochs": 3, "head_epochs": 3, "batch_size": 32} | options
    return registry.get("probcbm").make(build("identity", dim=8), data.space, data.task, **options)


def part(space: ConceptSpace = SPACE, samples: int = 7, width: int = 4) -> GaussianBottleneck:
    torch.manual_seed(0)
    return GaussianBottleneck(8, space, width, samples).eval().requires_grad_(False)


def whole(space: ConceptSpace, c: torch.Tensor) -> Given:
    return Given(c, torch.ones(len(c), len(space), dtype=torch.bool))


def test_mean_and_variance_concept_by_concept() -> None:
    """Unit mean from two maps, one of them gated; log-variance linear and at most 10."""
    b, z = part(), torch.randn(5, 8)
    b.shifts[1, 2, 0] = 1e3
    mean, logvar = b.moments(z)
    stem = (b.stem(z) / (1 + b.norm.eps) ** 0.5).relu()
    for k in range(4):
        a = stem[:, 4 * k : 4 * k + 4]
        first, gate, third = (a @ b.maps[k, t].T + b.shifts[k, t] for t in range(3))
        want = nn.functional.layer_norm(first + torch.sigmoid(gate), (4,))
        torch.testing.assert_close(mean[:, k], want / want.norm(dim=1, keepdim=True))
        torch.testing.assert_close(logvar[:, k], third.clamp(max=10))
    assert logvar[:, 1, 0].tolist() == [10.0] * 5


def test_probability_is_the_expected_softmax_over_anchor_distances() -> None:
    """One dimension, anchors -1 and 1: against the integral over the Gaussian."""
    b = part(samples=40_000, width=1)
    b.anchors.copy_(torch.tensor([[[-2.0], [0.3]]] * 4))  # of any length: only their direction counts
    z = torch.randn(6, 8)
    mean, logvar = b.moments(z)
    got = b.sampled(z, None, b.noise).values
    for row in range(6):
        for k in range(4):
            m, s = float(mean[row, k, 0]), float((logvar[row, k, 0] / 2).exp())

            def cell(t: float, m: float = m, s: float = s) -> float:
                gap = [np.sqrt((t - a) ** 2 + 1e-6) for a in (-1.0, 1.0)]
                return expit(5 * (gap[0] - gap[1])) * np.exp(-(((t - m) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))

            want = quad(cell, m - 9 * s, m + 9 * s, limit=200, points=[-1.0, 1.0])[0]
            assert abs(float(got[row, k]) - want) < 0.01


def test_a_block_has_an_anchor_for_each_state_and_averages_probabilities() -> None:
    b, z = part(MIXED), torch.randn(3, 8)
    out = b.sampled(z, None, b.noise)
    anchors = nn.functional.normalize(b.anchors, dim=-1).numpy()
    draws = out.vectors.numpy()  # (S, B, M, E)
    far = np.sqrt(((draws[:, :, 1, None] - anchors[1:4, 1]) ** 2).sum(-1) + 1e-6)
    np.testing.assert_allclose(out.values[:, 1:4], softmax(-5 * far, -1).mean(0), rtol=1e-4)
    for concept, column in ((0, 0), (2, 4)):
        far = np.sqrt(((draws[:, :, concept, None] - anchors[column]) ** 2).sum(-1) + 1e-6)
        np.testing.assert_allclose(out.values[:, column], softmax(-5 * far, -1)[..., 1].mean(0), rtol=1e-4)


def test_without_variance_sampling_is_the_mean_and_with_it_is_not() -> None:
    b, z = part(), torch.randn(20, 8)
    assert (b.sampled(z, None, b.noise).values - b(z).values).abs().max() > 0.02
    b.maps[:, 2] = 0.0
    b.shifts[:, 2] = -60.0
    torch.testing.assert_close(b.sampled(z, None, b.noise).values, b(z).values)


def test_learning_scores_the_mean_probability_of_fresh_draws() -> None:
    b, z = part().train(), torch.randn(10, 8)
    torch.manual_seed(5)
    first, second, noise = b(z), b(z), b.noise.clone()
    assert not torch.equal(first.logits, second.logits)
    torch.manual_seed(5)
    assert torch.equal(b(z).logits, first.logits)
    assert torch.equal(noise, b.noise)
    assert b(z[:1]).values.isfinite().all()  # one row left over


def test_penalty_is_the_divergence_from_a_standard_normal() -> None:
    mean, logvar = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    mine = torch.distributions.Normal(mean, (logvar / 2).exp())
    want = torch.distributions.kl_divergence(mine, torch.distributions.Normal(0.0, 1.0)).sum(-1).mean()
    torch.testing.assert_close(divergence(mean, logvar), want)
    b, z = part().train(), torch.randn(6, 8)
    torch.testing.assert_close(b(z).penalties["kl"], 5e-5 * divergence(*b.moments(z)))
    assert not b.eval()(z).penalties


def test_a_correction_writes_the_anchor_of_the_true_value_and_mixes_soft_ones() -> None:
    b, z = part(MIXED), torch.randn(2, 8)
    c = torch.tensor([[1.0, 0, 1, 0, 0], [0.25, 0.5, 0, 0.5, 1]])
    anchors = nn.functional.normalize(b.anchors, dim=-1)
    for out in (b(z, whole(MIXED, c)).vectors, *b.sampled(z, whole(MIXED, c), b.noise).vectors):
        assert torch.equal(out[0], torch.stack([anchors[0, 1], anchors[2, 1], anchors[4, 0]]))
        want = [0.25 * anchors[0, 1] + 0.75 * anchors[0, 0], 0.5 * anchors[1, 1] + 0.5 * anchors[3, 1], anchors[4, 1]]
        torch.testing.assert_close(out[1], torch.stack(want))
    first = Given(c, torch.tensor([[True, False, False, False, False]]))
    assert torch.equal(b(z, first).vectors[:, 1:], b(z).vectors[:, 1:])


@pytest.mark.parametrize("sampling", [False, True])
def test_the_class_is_the_mean_softmax_over_scaled_distances_and_a_correction_keeps_the_scale(sampling: bool) -> None:
    data = world(("binary",))
    model = make(data, sampling=sampling).fit(data)
    model.head.scale.fill_(3.7)
    z = data.test.x[:5]
    c = torch.randint(0, 2, (5, 4)).float()
    for given in (None, Given(c, torch.tensor([[True, True, False, False]])), whole(data.space, c)):
        out = model(z, given)
        b = model.bottleneck
        draws = b.sampled(z, given, b.noise).vectors.numpy() if sampling else b(z, given).vectors.numpy()[None]
        u = draws.reshape(len(draws), 5, -1) @ model.head.map.weight.numpy().T + model.head.map.bias.numpy()
        far = np.sqrt(((u[:, :, None] - model.head.means.numpy()) ** 2).mean(-1) + 1e-10)  # mean here, sum for concepts
        np.testing.assert_allclose(out.logits.softmax(-1), softmax(-3.7 * far, -1).mean(0), rtol=1e-3, atol=1e-6)


def test_several_labels_have_two_means_each() -> None:
    head = PrototypeHead(SPACE, Task.labels("ab"), 4, 6)
    vectors = torch.randn(3, 4, 4)
    got = head(Concepts(torch.zeros(3, 4), vectors=vectors), torch.zeros(3, 8)).sigmoid().detach().numpy()
    u = head.map(vectors.flatten(1)).detach().numpy()
    far = np.sqrt(((u[:, None] - head.means.detach().numpy()) ** 2).mean(-1)).reshape(3, 2, 2)
    np.testing.assert_allclose(got, softmax(-5 * far, -1)[..., 1], rtol=1e-4)


def test_all_rows_share_one_stored_bank() -> None:
    data = world(("binary",))
    model = make(data, sampling=True).fit(data)
    row = data.test.x[:1]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    out = model(torch.cat([row, data.test.x[5:9], row]))
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(out.logits[0], out.logits[-1])
    assert model.bottleneck.noise.shape == (7, 1, 4, 4)
    other = pickle.loads(pickle.dumps(model.solver))
    assert other == MonteCarlo(True, 0.5)
    model.bottleneck.noise.copy_(torch.randn(7, 1, 4, 4))
    assert not torch.allclose(model(row).logits[0], out.logits[0])


def test_chunks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = world(("binary",))
    model = make(data, sampling=True).fit(data)
    given = Given(torch.ones(len(data.test), 4), torch.rand(len(data.test), 4) < 0.5)
    want = model(data.test.x, given)
    monkeypatch.setattr("isthmus.solvers.CELLS", 3 * model.bottleneck.noise.numel())
    got = model(data.test.x, given)
    torch.testing.assert_close(got.logits, want.logits)
    torch.testing.assert_close(got.concepts.vectors, want.concepts.vectors)


def test_the_class_stage_moves_the_head_alone_not_even_batch_statistics() -> None:
    data = world(("binary",))
    plan = make(data)
    state = lambda: {k: v.clone() for k, v in plan.model.state_dict().items()}  # noqa: E731
    start = state()
    plan.stages[0](plan.model, data.fold)
    middle = state()
    assert not torch.equal(start["bottleneck.norm.running_mean"], middle["bottleneck.norm.running_mean"])
    assert torch.equal(start["head.means"], middle["head.means"])
    plan.stages[1](plan.model, data.fold)
    end = state()
    assert all(torch.equal(middle[k], end[k]) for k in end if k.startswith("bottleneck."))
    assert not torch.equal(middle["head.means"], end["head.means"])


def test_the_class_stage_swaps_all_known_concepts_of_a_row_and_draw_at_once() -> None:
    data = world(("binary",))
    plan = make(data, samples=40)
    stage, model = plan.stages[1], plan.model
    stage.freeze(model, stage.learning(model))
    seen: list[torch.Tensor] = []
    model.head.register_forward_hook(lambda head, inputs, out: seen.append(inputs[0].vectors))
    rows = Batch(data.train.x[:30], torch.ones(30, 4), data.train.y[:30], data.space)
    rows.known = torch.ones(30, 4, dtype=torch.bool)
    rows.known[:, 3] = False
    stage.forward(model, rows)
    present = nn.functional.normalize(model.bottleneck.anchors, dim=-1)[:, 1]
    swapped = (seen[0] == present).all(-1)  # (S, B, M)
    assert not bool(swapped[..., 3].any())
    assert torch.equal(swapped[..., 0], swapped[..., 1]) and torch.equal(swapped[..., 0], swapped[..., 2])
    assert 0.45 < swapped[..., 0].float().mean() < 0.55
    assert bool((swapped[..., 0].float().mean(0) % 1 > 0).any())  # differs from draw to draw of one row
    stage.score(model, rows)
    assert seen[-1].shape == (30, 4, 4)  # validation: at the means, nothing given
    assert not bool((seen[-1] == present).all(-1).any())


def test_uncertainty_is_a_geometric_mean_and_a_determinant() -> None:
    data = world(("binary",))
    model = make(data, epochs=1).fit(data)
    x = data.test.x[:6]
    concept, task = uncertainty(model, x)
    var = model.bottleneck.moments(x)[1].exp().numpy()
    np.testing.assert_allclose(concept, np.exp(np.log(var).mean(-1)), rtol=1e-5)
    weight = model.head.map.weight.numpy().astype(float)
    for row in range(6):
        values = np.linalg.svd(weight @ np.diag(var[row].ravel().astype(float)) @ weight.T, compute_uv=False)
        assert float(task[row]) == pytest.approx(np.exp(np.log(values).mean()), rel=1e-5)
    one = Given(torch.ones(1, 4), torch.tensor([[True, False, False, False]]))
    told, less = uncertainty(model, x, one)
    assert torch.equal(told[:, 0], torch.zeros(6)) and torch.equal(told[:, 1:], concept[:, 1:])
    assert bool((less < task).all())
    assert torch.equal(uncertainty(model, x, whole(data.space, torch.ones(6, 4)))[1], torch.zeros(6))


def test_the_class_is_as_unsure_as_nobody_knows_where_too_few_numbers_vary() -> None:
    """A determinant of a plane is 0 however far it varies: not known, which must not read as certain."""
    data = world(("binary",))
    x = data.test.x[:6]
    few = make(data, epochs=1, hidden=17).fit(data)  # 4 concepts of 4 numbers
    assert bool(uncertainty(few, x)[1].isnan().all())
    model = make(data, epochs=1, hidden=6).fit(data)
    for told, known in ((0, True), (1, True), (2, True), (3, False)):
        found = uncertainty(model, x, Given(torch.ones(1, 4), torch.arange(4)[None] < told))[1]
        assert bool(found.isnan().any()) != known and (not known or bool((found > 0).all())), told
    default = registry.get("probcbm").make(build("identity", dim=8), data.space, data.task)
    assert bool(uncertainty(default.model.eval(), x)[1].isnan().all())
    assert "NaN" in registry.get("probcbm").card.notes


def test_uncertainty_is_larger_where_concepts_are_noise() -> None:
    """Labels that x does not tell, against one that it does: learnt, not put in."""
    torch.manual_seed(0)
    from isthmus.data import Table, split

    x = torch.randn(800, 8)
    c = torch.stack([(x[:, 0] > 0).float(), torch.randint(0, 2, (800,)).float()], 1)
    space = ConceptSpace.binary(["told", "noise"])
    data = split(Table(x, c=c, y=c[:, 0].long(), space=space, task=Task.classes("ab")))
    model = make(data, epochs=25, samples=20, width=8).fit(data)
    found = uncertainty(model, data.test.x)[0].mean(0)
    assert found[1] > 1.5 * found[0]


def test_dropping_the_widest_concept_still_saves_and_loads(tmp_path) -> None:
    data = world(("binary", "categorical"))
    model = make(data).fit(data)
    before = model(data.test.x).concepts.values
    model.keep([5, 0])
    again = hub.load(hub.save(model, tmp_path / "m"))
    want = torch.cat([before[:, 7:9], before[:, :1]], 1)
    torch.testing.assert_close(again(data.test.x).concepts.values, want)
