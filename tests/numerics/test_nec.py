"""Numbers of effective concepts: the exact cut, fewer columns than are wanted, and the strongest penalty by its formula."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from isthmus.errors import OptionError
from isthmus.numerics import elastic_net
from tests.numerics.test_elastic_net import world


def strongest(x: np.ndarray, y: np.ndarray, ratio: float, group: bool) -> float:
    """max over k (and c) of |sum_i x_ik (1[y_i = c] - p_c)| / n / max(.001, ratio); grouped: the norm over c."""
    x = (x - x.mean(0)) / x.std(0)
    share = np.eye(int(y.max()) + 1)[y] - np.bincount(y) / len(y)
    cells = np.array([[(x[:, k] * share[:, c]).sum() / len(y) for c in range(share.shape[1])] for k in range(x.shape[1])])
    size = np.linalg.norm(cells, axis=1).max() / share.shape[1] ** 0.5 if group else np.abs(cells).max()
    return size / max(0.001, ratio)


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("ratio", [1.0, 0.99, 0.5])
def test_the_strongest_penalty_is_that_of_its_formula(ratio: float, group: bool) -> None:
    """Grouped heads weigh a column's norm by the root of the number of classes, as group lassos do."""
    x, y = world(4)
    found = elastic_net.strongest(x, y, l1_ratio=ratio, group_ratio=float(group))
    assert found == pytest.approx(strongest(x, y, ratio, group), rel=1e-6)
    above, below = (
        elastic_net.fit(x, y, lam=found * f, l1_ratio=ratio, group_ratio=float(group), tol=1e-9) for f in (1.0001, 0.98)
    )
    assert above.nec == 0 < below.nec
    prior = np.log(np.bincount(y) / len(y))
    assert above.bias - above.bias.mean() == pytest.approx(prior - prior.mean(), abs=1e-3)


@pytest.mark.parametrize("group", [0.5, 1.0])
def test_a_column_of_zeros_survives_groups(group: float) -> None:
    """The reference divides 0 by 0 there."""
    x, y = world(5)
    wide = np.c_[x, np.zeros(len(x)), np.full(len(x), 3.3)]
    head, alone = (elastic_net.fit(each, y, lam=0.02, group_ratio=group) for each in (wide, x))
    assert np.isfinite(head.weights).all() and (head.weights[:, -2:] == 0).all()
    assert head.objective == pytest.approx(alone.objective, rel=1e-4)
    if group == 1.0:
        assert set((head.weights != 0).sum(0)) <= {0, 4} and 0 in (head.weights[:, :-2] != 0).sum(0)


def test_a_path_grows_almost_monotonically() -> None:
    heads = elastic_net.path(*world(6, n=500, d=25), points=12, least=0.02)
    assert all(b.nec >= a.nec - 1 for a, b in pairwise(heads)) and heads[-1].nec > 5


def head(y: int, k: int, seed: int = 0, scale: bool = True) -> elastic_net.Fit:
    """Weights without ties, on columns of unequal scale."""
    g = torch.Generator().manual_seed(seed)
    size = torch.rand(k, generator=g) + 0.2 if scale else torch.ones(k)
    made = elastic_net.fit(torch.randn(40, k, generator=g), torch.arange(40) % y, lam=10.0)
    return replace(made, weights=torch.randn(y, k, generator=g), scale=size)


@pytest.mark.parametrize(("y", "k"), [(2, 7), (10, 17), (3, 30), (7, 143), (100, 12)])
def test_the_cut_leaves_exactly_t_a_class_and_the_largest(y: int, k: int) -> None:
    """Also where float rounding of (1 - t / K) C K keeps one more in the reference. Over the whole matrix, not row by row."""
    made = head(y, k)
    size = (made.weights * made.scale).abs()
    for t in range(k + 1):
        cut = elastic_net.truncate(made, t)
        assert int((cut != 0).sum()) == t * y
        kept = cut != 0
        assert torch.equal(cut[kept], made.weights[kept])
        assert t in (0, k) or float(size[kept].min()) > float(size[~kept].max())
    several = {len(set((elastic_net.truncate(made, t) != 0).sum(1).tolist())) for t in range(1, k)}
    assert max(several) > 1, "a class may end with more than another"
    each = elastic_net.truncate(made, min(3, k), each=True)
    assert set((each != 0).sum(1).tolist()) == {min(3, k)}


def test_all_columns_are_no_cut_and_more_are_refused_by_name() -> None:
    made = head(3, 8)
    assert torch.equal(elastic_net.truncate(made, 8), made.weights)
    with pytest.raises(OptionError, match="nec must lie in 0 to 8, the columns of the weights; got 9"):
        elastic_net.truncate(made, 9)


def test_scores_at_all_columns_are_those_of_the_whole_head() -> None:
    x, y = world(7)
    found = elastic_net.fit(x, y, lam=1e-3)
    cut = elastic_net.truncate(found, x.shape[1])
    assert np.array_equal((x @ cut.T + found.bias).argmax(1), (x @ found.weights.T + found.bias).argmax(1))
    none = elastic_net.truncate(found, 0)
    assert not none.any()


@pytest.mark.parametrize("columns", [5, 12, 29])
def test_fewer_than_thirty_columns_have_the_heads_they_can(columns: int) -> None:
    """In the reference t / K > 1 makes a rank negative, and nearly everything is zeroed. Here those of ANEC that fit."""
    x, y = world(8, n=300, d=columns, noise=3.0)
    wanted = [t for t in (5, 10, 15, 20, 25, 30) if t <= columns]
    if columns == 5:
        assert elastic_net.numbers(None, 5) == (5.0,)
        with pytest.raises(OptionError, match="fewer than the 5 of ANEC's least head"):
            elastic_net.numbers(None, 4)
        return
    heads = elastic_net.with_nec(x, y, nec=[t for t in wanted if t < columns])
    for t, found in zip(wanted, heads, strict=False):
        assert t <= found.nec <= t + 0.5
        assert (elastic_net.truncate(found, t) != 0).sum() == 4 * t
    with pytest.raises(OptionError, match=f"at most {columns}, the columns of x"):
        elastic_net.with_nec(x, y, nec=columns + 1)


def test_of_equal_weights_the_first_are_kept() -> None:
    """The reference lets all ties survive, and so keeps more than t."""
    made = replace(head(2, 4, scale=False), weights=torch.ones(2, 4))
    assert elastic_net.truncate(made, 1).tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
