"""How a model learns: an ordered list of stages, each a callable (model, fold) -> None. The only training loop."""

# torch gives no types for split, backward and the like
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from isthmus.errors import IsthmusError, OptionError
from isthmus.given import Batch, Givens, Inputs, moved, nothing
from isthmus.model import ConceptModel, Output, feedforward
from isthmus.space import Task

CHUNK = 1024  # rows at a time where no gradient is needed


class Rows(Protocol):
    """What a stage needs of a table."""

    x: Any

    def __len__(self) -> int: ...
    def take(self, index: Tensor) -> Rows: ...
    def read(self) -> Any: ...
    def batch(self, x: Inputs) -> Batch: ...


class Fold(Protocol):
    """Train and validation rows. A stage is never given test rows."""

    @property
    def train(self) -> Rows: ...
    @property
    def validation(self) -> Rows: ...


Stage = Callable[[ConceptModel, Fold], None]
Loss = Callable[[Output, Batch, Task], dict[str, Tensor]]
Progress = Callable[[str, int, int, dict[str, float]], None]


class Checkpoint(Protocol):
    """Where an unfinished stage keeps its ``State``; ``load`` fills one and returns the epoch to go on from."""

    def load(self, stage: int, state: State) -> int: ...
    def save(self, stage: int, state: State, epoch: int) -> None: ...


@dataclass
class Run:
    """What surrounds a fit: who hears of progress, where to checkpoint, which stage runs."""

    progress: Progress | None = None
    checkpoint: Checkpoint | None = None
    stage: int = 0


RUN: ContextVar[Run | None] = ContextVar("isthmus_run", default=None)


