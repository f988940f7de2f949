"""The autoregressive bottleneck against a sum over all assignments, written one concept and one row at a time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from isthmus import hub, registry
from isthmus.bottlenecks.autoregressive import AutoregressiveBottleneck
from isthmus.data.worlds.correlated import correlated
from isthmus.errors import DataError
from isthmus.features import build
from isthmus.given import Batch, Given, everything, given
from isthmus.space import Concept, ConceptSpace
from isthmus.testing import world

K = 4
SPACE = ConceptSpace.binary(f"c{k}" for k in range(K))


def make(data: Any, **options: Any):
    return registry.get("autoregressive").make(build("identity", dim=data.train.x.shape[1]), data.space, data.task, **options)


def bottleneck(space: ConceptSpace = SPACE, seed: int = 0, **options: Any) -> AutoregressiveBottleneck:
    """Untrained, with strong dependence on earlier concepts."""
    torch.manual_seed(seed)
    part = AutoregressiveBottleneck(5, space, 8, **options).eval()
    with torch.no_grad():
        part.earlier.mul_(6)
        part.weight.mul_(4)
    return part


def joint(part: AutoregressiveBottleneck, z: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Assignments (2^K, K) and their probabilities (B, 2^K): the product of conditionals, in plain loops."""
    states = np.array(list(itertools.product([0.0, 1.0], repeat=K)))
    weight, bias = (t.detach().numpy() for t in (part.features.weight, part.features.bias))
    earlier, out, shift = (t.detach().numpy() for t in (part.earlier, part.weight, part.bias))
    chance = np.ones((len(z), len(states)))
    for b, row in enumerate(z.numpy()):
        for s, state in enumerate(states):
            for k in range(K):
                h = weight[8 * k : 8 * k + 8] @ row + bias[8 * k : 8 * k + 8]
                for j in range(k):
                    h = h + earlier[k][:, j] * state[j]
                h = np.maximum(h, 0)
                p = 1 / (1 + np.exp(-(out[k] @ h + shift[k])))
                chance[b, s] *= p if state[k] else 1 - p
    return states, chance


def told(*pairs: tuple[int, float], k: int = K) -> Given:
    values, mask = torch.zeros(1, k), torch.zeros(1, k, dtype=torch.bool)
    for column, value in pairs:
        values[0, column], mask[0, column] = value, True
    return Given(values, mask)


def posterior(states: np.ndarray, chance: np.ndarray, known: dict[int, float]) -> np.ndarray:
    fits = np.all([states[:, k] == v for k, v in known.items()], 0) if known else np.ones(len(states), bool)
    weight = chance * fits
    return weight / weight.sum(1, keepdims=True)


@pytest.mark.parametrize("known", [{}, {0: 1.0}, {3: 1.0}, {3: 0.0, 1: 1.0}, {0: 0.0, 1: 0.0, 2: 1.0, 3: 1.0}])
def test_marginals_are_the_sum_over_all_assignments(known: dict[int, float]) -> None:
    """Corrections move the later concepts and the earlier ones alike."""
    part, z = bottleneck(), torch.randn(6, 5)
    states, chance = joint(part, z)
    np.testing.assert_allclose(chance.sum(1), 1, atol=1e-6)
    want = posterior(states, chance, known) @ states
    np.testing.assert_allclose(part(z, told(*known.items())).values.detach().numpy(), want, atol=1e-5)


def test_an_earlier_concept_moves_and_only_through_the_weights() -> None:
    """The distinguishing step switched off: equal weights leave the first concept where it was."""
    part, z = bottleneck(), torch.randn(20, 5)
    before, after = part(z).values[:, 0], part(z, told((3, 1.0))).values[:, 0]
    assert (after - before).abs().max() > 0.05
    out = part(z, told((3, 1.0)))
    equal = torch.full_like(out.share, 1 / len(out.share))
    assert not torch.allclose(out.share, equal)
    sampled = bottleneck(exact=0, draws=20_000)
    out = sampled(z, told((3, 1.0)))
    torch.testing.assert_close(out.samples[..., 0].mean(0), before, atol=0.02, rtol=0)
    torch.testing.assert_close((out.share * out.samples[..., 0]).sum(0), after, atol=0.03, rtol=0)


def test_samples_agree_with_the_sum_over_all_assignments() -> None:
    part, few = bottleneck(), bottleneck(exact=0, draws=40_000)
    few.load_state_dict({k: v for k, v in part.state_dict().items() if k != "uniform"}, strict=False)
    z = torch.randn(8, 5)
    for known in (None, told((1, 1.0)), told((3, 0.0)), told((2, 0.3))):
        exact, drawn = part(z, known), few(z, known)
        assert len(exact.samples) == 16 and len(drawn.samples) == 40_000
        torch.testing.assert_close(drawn.values, exact.values, atol=0.02, rtol=0)
        torch.testing.assert_close(drawn.logits.sigmoid(), exact.logits.sigmoid(), atol=0.02, rtol=0)
    drawn = few(z).values
    assert (drawn - part(z).values).abs().mean() < (few(z).samples.mean(0) - part(z).values).abs().mean()


