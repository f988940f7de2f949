"""SST-2: 9,613 sentences of film reviews, negative or positive; Socher et al., EMNLP 2013."""

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
    name="sst2",
    title="SST-2: sentiment of film review sentences",
    licence="none stated",
    source="Stanford Sentiment Treebank, by way of github.com/clairett/pytorch-sentiment-classification",
    terms="research use",
    citation="Socher et al.: Recursive deep models for semantic compositionality, EMNLP 2013",
    notes="No concepts. Official split 6,920/872/1,821; two sentences stand in two splits, as upstream.",
    share="research",
)


@dataset("sst2", summary="9,613 film review sentences, negative or positive, no concepts (research)")
def sst2(*, path: str | Path | None = None) -> Splits:
    """Sentences (lazy ``Texts``) without concepts; official split."""
    rows = read_jsonl(packed(path, "sst2", "text/sst2.jsonl.gz", CARD.source), "sst2")
    y = torch.tensor([int(row["y"]) for row in rows])
    table = Table(Texts([row["text"] for row in rows]), y=y, task=Task.classes(("negative", "positive")))
    return official(table, named([row["split"] for row in rows], "sst2"), name="sst2", card=CARD)
