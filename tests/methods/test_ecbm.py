"""Energy-based bottleneck: energies as the paper writes them, inference against every assignment, and each known slip."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax, softmax

import isthmus as im
from isthmus import registry
from isthmus.bottlenecks.energy import EnergyBottleneck, flip
from isthmus.errors import DataError, OptionError
from isthmus.features import build
from isthmus.given import Batch, Given
from isthmus.methods.ecbm import class_given_concepts, concepts_given_class, concepts_given_concepts, joint
from isthmus.model import ConceptModel
from isthmus.solvers import Descent, MeanField, Relaxed, Weighing
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.testing import world

SPACE = ConceptSpace.binary(f"c{k}" for k in range(4))
MIXED = ConceptSpace.of(Concept("a"), Concept("s", "categorical", ("x", "y", "z")), Concept("b"))


def make(data=None, **options):
    data = data or world(("binary",))
    options = {"width": 16, "epochs": 3, "batch_size": 32} | options
    return registry.get("ecbm").make(build("identity", dim=8), data.space, data.task, **options)


def sharp(space: ConceptSpace = SPACE, seed: int = 0, together: float = 6.0, **options) -> ConceptModel:
    """An unfitted model with energies some nats apart, so that inference has something to weigh."""
    task = Task.classes("abc")
    plan = registry.get("ecbm").make(build("identity", dim=8), space, task, seed=seed, width=16, **options)
    model = plan.model.eval().requires_grad_(False)
    model.bottleneck.readout.mul_(8)
    model.head.from_x.mul_(6)
    model.head.from_c.mul_(together)
    return model


def rows(n: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))


def assignments(space: ConceptSpace) -> torch.Tensor:
    every = [[(0.0,), (1.0,)] if c.kind == "binary" else [tuple(r) for r in np.eye(c.width)] for c in space.concepts]
    return torch.tensor([sum((tuple(s) for s in states), ()) for states in itertools.product(*every)])


def combine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The paper's operator on vectors."""
    return torch.relu(a + a * b)


def energy_of_all(model: ConceptModel, c: torch.Tensor, y: int) -> float:
    """E(c, y) of one hard assignment, as the paper writes it: embeddings side by side, one linear map, one read-out."""
    part, head, space = model.bottleneck, model.head, model.space
    chosen = []
    for concept, at in zip(space.concepts, space.slices, strict=True):
        state = int(c[at].argmax()) + at.start if concept.kind == "categorical" else at.start
        chosen.append(part.states[state, 1 if concept.kind == "categorical" else int(c[at.start])])
    side = torch.cat(chosen)
    s = side @ part.mix.flatten(0, 1) + part.shift
    return float((head.from_c @ combine(s, F.normalize(head.classes[y], dim=0))).detach())


@pytest.mark.parametrize("space", [SPACE, MIXED])
def test_energies_as_the_paper_writes_them(space: ConceptSpace) -> None:
    model, z = sharp(space), rows(5)
    part, head = model.bottleneck, model.head
    u, v = part.project(z), head.project(z)
    got = part.energies(z)
    for k, m in enumerate(space.owner_of.tolist()):
        for state in (0, 1):
            want = combine(u, F.normalize(part.states[k, state], dim=0)) @ part.readout[m]
            torch.testing.assert_close(got[:, k, state], want)
    for y in range(3):
        torch.testing.assert_close(-head.seen(z)[:, y], combine(v, F.normalize(head.classes[y], dim=0)) @ head.from_x)
    table, base = part.table()
    every = assignments(space).float()
    implied = head.implied(every @ table + base)
    want = torch.tensor([[-energy_of_all(model, c, y) for y in range(3)] for c in every])
    torch.testing.assert_close(implied, want, rtol=1e-4, atol=1e-4)


