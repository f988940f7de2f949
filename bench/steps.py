"""A training step of ``cbm`` and ``cem`` at CUB size against the same step in plain torch.

112 concepts, 200 classes, batches of 256, cached features of 1,280, float32, Adam, one thread. Ours is the whole stage
as a user runs it (``Learn``: inputs, freezing, permutation, batches, loss, finite check, history), validated on a single
row and without early stopping, divided by its steps. The plain loop runs with default Adam and with ``fused=True``; the
limit is against the faster of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench import peer, plain
from bench.cases import Row, alternate, case, ratio
from isthmus.data.table import Fold, Table
from isthmus.features import tabular
from isthmus.given import Batch
from isthmus.model import Output
from isthmus.registry import get
from isthmus.space import ConceptSpace, Task
from isthmus.train import Learn, Plan

DIM, CONCEPTS, CLASSES = 1280, 112, 200
LIMIT, AGREE = 1.1, 1e-5
ROUNDS = {"cbm": (100, 20), "cem": (30, 5)}  # rounds, steps in each: about 20 steps are an epoch of CUB
PLAIN: dict[str, Callable[[int, int, int], nn.Module]] = {"cbm": plain.PlainCBM, "cem": plain.PlainCEM}


def table(rows: int, missing: float, seed: int = 0) -> Table:
    """Synthetic features, labels that depend on them, and a share ``missing`` of concept labels unknown."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, DIM, generator=draw)
    c = (x @ torch.randn(DIM, CONCEPTS, generator=draw) > 0).float()
    y = (c @ torch.randn(CONCEPTS, CLASSES, generator=draw)).argmax(1)
    if missing:
        c = c.masked_fill(torch.rand(c.shape, generator=draw) < missing, torch.nan)
    names = (f"concept {k}" for k in range(CONCEPTS))
    task = Task.classes(f"class {k}" for k in range(CLASSES))
    return Table(x, c=c, y=y, space=ConceptSpace.binary(names), task=task)


def ours(method: str, data: Table, how: plain.Settings) -> Plan:
    """The registered method with its defaults, and the settings of both sides."""
    options = dict[str, Any](epochs=how.epochs, batch_size=how.batch, lr=how.lr, weight_decay=how.weight_decay, patience=0)
    return get(method).make(tabular.identity(DIM), data.space, data.task, **options)


def theirs(method: str, plan: Plan) -> nn.Module:
    """The plain model with the weights that ours starts from."""
    model, parts = PLAIN[method](DIM, CONCEPTS, CLASSES), plan.model
    for name, module in model.named_children():
        source = parts.head.get_submodule("map") if name == "head" else parts.bottleneck.get_submodule(name)
        module.load_state_dict(source.state_dict())
    return model


def difference(method: str, data: Table, how: plain.Settings) -> float:
    """Largest difference of the step losses of one epoch, from the same weights over the same batches."""
    plan = ours(method, data, how)
    model, stage = theirs(method, plan), plan.stages[0]
    assert isinstance(stage, Learn)
    trace: list[float] = []

    def traced(out: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
        terms = stage.loss(out, batch, task)
        trace.append(sum(term.item() for term in terms.values()))
        return terms

    torch.manual_seed(7)
    replace(stage, loss=traced)(plan.model, Fold(data, data.take([0])))
    torch.manual_seed(7)
    losses = loop(data)(model, *arrays(data), how)
    return max(abs(mine - other) for mine, other in zip(trace[: len(losses)], losses, strict=True))


def loop(data: Table) -> Callable[..., list[float]]:
    """The plain loop that fits the labels: one that masks where some are unknown."""
    return plain.train_masked if bool(cast("Tensor", data.c).isnan().any()) else plain.train


def arrays(data: Table) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, D), c (B, K) and y (B,)."""
    return data.x, cast("Tensor", data.c), cast("Tensor", data.y)


def rows(method: str, missing: float, repeats: int, steps: int) -> Iterator[Row]:
    """The ratio, what it is made of, and the agreement of the losses."""
    how = plain.Settings(epochs=1)
    data = table(how.batch * steps, missing)
    fold, train = Fold(data, data.take([0])), loop(data)
    written = theirs(method, ours(method, data, how))

    def library() -> Callable[[], object]:
        plan = ours(method, data, how)
        return lambda: plan.stages[0](plan.model, fold)

    def by_hand(fused: bool | None) -> Callable[[], object]:
        model = deepcopy(written)
        return lambda: train(model, *arrays(data), how, fused=fused)

    runs = {"isthmus": library, "plain": lambda: by_hand(None), "plain, fused Adam": lambda: by_hand(True)}
    release, label = (
        peer.release(),
        f"{method} step" + (f", {missing:.0%} of concept labels unknown" if missing else ""),
    )
    if release and not missing:
        runs["pytorch-concepts"] = lambda: peer.trainer(method, *arrays(data), CLASSES, how)
    seconds = alternate(runs, repeats)
    faster = min(("plain", "plain, fused Adam"), key=lambda name: median(seconds[name]))
    figures = {f"{name} (ms)": 1e3 * median(times) / steps for name, times in seconds.items()}
    found = ratio(seconds["isthmus"], seconds[faster])
    note = f"{repeats} rounds of {steps} steps, CPU time"
    yield Row(label, found.value, f"x {faster}", found.interval, found.spread, LIMIT, figures, note)
    note = f"same weights and batches, each of {steps} steps"
    yield Row(f"{label}: loss", difference(method, data, how), "nats apart", limit=AGREE, note=note)
    if not missing and release is None:
        yield Row(f"pytorch-concepts, {label}", None, f"x {faster}", note="not installed")
    elif not missing:
        found = ratio(seconds["pytorch-concepts"], seconds[faster])
        note = f"{release}; its own model in a manual loop, {peer.NOTES[method]}"
        yield Row(f"pytorch-concepts, {label}", found.value, f"x {faster}", found.interval, found.spread, note=note)


@case("steps", "a training step at CUB size against plain torch, one thread")
def steps(quick: bool) -> Iterator[Row]:
    """Both methods, labels whole and with 20 % unknown."""
    for method in PLAIN:
        for missing in (0.0, 0.2):
            repeats, count = ROUNDS[method]
            yield from rows(method, missing, max(5, repeats // 5) if quick else repeats, count)
