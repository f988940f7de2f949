"""Scale and shift of concepts: against other solvers, over whole blocks, never upside down, in other bottlenecks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus import hub, repair, testing
from isthmus.interventions import recalibrate as recalibrating


def test_scale_and_shift_are_those_of_another_solver() -> None:
    """Platt's by logistic regression on both labels of each row, weighted; a temperature by Nelder and Mead on the block."""
    from scipy.optimize import minimize
    from sklearn.linear_model import LogisticRegression

    data = testing.world(("binary", "categorical"), rows=600)
    model = im.fit("cbm", data, features="identity", epochs=40, lr=0.01)
    space, table = model.space, data.train
    logits = model.bottleneck.score(model.encode(table.x)).double()
    scale, shift = recalibrating.fitted(logits, table.c, space, [0, space.index("colour")])
    s, c = logits[:, 0].numpy(), table.c[:, 0].numpy()
    s, c = s[~np.isnan(c)], c[~np.isnan(c)]
    yes, no = c.sum(), (1 - c).sum()
    soft = np.where(c == 1, (yes + 1) / (yes + 2), 1 / (no + 2))
    fit = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(
        np.r_[s, s][:, None], np.r_[np.ones(len(s)), np.zeros(len(s))], sample_weight=np.r_[soft, 1 - soft]
    )
    assert scale[0] == pytest.approx(fit.coef_[0, 0], rel=1e-3) and shift[0] == pytest.approx(fit.intercept_[0], abs=1e-3)
    part = space.slices[space.index("colour")]
    block, truth = logits[:, part].numpy(), table.c[:, part].numpy()
    kept = ~np.isnan(truth).any(1)
    block, truth = block[kept], truth[kept]
    soft = truth @ (np.eye(3) * truth.sum(0) / (truth.sum(0) + 3) + 1 / (truth.sum(0) + 3)[:, None])

    def loss(x: np.ndarray) -> float:
        made = np.exp(x[0]) * block + np.r_[x[1:], -x[1:].sum()]
        return float(-(soft * (made - np.log(np.exp(made).sum(1, keepdims=True)))).sum() / len(soft))

    best = minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 4000})
    assert torch.unique(scale[part]).tolist() == pytest.approx([np.exp(best.x[0])], rel=1e-3)
    centred = (shift[part] - shift[part].mean()).numpy()
    np.testing.assert_allclose(centred, [*best.x[1:], -best.x[1:].sum()], atol=1e-3)
    rest = [k for k in range(len(space)) if k != 0 and not part.start <= k < part.stop]
    assert torch.equal(scale[rest], torch.ones(len(rest)).double()) and not shift[rest].any()


def test_a_concept_is_never_turned_over_and_a_state_stands_for_its_block() -> None:
    data = testing.world(("binary", "categorical"), rows=400)
    model = im.fit("cbm", data, features="identity", epochs=30, lr=0.01)
    c = data.validation.c.clone()
    c[:, 0] = 1 - c[:, 0]
    new = repair.recalibrate(model, data.validation.replace(c=c), [0], why="labels that run against the scores")
    scale = new.history[-1]["what"]["scale"]["yes or no 0"]
    assert 0 < scale < 0.2, "flat, as the labels say, and in the order that the head learnt"
    before, after = (part(data.test.x).concepts.values[:, 0] for part in (model, new))
    assert torch.equal(before.argsort(), after.argsort()) or float((after[before.argsort()].diff()).min()) > -1e-6
    one = repair.recalibrate(model, data.validation, "colour=red", why="w")
    whole = repair.recalibrate(model, data.validation, "colour", why="w")
    assert one.history[-1]["what"]["concepts"] == ["colour=red", "colour=green", "colour=blue"]
    assert torch.equal(one(data.test.x).concepts.values, whole(data.test.x).concepts.values)


@pytest.mark.parametrize("method", ["intcem", "knobo"])
def test_other_bottlenecks_with_a_row_for_each_concept_are_calibrated_too(method: str, tmp_path: Path) -> None:
    data = testing.world(("binary",), rows=400)
    model = im.fit(method, data, features="identity")
    new = repair.recalibrate(model, data.validation, why="w", validation=data.test)
    told = new.history[-1]["what"]
    old, now = (part(data.test.x).concepts.logits for part in (model, new))
    for k, name in enumerate(model.space.names):
        want = old[:, k] * told["scale"][name] + told["shift"][name]
        torch.testing.assert_close(now[:, k], want, atol=1e-3, rtol=1e-3)
    given = im.given(model.space, {0: 1})
    assert float(new(data.test.x[:1], given).concepts.values[0, 0]) == 1.0
    loaded = hub.load(hub.save(new, tmp_path / "m"))
    assert torch.equal(loaded(data.test.x).logits, new(data.test.x).logits)
