"""Sheets of maps: what is bright is where the map is, boxes are drawn where they are, names that no font has are survived."""

from __future__ import annotations

import base64
import io
import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from isthmus.audit.pictures import embedded, sheet
from isthmus.cli import app


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=float)


def test_heat_lies_where_the_map_is_and_the_box_around_its_concept() -> None:
    shown = np.zeros((1, 20, 40))
    shown[0, 4:8, 30:36] = 1
    boxes = np.array([[28.0, 2, 38, 10]])
    found = opened(sheet(np.full((3, 20, 40), 128), shown, ["card"], boxes))
    wide, scale = 40 * 3 + 12, 3
    panel = found[: 20 * scale, wide : wide + 40 * scale]
    heat = panel[..., 0] - panel[..., 2]
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 4 <= y / scale <= 8 and 30 <= x / scale <= 36
    assert (panel[2 * scale, 30 * scale] == 255).all() and (panel[12 * scale, 30 * scale] < 200).all()


def test_empty_maps_missing_boxes_and_strange_names() -> None:
    png = sheet(np.zeros((3, 8, 8)), np.zeros((2, 4, 4)), ["\u4e2d\u6587" * 40, "x"], np.full((2, 4), np.nan))
    assert opened(png).shape[2] == 3
    assert base64.b64decode(embedded(png).split(",")[1]) == png


def test_the_command(tmp_path: Path) -> None:
    run, model = CliRunner(), str(tmp_path / "m")
    data = "poker:train=60,validation=20,test=12"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = run.invoke(app, ["fit", "cbm", data, "--out", model, "--set", "epochs=1"])
        assert fitted.exit_code == 0, fitted.output
        out = tmp_path / "maps.png"
        told = run.invoke(app, ["maps", model, "--row", "2", "--concept", "ace of spades", "--out", str(out), "--json"])
        assert told.exit_code == 0 and json.loads(told.stdout)["concepts"][0]["concept"] == "ace of spades"
        assert opened(out.read_bytes()).size
        many = run.invoke(app, ["maps", model, "--out", str(out)])
        assert many.exit_code == 0 and many.stdout.count("looks most at") == 6
        for words, said in (
            (["--row", "99"], "0 to 11"), (["--concept", "ace of spade"], "did you mean"), (["--out", "x.jpg"], ".png"),
        ):  # fmt: skip
            wrong = run.invoke(app, ["maps", model, *words])
            assert wrong.exit_code == 2 and said in wrong.stderr
