"""Repairs: what they change is known, they save and load, histories hold, and each refuses what it cannot do."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus import hub, registry, testing
from isthmus.data.table import Splits, Table
from isthmus.errors import DataError, IsthmusError, OptionError
from isthmus.interventions import adapt as adapting
from isthmus.interventions import forget as forgetting
from isthmus.interventions import repair
from isthmus.model import ConceptModel
from isthmus.space import ConceptSpace, Task

NAMES = ("a", "b", "c", "stain")
SPACE, TASK = ConceptSpace.binary(NAMES), Task.classes(("x", "y", "z"))


def rows(n: int, seed: int, *, stain: str = "with", weak: float = 0.0) -> Table:
    """Three concepts that make three classes, and a stain that goes 'with' class x, or is 'everywhere'; 'c' read ``weak``."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 3, n)
    c = (draw.random((n, 4)) < 0.1).astype(np.float32)
    c[np.arange(n), y] = 1
    c[:, 3] = (draw.random(n) < np.where(y == 0, 0.97, 0.03)) if stain == "with" else 1
    x = 2 * c - 1 + np.array([0.9, 0.6, 0.6, 0.2], np.float32) * draw.normal(size=c.shape).astype(np.float32)
    x[:, 2] -= weak
    return Table(torch.from_numpy(x).float(), torch.from_numpy(c), torch.from_numpy(y), SPACE, TASK)


@pytest.fixture(scope="module")
def fitted() -> tuple[ConceptModel, Splits]:
    data = Splits(rows(600, 0), rows(300, 1), rows(300, 2), name="stained")
    return im.fit("cbm", data, mode="sequential", features="identity", epochs=80, lr=0.02), data


def right(model: ConceptModel, table: Table) -> float:
    return float((model(table.x).logits.argmax(1) == table.y).float().mean())


# test-time repair


def test_a_concept_that_misleads_out_of_domain_is_masked(fitted: tuple[ConceptModel, Splits], tmp_path: Path) -> None:
    model, data = fitted
    support, away = rows(24, 7, stain="everywhere"), rows(600, 8, stain="everywhere")
    how = {"gammas": (1.0001,), "tolerance": 0.05}  # masks alone
    new = repair.adapt(model, support, source=data.validation, why="another stain", validation=away, **how)
    entry = new.history[-1]["what"]
    assert "stain" in entry["masked"] and entry["found"] == "a change"
    assert right(new, away) > right(model, away) + 0.02
    assert right(new, data.validation) >= right(model, data.validation) - 0.05
    assert entry["source"]["after"] == pytest.approx(right(new, data.validation), abs=1e-6)
    k = NAMES.index("stain")
    assert float(new.head.weights[:, k].abs().max()) == 0
    loaded = hub.load(hub.save(new, tmp_path / "m"))
    assert torch.equal(loaded(away.x).logits, new(away.x).logits) and loaded.history == new.history


def test_what_is_folded_is_what_was_planned(fitted: tuple[ConceptModel, Splits]) -> None:
    """Masked: the logits with the concept at its source mean; amplified: at neutral + gamma (value - neutral)."""
    model, data = fitted
    new = deepcopy(model)
    w, bias = new.head.map.weight, new.head.map.bias
    home = adapting.shown(new, w, data.validation)
    known = adapting.of_source(new, home)
    change = adapting.Change((3,), (1,), 2.0)
    adapting.fold(w, bias, known, change)
    values = model(data.test.x).concepts.values.clone()
    values[:, 3] = known.mean[3]
    values[:, 1] = 2 * values[:, 1] - known.neutral[1]
    want = values @ model.head.map.weight.T + model.head.map.bias
    torch.testing.assert_close(new(data.test.x).logits, want, atol=1e-5, rtol=1e-5)
    planned = adapting.moved(model.head.map.weight, home, known, change)
    torch.testing.assert_close(planned, new(data.validation.x).logits, atol=1e-4, rtol=1e-4)
    assert float(known.neutral.abs().max()) == 0


