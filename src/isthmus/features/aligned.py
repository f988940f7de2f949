"""Frozen vision features tied to a text space by an affine map, in closed form: concepts in words for any backbone.

Moayeri et al. 2023, Text-To-Concept (and Back) via Cross-Model Alignment, section 3. They fit the map between two image
encoders by stochastic gradient steps; a least-squares problem has one answer, found here at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import DataError
from isthmus.features.registry import Features, features_builder, positive

STRENGTHS = tuple(10.0**p for p in range(-4, 4))  # of the ridge, as a share of the mean variance of a feature


class Affine(nn.Module):
    """z (B, D) -> e (B, d) = z W' + b, in a text space."""

    weight: Tensor
    bias: Tensor

    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.dim_in, self.dim = dim_in, dim
        self.register_buffer("weight", torch.zeros(dim, dim_in))
        self.register_buffer("bias", torch.zeros(dim))

    def forward(self, z: Tensor) -> Tensor:
        return F.linear(z, self.weight, self.bias)


class Aligned(Features):
    """Features of a frozen ``backbone``, unchanged, and ``shared``: the map of these into the space of a text encoder.

    ``card`` says what the map was learnt from and how well it does on pairs held out.
    """

    pretrained = True

    def __init__(self, backbone: Features, dim: int, card: dict[str, Any]) -> None:
        super().__init__()
        self.backbone, self.shared, self.card = backbone.eval().requires_grad_(False), Affine(backbone.dim, dim), card
        self.dim = backbone.dim

    def train(self, mode: bool = True) -> Aligned:
        super().train(mode)
        self.backbone.eval()
        return self

    def prepare(self, raw: Any) -> Any:
        """As the backbone prepares."""
        return self.backbone.prepare(raw)

    def forward(self, x: Any) -> Tensor:
        """Prepared rows -> z (B, D), the backbone's own."""
        return self.backbone(x)


@features_builder("aligned")
def aligned(backbone: Features, dim: int, *, card: dict[str, Any] | None = None) -> Aligned:
    """A frozen backbone with an affine map into a text space of ``dim`` columns; ``align`` fits the map."""
    positive("aligned, dim", dim)
    return Aligned(backbone, dim, card or {})


@dataclass(frozen=True)
class Fit:
    """An affine map: ``weight`` (d, D), ``bias`` (d,), the ridge ``strength``, R² and retrieval on pairs held out.

    ``r2`` = 1 - mean squared error / variance of the held-out targets. ``retrieval``: the share of held-out rows whose
    own caption is the nearest of the different captions held out; ``chance`` is one over their number.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    r2: float
    retrieval: float
    chance: float


def ridge(z: Tensor, t: Tensor, strength: float, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(W (d, D), b (d,)) with the least weighted mean of (W z + b - t)² + strength * v |W|², v the mean variance of z.

    z (n, D) and t (n, d) of pairs, ``weight`` (n,) at least 0 (default: alike). Solved in float64, in the smaller of D and
    n unknowns. Strength 0 takes the least-squares map of least norm.
    """
    z, t = z.double(), t.double()
    share = torch.full((len(z),), 1 / len(z), dtype=torch.double) if weight is None else weight.double() / weight.sum()
    middle, target = share @ z, share @ t
    zc, tc = (z - middle) * share.sqrt()[:, None], (t - target) * share.sqrt()[:, None]
    if strength == 0:
        w = torch.linalg.lstsq(zc, tc, driver="gelsd").solution
    else:
        penalty = strength * float(zc.square().sum()) / z.shape[1]
        if len(z) < z.shape[1]:
            gram = zc @ zc.T + penalty * torch.eye(len(z), dtype=torch.double)
            w = zc.T @ torch.linalg.solve(gram, tc)
        else:
            w = torch.linalg.solve(zc.T @ zc + penalty * torch.eye(z.shape[1], dtype=torch.double), zc.T @ tc)
    return w.T.float(), (target - middle @ w).float()


