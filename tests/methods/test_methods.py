"""What makes each method itself: an independent oracle of its equation, and a test that fails with it switched off."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from isthmus import registry
from isthmus.bottlenecks.embedding import EmbeddingBottleneck
from isthmus.bottlenecks.linear import LinearBottleneck, smoothed
from isthmus.errors import OptionError
from isthmus.features import build
from isthmus.given import Batch, Given, everything, nothing, randomly
from isthmus.heads.linear import LinearHead
from isthmus.heads.vectors import VectorHead
from isthmus.model import ConceptModel, Concepts
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.testing import world
from isthmus.train import Learn

SPACE = ConceptSpace.binary(f"c{k}" for k in range(5))
TASK = Task.classes("abc")


def make(name: str, data=None, **options):
    data = data or world(("binary",))
    return registry.get(name).make(build("identity", dim=8), data.space, data.task, **options)


def batch(seed: int = 0, rows: int = 40, space: ConceptSpace = SPACE) -> Batch:
    torch.manual_seed(seed)
    return Batch(torch.randn(rows, 8), (torch.rand(rows, len(space)) < 0.5).float(), torch.randint(0, 3, (rows,)), space)


def test_cem_mixes_two_vectors_by_probability() -> None:
    """Equations 1 and 2 concept by concept, as the paper writes them."""
    part = EmbeddingBottleneck(8, SPACE, width=3)
    z = torch.randn(6, 8)
    out = part(z)
    for k in range(5):
        weight, bias = part.pair.weight[6 * k : 6 * k + 6], part.pair.bias[6 * k : 6 * k + 6]
        both = nn.functional.leaky_relu(z @ weight.T + bias)
        p = torch.sigmoid(both @ part.score.weight[0] + part.score.bias)
        torch.testing.assert_close(out.values[:, k], p)
        torch.testing.assert_close(out.vectors[:, k], p[:, None] * both[:, :3] + (1 - p[:, None]) * both[:, 3:])


def test_cem_with_one_for_yes_and_zero_for_no_is_a_sigmoid_cbm() -> None:
    """Golden check: e+ = 1, e- = 0, width 1 turns the mixture into the probability itself."""
    part = EmbeddingBottleneck(8, SPACE, width=1)
    with torch.no_grad():
        part.pair.weight.zero_()
        part.pair.bias.copy_(torch.tensor([1.0, 0.0] * 5))
    out = part(torch.randn(4, 8))
    torch.testing.assert_close(out.vectors.squeeze(-1), out.values)
    head = VectorHead(SPACE, TASK, 1)
    plain = LinearHead(SPACE, TASK)
    plain.map.load_state_dict(head.map.state_dict())
    torch.testing.assert_close(head(out, torch.zeros(4, 8)), plain(Concepts(out.values), torch.zeros(4, 8)))


def test_cem_correction_moves_the_mixture_to_its_end() -> None:
    part, z = EmbeddingBottleneck(8, SPACE, width=2), torch.randn(4, 8)
    ends = [part(z, Given(torch.full((1, 5), v), torch.ones(1, 5, dtype=torch.bool))).vectors for v in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(ends[1], (ends[0] + ends[2]) / 2)
    assert not torch.allclose(ends[0], ends[2])


def test_randint_draws_one_mask_for_the_batch_at_its_rate() -> None:
    torch.manual_seed(0)
    rows = batch(rows=30, space=ConceptSpace.binary(f"c{k}" for k in range(400)))
    given = randomly(0.25)(rows)
    assert given.mask.shape == (1, 400)
    assert 0.18 < given.mask.float().mean() < 0.32
    each = randomly(0.25, shared=False)(rows)
    assert each.mask.shape == (30, 400)
    assert not torch.equal(each.mask[0], each.mask[1])
    assert not bool(randomly(0.0)(rows).mask.any())


def test_cem_learns_with_randint_and_the_concept_loss_never_sees_it() -> None:
    """Switched off, the training output no longer changes with the draw."""
    rows = batch(space=world(("binary",)).space)
    outs = {}
    for share in (0.25, 0.0):
        plan = make("cem", randint=share, epochs=1)
        learn = plan.stages[0]
        assert isinstance(learn, Learn)
        draws = []
        for seed in range(6):
            torch.manual_seed(seed)
            draws.append(learn.forward(plan.model, rows))
        outs[share] = draws
    moved = [not torch.equal(out.logits, outs[0.25][0].logits) for out in outs[0.25]]
    still = [torch.equal(out.logits, outs[0.0][0].logits) for out in outs[0.0]]
    assert any(moved)
    assert all(still)
    assert all(torch.equal(out.concepts.logits, outs[0.25][0].concepts.logits) for out in outs[0.25])


def test_independent_reads_true_concepts_sequential_predicted_ones() -> None:
    stages = {mode: make("cbm", mode=mode).stages for mode in ("joint", "sequential", "independent")}
    assert [stage.parts for stage in stages["joint"]] == [("features", "bottleneck", "head")]
    assert [stage.given for stage in stages["sequential"]] == [nothing, nothing]
    assert [stage.given for stage in stages["independent"]] == [nothing, everything]
    heads = {}
    data = world(("binary",))
    for mode in ("sequential", "independent"):
        heads[mode] = make("cbm", data, mode=mode, epochs=30, lr=1e-2).fit(data, seed=1)
    a, b = heads["sequential"], heads["independent"]
    assert torch.equal(a.bottleneck.score.weight, b.bottleneck.score.weight)
    assert not torch.allclose(a.head.map.weight, b.head.map.weight)


def test_the_independent_head_is_the_one_fitted_on_labels_alone() -> None:
    """Its weights do not depend on x at all."""
    data = world(("binary",))
    whole = (t.replace(c=t.c.nan_to_num(0.0)) for t in (data.train, data.validation, data.test))
    data = type(data)(*whole)
    other = type(data)(*(t.replace(x=torch.randn_like(t.x)) for t in (data.train, data.validation, data.test)))
    weights = []
    for splits in (data, other):
        plan = make("cbm", splits, mode="independent", epochs=15)
        torch.manual_seed(0)
        plan.model.head.map.load_state_dict(make("cbm", data).model.head.map.state_dict())
        stage = plan.stages[1]
        torch.manual_seed(3)
        stage(plan.model, splits.fold)
        weights.append(plan.model.head.map.weight.detach().clone())
    torch.testing.assert_close(weights[0], weights[1])


def test_joint_lets_the_task_move_the_concepts() -> None:
    rows = batch(space=world(("binary",)).space)
    for mode, moves in (("joint", True), ("sequential", False)):
        plan = make("cbm", mode=mode)
        learn = plan.stages[0]
        out = learn.forward(plan.model, rows)
        terms = learn.loss(out, rows, plan.model.task)
        assert ("task" in terms) is moves


def test_concept_weight_scales_the_concept_term() -> None:
    rows = batch(space=world(("binary",)).space)
    terms = {}
    for weight in (0.0, 1.0, 3.0):
        plan = make("cbm", concept_weight=weight)
        terms[weight] = plan.stages[0].loss(plan.stages[0].forward(plan.model, rows), rows, plan.model.task)
    assert terms[0.0]["concept"] == 0
    torch.testing.assert_close(terms[3.0]["concept"], 3 * terms[1.0]["concept"])
    torch.testing.assert_close(terms[3.0]["task"], terms[1.0]["task"])


def test_hard_reading_passes_decisions_and_a_straight_through_gradient() -> None:
    part = LinearBottleneck(8, SPACE, "hard")
    z = torch.randn(10, 8)
    part.eval()
    assert set(part(z).values.unique().tolist()) <= {0.0, 1.0}
    part.train()
    part(z).values.sum().backward()
    soft = LinearBottleneck(8, SPACE)
    soft.load_state_dict(part.state_dict())
    soft(z).values.sum().backward()
    torch.testing.assert_close(part.score.weight.grad, soft.score.weight.grad)


def test_logit_corrections_are_training_percentiles() -> None:
    data = world(("binary", "continuous"))
    model = make("cbm", data, reading="logit", epochs=5).fit(data)
    train = model.bottleneck.score(data.train.x)
    for q, c in ((0.05, 0.0), (0.95, 1.0)):
        given = Given(torch.full((1, len(model.space)), c), torch.ones(1, len(model.space), dtype=torch.bool))
        values = model(data.test.x[:1], given).concepts.values[0]
        torch.testing.assert_close(values[:4], train.quantile(q, dim=0)[:4])
        assert values[4:].tolist() == [c, c]
    with pytest.raises(OptionError, match="0/1 concepts"):
        make("cbm", reading="logit", mode="independent")


def test_the_side_channel_is_the_remainder_and_can_be_dropped() -> None:
    data = world(("binary",))
    model = make("sidechannel", data, epochs=10).fit(data)
    out = model(data.test.x)
    side = data.test.x @ model.head.side.weight.T
    inner = model.head.inner(out.concepts, data.test.x)
    torch.testing.assert_close(out.logits, inner + side)
    torch.testing.assert_close(model.head.remainder(out.concepts, data.test.x), model.head.inner.map.bias + side)
    model.head.train()
    model.head.dropout = 1.0
    torch.testing.assert_close(model.head(out.concepts, data.test.x), inner)


def test_random_concepts_are_unit_directions_standardised_on_train_alone() -> None:
    data = world(("binary",))
    model = make("random_concepts", data, epochs=2).fit(data)
    rows = model.bottleneck.rows
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
    margin = model(data.train.x).concepts.values
    torch.testing.assert_close(margin.mean(0), torch.zeros(len(rows)), atol=1e-5, rtol=0)
    torch.testing.assert_close(margin.std(0, correction=0), torch.ones(len(rows)))
    assert len(rows) == len(data.space)
    assert "random direction 1" in model.space.names


def test_the_linear_probe_leaves_its_features_alone() -> None:
    data = world(("binary",))
    features = build("mlp", dim_in=8, hidden=(8,), dim=6)
    before = {k: v.clone() for k, v in features.state_dict().items()}
    registry.get("linear_probe").make(features, data.space, data.task, epochs=3).fit(data)
    assert all(torch.equal(v, before[k]) for k, v in features.state_dict().items())
    registry.get("blackbox").make(features, data.space, data.task, epochs=3).fit(data)
    assert not all(torch.equal(v, before[k]) for k, v in features.state_dict().items())


def test_a_hidden_layer_sees_a_pair_and_a_linear_head_does_not() -> None:
    """Why the demo's heads have one hidden layer: 'two of a kind' is no linear function of the cards."""
    torch.manual_seed(0)
    ranks = torch.randint(0, 6, (3000, 2))
    c = torch.cat([nn.functional.one_hot(ranks[:, 0], 6), nn.functional.one_hot(ranks[:, 1], 6)], 1).float()
    y = (ranks[:, 0] == ranks[:, 1]).long()
    keep = torch.cat([(y == 1).nonzero().flatten(), (y == 0).nonzero().flatten()[: int(y.sum())]])
    from isthmus.data import Table, split

    space = ConceptSpace.binary(f"c{k}" for k in range(12))
    data = split(Table(c[keep], c=c[keep], y=y[keep], space=space, task=Task.classes(["other", "pair"])))
    scores = {}
    for head in ("linear", "mlp"):
        plan = registry.get("cbm").make(build("identity", dim=12), space, data.task, head=head, mode="independent", lr=1e-2)
        model = plan.fit(data)
        whole = Given(data.test.c, torch.ones_like(data.test.c, dtype=torch.bool))
        scores[head] = (model(data.test.x, whole).logits.argmax(1) == data.test.y).float().mean().item()
    assert scores["mlp"] > 0.95
    assert scores["linear"] < 0.75


