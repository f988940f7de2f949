"""Numeric rows: shapes, standardisation from training rows, errors that say what came."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isthmus.errors import DataError
from isthmus.features.tabular import identity, mlp


def test_identity_passes_columns_as_float32() -> None:
    module = identity(3)
    x = module.prepare(np.arange(6).reshape(2, 3))
    assert x.dtype == torch.float32
    assert torch.equal(module(x), x)
    assert module.prepare(x) is x
    assert module.dim == 3


@pytest.mark.parametrize(
    ("raw", "got"),
    [
        (torch.zeros(2, 4), r"got \(2, 4\)"),
        (torch.zeros(3), r"got \(3,\)"),
        (["a"], "got list"),
        (object(), "got object"),
    ],
)
def test_wrong_rows_are_refused(raw: object, got: str) -> None:
    for module in (identity(3), mlp(3)):
        with pytest.raises(DataError, match=rf"^x: expected .*\(rows, 3\), {got}(;|$)"):
            module.prepare(raw)


def test_fit_standardises_and_travels_with_the_weights() -> None:
    torch.manual_seed(0)
    x = torch.stack([torch.randn(500) * 9 + 4, torch.full((500,), 1e6), torch.rand(500)], 1)
    module = mlp(3, hidden=(8,), dim=4)
    before = module(x)
    module.fit(x)
    assert torch.allclose(module.mean, x.double().mean(0).float())
    assert torch.allclose(module.scale[[0, 2]], x[:, [0, 2]].std(0, correction=0))
    assert module.scale[1] == 1  # a column that never varies is centred only
    assert not torch.allclose(module(x), before)
    again = mlp(3, hidden=(8,), dim=4)
    again.load_state_dict(module.state_dict())
    assert torch.equal(again(x), module(x))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_fit_refuses_what_is_not_finite(bad: float) -> None:
    x = torch.zeros(3, 2)
    x[2, 1] = bad
    with pytest.raises(DataError, match="^column 1: expected finite"):
        mlp(2).fit(x)
    with pytest.raises(DataError, match="^x: expected finite"):
        mlp(2).fit(x[:0])


def test_a_row_in_a_batch_is_the_row_alone() -> None:
    torch.manual_seed(0)
    module, x = mlp(5).eval(), torch.randn(7, 5)
    alone = torch.cat([module(row[None]) for row in x])
    assert torch.allclose(module(x), alone, atol=1e-5)
    assert (module(x) >= 0).all()
