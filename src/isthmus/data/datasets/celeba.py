"""CelebA from its raw files: 202,599 faces with 40 binary attributes; Liu, Luo, Wang and Tang, ICCV 2015.

The default task is that of Espinosa Zarlenga et al. (CEM), NeurIPS 2022.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from isthmus.data.datasets._crops import Crops, all_there
from isthmus.data.datasets._files import Array, Layout, find, raw_root, read_fields
from isthmus.data.datasets._splits import official
from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import DataError, OptionError, unknown
from isthmus.space import ConceptSpace, Task

LAYOUT = Layout(
    name="celeba",
    folder="celeba",
    link="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    files=("list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba/<number>.jpg"),
)
CARD = DataCard(
    name="celeba",
    title="CelebFaces Attributes (CelebA), aligned and cropped",
    licence="none; non-commercial research (from memory)",
    source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    terms="non-commercial research only; do not redistribute; the people did not agree to be in it",
    citation="Liu, Luo, Wang, Tang: Deep learning face attributes in the wild, ICCV 2015",
    notes="Attributes such as 'Attractive' are opinions of annotators. target='code': top-1 accuracies of .30 to .45 "
    "are expected, the classes are many and uneven; the CEM paper draws every 12th image and a 70/20/10 split at "
    "random, here it is every 12th image in the order of the file and the official partition.",
    share="research",
)
SQUARE = (0, 20, 178, 198)  # the middle of the aligned pictures of 178 x 218 px
PARTS = ("train", "validation", "test")


def read(root: Path) -> tuple[tuple[str, ...], tuple[str, ...], Array, Array]:
    """Attribute names (A,), files (B,), attributes (B, A) int8 in {0, 1}, marks (B,)."""
    place = find(root, LAYOUT, LAYOUT.files[0], f"Anno/{LAYOUT.files[0]}")
    rows = read_fields(place, "celeba", "a count, a line of names, then <file> and -1 or 1 for each name", least=1)
    names, rows = (tuple(rows[1]) if len(rows) > 1 else ()), rows[2:]
    wrong = [n for n, row in enumerate(rows, 3) if len(row) != len(names) + 1 or not set(row[1:]) <= {"1", "-1"}]
    if not rows or wrong:
        at = f"line {wrong[0]}" if wrong else "no rows"
        raise DataError(f"celeba: {place}: expected <file> and {len(names)} times -1 or 1 on each line, got {at}")
    place = find(root, LAYOUT, LAYOUT.files[1], f"Eval/{LAYOUT.files[1]}")
    partition = dict(read_fields(place, "celeba", "<file> <0, 1 or 2>", least=2, most=2))
    for row in rows:
        if partition.get(row[0]) not in ("0", "1", "2"):
            raise DataError(f"celeba: {place}: expected 0, 1 or 2 for {row[0]!r}, got {partition.get(row[0])!r}")
    values = np.array([row[1:] for row in rows]) == "1"
    marks = np.array([PARTS[int(partition[row[0]])] for row in rows])
    return names, tuple(row[0] for row in rows), values.astype(np.int8), marks


def most_balanced(values: Array, count: int) -> list[int]:
    """The ``count`` columns of values (B, A) whose share of ones is nearest to one half; equal ones in order."""
    order = np.argsort(np.abs(values.mean(0) - 0.5), kind="stable")
    return [int(i) for i in order[:count]]


@dataset(
    "celeba",
    summary="CelebA from its raw files: faces, 40 attributes; CEM's 256-class code or one attribute (research)",
)
def celeba(
    *,
    path: str | Path | None = None,
    target: str = "code",
    given: int = 6,
    hidden: int = 2,
    every: int = 12,
    size: int = 64,
) -> Splits:
    """Faces, lazy uint8 (B, 3, size, size) of the middle; official partition; every ``every``-th image of the file.

    target: 'code' = the ``given`` + ``hidden`` attributes nearest to a share of one half over all images make a binary
    code, each code a class (2 ** 8 = 256), and only the ``given`` most balanced are concepts (K = 6); or the name of an
    attribute, which is then the class, with all others as concepts (K = 39). Class names of the code are its bits: the
    concepts in the order of the file, then the hidden attributes.
    """
    if given < 1 or hidden < 0 or given + hidden > 12 or every < 1 or size < 1:
        raise OptionError(
            f"data set 'celeba': expected given from 1, hidden from 0, together at most 12, every and size from 1, "
            f"got given={given}, hidden={hidden}, every={every}, size={size}"
        )
    root = raw_root(path, LAYOUT)
    names, files, values, marks = read(root)
    if target != "code" and target not in names:
        raise OptionError(str(unknown("target of data set 'celeba':", target, ("code", *names))))
    if target == "code":
        if given + hidden > len(names):
            raise OptionError(f"data set 'celeba': expected given + hidden of at most {len(names)}, got {given + hidden}")
        chosen = most_balanced(values, given + hidden)
        concepts, bits = sorted(chosen[:given]), sorted(chosen[:given]) + sorted(chosen[given:])
        weights = 2 ** np.arange(len(bits))[::-1]
        y = values[:, bits].astype(np.int64) @ weights
        task = Task.classes(f"{code:0{len(bits)}b}" for code in range(2 ** len(bits)))
    else:
        concepts = [i for i, name in enumerate(names) if name != target]
        y = values[:, names.index(target)].astype(np.int64)
        task = Task.classes((f"not {target}", target))
    rows = slice(None, None, every)
    folder = find(root, LAYOUT, "img_align_celeba", "Img/img_align_celeba")
    paths = all_there(files[rows], folder, root, LAYOUT)
    table = Table(
        Crops(paths, torch.tensor(SQUARE).expand(len(paths), 4), size=size),
        c=torch.from_numpy(values[rows][:, concepts]).float(),
        y=torch.from_numpy(y[rows]),
        space=ConceptSpace.binary(names[i] for i in concepts),
        task=task,
        ids=files[rows],
    )
    return official(table, marks[rows], name="celeba", card=CARD)
