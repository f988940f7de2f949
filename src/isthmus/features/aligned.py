"""Frozen vision features tied to a text space by an affine map, in closed form: concepts in words for any backbone.

Moayeri et al. 2023, Text-To-Concept (and Back) via Cross-Model Alignment, section 3. They fit the map between two image
encoders by stochastic gradient steps; a least-squares problem has one answer, found here at once. On words never seen,
whitening the texts afterwards (Romera-Paredes and Torr 2015) finds the right one far more often: ``claims/text_to_concept.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import DataError
from isthmus.features.registry import Features, features_builder, positive

STRENGTHS = tuple(10.0**p for p in range(-4, 4))  # of the ridge, as a share of the mean variance of a feature
WHITEN: tuple[float | None, ...] = (None, 0.1, 1.0, 10.0, 100.0)  # of the texts, in their mean variances; None: plain

MANY = 20  # different captions, from which on some are held out whole


class Affine(nn.Module):
    """z (B, D) -> e (B, d) = z W' + b, in a text space; ``center`` (d,) is subtracted from texts before a comparison."""

    weight: Tensor
    bias: Tensor
    center: Tensor

    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.dim_in, self.dim = dim_in, dim
        self.register_buffer("weight", torch.zeros(dim, dim_in))
        self.register_buffer("bias", torch.zeros(dim))
        self.register_buffer("center", torch.zeros(dim))

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
        self.dim, self.patches = backbone.dim, int(getattr(backbone, "patches", 1))

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
    """An affine map: ``weight`` (d, D), ``bias`` (d,), the ``center`` of texts, and how it does on pairs held out.

    ``strength`` of the ridge; ``whiten`` of the texts (None: plain), ``metric`` (d, d) what that did to them. ``r2`` = 1 - mean
    squared error / variance of the held-out targets, whitened as the map is; ``ridge_r2`` that before whitening, which parts
    equals in ``retrieval``. ``retrieval``: the share of held-out rows whose own caption is the nearest of the
    different captions held out, each caption counting alike; ``chance`` is one over their number.
    """

    weight: Tensor
    bias: Tensor
    center: Tensor
    strength: float
    whiten: float | None
    r2: float = math.nan
    retrieval: float = math.nan
    chance: float = math.nan
    ridge_r2: float = math.nan
    metric: Tensor | None = None


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


def whitened(plain: tuple[Tensor, Tensor], z: Tensor, t: Tensor, whiten: float) -> tuple[Tensor, Tensor, Tensor]:
    """(W, b, center): a ridge map followed by the inverse covariance of the different texts, ``whiten`` * its mean added.

    The closed form of Romera-Paredes and Torr 2015, An Embarrassingly Simple Approach to Zero-Shot Learning, equation 6:
    e . (t - center) is their compatibility of an image with a text. Scaled until rows have length 10 on average, about CLIP's.
    """
    texts = torch.unique(t, dim=0).double()
    center = texts.mean(0)
    spread = (texts - center).T @ (texts - center) / len(texts)
    metric = torch.linalg.inv(spread + whiten * float(spread.diagonal().mean()) * torch.eye(len(spread), dtype=torch.double))
    w, b = metric @ plain[0].double(), metric @ (plain[1].double() - center)
    length = float((z.double() @ w.T + b).square().sum(-1).mean().sqrt())
    return (10 / length * w).float(), (10 / length * b).float(), center.float()


def _metric(w: Tensor, plain: Tensor, t: Tensor, center: Tensor, whiten: float) -> Tensor:
    """(d, d) what whitening by ``whiten`` made of the texts t, at the scale of the whitened map w of the ridge ``plain``."""
    texts = torch.unique(t, dim=0).double() - center.double()
    spread = texts.T @ texts / len(texts)
    metric = torch.linalg.inv(spread + whiten * float(spread.diagonal().mean()) * torch.eye(len(spread), dtype=torch.double))
    made = metric @ plain.double()
    return float((w.double() * made).sum() / made.square().sum().clamp(min=1e-300)) * metric


