"""The feature cache: the same values with and without it, resumed when interrupted, never wrong when damaged."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from isthmus.data import cache as cache_module
from isthmus.data import encode as encode_module
from isthmus.data import shards as shards_module
from isthmus.data.cache import FeatureCache, cached, default_folder
from isthmus.data.encode import compute, content_key, fingerprint, weights_digest
from isthmus.data.rows import Images, Texts
from isthmus.errors import DataError, OptionError
from isthmus.features.registry import Features, Recipe
from isthmus.features.tabular import MLP, mlp

ROWS, WIDTH, DIM = 10, 3, 4
SHARD = 4 * DIM * 4  # four rows


class Counting(Features):
    """Twice the sum of each row, ``DIM`` times; counts the rows it has seen."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.dim, self.seen = DIM, 0
        self.recipe = Recipe("counting", {})
        self.factor = torch.nn.Parameter(torch.tensor(factor))
        self.norm = torch.nn.BatchNorm1d(DIM)

    def prepare(self, raw: Tensor) -> Tensor:
        return raw.float()

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.norm(self.factor * x.flatten(1).sum(1, keepdim=True).expand(-1, DIM))


def rows(seed: int = 0) -> Tensor:
    return torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed))


def shard_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def manifest_file(folder: Path) -> Path:
    (path,) = folder.glob("*/manifest.json")
    return path


@pytest.fixture
def quiet_store(tmp_path: Path) -> FeatureCache:
    """Three shards of at most four rows."""
    return FeatureCache(tmp_path, shard_bytes=SHARD)


def expected(features: Features, x: Tensor) -> Tensor:
    with torch.no_grad():
        return features.eval()(features.prepare(x))


def test_computed_once_then_read(tmp_path: Path) -> None:
    store, features = FeatureCache(tmp_path), Counting()
    z = store.encode(features, rows(), batch_size=3)
    assert torch.allclose(z, expected(Counting(), rows()))
    assert (z.dtype, z.shape, z.requires_grad) == (torch.float32, (ROWS, DIM), False)
    assert features.seen == ROWS
    again = store.encode(features, rows())
    assert torch.equal(again, z)
    assert features.seen == ROWS + 2  # the first and the last row, to see that the code still gives them
    assert torch.equal(store.encode(features, rows(), check="quick"), z)
    assert features.seen == ROWS + 2


def test_cached_features_can_be_trained_on(quiet_store: FeatureCache) -> None:
    z = quiet_store.encode(Counting(), rows())
    head = torch.nn.Linear(DIM, 1)
    head(z).sum().backward()
    assert head.weight.grad is not None


def test_one_shard_is_memory_mapped_and_writing_into_it_stays_private(tmp_path: Path) -> None:
    features, x = mlp(3, dim=512), torch.randn(3000, 3)
    FeatureCache(tmp_path).encode(features, x)
    z = FeatureCache(tmp_path).encode(features, x)
    if sys.platform == "linux":
        assert str(shard_files(tmp_path)[0]) in Path("/proc/self/maps").read_text()
    before = z.clone()
    z.zero_()
    assert torch.equal(FeatureCache(tmp_path).encode(features, x), before)


def test_many_shards_are_put_together_in_order(quiet_store: FeatureCache) -> None:
    z = quiet_store.encode(Counting(), rows(), batch_size=3)
    assert len(shard_files(quiet_store.folder)) == 3
    assert torch.allclose(z, expected(Counting(), rows()))
    assert torch.equal(quiet_store.encode(Counting(), rows()), z)
    other = FeatureCache(quiet_store.folder, shard_bytes=10**6)  # another shard size reads what is there
    assert torch.equal(other.encode(Counting(), rows()), z)
    assert len(shard_files(quiet_store.folder)) == 3


