"""On a GPU every method trains, answers as on the CPU, is corrected, audited, repaired and saved; skipped without one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import isthmus as im
from isthmus import api, hub, registry, repair, testing
from isthmus.audit import audit
from isthmus.compare import compare
from isthmus.data.table import Splits
from isthmus.errors import IsthmusError
from isthmus.features import build
from isthmus.interventions import curve, policy
from isthmus.model import ConceptModel

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore:forget")  # a class that so few steps do not forget
DEVICE = torch.device("cuda")
RULES = ("random", "ucp", "lcp", "cctp", "ectp", "eudtp", "coop", "greedy", "static", "learned", "kflip", "ectp:group")
CASES = [
    (name, kinds) for name in sorted(registry.methods()) for kinds in dict.fromkeys(testing.spaces(name)[at] for at in (0, -1))
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]} {'+'.join(case[1])}", scope="module")
def fit(request: pytest.FixtureRequest) -> tuple[ConceptModel, Splits]:
    name, kinds = request.param
    data = testing.world(kinds, worded=True)
    plan = testing._fit(name, data, {}, 0)
    plan.model.to(DEVICE)
    return plan.fit(data, seed=0), data


def tried(call: Callable[[], object]) -> None:
    """A refusal in words is an answer, too; anything else is not."""
    with suppress(IsthmusError):
        call()


def test_answers_are_those_of_the_cpu(fit: tuple[ConceptModel, Splits], tmp_path: Path) -> None:
    model, data = fit
    x, held = data.test.x, testing.valid_given(model.space, len(data.test), 1, share=0.5)
    cpu = hub.load(hub.save(model, tmp_path / "m"))
    assert cpu.device.type == "cpu" and model.device.type == "cuda"
    for given in (None, held):
        torch.manual_seed(0)
        want = cpu(x, given).logits
        found = model(x, given).logits
        assert found.device.type == "cuda"
        torch.testing.assert_close(found.cpu(), want, atol=2e-3, rtol=2e-3)
    assert len(api.predict(model, x).decisions) == len(data.test)


def test_fit_and_compare_name_the_device(tmp_path: Path) -> None:
    data = testing.world(("binary",), worded=True)
    model = im.fit("cem", data, device="cuda", epochs=3)
    assert model.device.type == "cuda" and next(model.features.parameters()).device.type == "cuda"
    assert hub.load(hub.save(model, tmp_path / "m")).device.type == "cpu"
    own = build("mlp", data.train.x.shape[1], hidden=(12,), dim=8).to(DEVICE)
    assert im.fit("cbm", data, features=own, epochs=3).device.type == "cuda"  # where its features are
    names = ["cbm:joint", "cem", "scbm:global", "ecbm", "pcbm"]
    asked = {"random": (0, 1), "ucp": None}
    found = compare(data, methods=names, device="cuda", seeds=(0,), budget=1, options={"epochs": 3}, policies=asked)
    assert {row["method"] for row in found.data["rows"]} >= {"blackbox", "cbm", "cem", "scbm", "ecbm"}
    assert all(model.device.type == "cuda" for model in found.models.values())


def test_corrections_and_repairs(fit: tuple[ConceptModel, Splits]) -> None:
    model, data = fit
    c, y = data.test.c, data.test.y
    if len(model.space) and c is not None and c.shape[1] == len(model.space):
        z, zt, zv = (model.encode(part.x) for part in (data.test, data.train, data.validation))
        held = (zv, data.validation.c, data.validation.y)
        for name in RULES:
            rule = policy(name)
            tried(
                lambda rule=rule: curve(model, z, c, rule.fitted(model, zt, data.train.c, data.train.y, held=held), (0, 2), y=y)
            )
        tried(lambda: api.intervene(model, data.test.x[:1], truth=c[0], budget=1))
    first = data.task.names[0]
    tried(lambda: repair.adapt(model, data.validation, source=data.validation, why="w"))
    tried(lambda: repair.forget(model, data, first, epochs=1, why="w"))
    tried(lambda: repair.recalibrate(model, data.validation, why="w"))
    tried(lambda: repair.pin(model, {(first, [*model.space.columns, "none"][0]): 0.0}, data, why="w"))


def test_the_audit(fit: tuple[ConceptModel, Splits]) -> None:
    model, data = fit
    assert audit(model, data, rows=60).data["sections"]