def fit(
    z: Tensor,
    t: Tensor,
    held: Sequence[int],
    *,
    aside: Sequence[int] = (),
    strengths: Sequence[float] = STRENGTHS,
    whiten: Sequence[float | None] = WHITEN,
    balanced: bool = True,
) -> Fit:
    """The map from features z (n, D) to texts t (n, d) that finds the captions of the ``held`` rows best.

    The held rows choose ``strength`` and ``whiten`` (by retrieval, then R²) and say how well it does, on maps of the rows that
    are neither held nor ``aside``; the map returned is then fitted on all rows. ``balanced`` gives every different text the
    same weight. ``whiten=(None,)`` is the plain ridge of the paper. ``DataError`` where shapes differ or too little is held
    out.
    """
    if z.ndim != 2 or t.ndim != 2 or len(z) != len(t):
        raise DataError(f"align: expected features (n, D) and as many texts (n, d), got {tuple(z.shape)} and {tuple(t.shape)}")
    if not strengths or not whiten or not bool(z.isfinite().all() & t.isfinite().all()):
        raise DataError("align: expected finite features and texts, and strengths and whitenings to try")
    if len(torch.unique(t, dim=0)) < 2:
        raise DataError("align: expected captions of two kinds at least, got one text for all rows; nothing ties rows to words")
    inside = torch.ones(len(z), dtype=torch.bool)
    out = torch.as_tensor(held, dtype=torch.long)
    inside[[*held, *aside]] = False
    if int(inside.sum()) < 2 or not len(out):
        raise DataError(f"align: expected rows to fit and rows held out, got {int(inside.sum())} of {len(z)} to fit")
    weight = _weights(t) if balanced else torch.ones(len(z))
    best: Fit | None = None
    for strength in strengths:
        plain = ridge(z[inside], t[inside], strength, weight[inside])
        for each in whiten:
            found = _fit(plain, z[inside], t[inside], strength, each)
            found = replace(found, **quality(found, plain, z[out], t[out]))
            if best is None or (found.retrieval, found.ridge_r2) > (best.retrieval, best.ridge_r2):
                best = found
    assert best is not None
    whole = _fit(ridge(z, t, best.strength, weight), z, t, best.strength, best.whiten)
    return replace(whole, **{name: getattr(best, name) for name in ("r2", "retrieval", "chance", "ridge_r2")})


def _fit(plain: tuple[Tensor, Tensor], z: Tensor, t: Tensor, strength: float, whiten: float | None) -> Fit:
    if whiten is None:
        return Fit(*plain, torch.zeros(t.shape[1]), strength, None)
    w, b, center = whitened(plain, z, t, whiten)
    return Fit(w, b, center, strength, whiten, metric=_metric(w, plain[0], t, center, whiten))


def _weights(t: Tensor) -> Tensor:
    """(n,) one over how often a row's text occurs."""
    _, where, counts = torch.unique(t, dim=0, return_inverse=True, return_counts=True)
    return 1 / counts[where].float()


def quality(found: Fit, plain: tuple[Tensor, Tensor], z: Tensor, t: Tensor) -> dict[str, float]:
    """R² of the map and of the ridge, retrieval and its chance level on pairs that neither has seen."""
    texts, own = torch.unique(t, dim=0, return_inverse=True)
    e = F.linear(z.float(), found.weight, found.bias)
    nearest = (e @ F.normalize(texts - found.center, dim=-1).T).argmax(-1)
    ridge_r2 = _r2(F.linear(z.float(), *plain), t)
    r2 = ridge_r2 if found.metric is None else _r2(e, ((t - found.center).double() @ found.metric.T).float())
    right = torch.zeros(len(texts)).index_add_(0, own, (nearest == own).float()) / torch.bincount(own)
    return {"r2": r2, "retrieval": float(right.mean()), "chance": 1 / len(texts), "ridge_r2": ridge_r2}


def _r2(made: Tensor, target: Tensor) -> float:
    return float(1 - (made - target).square().mean() / (target - target.mean(0)).square().mean().clamp(min=1e-12))