def test_the_module_comes_back_as_it_was(quiet_store: FeatureCache) -> None:
    features = Counting().train()
    features.norm.eval()
    statistics = features.norm.running_mean.clone()  # type: ignore[union-attr]
    quiet_store.encode(features, rows())
    assert (features.training, features.norm.training) == (True, False)
    assert torch.equal(features.norm.running_mean, statistics)  # type: ignore[arg-type]


def variants() -> dict[str, tuple[Features, Any]]:
    other = Counting()
    other.recipe = Recipe("counting", {"a": 1})
    moved, statistics = rows(), Counting()
    moved[7, 1] += 1e-6
    statistics.norm.running_mean += 1  # type: ignore[operator]
    return {
        "as it is": (Counting(), rows()),
        "weights": (Counting(2.0001), rows()),
        "buffers": (statistics, rows()),
        "recipe": (other, rows()),
        "one cell": (Counting(), moved),
        "type": (Counting(), rows().double()),
        "shape": (Counting(), rows().reshape(ROWS, WIDTH, 1)),
        "order": (Counting(), rows().flip(0)),
        "fewer": (Counting(), rows()[:-1]),
        "texts": (Counting(), Texts(["a"])),
        "dict": (Counting(), {"x": rows()}),
    }


def test_the_key_holds_everything_that_matters() -> None:
    keys = {name: content_key(*pair) for name, pair in variants().items()}
    assert len(set(keys.values())) == len(keys)
    assert keys["as it is"] == content_key(Counting(), rows().T.contiguous().T)  # the content, not the layout
    assert keys["texts"] == content_key(Counting(), ["a"])
    assert fingerprint({"a": rows(), "b": rows(1)}) != fingerprint({"b": rows(), "a": rows(1)})
    assert fingerprint(Images([b"a", b"b"])) != fingerprint(Images([b"ab"]))
    nameless = Counting()
    nameless.recipe = None
    assert content_key(nameless, rows()) not in keys.values()
    assert weights_digest(torch.nn.Linear(2, 1)) != weights_digest(torch.nn.Linear(2, 1))


def test_rows_of_every_kind(quiet_store: FeatureCache) -> None:
    class Lengths(Counting):
        def prepare(self, raw: Any) -> Tensor:
            values = raw["text"] if isinstance(raw, dict) else raw
            found = torch.tensor([[float(len(text))] for text in values])
            return found + raw["x"] if isinstance(raw, dict) else found

    texts = [("ab" * i) for i in range(ROWS)]
    z = quiet_store.encode(Lengths(), texts, batch_size=3)
    assert torch.allclose(z, expected(Lengths(), texts))  # type: ignore[arg-type]
    assert torch.equal(quiet_store.encode(Lengths(), Texts(texts)), z)
    both = quiet_store.encode(Lengths(), {"x": rows()[:, :1], "text": Texts(texts)}, batch_size=4)
    assert torch.allclose(both, z + 2 * rows()[:, :1], atol=1e-3)


def test_progress_counts_rows(quiet_store: FeatureCache) -> None:
    seen: list[tuple[int, int]] = []
    quiet_store.encode(Counting(), rows(), batch_size=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 10), (3, 10), (4, 10), (7, 10), (8, 10), (10, 10)]
    quiet_store.encode(Counting(3.0), rows(), progress=True)


def test_an_interrupted_run_resumes_at_the_next_shard(quiet_store: FeatureCache) -> None:
    class Interrupted(Counting):
        def forward(self, x: Tensor) -> Tensor:
            if self.seen >= 8:
                raise KeyboardInterrupt
            return super().forward(x)

    with pytest.raises(KeyboardInterrupt):
        quiet_store.encode(Interrupted(), rows(), batch_size=4)
    assert len(shard_files(quiet_store.folder)) == 2
    features, seen = Counting(), []
    z = quiet_store.encode(features, rows(), batch_size=4, progress=lambda done, total: seen.append(done))
    assert features.seen == 1 + 2  # one to see that what is there still holds, then the last shard
    assert seen == [8, 10]
    assert torch.allclose(z, expected(Counting(), rows()))