def test_one_index_convention_present_is_one_in_both_energies() -> None:
    model, z = sharp(), rows(6)
    absent, present = model.bottleneck.energies(z).unbind(-1)
    torch.testing.assert_close(model.bottleneck(z).values, torch.sigmoid(absent - present))
    vectors = model.bottleneck(z, Given(torch.ones(1, 4), torch.ones(1, 4, dtype=torch.bool))).vectors[0, 0]
    want = torch.einsum("kh,khg->g", model.bottleneck.states[:, 1], model.bottleneck.mix) + model.bottleneck.shift
    torch.testing.assert_close(vectors, want)


def test_loss_is_a_cross_entropy_for_each_energy_summed_over_concepts_with_weights_kept_as_fractions() -> None:
    data = world(("binary", "categorical"))
    batch = Batch(data.train.x[:20], data.train.c[:20].nan_to_num(0.0), data.train.y[:20], data.space)
    batch.c[:, 4:7], batch.c[:, 7:9] = F.one_hot(torch.arange(20) % 3, 3), F.one_hot(torch.arange(20) % 2, 2)
    weights = {"class_weight": 0.25, "concept_weight": 0.5, "joint_weight": 0.125}
    for options in ({}, weights):
        plan = make(data, flipped=0.0, dropout=0.0, **options)
        stage, model = plan.stages[0], plan.model.train()
        terms = {k: float(v.detach()) for k, v in stage.loss(stage.forward(model, batch), batch, model.task).items()}
        a, b, g = (options.get(k, d) for k, d in zip(weights, (3.0, 1.0, 1.0), strict=True))
        every = -model.bottleneck.energies(batch.x).detach().numpy()
        total = 0.0
        for row in range(20):
            for concept, at in zip(data.space.concepts, data.space.slices, strict=True):
                logits = every[row, at.start] if concept.kind == "binary" else every[row, at, 1]
                label = int(batch.c[row, at.start]) if concept.kind == "binary" else int(batch.c[row, at].argmax())
                total -= log_softmax(logits)[label]
        assert terms["concept"] == pytest.approx(b * total / 20, rel=1e-4)
        seen, y = model.head.seen(batch.x).detach(), batch.y
        assert terms["task"] == pytest.approx(a * float(F.cross_entropy(seen, y)), rel=1e-5)
        validated = stage.loss(stage.forward(model, batch, True), batch, model.task)["joint"]
        mixed = model.bottleneck.apart(batch.c, torch.Generator().manual_seed(0))
        implied, others = (
            torch.tensor([[-energy_of_all(model, c, k) for k in range(3)] for c in each]) for each in (batch.c, mixed)
        )
        every = torch.cat([implied, others.flatten().expand(20, -1)], 1)  # the row's own concepts, then all others
        assert float(validated.detach()) == pytest.approx(g * float(F.cross_entropy(every, y)), rel=1e-4)


