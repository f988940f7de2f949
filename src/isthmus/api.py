"""The calls a person makes: fit, predict, intervene. The rest has files of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isthmus import needs, registry
from isthmus.checkpoints import CheckpointFolder
from isthmus.concepts.book import Book
from isthmus.data.encode import identity
from isthmus.data.registry import load as load_data
from isthmus.data.table import Splits, Table, replacing
from isthmus.encoders import Progress, device_of, encoded, inside, learnable, resolve, train_encoder
from isthmus.errors import DataError, OptionError
from isthmus.given import Batch, Given, Inputs, given
from isthmus.interventions.checks import allowed_of, budget_of
from isthmus.interventions.criteria import Scored, Uncertain
from isthmus.interventions.named import policy as find_policy
from isthmus.interventions.policies import Case, Ordered, Policy, askable, labelled, members, units
from isthmus.model import ConceptModel, Output
from isthmus.space import ConceptSpace
from isthmus.trace import run
from isthmus.train import encode
from isthmus.worded import in_words


def methods() -> list[str]:
    """Names of all methods: the library's, those of installed packages, those of loaded plugins."""
    return list(registry.methods())


def fit(
    method: str,
    data: Splits | str,
    *,
    features: str | nn.Module | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
    feature_options: dict[str, Any] | None = None,
    words: Book | str | Path | None = None,
    unseen: Sequence[str] | float | None = None,
    device: str | torch.device | None = None,
    **options: Any,
) -> ConceptModel:
    """Fit a method on data; returns the model frozen, in evaluation mode.

    ``features``: a builder's name, a module with ``dim``, or None for the default of the rows; weights that came with them
    stay frozen and are encoded once, others learn with the method (before it, where it leaves its features alone).
    ``words``: concepts in words instead of the data's own; ``unseen``: classes kept from what ties them to rows, which are then
    the model's (see ``worded``). ``options`` are the method's own. ``checkpoint``: a folder from which an interrupted fit goes
    on bit for bit. ``device``: where it trains and the model stays ('cuda'; the CPU by default); it takes rows from any device,
    and is loaded on the CPU.
    Raises ``OptionError``, ``DataError``, ``UnknownName``.
    """
    with replacing(words is not None):
        splits = load_data(data) if isinstance(data, str) else data
    if not isinstance(splits, Splits):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(
            f"data: expected Splits or a data set's name, got {type(splits).__name__}; isthmus.data.split cuts a Table"
        )
    chosen, place = registry.get(method), device_of(device, features)
    told = in_words(splits, words, unseen, features=features, feature_options=feature_options, seed=seed)
    if told is not None:
        splits, features, feature_options = told.splits, told.features, None
        options = {name: value for name, value in told.options.items() if name in chosen.options} | options
    space, labelled = splits.space, splits.train.c is not None
    unmet = needs.unmet(chosen, space, splits.task, options, labelled=labelled, features=features)
    if unmet and unmet.startswith("option"):
        raise OptionError(f"method {method!r} needs {unmet}, got none; set it")
    if unmet:
        others = [
            name for name, m in registry.methods().items() if needs.unmet(m, space, splits.task, labelled=labelled) is None
        ]
        raise DataError(f"method {method!r} needs {unmet}; this data runs {', '.join(others) or 'none'}")
    chosen.checked(options)
    module = resolve(features, splits, seed=seed, **(feature_options or {})).to(place)
    plan, frozen = chosen.make(module, splits.space, splits.task, seed=seed, **options), not learnable(module)
    if not frozen and not any("features" in getattr(stage, "parts", ()) for stage in plan.stages):
        learns = "task" if splits.train.c is None else chosen.card.encoder  # the method reads features as they come
        train_encoder(module, splits, "task" if learns == "task" else "concepts", seed=seed, progress=progress)
        frozen = True
    seen = encoded(splits, module) if frozen else splits
    if frozen:
        plan = chosen.make(inside(module), splits.space, splits.task, seed=seed, **options)
    made = (splits.name, getattr(module, "recipe", None), method, seed, checkpoint and identity(seen.train, seen.validation))
    key = f"{made}|{sorted(plan.model.origin['options'].items())}"
    kept = None if checkpoint is None else CheckpointFolder(checkpoint, key)
    plan.model.to(place)
    model = plan.fit(seen, seed, progress=progress, checkpoint=kept)
    model.features = module.eval().requires_grad_(False)
    return model


