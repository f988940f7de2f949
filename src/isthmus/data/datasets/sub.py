"""SUB: 38,400 synthetic birds, each a CUB species with one attribute put in the place of its own; trained on CUB.

Bader, Girrbach, Alaniz and Akata, ICCV 2025; Wah et al. 2011 (CUB); Koh et al., ICML 2020 (112 attributes).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from isthmus.data.datasets._birds import CANONICAL, bird_space, group_of, vote
from isthmus.data.datasets._crops import all_there
from isthmus.data.datasets._cub_raw import LAYOUT as CUB
from isthmus.data.datasets._cub_raw import Cub, read_cub
from isthmus.data.datasets._files import Array, Layout, choose, raw_root, read_csv
from isthmus.data.datasets._splits import hold_out
from isthmus.data.datasets._stored import Cell, Stored, read_cells
from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import DataError
from isthmus.space import ConceptSpace, Task

LAYOUT = Layout(
    name="sub",
    folder="SUB",
    link="https://huggingface.co/datasets/Jessica-bader/SUB",
    files=("data/<part>.parquet", "or metadata.csv with the pictures it names"),
)
COLUMNS = ("attr_label", "bird_label")
CARD = DataCard(
    name="sub",
    title="SUB, synthetic attribute substitutions of CUB birds",
    licence="CC-BY-NC-4.0 (SUB); CUB-200-2011: non-commercial research and education (from memory)",
    source="https://huggingface.co/datasets/Jessica-bader/SUB; https://data.caltech.edu/records/65de6-vp158",
    terms="non-commercial; do not redistribute the CUB pictures",
    citation="Bader, Girrbach, Alaniz, Akata: SUB, benchmarking CBM generalization, ICCV 2025; Wah et al. 2011",
    notes="768 pairs of species and attribute, 50 pictures each; train and validation are CUB. Score with S+ and S-. Pairs "
    "whose attribute is not among the 112 are left out. Removed is every class-level attribute of the species in the "
    "target's group but the target; the published script takes the first only. In checks by people the target was "
    "there in at least 90 % of the pictures.",
    share="research",
)


@dataset("sub", summary="SUB: CUB for training, for test 38,400 synthetic birds with one attribute replaced (research)")
def sub(
    *,
    path: str | Path | None = None,
    cub: str | Path | None = None,
    removed: Literal["all", "first"] = "all",
    size: int = 224,
    validation: float = 0.2,
    seed: int = 0,
) -> Splits:
    """Birds, lazy uint8 (B, 3, size, size), 112 class-level concepts, 200 species; train and validation as in ``cub``.

    path: the folder of SUB: Parquet files with the columns image, attr_label and bird_label, or metadata.csv with
    file_name, attr_label and bird_label. cub: the raw CUB-200-2011, for the training pictures and what each species
    has; by default beside SUB in the data folder. Test c is the species' vector with the target on and what it
    replaced off. ``test.facts``: 'target' (n,) the column put in, 'removed' (n, K) bool, what was taken out: 'all'
    class-level attributes of the species in the target's group but the target itself, or the 'first' of them.
    """
    choose("sub", "removed", removed, ("all", "first"))
    sources, attributes, birds, place = _read(raw_root(path, LAYOUT))
    raw = read_cub(raw_root(cub, CUB))
    if len(raw.attributes) <= max(CANONICAL):
        raise DataError(f"sub: {raw.root}: expected the 312 attributes of CUB-200-2011, got {len(raw.attributes)}")
    y = torch.from_numpy(raw.y)
    marks = hold_out(np.where(raw.train, "train", "test"), y, share=validation, seed=seed)
    at = (marks == "train").nonzero()[0]
    by_class = vote(raw.present[at], raw.certainty[at], raw.y[at], len(raw.species))[:, list(CANONICAL)]
    space, task = bird_space([raw.attributes[i] for i in CANONICAL]), Task.classes(raw.species)
    paths = all_there(raw.files, raw.root / "images", raw.root, CUB)
    c = torch.from_numpy(by_class[raw.y]).float()
    whole = Table(Stored(paths, size=size), c=c, y=y, space=space, task=task, ids=raw.files)
    train, held = (whole.take(np.flatnonzero(marks == mark)) for mark in ("train", "validation"))
    target, kept = _targets(attributes, raw, space, place)
    label = _species([birds[i] for i in kept], raw, place, kept)
    gone = _removed(by_class[label].astype(bool), target, space, removed)
    after = by_class[label].astype(np.float32)
    after[gone] = 0
    after[np.arange(len(kept)), target] = 1
    test = Table(
        Stored([sources[i] for i in kept], size=size), c=torch.from_numpy(after), y=torch.from_numpy(label), space=space,
        task=task, facts={"target": torch.from_numpy(target), "removed": torch.from_numpy(gone)},
    )  # fmt: skip
    return Splits(train, held, test, name="sub", card=CARD)


def _read(root: Path) -> tuple[list[Path | Cell], list[str], list[str], str]:
    """Pictures, attribute and species of each row, and the place of the labels for errors."""
    files = sorted([*root.glob("data/*.parquet"), *root.glob("*.parquet")])
    if files:
        sources: list[Path | Cell] = []
        texts: dict[str, list[str]] = {column: [] for column in COLUMNS}
        for file in files:
            cells, found = read_cells(file, "sub", COLUMNS)
            sources += cells
            for column in COLUMNS:
                texts[column] += found[column]
        return sources, texts["attr_label"], texts["bird_label"], str(root)
    place = root / "metadata.csv"
    if not place.is_file():
        raise LAYOUT.missing("data/*.parquet or metadata.csv", root)
    rows = read_csv(place, "sub", ("file_name", *COLUMNS))
    pictures = all_there([row["file_name"] for row in rows], root, root, LAYOUT)
    return [*pictures], [row["attr_label"] for row in rows], [row["bird_label"] for row in rows], str(place)


def _targets(attributes: list[str], raw: Cub, space: ConceptSpace, place: str) -> tuple[Array, Array]:
    """Column (n,) of each row whose attribute is among the 112, and these rows (n,); a name that CUB lacks is an error."""
    column = {name: k for k, name in enumerate(space.names)}
    official = set(raw.attributes)
    found: list[int] = []
    kept: list[int] = []
    for row, attribute in enumerate(attributes):
        name = attribute.strip().replace("--", "::", 1)
        if name not in official:
            raise DataError(f"sub: {place}, row {row}: expected an attribute of CUB as has_back_color--grey, got {attribute!r}")
        if name in column:
            found.append(column[name])
            kept.append(row)
    if not kept:
        raise DataError(f"sub: {place}: expected rows whose attribute is among the {len(space)} concepts, got none")
    return np.array(found, dtype=np.int64), np.array(kept, dtype=np.int64)


def _species(birds: list[str], raw: Cub, place: str, rows: Array) -> Array:
    """(n,) class of each bird; '001.Black_footed_Albatross' and 'black footed albatross' are one name."""
    index = {_plain(name): i for i, name in enumerate(raw.species)}
    for row, bird in zip(rows.tolist(), birds, strict=True):
        if _plain(bird) not in index:
            raise DataError(f"sub: {place}, row {row}: expected a species of {raw.root}, got {bird!r}")
    return np.array([index[_plain(bird)] for bird in birds], dtype=np.int64)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"^\d+\.", "", name.strip()).lower()).strip("_")


def _removed(own: Array, target: Array, space: ConceptSpace, which: str) -> Array:
    """(n, K) bool: attributes of the species (``own``) in the target's group, the target aside; 'first': one of them."""
    group = np.array([group_of(name) for name in space.names])
    gone = own & (group[None] == group[target][:, None])
    gone[np.arange(len(target)), target] = False
    return gone if which == "all" else gone & (gone.cumsum(1) == 1)