def test_likelihoods_of_what_is_known_multiply_to_its_probability() -> None:
    """The loss of a row is minus the log-probability of its known labels, the unknown ones summed out."""
    part, z = bottleneck(), torch.randn(5, 5)
    states, chance = joint(part, z)
    c = torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    for known in ([0, 1, 2, 3], [1, 3], [2]):
        mask = torch.zeros(5, K, dtype=torch.bool)
        mask[:, known] = True
        fits = np.all([states[:, k] == c[0, k].item() for k in known], 0)
        exact = -np.log((chance * fits).sum(1)).mean() / len(known)
        got = part(z, Given(c.expand(5, -1), mask)).nll(c.expand(5, -1), SPACE, known=mask).item()
        assert got == pytest.approx(exact, abs=1e-5)


def test_training_is_teacher_forcing() -> None:
    """With every label given the conditionals are those of the true earlier concepts, in one fresh assignment."""
    part, z = bottleneck().train(), torch.randn(7, 5)
    c = (torch.rand(7, K) < 0.5).float()
    out = part(z, everything(Batch(z, c, torch.zeros(7), SPACE)))
    assert out.samples.shape == (1, 7, K)
    states, chance = joint(part, z)
    row = [int(np.flatnonzero((states == each).all(1))[0]) for each in c.numpy()]
    exact = -np.log(chance[np.arange(7), row]).mean() / K
    assert out.nll(c, SPACE).item() == pytest.approx(exact, abs=1e-5)
    free = Batch(z, c, torch.zeros(7), SPACE, known=torch.zeros(7, K, dtype=torch.bool))
    torch.manual_seed(0)
    drawn = torch.stack([part(z, everything(free)).samples[0] for _ in range(3000)]).mean(0)
    np.testing.assert_allclose(drawn.numpy(), chance @ states, atol=0.04)


def test_a_block_and_an_excluded_state() -> None:
    space = ConceptSpace.of(Concept("a"), Concept("s", "categorical", ("x", "y", "z")), Concept("b"))
    part, few = bottleneck(space, 1), bottleneck(space, 1, exact=0, draws=60_000)
    z = torch.randn(4, 5)
    assignments = part.assignments(z.device)
    assert len(assignments) == 12
    whole = [part(z[r : r + 1], Given(row[None], torch.ones(1, 5, dtype=torch.bool))) for r in range(4) for row in assignments]
    nll = torch.stack([out.nll(out.values, space) * 3 for out in whole]).reshape(4, 12)
    chance = (-nll).exp()
    torch.testing.assert_close(chance.sum(1), torch.ones(4))
    for known, fits in (
        ({"s": "y", "b": 1}, (assignments[:, 2] == 1) & (assignments[:, 4] == 1)),
        ({"s=x": 0, "b": 0}, (assignments[:, 1] == 0) & (assignments[:, 4] == 0)),
    ):
        weight = chance * fits
        want = (weight / weight.sum(1, keepdim=True)) @ assignments
        torch.testing.assert_close(part(z, given(space, known)).values, want, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(few(z, given(space, known)).values, want, atol=0.03, rtol=0)


def test_a_number_moves_with_a_later_answer_as_quadrature_says() -> None:
    space = ConceptSpace.of(Concept("age", "continuous", center=50.0, scale=10.0), Concept("old"))
    part, z = bottleneck(space, draws=100_000), torch.randn(3, 5)
    x, w = np.polynomial.hermite_e.hermegauss(60)
    mean = part(z).logits[:, 0].detach().numpy()
    for row in range(3):
        numbers = torch.tensor(50 + 10 * (mean[row] + x), dtype=torch.float32)
        whole = Given(torch.stack([numbers, torch.ones(60)], 1), torch.tensor([[True, False]]).expand(60, -1))
        p = part(z[row : row + 1].expand(60, -1), whole).logits[:, 1].sigmoid().detach().numpy()
        want = (w * p * numbers.numpy()).sum() / (w * p).sum()
        got = part(z[row : row + 1], told((1, 1.0), k=2)).values[0, 0].item()
        assert got == pytest.approx(want, abs=0.15)


def test_the_order_is_carried_along_and_forbids_dropping_a_parent(tmp_path) -> None:
    data = world(("binary", "categorical"))
    model = make(data, epochs=3).fit(data)
    before = model(data.test.x)
    model.keep([5, 3, 0, 1, 2, 4])
    assert model.bottleneck.rank.tolist() == [5, 3, 0, 1, 2, 4]
    torch.testing.assert_close(model(data.test.x).logits, before.logits)
    with pytest.raises(DataError, match=r"'size' is predicted from 'yes or no 0'"):
        model.keep([0, 1])
    model.keep([2, 3, 4])
    assert model.bottleneck.rank.tolist() == [0, 1, 2]
    again = hub.load(hub.save(model, tmp_path / "cut"), features=build("identity", dim=8))
    assert torch.equal(again(data.test.x).logits, model(data.test.x).logits)


def test_corrections_help_the_others() -> None:
    data = correlated(train=800, validation=200, test=500)
    model = make(data, epochs=25, lr=3e-3, draws=60).fit(data)
    mask = torch.rand(data.test.c.shape, generator=torch.Generator().manual_seed(0)).argsort(1) < 9
    right = [
        (model(data.test.x, known).concepts.values > 0.5) == (data.test.c > 0.5) for known in (None, Given(data.test.c, mask))
    ]
    before, after = (each[~mask].float().mean().item() for each in right)
    assert after - before > 0.01
