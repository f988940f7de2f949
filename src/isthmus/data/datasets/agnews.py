"""AG News: 7,600 news items of four topics (the upstream test part); Zhang, Zhao and LeCun, NeurIPS 2015."""

from __future__ import annotations

from pathlib import Path

import torch

from isthmus.data.datasets._files import packed, read_jsonl
from isthmus.data.datasets._splits import named, official
from isthmus.data.registry import dataset
from isthmus.data.rows import Texts
from isthmus.data.table import DataCard, Splits, Table
from isthmus.space import Task

CARD = DataCard(
    name="agnews",
    title="AG News: 7,600 items of four topics",
    licence="none stated",
    source="AG's corpus of news articles, test part of github.com/mhjabreel/CharCnn_Keras",
    terms="non-commercial research use",
    citation="Zhang, Zhao, LeCun: Character-level convolutional networks for text classification, NeurIPS 2015",
    notes="No concepts. The 7,600 upstream test rows, re-split 3:1 by whoever packed them: not comparable with figures "
    "on the full set. Four texts stand in both parts.",
    share="research",
)
CLASSES = ("world", "sports", "business", "sci/tech")


@dataset("agnews", summary="7,600 news items of 4 topics, no concepts (non-commercial research)")
def agnews(*, path: str | Path | None = None, validation: float = 0.15, seed: int = 0) -> Splits:
    """News items, title and text in one (lazy ``Texts``), without concepts.

    5,700 training rows, of which ``validation`` are held out by ``seed``, and 1,900 test rows.
    """
    rows = read_jsonl(packed(path, "agnews", "text/agnews_7600.jsonl.gz", CARD.source), "agnews")
    y = torch.tensor([int(row["y"]) for row in rows])
    table = Table(Texts([f"{row['title']}. {row['text']}" for row in rows]), y=y, task=Task.classes(CLASSES))
    marks = named([row["split"] for row in rows], "agnews")
    return official(table, marks, name="agnews", card=CARD, validation=validation, seed=seed)