def fit(z: Tensor, t: Tensor, held: Sequence[int], *, strengths: Sequence[float] = STRENGTHS, balanced: bool = True) -> Fit:
    """The map from features z (n, D) to texts t (n, d) of the strength that fits the ``held`` rows best.

    The held rows choose the strength and give R² and retrieval; the map returned is then fitted on all rows.
    ``balanced`` gives every different text the same weight. ``DataError`` where shapes differ or too little is held out.
    """
    if z.ndim != 2 or t.ndim != 2 or len(z) != len(t):
        raise DataError(f"align: expected features (n, D) and as many texts (n, d), got {tuple(z.shape)} and {tuple(t.shape)}")
    inside = torch.ones(len(z), dtype=torch.bool)
    inside[torch.as_tensor(held, dtype=torch.long)] = False
    if not 2 <= int(inside.sum()) < len(z):
        raise DataError(f"align: expected rows to fit and rows held out, got {int(inside.sum())} of {len(z)} to fit")
    weight = _weights(t) if balanced else torch.ones(len(z))
    scores = {s: quality(ridge(z[inside], t[inside], s, weight[inside]), z[~inside], t[~inside]) for s in strengths}
    best = max(scores, key=lambda s: (scores[s][1], scores[s][0]))
    return Fit(*ridge(z, t, best, weight), best, *scores[best])


def _weights(t: Tensor) -> Tensor:
    """(n,) one over how often a row's text occurs."""
    _, where, counts = torch.unique(t, dim=0, return_inverse=True, return_counts=True)
    return 1 / counts[where].float()


def quality(found: tuple[Tensor, Tensor], z: Tensor, t: Tensor) -> tuple[float, float, float]:
    """(R², retrieval, chance) of a map on pairs it has not seen."""
    made = F.linear(z.float(), *found)
    error, spread = (made - t).square().mean(), (t - t.mean(0)).square().mean()
    texts, own = torch.unique(t, dim=0, return_inverse=True)
    nearest = (F.normalize(made, dim=-1) @ F.normalize(texts, dim=-1).T).argmax(-1)
    return float(1 - error / spread.clamp(min=1e-12)), float((nearest == own).float().mean()), 1 / len(texts)


def align(
    backbone: Features,
    z: Tensor,
    captions: Sequence[str],
    text: Callable[[Sequence[str]], Tensor],
    *,
    pairs: str,
    weak: bool = False,
    share: float = 0.2,
    seed: int = 0,
    strengths: Sequence[float] = STRENGTHS,
) -> Aligned:
    """``backbone`` tied to the space of ``text`` (texts -> (n, d)) by pairs of features z (n, D) and captions (n).

    Whole captions are held out (a ``share`` of them), so that quality is that on words never seen; a fifth of the rows, where
    there are fewer than five captions. ``pairs`` says in words where the captions came from and ``weak`` that labels made
    them; both stand on the card, with R², retrieval and its chance level.
    """
    if len(captions) != len(z):
        raise DataError(f"align: expected {len(z)} captions, one for each row, got {len(captions)}")
    different = sorted(set(captions))
    vectors = text(different).float()
    place = {caption: row for row, caption in enumerate(different)}
    code = torch.tensor([place[caption] for caption in captions])
    generator = torch.Generator().manual_seed(seed)
    if len(different) >= 5:
        out = torch.randperm(len(different), generator=generator)[: max(2, math.ceil(share * len(different)))]
        held = torch.isin(code, out).nonzero().flatten()
    else:
        held = torch.randperm(len(z), generator=generator)[: max(1, int(share * len(z)))]
    found = fit(z, vectors[code], held.tolist(), strengths=strengths)
    card = {
        "pairs": pairs,
        "weak": weak,
        "rows": len(z),
        "captions": len(different),
        "held_out": "captions" if len(different) >= 5 else "rows",
        "strength": found.strength,
        "r2": round(found.r2, 4),
        "retrieval": round(found.retrieval, 4),
        "chance": round(found.chance, 4),
    }
    by_hand = getattr(backbone, "recipe", None) is None  # works, but a model around it is read back with features= alone
    module = (Aligned if by_hand else aligned)(backbone, vectors.shape[1], card=card)
    module.shared.weight.copy_(found.weight)
    module.shared.bias.copy_(found.bias)
    return module


def nearest(e: Tensor, texts: Sequence[str], vectors: Tensor, most: int = 5) -> list[list[tuple[str, float]]]:
    """Concept to text, by retrieval: for each vector e (m, d) of the text space the ``most`` nearest texts and cosines."""
    cosine = F.normalize(e, dim=-1) @ F.normalize(vectors, dim=-1).T
    best: list[list[int]] = cosine.topk(min(most, len(texts)), dim=-1).indices.tolist()
    return [[(texts[i], float(row[i])) for i in index] for row, index in zip(cosine, best, strict=True)]
