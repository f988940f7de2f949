"""``causal_graph``: classes make concepts, concepts make inputs, and the optimal answer is known.

Shin et al., A closer look at the intervention procedure of concept bottleneck models, ICML 2023 (synthetic data).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table, split
from isthmus.errors import OptionError
from isthmus.space import ConceptSpace, Task

Reals = NDArray[np.float64]
Whole = NDArray[np.int64]
# one stream of random numbers for each thing that is drawn: an option changes what it names and nothing else
_ALPHA, _BETA, _OWN, _WEIGHTS, _NOISE, _FLIPS, _VISIBLE = range(7)


@dataclass(frozen=True)
class Graph:
    """``classes`` (Y, K) the concepts of each class in {0, 1}, ``weights`` (D, K), ``noise_std`` of each input.

    A row of class y has x = ``weights`` @ c + z with z normal, c the vector of its class.
    """

    classes: Whole
    weights: Reals
    noise_std: float

    def means(self) -> Reals:
        """(Y, D) the mean input of each class."""
        return self.classes @ self.weights.T

    def posterior(self, x: Reals) -> Reals:
        """(n, D) -> (n, Y) exact P(y | x) with even classes and class-level concepts (no diversity)."""
        means = self.means()
        far = (x**2).sum(1)[:, None] - 2 * x @ means.T + (means**2).sum(1)
        score = -far / (2 * self.noise_std**2)
        raw = np.exp(score - score.max(1, keepdims=True))
        return raw / raw.sum(1, keepdims=True)


def draw_graph(
    *, concepts: int, inputs: int, classes: int, groups: int, alpha_mean: float, alpha_std: float, weight_std: float,
    noise_std: float, seed: int,
) -> Graph:  # fmt: skip
    """Draw the classes and the weights.

    Concept k is on in a group with probability 1 - alpha_k, alpha_k normal and clipped to 0..1; class j of a group is
    the group's vector with one concept of its own turned over, no two classes of a group the same one.
    """
    at_least = {"concepts": concepts, "inputs": inputs, "groups": groups}
    for name, value in at_least.items():
        if value < 1:
            raise OptionError(f"{name}: expected at least 1, got {value}")
    if classes < 2 or classes % groups:
        raise OptionError(f"classes: expected 2 or more and a multiple of groups={groups}, got {classes}")
    each = classes // groups
    if each > concepts:
        raise OptionError(f"groups: expected at most {concepts} classes a group, one for each concept, got {each}; add groups")
    for name, value in (("alpha_std", alpha_std), ("weight_std", weight_std)):
        if not 0 <= value < float("inf"):
            raise OptionError(f"{name}: expected a standard deviation of at least 0, got {value:g}")
    if not 0 < noise_std < float("inf"):
        raise OptionError(f"noise_std: expected a standard deviation above 0, got {noise_std:g}")
    if not isfinite(alpha_mean):
        raise OptionError(f"alpha_mean: expected a finite number, got {alpha_mean:g}")
    stream = lambda what: np.random.default_rng([seed, what])  # noqa: E731
    alpha = np.clip(stream(_ALPHA).normal(alpha_mean, alpha_std, concepts), 0, 1)
    base = (stream(_BETA).random((groups, concepts)) >= alpha).astype(np.int64)
    own = stream(_OWN)
    vectors = np.repeat(base, each, axis=0)
    for group in range(groups):
        rows = np.arange(group * each, (group + 1) * each)
        vectors[rows, own.choice(concepts, each, replace=False)] ^= 1
    return Graph(vectors, stream(_WEIGHTS).normal(0, weight_std, (inputs, concepts)), noise_std)


def draw_rows(graph: Graph, each: int, seed: int, diversity: float = 0.0) -> tuple[Reals, Whole, Whole]:
    """x (n, D), c (n, K) in {0, 1} and y (n,), ``each`` rows of every class, class after class.

    ``diversity``: probability that a concept of a row is turned over; its x is then made anew with the same noise.
    The turned concepts of a smaller ``diversity`` are among those of a larger one.
    """
    if each < 1:
        raise OptionError(f"samples_per_class: expected at least 1, got {each}")
    if not 0 <= diversity <= 1:
        raise OptionError(f"diversity: expected a probability in 0..1, got {diversity:g}")
    count, width = graph.classes.shape
    y = np.repeat(np.arange(count), each)
    noise = np.random.default_rng([seed, _NOISE]).normal(0, graph.noise_std, (len(y), len(graph.weights)))
    turned = np.random.default_rng([seed, _FLIPS]).random((len(y), width)) < diversity
    c = graph.classes[y] ^ turned
    return c @ graph.weights.T + noise, c, y


def visible(concepts: int, hidden: float, seed: int) -> Whole:
    """The concepts that keep their labels, in order: (1 - ``hidden``) of them to the nearest whole number."""
    if not 0 <= hidden < 1:
        raise OptionError(f"hidden: expected a part of the concepts, at least 0 and below 1, got {hidden:g}")
    keep = round((1 - hidden) * concepts)
    if keep < 1:
        raise OptionError(f"hidden: expected a part that leaves at least 1 of {concepts} concepts, got {hidden:g}")
    return np.sort(np.random.default_rng([seed, _VISIBLE]).permutation(concepts)[:keep])


@dataset("causal_graph", summary="classes make concepts, concepts make inputs (Shin et al. 2023): K, groups, hidden, diversity",
         synthetic=True)  # fmt: skip
def causal_graph(
    *,
    concepts: int = 100,
    inputs: int = 100,
    classes: int = 100,
    groups: int = 50,
    samples_per_class: int = 100,
    alpha_mean: float = 0.8,
    alpha_std: float = 0.1,
    weight_std: float = 0.1,
    noise_std: float = 2.0,
    hidden: float = 0.0,
    diversity: float = 0.0,
    seed: int = 42,
) -> Splits:
    """Rows x (n, D) of ``classes`` classes behind ``concepts`` binary concepts; stratified 70/15/15. Defaults: the paper's.

    ``alpha_mean``, ``alpha_std``: of the normal threshold of each concept; the higher, the fewer concepts are on.
    ``groups``: of similar classes; fewer groups make more classes that differ in two concepts only. ``weight_std``,
    ``noise_std``: of the weights from concepts to inputs and of the inputs' noise (standard deviations, whatever the
    paper's flags are called). ``hidden``: part of the concepts without labels, in 0..1; they still make x. ``diversity``:
    probability that a concept of a row differs from its class; 0 makes labels class-level. ``seed``: of everything.
    Classes, weights, noise, split and what is hidden or turned over each have a stream of their own.
    """
    graph = draw_graph(
        concepts=concepts, inputs=inputs, classes=classes, groups=groups, alpha_mean=alpha_mean, alpha_std=alpha_std,
        weight_std=weight_std, noise_std=noise_std, seed=seed,
    )  # fmt: skip
    shown = visible(concepts, hidden, seed)
    x, c, y = draw_rows(graph, samples_per_class, seed, diversity)
    each = classes // groups
    table = Table(
        torch.from_numpy(x.astype(np.float32)),
        c=torch.from_numpy(c[:, shown].astype(np.float32)),
        y=torch.from_numpy(y),
        space=ConceptSpace.binary(f"concept {k}" for k in shown.tolist()),
        task=Task.classes(f"group {label // each} class {label % each}" for label in range(classes)),
    )
    level = f"instance-level, each turned over with probability {diversity:g}" if diversity else "class-level"
    dark = f"{concepts - len(shown)} of {concepts} concepts hidden. " if len(shown) < concepts else ""
    notes = f"Concept labels are {level}. {dark}{'' if diversity else _best(graph, x, y)}{CARD.notes}"
    card = replace(CARD, title=f"{CARD.title}, {level.split(',')[0]} concepts", notes=notes)
    return split(table, validation=0.15, test=0.15, seed=seed, name="causal_graph", card=card)


def _best(graph: Graph, x: Reals, y: Whole) -> str:
    right = (graph.posterior(x).argmax(1) == y).mean()
    return f"Who knows classes and weights and answers best is right on {right:.1%} of these rows. "


CARD = DataCard(
    name="causal_graph",
    title="Causal graph of classes, concepts and inputs",
    licence="Apache-2.0",
    source="generated by isthmus.data.worlds.causal_graph",
    terms="free to use; generated by this package",
    citation="Shin, Jo, Ahn, Lee 2023, A closer look at the intervention procedure of CBMs, ICML, arXiv 2302.14260",
    notes="Labels are class-level at diversity 0 and instance-level above. Drawn anew by the published recipe: not the rows "
    "of the paper, which are not public.",
)
