"""What is audited: a fitted model and its splits, encoded once; what the strip holds, and what probes make of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus import metrics
from isthmus.audit.section import Measure, NotHere
from isthmus.data.table import Splits, Table
from isthmus.evaluate import Scored, main_form, scored
from isthmus.metrics.concept import Kinds
from isthmus.metrics.core import Array
from isthmus.model import ConceptModel, Contributes
from isthmus.trace import Trace, kinds_of, trace
from isthmus.trace import run as answers
from isthmus.train import encode

PROBED = 5000  # training rows that probes are fitted on
LEVELLED = 1000  # training rows whose mean contribution a contribution is relative to
WIDEST = 64  # columns that boosted trees read


@dataclass(frozen=True)
class Seen:
    """One split through the model: features z (n, D), what the strip holds (n, K) in concept units, logits, labels."""

    table: Table
    z: Tensor
    values: Array
    logits: Tensor
    vectors: Array | None
    c: Array | None
    y: Array


@dataclass
class Subject:
    """A model, its data and how it is asked; parts are computed when a section wants them."""

    model: ConceptModel
    splits: Splits
    by: tuple[str, ...] = ()
    target: float = 0.95
    most: int = 2000
    seed: int = 0
    full: bool = False
    looks: int = 200
    made: dict[str, Seen] = field(default_factory=dict[str, Seen], repr=False)

    def part(self, name: str) -> Seen:
        """Train, validation or test; of test at most ``most`` rows, drawn by seed, of the others at most 5,000."""
        if name not in self.made:
            table: Table = getattr(self.splits, name)
            most = self.most if name == "test" else PROBED
            if len(table) > most:
                drawn = np.random.default_rng(self.seed).permutation(len(table))[:most]
                table = table.take(np.sort(drawn))
            self.made[name] = seen(self.model, table)
        return self.made[name]

    def some(self, most: int, part: str = "test", among: Array | None = None) -> Array:
        """At most ``most`` row numbers (m,) of a part (of the numbers ``among``), rising, drawn by seed: order says nothing.

        Classes (a number's sizes) are in proportion: taken evenly from rows dealt anew, sorted by answer.
        """
        y = self.part(part).y
        rows = np.arange(len(y)) if among is None else among
        if len(rows) <= most:
            return rows
        draw = np.random.default_rng((self.seed, 1))
        rows = draw.permutation(rows)
        if y.ndim == 1:
            rows = rows[np.argsort(y[rows], kind="stable")]
        return np.sort(rows[((np.arange(most) + draw.random()) * len(rows) / most).astype(int)])

    @cached_property
    def measure(self) -> Measure:
        """For lines over the test rows."""
        table = self.part("test").table
        return Measure(len(table), None if table.group is None else list(table.group))

    @cached_property
    def trace(self) -> Trace:
        """Curves in random order and the bypass, on the test rows."""
        test = self.part("test")
        return trace(self.model, test.table, z=test.z, seed=self.seed, most=11)

    @cached_property
    def corrected(self) -> Scored:
        """Scores of those curves: the gain when all are corrected, its interval, the points."""
        return scored([self.trace], only=())

    @property
    def worth(self) -> dict[str, float | None]:
        """Value, low and high of the main score's gain when every concept is corrected; empty where there is none to be had."""
        found = self.corrected.scores["gain_all"]
        return {end: found[end] for end in ("value", "low", "high") if end in found}

    @property
    def kinds(self) -> Kinds:
        return kinds_of(self.model.space)

    @property
    def discrete(self) -> Array:
        """(K,) True on columns that are present or not."""
        return ~self.model.space.continuous.numpy()

    def need_strip(self) -> None:
        if not len(self.model.space):
            raise NotHere("the model has no concepts: everything passes")

    def labels(self, part: str = "test") -> Array:
        """Concept labels (n, K), or why there are none."""
        self.need_strip()
        c = self.part(part).c
        if c is None:
            raise NotHere("the data have no labels for these concepts")
        if np.isnan(c).all():
            raise NotHere("no label of these concepts is known")
        return c

    def classes(self) -> Array:
        """Class numbers (n,) of the test rows, or why there are none."""
        if self.model.task.kind != "classes":
            raise NotHere(
                f"the task is {'labels' if self.model.task.kind == 'labels' else 'a number'}, not one of several classes"
            )
        return self.part("test").y

    @torch.no_grad()
    def importance(self, part: str = "test", *, relative: bool = False) -> tuple[Array, str]:
        """(n, K) how much each column speaks for the row's own answer, and how that was found.

        Weight times value (Aysel et al. 2025); ``relative`` to its training mean, so that an absence can speak, too. Of several
        labels the mean, each turned to its own decision.
        """
        self.need_strip()
        at, model = self.part(part), self.model
        if not isinstance(model.head, Contributes):
            raise NotHere("the head offers no exact contributions of its concepts")
        own = self._contributions(at.z)
        if relative:
            own = own - self._contributions(self.part("train").z[self.some(LEVELLED, "train")]).mean(0)
        if model.task.kind == "classes":
            found = own[torch.arange(len(own)), at.logits.argmax(1)]
        elif model.task.kind == "labels":
            found = (own * torch.where(at.logits > 0, 1.0, -1.0)[..., None]).mean(1)
        else:
            found = own[:, 0]
        how = "weight times value for the answer" + (", less its training mean" if relative else "")
        return found.double().numpy(), how

    def _contributions(self, z: Tensor) -> Tensor:
        parts: list[Tensor] = []
        for chunk in z.split(256):
            out = self.model.answer(chunk.to(self.model.device))
            parts.append(self.model.head.contributions(out.concepts).cpu())  # pyright: ignore[reportCallIssue]
        return torch.cat(parts)

    def main(self, said: Array) -> float:
        """The task's main score of answers on the test rows."""
        return float(main_form(self.trace, said).under(np.ones((1, len(said))))[0])

    def constant(self) -> float:
        """The main score of training's commonest answer (its mean, of a number)."""
        y, test, kind = self.part("train").y, self.part("test"), self.model.task.kind
        if kind == "classes":
            return self.main(np.full(len(test.y), np.bincount(y).argmax()))
        common = np.nanmean(y, axis=0)
        return self.main(np.broadcast_to(common > 0.5 if kind == "labels" else common, test.y.shape).astype(float))

    def told(self, inputs: dict[str, Array], *, trees: bool = True) -> Array:
        """(n,) test answers of the probe (linear, or boosted trees) from ``inputs`` that validation likes best.

        Trees read at most 64 columns: of more, the first 64 principal components of the training rows.
        """
        task = self.model.task
        best, said = -np.inf, np.empty(0)
        y = {part: self.part(part).y for part in inputs}
        if task.kind == "labels":
            raise NotHere("probes of several labels at once are not made")
        if task.kind == "classes" and len(np.unique(y["train"])) < 2:
            raise NotHere("training rows are of one class: a probe has nothing to tell")
        name = metrics.MAIN[task.kind]
        for probe in probes(task.kind, trees, inputs["train"].shape[1], len(inputs["train"])):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                probe.fit(inputs["train"], y["train"])
                held = metrics.METRICS[name](y["validation"], probe.predict(inputs["validation"]))
                if not held <= best:
                    best, said = held, probe.predict(inputs["test"])
        return said

    def inputs(self, what: str, width: int | None = None) -> dict[str, Array]:
        """For each split: 'values' of the strip, 'features', or 'random' directions in them, ``width`` many."""
        found: dict[str, Array] = {}
        for part in ("train", "validation", "test"):
            at = self.part(part)
            z = at.z.flatten(1).double().numpy()
            found[part] = at.values if what == "values" else z
        if what == "random":
            train = found["train"]
            scale = np.where(train.std(0) > 1e-9, train.std(0), 1)
            away = np.random.default_rng(self.seed).normal(size=(train.shape[1], width or self.part("test").values.shape[1]))
            mean = train.mean(0)
            found = {part: (z - mean) / scale @ away / train.shape[1] ** 0.5 for part, z in found.items()}
        return found


def probes(kind: str, trees: bool, width: int = 1, rows: int = PROBED) -> list[Any]:
    """Predictors of the task to choose among: linear ones of several strengths, and boosted trees (on at most 64 columns)."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fewer = [PCA(min(WIDEST, rows), random_state=0)] if width > WIDEST else []
    if kind == "value":
        found: list[Any] = [make_pipeline(StandardScaler(), RidgeCV(np.geomspace(0.1, 1000, 5)))]
        forest: Any = HistGradientBoostingRegressor(max_iter=100, random_state=0)
    else:
        found = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300)) for c in (0.01, 0.3, 10)]
        forest = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    return [*found, make_pipeline(*fewer, forest)] if trees else found


@torch.no_grad()
def seen(model: ConceptModel, table: Table) -> Seen:
    """Rows through the model, in evaluation mode, a chunk at a time."""
    z = encode(model.features, table, model.device)
    out = answers(model, z)
    values = model.bottleneck.read(out.concepts.values.to(model.device)).cpu().double().numpy()
    c = table.labels_for(model.space)
    vectors = None if out.concepts.vectors is None else out.concepts.vectors.double().numpy()
    assert table.y is not None
    known = None if c is None else c.double().numpy()
    return Seen(table, z, values, out.logits, vectors, known, table.y.numpy())
