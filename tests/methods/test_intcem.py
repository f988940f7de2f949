"""IntCEM: the greedy oracle against the model's own answers, the rollout's rules, and a policy that learns the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus import registry
from isthmus.bottlenecks.embedding import AskingBottleneck, EmbeddingBottleneck, membership
from isthmus.data.worlds.correlated import correlated
from isthmus.features import build
from isthmus.given import Batch, Given, reveal
from isthmus.interventions import policy
from isthmus.interventions.policies import case
from isthmus.methods.intcem import Rollouts, greedy
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.stages import Clipped
from isthmus.testing import world

SPACE = ConceptSpace(tuple(Concept(f"c{k}", group=f"g{k // 2}") for k in range(6)))


def make(data: Any, **options: Any):
    return registry.get("intcem").make(build("identity", dim=data.train.x.shape[1]), data.space, data.task, **options)


def parts(space: ConceptSpace = SPACE, task: str = "classes", rows: int = 12, **options: Any):
    """An untrained model, its loss and a batch with some labels unknown."""
    torch.manual_seed(0)
    kind = {"classes": Task.classes("abc"), "labels": Task.labels("abc")}[task]
    plan = registry.get("intcem").make(build("identity", dim=5), space, kind, **options)
    c, known = (torch.rand(rows, len(space)) < 0.5).float(), torch.rand(rows, len(space)) < 0.8
    y = torch.randint(0, 3, (rows,)) if task == "classes" else (torch.rand(rows, 3) < 0.5).float()
    batch = Batch(torch.randn(rows, 5), c * known, y, space, known)
    loss = plan.stages[0].loss
    assert isinstance(loss, Rollouts)
    return plan, loss, batch


def test_each_concept_has_its_own_scorer() -> None:
    part = EmbeddingBottleneck(5, SPACE, 3, shared=False)
    z = torch.randn(4, 5)
    out = part(z)
    for k in range(6):
        both = F.leaky_relu(z @ part.pair.weight[6 * k : 6 * k + 6].T + part.pair.bias[6 * k : 6 * k + 6])
        torch.testing.assert_close(out.logits[:, k], both @ part.score.weight[k] + part.score.bias[k])


@pytest.mark.parametrize("task", ["classes", "labels"])
@pytest.mark.parametrize("level", ["group", "concept"])
def test_the_greedy_oracle_is_one_sum_over_what_the_model_answers_group_by_group(task: str, level: str) -> None:
    """Brute force: each group is given in turn, through the model's only call."""
    plan, loss, batch = parts(task=task, level=level)
    model = plan.model.eval()
    member = membership(SPACE, level)
    seen = torch.zeros(12, 6)
    seen[::2, :2] = batch.known[::2, :2].float()
    out = model(batch.x)
    found = greedy(
        out.logits, loss.effects(out), batch.c - out.concepts.values, seen, batch.known.float(), member, batch.y, model.task
    )
    for group, columns in enumerate(member > 0):
        mask = (seen > 0) | (columns & batch.known)
        logits = model(batch.x, Given(batch.c, mask)).logits
        want = logits[torch.arange(12), batch.y] if task == "classes" else ((2 * batch.y - 1) * logits).sum(1)
        torch.testing.assert_close(found[:, group], want, atol=1e-5, rtol=1e-5)


