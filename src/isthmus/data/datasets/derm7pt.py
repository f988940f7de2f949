"""Derm7pt from its raw files: 1,011 skin lesions with the seven-point checklist and a diagnosis.

Kawahara, Daneshvar, Argenziano and Hamarneh, IEEE JBHI 2019.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from isthmus.data.datasets._crops import all_there
from isthmus.data.datasets._files import Array, Layout, choose, find, raw_root, read_csv
from isthmus.data.datasets._splits import official
from isthmus.data.registry import dataset
from isthmus.data.rows import Images
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import DataError
from isthmus.space import Concept, ConceptSpace, Task

LAYOUT = Layout(
    name="derm7pt",
    folder="derm7pt",
    link="https://derm.cs.sfu.ca",
    files=(
        "meta/meta.csv", "meta/train_indexes.csv", "meta/valid_indexes.csv", "meta/test_indexes.csv",
        "images/<folder>/<picture>.jpg",
    ),
)  # fmt: skip
CARD = DataCard(
    name="derm7pt",
    title="Seven-point checklist dermatology data set",
    licence="none; research and education after registration (from memory)",
    source="https://derm.cs.sfu.ca",
    terms="research and education only; do not redistribute; no medical use",
    citation="Kawahara, Daneshvar, Argenziano, Hamarneh: Seven-point checklist, JBHI 2019",
    notes="Official split 413/203/395 by index files. Labels are per lesion; each has a dermoscopic and a clinical picture.",
    share="research",
)
States = dict[str, tuple[str, ...]]
CHECKLIST: dict[str, States] = {
    "pigment_network": {"absent": ("absent",), "typical": ("typical",), "atypical": ("atypical",)},
    "blue_whitish_veil": {"absent": ("absent",), "present": ("present",)},
    "vascular_structures": {
        "absent": ("absent",),
        "regular": ("arborizing", "comma", "hairpin", "within regression", "wreath"),
        "dotted/irregular": ("dotted", "linear irregular"),
    },
    "pigmentation": {
        "absent": ("absent",),
        "regular": ("diffuse regular", "localized regular"),
        "irregular": ("diffuse irregular", "localized irregular"),
    },
    "streaks": {"absent": ("absent",), "regular": ("regular",), "irregular": ("irregular",)},
    "dots_and_globules": {"absent": ("absent",), "regular": ("regular",), "irregular": ("irregular",)},
    "regression_structures": {"absent": ("absent",), "present": ("blue areas", "white areas", "combinations")},
}
"""For each item of the checklist: a state of the grouped form, and the values of meta.csv that it takes in."""
DIAGNOSES: States = {
    "basal cell carcinoma": ("basal cell carcinoma",),
    "nevus": (
        "blue nevus", "clark nevus", "combined nevus", "congenital nevus", "dermal nevus", "recurrent nevus",
        "reed or spitz nevus",
    ),
    "melanoma": (
        "melanoma", "melanoma (in situ)", "melanoma (less than 0.76 mm)", "melanoma (0.76 to 1.5 mm)",
        "melanoma (more than 1.5 mm)", "melanoma metastasis",
    ),
    "miscellaneous": ("dermatofibroma", "lentigo", "melanosis", "miscellaneous", "vascular lesion"),
    "seborrheic keratosis": ("seborrheic keratosis",),
}  # fmt: skip


@dataset("derm7pt", summary="Derm7pt from its raw files: 1,011 skin lesions, seven-point checklist, 5 diagnoses (research)")
def derm7pt(
    *,
    path: str | Path | None = None,
    states: Literal["grouped", "full"] = "grouped",
    target: Literal["diagnosis", "melanoma"] = "diagnosis",
    picture: Literal["derm", "clinic"] = "derm",
    size: int = 224,
) -> Splits:
    """Skin lesions, lazy uint8 (B, 3, size, size), the seven items of the checklist as concepts; official split.

    states: 'grouped' = as in the paper's experiments (K = 19); 'full' = every value of meta.csv (K = 28).
    target: 'diagnosis' = five groups of diagnoses; 'melanoma' = melanoma or not. picture: dermoscopic or clinical.
    """
    choose("derm7pt", "states", states, ("grouped", "full"))
    choose("derm7pt", "target", target, ("diagnosis", "melanoma"))
    choose("derm7pt", "picture", picture, ("derm", "clinic"))
    root = raw_root(path, LAYOUT)
    place = find(root, LAYOUT, "meta/meta.csv")
    rows = read_csv(place, "derm7pt", ("case_num", "diagnosis", *CHECKLIST, picture))
    concepts: list[Concept] = []
    columns: list[list[int]] = []
    for item, grouped in CHECKLIST.items():
        known = grouped if states == "grouped" else {value: (value,) for values in grouped.values() for value in values}
        concepts.append(Concept(item, "categorical", tuple(known), text=item.replace("_", " ")))
        columns.append(_coded(rows, item, known, place))
    y = torch.tensor(_coded(rows, "diagnosis", DIAGNOSES, place))
    task = Task.classes(DIAGNOSES)
    if target == "melanoma":
        y, task = (y == list(DIAGNOSES).index("melanoma")).long(), Task.classes(("not melanoma", "melanoma"))
    marks = _marks(root, len(rows))
    space = ConceptSpace(tuple(concepts))
    paths = all_there([row[picture] for row in rows], root / "images", root, LAYOUT)
    table = Table(
        Images(paths, size=size),
        c=space.encode(torch.tensor(columns).T.float()),
        y=y,
        space=space,
        task=task,
        ids=[row["case_num"] for row in rows],
    )
    used = np.flatnonzero(marks != "")
    return official(table.take(used), marks[used], name="derm7pt", card=CARD)


def _coded(rows: list[dict[str, str]], column: str, states: States, place: Path) -> list[int]:
    """The state of each row, by index; spelling is compared without case or outer blanks."""
    index = {value: i for i, values in enumerate(states.values()) for value in values}
    found: list[int] = []
    for row, cells in enumerate(rows):
        value = cells[column].strip().lower()
        if value not in index:
            raise DataError(
                f"derm7pt: {place}, column {column!r}, row {row}: expected one of {', '.join(index)}, got {value!r}"
            )
        found.append(index[value])
    return found


def _marks(root: Path, rows: int) -> Array:
    """(B,) the split of each row of meta.csv, '' where no index file names it."""
    marks = np.full(rows, "", dtype="<U10")
    for file, mark in (("train", "train"), ("valid", "validation"), ("test", "test")):
        place = find(root, LAYOUT, f"meta/{file}_indexes.csv")
        for line, cells in enumerate(read_csv(place, "derm7pt", ("indexes",)), 2):
            cell = cells["indexes"].strip()
            if not cell.isdigit() or int(cell) >= rows or marks[int(cell)]:
                raise DataError(
                    f"derm7pt: {place}, line {line}: expected a row of meta.csv from 0 to {rows - 1} that no other "
                    f"line names, got {cell!r}"
                )
            marks[int(cell)] = mark
    return marks