@dataclass(frozen=True, eq=False)
class Prediction:
    """``decisions`` (n names, or numbers), ``probabilities`` (n, Y), ``concepts`` (n, K) named by ``columns``."""

    decisions: list[str] | list[float] | list[list[str]]
    probabilities: Tensor
    concepts: Tensor
    columns: tuple[str, ...]


@torch.no_grad()
def predict(model: ConceptModel, x: Any, *, given: Given | None = None) -> Prediction:
    """Predict rows: a ``Table``, lazy rows, a tensor (n, ...), or what the model's features take."""
    z = _features(model, x)
    if given is not None:
        given.check(model.space, len(z))
    out = run(model, z, given)
    answer = model.task.predict(out.logits)
    concepts = model.bottleneck.read(out.concepts.values.to(model.device)).cpu()
    return Prediction(_words(model, answer), model.task.probabilities(out.logits), concepts, model.space.columns)


def _features(model: ConceptModel, x: Any) -> Tensor:
    if isinstance(x, Table):
        return encode(model.features, x, model.device)
    if isinstance(x, np.ndarray) and x.dtype.kind in "fiub":
        x = torch.as_tensor(x, dtype=torch.float32 if x.dtype.kind == "f" else None)
    if hasattr(x, "to_numpy") and hasattr(x, "columns"):
        raise DataError(
            "x: expected an array or tensor of numbers, got a data frame; give df.to_numpy(), columns in fit's order"
        )
    if isinstance(x, Tensor) and x.ndim < 2:
        raise DataError(f"x: expected rows of shape (n, ...), got {tuple(x.shape)}; for one row use x[None]")
    if isinstance(x, Tensor) and x.is_floating_point() and not bool(x.isfinite().all()):
        at = tuple((~x.isfinite()).nonzero()[0].tolist())
        raise DataError(f"x, row {at[0]}: expected finite numbers, got {x[at].item()} at {at}; fill or drop what is missing")
    rows = _Rows(x) if isinstance(x, Tensor) or hasattr(x, "read") else None
    return model.encode(x) if rows is None else encode(model.features, rows, model.device)


@dataclass
class _Rows:
    """A tensor or lazy rows, as ``encode`` reads them."""

    x: Any

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor) -> _Rows:
        return _Rows(self.x[index] if isinstance(self.x, Tensor) else self.x.take(index))

    def read(self) -> Any:
        return self.x if isinstance(self.x, Tensor) else self.x.read()

    def batch(self, x: Inputs) -> Batch:
        raise NotImplementedError


def _words(model: ConceptModel, answer: Tensor) -> Any:
    names = model.task.names
    if model.task.kind == "classes":
        return [names[i] for i in answer.tolist()]
    if model.task.kind == "labels":
        return [[name for name, on in zip(names, row, strict=True) if on] for row in answer.tolist()]
    return answer.tolist()


@dataclass(frozen=True, eq=False)
class Told:
    """What a correction did to one row: answers ``before`` and ``after``, each step, and what to ask next, by which policy.

    ``ask_next_why``: why that is not the policy that was named; empty where it is.
    """

    before: str
    after: str
    steps: list[dict[str, Any]]
    ask_next: list[str]
    probabilities: dict[str, tuple[float, float]]
    moved: dict[str, tuple[float, float]]
    ask_next_by: str = "ucp"
    ask_next_why: str = ""

    @property
    def text(self) -> str:
        """The steps in words: 'ace of spades: 0.12 -> given 1; answer: pair -> three of a kind'."""
        said = [f"{s['concept']}: {s['before']} → given {s['given']}" for s in self.steps]
        return "; ".join([*said, f"answer: {self.before} → {self.after}"])

    @property
    def changed(self) -> bool:
        return self.before != self.after