def test_others_keep_each_concepts_rates_and_whole_states() -> None:
    part = EnergyBottleneck(8, MIXED, 16)
    c = torch.cat([torch.arange(40)[:, None] % 2, F.one_hot(torch.arange(40) % 3, 3), torch.arange(40)[:, None] % 2], 1).float()
    mixed = part.apart(c)
    assert torch.equal(mixed.sum(0), c.sum(0)) and torch.equal(mixed[:, 1:4].sum(1), torch.ones(40))
    assert not torch.equal(mixed[:, 0], mixed[:, 4])  # equal in every row of c
    told = [part.apart(c, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*told)


def test_where_classes_fix_concepts_a_correction_mends_the_others() -> None:
    """Half of the concepts say the class, and the class says the rest, which x hardly shows."""
    data = im.data.load(
        "causal_graph", concepts=12, inputs=12, classes=12, groups=6, alpha_mean=0.5, weight_std=0.2, samples_per_class=60
    )
    model = registry.get("ecbm").make(build("identity", dim=12), data.space, data.task, width=32, epochs=20).fit(data)
    c = data.test.c
    mask = torch.rand(c.shape, generator=torch.Generator().manual_seed(0)).argsort(1) < 6
    before, after = ((model(data.test.x, g).concepts.values > 0.5) == (c > 0.5) for g in (None, Given(c, mask)))
    assert after[~mask].float().mean() > before[~mask].float().mean() + 0.05


def test_negatives_flip_a_share_of_rows_in_concepts_they_have_in_common() -> None:
    space = ConceptSpace((*(Concept(f"c{k}") for k in range(9)), Concept("s", "categorical", tuple("wxyz"))))
    c = torch.cat([torch.randint(0, 2, (31, 9)).float(), F.one_hot(torch.randint(0, 4, (31,)), 4).float()], 1)
    told, states = Given(c, torch.ones(31, 13, dtype=torch.bool)), set()
    for seed in range(60):
        torch.manual_seed(seed)
        made = flip(told, space, 0.2, 31).values
        wrong = (made != c).float()
        by_concept = torch.cat([wrong[:, :9], wrong[:, 9:].amax(1, keepdim=True)], 1)
        assert int(by_concept.amax(1).sum()) == 7 and int(by_concept.amax(0).sum()) == 2  # ceil(6.2), ceil(2.0)
        assert int(by_concept.sum()) == 14  # the same concepts in every chosen row
        block = made[:, 9:]
        assert torch.equal(block.sum(1), torch.ones(31))
        moved = by_concept[:, 9] > 0
        states |= set(((block.argmax(1) - c[:, 9:].argmax(1)) % 4)[moved].tolist())
    assert states == {1, 2, 3}
    part = EnergyBottleneck(8, SPACE, 16).requires_grad_(False)
    told = Given(torch.zeros(10, 4), torch.ones(10, 4, dtype=torch.bool))
    assert float(part.train()(rows(10), told).values.sum()) == 2  # ceil(.2 * 10) rows, ceil(.2 * 4) concept
    assert float(part.eval()(rows(10), told).values.sum()) == 0


def posterior(model: ConceptModel, z: torch.Tensor, weights: tuple[float, float, float], given: Given | None) -> tuple:
    """Marginals p(c_k | x), p(y | x) of p(y | x)^a p(c | x)^b exp(-g E(c, y)), over every assignment."""
    every = assignments(model.space).float()
    part, head = model.bottleneck, model.head
    table, base = part.table()
    a, b, g = weights
    together = head.implied(every @ table + base).double().numpy()  # (N, Y)
    found = []
    for row in range(len(z)):
        own = model.space.activate(b * part.logits(z[row : row + 1]))[0].double().numpy()
        log_c = np.array([sum(np.log(own[k] if c[k] else 1 - own[k]) for k in range(len(c))) for c in every])
        if given is not None:
            fits = ((every == given.values) | ~given.mask).all(1).numpy()
            log_c = np.where(fits, log_c, -np.inf)
        both = g * together + a * head.seen(z[row : row + 1]).double().numpy() + log_c[:, None]
        p = np.exp(both - both.max())
        p /= p.sum()
        found.append((p.sum(1) @ every.numpy(), p.sum(0)))
    return np.stack([f[0] for f in found]), np.stack([f[1] for f in found])


def test_mean_field_is_near_the_exact_posterior_and_far_from_it_without_the_joint_energy() -> None:
    model, z, weights = sharp(together=3.0), rows(30), (1.0, 1.0, 1.0)
    given = Given(torch.ones(1, 4), torch.tensor([[True, False, False, False]]))
    for held in (None, given):
        c, y = posterior(model, z, weights, held)
        model.solver = MeanField(Weighing(weights, weights))
        out = model(z, held)
        near = np.abs(out.logits.softmax(-1).numpy() - y).max(), np.abs(out.concepts.values.numpy() - c).mean()
        model.solver = MeanField(Weighing((1, 1, 0), (1, 1, 0)))
        off = model(z, held)
        far = np.abs(off.logits.softmax(-1).numpy() - y).max(), np.abs(off.concepts.values.numpy() - c).mean()
        assert near[0] < 0.25 * far[0] and near[1] < 0.3 * far[1], (near, far)


def test_mean_field_without_the_joint_energy_is_exact() -> None:
    model, z = sharp(), rows()
    model.solver = MeanField(Weighing((1, 1, 0), (1, 1, 0)))
    c, y = posterior(model, z, (1, 1, 0), None)
    out = model(z)
    np.testing.assert_allclose(out.concepts.values, c, atol=1e-5)
    np.testing.assert_allclose(out.logits.softmax(-1), y, atol=1e-5)


@pytest.mark.parametrize("space", [SPACE, MIXED])
def test_mean_field_stands_where_its_free_energy_is_flat(space: ConceptSpace) -> None:
    """By automatic differentiation of what is maximised: expected log factors plus entropy, over softmax weights."""
    model, z, g = sharp(space, together=3.0), rows(), 0.7
    model.solver = MeanField(Weighing((1, 1, g), (1, 1, g)), tolerance=1e-7)
    out = model(z)
    c, y = (t.detach().double().requires_grad_() for t in (out.concepts.logits, out.logits))
    part, head = model.bottleneck.double(), model.head.double()
    z = z.double()
    p, q = space.activate(c), y.softmax(-1)
    table, base = part.table()
    gain = (q * (head.seen(z) + g * head.implied(p @ table + base) - q.log())).sum()
    states = part.binary() * (1 - p)
    gain = gain + (p * part.logits(z) - p * p.log() - states * states.clamp(min=1e-30).log()).sum()
    slopes = torch.autograd.grad(gain, (c, y))
    assert max(float(s.abs().max()) for s in slopes) < 1e-4


def test_correcting_one_concept_moves_the_others_only_through_the_joint_energy() -> None:
    model, z = sharp(together=12.0), rows()
    mask = torch.tensor([[True, False, False, False]])
    for solver in (MeanField, Descent):
        for weight, moves in ((1.0, True), (0.0, False)):
            model.solver = solver(Weighing((1, 1, weight), (1, 1, weight)))
            on, off = (model(z, Given(torch.full((1, 4), v), mask)).concepts.values for v in (1.0, 0.0))
            assert torch.equal(on[:, 0], torch.ones(12)) and torch.equal(off[:, 0], torch.zeros(12))
            gap = (on - off)[:, 1:].abs().max()
            assert gap > 0.01 if moves else gap < 1e-6


def test_hard_selection_sends_no_gradient_to_the_concepts_and_soft_does() -> None:
    model, z = sharp(MIXED), rows()
    only_joint = tuple(torch.full((len(z), 1), w, dtype=torch.double) for w in (0.0, 0.0, 1.0))
    y = torch.zeros(len(z), 3, dtype=torch.double, requires_grad=True)
    c = torch.zeros(len(z), len(MIXED), dtype=torch.double, requires_grad=True)
    slopes = {}
    for selection in ("soft", "hard"):
        energy = Relaxed(model, z, selection).energy(y, c, None, only_joint).sum()
        slopes[selection] = torch.autograd.grad(energy, (y, c), allow_unused=True)
    assert slopes["soft"][1].abs().max() > 1e-3
    assert slopes["hard"][1] is None or float(slopes["hard"][1].abs().max()) == 0.0
    assert slopes["hard"][0].abs().max() > 1e-3


@pytest.mark.parametrize("space", [SPACE, MIXED])
def test_relaxed_energy_mixes_embeddings_of_length_one(space: ConceptSpace) -> None:
    model, z = sharp(space), rows(4)
    part, head = model.bottleneck, model.head
    y, c = torch.randn(4, 3).double(), torch.randn(4, len(space)).double()
    problem = Relaxed(model, z, "soft")
    weights = tuple(torch.full((4, 1), w, dtype=torch.double) for w in (0.7, 1.3, 0.4))
    got = problem.energy(y, c, None, weights)
    part, head = part.double(), head.double()
    p, q, z = space.activate(problem.logits(c)), y.softmax(-1), z.double()
    unit, label = F.normalize(part.states, dim=-1), F.normalize(q @ F.normalize(head.classes, dim=-1), dim=-1)
    u, v = part.project(z), head.project(z)
    xy = (combine(v, label) @ head.from_x) - v.relu() @ head.from_x
    xc, s = torch.zeros(4).double(), part.shift.expand(4, -1)
    for m, (concept, at) in enumerate(zip(space.concepts, space.slices, strict=True)):
        if concept.kind == "binary":
            on = p[:, at.start, None]
            mixed, plain = (on * e[at.start, 1] + (1 - on) * e[at.start, 0] for e in (unit, part.states))
        else:
            mixed, plain = (p[:, at] @ e[at, 1] for e in (unit, part.states))
        xc = xc + combine(u, F.normalize(mixed, dim=-1)) @ part.readout[m] - u.relu() @ part.readout[m]
        s = s + plain @ part.mix[m]
    cy = combine(s, label) @ head.from_c
    torch.testing.assert_close(got, 0.7 * xy + 1.3 * xc + 0.4 * cy, rtol=1e-6, atol=1e-6)


def test_descent_finds_the_lowest_of_all_assignments() -> None:
    """At the paper's weights, against the energy of every (c, y)."""
    model, z = sharp(), rows(20)
    model.solver = Descent(delta=1e-4)
    out = model(z)
    every = assignments(SPACE).float()
    seen, each = -model.head.seen(z), model.bottleneck.energies(z)
    joint_energy = torch.tensor([[energy_of_all(model, c, y) for y in range(3)] for c in every])
    own = torch.stack([each[:, range(4), c.long()].sum(1) for c in every], 1)  # (B, N)
    total = own[:, :, None] + seen[:, None] + 0.01 * joint_energy
    best = total.flatten(1).argmin(1)
    got = torch.stack([(every == (row > 0.5).float()).all(1).nonzero()[0, 0] for row in out.concepts.values])
    assert (3 * got + out.logits.argmax(1) == best).float().mean() >= 0.95


@pytest.mark.parametrize("inference", ["mean field", "descent"])
def test_a_row_stops_by_itself(inference: str) -> None:
    """Beside rows that need far more steps, and beside far fewer, a row's answer is its own."""
    model = sharp(inference=inference)
    easy, hard = rows(3), rows(3, 1) * 40
    given = Given(torch.ones(6, 4), torch.tensor([[False] * 4, [True, False, False, False]] * 3))
    for held in (None, given):
        both = model(torch.cat([easy, hard]), held)
        for row in range(3):
            alone = model(easy[row : row + 1], None if held is None else held.rows(torch.tensor([row])))
            torch.testing.assert_close(alone.logits[0], both.logits[row], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(alone.concepts.values[0], both.concepts.values[row], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("inference", ["mean field", "descent"])
def test_only_the_direction_of_an_embedding_counts_in_training_and_inference(inference: str) -> None:
    model, z = sharp(inference=inference), rows()
    want = model(z).logits
    seen = model.head.seen(z)
    model.head.classes.mul_(torch.tensor([[0.3], [1.0], [4.0]]))
    torch.testing.assert_close(model.head.seen(z), seen)
    torch.testing.assert_close(model(z).logits, want, rtol=1e-4, atol=1e-4)


def test_conditionals_by_brute_force() -> None:
    """p(y | c), p(c | y), p(c_k | c_l), p(c_k | c_l, y) over every assignment, written out in loops."""
    model, z = sharp(MIXED), rows(7)
    every = assignments(MIXED).float()
    log_y = np.array([[-energy_of_all(model, c, y) for y in range(3)] for c in every], dtype=float)
    p_y = softmax(log_y, 1)
    np.testing.assert_allclose(class_given_concepts(model, every), p_y, rtol=1e-3, atol=1e-5)
    energies, p_c = model.bottleneck.energies(z).double().numpy(), np.zeros(len(every))
    for row in range(7):
        first, last = softmax(-energies[row, 0]), softmax(-energies[row, 4])
        middle = softmax(-energies[row, 1:4, 1])
        p_c += [first[int(c[0])] * middle[int(c[1:4].argmax())] * last[int(c[4])] / 7 for c in every]
    both = p_c[:, None] * p_y
    listed, p = joint(model, z)
    order = [int((every == c).all(1).nonzero()) for c in listed]
    np.testing.assert_allclose(p, both[order], rtol=1e-3, atol=1e-6)
    c = every.numpy()
    np.testing.assert_allclose(concepts_given_class(model, z), both.T @ c / both.sum(0)[:, None], rtol=1e-3)
    for given, fits in (({"b": 1}, c[:, 4] == 1), ({"s": "y", "a": 0}, (c[:, 2] == 1) & (c[:, 0] == 0))):
        some = both * fits[:, None]
        want = some.sum(1) @ c / some.sum()
        np.testing.assert_allclose(concepts_given_concepts(model, z, given), want, rtol=1e-3, atol=1e-6)
        want = some.T @ c / some.sum(0)[:, None]
        np.testing.assert_allclose(concepts_given_class(model, z, given), want, rtol=1e-3, atol=1e-6)


def test_more_assignments_than_can_be_listed_are_refused() -> None:
    model = sharp(ConceptSpace.binary(f"c{k}" for k in range(13)))
    with pytest.raises(DataError, match="4096 joint assignments to list, got 8192"):
        concepts_given_class(model, rows())


@pytest.mark.parametrize(("given", "said"), [({"a": 0.7}, "'a': .* got 0.7"), ({"b": 1, "s=y": 0.5}, "'s=y': .* got 0.5")])
def test_soft_values_of_conditionals_are_refused_and_excluded_states_are_not(given: dict[str, float], said: str) -> None:
    model, z = sharp(MIXED), rows()
    for ask in (joint, concepts_given_class, concepts_given_concepts):
        with pytest.raises(DataError, match=f"given {said}; soft values are not taken"):
            ask(model, z, given)
    out = concepts_given_concepts(model, z, {"s=y": 0})
    assert bool(out.isfinite().all()) and float(out[2]) == 0.0


def test_an_unknown_label_enters_as_predicted_without_gradient() -> None:
    part, z = EnergyBottleneck(8, SPACE, 16, dropout=0.0, flipped=0.0).train(), rows()
    held = Given(torch.ones(12, 4), torch.tensor([[True, True, True, False]]).expand(12, 4))
    out = part(z, held)
    torch.testing.assert_close(out.values[:, 3], out.logits[:, 3].sigmoid())
    assert not out.values.requires_grad
    out.vectors.sum().backward()
    assert part.project.weight.grad is None and part.mix.grad is not None


def test_options_that_do_not_go_together_and_solvers_are_plain_values() -> None:
    with pytest.raises(OptionError, match="selection='hard' needs inference='descent'"):
        make(selection="hard")
    solver = make(selection="hard", inference="descent", cy=0.5, corrected_xy=0.0).model.solver
    assert solver == Descent(Weighing((1.0, 1.0, 0.5), (0.0, 1.0, 1.0)), "hard")
    assert pickle.loads(pickle.dumps(solver)) == solver


def test_without_the_features_energy_a_corrected_row_is_decided_by_its_concepts_alone() -> None:
    data = world(("binary",))
    model = make(data, corrected_xy=0.0).fit(data)
    given = Given(torch.ones(1, 4), torch.ones(1, 4, dtype=torch.bool))
    out = model(data.test.x, given)
    torch.testing.assert_close(out.logits.softmax(-1), class_given_concepts(model, torch.ones(len(out.logits), 4)))