def test_resuming_with_other_code_starts_again(quiet_store: FeatureCache) -> None:
    quiet_store.encode(Counting(), rows(), batch_size=4)
    manifest = json.loads(manifest_file(quiet_store.folder).read_text())
    del manifest["shards"]["2"]
    manifest_file(quiet_store.folder).write_text(json.dumps(manifest))

    class Changed(Counting):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1

    z = quiet_store.encode(Changed(), rows())
    assert torch.allclose(z, expected(Changed(), rows()))


def test_code_that_changed_under_the_same_recipe_is_noticed(tmp_path: Path) -> None:
    class Changed(Counting):
        def prepare(self, raw: Tensor) -> Tensor:
            return raw.float() * 1.01

    store = FeatureCache(tmp_path)
    old = store.encode(Counting(), rows())
    with pytest.warns(UserWarning, match="the features give other values now; computed again"):
        z = store.encode(Changed(), rows())
    assert torch.allclose(z, expected(Changed(), rows()))
    assert not torch.allclose(z, old)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(store.encode(Changed(), rows()), z)


Damage = Callable[[Path], None]


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def edit(**changes: Any) -> Damage:
    def change(folder: Path) -> None:
        path = manifest_file(folder)
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def swap(folder: Path) -> None:
    """Two shards of equal size trade places in the manifest."""
    path = manifest_file(folder)
    manifest = json.loads(path.read_text())
    shards = manifest["shards"]
    shards["0"], shards["1"] = shards["1"], shards["0"]
    path.write_text(json.dumps(manifest))


def outside(folder: Path) -> None:
    """The manifest names a file outside the entry."""
    shard = shard_files(folder)[0]
    (folder / shard.name).write_bytes(shard.read_bytes())
    path = manifest_file(folder)
    path.write_text(path.read_text().replace(shard.name, f"../{shard.name}"))


def foreign(folder: Path) -> None:
    """Another matrix, under its own right name, in the place of a shard."""
    other = FeatureCache(folder / "other", shard_bytes=SHARD)
    other.encode(Counting(9.0), rows())
    here, there = shard_files(folder)[0], shard_files(other.folder)[0]
    (here.parent / there.name).write_bytes(there.read_bytes())
    path = manifest_file(folder)
    path.write_text(path.read_text().replace(here.name, there.name))


DAMAGE: dict[str, Damage] = {
    "a flipped bit in the numbers": lambda folder: flip(shard_files(folder)[1], -3),
    "a flipped bit in the header": lambda folder: flip(shard_files(folder)[0], 20),
    "a truncated shard": lambda folder: shard_files(folder)[2].write_bytes(shard_files(folder)[2].read_bytes()[:-1]) and None,
    "an empty shard": lambda folder: shard_files(folder)[0].write_bytes(b"") and None,
    "a longer shard": lambda folder: shard_files(folder)[0].write_bytes(shard_files(folder)[0].read_bytes() + b"0") and None,
    "a missing shard": lambda folder: shard_files(folder)[1].unlink(),
    "an empty manifest": lambda folder: manifest_file(folder).write_text("") and None,
    "half a manifest": lambda folder: manifest_file(folder).write_text(manifest_file(folder).read_text()[:90]) and None,
    "a manifest of another kind": lambda folder: manifest_file(folder).write_text("[1]") and None,
    "a manifest that is no text": lambda folder: manifest_file(folder).write_bytes(b"\xff\xfe") and None,
    "another format": edit(format=99),
    "another matrix": edit(key="0" * 64),
    "another size": edit(rows=11),
    "another width": edit(dim=5),
    "no rows in a shard": edit(rows_per_shard=0),
    "other rows in a shard": edit(rows_per_shard=5),
    "shards of another kind": edit(shards=[1, 2]),
    "a shard too many": edit(shards={"7": f"00007-{'0' * 64}-80.safetensors"}),
    "shards swapped": swap,
    "a file outside": outside,
    "a shard of another matrix": foreign,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_computed_again_with_a_warning(name: str, quiet_store: FeatureCache) -> None:
    quiet_store.encode(Counting(), rows())
    DAMAGE[name](quiet_store.folder)
    with pytest.warns(UserWarning, match=r"^feature cache .*; computed again$") as caught:
        z = quiet_store.encode(Counting(), rows(), check="full")
    assert len(caught) == 1
    assert torch.allclose(z, expected(Counting(), rows()))
    features = Counting()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(quiet_store.encode(features, rows()), z)  # healed
    assert features.seen == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a shard of another matrix", "belongs to another matrix"),
        ("a flipped bit in the numbers", "content does not match its SHA-256"),
        ("a truncated shard", "expected [0-9]+ bytes, got [0-9]+"),
        ("shards swapped", "not the name of a shard of this matrix"),
        ("other rows in a shard", r"expected float32 \(5, 4\), got F32 \[4, 4\]"),
        ("another width", "manifest.json describes another matrix"),
    ],
)
def test_the_warning_says_what_is_wrong(name: str, reason: str, quiet_store: FeatureCache) -> None:
    quiet_store.encode(Counting(), rows())
    DAMAGE[name](quiet_store.folder)
    with pytest.warns(UserWarning, match=reason):
        quiet_store.encode(Counting(), rows())


