"""Correction curves against whole products and SciPy's entropies, with and without numba, for weights up to 1000."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from isthmus.errors import DataError, OptionError
from isthmus.numerics import _outcomes, _walk, curves


@contextmanager
def backend(numba: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if not numba:
            for module in (_outcomes, _walk):
                patch.setattr(module, "jitted", lambda function, **options: None)
        yield


def world(seed: int, n: int, k: int, y: int, size: float, dtype: str = "float64") -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    made = {"values": draw.random((n, k)), "weight": size * draw.uniform(-1, 1, (y, k)), "bias": draw.normal(size=y)}
    made["truth"] = draw.integers(0, 2, (n, k)).astype(float)
    return {name: array.astype(dtype) for name, array in made.items()} | {"labels": draw.integers(0, y, n)}


def brute(head: dict[str, Any], criterion: str, low: np.ndarray, high: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Each outcome of each concept written into the values, and the head evaluated whole, in float64."""
    z, w, b = (head[name].astype(float) for name in ("values", "weight", "bias"))
    if criterion == "cctp":
        return chances * np.abs(w).sum(0)
    old, scores = z @ w.T + b, np.zeros(z.shape)
    for j in range(z.shape[1]):
        for value, chance in ((low[j], 1 - chances[:, j]), (high[j], chances[:, j])):
            new = z.copy()
            new[:, j] = value
            logits = new @ w.T + b
            q = softmax(logits, axis=1)
            if criterion == "ectp":
                gain = (q * (log_softmax(logits, axis=1) - log_softmax(old, axis=1))).sum(1)
            else:
                gain = entropy(softmax(old, axis=1), axis=1) - entropy(q, axis=1)
            scores[:, j] += chance * gain
    return scores


@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 6),
    k=st.integers(1, 7),
    y=st.integers(1, 9),
    size=st.sampled_from([0.1, 3.0, 60.0, 1000.0]),
    criterion=st.sampled_from(curves.CRITERIA),
    dtype=st.sampled_from(["float32", "float64"]),
    numba=st.booleans(),
    memory=st.sampled_from([1, 2**24]),
)
@settings(max_examples=120)
def test_scores_are_those_of_whole_heads(
    seed: int, n: int, k: int, y: int, size: float, criterion: str, dtype: str, numba: bool, memory: int
) -> None:
    head, draw = world(seed, n, k, y, size, dtype), np.random.default_rng(seed + 1)
    low, high, chances = (draw.uniform(*ends).astype(dtype) for ends in ((-1, 0, k), (0.5, 2, k), (0, 1, (n, k))))
    with backend(numba):
        found = curves.scores(
            head["values"], head["weight"], criterion, bias=head["bias"], low=low, high=high, chances=chances, memory=memory
        )
    expected = brute(head, criterion, *(array.astype(float) for array in (low, high, chances)))
    tight = 1e-9 if dtype == "float64" else 3e-6
    assert found.dtype == torch.float64 and bool(found.isfinite().all())
    assert found.numpy() == pytest.approx(expected, rel=tight, abs=tight * max(1.0, size / 10))


@pytest.mark.parametrize("criterion", curves.CRITERIA)
def test_numba_changes_scores_by_rounding_alone(criterion: str) -> None:
    pytest.importorskip("numba")
    head = world(0, 60, 30, 40, 2.0, "float32")
    runs = []
    for numba in (True, False):
        with backend(numba):
            runs.append(curves.scores(head["values"], head["weight"], criterion, bias=head["bias"]))
    assert torch.allclose(*runs, atol=2e-6)
    assert (curves.order(runs[0]) == curves.order(runs[1])).double().mean() > 0.999


