"""The chain of edits: changes that leave a sound manifest are refused by name; what it cannot see is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import isthmus as im
from isthmus import hub, registry
from isthmus.errors import DataError, IntegrityError
from isthmus.features import build
from isthmus.interventions import chain
from isthmus.model import ConceptModel
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.testing import world

Rows = list[dict[str, Any]]
KINDS = ("binary", "continuous")


@pytest.fixture(scope="module")
def edited() -> ConceptModel:
    """Three training rows, then four edits, a training among them."""
    data = world(KINDS)
    made = registry.get("cbm").make(build("identity", dim=8), data.space, data.task, epochs=3, reading="soft").fit(data)
    made = im.edit.prune(made, "age", why="first")
    made = im.edit.rename(made, {"weight": "mass"}, why="second", validation=data.validation)
    made = im.edit.finetune(made, data, epochs=2, patience=0, why="third")
    return im.edit.reweight(made, {("a", "mass"): 1.5}, why="fourth")


@pytest.fixture
def saved(edited: ConceptModel, tmp_path: Path) -> Path:
    return hub.save(edited, tmp_path / "run")


def forge(folder: Path, change: Callable[[Rows], object]) -> None:
    """Change the history as an attacker who also makes the manifest right."""
    rows = json.loads((folder / "history.json").read_text())
    made = change(rows)
    hub.write_json(folder / "history.json", rows if made is None else made)
    resign(folder)


def resign(folder: Path) -> None:
    hub.write_json(folder / hub.MANIFEST, {name: hub.digest(folder / name) for name in hub.FILES})
    hub.verify(folder)


EDITS = [3, 4, 7, 8]  # places in the history: rows 0 to 2 and 5, 6 are training


def test_a_chain_holds_after_saving(edited: ConceptModel, saved: Path) -> None:
    rows = hub.load(saved).history
    assert [place for place, row in enumerate(rows) if "edit" in row] == EDITS
    found = [rows[place] for place in EDITS]
    assert [row["edit"] for row in found] == ["prune", "rename", "finetune", "reweight"]
    assert found[0]["previous"] is None
    for one, two in pairwise(found):
        assert two["previous"] == one["hash"]
        assert two["before"] == one["after"]
    assert found[-1]["after"] == chain.digest(edited) == chain.digest(hub.load(saved))
    assert all(row["before"] != row["after"] for row in found)


@pytest.mark.parametrize("place", EDITS)
@pytest.mark.parametrize("key", chain.KEYS)
def test_a_changed_entry_is_refused_and_named(saved: Path, place: int, key: str) -> None:
    def change(rows: Rows) -> None:
        was = rows[place][key]
        rows[place][key] = {"was": was} if isinstance(was, dict) else "0" * 64 if key != "edit" else "other"

    forge(saved, change)
    with pytest.raises(IntegrityError, match=rf"history.json: entry {place} .*was changed since it was written") as caught:
        hub.load(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", chain.KEYS[1:])
def test_an_entry_that_lacks_a_key_is_refused(saved: Path, key: str) -> None:
    forge(saved, lambda rows: rows[4].pop(key) and None)
    with pytest.raises(IntegrityError, match=rf"entry 4 \('rename'\) lacks '{key}'"):
        hub.load(saved)


def rehashed(rows: Rows, place: int, **changes: object) -> None:
    rows[place] |= changes
    rows[place]["hash"] = chain.sealed(rows[place])


ATTACKS: dict[str, tuple[Callable[[Rows], object], str]] = {
    "one dropped from the middle": (lambda r: r.pop(4) and None, r"entry 6 \('finetune'\) does not follow"),
    "the first dropped": (lambda r: r.pop(3) and None, r"entry 3 \('rename'\) does not follow"),
    "the last dropped": (lambda r: r.pop(8) and None, r"entry 7 \('finetune'\) left another model"),
    "two swapped": (lambda r: [*r[:3], r[4], r[3], *r[5:]], r"entry 3 \('rename'\) does not follow"),
    "one repeated": (lambda r: [*r[:4], r[3], *r[4:]], r"entry 4 \('prune'\) does not follow"),
    "a text changed, its hash made right": (lambda r: rehashed(r, 3, why="kind"), r"entry 4 \('rename'\) does not follow"),
    "another model before": (lambda r: rehashed(r, 4, before="0" * 64), r"entry 4 \('rename'\) begins from another model"),
    "another model after": (lambda r: rehashed(r, 8, after="0" * 64), r"entry 8 \('reweight'\) left another model"),
    "a training row changed": (lambda r: r[1].update(validation=0.0), r"entry 3 \('prune'\) stands after other training"),
    "fine-tuning dropped": (lambda r: r.pop(5) and None, r"entry 6 \('finetune'\) stands after other training"),
    "an edit made a training row": (lambda r: r[4].update(edited=r[4].pop("edit")), r"entry 7 \('finetune'\) does not follow"),
    "the last made a training row": (lambda r: r[8].update(edited=r[8].pop("edit")), r"entry 8: the training after"),
    "training added at the end": (lambda r: r.append({"stage": "more"}), r"entry 9: the training after the last edit"),
    "an entry of nothing": (lambda r: r.insert(4, {"edit": "prune"}), r"entry 4 \('prune'\) lacks 'who'"),
    "a kind of many lines": (lambda r: rehashed(r, 3, edit="a\nb" * 99), r"entry 4 \('rename'\) does not follow"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_forged_chain_is_refused_and_the_entry_named(saved: Path, name: str) -> None:
    change, match = ATTACKS[name]
    forge(saved, change)
    with pytest.raises(IntegrityError, match=match) as caught:
        hub.load(saved)
    assert "\n" not in str(caught.value)


def test_other_weights_concepts_task_or_options_are_refused(saved: Path, edited: ConceptModel, tmp_path: Path) -> None:
    def weights(folder: Path) -> None:
        found = load_file(folder / "weights.safetensors")
        found["head.map.weight"][0, 0] = torch.nextafter(found["head.map.weight"][0, 0], torch.tensor(9.0))
        save_file(found, folder / "weights.safetensors")

    def concepts(folder: Path) -> None:
        rows = json.loads((folder / "space.json").read_text())
        rows[0]["name"] = "another"
        (folder / "space.json").write_text(json.dumps(rows))

    def card(key: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
        def made(folder: Path) -> None:
            told = json.loads((folder / "card.json").read_text())
            told[key] = change(told[key])
            hub.write_json(folder / "card.json", told)

        return made

    changes = (
        weights,
        concepts,
        card("task", lambda task: task | {"names": ["c", "b", "a"]}),
        card("options", lambda options: options | {"reading": "hard"}),
    )
    for number, change in enumerate(changes):
        folder = hub.save(edited, tmp_path / str(number))
        change(folder)
        resign(folder)
        with pytest.raises(IntegrityError, match=r"entry 8 \('reweight'\) left another model"):
            hub.load(folder)


def test_what_the_chain_cannot_see(saved: Path, edited: ConceptModel) -> None:
    """As its page says: whoever may write the files can make a chain of their own, or have none."""

    def anew(rows: Rows) -> None:
        previous = None
        for place in EDITS:
            rehashed(rows, place, who="nobody", previous=previous)
            previous = rows[place]["hash"]

    forge(saved, anew)
    found = hub.load(saved)
    assert found.history[3]["who"] == "nobody"
    assert found.history[-1]["hash"] != edited.history[-1]["hash"], "but the last hash, kept elsewhere, tells"
    forge(saved, lambda rows: rows[:3])
    assert chain.edits(hub.load(saved).history) == []


def test_a_model_without_edits_loads_as_before(tmp_path: Path) -> None:
    data = world(KINDS)
    made = registry.get("cbm").make(build("identity", dim=8), data.space, data.task, epochs=1).fit(data)
    folder = hub.save(made, tmp_path / "run")
    forge(folder, lambda rows: [*rows, {"stage": "anything"}])
    assert len(hub.load(folder).history) == 2


def test_a_model_changed_by_hand_after_an_edit_is_neither_saved_nor_edited(edited: ConceptModel, tmp_path: Path) -> None:
    loose = deepcopy(edited)
    loose.head.map.bias.data[0] += 1
    with pytest.raises(DataError, match=r"save: history, entry 8 \('reweight'\) left another model"):
        hub.save(loose, tmp_path / "run")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="entry 8"):
        im.edit.prune(loose, "mass", why="on")
    recorded = im.edit.record(edited, loose, "bias", {"class": "a", "by": 1.0}, why="by hand")
    loaded = hub.load(hub.save(recorded, tmp_path / "run"))
    assert im.edit.history(loaded)[-1]["what"] == {"class": "a", "by": 1.0}
    with pytest.raises(DataError, match="a copy of the old model with its history"):
        im.edit.record(edited, recorded, "bias", {}, why="twice")


def test_training_stages_after_an_edit_need_an_edit_of_their_own(edited: ConceptModel, tmp_path: Path) -> None:
    data, loose = world(KINDS), deepcopy(edited)
    im.Learn(im.losses.task, ("head",), epochs=1, name="head")(loose, data.fold)
    with pytest.raises(DataError, match="entry 9: the training after the last edit"):
        hub.save(loose, tmp_path / "run")


# the hashes


def test_the_digest_sees_each_thing_and_only_those() -> None:
    data = world(KINDS)
    model = registry.get("cbm").make(build("identity", dim=8), data.space, data.task, epochs=1).fit(data)
    own = chain.digest(model)
    assert chain.digest(deepcopy(model)) == own
    model.requires_grad_(True).train()
    model.history.append({"stage": "more"})
    assert chain.digest(model) == own
    changed = {
        "weight": lambda m: m.head.map.weight.data.neg_(),
        "buffer": lambda m: m.bottleneck.low.add_(1),
        "type": lambda m: m.bottleneck.double(),
        "shape": lambda m: setattr(m.bottleneck, "low", m.bottleneck.low.reshape(1, -1)),
        "space": lambda m: setattr(m, "space", ConceptSpace(tuple(reversed(m.space.concepts)))),
        "vectors": lambda m: setattr(m, "space", ConceptSpace(m.space.concepts, torch.ones(len(m.space), 2))),
        "more vectors": lambda m: setattr(m, "space", ConceptSpace(m.space.concepts, torch.ones(len(m.space), 3))),
        "task": lambda m: setattr(m, "task", Task.labels(m.task.names)),
        "options": lambda m: m.origin["options"].update(reading="hard"),
    }
    found = {own}
    for change in changed.values():
        other = deepcopy(model)
        change(other)
        found.add(chain.digest(other))
    assert len(found) == len(changed) + 1


def test_a_digest_takes_scalars_empty_tensors_and_half_numbers() -> None:
    space = ConceptSpace.of(Concept("a"))
    model = registry.get("cbm").make(build("identity", dim=2), space, Task.labels("y")).model
    for number, value in enumerate((torch.tensor(3), torch.zeros(0), torch.ones(2, dtype=torch.bfloat16), torch.tensor(True))):
        model.bottleneck.register_buffer(f"extra{number}", value)
    assert len(chain.digest(model)) == 64


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=12,
)


@given(JSON)
def test_a_hash_is_that_of_the_value_however_it_was_written(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False), json.dumps(value, sort_keys=True)):
        assert chain.sha(json.loads(text)) == chain.sha(value)


def test_a_hash_is_sha256_of_sorted_json() -> None:
    import hashlib

    assert chain.canonical({"b": [1, 2.5], "a": "é"}) == b'{"a":"\\u00e9","b":[1,2.5]}'
    assert chain.sha({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    assert chain.sealed({"why": "x", "hash": "any"}) == chain.sha({"why": "x"})
    assert chain.sha({2: "a", 10: "b"}) == chain.sha({"2": "a", "10": "b"})
    assert chain.sha(math.nan) == chain.sha(math.nan)
