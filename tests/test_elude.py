"""ELUDE: boxes whose labelled and unlabelled parts are known, the convex problem's conditions, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax

from isthmus.elude import _cut, elude, low_rank, objective, shrunk
from isthmus.errors import DataError, IsthmusError


def world(seed: int = 0, n: int = 3000, k: int = 12, d: int = 20, rank: int = 0) -> tuple[np.ndarray, ...]:
    """Answers of a box that reads some attributes, and ``rank`` directions of the features that no attribute names."""
    draw = np.random.default_rng(seed)
    a, f = (draw.random((n, k)) < 0.4).astype(float), draw.normal(size=(n, d))
    w = np.zeros((4, k))
    w[:, :5] = draw.normal(size=(4, 5)) * 6
    plane = np.linalg.qr(draw.normal(size=(d, max(rank, 1))))[0].T[:rank]
    hidden = draw.normal(size=(4, rank)) * 6 @ plane if rank else np.zeros((4, d))
    return (a @ w.T + f @ hidden.T).argmax(1), a, f, plane, w


def test_a_box_that_reads_attributes_alone_is_explained_by_them() -> None:
    said, a, f, _, w = world()
    told = elude(said, a, f)
    assert told.labelled.share > 0.97 and told.labelled.low <= told.labelled.share <= told.labelled.high
    assert told.rank_for(0.95) == 0 and told.chance < 0.6
    assert (np.abs(told.weights[:, 5:]).max(1) < 0.2 * np.abs(told.weights[:, :5]).max(1)).all()
    names = told.named([f"a{k}" for k in range(12)], ["p", "q", "r", "s"], most=2)
    assert all(int(name[1:]) < 5 for pairs in names.values() for name, _ in pairs)
    del w


@pytest.mark.parametrize("rank", [1, 2])
def test_as_many_directions_as_are_hidden_explain_the_rest(rank: int) -> None:
    said, a, f, plane, _ = world(1, rank=rank)
    told = elude(said, a, f, ranks=(1, 2, 3))
    shares = {step.rank: step.share for step in told.curve}
    assert shares[0] < 0.75 and shares[rank] > shares[0] + 0.15
    if 1 in shares and rank == 2:
        assert shares[2] > shares[1]
    exact = elude(said, a, f, ranks=(rank,))
    found = np.linalg.qr(exact.directions.T)[0]
    angles = np.linalg.svd(plane @ found, compute_uv=False)
    assert angles.min() > 0.97
    strongest = exact.directions[0] @ (f - exact.mean).T
    assert set(exact.top[0]) == set(np.argsort(-strongest, kind="stable")[:9])


def test_the_remainder_is_the_least_of_its_objective() -> None:
    draw = np.random.default_rng(3)
    z, offset, hot = draw.normal(size=(60, 4)), draw.normal(size=(60, 3)), np.eye(3)[draw.integers(0, 3, 60)]
    m = low_rank(z, offset, hot, 0.05, np.zeros((3, 4)), steps=5000, tol=1e-12)
    slope = (softmax(offset + z @ m.T, axis=1) - hot).T @ z / 60
    assert np.linalg.norm(slope, 2) <= 0.05 + 1e-5, "the slope's spectral norm is at most the strength"
    assert (slope * m).sum() == pytest.approx(-0.05 * np.linalg.norm(m, "nuc"), abs=1e-5)
    start = np.r_[(draw.normal(size=(3, 3)) * 0.3).ravel(), (draw.normal(size=(3, 4)) * 0.3).ravel()]

    def factored(x: np.ndarray) -> float:
        """The same by factors: the nuclear norm is the least half sum of their squares."""
        u, v = x[:9].reshape(3, 3), x[9:].reshape(3, 4)
        return objective(z, offset, hot, 0.0, u @ v) + 0.05 * ((u**2).sum() + (v**2).sum()) / 2

    best = minimize(factored, start, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-9})
    assert objective(z, offset, hot, 0.05, m) == pytest.approx(best.fun, abs=1e-5)


def test_shrinking_is_the_proximal_step() -> None:
    m = np.diag([3.0, 1.0, 0.2])
    np.testing.assert_allclose(shrunk(m, 0.5), np.diag([2.5, 0.5, 0.0]), atol=1e-12)


def test_it_explains_the_box_and_not_the_truth_on_rows_held_out() -> None:
    said, a, f, _, _ = world(4, n=600)
    noise = np.random.default_rng(0).integers(0, 4, 600)
    assert elude(said, a, f).labelled.share > 0.9
    random = elude(noise, a, f)
    assert random.labelled.share < 0.45 and max(step.share for step in random.curve) < 0.45
    one, two = elude(said, a, f), elude(np.eye(4)[said] * 3.0, a, f)
    assert one.curve == two.curve


def test_bad_input() -> None:
    said, a, f, _, _ = world(5, n=60)
    for call, what in (
        (lambda: elude(said[:5], a, f), "expected answers"),
        (lambda: elude(said, np.where(a > 0, np.nan, a), f), "finite"),
        (lambda: elude(np.zeros(60, int), a, f), "two different answers"),
        (lambda: elude(said, a, f, ranks=()), "ranks"),
        (lambda: elude(said, a, f, slack=-1), "slack"),
    ):
        with pytest.raises(IsthmusError, match=what):
            call()
    with pytest.raises(DataError):
        elude(said[:10], a[:10], f[:10])


def test_features_of_noise_explain_nothing_and_take_nothing_away() -> None:
    """A box of two classes that reads an attribute: a remainder that only fits noise is left out by the choosing rows."""
    draw = np.random.default_rng(0)
    a, f = (draw.random((300, 5)) < 0.5).astype(float), draw.normal(size=(300, 60))
    told = elude(a[:, 0].astype(int), a, f)
    assert [step.share for step in told.curve] == [1.0] * len(told.curve) and len(told.curve) > 2
    assert told.directions.shape == (0, 60) and told.loadings.shape == (2, 0) and told.top.shape == (0, 9)
    assert told.rank_for(0.95) == 0
    few = elude(a[:20, 0].astype(int), a[:20], f[:20])
    assert min(step.share for step in few.curve) >= few.labelled.share


def test_the_remainder_of_each_rank_is_the_one_that_agrees_most_on_the_choosing_rows() -> None:
    from isthmus.elude import remainders

    draw = np.random.default_rng(1)
    z, offset = draw.normal(size=(400, 6)), draw.normal(size=(400, 3)) * 0.1
    y = (offset + 2 * z[:, :1] @ draw.normal(size=(1, 3)) + draw.normal(size=(400, 3))).argmax(1)
    fit, choose = ((z[at], offset[at], y[at]) for at in (slice(0, 60), slice(60, 160)))
    hot = np.eye(3)[fit[2]]
    strongest = np.linalg.norm((softmax(fit[1], axis=1) - hot).T @ fit[0] / 60, 2)
    m, shares = np.zeros((3, 6)), [float((choose[1].argmax(1) == choose[2]).mean())]
    path = strongest * np.geomspace(1, 0.002, 24)
    for strength in path[1:]:
        m = low_rank(*fit[:2], hot, float(strength), m)
        shares.append(float(((choose[1] + choose[0] @ m.T).argmax(1) == choose[2]).mean()))
    strength, found = remainders(fit, choose, [1, 3])[3]
    assert strength == pytest.approx(path[int(np.argmax(shares))]) and np.argmax(shares) < 23
    assert ((choose[1] + choose[0] @ found.T).argmax(1) == choose[2]).mean() == max(shares)


def test_tensors_and_options() -> None:
    import torch

    said, a, f, _, _ = world(5, n=60)
    tensors = elude(torch.tensor(said), torch.tensor(a), torch.tensor(f, requires_grad=True))  # type: ignore[arg-type]
    assert tensors.curve == elude(said, a, f).curve
    with pytest.raises(DataError, match="named: expected names of 12 attributes and 4 classes, got 2 and 1"):
        tensors.named(["a", "b"], ["x"])
    rare = np.zeros(20, dtype=int)
    rare[_cut(20, 0)[2][0]] = 1
    with pytest.raises(DataError, match="elude: expected two answers among the half of rows that fits, got one"):
        elude(rare, a[:20], f[:20], seed=0)
    wrong = {
        "ranks": (3, "12", [1.5]),
        "seed": (-1, 0.5),
        "top": (0, 2.5),
        "slack": ("a", float("nan")),
        "classes": ("x", 0, 2),
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(IsthmusError, match=f"elude: expected .*{name}"):
                elude(said, a, f, **{name: value})  # type: ignore[arg-type]