def test_unmet_needs_are_named() -> None:
    numbers = ConceptSpace(world(("continuous",)).space.concepts)
    assert registry.get("cem").unmet(numbers, TASK) == "binary or categorical concepts alone, got continuous ones"
    assert registry.get("cbm").unmet(None, TASK) == "concept labels"
    assert registry.get("cem").unmet(SPACE, Task.value("price")) == "a task of classes or labels, not of value"
    assert registry.get("blackbox").unmet(None, TASK) is None


def test_options_are_checked_by_the_signature() -> None:
    with pytest.raises(ValueError, match="did you mean 'mode'"):
        make("cbm", mod="joint")
    with pytest.raises(OptionError, match="option 'mode' of method 'cbm'"):
        make("cbm", mode="together")
    assert make("cbm", lr="0.01").stages[0].lr == 0.01


def test_a_model_is_final_on_given_of_the_wrong_width() -> None:
    model = make("cbm").model.eval()
    assert isinstance(model, ConceptModel)
    with pytest.raises(ValueError, match=r"given values: expected shape \(2, 4\) or \(1, 4\), got \(2, 3\)"):
        model(torch.randn(2, 8), Given(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)))


def test_calibration_on_validation_rows_mends_confidence_and_never_raises_the_loss() -> None:
    """Overconfident logits come back: the slope found is the inverse of the one put in, by an independent fit."""
    from sklearn.linear_model import LogisticRegression

    torch.manual_seed(0)
    part, z = LinearBottleneck(8, SPACE), torch.randn(4000, 8)
    c = torch.bernoulli(part(z).values.detach())
    with torch.no_grad():
        part.score.weight.mul_(6.0)
        part.score.bias.mul_(6.0).add_(1.0)
    rows = Batch(z, c, torch.zeros(4000, dtype=torch.long), SPACE)
    logits = part(z).logits.detach()
    before = part(z).nll(c, SPACE).item()
    with torch.no_grad():
        part.calibrate(z, rows)
    assert part(z).nll(c, SPACE).item() < before - 0.1
    for k in range(5):
        fit = LogisticRegression(C=1e9).fit(logits[:, k : k + 1].numpy(), c[:, k].numpy())
        want = logits[:, k] * float(fit.coef_[0, 0]) + float(fit.intercept_[0])
        torch.testing.assert_close(part(z).logits[:, k], want, atol=0.05, rtol=0.01)


