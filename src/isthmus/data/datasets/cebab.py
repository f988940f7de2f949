"""CEBaB: restaurant reviews with edits that change one aspect; Abraham et al., NeurIPS 2022.

Four aspects (food, ambiance, service, noise), each voted on by five workers; 1 to 5 stars by five more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from isthmus.data.datasets._files import choose, packed, read_jsonl
from isthmus.data.datasets._splits import named, official
from isthmus.data.registry import dataset
from isthmus.data.rows import Texts
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import DataError
from isthmus.space import Concept, ConceptSpace, Task

CARD = DataCard(
    name="cebab",
    title="CEBaB: restaurant reviews with counterfactual edits",
    licence="CC BY 4.0",
    source="github.com/CEBaBing/CEBaB, version 1.1",
    terms="free use with attribution",
    citation="Abraham et al.: CEBaB, NeurIPS 2022",
    notes="15,090 texts by 2,299 original reviews; the official split (11,728/1,673/1,689) keeps a review and its "
    "edits together, and the review is the group here; eleven identical texts still stand in two splits. 1,880 texts "
    "have no star majority. The four aspects are an incomplete account of the stars.",
)
ASPECTS = ("food", "ambiance", "service", "noise")
STATES = ("positive", "negative", "unknown")
VOTES = ("Positive", "Negative", "unknown")  # as the file spells them
TRAIN = {"inclusive": "", "observational": "in_observational", "exclusive": "in_exclusive"}


def read(path: str | Path | None = None) -> list[dict[str, Any]]:
    """All 15,090 rows and columns: edits (``original_id``, ``edit_type``, ``edit_goal``), votes, cuisine, price."""
    return read_jsonl(packed(path, "cebab", "text/cebab.jsonl.gz", CARD.source), "cebab")


@dataset("cebab", summary="15,090 restaurant reviews with edits, 4 aspects on each, 1 to 5 stars (CC BY 4.0)")
def cebab(
    *,
    path: str | Path | None = None,
    labels: Literal["majority", "votes"] = "majority",
    target: Literal["stars", "mean"] = "stars",
    train: Literal["inclusive", "observational", "exclusive"] = "inclusive",
) -> Splits:
    """Reviews (lazy ``Texts``); official splits; ``group`` = the original review, which an edit never leaves.

    Concepts: food, ambiance, service, noise, each categorical positive, negative or unknown ('the text does not say', a
    state of its own; K = 12). A cell is NaN where nobody voted, and with labels='majority' where no state won;
    labels='votes' gives the shares of the five votes. target: 'stars' = classes '1' to '5' by majority, rows without
    one left out; 'mean' = the mean of the votes, a value. train: the official training variants: all rows, original
    reviews only, or one text for each review.
    """
    choose("cebab", "labels", labels, ("majority", "votes"))
    choose("cebab", "target", target, ("stars", "mean"))
    choose("cebab", "train", train, tuple(TRAIN))
    rows = [row for row in read(path) if row["split"] != "train" or not TRAIN[train] or row[TRAIN[train]]]
    task = Task.value("stars", unit="stars") if target == "mean" else Task.classes(("1", "2", "3", "4", "5"))
    if target == "stars":
        rows = [row for row in rows if row["review_majority"] != "no majority"]
        y = torch.tensor([int(row["review_majority"]) - 1 for row in rows])
    else:
        y = torch.tensor([_mean(row["review_distribution"]) for row in rows])
    space = ConceptSpace(tuple(Concept(name, "categorical", STATES) for name in ASPECTS))
    cells = [[cell for aspect in ASPECTS for cell in _cell(row, aspect, labels)] for row in rows]
    table = Table(
        Texts([row["text"] for row in rows]),
        c=torch.tensor(cells),
        y=y,
        space=space,
        task=task,
        group=[row["original_id"] for row in rows],
        ids=[row["id"] for row in rows],
    )
    return official(table, named([row["split"] for row in rows], "cebab"), name="cebab", card=CARD)


def _mean(votes: Mapping[str, int]) -> float:
    return sum(int(stars) * count for stars, count in votes.items()) / sum(votes.values())


def _cell(row: Mapping[str, Any], aspect: str, labels: str) -> list[float]:
    """One aspect of one row as a block of three columns."""
    value = row[aspect]
    if labels == "votes" and value != "":
        votes: Mapping[str, int] = row[f"{aspect}_distribution"]
        return [votes.get(state, 0) / sum(votes.values()) for state in VOTES]
    if value in ("", "no majority"):
        return [float("nan")] * len(STATES)
    if value not in VOTES:
        raise DataError(f"cebab, column {aspect!r}, row {row['id']}: expected {', '.join(VOTES)} or nothing, got {value!r}")
    return [float(value == state) for state in VOTES]