def test_only_the_damaged_shard_is_computed(quiet_store: FeatureCache) -> None:
    quiet_store.encode(Counting(), rows())
    flip(shard_files(quiet_store.folder)[1], -1)
    features = Counting()
    with pytest.warns(UserWarning, match="content does not match its SHA-256"):
        quiet_store.encode(features, rows())
    assert features.seen == 1 + 4


@pytest.mark.parametrize("name", ["a truncated shard", "a missing shard", "shards swapped", "another width", "a file outside"])
def test_the_quick_check_finds_what_needs_no_hash(name: str, quiet_store: FeatureCache) -> None:
    quiet_store.encode(Counting(), rows())
    DAMAGE[name](quiet_store.folder)
    with pytest.warns(UserWarning, match="computed again"):
        z = quiet_store.encode(Counting(), rows(), check="quick")
    assert torch.allclose(z, expected(Counting(), rows()))


def test_any_single_flipped_byte_gives_right_values_or_a_warning_and_right_values(quiet_store: FeatureCache) -> None:
    right = quiet_store.encode(Counting(), rows())
    chance = random.Random(0)
    for _ in range(60):
        files = [path for path in quiet_store.folder.glob("*/*") if path.suffix in (".json", ".safetensors")]
        path = chance.choice(files)
        at = chance.randrange(path.stat().st_size)
        flip(path, at)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert torch.allclose(quiet_store.encode(Counting(), rows()), right), (path.name, at)


def test_names_are_the_hashes_of_the_files(quiet_store: FeatureCache) -> None:
    quiet_store.encode(Counting(), rows())
    for path in shard_files(quiet_store.folder):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in path.name
    manifest = json.loads(manifest_file(quiet_store.folder).read_text())
    assert list(manifest["shards"].values()) == [path.name for path in shard_files(quiet_store.folder)]
    assert (manifest["features"], manifest["rows"], manifest["dim"]) == ("counting", ROWS, DIM)
    assert not list(quiet_store.folder.glob("*/*.tmp"))


