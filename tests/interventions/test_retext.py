"""Texts of concepts replaced: one column changes; a fitted language model is edited in a fresh process, offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import isthmus as im
from isthmus import hub, plugins, registry
from isthmus.data.table import Splits
from isthmus.errors import DataError, IsthmusError, OptionError
from isthmus.features import build
from isthmus.interventions.handles import foreign, respace
from isthmus.model import ConceptModel
from isthmus.space import Concept, ConceptSpace
from isthmus.testing import WIDTH, world
from tests.language import ALL, fit, scene, unlabelled

Fit = tuple[ConceptModel, Splits]


def bits(model: ConceptModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor], but: tuple[str, ...] = ()) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a if name not in but)


TEXTUAL = '''
"""A bottleneck made from texts, as a test needs it."""
import torch
from isthmus import losses
from isthmus.given import hold
from isthmus.heads.linear import LinearHead
from isthmus.model import Bottleneck, ConceptModel, Concepts
from isthmus.registry import Card, method
from isthmus.train import Learn, Plan


class Similar(Bottleneck):
    def __init__(self, dim, space, spills):
        super().__init__(space)
        self.spills = spills
        self.register_buffer("rows", torch.zeros(len(space), dim) if space.vectors is None else space.vectors.clone())

    def forward(self, z, given=None):
        return Concepts(hold((z[:, None] * self.rows).sum(-1), given, self.space))

    def write_text(self, columns, vectors):
        self.rows[columns] = vectors
        if self.spills:
            self.rows[0] += 1

    def keep(self, index, space):
        self.rows, self.space = self.rows[index], space


@method(Card(title="Similar to texts", paper="none", year=2026, needs=()))
def textual(features, space, task, *, spills: bool = False, epochs: int = 30):
    """Dot products of rows and texts."""
    model = ConceptModel(features, Similar(features.dim, space, spills), LinearHead(space, task), space, task)
    return Plan(model, [Learn(losses.task, ("head",), epochs=epochs, lr=0.05, name="head")])
'''
WORDS = ("good", "bad", "plot", "song", "long", "short")


def language(folder: Path, **options: object) -> Fit:
    """A model of texts whose features, and concepts, are word vectors from a file."""
    vectors = torch.randn(len(WORDS), 5, generator=torch.Generator().manual_seed(1)).numpy()
    np.savez(folder / "words.npz", words=np.array(WORDS), vectors=vectors)
    features = build("glove", weights=folder / "words.npz")
    plugin = folder / "textual.py"
    plugin.write_text(TEXTUAL)
    plugins.load_file(plugin)
    phrases = ("good plot", "bad song", "long")
    space = ConceptSpace(tuple(Concept(p, text=p) for p in phrases), features(features.prepare(list(phrases))))
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, 4)) for _ in range(120)]
    y = torch.tensor([int("good" in text) for text in texts])
    z = features(features.prepare(texts))
    table = im.Table(z, y=y, task=im.Task.classes(("dull", "fine")))
    data = im.data.split(table)
    model = registry.get("textual").make(build("identity", dim=5), space, data.task, **options).fit(data)
    model.features = features
    return model, data


def test_a_new_text_changes_its_own_column_and_nothing_else(tmp_path: Path) -> None:
    model, data = language(tmp_path)
    model.features = build("identity", dim=5)
    vector, x = torch.tensor([1.0, 0, 0, 0, -1]), data.validation.x
    new = im.edit.retext(model, "bad song", "sad song", vector=vector, why="precise", validation=data.validation)
    before, after = model(x).concepts.values, new(x).concepts.values
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
    assert torch.allclose(after[:, 1], x[:, 0] - x[:, 4])
    assert same(bits(model), bits(new), ("bottleneck.rows",))
    assert torch.equal(new.space.vectors[1], vector)
    assert torch.equal(new.space.vectors[[0, 2]], model.space.vectors[[0, 2]])
    assert new.space.concepts[1] == Concept("bad song", text="sad song")
    assert new.bottleneck.space == new.space
    assert new.history[-1]["what"]["text"] == {"from": "bad song", "to": "sad song"}
    known = {"bad song": model.space.vectors[1], "sad song": vector}
    by = im.edit.retext(model, 1, "sad song", encoder=lambda texts: known[texts[0]][None], name="sad song", why="by a function")
    assert "encoder" not in by.history[-1]["what"]
    assert by.space.names == ("good plot", "sad song", "long")
    assert torch.equal(by(x).logits, new(x).logits)


def test_an_encoder_is_asked_as_it_answers_and_left_as_it_was(tmp_path: Path) -> None:
    model, _ = language(tmp_path)

    class Noisy(torch.nn.Dropout):
        def prepare(self, texts: list[str]) -> Tensor:
            return torch.ones(len(texts), 5)

    encoder = Noisy(0.5).train()
    with pytest.warns(UserWarning, match="does not make of 'long' the vector"):
        new = im.edit.retext(model, "long", "short", encoder=encoder, why="w")
    assert torch.equal(new.bottleneck.rows[2], torch.ones(5))
    assert encoder.training


def test_an_encoder_that_is_not_the_fits_is_warned_of_and_written_down(tmp_path: Path) -> None:
    """One of the same width, one that knows no old text, and a model whose concepts have none to try it with."""
    model, _ = language(tmp_path)
    generator = torch.Generator().manual_seed(0)
    with pytest.warns(UserWarning, match=r"of 'long' the vector that the model has for it \(cosine .*two encoders"):
        new = im.edit.retext(model, "long", "short", encoder=lambda t: torch.randn(1, 5, generator=generator), why="other")
    assert "does not make of 'long'" in new.history[-1]["what"]["encoder"]
    with pytest.warns(UserWarning, match=r"of 'long' the vector that the model has for it \(it makes none\)"):
        im.edit.retext(model, "long", "short", encoder=lambda t: torch.full((1, 5), float(t != ["long"])), why="w")
    bare = deepcopy(model)
    respace(bare, ConceptSpace(tuple(replace(c, text=None) for c in model.space.concepts), model.space.vectors))
    with pytest.warns(UserWarning, match="no concept has a text to try the encoder with"):
        im.edit.retext(bare, "long", "long song", encoder=model.features, why="w")
    named = ConceptSpace((Concept("red_fox", text="red_fox"), Concept("owl")), torch.eye(2))
    assert foreign(lambda t: torch.eye(2)[[0 if t == ["red fox"] else 1]], named, 1) == "", "names are embedded with blanks"
    with pytest.raises(DataError, match="5 numbers"):
        im.edit.retext(model, "long", "short", encoder=lambda t: torch.ones(1, 4), why="w")


def test_a_text_that_cannot_be_written_is_refused(tmp_path: Path, linear: Fit) -> None:
    model, data = language(tmp_path)
    one = torch.ones(5)
    for error, match, options in (
        (OptionError, "either a vector or an encoder", {}),
        (OptionError, "either a vector or an encoder", {"vector": one, "encoder": model.features}),
        (DataError, "other than 0 .* know these words", {"encoder": model.features}),
        (DataError, "finite", {"vector": one * torch.nan}),
        (DataError, "shape", {"vector": torch.ones(2, 5)}),
        (DataError, "5 numbers", {"vector": torch.ones(4)}),
    ):
        with pytest.raises(error, match=match):
            im.edit.retext(model, "long", "unheard", why="w", **options)
    with pytest.raises(DataError, match="text: expected a non-empty printable"):
        im.edit.retext(model, "long", "two\nlines", vector=one, why="w")
    with pytest.raises(DataError, match="named 'bad song' already"):
        im.edit.retext(model, "long", "short", vector=one, name="bad song", why="w")
    with pytest.raises(OptionError, match="LinearBottleneck is not made from texts"):
        im.edit.retext(linear[0], "age", "old", vector=one, why="w")
    spilling, _ = language(tmp_path, spills=True)
    spilling.features = build("identity", dim=5)
    with pytest.raises(IsthmusError, match="'good plot' changed too"):
        im.edit.retext(spilling, "long", "short", vector=one, why="w", validation=data.validation)


def test_a_language_model_is_loaded_and_edited_in_a_fresh_process_without_network(tmp_path: Path) -> None:
    model, _ = language(tmp_path)
    hub.save(model, tmp_path / "run")
    (tmp_path / "words.npz").unlink()
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n"
        "import isthmus as im, torch\n"
        "im.plugins.load_file(sys.argv[1] + '/textual.py')\n"
        "model = im.load(sys.argv[1] + '/run')\n"
        "new = im.edit.retext(model, 'long', 'short song', encoder=model.features, name='short song', why='shorter')\n"
        "new = im.edit.prune(new, 'bad song', why='unused')\n"
        "im.save(new, sys.argv[1] + '/edited')\n"
        "print(new(['good long plot']).logits.tolist())\n"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = hub.load(tmp_path / "edited")
    assert torch.equal(loaded(["good long plot"]).logits, torch.tensor(json.loads(done.stdout)))
    mean = loaded.features(loaded.features.prepare(["short song"]))[0]
    assert torch.equal(loaded.bottleneck.rows[2], mean)
    assert [row["edit"] for row in im.edit.history(loaded)] == ["retext", "prune"]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("pcbm", {"bank": "images"}, "learnt from labelled rows, not from texts"),
        ("cms", {"class_vectors": torch.ones(3, WIDTH)}, "class signatures compare class names with the old text"),
    ],
)
def test_a_text_is_not_written_where_it_would_mean_nothing(name: str, options: dict[str, object], said: str) -> None:
    """A direction learnt from images, and a signature of the old text, stay what they are."""
    data = world(("binary",), worded=True)
    features = build("mlp", data.train.x.shape[1], hidden=(12,), dim=WIDTH)
    model = registry.get(name).make(features, data.space, data.task, seed=0, **options).fit(data, 0)
    before = bits(model)
    with pytest.raises(OptionError, match=said):
        im.edit.retext(model, data.space.names[0], "striped", vector=torch.ones(WIDTH), why="try")
    assert same(bits(model), before)


@pytest.mark.parametrize("name", ["text2concept", "medical", "pcbm", "peeb"])
def test_what_was_measured_of_the_old_text_is_read_off_validation_rows_or_warned_of(name: str) -> None:
    """Deviation 1 and percentiles of the new text's scores; other columns stay bit for bit. Without rows the entry says so."""
    data = unlabelled(scene(noise=1.0))
    model = fit(name, data, **ALL[name])
    vector = 3 * data.train.x.mean(0) + data.train.x[0]
    new = im.edit.retext(model, "b 1", "a blue tail", vector=vector, why="w", validation=data.validation)
    shown = new(data.validation.x).concepts.values
    low, high = (shown[:, 4].quantile(q) for q in (0.05, 0.95))
    part, old = new.bottleneck.percentiles, model.bottleneck.percentiles
    torch.testing.assert_close(part.low[4], low, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(part.high[4], high, atol=1e-4, rtol=1e-3)
    rest = [k for k in range(9) if k != 4]
    assert torch.equal(part.low[rest], old.low[rest]) and torch.equal(part.high[rest], old.high[rest])
    if name in ("text2concept", "medical"):
        assert float(shown[:, 4].std(correction=0)) == pytest.approx(1, abs=1e-3)
        assert float(shown[:, 4].mean()) == pytest.approx(0, abs=1e-3)
    assert new.history[-1]["what"]["statistics"] == f"read off {len(data.validation)} validation rows"
    with pytest.warns(UserWarning, match="are those of the old text: give validation rows"):
        stale = im.edit.retext(model, "b 1", "a blue tail", vector=vector, why="w")
    assert "those of the old text" in stale.history[-1]["what"]["statistics"]
    assert torch.equal(stale.bottleneck.percentiles.high, old.high)
