"""Cardiotocography: 2,126 recordings of foetal heart rate, ten expert patterns, three states.

Ayres-de-Campos et al., SisPorto 2.0, J. Matern. Fetal Med. 2000.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from isthmus.data.datasets._files import choose, number, packed, read_csv
from isthmus.data.datasets._splits import draw, official
from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import DataError
from isthmus.space import Concept, ConceptSpace, Task

INPUTS = (
    "LB", "AC", "FM", "UC", "ASTV", "MSTV", "ALTV", "MLTV", "DL", "DS", "DP", "DR", "Width", "Min", "Max", "Nmax",
    "Nzeros", "Mode", "Mean", "Median", "Variance", "Tendency",
)  # fmt: skip
PATTERNS = {
    "A": "calm sleep",
    "B": "REM sleep",
    "C": "calm vigilance",
    "D": "active vigilance",
    "E": "shift pattern",
    "AD": "accelerative/decelerative pattern",
    "DE": "decelerative pattern",
    "LD": "largely decelerative pattern",
    "FS": "flat-sinusoidal pattern",
    "SUSP": "suspect pattern",
}
CLASSES = ("normal", "suspect", "pathologic")
CARD = DataCard(
    name="ctg",
    title="Cardiotocography: ten expert patterns, three foetal states",
    licence="CC BY 4.0 (from memory)",
    source="UCI Cardiotocography, by way of github.com/SagarChhabriya/cardiotocography",
    terms="free use with attribution; no medical use",
    citation="Ayres-de-Campos et al.: SisPorto 2.0, Journal of Maternal-Fetal Medicine 9, 2000",
    notes=f"x holds, in order: {', '.join(INPUTS)} (DR is 0 on every row). A recording has exactly one pattern. "
    "No official split.",
)


@dataset("ctg", summary="2,126 cardiotocograms, 22 inputs, 10 expert patterns, 3 classes (CC BY 4.0)")
def ctg(
    *,
    path: str | Path | None = None,
    patterns: Literal["categorical", "binary"] = "categorical",
    standardise: bool = False,
    validation: float = 0.15,
    test: float = 0.2,
    seed: int = 0,
) -> Splits:
    """Foetal recordings, x float (B, 22) in the units of the file; split by ``seed``, stratified.

    patterns: 'categorical' = one concept 'pattern' of ten states; 'binary' = ten binary concepts in one group (K = 10
    both). standardise: mean 0 and standard deviation 1 of the training rows; a constant column becomes 0.
    """
    choose("ctg", "patterns", patterns, ("categorical", "binary"))
    place = packed(path, "ctg", "tabular/ctg.csv.gz", CARD.source)
    rows = read_csv(place, "ctg", (*INPUTS, *PATTERNS, "NSP"))
    cells = {name: [number(row[name], place, name, i) for i, row in enumerate(rows)] for name in (*INPUTS, *PATTERNS, "NSP")}
    c = torch.tensor([cells[name] for name in PATTERNS]).T.contiguous()
    if not bool((c.sum(1) == 1).all()):
        row = int((c.sum(1) != 1).nonzero()[0])
        raise DataError(f"{place}, row {row}: expected exactly one of {', '.join(PATTERNS)} to be 1, got {c[row].sum():g}")
    space = ConceptSpace.of(Concept("pattern", "categorical", tuple(PATTERNS.values())))
    if patterns == "binary":
        space = ConceptSpace.binary(PATTERNS.values(), ["pattern"] * len(PATTERNS))
    y, task = torch.tensor(cells["NSP"]).long() - 1, Task.classes(CLASSES)
    x = torch.from_numpy(np.array([cells[name] for name in INPUTS], dtype=np.float32).T.copy())
    table = Table(x, c=c, y=y, space=space, task=task)
    marks = draw(y, task, validation=validation, test=test, seed=seed)
    return official(table, marks, name="ctg", card=CARD, standardise=standardise)
