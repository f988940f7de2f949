"""A TopK step at d=512, L=8192, k=32, 2048 rows, float32: loss and all gradients, no optimiser.

Incumbents: 'dense autograd', every code decoded, which is what sparse autoencoders' training code does on a CPU; 'embedding
bag', the same repaired, whose decoder is torch's sparse sum; and, where it is installed beside, dictionary_learning's own
TopK class. The roof of a step is its encoder's product, which is timed alone. Gradients are compared on rows whose k-th code
is clear of the next, for elsewhere two right answers differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cases import Row, alternate, case
from bench.roof import against
from isthmus.numerics import _codes, _sparse, dictionary
from isthmus.numerics._jit import compiled
from isthmus.numerics.dictionary import BatchTopK, Dictionary, JumpReLU, ReLU, TopK

ROWS, WIDTH, UNITS, KEPT = 2048, 512, 8192, 32
CLEAR = 1e-5  # the least distance of the k-th code from the next


def world(rows: int, width: int, units: int, kept: int) -> tuple[Tensor, Dictionary]:
    """Rows made of few atoms and noise, and a dictionary a little away from its start; rows clear of ties only."""
    draw = torch.Generator().manual_seed(0)
    d = dictionary.initial(width, units, center=torch.randn(width, generator=draw) / 10)
    z = torch.zeros(2 * rows, units).scatter(1, torch.randint(units, (2 * rows, kept // 2), generator=draw), 1.0)
    x = z @ d.atoms + d.center + 0.3 * torch.randn(2 * rows, width, generator=draw)
    d = Dictionary(d.encoder + 0.01 * torch.randn(units, width, generator=draw), d.bias, d.atoms, d.center)
    top = ((x - d.center) @ d.encoder.T).topk(kept + 1).values
    return x[top[:, -2] - top[:, -1] > CLEAR][:rows].contiguous(), d


def autograd(x: Tensor, d: Dictionary, kept: int, sparse: bool) -> Callable[[], tuple[Tensor, ...]]:
    """The step by autograd: the decoder a product with all codes, or a sum over a bag of atoms."""
    parts = [part.clone().requires_grad_() for part in (d.encoder, d.bias, d.atoms, d.center)]
    encoder, bias, atoms, center = parts

    def run() -> tuple[Tensor, ...]:
        pre = F.linear(x - center, encoder, bias)
        value, unit = pre.topk(kept)
        value = value.relu()
        if sparse:
            found = F.embedding_bag(unit, atoms, per_sample_weights=value, mode="sum")
        else:
            found = torch.zeros_like(pre).scatter(1, unit, value) @ atoms
        return torch.autograd.grad((found + center - x).square().sum(1).mean(), parts)

    return run


def package(x: Tensor, d: Dictionary, kept: int) -> Callable[[], object] | None:
    """dictionary_learning's AutoEncoderTopK with the same weights, or None where it is not installed."""
    try:
        module: Any = import_module("dictionary_learning.trainers.top_k")
    except ImportError:
        return None
    model = module.AutoEncoderTopK(x.shape[1], len(d.bias), kept)
    with torch.no_grad():
        model.encoder.weight.copy_(d.encoder)
        model.decoder.weight.copy_(d.atoms.T)

    def run() -> None:
        model.zero_grad()
        (model(x) - x).square().sum(1).mean().backward()

    return run


def distance(found: Dictionary, grads: tuple[Tensor, ...]) -> float:
    """The largest relative distance of a field's gradient."""
    ours = (found.encoder, found.bias, found.atoms, found.center)
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours, grads, strict=True))


def plain(run: Callable[[], object]) -> Callable[[], object]:
    """As it runs without numba."""

    def without() -> object:
        kept = _codes.compiled, _sparse.compiled
        _codes.compiled = _sparse.compiled = lambda _: False  # type: ignore[assignment]
        try:
            return run()
        finally:
            _codes.compiled, _sparse.compiled = kept

    return without


