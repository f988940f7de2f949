"""From data to features: pick a builder that fits the rows, train it where it has no weights yet, encode once."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from isthmus import losses
from isthmus.bottlenecks.empty import EmptyBottleneck
from isthmus.bottlenecks.linear import LinearBottleneck
from isthmus.data.rows import Images, Texts
from isthmus.data.table import Splits
from isthmus.errors import DataError, OptionError
from isthmus.features import Features, build, entries
from isthmus.heads.linear import LinearHead
from isthmus.heads.residual import FeatureHead
from isthmus.model import ConceptModel
from isthmus.space import EMPTY
from isthmus.train import Learn, Plan, Progress, encode, seeded

TRAINING = ("epochs", "lr", "batch_size")  # how features are trained here may be set by these
Learns = Literal["concepts", "task", "nothing"]


@dataclass(frozen=True, eq=False)
class Encoder:
    """Features ready for use: a frozen module, what it ``learns`` (nothing, when its weights came with it), the cost."""

    name: str
    learns: Learns
    module: Features
    seconds: float


def resolve(features: str | nn.Module | None, data: Splits, *, seed: int = 0, **options: Any) -> Features:
    """Features by name (or a module as it is), sized for the rows; None picks 'mlp' for numbers, 'resnet' for images.

    Built under ``seed``; the caller's generator stays as it was. Texts and files need a name.
    """
    if isinstance(features, nn.Module):
        return features  # type: ignore[return-value]
    x = data.train.x
    if features is None:
        features = _default(x)
    entry = entries().get(features)
    wanted = {} if entry is None else entry.options
    sizes: dict[str, Any] = {}
    if isinstance(x, Tensor) and x.ndim == 2:
        sizes = {"dim": x.shape[1]} if features == "identity" else {"dim_in": x.shape[1]}
    elif isinstance(x, Tensor) and x.ndim == 4:
        sizes = {"size": tuple(x.shape[2:])}
    elif isinstance(x, Images):
        sizes = {"size": tuple(x.take(torch.arange(1)).read().shape[2:])}
    with seeded(seed):
        module = build(features, **{k: v for k, v in sizes.items() if k in wanted} | options)
    fit: Callable[[Any], None] | None = getattr(module, "fit", None)
    if fit is not None:
        fit(data.train.read())
    return module


def _default(x: Any) -> str:
    if isinstance(x, Tensor) and x.ndim == 2:
        return "mlp"
    if isinstance(x, Images) or (isinstance(x, Tensor) and x.ndim == 4):
        return "resnet"
    kind = "texts" if isinstance(x, Texts) else "these rows"
    raise OptionError(f"features: {kind} have no default; name one of {', '.join(entries())} (isthmus features lists them)")


def device_of(name: str | torch.device | None, features: object = None) -> torch.device:
    """A device by name ('cpu', 'cuda', 'cuda:1'); None: that of ``features``, else the CPU.

    ``OptionError`` where it is none or is not here.
    """
    if name is None and isinstance(features, nn.Module):
        return next(features.parameters(), next(features.buffers(), torch.empty(0))).device
    try:
        found = torch.device("cpu" if name is None else name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError):
        found = None
    if found is None or found.type == "meta":
        here = ", ".join(["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))])
        raise OptionError(f"device: expected one of {here}, got {name!r}; isthmus doctor says what is here")
    return found


def learnable(module: nn.Module) -> bool:
    """True when the features have weights and did not come with them: they must be trained before they are shared."""
    return bool(list(module.parameters())) and not getattr(module, "pretrained", False)


def train_encoder(
    module: Features, data: Splits, learns: Literal["concepts", "task"], *, seed: int = 0, progress: Progress | None = None,
    epochs: int = 8, lr: float = 3e-3, batch_size: int = 64,
) -> Features:  # fmt: skip
    """Train features on the concepts alone or on the task alone, with a linear head that is thrown away; then freeze."""
    with seeded(seed):
        if learns == "concepts":
            if data.train.c is None or not len(data.space):
                raise DataError("encoder on concepts: expected concept labels, got a table without; train it on the task")
            bottleneck = LinearBottleneck(module.dim, data.space)
            model = ConceptModel(module, bottleneck, LinearHead(data.space, data.task), data.space, data.task)
        else:
            head = FeatureHead(module.dim, data.task, "mlp")
            model = ConceptModel(module, EmptyBottleneck(), head, EMPTY, data.task)
    loss, part = (losses.concept, "bottleneck") if learns == "concepts" else (losses.task, "head")
    stage = Learn(
        loss, ("features", part), epochs=epochs, lr=lr, batch_size=batch_size, weight_decay=1e-5, patience=0,
        schedule="onecycle", name=f"encoder on {learns}",
    )  # fmt: skip
    model.to(device_of(None, module))
    Plan(model, [stage]).fit(data, seed, progress=progress)
    return module.eval().requires_grad_(False)


def encoders(
    features: str | nn.Module | None, data: Splits, wanted: set[str], *, seed: int = 0, progress: Progress | None = None,
    options: dict[str, Any] | None = None, device: torch.device | str = "cpu", **training: Any,
) -> dict[str, Encoder]:  # fmt: skip
    """An encoder for each of ``wanted`` ('concepts', 'task'): one for all where the weights came with the features."""
    module = resolve(features, data, seed=seed, **(options or {})).to(device)
    recipe = getattr(module, "recipe", None)
    name = type(module).__name__ if recipe is None else recipe.name
    if not learnable(module):
        found = Encoder(name, "nothing", module.eval().requires_grad_(False), 0.0)
        return dict.fromkeys(wanted, found)
    made: dict[str, Encoder] = {}
    for learns in sorted(wanted):
        start = time.perf_counter()
        fresh = deepcopy(module) if isinstance(features, nn.Module) else resolve(features, data, seed=seed, **(options or {}))
        fresh = fresh.to(device)
        train_encoder(fresh, data, learns, seed=seed, progress=progress, **training)  # type: ignore[arg-type]
        made[learns] = Encoder(f"{name} on {learns}", learns, fresh, time.perf_counter() - start)  # type: ignore[arg-type]
    return made


def inside(module: nn.Module) -> Features:
    """Features computed before, as a builder sees them: the columns, and the text space that they can be taken to."""
    made = build("identity", dim=module.dim)
    shared = getattr(module, "shared", None)
    if isinstance(shared, nn.Module):
        made.shared = shared
    if hasattr(module, "patches"):
        made.patches = module.patches  # pyright: ignore[reportAttributeAccessIssue]
    return made


def encoded(data: Splits, encoder: Features, *, cache: bool = True) -> Splits:
    """The splits with x = features of a frozen encoder; weights that came from outside are cached on disk by content."""
    result = copy(data)
    for part in ("train", "validation", "test"):
        table = copy(getattr(data, part))
        if cache and getattr(encoder, "pretrained", False):
            from isthmus.data.cache import cached

            table.x = cached(encoder, table.x)
        else:
            table.x = encode(encoder, table, device_of(None, encoder))
        setattr(result, part, table)
    return result