def test_a_crash_while_writing_leaves_no_half_file(quiet_store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(source: str, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shards_module.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        quiet_store.encode(Counting(), rows())
    monkeypatch.undo()
    assert not shard_files(quiet_store.folder)
    assert not list(quiet_store.folder.glob("*/*.tmp"))
    assert torch.allclose(quiet_store.encode(Counting(), rows()), expected(Counting(), rows()))


def test_litter_of_killed_runs_is_swept_after_an_hour(quiet_store: FeatureCache) -> None:
    quiet_store.encode(Counting(), rows())
    place = manifest_file(quiet_store.folder).parent
    old, young = place / "a.tmp", place / "00009-x.safetensors"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    shard_files(quiet_store.folder)[0].unlink()
    with pytest.warns(UserWarning, match="computed again"):
        quiet_store.encode(Counting(), rows())
    assert not old.exists()
    assert young.exists()


def test_a_full_disk_keeps_features_in_memory(quiet_store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = shards_module.write_whole, []

    def full(path: Path, content: bytes) -> None:
        calls.append(path.name)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    monkeypatch.setattr(shards_module, "write_whole", full)
    with pytest.warns(UserWarning, match=r"No space left on device; features kept in memory") as caught:
        z = quiet_store.encode(Counting(), rows())
    assert len(caught) == 1
    assert torch.allclose(z, expected(Counting(), rows()))
    monkeypatch.undo()
    features = Counting()
    assert torch.allclose(quiet_store.encode(features, rows()), z)
    assert features.seen == 1 + 6  # the shard that was written is kept


def blocked(tmp_path: Path) -> Path:
    """A folder that can never be made: its parent is a file. (A mode would not stop root.)"""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "cache"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    store = FeatureCache(blocked(tmp_path))
    assert not store.writable()
    with pytest.warns(UserWarning, match="features kept in memory"):
        assert torch.allclose(store.encode(Counting(), rows()), expected(Counting(), rows()))


def test_cached_falls_back_to_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_memory", type(cache_module._memory)())
    store, features, seen = FeatureCache(blocked(tmp_path)), Counting(), []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z = cached(features, rows(), cache=store, batch_size=4, progress=lambda done, total: seen.append((done, total)))
        assert seen == [(4, 10), (8, 10), (10, 10)]
        before = z.clone()
        z.zero_()
        assert torch.equal(cached(features, rows(), cache=store), before)
    assert features.seen == ROWS
    monkeypatch.setattr(cache_module, "_MEMORY_BYTES", 2 * ROWS * DIM * 4)
    for factor in (3.0, 4.0, 5.0):
        cached(Counting(factor), rows(), cache=store)
    assert len(cache_module._memory) == 2
    cached(features, rows(), cache=store)
    assert features.seen == 2 * ROWS


def test_cached_uses_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "own"))
    features = Counting()
    assert torch.equal(cached(features, rows()), cached(features, rows()))
    assert features.seen == ROWS + 2
    assert len(shard_files(tmp_path / "own")) == 1


def test_the_default_folder_follows_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ISTHMUS_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(cache_module.sys, "platform", "linux")
    assert default_folder() == tmp_path / "xdg" / "isthmus" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == tmp_path / ".cache" / "isthmus" / "features"
    monkeypatch.setattr(cache_module.sys, "platform", "darwin")
    assert default_folder() == tmp_path / "Library" / "Caches" / "isthmus" / "features"
    monkeypatch.setenv("ISTHMUS_CACHE", "~/mine")
    assert default_folder() == tmp_path / "mine" == FeatureCache().folder


def test_clear_removes_entries_and_nothing_else(quiet_store: FeatureCache) -> None:
    z = quiet_store.encode(Counting(), rows())
    before = z.clone()
    (quiet_store.folder / "notes").mkdir()
    (quiet_store.folder / "notes" / "manifest.json").write_text("{}")
    size = sum(path.stat().st_size for path in quiet_store.folder.glob("*/*")) - 2
    assert quiet_store.clear() == size
    assert [path.name for path in quiet_store.folder.iterdir()] == ["notes"]
    assert torch.equal(z, before)
    assert FeatureCache(quiet_store.folder / "never made").clear() == 0


def test_threads_compute_once(quiet_store: FeatureCache) -> None:
    slow = threading.Event()

    class Slow(Counting):
        def forward(self, x: Tensor) -> Tensor:
            slow.wait(0.05)
            return super().forward(x)

    modules, results = [Slow() for _ in range(4)], dict[int, Tensor]()

    def work(number: int) -> None:
        results[number] = quiet_store.encode(modules[number], rows(), batch_size=2)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(results[i], results[0]) for i in range(4))
    assert sum(module.seen >= ROWS for module in modules) == 1


