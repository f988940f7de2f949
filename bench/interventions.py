"""``interventions.curve`` whole, policies included, at CUB's size: against the bare core, and against the published way.

5,794 rows, 112 concepts, 200 classes. Under a linear head the whole (bottleneck, scores, order, every step of the curve) is
timed against ``numerics.curves`` on arrays that are ready. Under a head with a hidden layer it is timed against the published
way (Shin et al. 2023): concept by concept a loop over images, the head on all rows for either value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from bench import curves as bare
from bench.cases import Row, case
from bench.roof import against
from isthmus.bottlenecks.linear import LinearBottleneck
from isthmus.features import build
from isthmus.heads.linear import LinearHead, MLPHead
from isthmus.interventions import Policy, curve, policy
from isthmus.model import ConceptModel, Head
from isthmus.space import ConceptSpace, Task

NAMES = ("random", "ucp", "cctp", "ectp", "eudtp")
MOST = 1.5


def model_of(w: bare.World, head: Callable[[ConceptSpace, Task], Head]) -> ConceptModel:
    """A bottleneck that reads the chances of ``w`` off logits given as features, and a head."""
    space = ConceptSpace.binary([f"c{k}" for k in range(bare.CONCEPTS)])
    task = Task.classes([f"y{k}" for k in range(bare.CLASSES)])
    bottleneck = LinearBottleneck(bare.CONCEPTS, space)
    with torch.no_grad():
        bottleneck.score.weight.copy_(torch.eye(bare.CONCEPTS))
        bottleneck.score.bias.zero_()
    made = ConceptModel(build("identity", dim=bare.CONCEPTS), bottleneck, head(space, task), space, task)
    return made.eval().requires_grad_(False)


def linear(w: bare.World) -> ConceptModel:
    """With the linear head of ``w``."""
    made = model_of(w, LinearHead)
    assert isinstance(made.head, LinearHead)
    made.head.map.weight.copy_(torch.from_numpy(w.weight))
    made.head.map.bias.copy_(torch.from_numpy(w.bias))
    return made


def whole(made: ConceptModel, w: bare.World, rule: Policy, steps: int) -> Callable[[], object]:
    """The curve of one policy, all steps, from features."""
    (z, c), y = inputs(w), torch.from_numpy(w.y)
    return lambda: curve(made, z, c, rule, tuple(range(steps + 1)), y=y)


def published(w: bare.World, criterion: str, head: Head) -> bare.Floats:
    """The published way with any head that maps (n, k) to logits."""
    return bare.published(w, criterion, head.get_submodule("map"))  # type: ignore[arg-type]


@case(
    "interventions", "whole correction curves against the bare core, and two-layer heads against the published way, one thread"
)
def run(quick: bool) -> Iterator[Row]:
    """Five policies under a linear head; two under a hidden layer."""
    w, repeats = bare.world(), 2 if quick else 7
    w = w.first(1000) if quick else w
    made, passes = linear(w), {"random": 1, "ucp": 1, "cctp": 1, "ectp": 7, "eudtp": 7}
    for name in ("random", "ectp") if quick else NAMES:
        core: dict[str, tuple[Callable[[], object], float]] = {"the core alone": (lambda name=name: bare.ours(w, name), 1.0)}
        operations = 2.0 * passes[name] * len(w.p) * bare.CONCEPTS * bare.CLASSES
        limits = {} if quick else {"the core alone": MOST}
        ours = whole(made, w, policy(name), bare.CONCEPTS)
        yield from against(f"{name}, linear head", ours, core, repeats=repeats, operations=operations, limits=limits)
        found = curve(made, *inputs(w), policy(name), tuple(range(bare.CONCEPTS + 1)), y=torch.from_numpy(w.y))
        score = (found.answers == torch.from_numpy(w.y)).double().mean(1)
        far = float((score - bare.ours(w, name)).abs().max()) if name != "random" else 0.0
        if name != "random":
            yield Row(
                f"{name}: curve against the core's",
                far,
                "of accuracy",
                limit=2e-3,
                note="near-ties may be asked in another order",
            )
    deep = model_of(w, MLPHead)
    part = w.first(50 if quick else 200)
    for name in ("ucp",) if quick else ("ucp", "ectp"):
        theirs: dict[str, tuple[Callable[[], object], float]] = {
            "published": (lambda name=name: published(part, name, deep.head), len(w.p) / len(part.p))
        }
        ours = whole(deep, w, policy(name), bare.CONCEPTS)
        operations = 2.0 * bare.CONCEPTS * len(w.p) * 128 * (bare.CONCEPTS + bare.CLASSES)
        yield from against(f"{name}, one hidden layer of 128", ours, theirs, repeats=1 if quick else 3, operations=operations)


def inputs(w: bare.World) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and labels."""
    return torch.from_numpy(w.p).logit(1e-6), torch.from_numpy(w.c)
