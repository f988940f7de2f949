"""A correction curve of the energy-based bottleneck at CUB's size against the published way of inferring and correcting.

112 concepts, 200 classes, features of 2,048 numbers computed once, width 512 and the authors' batches of 64 (Xu et al. 2024).
The incumbent is written from the description of their code, without the backbone that theirs runs again in every step: Adam on
the batch's classes and states, a loop over concepts for the energies, all concepts through one wide layer, until the mean
E(x, y) of the batch has not fallen by 1 for 10 steps; then for each budget one set of concepts for the batch is held and the
class starts anew. Inference is made once for all budgets, theirs makes it again for each. Ours chooses concepts row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import curves as bare
from bench.cases import Row, case
from bench.roof import against
from isthmus import registry
from isthmus.bottlenecks.energy import EnergyBottleneck
from isthmus.data.table import Splits, Table
from isthmus.features import build
from isthmus.heads.energy import EnergyHead
from isthmus.interventions import curve, policy
from isthmus.model import ConceptModel
from isthmus.solvers import Descent
from isthmus.space import ConceptSpace, Task

WIDE, BATCH, STEP, FALL, WAIT = 2048, 64, 0.1, 1.0, 10
COUNTS = (0, 14, 28, 56, 84, 112)


def fitted(w: bare.World, rows: int) -> tuple[ConceptModel, Tensor, Tensor, Tensor]:
    """An ECBM after two epochs on ``rows`` rows, and features, concepts and classes of others."""
    space = ConceptSpace.binary([f"c{k}" for k in range(bare.CONCEPTS)])
    task = Task.classes([f"y{k}" for k in range(bare.CLASSES)])
    spread = torch.randn(bare.CONCEPTS, WIDE, generator=torch.Generator().manual_seed(0)) / bare.CONCEPTS**0.5
    z, c, y = torch.from_numpy(w.p).logit(1e-6) @ spread, torch.from_numpy(w.c), torch.from_numpy(w.y)
    parts = [Table(z[at], c[at], y[at], space, task) for at in (slice(0, rows), slice(rows, rows + 200))]
    plan = registry.get("ecbm").make(build("identity", dim=WIDE), space, task, seed=0, epochs=2)
    model = plan.fit(Splits(parts[0], parts[1], parts[1]), 0).eval().requires_grad_(False)
    rest = slice(rows + 200, None)
    return model, z[rest], c[rest], y[rest]


class Published:
    """The published inference on one batch of features (B, 2048)."""

    def __init__(self, model: ConceptModel, z: Tensor) -> None:
        part, head = cast("EnergyBottleneck", model.bottleneck), cast("EnergyHead", model.head)
        self.u, self.seen = part.project(z).relu(), head.project(z).relu()
        self.reads = [part.readout[k] for k in range(bare.CONCEPTS)]
        self.states, self.classes, self.from_x, self.from_c = part.states, head.classes, head.from_x, head.from_c
        self.wide = nn.Linear(bare.CONCEPTS * part.mix.shape[1], part.mix.shape[2])
        with torch.no_grad():
            self.wide.weight.copy_(part.mix.permute(2, 0, 1).flatten(1))
            self.wide.bias.copy_(part.shift)
        self.wide.requires_grad_(False)

    def energies(self, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means over the batch of E(x, y), the sum of E(x, c) and E(c, y) at relaxed alpha (B, Y), beta (B, K, 2)."""
        label, odds = F.normalize(alpha.softmax(1) @ self.classes, dim=1), beta.softmax(2)
        seen = ((self.seen + self.seen * label).relu() @ self.from_x).mean()
        concepts, chosen = torch.zeros(()), list[Tensor]()
        for k, read in enumerate(self.reads):
            state = F.normalize(odds[:, k] @ self.states[k], dim=1)
            concepts = concepts + ((self.u + self.u * state).relu() @ read).mean()
            chosen.append(torch.where(odds[:, k, 1:] > 0.5, self.states[k, 1], self.states[k, 0]))
        together = self.wide(torch.cat(chosen, 1))
        return seen, concepts, ((together + together * label).relu() @ self.from_c).mean()

    def lowered(self, alpha: Tensor, beta: Tensor, weights: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
        """Adam until the mean E(x, y) has not fallen by ``FALL`` for ``WAIT`` steps."""
        alpha, beta = alpha.clone().requires_grad_(), beta.clone().requires_grad_()
        steps, best, stale = torch.optim.Adam([alpha, beta], lr=STEP), float("inf"), 0
        while stale < WAIT:
            steps.zero_grad()
            parts = self.energies(alpha, beta)
            sum((a * part for a, part in zip(weights, parts, strict=True)), torch.zeros(())).backward()
            steps.step()
            best, stale = (parts[0].item(), 0) if parts[0].item() < best - FALL else (best, stale + 1)
        return alpha.detach(), beta.detach()


def published(model: ConceptModel, z: Tensor, c: Tensor, counts: tuple[int, ...]) -> Tensor:
    """(P, n) classes after each budget of corrections."""
    draw, answers = torch.Generator().manual_seed(0), list[Tensor]()
    for rows, truth in zip(z.split(BATCH), c.split(BATCH), strict=True):
        problem = Published(model, rows)
        alpha, beta = torch.zeros(len(rows), bare.CLASSES), torch.zeros(len(rows), bare.CONCEPTS, 2)
        first = problem.lowered(alpha, beta, (1.0, 1.0, 0.01))
        found = [first[0].argmax(1)]
        for count in counts[1:]:
            told, held = torch.randperm(bare.CONCEPTS, generator=draw)[:count], first[1].clone()
            held[:, told] = (F.one_hot(truth[:, told].long(), 2) - 0.5) * 10
            found.append(problem.lowered(torch.zeros_like(alpha), held, (0.0, 0.0, 3.0))[0].argmax(1))
        answers.append(torch.stack(found))
    return torch.cat(answers, 1)


@case("energies", "a correction curve of ecbm, by mean field and by descent, against the published way, one thread")
def run(quick: bool) -> Iterator[Row]:
    """Six budgets in random order; the accuracy of each way beside."""
    model, z, c, y = fitted(bare.world(), 200 if quick else 1500)
    n, part = (64, 64) if quick else (512, 128)
    z, c, y = z[:n], c[:n], y[:n]
    descent = replace_solver(model, Descent(model.solver.weighing))  # type: ignore[attr-defined]
    for name, made in {"mean field": model, "descent": descent}.items():
        ours = lambda made=made: curve(made, z, c, policy("random"), COUNTS, y=y)  # noqa: E731
        theirs: dict[str, tuple[Callable[[], object], float]] = {
            "published": (lambda: published(model, z[:part], c[:part], COUNTS), n / part)
        }
        operations = 4.0 * n * len(COUNTS) * bare.CONCEPTS * 512
        note = "one step of mean field for each row and budget counts as the roof"
        yield from against(f"ecbm by {name}", ours, theirs, repeats=1 if quick else 3, operations=operations, note=note)
        right = (ours().answers == y).double().mean(1)
        other = (published(model, z[:part], c[:part], COUNTS) == y[:part]).double().mean(1)
        shown = {f"ours after {k}": float(a) for k, a in zip(COUNTS, right, strict=True)}
        shown |= {f"published after {k}": float(a) for k, a in zip(COUNTS, other, strict=True)}
        yield Row(f"ecbm by {name}: mean accuracy lost to the published way", float((other - right).mean()), "", beside=shown)


def replace_solver(model: ConceptModel, solver: Descent) -> ConceptModel:
    """The same parts under another inference."""
    made = ConceptModel(model.features, model.bottleneck, model.head, model.space, model.task, replace(solver))
    return made.eval()