class Watch:
    """Records what the policy is shown, and what it is told to imitate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, loss: Rollouts, horizon: tuple[int, int] | None = None) -> None:
        self.masks: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.scores: list[Tensor] = []
        rank, entropy = AskingBottleneck.rank, F.cross_entropy

        def shown(part: AskingBottleneck, vectors: Tensor, mask: Tensor) -> Tensor:
            self.masks.append(mask.detach().clone())
            return rank(part, vectors, mask)

        def imitated(scores: Tensor, target: Tensor, **more: Any) -> Tensor:
            if more.get("reduction") == "none":
                self.scores.append(scores.detach().clone())
                self.targets.append(target.clone())
            return entropy(scores, target, **more)

        monkeypatch.setattr(AskingBottleneck, "rank", shown)
        monkeypatch.setattr(F, "cross_entropy", imitated)
        if horizon:
            monkeypatch.setattr(Rollouts, "horizon", lambda *_: horizon)


@pytest.mark.parametrize("level", ["group", "concept"])
def test_a_rollout_asks_one_more_each_time_never_twice_and_never_what_has_no_label(level: str, monkeypatch) -> None:
    plan, loss, batch = parts(level=level)
    watch = Watch(monkeypatch, loss, (1, 2))
    for seed in range(20):
        torch.manual_seed(seed)
        watch.masks.clear(), watch.targets.clear()
        plan.model.train()
        out = plan.model(batch.x)
        loss(out, batch, plan.model.task)
        member = membership(SPACE, level)
        assert len(watch.masks) == 2
        before, after = watch.masks
        assert float(after.max()) < 1.001
        assert not bool((after[~batch.known] > 0).any())
        free = ((before @ member.T) == 0) & ((batch.known.float() @ member.T) > 0)
        more = ((after @ member.T) > 0).sum(1) - ((before @ member.T) > 0).sum(1)
        assert torch.equal(more, free.any(1).long())
        chosen = free.gather(1, watch.targets[0][:, None]).squeeze(1)
        assert bool(chosen[free.any(1)].all()), "the oracle points at what is given already"


def test_the_task_term_weighs_before_and_after_by_gamma(monkeypatch) -> None:
    plan, loss, batch = parts(randint=0.0, discount=1.5)
    batch.known = torch.ones_like(batch.known)
    watch = Watch(monkeypatch, loss, (0, 3))
    plan.model.train()
    out = plan.model(batch.x)
    terms = loss(out, batch, plan.model.task)
    before = F.cross_entropy(out.logits, batch.y)
    everything = Given(batch.c, torch.ones(1, 6, dtype=torch.bool))  # three groups, three questions: all is told
    after = F.cross_entropy(plan.model(batch.x, everything).logits, batch.y)
    torch.testing.assert_close(terms["task"], (before + 1.5**3 * after) / (1 + 1.5**3))
    each = [F.cross_entropy(s, t) for s, t in zip(watch.scores[:3], watch.targets[:3], strict=True)]
    torch.testing.assert_close(terms["rollout"], 5 * torch.stack(each).mean())
    plan.model.eval()
    torch.testing.assert_close(
        loss(plan.model(batch.x), batch, plan.model.task)["task"], F.cross_entropy(plan.model(batch.x).logits, batch.y)
    )


def test_randint_and_the_first_questions_are_part_of_the_rollout(monkeypatch) -> None:
    plan, loss, batch = parts(randint=1.0)
    plan.model.train()
    out = plan.model(batch.x)
    terms = loss(out, batch, plan.model.task)
    told = plan.model(batch.x, Given(batch.c, batch.known))
    torch.testing.assert_close(terms["task"], F.cross_entropy(told.logits, batch.y))
    assert terms["rollout"] == 0, "nothing is left to ask"
    plan, loss, batch = parts(randint=0.0)
    watch = Watch(monkeypatch, loss, (2, 1))
    loss(plan.model.train()(batch.x), batch, plan.model.task)
    groups = (watch.masks[0] @ membership(SPACE, "group").T > 0).sum(1)
    assert bool((groups <= 2).all()) and int(groups.max()) == 2


def test_the_horizon_grows_until_all_can_be_asked() -> None:
    plan, loss, batch = parts(horizon_rate=1.3)
    plan.model.train()
    seen = []
    for _ in range(8):
        seen.append(float(plan.model.bottleneck.horizon))
        loss(plan.model(batch.x), batch, plan.model.task)
    assert seen[:3] == pytest.approx([2.0, 2.6, 3.38])
    assert seen[-1] == seen[-2] and 4.0 <= seen[-1] < 4 * 1.3
    drawn = [loss.horizon(3, 3) for _ in range(300)]
    assert {n for n, _ in drawn} == {0, 1}
    assert all(1 <= t <= 2 for n, t in drawn if n == 0)
    assert loss.horizon(3, 0) == (0, 0)


def test_clipping_bounds_the_norm_of_all_gradients() -> None:
    plan, _, batch = parts()
    model, stage = plan.model, plan.stages[0]
    assert isinstance(stage, Clipped) and stage.clip == 100.0
    moved = {}
    for clip in (1e-3, 1e9):
        again, _, _ = parts(clip=clip)
        again.model.load_state_dict(model.state_dict())
        before = torch.cat([p.detach().flatten().clone() for p in again.model.parameters()])
        torch.manual_seed(0)
        again.model.train()
        again.stages[0].step(again.model, batch, torch.optim.SGD(again.model.parameters(), lr=1.0))
        moved[clip] = (torch.cat([p.detach().flatten() for p in again.model.parameters()]) - before).norm().item()
    assert moved[1e-3] == pytest.approx(1e-3, rel=0.05)
    assert moved[1e9] > 0.1


def test_scores_leave_out_what_is_given_and_move_with_their_groups() -> None:
    plan, _, batch = parts()
    part = plan.model.eval().bottleneck
    given = Given(batch.c[:1], torch.tensor([[False, True, False, False, False, False]]))
    scores = part.policy_scores(batch.x, given)
    assert scores.shape == (12, 3)
    assert bool((scores[:, 0] == -torch.inf).all()) and bool(scores[:, 1:].isfinite().all())
    free = part.policy_scores(batch.x)
    plan.model.keep([4, 5, 0, 1, 2, 3])
    torch.testing.assert_close(part.policy_scores(batch.x), free[:, [2, 0, 1]])
    plan.model.keep([0, 2])
    assert part.policy_scores(batch.x).shape == (12, 2)


def test_the_policy_named_learned_calls_it_and_asks_one_group_at_a_time() -> None:
    plan, _, batch = parts()
    model, chooser = plan.model.eval(), policy("learned:group")
    assert chooser.unready(model) is None and policy("learned").unready(model) is not None
    rows = case(model, batch.x, batch.c.masked_fill(~batch.known, float("nan")))
    told = torch.zeros(12, 6, dtype=torch.bool)
    member = membership(SPACE, "group")
    for budget in range(4):
        chosen = chooser.choose(rows, budget)
        assert not bool((chosen & ~rows.askable).any()) and bool((chosen | ~told).all())
        assert bool(((chosen.float() @ member.T > 0).sum(1) <= budget).all())
        if budget == 1:
            scores = model.bottleneck.policy_scores(batch.x).masked_fill(rows.askable.float() @ member.T == 0, -torch.inf)
            best = member[scores.argmax(1)] > 0
            assert torch.equal(chosen, best & rows.askable)
        told = chosen
    assert torch.equal(told, rows.askable)
    data = world(("binary",))
    plain = registry.get("cem").make(build("identity", dim=8), data.space, data.task).model
    assert policy("learned").unready(plain) is not None
    alone = registry.get("intcem").make(build("identity", dim=8), correlated(train=9).space, data.task).model
    assert alone.bottleneck.level == "concept" and policy("learned").unready(alone) is None


def agreement(model: Any, data: Any, loss: Rollouts) -> float:
    """How often the policy's first two questions are the greedy oracle's."""
    table, hits = data.test, []
    chosen = torch.zeros(len(table), data.space.count, dtype=torch.bool)
    for _ in range(2):
        given = reveal(table.c, chosen, data.space)
        out = model(table.x)
        gap, known, member = table.c - out.concepts.values, torch.ones_like(table.c), membership(data.space, "group")
        score = greedy(out.logits, loss.effects(out), gap, chosen.float(), known, member, table.y, data.task)
        target = score.masked_fill(chosen, -torch.inf).argmax(1)
        mine = model.bottleneck.policy_scores(table.x, given).argmax(1)
        hits.append((mine == target).float().mean().item())
        chosen[torch.arange(len(table)), mine] = True
    return sum(hits) / 2


def test_rollouts_teach_the_policy_what_the_oracle_would_ask() -> None:
    """Switched off (rollout_weight=0) it is at chance, one in twelve."""
    data = correlated(train=800, validation=100, test=400)
    found = {}
    for weight in (5.0, 0.0):
        plan = make(data, rollout_weight=weight, epochs=25, lr=1e-2, patience=0, batch_size=64, policy=(32,))
        loss = plan.stages[0].loss
        found[weight] = agreement(plan.fit(data), data, loss)
    assert found[5.0] > 0.25
    assert found[0.0] < 0.2


def test_the_task_after_a_rollout_teaches_the_policy_through_the_draws() -> None:
    """Straight through: with the oracle's term out, what was asked still reaches the policy by its gradient."""
    plan, loss, batch = parts(randint=0.0, rollout_weight=0.0)
    batch.known = torch.ones_like(batch.known)
    plan.model.train()
    loss(plan.model(batch.x), batch, plan.model.task)["task"].backward()
    grads = [p.grad for p in plan.model.bottleneck.layers.parameters()]
    assert all(g is not None for g in grads) and sum(float(g.abs().sum()) for g in grads) > 0
