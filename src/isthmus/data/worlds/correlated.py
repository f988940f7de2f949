"""A world of concepts that go together: twelve of them driven by three hidden causes, and seen through noise.

Its law is known: what a correction is worth on the concepts nobody corrected can be held against the best there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import OptionError
from isthmus.space import ConceptSpace, Task

Reals = NDArray[np.float64]
Whole = NDArray[np.int64]
THRESHOLD, OWN, WIDTH = 0.3, 0.7, 48
MOST = 16  # concepts that are enumerated
NODES = 40  # points for each cause


@dataclass(frozen=True)
class Law:
    """Concept k is 1 where mixing_k . causes + own_k n > .3, causes (F,) and n standard normal.

    ``mixing`` (K, F), ``own`` (K,) above 0; x = c @ ``atoms`` (K, D) + ``noise`` times a standard normal. ``told`` (n, K)
    is 0, 1, and NaN where nobody told.
    """

    mixing: Reals
    own: Reals
    atoms: Reals
    noise: float

    def marginal(self) -> Reals:
        """(K,) P(c_k = 1)."""
        return _normal(-THRESHOLD / np.sqrt((self.mixing**2).sum(1) + self.own**2))

    def conditional(self, told: Reals, nodes: int = NODES) -> Reals:
        """(n, K) P(c_k = 1 | told), the told ones as told, by quadrature over the causes: ``nodes`` points for each."""
        weight, on = self._points(nodes)
        prior, yes, no = (np.log(np.maximum(part, 1e-300)) for part in (weight, on, 1 - on))
        found = np.empty(told.shape)
        for start in range(0, len(told), 64):
            said = told[start : start + 64]
            score = prior + (said == 1).astype(float) @ yes.T + (said == 0).astype(float) @ no.T
            share = np.exp(score - score.max(1, keepdims=True))
            found[start : start + 64] = share @ on / share.sum(1, keepdims=True)
        return np.where(np.isnan(told), found, told)

    def joint(self, nodes: int = NODES) -> tuple[Whole, Reals]:
        """(2^K, K) every state, the last concept running fastest, and its probability (2^K,); K at most 16."""
        count = len(self.own)
        if count > MOST:
            raise OptionError(f"concepts: expected at most {MOST} to enumerate 2^K states, got {count}; use conditional")
        weight, on = self._points(nodes)
        total = np.zeros(2**count)
        for start in range(0, len(weight), 1024):
            part = weight[start : start + 1024, None]
            for rate in on[start : start + 1024].T[:, :, None]:
                part = np.stack([part * (1 - rate), part * rate], -1).reshape(len(part), -1)
            total += part.sum(0)
        return (np.arange(2**count)[:, None] >> np.arange(count)[::-1]) & 1, total

    def posterior(self, x: Reals, told: Reals, nodes: int = NODES) -> Reals:
        """(n, K) P(c_k = 1 | x (n, D), told): the best that any model of these inputs can say; by enumeration."""
        states, prior = self.joint(nodes)
        means = states @ self.atoms
        far = -2 * x @ means.T + (means**2).sum(1)
        with np.errstate(divide="ignore"):
            score = np.log(prior) - far / (2 * self.noise**2)
        clash = (told == 1).astype(float) @ (1 - states).T + (told == 0).astype(float) @ states.T
        score = np.where(clash > 0, -np.inf, score)
        share = np.exp(score - score.max(1, keepdims=True))
        return share @ states / share.sum(1, keepdims=True)

    def _points(self, nodes: int) -> tuple[Reals, Reals]:
        """Weights (Q,) of points of the causes, summing to 1, and P(c_k = 1 | causes) (Q, K) there.

        Evenly spaced from -6 to 6: for functions as smooth as these far closer than as many Gauss-Hermite points.
        """
        if nodes < 2:
            raise OptionError(f"nodes: expected at least 2 points for each cause, got {nodes}")
        count = self.mixing.shape[1]
        points = np.stack(np.meshgrid(*[np.linspace(-6, 6, nodes)] * count, indexing="ij"), -1).reshape(-1, count)
        weight = np.exp(-(points**2).sum(1) / 2)
        kept = weight > weight.sum() * 1e-14  # the far corners weigh nothing
        on = _normal((points[kept] @ self.mixing.T - THRESHOLD) / self.own)
        return weight[kept] / weight[kept].sum(), on


def _normal(value: Reals) -> Reals:
    """The standard normal distribution function."""
    return torch.special.ndtr(torch.from_numpy(value)).numpy()


def _drawn(concepts: int, causes: int, strength: float, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """atoms (K, 48), rule (K, 4), mixing (K, F) and own (K,)."""
    for name, size in {"concepts": concepts, "causes": causes}.items():
        if size < 1:
            raise OptionError(f"{name}: expected at least 1, got {size}")
    if not 0 <= strength <= 1:
        raise OptionError(f"strength: expected 0, independent concepts, to 1, got {strength:g}")
    atoms = F.normalize(torch.randn(concepts, WIDTH, generator=g), dim=-1)
    rule, mixing = 2 * torch.randn(concepts, 4, generator=g), torch.randn(concepts, causes, generator=g)
    own = ((1 - strength) * mixing.double().square().sum(1) + OWN**2).sqrt().float()
    return atoms, rule, strength**0.5 * mixing, own


def law(*, concepts: int = 12, causes: int = 3, noise: float = 0.6, strength: float = 1.0, seed: int = 0) -> Law:
    """The law of the rows that ``correlated`` draws with the same options; ``noise`` above 0."""
    if not 0 < noise < float("inf"):
        raise OptionError(f"noise: expected a standard deviation above 0, got {noise:g}")
    atoms, _, mixing, own = _drawn(concepts, causes, strength, torch.Generator().manual_seed(seed))
    return Law(mixing.double().numpy(), own.double().numpy(), atoms.double().numpy(), noise)


@dataset("correlated", summary="twelve concepts driven by three hidden causes, 48 noisy features, four classes", synthetic=True)
def correlated(
    *, train: int = 2000, validation: int = 400, test: int = 1000, concepts: int = 12, causes: int = 3, noise: float = 0.6,
    strength: float = 1.0, seed: int = 0,
) -> Splits:  # fmt: skip
    """Concept k is 1 where mixing_k . causes + .7 n > .3, causes and n standard normal; x = sum of the present concepts'
    unit atoms in 48 dimensions + ``noise`` times a standard normal; y = the class with the highest linear score of the
    concepts. What one concept is says much about the others, and x says less than the labels do.

    ``strength``: 0..1, the part of the causes' variance that they keep; the rest becomes the concept's own, so that its
    rate stays, and at 0 concepts are independent. ``law`` with the same options has P(c | told) and P(c | x, told).
    """  # fmt: skip
    for name, size in {"train": train, "validation": validation, "test": test}.items():
        if size < 1:
            raise OptionError(f"{name}: expected at least 1, got {size}")
    g = torch.Generator().manual_seed(seed)
    atoms, rule, mixing, own = _drawn(concepts, causes, strength, g)
    space = ConceptSpace.binary(f"sign {k + 1}" for k in range(concepts))
    task = Task.classes(("north", "east", "south", "west"))

    def rows(n: int) -> Table:
        hidden = torch.randn(n, causes, generator=g) @ mixing.T
        c = (hidden + own * torch.randn(n, concepts, generator=g) > THRESHOLD).float()
        x = c @ atoms + noise * torch.randn(n, WIDTH, generator=g)
        return Table(x, c=c, y=(c @ rule).argmax(-1), space=space, task=task)

    weaker = "" if strength == 1 else f", strength {strength:g}"
    card = DataCard(
        name="correlated",
        title=f"Concepts that go together{weaker}",
        licence="Apache-2.0",
        source="generated by isthmus.data.worlds.correlated",
        terms="free to use; generated by this package",
        notes="Concepts are instance-level and y is a function of them. What a correction can be worth on the concepts that "
        "nobody corrected is known exactly.",
    )
    return Splits(rows(train), rows(validation), rows(test), name="correlated", card=card)
