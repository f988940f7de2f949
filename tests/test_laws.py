"""The eleven laws over every registered method, by the registry; and that the laws can fail."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from isthmus import registry, testing
from isthmus.given import Given
from isthmus.losses import ConceptLoss
from isthmus.model import Bottleneck, ConceptModel, Concepts
from isthmus.registry import Card
from isthmus.train import Learn, Plan


@pytest.mark.parametrize("name", list(registry.methods()))
def test_every_registered_method_keeps_the_laws(name: str) -> None:
    verdicts = testing.check_method(name)
    assert verdicts
    for verdict in verdicts:
        assert set(verdict.laws) == set(testing.LAWS)
        exempt = {number for number, said in verdict.laws.items() if said.startswith("exempt")}
        assert exempt == set(registry.get(name).card.exempt)


def test_only_three_laws_can_be_exempted() -> None:
    with pytest.raises(ValueError, match="no exemption"):
        registry.method(Card("t", "p", 0, exempt={2: "because"}))(_builder)


def _builder(features, space, task, *, epochs: int = 3) -> Plan:
    return registry.get("cbm").build(features, space, task, epochs=epochs)


class Broken(Bottleneck):
    """A bottleneck with one fault at a time."""

    fault = ""

    def __init__(self, dim, space) -> None:
        super().__init__(space)
        self.score = nn.Linear(dim, len(space))

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        from isthmus.given import hold

        logits = self.score(z)
        values = logits.sigmoid()
        if self.fault == "batch":
            values = (values + 0.1 * values.mean(0)) / 1.2
        if given is not None and self.fault == "shove":
            values = torch.where(given.mask, 0.9 * given.values + 0.05, values)
        elif given is not None:
            values = hold(values, given, self.space)
            if self.fault == "nothing":
                values = values.where(given.mask, values * 0.99)
        if self.fault == "leak":
            values = torch.cat([values[:, :-1], z[:, :1].sigmoid()], 1)
        return Concepts(values, logits)

    def keep(self, index: Tensor, space) -> None:
        self.score.weight = nn.Parameter(self.score.weight[index] if self.fault != "keep" else self.score.weight)
        self.score.bias = nn.Parameter(self.score.bias[index])
        self.space = space


class Peeking(ConceptLoss):
    """A concept loss that looks under the mask."""

    def __call__(self, out, batch, task):
        return {"concept": out.concepts.nll(batch.labels(), batch.space)}


@pytest.mark.parametrize(
    ("fault", "law"),
    [("shove", 2), ("leak", 2), ("keep", 7), ("batch", 8), ("nothing", 11), ("peek", 9), ("random", 10), ("grad", 4)],
)
def test_a_broken_method_is_caught(fault: str, law: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(features, space, task, *, epochs: int = 2) -> Plan:
        from isthmus.heads.linear import LinearHead

        part = Broken(features.dim, space)
        part.fault = fault
        model = ConceptModel(features, part, LinearHead(space, task), space, task)
        loss = Peeking() if fault == "peek" else ConceptLoss()
        stages = [Learn(loss, ("bottleneck",), epochs=epochs)]
        if fault == "random":
            stages.append(lambda m, d: m.bottleneck.score.bias.data.add_(torch.rand(1, generator=_fresh())))
        plan = Plan(model, stages)
        if fault == "grad":
            monkeypatch.setattr(Plan, "fit", lambda self, data, seed=0, **k: self.model.eval())
        return plan

    registry.method(Card("broken", "none", 0, kinds=("binary",), tasks=("classes",)))(broken)
    with pytest.raises(testing.LawBroken, match=rf"law {law} ") as caught:
        testing.check_method("broken", fresh=False)
    assert "broken" in str(caught.value)


def _fresh() -> torch.Generator:
    generator = torch.Generator()
    generator.seed()
    return generator


def test_a_stale_exemption_is_caught() -> None:
    def stale(features, space, task, *, epochs: int = 2) -> Plan:
        return registry.get("cbm").build(features, space, task, epochs=epochs)

    registry.method(Card("stale", "none", 0, exempt={5: "it is said to leak"}, tasks=("classes",)))(stale)
    with pytest.raises(testing.LawBroken, match="take the exemption off"):
        testing.check_method("stale", fresh=False)
