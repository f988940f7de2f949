"""CIFAR-10, 8,000 images of it: 10 classes, no concepts; Krizhevsky 2009."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from isthmus.data.datasets._files import choose, features, packed, pictures, read_npz
from isthmus.data.datasets._splits import named, official
from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.space import Task

CARD = DataCard(
    name="cifar10_8k",
    title="CIFAR-10: 6,000 training and 2,000 test images",
    licence="none stated",
    source="cs.toronto.edu/~kriz/cifar.html, by way of github.com/cyizhuo/CIFAR-10-dataset",
    terms="research use, informal; do not redistribute",
    citation="Krizhevsky: Learning multiple layers of features from tiny images, 2009",
    notes="No concepts. 600 + 200 images a class of the official parts. A row's id is its keyword (341 finer classes, "
    "such as 'airbus') and its file name.",
    share="research",
)


@dataset("cifar10_8k", summary="8,000 natural photos of 32 px, 10 classes, no concepts (research)")
def cifar10_8k(
    *,
    path: str | Path | None = None,
    inputs: Literal["images", "mobilenetv2"] = "images",
    size: int | None = None,
    validation: float = 0.15,
    seed: int = 0,
) -> Splits:
    """Natural photos without concepts; official test rows, ``validation`` of the training rows held out by ``seed``.

    inputs: 'images' = lazy uint8 (B, 3, 32, 32), or ``size`` px; 'mobilenetv2' = packed features, float (B, 1280).
    Row ids are ``keyword/file name``; the keyword is a finer class.
    """
    choose("cifar10_8k", "inputs", inputs, ("images", "mobilenetv2"))
    keys = ("buf", "off", "y", "class_names", "split", "keyword", "filename")
    arrays = read_npz(packed(path, "cifar10_8k", "images/cifar10_8k.npz", CARD.source), "cifar10_8k", keys)
    x: Any = pictures(arrays, "cifar10_8k", size)
    if inputs == "mobilenetv2":
        place = packed(path, "cifar10_8k", "features/cifar10_8k_mnv2.npz", CARD.source)
        x = torch.from_numpy(features(place, "cifar10_8k", len(arrays["y"])))
    table = Table(
        x,
        y=torch.from_numpy(arrays["y"]).long(),
        task=Task.classes(str(name) for name in arrays["class_names"]),
        caption=[str(keyword).replace("_", " ") for keyword in arrays["keyword"]],
        ids=[f"{keyword}/{file}" for keyword, file in zip(arrays["keyword"], arrays["filename"], strict=True)],
    )
    marks = named(arrays["split"], "cifar10_8k")
    data = official(table, marks, name="cifar10_8k", card=CARD, validation=validation, seed=seed)
    data.suggest = {"captions": "the finer keywords of the photos (such as 'airbus'), train split"}
    return data