PROCESS = """
import sys, torch
torch.set_num_threads(1)
from isthmus.data.cache import FeatureCache
from isthmus.features.tabular import mlp
torch.manual_seed(0)
features, x = mlp(3, dim=8), torch.randn(4000, 3)
for _ in range(int(sys.argv[2])):
    z = FeatureCache(sys.argv[1], shard_bytes=4096).encode(features, x, batch_size=int(sys.argv[3]))
print(float(z.double().sum()))
"""


def test_processes_share_a_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", PROCESS, str(tmp_path), "2"]
    running = [subprocess.Popen([*command, size], stdout=subprocess.PIPE, text=True) for size in ("64", "17", "1000")]
    sums = [float(process.communicate(timeout=120)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert max(sums) - min(sums) < 1e-9 * abs(sums[0])


def test_a_killed_process_leaves_what_can_be_resumed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path), "1", "2"])
    deadline = time.monotonic() + 60
    while len(shard_files(tmp_path)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    torch.manual_seed(0)
    features, x = mlp(3, dim=8), torch.randn(4000, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z = FeatureCache(tmp_path, shard_bytes=4096).encode(features, x)
    with torch.no_grad():
        assert torch.allclose(z, features(x), atol=1e-5)


def test_without_locks_the_values_are_still_right(quiet_store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    def refuse(path: Path) -> None:
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(filelock, "FileLock", refuse)
    assert torch.allclose(quiet_store.encode(Counting(), rows()), expected(Counting(), rows()))


def test_memory_shortage_halves_the_batch() -> None:
    class Small(Counting):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 2:
                raise torch.OutOfMemoryError("too much")
            return super().forward(x)

    assert torch.allclose(compute(Small(), rows(), 0, ROWS, batch_size=8), expected(Counting(), rows()))

    class None_(Counting):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("none at all")

    with pytest.raises(torch.OutOfMemoryError):
        compute(None_(), rows(), 0, ROWS)


def test_wrong_features_are_named() -> None:
    bad = rows()
    bad[7, 0] = float("nan")
    with pytest.raises(DataError, match="^features of row 7: expected finite numbers"):
        compute(Counting(), bad, 0, ROWS, batch_size=3)
    features = Counting()
    features.dim = 5
    with pytest.raises(DataError, match=r"^features: expected shape \(10, 5\), got \(10, 4\)$"):
        compute(features, rows(), 0, ROWS)


def test_nothing_is_written_for_bad_input(tmp_path: Path) -> None:
    store, bad = FeatureCache(tmp_path / "new"), rows()
    bad[0, 0] = float("inf")
    with pytest.raises(DataError, match="features of row 0"):
        store.encode(Counting(), bad)
    assert not shard_files(store.folder)
    with pytest.raises(DataError, match="expected at least one row"):
        store.encode(Counting(), rows()[:0])
    with pytest.raises(OptionError, match="batch_size: expected at least 1"):
        store.encode(Counting(), rows(), batch_size=0)
    with pytest.raises(OptionError, match="check: expected 'full' or 'quick', got 'none'"):
        store.encode(Counting(), rows(), check="none")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="shard_bytes: expected at least 1"):
        FeatureCache(tmp_path, shard_bytes=0)


def test_the_tolerance_separates_noise_from_change() -> None:
    features, x = mlp(3), rows()
    assert isinstance(features, MLP)
    z = expected(features, x)
    noise = z[0] * (1 + 1e-4)
    assert encode_module.agrees(features, x, {0: noise})
    assert not encode_module.agrees(features, x, {0: z[0] * 1.01})
    assert not encode_module.agrees(features, x, {0: z[1]})
