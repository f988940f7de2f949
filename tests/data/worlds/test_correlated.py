from __future__ import annotations

import pytest
import torch

from isthmus.data.worlds.correlated import correlated
from isthmus.errors import OptionError


def test_labels_and_features_follow_the_stated_rule() -> None:
    """Read back from what is drawn: y is linear in c, x minus its noise lies in the span of the atoms, c go together."""
    data = correlated(train=4000, noise=0.0, seed=2)
    c, x = data.train.c, data.train.x
    atoms = torch.linalg.lstsq(c, x).solution
    torch.testing.assert_close(c @ atoms, x, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(12), atol=1e-4, rtol=1e-4)
    from sklearn.linear_model import LogisticRegression

    rule = LogisticRegression(C=1e4, max_iter=5000).fit(c.numpy(), data.train.y.numpy())
    assert rule.score(data.test.c.numpy(), data.test.y.numpy()) > 0.97
    apart = torch.corrcoef(c.T).abs() - torch.eye(12)
    assert apart.max() > 0.4
    assert c.mean() == pytest.approx(0.45, abs=0.1)


def test_sizes_seed_and_options() -> None:
    one = correlated(train=50, validation=20, test=30, concepts=5)
    assert [len(part) for part in (one.train, one.validation, one.test)] == [50, 20, 30]
    assert len(one.space) == 5
    again, other = (correlated(train=50, validation=20, test=30, concepts=5, seed=seed) for seed in (0, 1))
    assert again.train.fingerprint() == one.train.fingerprint() != other.train.fingerprint()
    with pytest.raises(OptionError, match="causes: expected at least 1, got 0"):
        correlated(causes=0)