def _held(
    code: Tensor, captions: int, groups: Sequence[str] | None, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, str]:
    """Rows held out, rows set aside while the map is chosen as their group is among the held, and what was held out.

    ``code`` (n,) is the number of each row's caption.
    """
    n, nobody = len(code), torch.empty(0, dtype=torch.long)
    names = {name: at for at, name in enumerate(dict.fromkeys(groups or ()))}
    group = torch.tensor([names[name] for name in groups or ()])
    if captions >= MANY:
        out = torch.randperm(captions, generator=generator)[: max(2, math.ceil(share * captions))]
        held = torch.isin(code, out)
        aside = torch.isin(group, group[held]) & ~held if names else ~torch.ones(n, dtype=torch.bool)
        rest = ~held & ~aside
        if len(names) < 2 or (2 * int(rest.sum()) >= n and len(code[rest].unique()) > 1):
            return held.nonzero().flatten(), aside.nonzero().flatten() if len(names) > 1 else nobody, "captions"
    held = torch.zeros(n, dtype=torch.bool)
    for each in torch.randperm(len(names), generator=generator):
        more = held | (group == each)
        if int(held.sum()) < share * n and 2 * int(more.sum()) <= n and len(code[~more].unique()) > 1:
            held = more
    if len(code[held].unique()) > 1:
        return held.nonzero().flatten(), nobody, "groups"
    order = torch.randperm(n, generator=generator)
    held, rest = order[: max(1, int(share * n))], order[max(1, int(share * n)) :]
    if len(code[rest].unique()) < 2 < n:  # a second caption must stay, or there is nothing to fit
        other = code[held] != (code[rest[0]] if len(rest) else -1)
        held = held[~other | (other.cumsum(0) > 1)]
    return held, nobody, "rows"


def align(
    backbone: Features,
    z: Tensor,
    captions: Sequence[str],
    text: Callable[[Sequence[str]], Tensor],
    *,
    pairs: str,
    weak: bool = False,
    classes: Sequence[str] = (),
    groups: Sequence[str] | None = None,
    share: float = 0.2,
    seed: int = 0,
    strengths: Sequence[float] = STRENGTHS,
    whiten: Sequence[float | None] = WHITEN,
) -> Aligned:
    """``backbone`` tied to the space of ``text`` (texts -> (n, d)) by pairs of features z (n, D) and captions (n).

    Whole captions are held out (a ``share`` of them), so that quality is that on words never seen; of fewer than twenty
    captions a share of the rows. ``groups`` (n names, patients) held out with a caption do not stand among the rows that choose
    the map under another; where that would leave fewer than half of the rows, whole groups are held out instead, and rows where
    no half of the groups leaves two captions on either side.

    ``pairs`` says in words where the captions came from, ``weak`` that labels made them, ``classes`` of which classes the rows
    are; all stand on the card, with R², retrieval and its chance level.
    """
    if len(captions) != len(z):
        raise DataError(f"align: expected {len(z)} captions, one for each row, got {len(captions)}")
    different = sorted(set(captions))
    vectors = text(different).float()
    place = {caption: row for row, caption in enumerate(different)}
    code = torch.tensor([place[caption] for caption in captions])
    held, aside, kind = _held(code, len(different), groups, share, torch.Generator().manual_seed(seed))
    found = fit(z, vectors[code], held.tolist(), aside=aside.tolist(), strengths=strengths, whiten=whiten)
    card = {
        "pairs": pairs,
        "weak": weak,
        "classes": list(classes),
        "rows": len(z),
        "captions": len(different),
        "held_out": kind,
        "strength": found.strength,
        "whiten": found.whiten,
        "r2": round(found.r2, 4),
        "ridge_r2": round(found.ridge_r2, 4),
        "retrieval": round(found.retrieval, 4),
        "chance": round(found.chance, 4),
    }
    by_hand = getattr(backbone, "recipe", None) is None  # works, but a model around it is read back with features= alone
    module = (Aligned if by_hand else aligned)(backbone, vectors.shape[1], card=card)
    module.shared.weight.copy_(found.weight)
    module.shared.bias.copy_(found.bias)
    module.shared.center.copy_(found.center)
    return module
