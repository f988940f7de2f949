"""The laws every method keeps, as a function: ``check_method("my_method")`` raises on the first that is broken.

Run ``python -m isthmus.testing [name ...]`` to check the registered methods and print the exemptions.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from isthmus import hub, registry
from isthmus.data.table import Splits, Table, split
from isthmus.errors import DataError, IsthmusError
from isthmus.given import Batch, Given, everything, randomly
from isthmus.model import ConceptModel, Contributes
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.train import Learn, Plan

LAWS = {
    1: "shapes: values (B, K), logits (B, Y), K = len(space)",
    2: "what is given is kept, bit for bit; NaN is never given",
    3: "contributions + remainder = logits",
    4: "after fit, nothing requires grad",
    5: "sealed: with every concept given, another x gives the same logits",
    6: "save, load, same outputs, also in a fresh process",
    7: "keep(permutation) permutes columns and leaves the logits",
    8: "row i of a batch = row i alone",
    9: "an unknown label leaves the gradient bit-equal",
    10: "same seed, same weights",
    11: "nothing given equals no argument",
}


WIDTH = 10  # columns of the features, and of the text space, that the laws are checked on


class LawBroken(AssertionError):
    """A method breaks a law; the message says which, and how."""


@dataclass
class Verdict:
    """Law by law: 'holds', 'exempt: why' or 'not offered'."""

    method: str
    options: dict[str, Any]
    space: str
    laws: dict[int, str] = field(default_factory=dict[int, str])


def world(kinds: tuple[str, ...], task: str = "classes", rows: int = 160, seed: int = 0, worded: bool = False) -> Splits:
    """A small world with concepts of the given kinds, a tenth of their labels unknown, and a task they decide.

    ``worded``: its concepts have classes, parts and (random) text vectors too.
    """
    g = torch.Generator().manual_seed(seed)
    concepts = {
        "binary": [
            Concept(f"yes or no {k}", group="asked together" if k < 2 else None, owner="abc"[k % 3] if worded else None)
            for k in range(4)
        ],
        "categorical": [
            Concept("colour", "categorical", ("red", "green", "blue")),
            Concept("size", "categorical", ("s", "l")),
        ],
        "continuous": [Concept("age", "continuous", unit="years"), Concept("weight", "continuous", unit="kg")],
    }
    space = ConceptSpace(tuple(concept for kind in kinds for concept in concepts[kind]))
    if worded:
        parts = tuple(replace(concept, part=f"part {m // 3}") for m, concept in enumerate(space.concepts))
        space = ConceptSpace(parts, torch.randn(len(space), WIDTH, generator=torch.Generator().manual_seed(seed)))
    raw = torch.zeros(rows, space.count)
    for m, concept in enumerate(space.concepts):
        if concept.kind == "continuous":
            raw[:, m] = 50 + 10 * torch.randn(rows, generator=g)
        else:
            raw[:, m] = torch.randint(0, max(concept.width, 2), (rows,), generator=g)
    c = space.encode(raw)
    plain = space.fitted(c).standardised(c)
    x = plain @ torch.randn(len(space), 8, generator=g) + 0.3 * torch.randn(rows, 8, generator=g)
    score = plain @ torch.randn(len(space), 3, generator=g)
    y = {"classes": score.argmax(-1), "labels": (score > 0).float(), "value": 30 + 5 * score[:, 0]}[task]
    tasks = {"classes": Task.classes("abc"), "labels": Task.labels("abc"), "value": Task.value("price", "euro")}
    raw[torch.rand(rows, space.count, generator=g) < 0.1] = math.nan
    return split(Table(x, c=space.encode(raw), y=y, space=space, task=tasks[task]), seed=seed)


def variants(name: str) -> Iterator[dict[str, Any]]:
    """The default options, and each other value of every option that is a choice (a ``Literal`` or a bool)."""
    method = registry.get(name)
    yield {}
    for option, annotation in get_type_hints(method.build).items():
        if option in method.options:
            choices = get_args(annotation) if get_origin(annotation) is Literal else (True, False) if annotation is bool else ()
            yield from ({option: value} for value in choices if value != method.options[option].default)


def spaces(name: str) -> list[tuple[str, ...]]:
    """The mixtures of concept kinds that the method's card says it takes: binary alone, then all together."""
    kinds = tuple(kind for kind in ("binary", "categorical", "continuous") if kind in registry.get(name).card.kinds)
    return [kinds] if len(kinds) == 1 else [kinds[:1], kinds]


