"""The training loop: seeds, early stopping, unknown labels, checkpoints, frozen features, sealed test rows."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from isthmus import losses, registry
from isthmus.bottlenecks.linear import LinearBottleneck
from isthmus.checkpoints import CheckpointFolder
from isthmus.errors import IntegrityError, IsthmusError
from isthmus.features import Features, build
from isthmus.given import Batch, everything
from isthmus.heads.linear import LinearHead
from isthmus.model import ConceptModel, feedforward
from isthmus.testing import world
from isthmus.train import Learn, Plan, Solve


def plan(data, **options) -> Plan:
    torch.manual_seed(7)
    return registry.get("cbm").make(build("mlp", dim_in=8, hidden=(8,), dim=6), data.space, data.task, **options)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("mode", ["joint", "sequential"])
@pytest.mark.parametrize("stop", [1, 4, 6, 9])
def test_an_interrupted_fit_goes_on_bit_for_bit(tmp_path: Path, mode: str, stop: int) -> None:
    data = world(("binary", "categorical"))
    whole = weights(plan(data, mode=mode, epochs=6, lr=1e-2).fit(data, seed=3))
    seen = 0

    def interrupt(stage: str, epoch: int, epochs: int, row: dict[str, float]) -> None:
        nonlocal seen
        seen += bool(row)
        if seen == stop:
            raise KeyboardInterrupt

    if stop <= (6 if mode == "joint" else 12):
        with suppress(KeyboardInterrupt):
            plan(data, mode=mode, epochs=6, lr=1e-2).fit(data, 3, progress=interrupt, checkpoint=CheckpointFolder(tmp_path))
    again = plan(data, mode=mode, epochs=6, lr=1e-2).fit(data, seed=3, checkpoint=CheckpointFolder(tmp_path))
    assert same(whole, weights(again))


def test_a_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    data = world(("binary",))
    plan(data, epochs=2).fit(data, checkpoint=CheckpointFolder(tmp_path, "one"))
    with pytest.raises(IntegrityError, match="another fit"):
        plan(data, epochs=2).fit(data, checkpoint=CheckpointFolder(tmp_path, "two"))
    (tmp_path / "stage-0.safetensors").write_bytes(b"torn")
    with pytest.raises(IntegrityError, match="damaged"):
        plan(data, epochs=2).fit(data, checkpoint=CheckpointFolder(tmp_path, "one"))


def test_early_stopping_keeps_the_best_epoch() -> None:
    data = world(("binary",))
    model = plan(data, epochs=200, lr=0.3, patience=5).fit(data)
    scores = [row["validation"] for row in model.history]
    assert len(scores) < 200
    assert len(scores) - 1 - scores.index(min(scores)) == 5
    stage = Learn(losses.Both(1.0))
    again = stage.score(model, stage.inputs(model, data.validation))
    assert again == pytest.approx(min(scores), rel=1e-5)


def test_a_stage_cannot_reach_test_rows() -> None:
    data = world(("binary",))
    seen = []
    Plan(plan(data).model, [lambda model, fold: seen.append(fold)]).fit(data)
    assert not hasattr(seen[0], "test")
    assert len(seen[0].train) == len(data.train)


class Counting(Features):
    """Identity that counts how many rows it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.rows = 8, 0

    def prepare(self, raw: Tensor) -> Tensor:
        return raw

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return x


def test_frozen_features_are_computed_once_for_a_stage() -> None:
    data, features = world(("binary",)), Counting()
    model = ConceptModel(features, LinearBottleneck(8, data.space), LinearHead(data.space, data.task), data.space, data.task)
    Plan(model, [Learn(losses.concept, ("bottleneck",), epochs=7, patience=0)]).fit(data)
    assert features.rows == len(data.train) + len(data.validation)


def test_a_neck_learns_on_a_prefix_computed_once() -> None:
    from isthmus.features import Chain

    data, prefix = world(("binary",)), Counting()
    chain = Chain(prefix, build("mlp", dim_in=8, hidden=(8,), dim=6))
    model = registry.get("cbm").make(chain, data.space, data.task, epochs=5, patience=0).model
    before = weights(chain.neck)
    Plan(model, [Learn(losses.Both(1.0), epochs=5, patience=0)]).fit(data)
    assert prefix.rows == len(data.train) + len(data.validation)
    assert not same(before, weights(chain.neck))


def test_only_the_named_parts_move() -> None:
    data = world(("binary",))
    made = plan(data)
    before = weights(made.model)
    Plan(made.model, [Learn(losses.task, ("head",), given=everything, epochs=2)]).fit(data)
    moved = {name.split(".")[0] for name, tensor in made.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"head"}


def test_a_loss_that_is_not_finite_stops_and_names_the_term() -> None:
    data = world(("binary",))

    def bad(out, batch: Batch, task):
        return {"task": out.logits.mean(), "bent": out.logits.mean() * float("nan")}

    with pytest.raises(IsthmusError, match=r"\['bent'\] became nan"):
        Plan(plan(data).model, [Learn(bad)]).fit(data)


def test_training_through_the_solver() -> None:
    data = world(("binary",))
    made, calls = plan(data), []

    def solver(model: ConceptModel, z: Tensor, given):
        calls.append(len(z))
        return feedforward(model, z, given)

    made.model.solver = solver
    Plan(made.model, [Learn(losses.Both(1.0), epochs=1)]).fit(data)
    assert calls == []
    Plan(made.model, [Learn(losses.Both(1.0), epochs=1, through="solver")]).fit(data)
    assert sum(calls) == len(data.train) + len(data.validation)


def test_one_cycle_rises_and_falls() -> None:
    stage = Learn(losses.task, lr=1.0, schedule="onecycle")
    rates = [stage.rate(step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(1.0, abs=1e-3)
    assert rates.index(max(rates)) == 30
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[-1] < 0.01


def test_solve_says_what_is_missing() -> None:
    data = world(("binary",))
    with pytest.raises(IsthmusError, match="LinearHead has no fit"):
        Plan(plan(data).model, [Solve("head")]).fit(data)


def test_the_loop_is_the_textbook_loop() -> None:
    """An independent plain loop from the same weights gives the same weights."""
    data = world(("binary",))
    x, c, y = data.train.x, data.train.c, data.train.y
    c = torch.where(c.isnan(), torch.zeros(()), c)
    table = data.train.replace(c=c)
    made = plan(data, lr=1e-2)
    score, head = nn.Linear(6, 4), nn.Linear(4, 3)
    features = build("mlp", dim_in=8, hidden=(8,), dim=6)
    features.load_state_dict(made.model.features.state_dict())
    score.load_state_dict(made.model.bottleneck.score.state_dict())
    head.load_state_dict(made.model.head.map.state_dict())
    fold = type("Fold", (), {"train": table, "validation": table})()
    Plan(made.model, [Learn(losses.Both(0.5), epochs=3, lr=1e-2, batch_size=32, patience=0, weight_decay=1e-3)]).fit(fold, 5)
    torch.manual_seed(5)
    parameters = [*features.parameters(), *score.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2, weight_decay=1e-3)
    for _ in range(3):
        for index in torch.randperm(len(x)).split(32):
            logits = score(features(x[index]))
            loss = nn.functional.cross_entropy(head(logits.sigmoid()), y[index])
            loss = loss + 0.5 * nn.functional.binary_cross_entropy_with_logits(logits, c[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(made.model.bottleneck.score.weight, score.weight, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(made.model.head.map.weight, head.weight, atol=1e-6, rtol=1e-5)
