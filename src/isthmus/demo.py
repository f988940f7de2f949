"""The demo: rendered poker hands, five bottlenecks and three yardsticks side by side, one correction replayed.

One seed, said on the page; two encoders of one architecture: trained on the card concepts, and on the hand alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isthmus.compare import Comparison, Say, compare
from isthmus.data import load

# cards at an angle, overlapping, under noise: many are misread, so that there is something to correct
HANDS: dict[str, Any] = {"rotation": 20.0, "overlap": 0.3, "noise": 30.0}
TRAINING: dict[str, Any] = {"epochs": 5, "lr": 8e-3, "batch_size": 64}
METHODS = ("blackbox", "linear_probe", "random_concepts", "cbm", "cem", "sidechannel")
# on true cards a linear head cannot see a pair, so every head has one hidden layer and offers no contributions
OPTIONS: dict[str, Any] = {"head": "mlp", "hidden": 128, "epochs": 40, "patience": 8, "batch_size": 256}


def main(
    out: str | Path = "demo",
    *,
    train: int = 6000,
    test: int = 2000,
    seed: int = 0,
    say: Say | None = None,
    command: str = "isthmus demo",
    **training: Any,
) -> Comparison:
    """Render the hands, fit, compare; writes report.html, comparison.json and table.md to ``out``."""
    data = load("poker", train=train, validation=1000, test=test, seed=seed, **HANDS)
    return compare(
        data,
        methods=METHODS,
        features="resnet",
        seeds=[seed],
        budget=2,
        options=OPTIONS,
        training={**TRAINING, **training},
        out=out,
        command=command,
        say=say,
    )
