"""Saved models: whole or absent, checked on load, never pickled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import isthmus as im
from isthmus import hub, registry
from isthmus.errors import DataError, IntegrityError, IsthmusError, OptionError
from isthmus.features import build
from isthmus.model import ConceptModel
from isthmus.testing import world


@pytest.fixture(scope="module")
def model() -> ConceptModel:
    data = world(("binary", "categorical", "continuous"))
    made = registry.get("cbm").make(build("mlp", dim_in=8, hidden=(8,), dim=6), data.space, data.task, epochs=2)
    return made.fit(data)


@pytest.fixture(scope="module")
def saved(model: ConceptModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hub.save(model, tmp_path_factory.mktemp("hub") / "run")


def test_the_files(saved: Path, model: ConceptModel) -> None:
    assert sorted(p.name for p in saved.iterdir()) == sorted([*hub.FILES, hub.MANIFEST])
    card = hub.card(saved)
    assert card["method"] == "cbm"
    assert card["options"] == {"epochs": 2}
    assert card["task"]["names"] == ["a", "b", "c"]
    again = hub.load(saved)
    x = world(("binary", "categorical", "continuous")).test.x
    assert torch.equal(again(x).logits, model(x).logits)
    assert again.space == model.space
    assert again.history == model.history


@settings(max_examples=60)
@given(position=st.integers(min_value=0), file=st.sampled_from([*hub.FILES, hub.MANIFEST]), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_and_named(saved: Path, position: int, file: str, bit: int) -> None:
    path = saved / file
    whole = path.read_bytes()
    torn = bytearray(whole)
    torn[position % len(torn)] ^= 1 << bit
    try:
        path.write_bytes(bytes(torn))
        with pytest.raises(IntegrityError) as caught:
            hub.load(saved)
        named = str(caught.value)
        assert file in named or file == hub.MANIFEST
        assert "\n" not in named
    finally:
        path.write_bytes(whole)
    hub.verify(saved)


@pytest.mark.parametrize("file", [*hub.FILES, hub.MANIFEST])
@pytest.mark.parametrize("fault", ["missing", "empty", "short"])
def test_a_missing_or_short_file_is_refused(model: ConceptModel, tmp_path: Path, file: str, fault: str) -> None:
    folder = hub.save(model, tmp_path / "run")
    path = folder / file
    data = path.read_bytes()
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if fault == "empty" else data[: len(data) // 2])
    with pytest.raises(IntegrityError):
        hub.load(folder)


def test_other_files_are_never_overwritten(model: ConceptModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="other files"):
        hub.save(model, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_saving_again_replaces_the_whole(model: ConceptModel, tmp_path: Path) -> None:
    for _ in range(2):
        hub.save(model, tmp_path / "run")
    hub.load(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_save_killed_between_its_renames_is_healed(model: ConceptModel, tmp_path: Path) -> None:
    folder = hub.save(model, tmp_path / "run")
    folder.rename(tmp_path / ".run.old")
    hub.load(folder)
    assert folder.exists()


def test_kill_while_saving_leaves_the_old_or_the_new(model: ConceptModel, tmp_path: Path) -> None:
    folder = hub.save(model, tmp_path / "run")
    script = (
        "import sys; from isthmus import hub; m = hub.load(sys.argv[1]); print('go', flush=True)\n"
        "while True: hub.save(m, sys.argv[1])"
    )
    for wait in (0.0, 0.01, 0.037):
        process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        hub.load(folder)


def test_a_newer_format_is_refused(model: ConceptModel, tmp_path: Path) -> None:
    folder = hub.save(model, tmp_path / "run")
    card = json.loads((folder / "card.json").read_text()) | {"format": 99}
    hub.write_json(folder / "card.json", card)
    hub.write_json(folder / hub.MANIFEST, {name: hub.digest(folder / name) for name in hub.FILES})
    with pytest.raises(IntegrityError, match="newer isthmus"):
        hub.load(folder)


def test_features_of_your_own_come_with_the_load(tmp_path: Path) -> None:
    class Mine(nn.Linear):
        dim = 6

    data = world(("binary",))
    model = registry.get("cbm").make(Mine(8, 6), data.space, data.task, epochs=1).fit(data)
    folder = hub.save(model, tmp_path / "run")
    with pytest.raises(OptionError, match="features="):
        hub.load(folder)
    again = hub.load(folder, features=Mine(8, 6))
    assert torch.equal(again(data.test.x).logits, model(data.test.x).logits)


def test_a_model_put_together_by_hand_cannot_be_saved(tmp_path: Path, model: ConceptModel) -> None:
    bare = ConceptModel(model.features, model.bottleneck, model.head, model.space, model.task)
    with pytest.raises(OptionError, match="registered method"):
        hub.save(bare, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_pretrained_round_trip(model: ConceptModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hub.save_pretrained(model, tmp_path / "run")
    assert "yes or no 1" in (folder / "README.md").read_text()
    x = world(("binary", "categorical", "continuous")).test.x
    assert torch.equal(hub.from_pretrained(folder)(x).logits, model(x).logits)
    sent: dict[str, object] = {}

    class Api:
        def __init__(self, token: str | None = None) -> None: ...

        def create_repo(self, name: str, **options: object) -> None:
            sent["repo"] = name, options

        def upload_folder(self, *, repo_id: str, folder_path: Path) -> str:
            sent["files"] = sorted(p.name for p in Path(folder_path).iterdir())
            return f"hub/{repo_id}/commit"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert hub.push_to_hub(model, "me/birds") == "hub/me/birds/commit"
    assert sent["repo"] == ("me/birds", {"private": True, "exist_ok": True})
    assert sent["files"] == sorted([*hub.FILES, hub.MANIFEST, "README.md"])


def test_an_unknown_repository_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **options: object) -> str:
        raise OSError("no network\nlong traceback")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(IsthmusError, match="neither") as caught:
        hub.from_pretrained("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_saving_over_a_model_deletes_nothing_else(tmp_path: Path) -> None:
    data = world(("binary",), rows=200)
    model = im.fit("cbm", data, features="identity", epochs=1)
    im.save(model, tmp_path / "run")
    im.save(model, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds 'notes.txt' beside a saved model"):
        im.save(model, tmp_path / "run")
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_every_file_of_a_model_may_be_read_by_others(tmp_path: Path) -> None:
    from tests.language import fit, scene, unlabelled

    folder = hub.save(fit("describe", unlabelled(scene())), tmp_path / "model")
    assert {oct(file.stat().st_mode & 0o777) for file in folder.iterdir()} == {"0o644"}
