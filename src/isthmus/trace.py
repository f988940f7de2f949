"""Model + rows -> trace: the arrays every score is made from. Features are computed once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from isthmus.data.table import Table
from isthmus.errors import DataError
from isthmus.given import Given
from isthmus.interventions.curve import CHUNK, Curve, curve, points
from isthmus.interventions.policies import Level, Random, askable, hardened, members
from isthmus.metrics.concept import Kinds
from isthmus.metrics.core import Array
from isthmus.model import ConceptModel, Concepts, Output
from isthmus.space import ConceptSpace, Task
from isthmus.train import encode


@dataclass
class Trace:
    """What one fitted model says of rows: the arrays that every score is made from."""

    task: Task
    space: ConceptSpace
    y: Array
    logits: Array
    values: Array
    c: Array | None
    curves: dict[str, Curve] = field(default_factory=dict[str, Curve])
    crossed: Array | None = None  # (n,) decisions changed by another row's x with every concept held
    weights: Array | None = None  # (Y, K) of a linear head
    groups: list[str] | None = None
    seconds: float | None = None
    probable: bool = True  # values are probabilities (or numbers in the concept's unit)
    said: Array | None = None  # answers after corrections, where logits were not kept

    @property
    def answers(self) -> Array:
        if self.said is not None:
            return self.said
        return self.task.predict(torch.from_numpy(self.logits)).numpy()

    @property
    def probabilities(self) -> Array:
        return self.task.probabilities(torch.from_numpy(self.logits)).numpy()


@torch.no_grad()
def trace(
    model: ConceptModel,
    table: Table,
    *,
    z: Tensor | None = None,
    seed: int = 0,
    most: int = 21,
    seconds: float | None = None,
) -> Trace:
    """Run a model over rows: outputs, correction curves in random order, bypass. ``z``: features computed before."""
    if not isinstance(table, Table):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"data: expected one Table of rows, such as splits.test, got {type(table).__name__}")
    if table.y is None or table.task is None:
        raise DataError("y: expected task labels to score against, got a table without")
    if (table.task.kind, table.task.names) != (model.task.kind, model.task.names):
        want, got = (f"{task.kind} {list(task.names[:4])}" for task in (model.task, table.task))
        raise DataError(f"y: the model decides {want}, got rows labelled with {got}; give the task that it was fitted on")
    z = encode(model.features, table, model.device) if z is None else z
    out = run(model, z)
    c = table.labels_for(model.space)
    c = None if c is not None and bool(c.isnan().all()) else c  # nothing to score concepts against
    made = Trace(
        task=model.task,
        space=model.space,
        y=table.y.numpy(),
        logits=out.logits.numpy(),
        values=model.bottleneck.read(out.concepts.values.to(model.device)).cpu().numpy(),
        c=None if c is None else c.numpy(),
        groups=None if table.group is None else list(table.group),
        seconds=seconds,
        probable=_probable(model, out),
    )
    weights = getattr(model.head, "weights", None)
    made.weights = weights.detach().cpu().numpy() if isinstance(weights, Tensor) else None
    if c is not None:
        made.curves = _curves(model, z, c, table, seed, most)
    if len(model.space):
        made.crossed = crossed(model, z, c, seed)
    return made


@torch.no_grad()
def run(model: ConceptModel, z: Tensor, given: Given | None = None) -> Output:
    """The model on features (n, D), a chunk at a time, results on the CPU."""
    parts = []
    for index in torch.arange(len(z)).split(CHUNK):
        inside = None if given is None else given.rows(index).to(model.device)
        parts.append(model.answer(z[index].to(model.device), inside))
    join = lambda get: torch.cat([get(p).cpu() for p in parts])  # noqa: E731
    vectors = None if parts[0].concepts.vectors is None else join(lambda p: p.concepts.vectors)
    logits = None if parts[0].concepts.logits is None else join(lambda p: p.concepts.logits)
    return Output(Concepts(join(lambda p: p.concepts.values), logits, vectors), join(lambda p: p.logits), z)


def _probable(model: ConceptModel, out: Output) -> bool:
    """True when values are in concept units, so that 0.5 and calibration mean something."""
    values = model.bottleneck.read(out.concepts.values.to(model.device)).cpu()[:, ~model.space.continuous]
    return bool(((values >= 0) & (values <= 1)).all())


def _curves(model: ConceptModel, z: Tensor, c: Tensor, table: Table, seed: int, most: int) -> dict[str, Curve]:
    """Random corrections by concept, and by group where groups are fewer; budgets up to what the fullest row can be asked."""
    space = model.space
    allowed = table.askable_for(space)
    ask = askable(c, space, allowed)
    found: dict[str, Curve] = {}
    levels: tuple[Level, ...] = ("concept", "group")
    for level in levels:
        if not bool(ask.any()) or (level == "group" and len(space.groups) >= space.count):
            continue
        total = int(((ask.float() @ members(space, level).T) > 0).sum(1).max())
        found[level] = curve(model, z, c, Random(seed=seed, level=level), points(total, most), y=table.y, allowed=allowed)
    return found


@torch.no_grad()
def crossed(model: ConceptModel, z: Tensor, c: Tensor | None, seed: int = 0) -> Array:
    """(n,) True where the decision changes when x is another row's and every concept is held.

    Concepts are held at their labels, where known, else at the model's own decisions. A number 'changes' by 1 % of the
    target's training deviation.
    """
    own = torch.cat([hardened(model, part.to(model.device)).values.cpu() for part in z.split(CHUNK)])
    held = own if c is None else torch.where(c.isnan(), own, c)
    given = Given(held, torch.ones_like(held, dtype=torch.bool))
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))
    other = torch.empty_like(order)
    other[order] = order.roll(1)  # one cycle: no row meets itself
    a, b = (model.task.predict(run(model, part, given).logits) for part in (z, z[other]))
    if model.task.kind == "value":
        return ((a - b).abs() > 0.01 * model.task.scale).numpy()
    return (a != b).numpy() if a.ndim == 1 else (a != b).any(1).numpy()


def kinds_of(space: ConceptSpace) -> Kinds:
    """Columns by kind, as the concept metrics take them."""
    pairs = list(zip(space.concepts, space.slices, strict=True))
    return Kinds(
        binary=tuple(s.start for concept, s in pairs if concept.kind == "binary"),
        blocks=tuple(tuple(range(s.start, s.stop)) for concept, s in pairs if concept.kind == "categorical"),
        continuous=tuple((s.start, concept.scale) for concept, s in pairs if concept.kind == "continuous"),
    )
