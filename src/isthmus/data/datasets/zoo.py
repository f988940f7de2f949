"""Zoo: 101 animals, 16 attributes, 7 types; Forsyth 1990."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from isthmus.data.datasets._files import choose, codes, packed, read_csv
from isthmus.data.datasets._splits import draw, official
from isthmus.data.registry import dataset
from isthmus.data.rows import Texts
from isthmus.data.table import DataCard, Splits, Table
from isthmus.space import Concept, ConceptSpace, Task

ATTRIBUTES = (
    "hair", "feathers", "eggs", "milk", "airborne", "aquatic", "predator", "toothed", "backbone", "breathes",
    "venomous", "fins", "legs", "tail", "domestic", "catsize",
)  # fmt: skip
LEGS = ("0", "2", "4", "5", "6", "8")
CLASSES = ("mammal", "bird", "reptile", "fish", "amphibian", "insect", "invertebrate")
CARD = DataCard(
    name="zoo",
    title="Zoo: animals by their attributes",
    licence="CC BY 4.0 (from memory)",
    source="UCI Zoo, by way of github.com/renatopp/arff-datasets",
    terms="free use with attribution",
    citation="Forsyth: Zoo, UCI Machine Learning Repository, 1990",
    notes="The attributes are the concepts; with inputs='attributes' x says the same as c, so this tries heads, rules "
    "and interventions, not the learning of concepts. 101 rows: every figure is rough. No official split.",
)


@dataset("zoo", summary="101 animals, 16 attributes as concepts, 7 types (CC BY 4.0)")
def zoo(*, path: str | Path | None = None, inputs: Literal["attributes", "names"] = "attributes", seed: int = 0) -> Splits:
    """Animals with 15 binary concepts and 'legs' with states 0, 2, 4, 5, 6, 8 (K = 21); split by ``seed``, stratified.

    inputs: 'attributes' = the 16 attributes as numbers, float (B, 16), legs as their count; 'names' = the animal's
    name, lazy ``Texts``. Row ids are the names.
    """
    choose("zoo", "inputs", inputs, ("attributes", "names"))
    place = packed(path, "zoo", "tabular/zoo.csv.gz", CARD.source)
    rows = read_csv(place, "zoo", ("animal", *ATTRIBUTES, "type"))
    columns = [
        codes([row[name] for row in rows], LEGS if name == "legs" else ("false", "true"), place, name) for name in ATTRIBUTES
    ]
    values = torch.tensor(list(zip(*(column.tolist() for column in columns), strict=True)))
    space = ConceptSpace(tuple(Concept(name, "categorical", LEGS) if name == "legs" else Concept(name) for name in ATTRIBUTES))
    y = torch.from_numpy(codes([row["type"] for row in rows], CLASSES, place, "type")).long()
    task = Task.classes(CLASSES)
    names = [row["animal"] for row in rows]
    x: Any = Texts(names)
    if inputs == "attributes":
        x = values.clone()
        legs = ATTRIBUTES.index("legs")
        x[:, legs] = torch.tensor([float(count) for count in LEGS])[values[:, legs].long()]
    table = Table(x, c=space.encode(values), y=y, space=space, task=task, ids=names)
    return official(table, draw(y, task, seed=seed), name="zoo", card=CARD)