def valid_given(space: ConceptSpace, rows: int, seed: int, share: float = 1.0) -> Given:
    """Random valid corrections: hard for half of the rows, soft for the rest; each concept with chance ``share``."""
    g = torch.Generator().manual_seed(seed)
    raw = torch.zeros(rows, space.count)
    for m, concept in enumerate(space.concepts):
        draw = torch.randint(0, max(concept.width, 2), (rows,), generator=g).float()
        soft = torch.rand(rows, generator=g)
        if concept.kind == "continuous":
            raw[:, m] = concept.center + concept.scale * torch.randn(rows, generator=g)
        else:
            raw[:, m] = draw if concept.kind == "categorical" else torch.where(torch.arange(rows) % 2 == 0, draw, soft)
    mask = torch.rand(rows, space.count, generator=g) < share
    return Given(space.encode(raw), space.widen(mask))


def check_method(name: str, *, fresh: bool = True, seed: int = 0, **resources: Any) -> list[Verdict]:
    """Check all laws for a registered method, over its choices, concept kinds and tasks; raises ``LawBroken``.

    ``fresh`` also loads the default model in a new process; ``resources`` are options that the method cannot do without.
    """
    verdicts: list[Verdict] = []
    card = registry.get(name).card
    for number, reason in card.exempt.items():
        if number not in registry.EXEMPTABLE or not reason.strip():
            raise LawBroken(f"{name}: law {number} has no exemption, or no reason is given")
    for kinds in spaces(name):
        for options in variants(name):
            for task in card.tasks if not options else card.tasks[:1]:
                data = world(kinds, task, seed=seed, worded=True)
                try:
                    verdict = _check(name, data, options | resources, seed, fresh and not verdicts)
                except LawBroken as broken:
                    raise LawBroken(f"{name} with {options}, {'+'.join(kinds)} concepts, task {task}: {broken}") from broken
                if verdict is not None:
                    verdicts.append(Verdict(name, options, f"{'+'.join(kinds)}, {task}", verdict))
    return verdicts


def _fit(name: str, data: Splits, options: dict[str, Any], seed: int) -> Plan:
    from isthmus.features import build

    method = registry.get(name)
    short = {"epochs": 3, "batch_size": 32, "contrastive_epochs": 2}
    short = {k: v for k, v in short.items() if k in method.options}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        features = build("mlp", data.train.x.shape[1], hidden=(12,), dim=WIDTH)
        if "class_vectors" in method.options:
            options = {"class_vectors": torch.randn(data.task.width, WIDTH), **options}
    return method.make(features, data.space, data.task, seed=seed, **short, **options)


def _check(name: str, data: Splits, options: dict[str, Any], seed: int, fresh: bool) -> dict[int, str] | None:
    card = registry.get(name).card
    try:
        plan = _fit(name, data, options, seed)
    except IsthmusError:
        if options:
            return None  # a combination the method refuses, with a reason
        raise
    model = plan.fit(data, seed=seed)
    x, n = data.test.x, len(data.test)
    held = valid_given(model.space, n, seed + 1, share=0.5)
    laws: dict[int, Callable[[], str | None]] = {
        1: lambda: _shapes(model, x, held),
        2: lambda: _kept(model, x, held),
        3: lambda: _adds_up(model, x, held),
        4: lambda: _require(not any(p.requires_grad for p in model.parameters()), "a parameter still requires grad"),
        5: lambda: _sealed(model, x, seed, exempt=5 in card.exempt),
        6: lambda: _saved(model, x, held, fresh),
        7: lambda: _permuted(model, x, held, seed),
        8: lambda: _alone(model, x, held),
        9: lambda: _unknown_labels(_fit(name, data, options, seed), data),
        10: lambda: _repeats(name, data, options, seed, model),
        11: lambda: _nothing(model, x),
    }
    result: dict[int, str] = {}
    for number, law in laws.items():
        if number in card.exempt and number != 5:
            result[number] = f"exempt: {card.exempt[number]}"
            continue
        try:
            result[number] = law() or "holds"
        except LawBroken as broken:
            raise LawBroken(f"law {number} ({LAWS[number]}): {broken}") from broken
        if number in card.exempt:
            result[number] = f"exempt: {card.exempt[number]}"
    return result


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise LawBroken(otherwise)


def _close(a: Tensor, b: Tensor, what: str, tolerance: float = 1e-5) -> None:
    gap = float((a - b).detach().abs().max()) if a.numel() else 0.0
    _require(gap <= tolerance * max(1.0, float(b.detach().abs().max()) if b.numel() else 1.0), f"{what} differ by {gap:.3g}")