def natural(seed: int) -> int:
    """The seed, or ``OptionError`` when it is no whole number of at least 0."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed < 0:
        raise OptionError(f"seed: expected a whole number of at least 0, got {seed!r}")
    return int(seed)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Seed torch inside; the caller's generators are as they were afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(natural(seed))
        yield


def encoder(features: nn.Module) -> tuple[nn.Module | None, nn.Module]:
    """(frozen prefix or None, part that may learn): features may offer ``prefix`` and ``neck``."""
    prefix = getattr(features, "prefix", None)
    return (prefix, features.get_submodule("neck")) if isinstance(prefix, nn.Module) else (None, features)


@torch.no_grad()
def encode(features: nn.Module, rows: Rows, device: torch.device | str = "cpu") -> Tensor:
    """Features (n, ...) of all rows, in evaluation mode, a chunk at a time; the result stays where x was."""
    was, prepare = features.training, cast("Callable[[Any], Inputs]", getattr(features, "prepare", None))
    features.eval()
    parts: list[Tensor] = []
    for index in torch.split(torch.arange(len(rows)), CHUNK):
        x: Any = rows.take(index).read()
        ready = isinstance(x, Tensor) and x.is_floating_point()
        parts.append(features(moved(x if ready else prepare(x), device)).cpu())
    features.train(was)
    return torch.cat(parts)


@dataclass(frozen=True)
class Learn:
    """Gradient stage: ``parts`` learn ``loss`` with these concepts ``given``; everything else is frozen.

    Frozen features are computed once for the stage. Training stops after ``patience`` epochs without a better
    validation loss and keeps the best weights; 0 turns that off. ``through='solver'`` trains through the model's
    inference instead of one pass. ``schedule='onecycle'`` warms up to ``lr`` and anneals to zero.
    """

    loss: Loss
    parts: tuple[str, ...] = ("features", "bottleneck", "head")
    given: Givens = nothing
    epochs: int = 100
    lr: float = 1e-3
    batch_size: int = 256
    weight_decay: float = 0.0
    patience: int = 10
    through: Literal["feedforward", "solver"] = "feedforward"
    schedule: Literal["constant", "onecycle"] = "constant"
    name: str = "learn"
    data: Fold | None = None

    def __call__(self, model: ConceptModel, data: Fold) -> None:
        data, run = self.data or data, RUN.get() or Run()
        modules, device = self.learning(model), model.device
        train, validation = (self.inputs(model, rows) for rows in (data.train, data.validation))
        parameters = [p for module in modules for p in module.parameters()]
        if not parameters:
            return
        optimizer = torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True)
        steps = math.ceil(len(train.y) / self.batch_size)
        state = State(modules, optimizer)
        start = 0 if run.checkpoint is None else run.checkpoint.load(run.stage, state)
        for epoch in range(start, self.epochs):
            if state.stale >= self.patience > 0:
                break
            self.freeze(model, modules)
            total = 0.0
            for number, index in enumerate(torch.split(torch.randperm(len(train.y)), self.batch_size)):
                if self.schedule == "onecycle":
                    optimizer.param_groups[0]["lr"] = self.rate(epoch * steps + number, self.epochs * steps)
                total += self.step(model, take(train, index, device), optimizer) * len(index)
            row = {"loss": total / len(train.y), "validation": self.score(model, validation)}
            model.history.append({"stage": self.name, "epoch": epoch, **row})
            if self.patience > 0:
                state.better(row["validation"])
            if run.checkpoint is not None:
                run.checkpoint.save(run.stage, state, epoch + 1)
            if run.progress is not None:
                run.progress(self.name, epoch + 1, self.epochs, row)
        state.restore()
        if run.progress is not None:
            run.progress(self.name, self.epochs, self.epochs, {})

    def rate(self, step: int, steps: int) -> float:
        """One-cycle rate: cosine from lr / 25 up to lr over the first 30 % of the steps, then down to 0."""
        warm = 0.3 * steps
        low, part = (self.lr / 25, 1 - step / warm) if step < warm else (0.0, (step - warm) / (steps - warm))
        return low + (self.lr - low) * (1 + math.cos(math.pi * part)) / 2

    def learning(self, model: ConceptModel) -> list[nn.Module]:  # of features with a frozen prefix, the neck
        return [encoder(model.features)[1] if part == "features" else model.get_submodule(part) for part in self.parts]

    def freeze(self, model: ConceptModel, modules: list[nn.Module]) -> None:
        model.eval().requires_grad_(False)
        for module in modules:
            module.train().requires_grad_(True)

    def inputs(self, model: ConceptModel, rows: Rows) -> Batch:
        """All rows as one batch: x as the first learning module takes it."""
        prefix = encoder(model.features)[0] if "features" in self.parts else model.features
        return rows.batch(rows.read() if prefix is None else encode(prefix, rows, model.device))

    def forward(self, model: ConceptModel, batch: Batch, validating: bool = False) -> Output:
        z: Any = batch.x
        if "features" in self.parts:
            prefix, neck = encoder(model.features)
            z = model.encode(z) if prefix is None else neck(z)
        held = None if validating and getattr(self.given, "training_only", False) else self.given(batch)
        return feedforward(model, z, held) if self.through == "feedforward" else model.solver(model, z, held)

    def step(self, model: ConceptModel, batch: Batch, optimizer: torch.optim.Optimizer) -> float:
        """One gradient step; returns the loss. A loss that is not finite stops the fit and names the term."""
        out = self.forward(model, batch)
        terms = self.loss(out, batch, model.task)
        total = reduce(torch.add, (*terms.values(), *out.concepts.penalties.values()))
        value = total.item()
        if not math.isfinite(value):
            every = {**terms, **out.concepts.penalties}
            bad = [name for name, term in every.items() if not bool(term.isfinite())]
            raise IsthmusError(f"{self.name}: the loss term {bad or ['total']} became {value}; lower lr ({self.lr:g})")
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        return value

    @torch.no_grad()
    def score(self, model: ConceptModel, rows: Batch) -> float:
        """The loss on rows, in evaluation mode, mean by row."""
        model.eval()
        total = 0.0
        for index in torch.split(torch.arange(len(rows.y)), CHUNK):
            batch = take(rows, index, model.device)
            with torch.set_grad_enabled(self.through == "solver"):
                terms = self.loss(self.forward(model, batch, True), batch, model.task)
            total += sum(float(term) for term in terms.values()) * len(index)
        return total / len(rows.y)


def take(batch: Batch, index: Tensor, device: torch.device) -> Batch:
    """The rows at ``index``, on ``device``."""
    return replace(batch, **{name: moved(getattr(batch, name), device, index) for name in ("x", "c", "y", "known", "weight")})


class State:
    """A stage on its way: the modules that learn, their optimizer, the best weights so far."""

    def __init__(self, modules: list[nn.Module], optimizer: torch.optim.Optimizer) -> None:
        self.modules, self.optimizer = nn.ModuleList(modules), optimizer
        self.best: dict[str, Tensor] | None = None
        self.lowest, self.stale = math.inf, 0

    def better(self, score: float) -> None:
        """Count an epoch; keep its weights when its validation loss is the lowest so far."""
        self.stale += 1
        if score < self.lowest:
            self.lowest, self.stale = score, 0
            self.best = {name: tensor.clone() for name, tensor in self.modules.state_dict().items()}

    def restore(self) -> None:
        if self.best is not None:
            self.modules.load_state_dict(self.best)


@dataclass(frozen=True)
class Solve:
    """Closed-form stage: the part's own ``fit`` (or the method ``call``) on the inputs it sees, without gradients.

    A bottleneck's ``fit(z, batch)``, a head's ``fit(concepts, z, batch, task)``; on train rows, or those of ``rows``.
    """

    part: str
    data: Fold | None = None
    call: str = "fit"
    rows: Literal["train", "validation"] = "train"

    @torch.no_grad()
    def __call__(self, model: ConceptModel, data: Fold) -> None:
        rows: Rows = getattr(self.data or data, self.rows)
        z = encode(model.features, rows, model.device)
        batch, part = rows.batch(z), model.eval().get_submodule(self.part)
        fit: Callable[..., None] | None = getattr(part, self.call, None)
        if fit is None:
            raise IsthmusError(f"Solve({self.part!r}): {type(part).__name__} has no {self.call}")
        fit(*((model.bottleneck(z.to(model.device)), z, batch, model.task) if self.part.startswith("head") else (z, batch)))


@dataclass(frozen=True)
class Plan:
    """What a method is: a model and the stages that fit it. A dumb pair."""

    model: ConceptModel
    stages: Sequence[Stage]

    def fit(
        self, data: Fold, seed: int = 0, *, progress: Progress | None = None, checkpoint: Checkpoint | None = None
    ) -> ConceptModel:
        """Run the stages in order on train and validation; the model comes back frozen, in evaluation mode."""
        fold: Fold = getattr(data, "fold", data)
        run = Run(progress, checkpoint)
        token = RUN.set(run)
        try:
            with seeded(seed):
                for run.stage, stage in enumerate(self.stages):
                    stage(self.model, fold)
        finally:
            RUN.reset(token)
        return self.model.eval().requires_grad_(False)
