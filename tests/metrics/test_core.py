"""What every metric refuses before it counts anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from isthmus import metrics
from isthmus.errors import DataError
from isthmus.metrics import disentanglement as d
from isthmus.metrics import importance, purity
from isthmus.metrics.concept import Kinds
from isthmus.metrics.leakage import unleaked
from isthmus.metrics.selective import risk_coverage, threshold


def test_what_is_not_a_number_or_not_of_the_same_rows_is_refused_by_name() -> None:
    c, bad = np.eye(3), np.full((3, 3), np.nan)
    boxes, maps = np.tile([0.0, 0, 2, 2], (3, 1, 1)), np.ones((3, 1, 4, 4))
    kinds, y = Kinds((0, 1, 2), ()), np.arange(3)
    for call, said in (
        (lambda: metrics.ois(c, bad), "OIS, representation: expected finite numbers, got 9"),
        (lambda: metrics.nis.weighted(c, bad), "NIS, representation"),
        (lambda: metrics.location(maps * np.nan, boxes, (8, 8)), "location, maps"),
        (lambda: metrics.pointing(maps * np.nan, boxes, (8, 8)), "pointing game, maps"),
        (lambda: metrics.location(maps[:0], boxes[:0], (8, 8)), "one row or more"),
        (lambda: metrics.nec(bad), "NEC, weights"),
        (lambda: metrics.existence(c, bad, 1), "existence, importance"),
        (lambda: metrics.aurc(np.ones(3), np.ones(5)), "right: expected 3 rows, as confidence has, got 5"),
        (lambda: metrics.ctl(y[:2], c, c, kinds), "CTL, c: expected 2 rows, as y has, got 3"),
        (lambda: metrics.ece(y[:2], c), "ECE, probabilities: expected 2 rows"),
        (lambda: metrics.concept_accuracy(c, bad, kinds), "concept accuracy, values"),
        (
            lambda: metrics.concept_accuracy(c / 0.0, c, kinds),
            "c: expected NaN .unknown. or finite numbers, got 3 that are inf",
        ),
        (lambda: threshold(np.ones(3), np.ones(5), 0.5), "threshold, right"),
    ):
        with np.errstate(all="ignore"), pytest.raises(DataError, match=said):
            call()
    unknown = np.where(c > 0, np.nan, c)
    assert metrics.concept_accuracy(unknown, c, kinds) == 1
    assert np.isnan(metrics.location(maps, boxes * np.nan, (8, 8)))


def calls() -> dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...], tuple[Any, ...]]]:
    """Every metric of arrays, and the public functions beside them: arrays that fit, and what else they take."""
    draw = np.random.default_rng(0)
    c, v, y = (draw.random((40, 4)) < 0.5).astype(float), draw.random((40, 4)), draw.integers(0, 3, 40)
    p, kinds, right = draw.dirichlet(np.ones(3), 40), Kinds((0, 1), ((2, 3),)), (draw.random(40) < 0.5).astype(float)
    maps, boxes = draw.random((40, 2, 4, 4)), np.tile([0.0, 0, 2, 2], (40, 2, 1))
    m = metrics.METRICS
    made: dict[str, Any] = {
        "accuracy": (m["accuracy"], (y, p.argmax(1)), ()),
        **{name: (m[name], (y, p.argmax(1)), (3,)) for name in ("balanced_accuracy", "macro_f1")},
        **{name: (m[name], (y, p), ()) for name in ("auroc", "ece", "brier")},
        **{name: (m[name], (v[:, 0], v[:, 1]), ()) for name in ("mae", "rmse", "r2")},
        **{n: (m[n], (c, v), (kinds,)) for n in m if n.startswith("concept_") and n not in ("concept_ece", "concept_error")},
        "concept_error": (m["concept_error"], (c, v), (Kinds((), (), ((0, 1.0),)),)),
        **{name: (m[name], (c, v), ()) for name in ("concept_ece", "ois", "nis")},
        "nis asked": (lambda c, v, asked: metrics.nis(c, v, asked=asked), (c, v, v[::-1].copy()), ()),
        "ctl": (m["ctl"], (y, c, v), (kinds,)),
        "icl": (m["icl"], (c, v), (kinds,)),
        **{name: (m[name], (np.abs(p).cumsum(1),), ()) for name in ("deletion", "insertion")},
        "existence": (m["existence"], (c, v), (2,)),
        **{name: (m[name], (maps, boxes), ((8, 8),)) for name in ("location", "pointing", "pointing_distance", "mass_inside")},
        "coverage": (m["coverage"], (v[:, 0],), (0.5,)),
        "selective_accuracy": (m["selective_accuracy"], (v[:, 0], right), (0.5,)),
        "aurc": (m["aurc"], (v[:, 0], right), ()),
        "automated": (m["automated"], (v[:, 0], right), ()),
        **{name: (m[name], (right, 1 - right), ()) for name in ("shift_gap", "shift_mean")},
        "membership": (m["membership"], (v[:, 0], v[:, 1]), ()),
        "agreement": (m["agreement"], (y, p.argmax(1)), ()),
        "divergence": (m["divergence"], (p, p[::-1].copy()), ()),
        "bypass": (m["bypass"], (right,), ()),
        "nec": (m["nec"], (v,), ()),
        "s_plus": (m["s_plus"], (v, y), ()),
        "s_minus": (m["s_minus"], (v, c), ()),
        "area": (metrics.area, (np.linspace(0, 1, 4), v), ()),
        "smallest": (metrics.smallest, (np.linspace(0, 1, 4), np.arange(4.0)), ()),
        "purity": (purity.purity, (c, v), ()),
        "niches": (purity.niches, (c, v), ()),
        "mispredicted": (purity.mispredicted, (c, v > 0.2), ()),
        "unleaked": (unleaked, (c, v), (kinds,)),
        "frequencies": (importance.frequencies, (c, y), (3,)),
        "effects": (importance.effects, (p, p[::-1].copy()), ()),
        "threshold": (threshold, (v[:, 0], right), (0.5,)),
        "risk_coverage": (risk_coverage, (v[:, 0], right), ()),
        **{name: (getattr(d, name), (v, c), ()) for name in ("informations", "sap")},
        "importances": (d.importances, (v, c), (np.arange(20),)),
        "dci": (d.dci, (v,), ()),
        "cas": (d.cas, (c, v), ()),
    }
    return made


def test_every_metric_is_called() -> None:
    placed = {"curve_area", "gain_all", "k95", "fit_seconds"}  # of replicates that the evaluation makes
    assert set(metrics.METRICS) - placed <= set(calls())


@pytest.mark.parametrize("name", calls())
def test_lists_and_tensors_are_arrays(name: str) -> None:
    score, arrays, rest = calls()[name]
    want = score(*arrays, *rest)
    blocks = name in ("informations", "sap", "importances")  # a list is of blocks there
    for form in (torch.tensor, lambda a: torch.tensor(a).requires_grad_() if a.dtype.kind == "f" else a, np.ndarray.tolist):
        if form is np.ndarray.tolist and (blocks or name == "cas"):
            continue
        found = score(*(form(a) for a in arrays), *rest)  # type: ignore[operator]
        for one, other in zip(pair(want), pair(found), strict=True):
            np.testing.assert_allclose(one, other)


def pair(found: Any) -> tuple[Any, ...]:
    """What was found, one array or two."""
    return found if isinstance(found, tuple) else (found, found)


@pytest.mark.parametrize("name", calls())
def test_what_does_not_fit_is_refused_by_name_and_never_raw(name: str) -> None:
    score, arrays, rest = calls()[name]
    for at in range(len(arrays)):
        fine = arrays[at]
        bad: list[Any] = [
            None,
            "words",
            ["a"] * len(fine),
            [[1, 2], [3]],
            [None] * len(fine),
            fine.astype(complex),
            fine[:0],
            3.0,
        ]
        bad += [torch.tensor(fine).to(torch.bfloat16), fine[..., None, None], {"a": 1}, torch.empty(fine.shape, device="meta")]
        for each in bad[name == "nis asked" and at == 2 :]:  # None is its default
            with pytest.raises(DataError) as error:
                score(*arrays[:at], each, *arrays[at + 1 :], *rest)
            assert "expected" in str(error.value) and "got" in str(error.value) and "\n" not in str(error.value), (name, at)


def test_arrays_of_other_columns_or_classes_are_refused() -> None:
    c, y, kinds = np.eye(4), np.arange(4), Kinds((0, 1, 2, 3), ())
    for call, said in (
        (lambda: metrics.accuracy(y, np.eye(4)), "y and answer of one shape, got y .4,. and answer .4, 4."),
        (lambda: metrics.accuracy(c, c[:, :1]), "one shape"),
        (lambda: metrics.balanced_accuracy(y, y, 3), "y: expected class numbers 0 to 2"),
        (lambda: metrics.macro_f1(y / 2, y, 4), "y: expected class numbers"),
        (lambda: metrics.ece(y, c[:, :2]), "ECE, y: expected class numbers 0 to 1"),
        (lambda: metrics.brier(c, c[:, :1]), "Brier score: expected y and probabilities of one shape"),
        (lambda: metrics.auroc(y, c[:, :2]), "AUROC, y: expected class numbers"),
        (lambda: metrics.mae(y, c), "one shape"),
        (lambda: metrics.concept_ece(c, c[:, :2]), "one shape"),
        (lambda: metrics.concept_accuracy(c, c[:, :2], kinds), "concept accuracy: expected c and values of one shape"),
        (
            lambda: metrics.concept_auroc(c, c, Kinds((7,), ())),
            "concept AUROC, kinds: expected columns 0 to 3, as c has, got 7",
        ),
        (lambda: metrics.icl(c, c, Kinds((7,), ())), "kinds: expected columns 0 to 3"),
        (lambda: metrics.agreement(y, c), "agreement: expected a and b of one shape"),
        (lambda: metrics.s_plus(c, y + 1), "S.+target: expected columns 0 to 3"),
        (lambda: metrics.s_plus(c, y, np.arange(3)), "groups: expected a group of each column"),
        (lambda: metrics.s_minus(c, c[:, :2]), "S-: expected values and removed of one shape"),
        (
            lambda: metrics.deletion(np.zeros((4, 1))),
            "deletion, insertion: expected probabilities .n, P . 1. of one step or more",
        ),
        (lambda: metrics.area([0.0], [1.0]), "curve area: expected shares .P,. of two points or more"),
        (lambda: d.cas(c, c[:, :2]), "CAS, representation: expected that of each of 4 concepts, got 2"),
    ):
        with pytest.raises(DataError, match=said):
            call()


def test_every_name_of_the_package_is_there() -> None:
    assert {"accuracy", "concept_ece", "area", "METRICS"} <= set(metrics.__all__)
    assert [name for name in metrics.__all__ if not hasattr(metrics, name)] == []


def test_what_is_out_of_range_is_refused_by_name() -> None:
    c, y, logits = np.eye(4), np.arange(4), np.eye(4) * 9 - 2
    for call, said in (
        (lambda: metrics.ece(y, logits), "ECE, probabilities: expected numbers from 0 to 1, got 16 outside, such as 7"),
        (lambda: metrics.brier(y, logits), "Brier score, probabilities: expected numbers from 0 to 1"),
        (lambda: metrics.concept_ece(c, logits), "concept ECE, probabilities"),
        (lambda: metrics.concept_ece(2 * c, c), "labels: expected labels of 0 or 1, or NaN where unknown, got 4 outside"),
        (lambda: metrics.brier(2 * c, c), "Brier score, y: expected labels of 0 or 1"),
        (lambda: metrics.bypass([3, 4]), "bypass, changed: expected numbers from 0 to 1"),
        (lambda: metrics.deletion(logits + 3), "probabilities: expected numbers from 0 to 1"),
        (lambda: metrics.macro_f1(c, 0.9 * c, 4), "answer: expected decisions of 0 or 1 for labels"),
        (lambda: metrics.macro_f1(c, c, 3), "y: expected 3 columns, one for each label as classes says, got 4"),
        (lambda: metrics.concept_accuracy(c, c, Kinds((-1,), ())), "kinds: expected columns 0 to 3, as c has, got -1"),
        (lambda: metrics.concept_accuracy(c, c, None), "kinds: expected Kinds, .* got NoneType"),
    ):
        with pytest.raises(DataError, match=said):
            call()
    assert metrics.ece(y, np.eye(4, dtype=np.float32) * np.float32(1 + 1e-7)) == pytest.approx(0, abs=1e-6)


def test_what_is_not_defined_is_nan_without_a_warning() -> None:
    c, one = np.eye(4), np.ones((4, 4))
    numbers = Kinds((), (), ((0, 1.0),))
    for score in (metrics.concept_accuracy, metrics.concept_auroc, metrics.concept_macro_f1):
        assert np.isnan(score(c, c, numbers))
    every = Kinds((0, 1, 2, 3), ())
    assert np.isnan(metrics.concept_auroc(one, c, every)) and np.isnan(metrics.concept_accuracy(c * np.nan, c, every))
    assert np.isnan(metrics.r2(np.full(5, 0.1), np.arange(5.0))) and np.isnan(metrics.r2([2, 2, 2], [2, 2, 2]))
    assert metrics.r2([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]) == 1
    assert np.isnan(metrics.selective_accuracy([0.1, 0.2], [1, 0], 0.5))
    assert metrics.accuracy([0.0, np.nan, 1.0], [0, 1, 0]) == 0.5