def _shapes(model: ConceptModel, x: Tensor, held: Given) -> None:
    for given in (None, held):
        out = model(x, given)
        shape = tuple(out.concepts.values.shape)
        _require(shape[0] == len(x) and shape[-1] == len(model.space), f"values {shape}, K = {len(model.space)}")
        _require(tuple(out.logits.shape) == (len(x), model.task.width), f"logits {tuple(out.logits.shape)}")


def _kept(model: ConceptModel, x: Tensor, held: Given) -> None:
    single = Given(held.values[:1], held.mask[:1])
    for given in (held, single, _one_state(model.space)):
        written = torch.broadcast_to(model.bottleneck.value_of(given), (len(x), len(model.space)))
        mask = torch.broadcast_to(given.mask, written.shape)
        values = model(x, given).concepts.values
        _require(torch.equal(values[mask], written.to(values)[mask]), "a given concept was moved")
    if not len(model.space):
        return
    try:
        model(x, Given(torch.full_like(held.values, math.nan), torch.ones_like(held.mask)))
    except DataError:
        return
    raise LawBroken("NaN was taken as a correction")


def _one_state(space: ConceptSpace) -> Given:
    """Every first state of a block given 0, nothing else."""
    mask = torch.zeros(1, len(space), dtype=torch.bool)
    for index in space.blocks:
        mask[0, index[:, 0]] = True
    return Given(torch.zeros(1, len(space)), mask)


def _adds_up(model: ConceptModel, x: Tensor, held: Given) -> str | None:
    if not isinstance(model.head, Contributes):
        return "not offered"
    for given in (None, held):
        out = model(x, given)
        shares = model.head.contributions(out.concepts)
        _require(tuple(shares.shape) == (*out.logits.shape, len(model.space)), f"contributions {tuple(shares.shape)}")
        _close(shares.sum(-1) + model.head.remainder(out.concepts, out.features), out.logits, "their sum and the logits")
    return None


def _sealed(model: ConceptModel, x: Tensor, seed: int, exempt: bool) -> None:
    given = valid_given(model.space, len(x), seed + 2)
    a, b = model(x, given).logits, model(x.flip(0), given).logits
    same = bool(((a - b).abs() <= 1e-6 * (1 + a.abs())).all())
    _require(same or exempt, "x passes beside the strip; seal it, or exempt law 5 with the reason on the card")
    _require(not (same and exempt), "exempt from law 5 but sealed; take the exemption off the card")


