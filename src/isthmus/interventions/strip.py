"""What a linear head is shown of rows, and a change of it folded into the head's own weights, exactly and with nothing to save.

A head that adds up, logits = W u + rest, answers on a u + s as one with weights W a and bias b + W s does on u.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.errors import OptionError
from isthmus.given import Given
from isthmus.interventions.handles import linear_of, shown
from isthmus.model import ConceptModel, Concepts
from isthmus.train import CHUNK


@dataclass(frozen=True)
class Strip:
    """Rows as a linear head reads them, in float64.

    ``u`` (n, K) what it is shown of the concepts, ``weights`` (Y, K), ``rest`` (n, Y) all else in the logits: the bias and what
    passes beside the concepts; ``values`` (n, K) what a person reads. logits = u @ weights.T + rest.
    """

    u: Tensor
    weights: Tensor
    rest: Tensor
    values: Tensor

    def logits(self, u: Tensor | None = None) -> Tensor:
        """(n, Y) of what was shown, or of ``u`` (n, K) in its place."""
        return (self.u if u is None else u) @ self.weights.T + self.rest


@torch.no_grad()
def strip(model: ConceptModel, z: Tensor, edit: str) -> Strip:
    """Features z (n, D) -> ``Strip`` on the CPU; ``OptionError`` where the model's answer is no plain sum over concepts."""
    weights = linear_of(model, edit).weight.detach().cpu().double()
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for part in z.split(CHUNK):
        out = model.answer(part.to(model.device))
        held = model.head.remainder(out.concepts, out.features)  # pyright: ignore[reportCallIssue]
        u, logits, held = (t.cpu().double() for t in (shown(model, out.concepts, edit), out.logits, held))
        rest = logits - u @ weights.T
        if float((rest - held).abs().max()) > 1e-4 * (1 + float(logits.abs().max())):
            raise OptionError(f"{edit}: this model's answer is no plain sum over its concepts; edit one with a linear head")
        parts.append((u, rest, model.bottleneck.read(out.concepts.values).cpu().double()))
    u, rest, values = (torch.cat(each) for each in zip(*parts, strict=True))
    return Strip(u, weights, rest, values)


@torch.no_grad()
def absent(model: ConceptModel, edit: str) -> Tensor:
    """(K,) float64: what the head is shown where a concept is absent, as a correction writes 0; of a number, its center."""
    space = model.space
    zero = torch.where(space.continuous, space.centers, 0.0)[None].to(model.device)
    written = model.bottleneck.value_of(Given(zero, torch.ones_like(zero, dtype=torch.bool)))
    return shown(model, Concepts(written.expand(1, -1)), edit)[0].cpu().double()


@torch.no_grad()
def fold(model: ConceptModel, scale: Tensor, shift: Tensor, edit: str) -> None:
    """Make the head answer on ``scale`` * u + ``shift``, each (K,), where it answered on u."""
    layer = linear_of(model, edit)
    weights = layer.weight.double()
    layer.bias.copy_(layer.bias.double() + weights @ shift.to(weights))
    layer.weight.copy_(weights * scale.to(weights))
