"""Test-time repair: a few labelled rows of a new domain mask concepts that mislead there, and amplify those that are missed.

He et al., MICCAI 2025, Training-free Test-time Improvement for Explainable Medical Image Classification, arXiv 2506.18070. Our
reconstruction from the abstract (no code and no formula were at hand): what is said here of the method is ours, and a result
that disappoints says nothing of theirs. Nothing is trained; a masked concept stands at its source mean, an amplified one is
moved away from absent, and both are folded into a linear head, so that the repaired model is a plain model of the same method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import isfinite
from numbers import Real
from typing import cast

import torch
from torch import Tensor, nn

from isthmus.data.table import Table
from isthmus.errors import OptionError
from isthmus.given import Given
from isthmus.interventions.checks import share_of, table_of, whole_of
from isthmus.interventions.handles import beside, bias_of, weights_of
from isthmus.interventions.holds import held, taught
from isthmus.interventions.record import What, edited, features_of
from isthmus.model import ConceptModel, Contributes
from isthmus.train import CHUNK


@dataclass(frozen=True)
class Change:
    """Columns masked and amplified, and by how much."""

    masked: tuple[int, ...] = ()
    amplified: tuple[int, ...] = ()
    gamma: float = 1.0


@dataclass(frozen=True)
class Rows:
    """What the head is shown of rows (n, K), its logits (n, Y), and labels y (n,)."""

    shown: Tensor
    logits: Tensor
    y: Tensor


@dataclass(frozen=True)
class Source:
    """Of the source: means (K,), means by class (Y, K; the mean where a class has no row), what absent is (K,).

    ``still``: columns that no plan may touch.
    """

    mean: Tensor
    by_class: Tensor
    neutral: Tensor
    still: tuple[int, ...] = ()


def adapt(
    model: ConceptModel, support: Table, *, source: Table, most: int = 8, gammas: Sequence[float] = (1.5, 2.0, 3.0),
    tolerance: float = 0.01, why: str, who: str | None = None, validation: Table | None = None,
) -> ConceptModel:  # fmt: skip
    """Repair a model for a new domain from ``support``, a few labelled rows of it (4 a class in the paper); no concept labels.

    With contributions c = W v of a linear head: a concept misleads by the mean over wrong rows of what it gave the wrong class
    over the right one, above its ``source`` mean; it is missed by how far it speaks for the right class over the others, times
    how far it lies below its source mean in that class. The m that mislead most are masked, the a of the others that are missed
    most are amplified by gamma; m, a from 0, 1, 2, 4 ... ``most`` and gamma of ``gammas`` by accuracy on the support rows, each
    left out in turn, the smallest change among equals, at least two rows better than none. It is taken only if accuracy on the
    ``source`` rows (validation rows, not those it was fitted on) falls by at most ``tolerance``; else weights stay, and the
    entry says so. Concepts whose weights earlier edits set, and rows of a class that was forgotten, have no part in it.

    What the entry tells of ``support`` and ``source`` is of rows that had a part in the choice, and so too good: for the new
    domain pass other rows of it as ``validation``.
    """
    _checked(model, most, gammas, tolerance)
    table_of(support, "adapt: support", "a few labelled rows of the new domain")
    table_of(source, "adapt: source", "labelled rows of the source, other than those it was fitted on")

    def change(new: ConceptModel) -> What:
        w, bias = weights_of(new, "adapt"), bias_of(new, "adapt")
        kept = held(new)
        shots, home = (
            shown(new, w, taught(new, part, kept, bare=True), f"adapt: {name}")
            for name, part in (("support", support), ("source", source))
        )
        known = replace(of_source(new, home), still=tuple(sorted(kept.columns)))
        plans = [(m, a, g) for m, a, g in product(counts(most), counts(most), sorted(gammas)) if a or g == min(gammas)]
        score = {plan: left_out(w, shots, known, plan) for plan in plans}
        none = next(plan for plan in plans if not plan[0] + plan[1])
        before, best, told = accuracy(home.logits, home.y), Change(), none
        after = before
        for plan in sorted(plans, key=lambda plan: (-score[plan], plan[0] + plan[1], plan[2])):
            if (score[plan] - score[none]) * len(shots.y) < LEAST - 0.5:
                break
            tried = planned(w, shots, known, plan)
            score_home = accuracy(moved(w, home, known, tried), home.y)
            if before - score_home <= tolerance:
                best, told, after = tried, plan, score_home
                break
        fold(w, bias, known, best)
        names = [[new.space.columns[k] for k in columns] for columns in (best.masked, best.amplified)]
        return {
            "masked": names[0],
            "amplified": names[1],
            "gamma": best.gamma,
            "support": {"rows": len(shots.y), "before": score[none], "left_out": score[told], "judged_on": CHOSEN},
            "source": {"rows": len(home.y), "before": before, "after": after, "tolerance": tolerance},
            "found": "a change" if best != Change() else "nothing that helps rows left out and holds the source",
            **beside(new),
            **kept.told(new),
        }

    return edited(model, "adapt", change, why=why, who=who, validation=validation)


CHOSEN = "the rows that chose the change, each left out in turn"
LEAST = 2  # rows that a change must win when they are left out: one more may be chance
Plan = tuple[int, int, float]  # how many are masked, how many amplified, by how much


def _checked(model: ConceptModel, most: int, gammas: Sequence[float], tolerance: float) -> None:
    if model.task.kind != "classes":
        raise OptionError(f"adapt: expected a task of classes, got {model.task.kind}")
    whole_of(most, "adapt: most", 1)
    share_of(tolerance, "adapt: tolerance")
    listed = isinstance(gammas, Sequence) and not isinstance(gammas, str) and len(gammas) > 0  # pyright: ignore[reportUnnecessaryIsInstance]
    if not listed or not all(isinstance(g, Real) and isfinite(g) and g > 1 for g in gammas):
        raise OptionError(f"adapt: expected gammas above 1, such as (1.5, 2.0), got {gammas!r}")
    weights_of(model, "adapt")


def counts(most: int) -> list[int]:
    """0, 1, 2, 4 ... ``most``."""
    found = [0]
    while (step := 2 ** (len(found) - 1)) < most:
        found.append(step)
    return [*found, most]


@torch.no_grad()
def shown(model: ConceptModel, w: nn.Parameter, table: Table, name: str = "rows") -> Rows:
    """What the head is shown of each row: its contributions under weights of 1. Errors call the rows ``name``."""
    z, head = features_of(model, table, name), cast("Contributes", model.head)
    parts: list[Tensor] = []
    logits: list[Tensor] = []
    for part in z.split(CHUNK):
        out = model.answer(part.to(model.device))
        logits.append(out.logits.cpu())
        was = w.clone()
        w.fill_(1.0)
        parts.append(head.contributions(out.concepts)[:, 0].cpu())
        w.copy_(was)
    assert table.y is not None
    return Rows(torch.cat(parts), torch.cat(logits), table.y)


@torch.no_grad()
def of_source(model: ConceptModel, home: Rows) -> Source:
    """Means of what the head is shown, and what it is shown of concepts that are absent (its training mean for a number)."""
    hot = torch.nn.functional.one_hot(home.y, model.task.width).float()
    count, mean = hot.sum(0)[:, None], home.shown.mean(0)
    by_class = torch.where(count > 0, hot.T @ home.shown / count.clamp(min=1), mean)
    absent = Given(torch.zeros(1, len(model.space)), torch.ones(1, len(model.space), dtype=torch.bool)).to(model.device)
    neutral = model.bottleneck.value_of(absent)[0].cpu().float()
    return Source(mean, by_class, torch.where(model.space.continuous, mean, neutral))


def accuracy(logits: Tensor, y: Tensor) -> float:
    """Share of rows decided rightly."""
    return float((logits.argmax(1) == y).float().mean())


def misleading(w: Tensor, rows: Rows, known: Source) -> tuple[Tensor, Tensor]:
    """(n, K) twice: what each concept gave a row's wrong answer over the right one, what it withheld from the right one."""
    said = rows.logits.argmax(1)
    gave = ((w[said] - w[rows.y]) * (rows.shown - known.mean)).relu() * (said != rows.y)[:, None]
    others = (w.sum(0) - w[rows.y]) / max(len(w) - 1, 1)
    speaks = (w[rows.y] - others).relu()
    withheld = speaks * (known.by_class[rows.y] - rows.shown).relu()
    gave[:, list(known.still)] = 0
    withheld[:, list(known.still)] = 0
    return gave, withheld


