"""``pytorch-concepts`` (import name ``torch_concepts``), when it is installed beside: its own model, a manual loop.

``pip install --pre pytorch-concepts -c constraints.txt`` into the environment that runs the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.plain import Settings

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "cbm": ("ConceptBottleneckModel", {}),
    "cem": ("ConceptEmbeddingModel", {"embedding_size": 16}),
}
NOTES = {
    "cbm": "the same layers",
    "cem": "an encoder of half the size, without RandInt",
}


def release() -> str | None:
    """The version installed, or None."""
    try:
        import_module("torch_concepts")
        return version("pytorch-concepts")
    except ImportError:
        return None


def trainer(method: str, x: Tensor, c: Tensor, y: Tensor, classes: int, how: Settings) -> Callable[[], object]:
    """A fresh model, and the loop that trains it on whole labels: what its own examples write, with fused Adam.

    Its embedding model reads one vector for each concept and expands it to two: half the encoder of the paper. It runs
    without RandInt, which would draw once for all concepts of a plate.
    """
    concepts, nn = import_module("torch_concepts"), import_module("torch_concepts.nn")
    names = [f"c{k}" for k in range(c.shape[1])]
    every = [*names, "y"]
    kinds = ["binary"] * len(names) + ["categorical"]
    notes = concepts.Annotations(labels=every, types=kinds, cardinalities=[1] * len(names) + [classes])
    kind, options = MODELS[method]
    model = getattr(nn, kind)(input_size=x.shape[1], annotations=notes, task_names=["y"], **options)

    def loop() -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=how.lr, weight_decay=how.weight_decay, fused=True)
        for _ in range(how.epochs):
            for index in torch.randperm(len(x)).split(how.batch):
                out = model(query=every, input=x[index])
                loss = F.cross_entropy(out.logits["y"].tensor, y[index])
                loss = loss + F.binary_cross_entropy_with_logits(out.logits[names].tensor, c[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss.item()

    return loop