def direct(head: dict[str, Any], order: np.ndarray, low: Any, high: Any, groups: list[list[int]]) -> np.ndarray:
    """(n, S + 1) whether the class is right, each step a whole product in float64."""
    values, w, b = (head[name].astype(float) for name in ("values", "weight", "bias"))
    truth, right = head["truth"].astype(float), []
    for t in range(order.shape[1] + 1):
        if t:
            for i, group in enumerate(order[:, t - 1]):
                for j in groups[group]:
                    if not np.isnan(truth[i, j]):
                        values[i, j] = low[j] + truth[i, j] * (high[j] - low[j])
        right.append((values @ w.T + b).argmax(1) == head["labels"])
    return np.stack(right, 1)


@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 8),
    k=st.integers(1, 9),
    y=st.integers(1, 6),
    size=st.sampled_from([0.5, 1000.0]),
    dtype=st.sampled_from(["float32", "float64"]),
    grouped=st.booleans(),
    numba=st.booleans(),
    memory=st.sampled_from([1, 2**20]),
)
@settings(max_examples=120)
def test_curves_are_those_of_whole_products(
    seed: int, n: int, k: int, y: int, size: float, dtype: str, grouped: bool, numba: bool, memory: int
) -> None:
    head, draw = world(seed, n, k, y, size, dtype), np.random.default_rng(seed + 1)
    head["truth"][draw.random((n, k)) < 0.2] = np.nan
    low, high = draw.uniform(-1, 0, k).astype(dtype), draw.uniform(0.5, 2, k).astype(dtype)
    groups = (
        [list(part) for part in np.array_split(draw.permutation(k), max(1, k // 2))] if grouped else [[j] for j in range(k)]
    )
    order = draw.permuted(np.tile(np.arange(len(groups)), (n, 1)), axis=1)
    rest: dict[str, Any] = {"bias": head["bias"], "low": low, "high": high, "memory": memory}
    with backend(numba):
        found = curves.corrected(
            head["values"], head["truth"], head["weight"], head["labels"], order, groups=groups if grouped else None, **rest
        )
    assert np.array_equal(found.numpy(), direct(head, order, low, high, groups))


@pytest.mark.parametrize("numba", [True, False])
def test_float32_weights_of_a_thousand_lose_no_close_call(numba: bool) -> None:
    """Classes in pairs that differ by a millionth of their weights: float32 logits would confuse them."""
    head, draw = world(8, 300, 30, 10, 1000.0, "float32"), np.random.default_rng(9)
    head["weight"][1::2] = head["weight"][::2] + draw.uniform(-1e-3, 1e-3, (5, 30)).astype("float32")
    head["bias"] = np.zeros(10, "float32")
    order = draw.permuted(np.tile(np.arange(30), (300, 1)), axis=1)
    with backend(numba):
        found = curves.corrected(head["values"], head["truth"], head["weight"], head["labels"], order)
    single = [[j] for j in range(30)]
    assert np.array_equal(found.numpy(), direct(head, order, np.zeros(30), np.ones(30), single))


@pytest.mark.parametrize("numba", [True, False])
def test_ties_are_broken_by_the_lowest_index(numba: bool) -> None:
    weight = np.tile(np.array([[0.5, -0.25]]), (4, 1))  # four classes that are always equal
    values, truth = np.full((4, 2), 0.5), np.ones((4, 2))
    with backend(numba):
        right = curves.corrected(values, truth, weight, np.arange(4), np.tile([0, 1], (4, 1)))
        found = curves.scores(np.full((2, 5), 0.5), np.ones((3, 5)), "ectp")
    assert right[0].all() and not right[1:].any()
    assert curves.order(found).tolist() == [[0, 1, 2, 3, 4]] * 2
    assert curves.order(np.array([[1.0, 3.0, 3.0, np.inf]])).tolist() == [[3, 1, 2, 0]]


def test_groups_score_the_mean_of_their_members() -> None:
    head = world(3, 5, 6, 4, 2.0)
    groups = [[4], [0, 2, 5], [3, 1]]
    single = curves.scores(head["values"], head["weight"], "eudtp", bias=head["bias"])
    found = curves.scores(head["values"], head["weight"], "eudtp", bias=head["bias"], groups=groups)
    assert torch.allclose(found, torch.stack([single[:, group].mean(1) for group in groups], 1))


@given(
    seed=st.integers(0, 999),
    criterion=st.sampled_from(curves.CRITERIA),
    grouped=st.booleans(),
    numba=st.booleans(),
    m=st.integers(1, 4),
)
@settings(max_examples=30)
def test_greedy_scores_anew_after_every_answer(seed: int, criterion: str, grouped: bool, numba: bool, m: int) -> None:
    n, k = 4, 6
    head, draw = world(seed, n, k, 5, 3.0), np.random.default_rng(seed + 1)
    head["truth"][draw.random((n, k)) < 0.2] = np.nan
    groups = [list(part) for part in np.array_split(draw.permutation(k), [m])] if grouped else [[j] for j in range(k)]
    steps = len(groups)
    arguments = (head["values"], head["truth"], head["weight"], criterion, steps)
    chances = head["values"].copy()
    with backend(numba):
        found = curves.greedy(*arguments, bias=head["bias"], groups=groups if grouped else None)
    now = dict(head, values=head["values"].copy())
    for t in range(steps):
        scores = brute(now, criterion, np.zeros(k), np.ones(k), chances)
        means = np.stack([scores[:, group].mean(1) for group in groups], 1)
        for i in range(n):
            means[i, found[i, :t].numpy()] = -np.inf
            picked = int(found[i, t])
            assert means[i, picked] >= means[i].max() - 1e-9
            for j in groups[picked]:
                if not np.isnan(head["truth"][i, j]):
                    now["values"][i, j] = head["truth"][i, j]
    assert all(sorted(row) == list(range(steps)) for row in found.tolist())


def test_greedy_starts_as_the_scores_say_and_then_differs() -> None:
    head = world(5, 200, 12, 6, 3.0, "float32")
    found = curves.greedy(head["values"], head["truth"], head["weight"], "ectp", 12, bias=head["bias"])
    once = curves.order(curves.scores(head["values"], head["weight"], "ectp", bias=head["bias"]))
    assert torch.equal(found[:, 0], once[:, 0]) and not torch.equal(found, once)


PEAK = """
import resource, sys
import numpy as np
from isthmus.numerics import _outcomes, _walk, curves

call, numba, memory, n, k, y = sys.argv[1], sys.argv[2] == "True", *map(int, sys.argv[3:])
if not numba:
    _outcomes.jitted = _walk.jitted = lambda *_, **__: None

def grown(n):
    draw = np.random.default_rng(0)
    p, w = draw.random((n, k), dtype=np.float32), draw.standard_normal((y, k), dtype=np.float32)
    c, label, order = (p > 0.5).astype(np.float32), draw.integers(0, y, n), np.tile(np.arange(k), (n, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if call == "scores":
        curves.scores(p, w, "eudtp", memory=memory)
    elif call == "corrected":
        curves.corrected(p, c, w, label, order, memory=memory)
    else:
        curves.greedy(p, c, w, "eudtp", 2, memory=memory)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

grown(3)  # what is compiled, loaded and set up once
print(grown(n) * (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.parametrize("numba", [True, False])
@pytest.mark.parametrize(
    ("call", "shape", "arrays"),
    [  # arrays of the size of logits and values that the call may keep: all outcomes would be 24 n k Y bytes, 750 MiB
        ("scores", (4000, 64, 128), 2 * 8 * 4000 * (64 + 128)),
        ("greedy", (4000, 64, 128), 6 * 8 * 4000 * (64 + 128)),
        ("corrected", (200_000, 16, 128), 4 * 200_000 * (128 + 3 * 16)),  # whole, the steps take 400 MiB
    ],
)
def test_memory_bounds_the_peak(call: str, shape: tuple[int, ...], arrays: int, numba: bool) -> None:
    pytest.importorskip("resource", reason="the peak of a process is asked of Unix")
    memory, slack = 2**22, 2**25
    words = [sys.executable, "-c", PEAK, call, str(numba), str(memory), *map(str, shape)]
    grown = int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert grown <= memory + arrays + slack


@pytest.mark.parametrize("numba", [True, False])
def test_threads_change_nothing_that_matters(numba: bool) -> None:
    head, before = world(2, 40, 10, 12, 1.0, "float32"), torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with backend(numba):
                found.append(curves.scores(head["values"], head["weight"], "ectp"))
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(*found, atol=1e-6)


V, W, A, L = np.full((3, 2), 0.5), np.ones((4, 2)), np.zeros((3, 1), int), np.zeros(3, int)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: curves.scores(V * np.nan, W, "ectp"), r"values: expected no NaN, got 6"),
        (lambda: curves.scores(V[0], W, "ectp"), r"values: expected shape \(n, k\), got \(2,\)"),
        (lambda: curves.scores(V, W.T, "ectp"), r"weight: expected shape \(Y, 2\), got \(2, 4\)"),
        (lambda: curves.scores(V, W * np.inf, "ectp"), r"weight: expected finite numbers, got 8 infinite"),
        (lambda: curves.scores(V, W, "entropy"), r"criterion: expected one of cctp, ectp, eudtp, got 'entropy'"),
        (lambda: curves.scores(V + 1, W, "ectp"), r"values: expected chances from 0 to 1, got 1.5 to 1.5; pass chances="),
        (lambda: curves.scores(V, W, "ectp", chances=V - 1), r"chances: expected chances from 0 to 1, got -0.5"),
        (lambda: curves.scores(V, W, "ectp", bias=V[0]), r"bias: expected shape \(4,\), got \(2,\)"),
        (lambda: curves.scores(V, W, "ectp", low=W), r"low: expected shape \(2,\), got \(4, 2\)"),
        (
            lambda: curves.scores(V, W, "ectp", groups=[[0], [0]]),
            r"groups: expected disjoint, non-empty lists of concepts 0 to 1",
        ),
        (lambda: curves.scores(V, W, "ectp", groups=[[0], [2]]), r"groups: expected disjoint"),
        (lambda: curves.scores(V, W, "ectp", memory=0), r"memory: expected a whole number of at least 1, got 0"),
        (lambda: curves.order(V * np.nan), r"found: expected no NaN"),
        (lambda: curves.corrected(V, V + 1, W, L, A), r"truth: expected labels from 0 to 1 or NaN, got 1.5 to 1.5"),
        (lambda: curves.corrected(V, V, W, L, A + 2), r"orders: expected numbers from 0 to 1, got 2 to 2; count from 0"),
        (
            lambda: curves.corrected(V, V, W, L, A * 1.0),
            r"orders: expected whole numbers of shape \(3, 'any'\), got torch.float64",
        ),
        (
            lambda: curves.corrected(V, V, W, L[:2], A),
            r"labels: expected whole numbers of shape \(3,\), got torch.int64 of \(2,\)",
        ),
        (lambda: curves.corrected(V, V, W, L + 4, A), r"labels: expected numbers from 0 to 3, got 4 to 4"),
        (lambda: curves.greedy(V, V, W, "ectp", 3), r"steps: expected a whole number of at least 1 and at most 2, got 3"),
    ],
)
def test_what_does_not_fit_is_named(call: Any, said: str) -> None:
    with pytest.raises((DataError, OptionError), match=said):
        call()


def test_whole_numbers_and_bounds_of_any_kind_are_taken() -> None:
    assert curves.order(np.array([[2**24, 2**24 + 1]])).tolist() == [[1, 0]]
    values, weight = torch.rand(5, 2), torch.randn(3, 2)
    want = curves.scores(values, weight, "ectp", low=0.1)
    for low in (np.float32(0.1), np.float64(0.1), torch.tensor(0.1)):
        torch.testing.assert_close(curves.scores(values, weight, "ectp", low=low), want)
    frozen = values.numpy().copy()
    frozen.flags.writeable = False
    torch.testing.assert_close(curves.scores(frozen, weight, "ectp", low=0.1), want)
    torch.testing.assert_close(curves.scores(values.numpy()[::-1], weight, "ectp", low=0.1), want.flip(0))
