"""Animals with Attributes 2 from its raw files: 37,322 photos of 50 animals, 85 class-level attributes.

Xian, Lampert, Schiele and Akata, TPAMI 2018 (photos); Osherson et al. 1991, Kemp et al. 2006 (attributes).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from isthmus.data.datasets._files import Layout, find, raw_root, read_fields
from isthmus.data.datasets._splits import draw, official
from isthmus.data.registry import dataset
from isthmus.data.rows import Images
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import DataError
from isthmus.space import ConceptSpace, Task

LAYOUT = Layout(
    name="awa2",
    folder="Animals_with_Attributes2",
    link="https://cvml.ista.ac.at/AwA2/",
    files=("classes.txt", "predicates.txt", "predicate-matrix-binary.txt", "JPEGImages/<animal>/<picture>.jpg"),
)
CARD = DataCard(
    name="awa2",
    title="Animals with Attributes 2",
    licence="photos: each under its own free licence; attributes free for research (from memory)",
    source="https://cvml.ista.ac.at/AwA2/",
    terms="research; keep the licence list of the photos with any copy",
    citation="Xian, Lampert, Schiele, Akata: Zero-shot learning, a comprehensive evaluation, TPAMI 2018",
    notes="Attributes are class-level: every photo of an animal carries the same 85. No official split over photos: "
    "seeded here, with every animal in every split (not the zero-shot split, whose test animals are not in "
    "train).",
    share="research",
)


@dataset("awa2", summary="Animals with Attributes 2 from its raw files: 50 animals, 85 class-level attributes (research)")
def awa2(
    *, path: str | Path | None = None, size: int = 224, validation: float = 0.2, test: float = 0.2, seed: int = 0
) -> Splits:
    """Animal photos, lazy uint8 (B, 3, size, size), with 85 binary concepts of the class, stratified by ``seed``."""
    root = raw_root(path, LAYOUT)
    animals, predicates = (
        [row[1] for row in read_fields(find(root, LAYOUT, file), "awa2", "<id> <name>", least=2, most=2)]
        for file in LAYOUT.files[:2]
    )
    place = find(root, LAYOUT, LAYOUT.files[2])
    rows = read_fields(place, "awa2", f"{len(predicates)} times 0 or 1", least=len(predicates), most=len(predicates))
    wrong = [i for i, row in enumerate(rows, 1) if not set(row) <= {"0", "1"}]
    if len(rows) != len(animals) or wrong:
        got = f"something else in row {wrong[0]}" if wrong else f"{len(rows)} rows"
        raise DataError(f"awa2: {place}: expected {len(animals)} rows of 0 and 1 as in classes.txt, got {got}")
    photos = [_photos(root, animal) for animal in animals]
    y = torch.from_numpy(np.repeat(np.arange(len(animals)), [len(files) for files in photos]))
    files = [file for of_class in photos for file in of_class]
    task = Task.classes(animals)
    table = Table(
        Images(files, size=size),
        c=torch.tensor([[float(cell) for cell in row] for row in rows])[y],
        y=y,
        space=ConceptSpace.binary(predicates),
        task=task,
        ids=[f"{file.parent.name}/{file.name}" for file in files],
    )
    return official(table, draw(y, task, validation=validation, test=test, seed=seed), name="awa2", card=CARD)


def _photos(root: Path, animal: str) -> list[Path]:
    folder = root / "JPEGImages" / animal
    found = sorted(file for file in folder.glob("*") if file.suffix.lower() in (".jpg", ".jpeg")) if folder.is_dir() else []
    if not found:
        raise LAYOUT.missing(f"JPEGImages/{animal}/<picture>.jpg", root)
    return found