@case("dictionary", "a step of a TopK dictionary against autograd and its own encoder product, one thread")
def run(quick: bool) -> Iterator[Row]:
    """Time against each incumbent, with and without numba; gradients; the other activations beside."""
    shape = (256, 256, 2048, 16) if quick else (ROWS, WIDTH, UNITS, KEPT)
    x, d = world(*shape)
    rows, width, units, kept = shape
    repeats = 3 if quick else 7
    dense = autograd(x, d, kept, sparse=False)
    incumbents: dict[str, tuple[Callable[[], object], float]] = {
        "dense autograd": (dense, 1.0),
        "embedding bag": (autograd(x, d, kept, sparse=True), 1.0),
        "its encode product": (lambda: F.linear(x, d.encoder, d.bias), 1.0),
    }
    theirs = package(x, d, kept)
    if theirs is not None:
        incumbents["dictionary_learning"] = (theirs, 1.0)
    limits = {} if quick else {"dense autograd": 1 / 4.4, "its encode product": 1.25}
    known = {} if quick else {"dense autograd": rows / 1285}  # tokens a second
    out = dictionary.step(x, d, TopK(kept)).gradient
    ours = lambda: dictionary.step(x, d, TopK(kept), out=out)  # noqa: E731
    name, operations = f"TopK {rows} x {width} x {units}, {kept} kept", 2.0 * rows * width * units
    note = "operations: the encode product"
    if compiled(x):
        label = f"{name}, with numba"
        yield from against(
            label, ours, incumbents, repeats=repeats, operations=operations, limits=limits, known=known, note=note
        )
    yield from against(f"{name}, without numba", plain(ours), incumbents, repeats=repeats, operations=operations, note=note)
    grads = dense()
    note = f"largest of four fields; the {rows} rows have a k-th code at least {CLEAR:g} from the next"
    yield Row(f"{name}: gradient against autograd", distance(ours().gradient, grads), "relative", limit=1e-6, note=note)
    far = distance(plain(ours)().gradient, grads)  # type: ignore[attr-defined]
    yield Row(f"{name}: gradient without numba", far, "relative", limit=1e-6)
    seconds = alternate({"ours": lambda: ours}, repeats)["ours"]
    yield Row(f"{name}: a thousand rows", 1e3 * median(seconds) / rows, "s", beside={"rows a second": rows / median(seconds)})
    exact = Dictionary(*(part.double() for part in (d.encoder, d.bias, d.atoms, d.center)))
    few = x[:256].double()
    found = dictionary.step(few, exact, TopK(kept)).gradient
    far = distance(found, autograd(few, exact, kept, sparse=False)())
    yield Row(f"{name}: the same in float64", far, "relative", limit=1e-12, note="256 rows")
    yield from others(x, d, kept, repeats)


def others(x: Tensor, d: Dictionary, kept: int, repeats: int) -> Iterator[Row]:
    """The other activations at about as many codes, against the encoder's product."""
    least = dictionary.step(x, d, BatchTopK(kept)).least
    level = Dictionary(d.encoder, d.bias, d.atoms, d.center, least.expand(len(d.bias)).contiguous())
    shifted = Dictionary(d.encoder, d.bias - least, d.atoms, d.center)
    product: dict[str, tuple[Callable[[], object], float]] = {
        "its encode product": (lambda: F.linear(x, d.encoder, d.bias), 1.0)
    }
    dead, out = torch.arange(len(d.bias)) % 16 == 0, dictionary.step(x, d, TopK(kept)).gradient
    runs: dict[str, Callable[[], object]] = {
        "BatchTopK": lambda: dictionary.step(x, d, BatchTopK(kept), out=out),
        "JumpReLU": lambda: dictionary.step(x, level, JumpReLU(l0=0.01, bandwidth=0.05), out=out),
        "ReLU": lambda: dictionary.step(x, shifted, ReLU(l1=0.01), out=out),
        "TopK, a 16th of the units dead": lambda: dictionary.step(x, d, TopK(kept), dead=dead, out=out),
    }
    for name, run in runs.items():
        yield from against(
            name, run, product, repeats=repeats, operations=2.0 * x.numel() * len(d.bias), note="with numba where installed"
        )
