"""WBCAtt: 10,298 white blood cells, 5 classes, 11 attributes annotated on every image by pathologists.

Tsutsui, Pang and Wen, NeurIPS 2023 (annotations); Acevedo et al., Data in Brief 2020 (images).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

from isthmus.data.datasets._files import choose, features, packed, pictures, read_npz
from isthmus.data.datasets._splits import named, official
from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import DataError
from isthmus.space import Concept, ConceptSpace, Task

CARD = DataCard(
    name="wbcatt",
    title="WBCAtt: white blood cells with eleven attributes",
    licence="annotations MIT; images CC BY 4.0 (from memory)",
    source="annotations github.com/apple2373/wbcatt; images PBC, Mendeley Data snkd93bnjr",
    terms="free use with attribution of both sources; no medical use",
    citation="Tsutsui, Pang, Wen: WBCAtt, NeurIPS 2023; Acevedo et al.: Data in Brief 30, 2020",
    notes="Labels are per image. Centre crop of 320 px shrunk to 128 px; official split 6,169/1,030/3,099.",
)
FILE = "images/wbcatt_128.npz"
KEYS = ("buf", "off", "concepts", "concept_names", "concept_values", "y", "class_names", "split", "filename")


@dataset("wbcatt", summary="10,298 white blood cells, 11 attributes on every image, 5 classes (MIT / CC BY 4.0)")
def wbcatt(
    *,
    path: str | Path | None = None,
    concepts: Literal["attributes", "states"] = "attributes",
    inputs: Literal["images", "mobilenetv2"] = "images",
    size: int | None = None,
) -> Splits:
    """White blood cells; official split.

    concepts: 'attributes' = 11 categorical concepts (K = 31); 'states' = 31 binary concepts grouped by attribute.
    inputs: 'images' = lazy uint8 (B, 3, 128, 128), or ``size`` px; 'mobilenetv2' = packed features, float (B, 1280).
    """
    choose("wbcatt", "concepts", concepts, ("attributes", "states"))
    choose("wbcatt", "inputs", inputs, ("images", "mobilenetv2"))
    place = packed(path, "wbcatt", FILE, CARD.source)
    arrays = read_npz(place, "wbcatt", KEYS)
    states: list[list[str]] = json.loads(str(arrays["concept_values"]))
    names = [str(name) for name in arrays["concept_names"]]
    if len(states) != len(names):
        raise DataError(f"wbcatt: expected {len(names)} lists of states in {place}, got {len(states)}")
    space = ConceptSpace(
        tuple(
            Concept(name, "categorical", tuple(s), text=name.replace("_", " ")) for name, s in zip(names, states, strict=True)
        )
    )
    c = space.encode(torch.from_numpy(arrays["concepts"]).float())
    if concepts == "states":
        space = ConceptSpace.binary(space.columns, [name for name, s in zip(names, states, strict=True) for _ in s])
    x: Any = pictures(arrays, "wbcatt", size)
    if inputs == "mobilenetv2":
        x = torch.from_numpy(features(packed(path, "wbcatt", "features/wbcatt_128_mnv2.npz", CARD.source), "wbcatt", len(c)))
    table = Table(
        x,
        c=c,
        y=torch.from_numpy(arrays["y"]).long(),
        space=space,
        task=Task.classes(str(name) for name in arrays["class_names"]),
        ids=[str(name) for name in arrays["filename"]],
    )
    return official(table, named(arrays["split"], "wbcatt"), name="wbcatt", card=CARD)
