"""Dictionary steps against autograd on the dense form, brute force for what is kept, and each road against the others."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from isthmus.errors import DataError, OptionError
from isthmus.numerics import _codes, _sparse, dictionary
from isthmus.numerics.dictionary import BatchTopK, Dictionary, JumpReLU, ReLU, TopK

KINDS: tuple[dictionary.Activation, ...] = (
    TopK(4),
    BatchTopK(4),
    ReLU(0.1),
    ReLU(),
    JumpReLU(0.05, 0.2),
)


class Jump(torch.autograd.Function):
    """JumpReLU and its step as Rajamanoharan et al. give them: kernel estimates for the threshold alone."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, theta: Tensor, width: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pre, theta)
        ctx.width = width
        on = (pre > theta).to(pre)
        return pre * on, on

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, theta = ctx.saved_tensors
        near = (((pre - theta) / ctx.width).abs() < 0.5) & (pre > 0)
        by = -near.to(pre) / ctx.width * (theta * slopes[0] + slopes[1])
        return slopes[0] * (pre > theta), by.sum(0), None


def dense(
    x: Tensor, d: Dictionary, kind: dictionary.Activation, dead: Tensor | None = None, most: int = 8, aux: float = 1 / 32
) -> tuple[Tensor, Dictionary]:
    """Loss and gradient by autograd, every code decoded."""
    parts = {name: part.clone().requires_grad_() for name, part in vars(d).items() if part is not None}
    pre = (x - parts["center"]) @ parts["encoder"].T + parts["bias"]
    cost = x.new_zeros(())
    if isinstance(kind, TopK):
        value, unit = pre.topk(kind.k)
        z = torch.zeros_like(pre).scatter(1, unit, value.relu())
    elif isinstance(kind, BatchTopK):
        value, place = pre.relu().flatten().topk(kind.k * len(x))
        z = torch.zeros_like(pre).flatten().scatter(0, place, value).view_as(pre)
    elif isinstance(kind, ReLU):
        z = pre.relu()
        cost = kind.l1 * z.sum(1).mean()
    else:
        z, on = Jump.apply(pre, parts["threshold"], kind.bandwidth)  # type: ignore[misc]
        cost = kind.l0 * on.sum(1).mean()
    found = z @ parts["atoms"] + parts["center"]
    loss = (found - x).square().sum(1).mean() + cost
    if dead is not None:
        idle = pre[:, dead]
        value, unit = idle.topk(min(most, idle.shape[1]))
        again = torch.zeros_like(idle).scatter(1, unit, value.relu()) @ parts["atoms"][dead]
        loss = loss + aux * (again - (x - found).detach()).square().sum(1).mean()
    grads = torch.autograd.grad(loss, list(parts.values()), allow_unused=True)
    every = {name: torch.zeros_like(parts[name]) if g is None else g for name, g in zip(parts, grads, strict=True)}
    return loss.detach(), Dictionary(**every)


def world(
    rows: int = 50, width: int = 16, size: int = 64, kind: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensor, Dictionary]:
    """Rows, and a dictionary that has been moved away from its start; thresholds about the size of codes."""
    draw = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(kind)

    x, d = noise(rows, width) + 0.3, dictionary.initial(width, size, center=noise(width) / 4, seed=seed)
    level = 0.3 + noise(size).abs()
    return x, Dictionary(d.encoder + noise(size, width) / 8, noise(size) / 8, d.atoms + noise(size, width) / 8, d.center, level)