def _saved(model: ConceptModel, x: Tensor, held: Given, fresh: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = hub.save(model, Path(scratch) / "model")
        again = hub.load(folder)
        want, got = model(x, held), again(x, held)
        _require(again.space == model.space and again.task == model.task, "space or task changed")
        _require(torch.equal(want.logits, got.logits), "logits changed")
        _require(torch.equal(want.concepts.values, got.concepts.values), "values changed")
        if not fresh:
            return
        from safetensors.torch import load_file, save_file

        save_file({"x": x.contiguous(), "values": held.values, "mask": held.mask}, Path(scratch) / "in.safetensors")
        plugins = [str(path) for path in _sources(model)]
        subprocess.run([sys.executable, "-c", _FRESH, scratch, str(torch.get_num_threads()), *plugins], check=True)
        _close(load_file(Path(scratch) / "out.safetensors")["logits"], want.logits, "logits in a fresh process", 1e-6)


def _sources(model: ConceptModel) -> list[Path]:
    """The plugin file that the method came from, if it did."""
    from isthmus import plugins

    module = registry.get(model.origin["method"]).build.__module__
    return [path for path, name in plugins.LOADED.items() if name == module]


_FRESH = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file, save_file
from isthmus import hub, plugins
from isthmus.given import Given
folder, threads, *files = sys.argv[1:]
torch.set_num_threads(int(threads))
plugins.load_all(files)
given = load_file(Path(folder) / "in.safetensors")
out = hub.load(Path(folder) / "model")(given["x"], Given(given["values"], given["mask"]))
save_file({"logits": out.logits}, Path(folder) / "out.safetensors")
"""


def _permuted(model: ConceptModel, x: Tensor, held: Given, seed: int) -> None:
    if not model.space.count:
        return
    order = torch.randperm(model.space.count, generator=torch.Generator().manual_seed(seed)).tolist()
    columns = model.space.columns_of(order)
    with tempfile.TemporaryDirectory() as scratch:
        moved = hub.load(hub.save(model, Path(scratch) / "model"))
        moved.keep(order)
        for given in (None, held):
            inside = None if given is None else Given(given.values[:, columns], given.mask[:, columns])
            want, got = model(x, given), moved(x, inside)
            _close(got.concepts.values, want.concepts.values[:, columns], "permuted values")
            _close(got.logits, want.logits, "logits after keep(permutation)")
        again = hub.load(hub.save(moved, Path(scratch) / "moved"))
        _require(torch.equal(again(x).logits, moved(x).logits), "a permuted model changed when saved and loaded")


def _alone(model: ConceptModel, x: Tensor, held: Given) -> None:
    for given in (None, held):
        out = model(x, given)
        for row in (0, len(x) // 2, len(x) - 1):
            at = torch.tensor([row])
            alone = model(x[at], None if given is None else given.rows(at))
            _close(alone.logits, out.logits[at], f"logits of row {row} alone and in its batch")
            _close(alone.concepts.values, out.concepts.values[at], f"values of row {row} alone and in its batch")


def _unknown_labels(plan: Plan, data: Splits) -> str | None:
    """Law 9 on the method's own training loss: what hides under NaN moves no gradient; no label at all, no loss."""
    stages = [stage for stage in plan.stages if isinstance(stage, Learn)]
    if not len(plan.model.space) or plan.model.space != data.space or not stages:
        return "not offered"
    batch = data.train.batch(data.train.x)
    assert batch.c is not None and batch.known is not None
    random = Batch(batch.x, torch.where(batch.known, batch.c, 1 - batch.c), batch.y, batch.space, batch.known)
    none = Batch(batch.x, torch.zeros_like(batch.c), batch.y, batch.space, torch.zeros_like(batch.known))
    for stage in stages:
        a, b = (_gradient(plan.model, stage, rows) for rows in (batch, random))
        _require(all(torch.equal(p, q) for p, q in zip(a[1], b[1], strict=True)), "a hidden label moved the gradient")
        terms, gradients = _gradient(plan.model, stage, none)
        _require(terms.get("concept", 0.0) == 0.0, "without any known label the concept loss is not 0")
        _require(all(bool(g.isfinite().all()) for g in gradients), "without any known label a gradient is not finite")
    for rule in (everything, randomly(1.0)):
        given = rule(batch)
        _require(not bool((given.mask & ~batch.known).any()), "an unknown label was given")
    return None


def _gradient(model: ConceptModel, stage: Learn, batch: Batch) -> tuple[dict[str, float], list[Tensor]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = stage.learning(model)
        stage.freeze(model, modules)
        parameters = [p for module in modules for p in module.parameters()]
        x = batch.x if "features" in stage.parts else model.encode(batch.x)
        out = stage.forward(model, Batch(x, batch.c, batch.y, batch.space, batch.known))
        terms = stage.loss(out, batch, model.task) | out.concepts.penalties
        total = sum(terms.values(), torch.zeros(()))
        found = torch.autograd.grad(total, parameters, allow_unused=True) if total.requires_grad else [None] * len(parameters)
    zeros = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return {name: float(term.detach()) for name, term in terms.items()}, zeros


def _repeats(name: str, data: Splits, options: dict[str, Any], seed: int, model: ConceptModel) -> None:
    torch.manual_seed(4321)
    before = torch.get_rng_state()
    again = _fit(name, data, options, seed).fit(data, seed=seed)
    _require(torch.equal(before, torch.get_rng_state()), "the caller's random generator was moved")
    mine, other = model.state_dict(), again.state_dict()
    _require(all(torch.equal(mine[key], other[key]) for key in mine), "two fits with one seed differ")


def _nothing(model: ConceptModel, x: Tensor) -> None:
    empty = Given(torch.zeros(len(x), len(model.space)), torch.zeros(len(x), len(model.space), dtype=torch.bool))
    a, b = model(x), model(x, empty)
    _require(torch.equal(a.logits, b.logits) and torch.equal(a.concepts.values, b.concepts.values), "outputs differ")


def main(names: list[str]) -> int:
    """Check the methods named (all, when none is) and print what each is exempt from."""
    wrong = 0
    for name in names or list(registry.methods()):
        try:
            verdicts = check_method(name)
        except LawBroken as broken:
            wrong += 1
            print(f"BROKEN  {broken}")
            continue
        print(f"{name}: {len(LAWS)} laws over {len(verdicts)} variants")
        for number, reason in registry.get(name).card.exempt.items():
            print(f"  exempt from law {number} ({LAWS[number].split(':')[0]}): {reason}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
