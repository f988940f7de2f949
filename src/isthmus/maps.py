"""Where each concept looks: a model's own maps, gradient x input, integrated gradients, layer-wise relevance.

Sundararajan et al. 2017, Axiomatic Attribution (integrated gradients); Smilkov et al. 2017 (noise; squared: Furby et al. 2024,
arXiv 2402.00912); Bach et al. 2015 (relevance), by captum. All rows share one backward pass for each place among the chosen
concepts, not one for each row and concept. What is explained is the concept's logit where there is one, else its value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from isthmus.errors import DataError, OptionError, require
from isthmus.model import ConceptModel

By = Literal["auto", "where", "gradient", "integrated", "relevance"]
CHUNK = 64
LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout)


def maps(
    model: ConceptModel, x: Any, concepts: Sequence[str | int] | Tensor, *, by: By = "auto", steps: int = 32, copies: int = 1,
    noise: float = 0.0, squared: bool = False, baseline: float = 0.0, seed: int = 0,
) -> Tensor:  # fmt: skip
    """(B, P, H, W) where P concepts look in the pictures ``x`` (raw rows or a prepared tensor); (B, P, F) for numbers.

    ``concepts``: names of columns (a state is ``concept=state``), the same for all rows, or column numbers (B, P), each row's
    own. ``by``: 'where' the bottleneck's own maps, in their own resolution; 'gradient' gradient x (input - baseline);
    'integrated' the same along the straight line from ``baseline`` (in prepared units: 0 is mid-grey), midpoints of ``steps``;
    'relevance' the epsilon rule on a chain of plain layers; 'auto' the model's own maps, else integrated gradients. Channels
    are added up, so that cells sum to the score minus the baseline's (integrated). ``copies`` above 1 averages over inputs
    with normal ``noise`` (share of the input's range), ``squared`` before averaging. ``OptionError`` says why a model has none.
    """
    if by not in ("auto", "where", "gradient", "integrated", "relevance"):
        raise OptionError(f"maps, by: expected auto, where, gradient, integrated or relevance, got {by!r}")
    if steps < 1 or copies < 1 or noise < 0:
        raise OptionError(f"maps: expected steps, copies of at least 1, noise of at least 0, got {steps}, {copies}, {noise}")
    ready = _ready(model, x)
    index = chosen(model, concepts, len(ready))
    if by in ("auto", "where"):
        found = _own(model, ready, index)
        if found is not None:
            return found
        if by == "where":
            raise OptionError("maps, by 'where': this bottleneck makes no maps; take by='integrated'")
    if by == "relevance":
        return _relevance(model, ready, index)
    times = torch.ones(1) if by == "gradient" else (torch.arange(steps) + 0.5) / steps
    draw = torch.Generator().manual_seed(seed)
    total: Tensor | float = 0.0
    for _ in range(copies):
        rows = ready
        if copies > 1 and noise:
            spread = noise * (ready.amax() - ready.amin())
            rows = ready + spread * torch.randn(ready.shape, generator=draw)
        one = torch.cat([_line(model, part, at, times, baseline) for part, at in _parts(rows, index)])
        total = total + (one.square() if squared else one) / copies
    assert isinstance(total, Tensor)
    return total


def chosen(model: ConceptModel, concepts: Sequence[str | int] | Tensor, rows: int) -> Tensor:
    """(B, P) column numbers: names for all rows, or each row's own."""
    if isinstance(concepts, Tensor):
        fits = concepts.ndim == 2 and len(concepts) == rows and not concepts.is_floating_point()
        if not fits or (concepts.numel() and not bool(((concepts >= 0) & (concepts < len(model.space))).all())):
            raise DataError(f"maps: expected column numbers ({rows}, P) below {len(model.space)}, got {tuple(concepts.shape)}")
        return concepts.long()
    columns = model.space.columns
    found: list[int] = []
    for name in concepts:
        if isinstance(name, str) and name in columns:
            found.append(columns.index(name))
            continue
        part = model.space.slices[model.space.index(name)]
        if part.stop - part.start > 1:
            raise OptionError(f"maps: {name!r} has a column for each state; name one, as {columns[part.start]!r}")
        found.append(part.start)
    if not found:
        raise OptionError("maps: expected at least one concept, got none")
    return torch.tensor(found).expand(rows, -1)


def _ready(model: ConceptModel, x: Any) -> Tensor:
    prepare = getattr(model.features, "prepare", None)
    ready = x if isinstance(x, Tensor) and x.is_floating_point() else cast("Callable[[Any], Any]", prepare)(x)
    if not isinstance(ready, Tensor) or not ready.is_floating_point():
        raise OptionError("maps: these features read words or several inputs, through which no gradient runs to a picture")
    if ready.ndim not in (2, 4):
        raise OptionError(f"maps: expected pictures (B, 3, H, W) or numbers (B, F), got shape {tuple(ready.shape)}")
    return ready.to(model.device)


def _parts(x: Tensor, index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(x.split(CHUNK), index.to(x.device).split(CHUNK), strict=True)


@torch.no_grad()
def _own(model: ConceptModel, x: Tensor, index: Tensor) -> Tensor | None:
    found: list[Tensor] = []
    for part, at in _parts(x, index):
        where = model(part).concepts.where
        if where is None:
            return None
        found.append(where[torch.arange(len(part), device=where.device)[:, None], at].cpu())
    return torch.cat(found)


def _score(model: ConceptModel, x: Tensor) -> Tensor:
    out = model(x).concepts
    return out.values if out.logits is None else out.logits


def _line(model: ConceptModel, x: Tensor, at: Tensor, times: Tensor, baseline: float) -> Tensor:
    """(B, P, H, W) or (B, P, F): (input - baseline) x the mean gradient at ``times`` on the way."""
    away, grads = x - baseline, torch.zeros(at.shape[1], *x.shape, device=x.device)
    for time in times.tolist():
        inner = (baseline + time * away).detach().requires_grad_()
        with torch.enable_grad():
            score = _score(model, inner)
            if not score.requires_grad:
                raise OptionError("maps: no gradient runs from this model's concepts to its inputs; solver or features cut it")
            picked = score.gather(1, at).sum(0)
            for p in range(at.shape[1]):
                (grad,) = torch.autograd.grad(picked[p], inner, retain_graph=p + 1 < at.shape[1])
                grads[p] += grad / len(times)
    found = (grads * away).transpose(0, 1)
    return (found.sum(2) if x.ndim == 4 else found).cpu()


class Chain(nn.Module):
    """Layers one after another: ``front`` on maps, a maximum or mean over places, ``back`` on numbers."""

    def __init__(self, front: list[nn.Module], most: bool, back: list[nn.Module]) -> None:
        super().__init__()
        self.front, self.most, self.back = nn.Sequential(*front), most, nn.Sequential(*back)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)
        return self.back(x.amax((2, 3)) if self.most else x.mean((2, 3)))


def chain(model: ConceptModel, x: Tensor) -> Chain | None:
    """Copies of the layers that run from pictures x to the concepts; None unless they alone give the concepts' logits."""
    ran: list[nn.Module] = []

    def note(layer: nn.Module, *_: Any) -> None:
        ran.append(layer)

    leaves = [m for part in (model.features, model.bottleneck) for m in part.modules() if not list(m.children())]
    hooks = [m.register_forward_hook(note) for m in leaves]
    with torch.no_grad():
        want = _score(model, x)
    for hook in hooks:
        hook.remove()
    if any(not isinstance(m, LAYERS) for m in ran) or len(set(ran)) < len(ran):
        return None
    ran = [deepcopy(m) for m in ran]
    for layer in ran:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    cut = next((i for i, m in enumerate(ran) if isinstance(m, nn.Linear)), len(ran))
    for most in (True, False):
        made = Chain(ran[:cut], most, ran[cut:]).eval()
        try:
            with torch.no_grad():
                got = made(x)
        except (RuntimeError, IndexError):
            continue
        if got.shape == want.shape and torch.allclose(got, want, atol=1e-4 * (1 + float(want.abs().max()))):
            return made
    return None


def _relevance(model: ConceptModel, x: Tensor, index: Tensor) -> Tensor:
    """(B, P, H, W) by captum's LRP, the epsilon rule on convolutions, batch norms and linear layers."""
    attr = require("captum.attr", "explain")
    layers = chain(model, x[:2]) if x.ndim == 4 else None
    if layers is None:
        raise OptionError(
            "maps, by 'relevance': expected a plain chain of convolutions, batch norms, ReLUs, pools and linear layers up to "
            "the concepts, got another network; take by='integrated'"
        )
    found: list[Tensor] = []
    for part, at in _parts(x, index):
        told = [attr.LRP(layers).attribute(part.clone().requires_grad_(), target=at[:, p]) for p in range(at.shape[1])]
        found.append(torch.stack([each.detach().sum(1).cpu() for each in told], 1))
    return torch.cat(found)