def test_calibration_fits_validation_alone_and_not_a_joint_head() -> None:
    data = world(("binary",), rows=400)
    plain, fitted = (make("cbm", data, mode="independent", calibrate=on, epochs=5).fit(data) for on in (False, True))
    assert not torch.equal(plain.bottleneck.score.weight, fitted.bottleneck.score.weight)
    rows = data.validation.batch(data.validation.x)
    loss = [m(data.validation.x).concepts.nll(rows.c, data.space, known=rows.known).item() for m in (plain, fitted)]
    assert loss[1] < loss[0]
    with pytest.raises(OptionError, match="joint"):
        make("cbm", data, calibrate=True)


def test_smoothed_targets_are_platts() -> None:
    """(n + 1) / (n + 2) and 1 / (n + 2) of a column's rows of one label; a block of S states by (n + 1) / (n + S)."""
    nan = float("nan")
    space = ConceptSpace.of(Concept("a"), Concept("s", "categorical", ("x", "y", "z")), Concept("n", "continuous"))
    c = torch.tensor([[1, 1, 0, 0, 5.0], [1, 1, 0, 0, 6.0], [0, 0, 0, 1, 7.0], [nan, nan, nan, nan, nan]])
    known = ~c.isnan()
    told = smoothed(c.nan_to_num(), space, known)[:3]
    want = torch.tensor([[3 / 4, 3 / 5, 1 / 5, 1 / 5, 5], [3 / 4, 3 / 5, 1 / 5, 1 / 5, 6], [1 / 3, 1 / 4, 1 / 4, 2 / 4, 7]])
    torch.testing.assert_close(told, want)


def test_calibration_on_separable_rows_stays_finite() -> None:
    space = ConceptSpace.binary(["a"])
    part, z = LinearBottleneck(1, space), torch.linspace(-1, 1, 40)[:, None]
    with torch.no_grad():
        part.score.weight.fill_(1.0)
        part.score.bias.zero_()
        part.calibrate(z, Batch(z, (z > 0).float(), torch.zeros(40, dtype=torch.long), space))
    assert 0.9 < part(torch.ones(1, 1)).values.item() < 0.999
