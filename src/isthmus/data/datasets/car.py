"""Car Evaluation: 1,728 cars, six attributes under a tree of concepts, four verdicts; Bohanec and Rajkovic 1988."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from isthmus.data.datasets._files import codes, packed, read_csv
from isthmus.data.datasets._splits import draw, official
from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.space import Concept, ConceptSpace, Task

STATES = {
    "buying": ("low", "med", "high", "vhigh"),
    "maint": ("low", "med", "high", "vhigh"),
    "doors": ("2", "3", "4", "5more"),
    "persons": ("2", "4", "more"),
    "lug_boot": ("small", "med", "big"),
    "safety": ("low", "med", "high"),
}
TREE = {"buying": "price", "maint": "price", "doors": "comfort", "persons": "comfort", "lug_boot": "comfort"} | {
    "safety": "safety"
}
WORDS = {
    "buying": "buying price",
    "maint": "price of maintenance",
    "doors": "number of doors",
    "persons": "capacity in persons",
    "lug_boot": "size of the luggage boot",
    "safety": "estimated safety",
}
CLASSES = ("unacc", "acc", "good", "vgood")
CARD = DataCard(
    name="car",
    title="Car Evaluation: a hierarchical decision model",
    licence="CC BY 4.0 (from memory)",
    source="UCI Car Evaluation, by way of github.com/renatopp/arff-datasets",
    terms="free use with attribution",
    citation="Bohanec, Rajkovic: Knowledge acquisition and explanation for multi-attribute decision making, 1988",
    notes="Every combination of six attributes once; the class is a rule of them without noise. The file holds no "
    "labels of the tree's inner concepts (price, comfort, technical characteristics): they are group names here. "
    "x says the same as c, so this tries heads, rules and interventions. No official split.",
)


@dataset("car", summary="1,728 cars, 6 categorical concepts in groups of a concept tree, 4 verdicts (CC BY 4.0)")
def car(*, path: str | Path | None = None, validation: float = 0.15, test: float = 0.2, seed: int = 0) -> Splits:
    """Cars, x float (B, 21) = the six attributes one-hot; split by ``seed``, stratified.

    The same six are the categorical concepts (K = 21), states from low to high, grouped as price, comfort and safety.
    """
    place = packed(path, "car", "tabular/car.csv.gz", CARD.source)
    rows = read_csv(place, "car", (*STATES, "class"))
    values = np.stack([codes([row[name] for row in rows], states, place, name) for name, states in STATES.items()], 1)
    space = ConceptSpace(
        tuple(Concept(name, "categorical", states, TREE[name], text=WORDS[name]) for name, states in STATES.items())
    )
    c = space.encode(torch.from_numpy(values))
    y = torch.from_numpy(codes([row["class"] for row in rows], CLASSES, place, "class")).long()
    task = Task.classes(CLASSES)
    table = Table(c.clone(), c=c, y=y, space=space, task=task)
    return official(table, draw(y, task, validation=validation, test=test, seed=seed), name="car", card=CARD)
