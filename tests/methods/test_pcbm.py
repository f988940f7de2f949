"""Post-hoc CBM: its vectors are scikit-learn's machines, its head the optimum of its objective, its residual alone learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor

from isthmus import hub, losses
from isthmus.data.table import Splits
from isthmus.errors import DataError, OptionError
from isthmus.given import given
from isthmus.methods import pcbm
from isthmus.model import ConceptModel
from isthmus.numerics import elastic_net
from isthmus.space import Task
from tests.language import fit, identity, plan, scene, textless, texts, unlabelled


def logistic(x: np.ndarray, t: np.ndarray, w: np.ndarray, b: float, lam: float, ratio: float) -> float:
    """One class's objective: mean logistic loss, and the elastic net on weights of projections as they are."""
    loss = np.logaddexp(0, -(2 * t - 1) * (x @ w + b)).mean()
    return float(loss + lam * (ratio * np.abs(w).sum() + (1 - ratio) / 2 * (w**2).sum()))


# the vectors


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_vectors_are_those_of_a_support_vector_machine(c: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn's SVC on the very rows that were drawn; scores are distances: (w . e + b) / |w|."""
    sets: list[Tensor] = []
    draw = pcbm.drawn

    def kept(rows: Tensor, count: int) -> Tensor:
        sets.append(draw(rows, count))
        return sets[-1]

    monkeypatch.setattr(pcbm, "drawn", kept)
    data = textless(scene(noise=0.8))
    model = fit("pcbm", data, bank="images", samples=15, c=c)
    x, values = data.train.x.numpy(), model(data.test.x).concepts.values
    assert len(sets) == 18 and {len(each) for each in sets} == {15}
    for k in range(9):
        yes, no = sets[k], sets[9 + k]
        assert bool((data.train.c[yes, k] == 1).all()) and bool((data.train.c[no, k] == 0).all())
        assert len(set(yes.tolist())) == len(set(no.tolist())) == 15, "without replacement"
        rows, y = x[torch.cat([yes, no])], np.r_[np.ones(15), np.zeros(15)]
        machine = SVC(C=c, kernel="linear", tol=1e-8).fit(rows, y)
        w, length = machine.coef_[0], np.linalg.norm(machine.coef_[0])
        assert float(model.bottleneck.rows[k] @ torch.tensor(w / length).float()) == pytest.approx(1, abs=1e-4)
        assert float(model.bottleneck.rows[k].norm()) == pytest.approx(1, abs=1e-5)
        signed = (data.test.x.numpy() @ w + machine.intercept_[0]) / length
        np.testing.assert_allclose(values[:, k].numpy(), signed, atol=0.02)
        assert abs(length - 1) > 0.05, "else the division is not seen"


def test_features_are_not_normalised() -> None:
    """Twice as far is twice the score, bias aside: the paper projects raw embeddings, CLIP's too."""
    for data, bank in ((textless(scene()), "images"), (unlabelled(scene()), "words")):
        part = fit("pcbm", data, bank=bank).bottleneck
        z = data.test.x
        torch.testing.assert_close(part.score(3 * z) - part.bias, 3 * (part.score(z) - part.bias), atol=1e-4, rtol=1e-4)


def test_texts_are_unit_vectors_without_a_bias() -> None:
    data = unlabelled(scene(text=5))
    features = identity(data, 5)
    model = fit("pcbm", data, features=features)
    e, v = features.shared(data.test.x).numpy(), texts(data, features).numpy()
    want = [[float(a @ b / np.linalg.norm(b)) for b in v] for a in e]
    np.testing.assert_allclose(model(data.test.x).concepts.values.numpy(), want, atol=1e-4)


def test_the_strength_of_the_machine_is_the_one_that_validation_rows_like_best() -> None:
    data = textless(scene(noise=1.5, rows=120))
    chosen = fit("pcbm", data, bank="images", samples=20)
    accuracy = {}
    for c in pcbm.GRID:
        fitted = fit("pcbm", data, bank="images", samples=20, c=c)
        right = (fitted(data.validation.x).concepts.values > 0) == (data.validation.c > 0.5)
        sides = [[float(right[data.validation.c[:, k] == t, k].float().mean()) for t in (0, 1)] for k in range(9)]
        accuracy[c] = float(np.mean(sides))
        assert fitted.history[0]["known"] == pytest.approx(
            dict(zip(data.space.names, np.mean(sides, 1), strict=True)), abs=1e-6
        )
    assert len(set(accuracy.values())) > 1
    assert accuracy[chosen.history[0]["c"]] == max(accuracy.values())


def test_the_gate_drops_vectors_that_are_wrong_on_validation_rows() -> None:
    data = textless(scene())
    noise = torch.randint(0, 2, (len(data.validation),)).float()
    labels = data.validation.c.clone()
    labels[:, 4] = noise
    data = Splits(data.train, data.validation.replace(c=labels), data.test)
    known = fit("pcbm", data, bank="images").history[0]["known"]
    assert min(known, key=lambda name: known[name]) == data.space.names[4]
    kept = fit("pcbm", data, bank="images", gate=0.75)
    assert kept.space.names == tuple(name for name in data.space.names if known[name] >= 0.75)
    assert data.space.names[4] not in kept.space.names and len(kept.space) > 3


@pytest.mark.filterwarnings("ignore:concept 'a 1':UserWarning")
def test_a_row_whose_label_is_unknown_is_in_no_set_and_a_one_sided_concept_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = textless(scene())
    labels = data.train.c.clone()
    labels[:, 1] = 1.0
    labels[::2, 0] = torch.nan
    asked: list[Tensor] = []
    monkeypatch.setattr(pcbm, "drawn", lambda rows, count: (asked.append(rows), rows[torch.randint(len(rows), (count,))])[1])
    model = fit("pcbm", Splits(data.train.replace(c=labels), data.validation, data.test), bank="images")
    assert model.history[0]["one_sided"] == ["a 1"]
    assert all(bool((rows % 2 == 1).all()) for rows in (asked[0], asked[8]))
    assert bool(model(data.test.x).logits.isfinite().all())


@pytest.mark.parametrize("gate", [0.0, 0.6])
def test_a_concept_that_validation_rows_cannot_judge_stays_and_the_model_is_saved(gate: float, tmp_path: Path) -> None:
    """None in the history, which is JSON; one concept, or all of them, on one side of the validation rows."""
    data = textless(scene())
    for columns in ([2], list(range(9))):
        labels = data.validation.c.clone()
        labels[:, columns] = 1.0
        model = fit("pcbm", Splits(data.train, data.validation.replace(c=labels), data.test), bank="images", gate=gate)
        known = model.history[0]["known"]
        assert [name for name, value in known.items() if value is None] == [data.space.names[k] for k in columns]
        assert {data.space.names[k] for k in columns} <= set(model.space.names)
        again = hub.load(hub.save(model, tmp_path / str(len(columns))))
        assert again.history[0]["known"] == known


@pytest.mark.filterwarnings("ignore:concept:UserWarning")
def test_without_a_concept_of_two_sides_there_is_nothing_to_learn() -> None:
    data = textless(scene())
    data = Splits(*(getattr(data, n).replace(c=torch.ones(len(getattr(data, n)), 9)) for n in ("train", "validation", "test")))
    with pytest.raises(DataError, match="pcbm: expected concepts that some training rows have"):
        fit("pcbm", data, bank="images")
    with pytest.raises(OptionError, match="bank='words' needs concepts with text vectors"):
        plan("pcbm", data, bank="words")


# the head


@pytest.mark.parametrize("bank", ["images", "words"])
def test_the_head_is_the_optimum_of_one_logistic_regression_for_each_class(bank: str) -> None:
    data = scene(noise=0.8)
    data = textless(data) if bank == "images" else unlabelled(data)
    lam = 0.01
    model = fit("pcbm", data, bank=bank, strength=lam)
    x = model(data.train.x).concepts.values.double().numpy()
    for y in range(3):
        t = (data.train.y == y).numpy().astype(float)
        how = {"solver": "saga", "tol": 1e-7, "max_iter": 20_000, "C": 1 / (len(x) * lam), "l1_ratio": 0.99}
        other = LogisticRegression(**how).fit(x, t)
        best = logistic(x, t, other.coef_[0], other.intercept_[0], lam, 0.99)
        w, b = model.head.map.weight[y].double().numpy(), float(model.head.map.bias[y])
        assert logistic(x, t, w, b, lam, 0.99) == pytest.approx(best, rel=3e-4)
        np.testing.assert_allclose(w, other.coef_[0], atol=0.1)
    joint = fit("pcbm", data, bank=bank, strength=lam, family="multinomial")
    assert float((joint.head.map.weight - model.head.map.weight).abs().max()) > 0.05, "which family it is can be seen"


def test_a_number_of_concepts_replaces_the_strength() -> None:
    model = fit("pcbm", unlabelled(scene()), nec=2)
    assert int((model.head.map.weight != 0).sum()) == 6


@pytest.mark.parametrize("name", ["pcbm", "pcbm_h"])
def test_two_classes_have_two_logits(name: str) -> None:
    """scikit-learn answers with one row of weights there, and the reference then fails: softmax of one column is 1."""
    data = unlabelled(scene(classes=2, each=4))
    model = fit(name, data, strength=1e-3)
    out = model(data.test.x)
    assert out.logits.shape == (60, 2)
    assert float((out.logits.argmax(-1) == data.test.y).float().mean()) > 0.8
    p = out.logits.softmax(-1)[:, 1]
    assert float(p.min()) < 0.2 and float(p.max()) > 0.8
    if name == "pcbm":
        w = model.head.map.weight
        torch.testing.assert_close(w[0], -w[1], atol=2e-3, rtol=0.02)


def test_labels_that_may_overlap_are_one_regression_each() -> None:
    data = unlabelled(scene())
    y = (data.train.x[:, :2] > 0).float()
    task = Task.labels("pq")
    parts = {n: getattr(data, n).replace(y=(getattr(data, n).x[:, :2] > 0).float(), task=task) for n in ("validation", "test")}
    labels = Splits(data.train.replace(y=y, task=task), parts["validation"], parts["test"])
    model = fit("pcbm", labels, strength=0.01)
    x = model(data.train.x).concepts.values
    value, bound = elastic_net.certificate(
        x, y, model.head.map.weight, model.head.map.bias, lam=0.01, family="ovr", standardize=False
    )
    assert value <= bound * (1 + 2e-4)


# the residual


def pair(data: Splits, **options: Any) -> tuple[ConceptModel, ConceptModel]:
    return fit("pcbm", data, strength=1e-3), fit("pcbm_h", data, strength=1e-3, **options)


def test_only_the_residual_learns_beside_a_pcbm_that_stays() -> None:
    plain, both = pair(unlabelled(scene()), epochs=5)
    torch.testing.assert_close(both.bottleneck.state_dict(), plain.bottleneck.state_dict())
    torch.testing.assert_close(both.head.inner.state_dict(), plain.head.state_dict())
    assert float(both.head.side.weight.abs().max()) > 0.01
    x = scene().test.x
    torch.testing.assert_close(both(x).logits, plain(x).logits + x @ both.head.side.weight.T)


def test_the_residuals_penalty_is_the_mean_of_its_squares() -> None:
    data = unlabelled(scene())
    made = plan("pcbm_h", data, l2=0.5)
    side = made.model.requires_grad_(False).head.side.weight
    side.data = torch.randn(side.shape, generator=torch.Generator().manual_seed(0))
    batch = data.train.batch(data.train.x)
    out = made.model(data.train.x)
    terms = made.stages[-1].loss(out, batch, data.task)
    squares = [w**2 for w in side.flatten().tolist()]
    assert float(terms["residual"]) == pytest.approx(0.5 * sum(squares) / len(squares), rel=1e-5)
    assert float(terms["task"]) == pytest.approx(float(losses.task(out, batch, data.task)["task"]))


def test_a_strong_penalty_leaves_the_pcbm() -> None:
    data = unlabelled(scene(noise=0.8))
    norms = {l2: float(fit("pcbm_h", data, l2=l2, epochs=30).head.side.weight.square().sum()) for l2 in (0.0, 1.0, 36.0)}
    assert norms[0.0] > norms[1.0] > 3 * norms[36.0] > 0


def test_what_the_residual_adds_is_the_remainder_and_edits_do_not_reach_it() -> None:
    data = unlabelled(scene())
    model = fit("pcbm_h", data, epochs=5)
    x, held = data.test.x, given(data.space, dict.fromkeys(data.space.names, 1.0), rows=60)
    out = model(x, held)
    beside = model.head.remainder(out.concepts, out.features)
    torch.testing.assert_close(beside, x @ model.head.side.weight.T + model.head.inner.map.bias)
    model.head.inner.map.weight.zero_()
    torch.testing.assert_close(model(x).logits, beside)
    assert float(beside.std(0).max()) > 0.01


def test_texts_of_another_width_are_refused_by_name() -> None:
    data = unlabelled(scene(text=5))
    for name in ("pcbm", "pcbm_h"):
        with pytest.raises(DataError, match=r"concept vectors: expected shape \(K, 12\), .*got \(9, 5\)"):
            plan(name, data)
