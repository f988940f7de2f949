"""DermaCon-IN from its published files: 5,450 clinical skin pictures from India, 47 descriptors, 49 body parts, 3 levels.

DermaCon-IN: a multi-concept annotated dermatological image dataset of Indian skin disorders, NeurIPS 2025 datasets track.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from isthmus.data.datasets._crops import all_there
from isthmus.data.datasets._files import Array, Layout, choose, find, raw_root, read_csv
from isthmus.data.datasets._splits import official
from isthmus.data.registry import dataset
from isthmus.data.rows import Images
from isthmus.data.table import DataCard, Splits, Table, split_by
from isthmus.errors import DataError
from isthmus.space import Concept, ConceptSpace, Task

LAYOUT = Layout(
    name="dermacon",
    folder="DermaCon-IN",
    link="https://doi.org/10.7910/DVN/W7OUZM",
    files=("METADATA/train_split.csv", "METADATA/test_split.csv", "DATASET/<picture>.jpg"),
)
CARD = DataCard(
    name="dermacon",
    title="DermaCon-IN, concepts of Indian skin disorders",
    licence="CC BY-NC-SA 4.0",
    source="https://doi.org/10.7910/DVN/W7OUZM",
    terms="non-commercial, share alike; no medical use",
    citation="DermaCon-IN, NeurIPS 2025 datasets and benchmarks, arXiv 2506.06099",
    notes="Official split by patient, 80/20, stratified by sub-class; validation is drawn from the training patients, so that "
    "no choice sees the test rows (the published scripts choose by them). Body parts are context, not pathology: read the "
    "two families of concepts apart. Prevalence varies widely: one threshold does not fit all concepts.",
    share="research",
)
FAMILIES = {"descriptors": ("Descriptor", "lesion descriptor"), "body parts": ("Body_part", "body part")}
"""What the names of their columns hold, and the group of their concepts."""
TARGETS = {"main": "Main_class", "sub": "Sub_class", "disease": "Disease_label"}
ID, PICTURE = "Subject_ID", "Image_name"
MISSING = ("", "N/A", "NA", "nan")
CODED = {"fitzpatrick": ("Fitzpatrick", "FST"), "monk": ("Monk_skin_tone", "MST")}
Rows = list[dict[str, str]]


@dataset("dermacon", summary="DermaCon-IN: 5,450 skin pictures, 47 descriptors and 49 body parts, 8/19/245 classes (research)")
def dermacon(
    *,
    path: str | Path | None = None,
    target: Literal["main", "sub", "disease"] = "main",
    concepts: Literal["both", "descriptors", "body parts"] = "both",
    size: int = 224,
    validation: float = 0.15,
    seed: int = 0,
) -> Splits:
    """Skin pictures, lazy uint8 (B, 3, size, size), binary concepts in two groups; official test, patients in ``group``.

    target: the 8 'main' classes, the 19 'sub' classes, or the 245 'disease' labels; rows without that label are left
    out, with a warning. concepts: lesion 'descriptors', 'body parts', or 'both'. validation: share of the training
    patients, drawn by ``seed`` in proportion to the sub-classes, the same for every target. ``facts`` where the files
    have the columns, NaN = unknown: 'fitzpatrick' 1..6, 'monk' 1..10, 'confidence' of the annotator 1..5, 'female' and
    'gradable' 0 or 1, 'age' (years, the start of the decade).
    """
    choose("dermacon", "target", target, tuple(TARGETS))
    choose("dermacon", "concepts", concepts, ("both", *FAMILIES))
    root = raw_root(path, LAYOUT)
    places = [find(root, LAYOUT, file) for file in LAYOUT.files[:2]]
    parts = [read_csv(place, "dermacon", (PICTURE, ID)) for place in places]
    for place, part in zip(places, parts, strict=True):
        if not part:
            raise DataError(f"dermacon: {place}: expected rows, got none; fetch the file again")
    families = list(FAMILIES) if concepts == "both" else [concepts]
    columns = {column: family for family in families for column in _columns(parts[0][0], family, places[0])}
    for column in columns:
        if column not in parts[1][0]:
            raise DataError(f"dermacon: expected column {column!r} of {places[0].name} in {places[1]}, got none")
    c = np.concatenate([_binary(part, list(columns), place) for part, place in zip(parts, places, strict=True)])
    labels = [_label(part, target, place) for part, place in zip(parts, places, strict=True)]
    strata = [_label(part, "sub", place) for part, place in zip(parts, places, strict=True)]
    rows: Rows = [*parts[0], *parts[1]]
    patients = _patients(parts, places)
    marks = np.repeat(["train", "test"], [len(part) for part in parts]).astype("<U10")
    marks = _hold_out(marks, [*strata[0], *strata[1]], patients, validation, seed)
    label = [*labels[0], *labels[1]]
    kept = np.array([row for row, name in enumerate(label) if name], dtype=np.int64)
    if len(kept) < len(rows):
        lacking = f"{len(rows) - len(kept)} of {len(rows)} rows have no {TARGETS[target]}"
        warnings.warn(f"dermacon: {lacking}: left out", stacklevel=3)
    names = sorted({label[row] for row in kept.tolist()})
    if len(names) < 2:
        raise DataError(f"dermacon: {places[0]}: expected two or more values of {TARGETS[target]}, got {names}")
    files = [rows[row][PICTURE].strip() for row in kept.tolist()]
    table = Table(
        Images(all_there(files, root / "DATASET", root, LAYOUT), size=size),
        c=torch.from_numpy(c[kept]),
        y=torch.tensor([names.index(label[row]) for row in kept.tolist()]),
        space=_space(columns),
        task=Task.classes(names),
        group=[patients[row] for row in kept.tolist()],
        ids=files,
        facts=_facts([rows[row] for row in kept.tolist()]),
    )
    return official(table, marks[kept], name="dermacon", card=CARD)


def _columns(row: dict[str, str], family: str, place: Path) -> list[str]:
    """The concept columns of a family, in file order; a column of several values at once is not one."""
    start = FAMILIES[family][0]
    found = [name for name in row if start in name and name not in ("Body_part", "Descriptors")]
    if not found:
        raise DataError(f"dermacon: expected columns with {start!r} in their names in {place}, got {', '.join(list(row)[:12])}")
    return found


def _space(columns: dict[str, str]) -> ConceptSpace:
    """Binary concepts under their column names, in the group of their family; the text is the name in words."""
    concepts: list[Concept] = []
    for column, family in columns.items():
        start, group = FAMILIES[family]
        words = re.sub(rf"^.*?{start}s?[_: ]*", "", column).replace("_", " ").strip() or column
        concepts.append(Concept(column, group=group, text=words))
    return ConceptSpace(tuple(concepts))


def _binary(rows: Rows, columns: list[str], place: Path) -> Array:
    """(n, K) float32 of 0, 1 and NaN where nothing stands."""
    value = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0} | dict.fromkeys(MISSING, float("nan"))
    found = np.empty((len(rows), len(columns)), dtype=np.float32)
    for row, cells in enumerate(rows):
        for k, column in enumerate(columns):
            if cells[column].strip() not in value:
                raise DataError(f"dermacon: {place}, column {column!r}, row {row}: expected 0 or 1, got {cells[column][:30]!r}")
            found[row, k] = value[cells[column].strip()]
    return found


def _label(rows: Rows, target: str, place: Path) -> list[str]:
    """The label of each row, '' where unknown; the column may go on in brackets: Main_class(Rook's_Classification)."""
    start = TARGETS[target]
    column = next((name for name in rows[0] if name == start or name.startswith(f"{start}(")), None)
    if column is None:
        raise DataError(f"dermacon: expected column {start!r} in {place}, got {', '.join(list(rows[0])[:12])}")
    return ["" if row[column].strip() in MISSING else row[column].strip() for row in rows]


def _patients(parts: list[Rows], places: list[Path]) -> list[str]:
    found: list[str] = []
    for rows, place in zip(parts, places, strict=True):
        for row, cells in enumerate(rows):
            if cells[ID].strip() in MISSING:
                raise DataError(f"dermacon: {place}, column {ID!r}, row {row}: expected a patient, got {cells[ID]!r}")
            found.append(cells[ID].strip())
    both = sorted(set(found[: len(parts[0])]) & set(found[len(parts[0]) :]))
    if both:
        raise DataError(f"dermacon: {places[1]}: expected patients that {places[0].name} does not have, got {both[0]!r}")
    return found


def _hold_out(marks: Array, strata: Sequence[str], patients: list[str], share: float, seed: int) -> Array:
    """``marks`` with the rows of ``share`` of the training patients marked 'validation', sub-classes in proportion."""
    names = sorted({*strata, "-"})  # a task has two names or more
    y = torch.tensor([names.index(stratum) for stratum in strata])
    rows = Table(torch.arange(len(marks))[:, None], y=y, task=Task.classes([name or "none" for name in names]), group=patients)
    held = split_by(rows, marks.tolist(), validation=share, seed=seed).validation.x[:, 0].numpy()
    marks = marks.copy()
    marks[held] = "validation"
    return marks


def _facts(rows: Rows) -> dict[str, Tensor] | None:
    """Metadata as numbers (B,); a column that is not there has no entry, a cell that does not fit is unknown."""
    facts: dict[str, Tensor] = {}
    for name, (column, code) in CODED.items():
        if column in rows[0]:
            facts[name] = _numbers(rows, column, rf"{code}\s*(\d+)$")
    for name, column, pattern in (("confidence", "Confidence", r"(\d+(?:\.0)?)$"), ("age", "Age", r"(\d+)\s*-\s*\d+$")):
        if column in rows[0]:
            facts[name] = _numbers(rows, column, pattern)
    for name, column, no, yes in (("female", "Sex", "male", "female"), ("gradable", "Gradability", "no", "yes")):
        if column in rows[0]:
            code = {no: 0.0, yes: 1.0}
            facts[name] = torch.tensor([code.get(row[column].strip().lower(), float("nan")) for row in rows])
    return facts or None


def _numbers(rows: Rows, column: str, pattern: str) -> Tensor:
    found = [re.match(pattern, row[column].strip()) for row in rows]
    return torch.tensor([float(match.group(1)) if match else float("nan") for match in found])