@torch.no_grad()
def intervene(
    model: ConceptModel,
    x: Any,
    known: Mapping[str, float | str | None] | None = None,
    *,
    truth: Tensor | None = None,
    policy: str = "ucp",
    budget: int = 0,
    allowed: Any = None,
) -> Told:
    """Correct concepts of one row and say what changed. ``x``: one row (1, ...) or a table of one row.

    ``known`` are corrections by name. ``truth`` (K,), NaN unknown, lets ``policy`` make ``budget`` more from the labels: 'ucp',
    'ectp', 'eudtp', 'cctp', 'coop', 'lcp', 'random', 'kflip', 'learned' where the model learnt one; with ':group', ':rescored'.
    ``allowed`` (M,) forbids questions, default: what the table says can be asked. ``ask_next`` lists what the policy would ask
    then, in the order of a larger budget, or, where it cannot say without the truth or other rows, the least certain;
    ``ask_next_by`` names which of the two, ``ask_next_why`` the reason.
    Unknown names: "did you mean".
    """
    if allowed is None and isinstance(x, Table):
        allowed = x.askable_for(model.space)
    return intervene_on(model, _features(model, x), known, truth=truth, policy=policy, budget=budget, allowed=allowed)


@torch.no_grad()
def intervene_on(
    model: ConceptModel,
    z: Tensor,
    known: Mapping[str, float | str | None] | None = None,
    *,
    truth: Tensor | None = None,
    policy: str = "ucp",
    budget: int = 0,
    allowed: Any = None,
) -> Told:
    """``intervene`` on features z (1, D) computed before."""
    if len(z) != 1:
        raise DataError(f"intervene: expected one row, got {len(z)}; pass x[i:i+1]")
    if known is not None and not isinstance(known, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"intervene: expected corrections as {{concept: value}}, got {type(known).__name__}")
    z = z.to(model.device)
    held, can = given(model.space, known or {}).to(z.device), _allowed(model, allowed).to(z.device)
    corrected, start = model.space.narrow(held.mask), held
    if budget := min(budget_of(budget), model.space.count):
        held, chosen = _asked(model, z, held, truth, policy, budget, can)
        corrected = corrected | chosen
    told = Given(held.values, held.mask & model.space.widen(corrected))
    before, after = model.answer(z), model.answer(z, held)
    a, b = (_answer(model, out.logits) for out in (before, after))
    pa, pb = (model.task.probabilities(out.logits)[0].tolist() for out in (before, after))
    ask_next, by, why = _next(model, z, start, told, policy, can)
    return Told(
        before=a,
        after=b,
        steps=steps(model.space, model.bottleneck.read(before.concepts.values)[0], told),
        ask_next=ask_next,
        probabilities={name: (p, q) for name, p, q in zip(model.task.names, pa, pb, strict=True)},
        moved=_moved(model, before, after, held),
        ask_next_by=by,
        ask_next_why=why,
    )


def _allowed(model: ConceptModel, allowed: Any) -> Tensor:
    """(1, M) what may be asked about at all."""
    count = model.space.count
    if allowed is None:
        return torch.ones(1, count, dtype=torch.bool)
    return allowed_of(allowed, (1, count), f"{count} of True or False")


def _asked(
    model: ConceptModel, z: Tensor, held: Given, truth: Any, name: str, budget: int, can: Tensor
) -> tuple[Given, Tensor]:
    """What is given after a policy asked ``budget`` more of the concepts that it ``can`` than those held, and which (1, M)."""
    chooser, space = find_policy(name), model.space
    if reason := chooser.unfit(model, budget) or chooser.unready(model):
        raise OptionError(f"policy {name!r}: {reason}; use 'ucp' or 'random'")
    if truth is None:
        raise DataError("intervene: a budget needs truth=, the labels the policy may reveal; or name corrections yourself")
    c = _truth(truth, space).to(z.device)
    open_ = askable(c, space, can) & ~space.narrow(held.mask)
    asked = Case(model, z, c, open_, held=held if bool(held.mask.any()) else None)
    chosen = chooser.choose(asked, budget)
    more = chooser.give(asked, chosen)
    return Given(torch.where(held.mask, held.values, more.values), held.mask | more.mask), chosen


