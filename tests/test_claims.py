"""The scripts in ``claims/``: each says its rule before it measures, and its functions run at toy size."""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus.commands.claims import claims
from isthmus.data.table import Splits
from isthmus.data.worlds.correlated import correlated

PLACE = Path(__file__).parents[1] / "claims"
SCRIPTS = [path for path in sorted(PLACE.glob("*.py")) if not path.stem.startswith("_")]


@pytest.fixture
def claim(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a script by name, without running it."""
    monkeypatch.syspath_prepend(str(PLACE))
    return importlib.import_module


@pytest.fixture
def small() -> Splits:
    return correlated(train=120, validation=40, test=60, concepts=4)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_its_rule_and_when_it_holds(path: Path) -> None:
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
    assert "Rule" in text and "holds when" in text and "does not hold" in text


def test_the_list_names_every_script_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    claims(folder=PLACE, only_list=True, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told["claims"]] == [path.stem for path in SCRIPTS]


def test_a_difference_is_in_points_with_an_interval_around(claim: Any) -> None:
    found = claim("_fits").difference([np.array([1.0, 0.0] * 50), np.zeros(100)])
    assert found.value == pytest.approx(25)
    assert found.low == pytest.approx(25 - 1.96 * 2.5, abs=1) and found.high == pytest.approx(25 + 1.96 * 2.5, abs=1)
    assert found.above and not found.below
    assert not claim("_fits").difference([np.zeros(10)]).above


def test_kept_takes_columns_with_their_concepts(claim: Any, isthmus_data: Any) -> None:
    data = im.data.load("car", path=isthmus_data("tabular/car.csv.gz"))
    found = claim("_fits").kept(data, [1, 5])
    assert found.space.names == ("maint", "safety")
    assert torch.equal(found.test.c, data.test.c[:, [4, 5, 6, 7, 18, 19, 20]])  # type: ignore[index]


def test_policies_over_random(claim: Any, small: Splits) -> None:
    module = claim("informed_policies")
    found = module.areas(small, "cbm", {"epochs": 2}, seeds=(0,))
    assert set(found) == {*module.INFORMED, *module.ORACLES}
    assert all(cell["low"] <= cell["high"] for cell in found.values())
    up, flat, down = {"low": 1.0, "high": 2.0}, {"low": -1.0, "high": 1.0}, {"low": -2.0, "high": -1.0}
    assert module.verdict([up] * 9 + [flat]) == "holds"
    assert module.verdict([up] * 8 + [flat] * 2) == "cannot tell here"
    assert module.verdict([up] * 9 + [down]) == module.verdict([up] * 4 + [flat] * 6) == "does not hold"


def test_incomplete_concepts(claim: Any, small: Splits) -> None:
    module = claim("incomplete_concepts")
    assert [module.drawn(small, share, 0).space.count for share in (1.0, 0.5, 0.25)] == [4, 2, 1]
    cbm, cem, apart = module.compared(small, 0.5, seeds=(0,))
    assert apart.value == pytest.approx(100 * (cem - cbm))


def test_gains_by_mode(claim: Any, small: Splits) -> None:
    module = claim("joint_leakage")
    found = module.gains(small, seeds=(0,))
    assert set(found) == set(module.MODES)
    plain, gained = found["independent"]
    assert 0 <= plain + gained[0].mean() <= 1 and len(gained[0]) == 60


def test_neighbours_stay_in_a_cbm(claim: Any, small: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    module = claim("neighbours")
    monkeypatch.setitem(module.METHODS, "cbm", {"epochs": 1})
    before, change = module.changes(small, "cbm", seeds=(0,))
    assert 0.3 < before < 1 and change.value == change.low == change.high == 0
    assert claim("_fits").decided(torch.tensor([[0.6, 0.2, 0.5, 0.3]]), _blocks()).tolist() == [[1, 1]]


def test_energy_gains_on_the_same_cells(claim: Any, small: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    module = claim("energy")
    monkeypatch.setitem(module.METHODS, "cbm", ({}, {"epochs": 1}))
    before, found = module.gains("cbm", [small, small], seeds=(0, 1))
    assert 0.3 < before < 1 and all(each.value == each.low == each.high == 0 for each in found)
    still, up = found, [claim("_fits").difference([np.ones(50)])] * 3
    worlds = {(w, m): still for w in ("correlated", "causal_graph") for m in ("cbm", "cem")}
    won = worlds | {("correlated", "scbm"): up, ("causal_graph", "ecbm"): up}
    assert module.verdict(won) == "holds (synthetic only)"
    assert module.verdict(won | {("causal_graph", "ecbm"): still}) == "does not hold (synthetic only)"


def test_swaps_of_reviews_and_of_cards(claim: Any, isthmus_data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = claim("substitution")
    isthmus_data("text/cebab.jsonl.gz")
    reviews = module.of_reviews()
    assert len(reviews.row) == 1313 and len(reviews.before) == len(reviews.data.test) == 272
    cards = module.of_cards("fixed", train=40, test=20, epochs=1)
    c = cards.data.test.c.numpy()  # type: ignore[union-attr]
    assert (c[cards.row, cards.taken_out] == 1).all() and (c[cards.row, cards.put_in] == 0).all()
    seen = reviews.data.space.owner_of
    assert (reviews.put_in != reviews.taken_out).all() and bool((seen[reviews.put_in] == seen[reviews.taken_out]).all())
    assert (cards.put_in % 13 == cards.taken_out % 13).all() and (cards.put_in != cards.taken_out).all()  # rank stays
    monkeypatch.setitem(module.METHODS, "cbm joint", ("cbm", {"epochs": 1}))
    (right, old, new, gone), gap = module.scores(cards, "cbm joint", seeds=(0,))
    assert gap.value == pytest.approx(100 * (old - new)) and 0 <= gone <= 1 and 0 <= right <= 1


def test_rank_correlation_and_area_within_a_concept(claim: Any) -> None:
    module = claim("probable_uncertainty")
    ambiguity = np.array([[[0.0, np.nan]], [[1.0, 0.5]], [[2.0, 0.0]]])
    found = np.array([[[1.0, 9.0]], [[5.0, 7.0]], [[9.0, 6.0]]])
    value = module.ranked(ambiguity, found).under(np.ones((1, 3)))[0]
    told = np.array([[0, 1 / 3], [1, 2 / 3], [2, 1], [0.5, 1], [0, 0.5]])
    assert value == pytest.approx(np.corrcoef(told.T)[0, 1])
    missed = np.zeros((20, 2), dtype=bool)
    missed[:5, 0] = missed[:4, 1] = True  # the second is wrong too seldom
    unsure = np.linspace(1, 0, 40).reshape(20, 2)
    assert module.errors(unsure, missed).under(np.ones((1, 20)))[0] == 1.0
    up, flat, down = (0.7, 0.6, 0.8), (0.5, 0.4, 0.6), (-0.1, -0.2, -0.05)
    assert module.verdict([up, up], [up] * 3) == "holds"
    assert module.verdict([up, up], [up, up, flat]) == "cannot tell here"
    assert module.verdict([up, down], [up] * 3) == module.verdict([up, up], [up, flat, flat]) == "does not hold"


def _blocks() -> im.ConceptSpace:
    return im.ConceptSpace.of(im.Concept("a"), im.Concept("b", "categorical", ("x", "y", "z")))


def test_maps_are_held_against_boxes_and_verdicts_follow_the_rule(claim: Any) -> None:
    looks, there = claim("looks"), claim("existing")
    looks.SIZES = {"train": 80, "validation": 30, "test": 30, "rotation": 5.0}
    data = looks.world("free", 0)
    found = looks.looked(looks.fit(data, 0, 1), data.test.take(range(6)))
    assert found.own.shape == found.other.shape == (6,) and 0 <= found.inside <= 1 and found.distance > 0
    far = [np.ones(40)], [np.zeros(40)]
    assert looks.apart(*far).value == 100 and looks.apart(*far).above
    make = claim("_fits").Difference
    assert looks.verdict(make(20, 15, 25), make(15, 11, 20)) == "holds"
    assert looks.verdict(make(20, 15, 25), make(5, 2, 8)) == "does not hold"
    assert looks.verdict(make(12, -1, 25), make(15, 11, 20)) == "cannot tell here"
    np.testing.assert_allclose(there.existing(np.array([[1.0, 0, 1]]), np.array([[3.0, 2, 1]]), 2), [0.5])
    assert there.verdict(make(-9, -12, -6), make(-5, -9, -1)) == "holds"
    assert there.verdict(make(-3, -4.5, -1), make(-5, -9, -1)) == "does not hold"


def test_leakage_of_modes_and_codes_beside_concepts(claim: Any) -> None:
    leakage, codes = claim("leakage"), claim("disentangled")
    found = leakage.leaks(im.data.load("trig", rows=260), (0,))
    assert set(found) == set(leakage.MODES) and found["joint"][0].shape == (1001,)
    data = im.data.load("robot", train=60, validation=30, test=40)
    hits = codes.hits(data, 0, (30,), (1, 1))
    assert hits["codes", 30].shape == hits["concepts", 30].shape == (40,)
    model = codes.VAE()
    assert model.decoder(torch.zeros(2, codes.CODES)).shape == (2, 3, 64, 64)
    make = claim("_fits").Difference
    assert leakage.verdict([make(5, 1, 9)] * 6) == "holds" and leakage.verdict([make(5, -1, 9)] * 6) == "does not hold"
    assert codes.verdict({200: make(8, 6, 9), 1000: make(7, 5, 9)}) == "holds"


def test_repairs_are_measured_and_never_refute_what_is_reconstructed(claim: Any) -> None:
    mending, forgetting = claim("repair"), claim("forgetting")
    images = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    assert mending.shifted(images, "red stain")[0, :, 0, 0].tolist() == [140, 100, 100]
    assert int(mending.shifted(images, "dim lamp").max()) == 60 and torch.equal(mending.shifted(images, "soft focus"), images)
    make = claim("_fits").Difference
    assert mending.verdict(make(3, 1, 5), make(0, -0.5, 0.5)) == "holds"
    assert mending.verdict(make(-3, -5, -1), make(0, -0.5, 0.5)) == "cannot tell here"
    row = {"membership": 0.5, "membership_retrained": 0.51, "forget": 0.0, "faster": 5.0}
    assert forgetting.verdict(row, make(0, -1, 1)) == "holds"
    assert forgetting.verdict({**row, "forget": 0.9}, make(-30, -31, -29)) == "cannot tell here"


def test_a_picture_that_stands_for_four_classes_counts_once(claim: Any) -> None:
    draw = np.random.default_rng(0)
    apart, rows = draw.normal(size=50), np.arange(50)
    one = [{"rows": rows, "apart": apart}]
    found, alone = (claim("forgetting").pooled([each]) for each in (one * 4, one))
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), rel=0.15)
    assert claim("_fits").difference([np.tile(apart, 4)]).low > alone.low / 1.5 or alone.low > 0


def test_recalibrated_concepts(claim: Any, small: Splits) -> None:
    module = claim("recalibrated")
    model = claim("_fits").fit("cbm", small, 0, epochs=2)
    before, error, answers = module.measured([model], small)
    new = im.repair.recalibrate(model, small.validation, why="w")
    c = small.test.c.double().numpy()  # type: ignore[union-attr]
    ece = [
        100 * im.metrics.METRICS["concept_ece"](c, each(small.test.x).concepts.values.double().numpy()) for each in (model, new)
    ]
    assert before == pytest.approx(ece[0]) and error.value == pytest.approx(ece[1] - ece[0])
    make = claim("_fits").Difference
    assert module.verdict([(make(-2, -3, -1), make(0, -0.5, 0.5))] * 2) == "holds"
    assert module.verdict([(make(-2, -3, -1), make(-2, -3, -1))] * 2) == "cannot tell here"
    assert module.verdict([(make(2, 1, 3), answers)] * 2) == "does not hold"


def test_pinned_weights(claim: Any, small: Splits) -> None:
    module = claim("pinned")
    model = claim("_fits").fit("cbm", small, 0, epochs=10, lr=0.02)
    found = module.measured(model, small)
    assert {part.shape for part in found.values()} == {(len(small.test), small.task.width)}
    assert abs(found["pinned"].mean()) < found["refit"].mean() / 2
    make = claim("_fits").Difference
    assert module.verdict(make(30, 28, 32), make(1, 0, 3)) == "holds"
    assert module.verdict(make(30, 28, 32), make(20, 18, 22)) == "does not hold"
    assert module.verdict(make(4, 3, 5), make(0, 0, 0)) == "cannot tell here"


def test_a_box_explained(claim: Any, small: Splits) -> None:
    module = claim("explained")
    data, other = module.parted(small, 60)
    assert len(data.train) == 60 and len(other) == 60
    model = claim("_fits").fit("blackbox", data, 0, epochs=5)
    found = module.measured(model, other, small.test)
    assert set(found) == {"labelled", "whole", "chance"} and all(part.shape == (len(small.test),) for part in found.values())
    make = claim("_fits").Difference
    assert module.verdict(make(80, 75, 85), make(95, 93, 97), make(30, 28, 32)) == "holds"
    assert module.verdict(make(50, 45, 55), make(95, 93, 97), make(30, 28, 32)) == "cannot tell here"