def planned(w: Tensor, rows: Rows, known: Source, plan: Plan) -> Change:
    """The plan's change, by all rows."""
    gave, withheld = misleading(w.detach().cpu(), rows, known)
    return _chosen(gave.sum(0), withheld.sum(0), plan)


def _chosen(gave: Tensor, withheld: Tensor, plan: Plan) -> Change:
    m, a, gamma = plan
    masked = [int(k) for k in gave.argsort(descending=True, stable=True)[:m] if gave[k] > 0]
    rest = withheld.clone()
    rest[masked] = 0
    amplified = [int(k) for k in rest.argsort(descending=True, stable=True)[:a] if rest[k] > 0]
    return Change(tuple(masked), tuple(amplified), gamma if amplified else 1.0)


def moved(w: Tensor, rows: Rows, known: Source, change: Change) -> Tensor:
    """(n, Y) logits under a change."""
    weight, logits = w.detach().cpu(), rows.logits
    if change.masked:
        at = list(change.masked)
        logits = logits - (rows.shown[:, at] - known.mean[at]) @ weight[:, at].T
    if change.amplified:
        at = list(change.amplified)
        logits = logits + (change.gamma - 1) * (rows.shown[:, at] - known.neutral[at]) @ weight[:, at].T
    return logits


def left_out(w: Tensor, rows: Rows, known: Source, plan: Plan) -> float:
    """Accuracy on rows each of which had no part in choosing the concepts."""
    gave, withheld = misleading(w.detach().cpu(), rows, known)
    total, right = (gave.sum(0), withheld.sum(0)), 0
    for row in range(len(rows.y)):
        change = _chosen(total[0] - gave[row], total[1] - withheld[row], plan)
        one = Rows(rows.shown[row : row + 1], rows.logits[row : row + 1], rows.y[row : row + 1])
        right += int(moved(w, one, known, change).argmax(1)[0] == one.y[0])
    return right / len(rows.y)


@torch.no_grad()
def fold(w: nn.Parameter, bias: Tensor, known: Source, change: Change) -> None:
    """Write a change into the head's weights and bias: exact, and nothing new has to be saved."""
    masked, up = list(change.masked), list(change.amplified)
    bias += w[:, masked] @ known.mean[masked].to(w) - (change.gamma - 1) * w[:, up] @ known.neutral[up].to(w)
    w[:, masked] = 0
    w[:, up] *= change.gamma