def _truth(truth: Any, space: ConceptSpace) -> Tensor:
    """Labels (1, K) of one row."""
    expected = f"truth: expected {len(space)} labels, one for each column, NaN where unknown"
    try:
        c = torch.as_tensor(truth, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"{expected}, got {type(truth).__name__} of other things than numbers") from None
    if c.shape not in ((len(space),), (1, len(space))):
        raise DataError(f"{expected}, got shape {tuple(c.shape)}")
    return labelled(c.reshape(1, -1), space, 1, "truth")


def _answer(model: ConceptModel, logits: Tensor) -> str:
    word = _words(model, model.task.predict(logits))[0]
    if isinstance(word, float):
        return f"{word:.4g}" + (f" {model.task.unit}" if model.task.unit else "")
    return word if isinstance(word, str) else ", ".join(word) or "none"


def steps(space: ConceptSpace, before: Tensor, held: Given) -> list[dict[str, Any]]:
    """Each corrected concept in words: what was read, what is given."""
    rows: list[dict[str, Any]] = []
    for m, (concept, part) in enumerate(zip(space.concepts, space.slices, strict=True)):
        if not bool(held.mask[0, part].any()):
            continue
        if concept.kind == "categorical":
            read, told = before[part], torch.where(held.mask[0, part], held.values[0, part], before[part] * 0)
            state, at = int(told.argmax()), int(read.argmax())
            whole = bool(held.mask[0, part].all())
            given = concept.states[state] if whole else ", ".join(
                f"{s}={v:g}" for s, v, on in zip(concept.states, told.tolist(), held.mask[0, part].tolist(), strict=True) if on
            )  # fmt: skip
            rows.append({"concept": concept.name, "before": f"{concept.states[at]} ({float(read[at]):.2f})", "given": given})
        else:
            value = float(held.values[0, part].item())
            unit = f" {concept.unit}" if concept.unit else ""
            rows.append({"concept": space.names[m], "before": f"{float(before[part].item()):.2f}", "given": f"{value:g}{unit}"})
    return rows


def _next(
    model: ConceptModel, z: Tensor, start: Given, told: Given, name: str, can: Tensor, most: int = 3
) -> tuple[list[str], str, str]:
    """What a policy would ask next (concepts, or groups) of what it ``can``, which policy that is, and why not the one named.

    ``start`` was given before its first question, ``told`` is given now: a policy that scores once goes on in the order of its
    first look. Where the one that was named cannot say, the least certain: 'ucp', or 'ucp:group'.
    """
    space, chooser = model.space, find_policy(name)
    if why := _silent(chooser, model):
        level = chooser.level if isinstance(chooser, Ordered) else "concept"
        chooser, name, start = Uncertain(level=level), "ucp" if level == "concept" else "ucp:group", told
    assert isinstance(chooser, Scored)
    if not space.count:
        return [], name, why
    first = start if bool(start.mask.any()) else None
    rows = Case(model, z, told.values, can & ~space.narrow(start.mask), held=first)
    open_ = units(can & ~space.narrow(told.mask), members(space, chooser.level).to(z.device))[0]
    held = told if chooser.rescored and bool(told.mask.any()) else first
    score = chooser.pooled(chooser.scores(rows, held), rows)[0].masked_fill(~open_, -torch.inf)
    names = space.names if chooser.level == "concept" else list(space.groups)
    return [names[u] for u in score.argsort(descending=True, stable=True).tolist()[:most] if open_[u]], name, why


def _silent(chooser: Policy, model: ConceptModel) -> str:
    """Why a policy cannot say what it asks next; empty where it can."""
    if reason := chooser.unfit(model, 1) or chooser.unready(model):
        return reason
    if not isinstance(chooser, Scored):
        return "it gives concepts no score"
    return "it looks at the truth" if chooser.oracle else ""


def _moved(model: ConceptModel, before: Output, after: Output, held: Given) -> dict[str, tuple[float, float]]:
    """Columns nobody gave that moved by more than .01: what a correction taught its neighbours."""
    a, b = (model.bottleneck.read(out.concepts.values)[0] for out in (before, after))
    gap = ((b - a).abs() > 0.01) & ~held.mask[0]
    return {model.space.columns[k]: (float(a[k]), float(b[k])) for k in gap.nonzero().flatten().tolist()}