def test_concepts_that_are_missed_are_amplified(fitted: tuple[ConceptModel, Splits]) -> None:
    model, data = fitted
    support, away = rows(48, 9, weak=1.5), rows(600, 10, weak=1.5)
    w = adapting.weights_of(model, "adapt")
    known = adapting.of_source(model, adapting.shown(model, w, data.validation))
    assert int(adapting.misleading(w, adapting.shown(model, w, support), known)[1].sum(0).argmax()) == NAMES.index("c")
    new = repair.adapt(model, support, source=data.validation, gammas=(2.0, 4.0, 8.0), tolerance=0.1, why="weak stain")
    assert "c" in new.history[-1]["what"]["amplified"]
    mine = away.take((away.y == 2).nonzero()[:, 0])
    assert right(new, mine) > right(model, mine)


def test_where_nothing_helps_the_model_stays_as_it_is(fitted: tuple[ConceptModel, Splits]) -> None:
    model, data = fitted
    new = repair.adapt(model, rows(12, 11), source=data.validation, why="the same domain")
    assert new.history[-1]["what"]["found"].startswith("nothing")
    for a, b in zip(model.state_dict().values(), new.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    strict = repair.adapt(model, rows(12, 7, stain="everywhere"), source=data.validation, tolerance=0.0, why="no loss at all")
    assert right(strict, data.validation) >= right(model, data.validation)


def test_a_row_that_is_left_out_chooses_nothing(fitted: tuple[ConceptModel, Splits]) -> None:
    model, data = fitted
    w = adapting.weights_of(model, "adapt")
    known = adapting.of_source(model, adapting.shown(model, w, data.validation))
    shots = adapting.shown(model, w, rows(6, 7, stain="everywhere"))
    hits = 0
    for row in range(6):
        rest = [i for i in range(6) if i != row]
        change = adapting.planned(w, adapting.Rows(shots.shown[rest], shots.logits[rest], shots.y[rest]), known, (1, 1, 2.0))
        one = adapting.Rows(shots.shown[[row]], shots.logits[[row]], shots.y[[row]])
        hits += int(adapting.moved(w, one, known, change).argmax(1)[0] == shots.y[row])
    assert adapting.left_out(w, shots, known, (1, 1, 2.0)) == pytest.approx(hits / 6)


# forgetting


def test_attributions_are_closed_under_a_linear_head_and_add_up_under_any() -> None:
    data = testing.world(("binary",))
    for head in ("linear", "mlp"):
        model = testing._fit("cbm", data, {"head": head}, 0).fit(data)
        z = model.encode(data.test.x)
        out = model.answer(z)
        found = repair.attributions(model, z, 1, torch.zeros(len(model.space)), steps=200)
        zero = im.Concepts(torch.zeros_like(out.concepts.values))
        gained = out.logits[:, 1] - model.head(zero, z)[:, 1]
        torch.testing.assert_close(found.sum(1), gained, atol=1e-3, rtol=1e-2)
        if head == "linear":
            torch.testing.assert_close(found, out.concepts.values * model.head.map.weight[1])


def test_a_class_is_its_concept(fitted: tuple[ConceptModel, Splits]) -> None:
    model, data = fitted
    assert next(iter(repair.class_concepts(model, data.train, "y"))) == "b"


@pytest.mark.parametrize("labels", ["random", "targeted"])
def test_a_class_is_forgotten_and_the_rest_kept(fitted: tuple[ConceptModel, Splits], labels: str, tmp_path: Path) -> None:
    model, data = fitted
    new = repair.forget(model, data, "y", labels=labels, epochs=12, lr=0.02, why="withdrawn")  # type: ignore[arg-type]
    told = repair.forgotten(new, data, "y", original=model, retrained=model, seconds={"forget": 1.0, "retrain": 3.0})
    assert told["forget"]["value"] < 0.3 and told["retain"]["value"] > right(model, data.test) - 0.15
    assert told["speed_up"]["value"] == 3 and 0 <= told["membership"]["value"] <= 1
    assert told["agreement"]["value"] < 0.9 and told["divergence"]["value"] > 0
    assert told["forget"]["low"] <= told["forget"]["value"] <= told["forget"]["high"]
    entry = new.history[-1]
    assert entry["edit"] == "forget" and "b" in entry["what"]["concepts"] and entry["why"] == "withdrawn"
    loaded = hub.load(hub.save(new, tmp_path / "m"))
    assert torch.equal(loaded(data.test.x).logits, new(data.test.x).logits)


def test_an_entry_says_whether_the_class_is_forgotten(fitted: tuple[ConceptModel, Splits]) -> None:
    """On validation rows: accuracy on the class and on the others, and membership, before and after, with intervals."""
    from sklearn.metrics import roc_auc_score

    model, data = fitted
    held, own = data.validation, data.validation.y == 1
    for how in ({"epochs": 12, "lr": 0.05}, {"by": "head"}):
        new = repair.forget(model, data, "y", why="withdrawn", **how)  # type: ignore[arg-type]
        told = new.history[-1]["what"]["scores"]
        for when, each in (("before", model), ("after", new)):
            assert told["forget"][when]["value"] == pytest.approx(right(each, held.take(own.nonzero()[:, 0])))
            assert told["retain"][when]["value"] == pytest.approx(right(each, held.take((~own).nonzero()[:, 0])))
            loss = [each(part.x[part.y == 1]).logits.double().log_softmax(1)[:, 1] for part in (data.train, held)]
            member = np.arange(sum(map(len, loss))) < len(loss[0])
            assert told["membership"][when]["value"] == pytest.approx(roc_auc_score(member, torch.cat(loss)))
            assert told["forget"][when]["low"] <= told["forget"][when]["value"] <= told["forget"][when]["high"]
        assert told["forget"]["after"]["value"] < 1 / 3 < told["forget"]["before"]["value"]
    assert new.history[-1]["what"]["by"] == "head"


def test_a_class_that_is_not_forgotten_is_warned_of(fitted: tuple[ConceptModel, Splits]) -> None:
    model, data = fitted
    with pytest.warns(UserWarning, match=r"validation rows of 'y' are still decided rightly, more than the 33% of a guess"):
        repair.forget(model, data, "y", epochs=1, lr=1e-5, why="withdrawn")


def test_scores_of_forgetting_are_those_of_another_library(fitted: tuple[ConceptModel, Splits]) -> None:
    from scipy.stats import entropy
    from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

    model, data = fitted
    new, other = repair.forget(model, data, "y", epochs=6, lr=0.05, why="withdrawn"), model
    told = repair.forgotten(new, data, "y", original=model, retrained=other)
    y, p, q = data.test.y.numpy(), *(each(data.test.x).logits.double().softmax(1).numpy() for each in (new, other))
    a, b, own = p.argmax(1), q.argmax(1), y == 1
    assert told["forget"]["value"] == pytest.approx(accuracy_score(y[own], a[own]))
    assert told["retain"]["value"] == pytest.approx(accuracy_score(y[~own], a[~own]))
    assert told["agreement"]["value"] == pytest.approx((a == b).mean())
    assert told["divergence"]["value"] == pytest.approx(entropy(q, p, axis=1).mean(), rel=1e-5), "of the new from the retrained"
    gap = f1_score(y, a, average="macro") - f1_score(y, b, average="macro")
    assert told["f1_gap"]["value"] == pytest.approx(gap) and gap < 0
    for name, each in (("membership", new), ("membership_before", model)):
        loss: list[float] = []
        for part in (data.train, data.test):
            mine = part.take((part.y == 1).nonzero()[:, 0])
            for row in each(mine.x).logits.double().softmax(1).numpy():
                loss.append(log_loss([1], [row], labels=[0, 1, 2]))
        member = np.arange(len(loss)) < int((data.train.y == 1).sum())
        assert told[name]["value"] == pytest.approx(roc_auc_score(member, -np.array(loss)), abs=1e-6)


@pytest.mark.filterwarnings("ignore:forget")
def test_the_encoder_unlearns_where_it_is_asked_to(tmp_path: Path) -> None:
    data = testing.world(("binary",), rows=400)
    model = im.fit("cbm", data, epochs=20, lr=0.01)
    kept = repair.forget(model, data, "b", epochs=12, why="withdrawn")
    gone = repair.forget(model, data, "b", epochs=12, lr=1e-2, encoder=True, why="withdrawn")
    assert torch.equal(kept.encode(data.test.x), model.encode(data.test.x))
    assert not torch.equal(gone.encode(data.test.x), model.encode(data.test.x))
    loaded = hub.load(hub.save(gone, tmp_path / "m"))
    assert torch.equal(loaded(data.test.x).logits, gone(data.test.x).logits) and loaded.history == gone.history
    assert repair.forgotten(gone, data, "b", original=model)["forget"]["value"] < right(model, data.test)
    bare = im.fit("cbm", data, features="identity", epochs=1)
    with pytest.raises(OptionError, match="no weights to learn"):
        repair.forget(bare, data, "b", encoder=True, why="withdrawn")


def test_emptying_the_head_hides_at_once_and_erases_nothing(fitted: tuple[ConceptModel, Splits]) -> None:
    model, data = fitted
    new = repair.forget(model, data, "y", by="head", why="withdrawn")
    told = repair.forgotten(new, data, "y")
    assert told["forget"]["value"] == 0 and told["probe_concepts"]["value"] > 0.95
    assert torch.equal(new(data.test.x).concepts.values, model(data.test.x).concepts.values)


def test_targeted_labels_are_the_nearest_class_and_random_ones_never_the_class() -> None:
    from isthmus.interventions.forget import _relabelled

    data = Splits(rows(200, 0), rows(60, 1), rows(60, 2), name="r")
    model = im.fit("cbm", data, features="identity", epochs=5)
    told = _relabelled(model, data, 1, "random", 0.5, [], 0)
    own = int((data.train.y == 1).sum())
    assert not bool((told.train.y[:own] == 1).any()) and bool(told.train.c[:own].isnan().all())
    assert len(told.train) == own + round(0.5 * (200 - own)) and not bool((told.validation.y == 1).any())


def test_a_class_is_forgotten_after_other_edits(linear: tuple[ConceptModel, Splits]) -> None:
    """Rows keep the names and columns they were labelled under; the model's have changed since."""
    model, data = linear
    rows = data.train
    for edited in (
        im.edit.remove(model, ["colour", "weight"], why="w"),
        im.edit.rename(model, {"age": "years lived"}, why="w"),
        im.edit.remove(im.edit.rename(model, {"age": "years lived"}, why="w"), "size", why="w"),
    ):
        told = forgetting._relabelled(edited, data, 1, "random", 1.0, [], 0)
        own = int((rows.y == 1).sum())
        assert told.train.space == edited.space
        assert bool(told.train.c[:own].isnan().all())
        want = im.edit.follow(edited, rows).labels_for(edited.space)
        pair = (told.train.c[own:], want[rows.y != 1])
        assert torch.equal(*(part.nan_to_num(-9).sort(dim=0).values for part in pair)), "the same rows in another order"
        new = repair.forget(edited, data, "b", epochs=20, why="withdrawn")
        assert not torch.equal(new.bottleneck.score.weight, edited.bottleneck.score.weight)


def test_numbers_are_taught_in_the_models_own_units(linear: tuple[ConceptModel, Splits]) -> None:
    """The class's rows, whose labels are withheld, must not move the center and scale that numbers are read by."""
    model, data = linear
    told = forgetting._relabelled(model, data, 1, "targeted", 0.2, [], 0)
    assert [(c.center, c.scale) for c in told.train.space.concepts] == [(c.center, c.scale) for c in model.space.concepts]
    assert told.train.space.concepts[-1].center != pytest.approx(float(told.train.c[:, -1].nanmean()), abs=1e-3)


# calibration


def test_recalibrated_concepts_err_less_on_other_rows_and_others_stay(fitted: tuple[ConceptModel, Splits]) -> None:
    model, data = fitted
    broken = deepcopy(model)
    with torch.no_grad():
        broken.bottleneck.score.weight[:2] *= 6
        broken.bottleneck.score.bias[:2] += 12
    new = repair.recalibrate(broken, data.validation, ["a", "b"], why="overconfident", validation=data.test)
    told = new.history[-1]["what"]["concept_ece"]
    assert told["after"] < told["before"] - 0.005
    low, high = told["interval"]
    assert low < told["after"] - told["before"] < high < 0
    assert torch.equal(new(data.test.x).concepts.values[:, 2:], broken(data.test.x).concepts.values[:, 2:])
    given = im.given(model.space, {"a": 1})
    assert float(new(data.test.x[:1], given).concepts.values[0, 0]) == 1.0


def test_percentiles_of_logits_move_with_the_scale() -> None:
    data = Splits(rows(300, 0), rows(200, 1), rows(100, 2), name="r")
    model = im.fit("cbm", data, features="identity", mode="sequential", reading="logit", epochs=20)
    new = repair.recalibrate(model, data.validation, why="w")
    before, after = (part.bottleneck.score(model.encode(data.train.x)) for part in (model, new))
    for part, logits in ((model, before), (new, after)):
        want = torch.stack([column.quantile(0.95) for column in logits.T])
        torch.testing.assert_close(part.bottleneck.high, want, atol=2e-3, rtol=2e-3)


def test_a_class_that_was_never_answered_is_not_said_to_be_forgotten(fitted: tuple[ConceptModel, Splits]) -> None:
    model, data = fitted
    blind = repair.forget(model, data, "x", by="head", why="w")
    with pytest.warns(UserWarning, match="no validation row of 'x' was decided rightly before"):
        repair.forget(blind, data, "x", by="head", why="again")


def test_refusals(fitted: tuple[ConceptModel, Splits]) -> None:
    model, data = fitted
    wide = im.fit("cbm", data, features="identity", head="mlp", epochs=2)
    strange = testing.world(("binary",))
    other = im.fit("cbm", strange, features="identity", epochs=1)
    without = replace(data, test=data.test.take((data.test.y != 0).nonzero()[:, 0]))
    for call, said in (
        (lambda: repair.adapt(wide, data.validation, source=data.validation, why="w"), "linear head"),
        (lambda: repair.adapt(model, data.validation, source=data.validation, gammas=(0.5,), why="w"), "gammas above 1"),
        (lambda: repair.adapt(model, data.validation.replace(y=None), source=data.validation, why="w"), "labels"),
        (lambda: repair.forget(model, data, "q", why="w"), "known: x, y, z|did you mean"),
        (lambda: repair.forget(model, data, "x", by="magic", why="w"), "'head' or 'relabel'"),  # type: ignore[arg-type]
        (lambda: repair.forget(wide, data, "x", by="head", why="w"), "linear head"),
        (lambda: repair.forget(model, data, "x", why=" "), "why"),
        (lambda: repair.recalibrate(model, data.validation.replace(c=None, space=ConceptSpace()), why="w"), "labels"),
        (lambda: repair.recalibrate(model, data.validation.take(torch.arange(9)), why="w"), "at least 10 rows .* got 9"),
        (lambda: repair.pin(model, {}, data, why="w"), "got 'none'"),
        (lambda: repair.pin(model, {("x", "a"): float("nan")}, data, why="w"), "finite"),
        (lambda: repair.pin(model, {("x", "a"): "1"}, data, why="w"), "'a': expected a finite weight, .* got '1'"),  # type: ignore[dict-item]
        (lambda: repair.pin(model, {"x": 1.0}, data, why="w"), r"keys \(class, concept\), got 'x'"),  # type: ignore[dict-item]
        (lambda: repair.pin(model, {("x", "a"): 1.0}, data, l2="much", why="w"), "l2, a number"),  # type: ignore[arg-type]
        (lambda: repair.pin(model, {("x", "a"): 1.0}, strange, why="w"), "expected the task"),
        (lambda: repair.forget(model, data.train, "x", why="w"), "expected Splits, got Table"),  # type: ignore[arg-type]
        (lambda: repair.forget(model, data, 1.5, why="w"), "a name or an index, got 1.5"),  # type: ignore[arg-type]
        (lambda: repair.forget(model, data, "x", retain=0, why="w"), "retain above 0"),
        (lambda: repair.forget(model, data, "x", retain="all", why="w"), "a share from 0 to 1, got 'all'"),  # type: ignore[arg-type]
        (lambda: forgetting.forgotten(model, without, "x"), "test rows of 'x' and of other classes"),
        (lambda: forgetting.forgotten(model, data, "x", retrained=other), "expected the task"),
        (lambda: forgetting.forgotten(model, data, "x", seconds={"forget": 1.0}), "'forget' and 'retrain', got"),
    ):
        with pytest.raises(IsthmusError, match=said):
            call()


def test_what_no_option_can_be_is_refused_by_its_name(fitted: tuple[ConceptModel, Splits]) -> None:
    model, data = fitted
    held, none = data.validation, data.validation.take([])
    other = testing.world(("binary",)).validation
    adapt = lambda support=held, source=held, **how: repair.adapt(model, support, source=source, why="w", **how)  # noqa: E731
    forget = lambda **how: repair.forget(model, data, "x", why="w", **how)  # noqa: E731
    tune = lambda **how: im.edit.finetune(model, data, why="w", **how)  # noqa: E731
    for call, said in (
        (lambda: adapt(source=None), "adapt: source: expected a Table, .* got NoneType"),
        (lambda: adapt(data), "adapt: support: expected a Table, .* got Splits; take a part of it"),
        (lambda: adapt(none), "adapt: support: expected a few labelled rows of the new domain, at least one, got none"),
        (lambda: adapt(other), "adapt: support: the model decides"),
        (lambda: adapt(most=2.5), "adapt: most: expected a whole number of at least 1, got 2.5"),
        (lambda: adapt(gammas="2"), "adapt: expected gammas above 1, .* got '2'"),
        (lambda: adapt(gammas=(float("nan"),)), "gammas above 1"),
        (lambda: adapt(tolerance="a"), "adapt: tolerance: expected a share from 0 to 1, got 'a'"),
        (lambda: forget(lr=-1), "forget: lr: expected a finite number above 0, got -1"),
        (lambda: forget(lr=float("nan")), "forget: lr: expected a finite number above 0, got nan"),
        (lambda: forget(batch_size=0), "forget: batch_size: expected a whole number of at least 1, got 0"),
        (lambda: forget(most=-3), "forget: most: .* at least 1, got -3"),
        (lambda: forget(seed=-1), "forget: seed: .* at least 0, got -1"),
        (lambda: forget(validation=none), "forget: validation: expected labelled rows, at least one, got none"),
        (lambda: tune(validation=none), "finetune: validation: expected labelled rows, at least one, got none"),
        (lambda: tune(lr=0), "finetune: lr: expected a finite number above 0, got 0"),
        (lambda: tune(batch_size=0), "finetune: batch_size: .* at least 1, got 0"),
        (lambda: repair.pin(model, {("x", "a"): 0.0}, data, validation=none, why="w"), "pin: validation: .* got none"),
        (lambda: repair.pin(model, {("x", "a"): 0.0, (0, 0): 2.0}, data, why="w"), "'a' for 'x' twice; name it once"),
        (lambda: repair.recalibrate(model, data, why="w"), "recalibrate: rows: expected a Table, .* got Splits"),  # type: ignore[arg-type]
    ):
        with pytest.raises(IsthmusError, match=said):
            call()
    number = repair.forget(model, data, np.int64(1), by="head", why="w")  # type: ignore[arg-type]
    assert number.history[-1]["what"]["class"] == "y"
    assert im.edit.prune(model, np.int64(1), why="w").history[-1]["what"]["concepts"] == ["b"]  # type: ignore[arg-type]


REFUSALS = {
    "adapt": "needs a linear head",
    "forget": "expected a task of classes and a model with concepts",
    "recalibrate": "no layer of one row a column|which have probabilities|labels of the model's concepts",
}
REPAIRED = {  # methods that are known to take the repair: one that starts to refuse is a loss
    "adapt": {
        "cbm",
        "knobo",
        "labelfree",
        "pcbm",
        "pcbm_h",
        "realigned",
        "sidechannel",
        "text2concept",
        "vlgcbm",
        "medical",
        "random_concepts",
    },
    "forget": set(registry.methods()) - {"blackbox", "linear_probe"},
    "recalibrate": {"cbm", "intcem", "knobo", "realigned", "sidechannel"},
}


@pytest.mark.filterwarnings("ignore:forget")  # one epoch
@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_every_method_is_repaired_or_refuses_and_stays_as_it_was(name: str) -> None:
    data = testing.world(("binary",), worded=True)
    model = testing._fit(name, data, {}, 0).fit(data)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first = data.task.names[0]
    for edit, call in (
        ("adapt", lambda: repair.adapt(model, data.validation, source=data.validation, why="w")),
        ("forget", lambda: repair.forget(model, data, first, epochs=1, why="w")),
        ("recalibrate", lambda: repair.recalibrate(model, data.validation, why="w")),
    ):
        if name in REPAIRED[edit]:
            new = call()
            assert new.history[-1]["edit"] == edit and len(new.history) > len(model.history)
            continue
        with pytest.raises((OptionError, DataError), match=REFUSALS[edit]) as refused:
            call()
        assert "\n" not in str(refused.value)
    after = model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