def apart(found: Dictionary, wanted: Dictionary) -> dict[str, float]:
    """Relative distance, field by field."""
    return {
        name: float((getattr(found, name) - part).norm() / part.norm().clamp_min(1e-12))
        for name, part in vars(wanted).items()
        if part is not None and getattr(found, name) is not None
    }


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where numba is not installed."""
    for module in (_codes, _sparse):
        monkeypatch.setattr(module, "compiled", lambda _: False)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("revive", [False, True])
@pytest.mark.parametrize(("precision", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_a_step_is_the_gradient_of_the_dense_loss(
    kind: dictionary.Activation, revive: bool, precision: torch.dtype, limit: float
) -> None:
    x, d = world(kind=precision)
    d = d if isinstance(kind, JumpReLU) else replace(d, threshold=None)
    dead = torch.arange(64) % 3 == 0 if revive else None
    loss, wanted = dense(x, d, kind, dead)
    found = dictionary.step(x, d, kind, dead=dead, aux_k=8)
    assert float(found.loss) == pytest.approx(float(loss), rel=limit)
    assert max(apart(found.gradient, wanted).values()) < limit
    assert (found.gradient.threshold is None) == (not isinstance(kind, JumpReLU))
    if revive:
        assert float(found.aux) > 0
        still = dictionary.step(x, d, kind)
        assert max(apart(still.gradient, wanted).values()) > 1e-4  # the dead units' share is seen
    codes = dictionary.encode(x, d, kind)
    assert torch.equal(codes.dense().gt(0).sum(0), found.fired)
    again = dictionary.decode(codes, d)
    torch.testing.assert_close((again - x).square().sum(1), found.errors)


@given(
    rows=st.integers(1, 9),
    width=st.integers(1, 9),
    size=st.integers(1, 40),
    k=st.integers(1, 40),
    seed=st.integers(0, 9),
    kind=st.sampled_from(["topk", "batch", "relu", "jump"]),
)
@settings(deadline=None, max_examples=80)
def test_any_shape(rows: int, width: int, size: int, k: int, seed: int, kind: str) -> None:
    x, d = world(rows, width, size, seed=seed)
    k = min(k, size)
    activation = {"topk": TopK(k), "batch": BatchTopK(k), "relu": ReLU(0.01 * k), "jump": JumpReLU(0.1, 0.5)}[kind]
    loss, wanted = dense(x, d, activation)
    found = dictionary.step(x, d, activation)
    assert float(found.loss) == pytest.approx(float(loss), rel=1e-10)
    assert max(apart(found.gradient, wanted).values()) < 1e-9


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_roads_agree(kind: dictionary.Activation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled or not, few rows at a time or all, one thread or two, sparse products or plain ones."""
    x, d = world(kind=torch.float32)
    dead = torch.arange(64) < 9
    first = dictionary.step(x, d, kind, dead=dead)
    for full in (0.0, 1.0):
        monkeypatch.setattr(dictionary, "FULL", full)
        for memory in (1, 7 * 64 * 4, 1 << 20):
            found = dictionary.step(x, d, kind, dead=dead, memory=memory)
            assert max(apart(found.gradient, first.gradient).values()) < 1e-6
            assert torch.equal(found.fired, first.fired)
            assert float(found.least) == pytest.approx(float(first.least), abs=1e-6)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = dictionary.step(x, d, kind, dead=dead)
    finally:
        torch.set_num_threads(threads)
    assert max(apart(found.gradient, first.gradient).values()) < 1e-6
    without(monkeypatch)
    found = dictionary.step(x, d, kind, dead=dead)
    assert max(apart(found.gradient, first.gradient).values()) < 1e-6
    assert torch.equal(found.fired, first.fired)


@given(
    rows=st.integers(1, 6),
    size=st.integers(1, 300),
    k=st.integers(1, 300),
    ties=st.booleans(),
    plain=st.booleans(),
    wide=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=150)
def test_what_is_kept(rows: int, size: int, k: int, ties: bool, plain: bool, wide: bool, seed: int) -> None:
    """Brute force, ties by the first: the largest of a row, of all rows, and those above a threshold."""
    pre = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64 if wide else torch.float32)
    pre = (2 * pre).round() if ties else pre
    k = min(k, size)
    with pytest.MonkeyPatch.context() as patch:
        if plain:
            without(patch)
        kept = _codes.largest(pre, k)
        all_kept = _codes.largest_of_all(pre, rows * k // 2 + 1)
        high = _codes.above(pre, torch.linspace(-1, 1, size))
    for r, row in enumerate(pre.numpy()):
        best = np.argsort(-row, kind="stable")[:k]
        part = slice(int(kept.start[r]), int(kept.start[r + 1]))
        assert kept.unit[part].tolist() == sorted(best[row[best] > 0].tolist())
        assert kept.pre[part].tolist() == row[kept.unit[part].numpy()].tolist()
        part = slice(int(high.start[r]), int(high.start[r + 1]))
        assert high.unit[part].tolist() == [j for j in range(size) if row[j] > max(0.0, float(torch.linspace(-1, 1, size)[j]))]
    flat = pre.numpy().ravel()
    best = np.argsort(-flat, kind="stable")[: rows * k // 2 + 1]
    assert (all_kept.row * size + all_kept.unit).tolist() == sorted(best[flat[best] > 0].tolist())
    assert all_kept.start.tolist() == [0, *np.bincount(all_kept.row.numpy(), minlength=rows).cumsum().tolist()]


def test_the_gradient_predicts_the_loss() -> None:
    """Away from ties, a short step along the gradient changes the loss by its square."""
    x, d = world()
    found = dictionary.step(x, d, TopK(4), dead=None)
    square = sum(float(part.square().sum()) for part in vars(found.gradient).values() if part is not None)
    t = 1e-7
    moved = {name: getattr(d, name) - t * part for name, part in vars(found.gradient).items() if part is not None}
    fell = float(found.loss - dictionary.step(x, Dictionary(**moved), TopK(4)).loss)
    assert fell == pytest.approx(t * square, rel=1e-4)


def test_rows_without_a_positive_code() -> None:
    x, d = world()
    silent = replace(d, bias=torch.full_like(d.bias, -100.0))
    for kind in KINDS:
        found = dictionary.step(x, silent, kind, dead=torch.ones(64, dtype=torch.bool))
        torch.testing.assert_close(found.errors, (x - d.center).square().sum(1))
        assert int(found.fired.sum()) == 0
        assert float(found.least) == 0
        assert float(found.gradient.atoms.abs().max()) == 0
        assert len(dictionary.encode(x, silent, kind).value) == 0


def test_a_batch_shares_its_codes_and_a_threshold_replaces_it() -> None:
    x, d = world()
    codes = dictionary.encode(x, d, BatchTopK(4))
    counts = codes.start.diff()
    assert int(counts.sum()) == 4 * len(x)
    assert int(counts.min()) < 4 < int(counts.max())
    least = dictionary.step(x, d, BatchTopK(4)).least
    assert float(codes.value.min()) == float(least)
    alone = dictionary.encode(x, replace(d, threshold=(least * (1 - 1e-9)).expand(64)), JumpReLU())
    assert torch.equal(alone.dense(), codes.dense())
    assert not torch.equal(dictionary.encode(x[:5], d, BatchTopK(4)).dense(), codes.dense()[:5])


def test_dead_units_begin_anew_at_rows_explained_badly() -> None:
    x, d = world(kind=torch.float32)
    dead = torch.arange(64) < 5
    errors = torch.zeros(50)
    errors[7], errors[9] = 1.0, 1e-4
    fresh, changed = dictionary.resample(x, d, dead, errors)
    assert changed.tolist() == [0, 1, 2, 3, 4]
    unit = (x[7] - d.center) / (x[7] - d.center).norm()
    torch.testing.assert_close(fresh.atoms[:5], unit.expand(5, -1))
    torch.testing.assert_close(fresh.encoder[:5], 0.2 * d.encoder[5:].norm(dim=1).mean() * unit.expand(5, -1))
    assert fresh.bias[:5].tolist() == [0] * 5
    for name, part in vars(d).items():
        if name != "center":
            assert torch.equal(getattr(fresh, name)[5:], part[5:])
    plain, _ = dictionary.resample(x, d, dead, errors, centred=False)
    torch.testing.assert_close(plain.atoms[:5], (x[7] / x[7].norm()).expand(5, -1))
    for nothing, error in ((torch.zeros(64, dtype=torch.bool), errors), (dead, torch.zeros(50))):
        same, none = dictionary.resample(x, d, nothing, error)
        assert len(none) == 0
        assert torch.equal(same.atoms, d.atoms)
    every, _ = dictionary.resample(x, d, torch.ones(64, dtype=torch.bool), errors)
    torch.testing.assert_close(every.encoder.norm(dim=1), torch.full((64,), 0.2))


def test_units_begun_anew_fire_where_they_were_drawn() -> None:
    """Also where the rows share a mean: their atoms are no copies of it, and under TopK a share of 1 lets them in."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(500, 32, generator=draw) + 3
    d = dictionary.initial(32, 128, center=x.mean(0))
    dead = torch.arange(128) < 16
    d = replace(d, bias=torch.where(dead, -100.0, d.bias))
    for kind, share in ((TopK(8), 1.0), (ReLU(), 0.2)):
        before = dictionary.step(x, d, kind)
        fresh, _ = dictionary.resample(x, d, dead, before.errors, share=share)
        after = dictionary.step(x, fresh, kind)
        assert int(before.fired[dead].sum()) == 0
        assert int((after.fired[dead] > 0).sum()) >= 14
    alike = (fresh.atoms[:16] @ fresh.atoms[:16].T).fill_diagonal_(0).abs().mean()
    assert float(alike) < 0.4


def test_atoms_kept_at_length_one() -> None:
    _, d = world()
    slope = torch.randn(64, 16, dtype=torch.float64)
    found = dictionary.tangent(slope, d.atoms)
    assert float((found * d.atoms).sum(1).abs().max()) < 1e-12
    torch.testing.assert_close(dictionary.tangent(slope, torch.zeros_like(slope)), slope)
    with pytest.raises(DataError, match="gradient: expected shape"):
        dictionary.tangent(slope[:1], d.atoms)
    torch.testing.assert_close(dictionary.normalised(3 * d.atoms).norm(dim=1), torch.ones(64, dtype=torch.float64))
    assert float(dictionary.normalised(torch.zeros(2, 3)).abs().max()) == 0


def test_planted_atoms_are_found() -> None:
    """Rows of three of 24 atoms each: trained with Adam, atoms kept at length 1, nearly all are found again."""
    draw = torch.Generator().manual_seed(0)
    truth = dictionary.normalised(torch.randn(24, 16, generator=draw))
    chosen = torch.rand(2000, 24, generator=draw).topk(3).indices
    z = torch.zeros(2000, 24).scatter(1, chosen, 0.5 + torch.rand(2000, 3, generator=draw))
    x = z @ truth
    d = dictionary.initial(16, 32, seed=1)
    parts = [torch.nn.Parameter(part) for part in (d.encoder, d.bias, d.atoms, d.center)]
    optimiser, idle = torch.optim.Adam(parts, lr=5e-3), torch.zeros(32, dtype=torch.int64)
    for turn in range(600):
        index = torch.randint(2000, (256,), generator=draw)
        found = dictionary.step(x[index], Dictionary(*parts), TopK(3), dead=idle > 5000)
        idle = torch.where(found.fired > 0, 0, idle + 256)
        slope = replace(found.gradient, atoms=dictionary.tangent(found.gradient.atoms, parts[2].detach()))
        for part, by in zip(parts, (slope.encoder, slope.bias, slope.atoms, slope.center), strict=True):
            part.grad = by
        optimiser.step()
        parts[2].data = dictionary.normalised(parts[2].data)
        if turn == 0:
            before = float(found.error)
    best = (truth @ parts[2].detach().T).max(1).values
    assert float(found.error) < 0.1 * before
    assert float((best > 0.95).float().mean()) > 0.8


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": torch.full((3, 16), torch.nan)}, "x: expected no NaN"),
        ({"x": torch.zeros(3, 15)}, r"x: expected shape \(B, 16\), got \(3, 15\)"),
        ({"d": {"bias": torch.zeros(63, dtype=torch.float64)}}, r"bias: expected shape \(64,\), got \(63,\)"),
        ({"d": {"atoms": torch.zeros(64, 16)}}, "atoms: expected torch.float64"),
        ({"d": {"threshold": None}, "kind": JumpReLU()}, "JumpReLU needs a threshold"),
        ({"d": {"threshold": torch.zeros(64, dtype=torch.float64)}}, "threshold: expected numbers above 0"),
        ({"d": {"atoms": torch.full((64, 16), torch.nan, dtype=torch.float64)}}, "atoms: expected finite numbers"),
        ({"d": {"encoder": torch.full((64, 16), torch.inf, dtype=torch.float64)}}, "encoder: expected finite numbers"),
        ({"d": {"encoder": torch.full((64, 16), 1e300, dtype=torch.float64)}}, "expected a finite loss"),
        ({"kind": TopK}, "activation: expected TopK"),
        ({"kind": "topk"}, "activation: expected TopK"),
        ({"dead": torch.zeros(64)}, r"dead: expected \(64,\) bool"),
        ({"kind": TopK(65)}, "k: expected at most 64"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], told: str) -> None:
    x, d = world()
    with pytest.raises((DataError, OptionError), match=told):
        dictionary.step(
            change.get("x", x), replace(d, **change.get("d", {})), change.get("kind", TopK(4)), dead=change.get("dead")
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: TopK(0),
        lambda: TopK(2.5),  # type: ignore[arg-type]
        lambda: TopK(float("nan")),  # type: ignore[arg-type]
        lambda: TopK(None),  # type: ignore[arg-type]
        lambda: BatchTopK(-1),
        lambda: ReLU(-1.0),
        lambda: JumpReLU(bandwidth=0.0),
        lambda: JumpReLU(l0=-1.0),
    ],
)
def test_options_have_ranges(make: Any) -> None:
    with pytest.raises(OptionError, match="expected a"):
        make()


def test_arrays_are_taken_and_codes_of_another_dictionary_refused() -> None:
    x, d = world()
    arrays = Dictionary(**{name: part.numpy() for name, part in vars(d).items()})
    found, same = (dictionary.step(rows, each, TopK(4)) for rows, each in ((x.numpy(), arrays), (x, d)))
    assert torch.equal(found.gradient.encoder, same.gradient.encoder)
    with pytest.raises(DataError, match="expected 64 units"):
        dictionary.decode(replace(dictionary.encode(x, d, TopK(4)), size=65), d)


def test_arrays_of_an_earlier_gradient_are_used_again() -> None:
    x, d = world(kind=torch.float32)
    for kind in KINDS:
        fresh = dictionary.step(x, d, kind)
        old = dictionary.step(x[:9] * 2, d, TopK(3)).gradient
        again = dictionary.step(x, d, kind, out=old)
        assert max(apart(again.gradient, fresh.gradient).values()) == 0
    shared = replace(old, encoder=old.atoms)
    crossed = replace(old, encoder=d.atoms, atoms=d.encoder)
    for bad in (d, crossed, shared, replace(old, atoms=old.atoms[:5]), replace(old, bias=old.bias.double())):
        with pytest.raises(DataError, match="out: expected the gradient"):
            dictionary.step(x, d, TopK(3), out=bad)


HERE = "import os; os.environ['TRITON_INTERPRET'] = '1'"


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_triton_kernels_interpreted() -> None:
    """In a process of its own, for Triton reads the variable when it is imported: a whole step, and the two products."""
    code = f"""{HERE}
import torch
from isthmus.numerics import _codes, _sparse, _triton, dictionary
from tests.numerics.test_dictionary import KINDS, apart, dense, world
_codes.compiled = _sparse.compiled = lambda _: False
for kind in KINDS:
    x, d = world(6, 5, 20)
    assert _triton.usable(x)
    dead = torch.arange(20) < 7
    loss, wanted = dense(x, d, kind, dead)
    found = dictionary.step(x, d, kind, dead=dead, aux_k=8)
    assert abs(float(found.loss - loss)) < 1e-10, kind
    assert max(apart(found.gradient, wanted).values()) < 1e-10, kind
start, index, weight, table = torch.tensor([0, 2, 2, 3]), torch.tensor([1, 0, 1]), torch.randn(3), torch.randn(2, 1500)
sums = _triton.bags(start, index, weight, table)
torch.testing.assert_close(sums, torch.stack([weight[0] * table[1] + weight[1] * table[0], 0 * table[0], weight[2] * table[1]]))
products = _triton.dots(torch.tensor([2, 0]), torch.tensor([1, 1]), sums, table)
torch.testing.assert_close(products, (sums[[2, 0]] * table[1]).sum(1))
print("interpreted")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert "interpreted" in done.stdout, done.stderr


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_triton_kernels_compile_for_a_gpu() -> None:
    """To machine code for compute capability 9.0, which needs no GPU."""
    code = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from isthmus.numerics import _triton
for name, first in (("bags", ("start", "index", "weight", "table", "out")), ("dots", ("row", "index", "left", "table", "out"))):
    for number in ("*fp32", "*fp64"):
        kinds = {part: "*i64" if part in ("start", "index", "row") else number for part in first}
        kinds |= {"d": "i32", "BLOCK": "constexpr"}
        source = ASTSource(fn=getattr(_triton.kernels(), name), signature=kinds, constexprs={"BLOCK": 512})
        assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
print("compiled")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert "compiled" in done.stdout, done.stderr
