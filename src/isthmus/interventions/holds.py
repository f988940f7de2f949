"""What the edits of a model settled and later ones hold: the one rule, read off its history.

- ``pin``: its weights stay at their values.
- ``prune``, ``reweight``, ``transfer``, ``adapt`` (masked and amplified), ``finetune(without=)``: the concept's weights stay
  as they are for every class. A later ``pin`` of the concept frees it, but for weights that were set by class and name and for
  a concept that is shut out (0 for every class), which no pin brings back.
- ``forget``: the class's row of a linear head and its bias stay, and no fit reads its rows as that class: emptied in the head,
  they are left out; relabelled, they stand under what the model decides of them now.

``pin``, ``finetune`` and ``forget`` fit around what is held, and ``adapt`` leaves it alone. An edit that names a held weight
itself replaces it. What still undoes an earlier edit (a rescaling ``prune``, values that move below a forgotten class) is
warned of and written into the entry, by ``record``; from then on the weight is held where that edit left it. So a held value
is always the model's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.data.table import Table
from isthmus.errors import DataError
from isthmus.interventions import chain
from isthmus.model import ConceptModel
from isthmus.space import ConceptSpace
from isthmus.train import CHUNK, encode

CLOSE = 1e-5  # a weight that moved by less stayed: rounding
Place = tuple[int, int]


@dataclass(frozen=True)
class Holds:
    """``pins`` {(class, column): weight}; columns that are ``still`` for every class, those ``shut`` among them (all 0);
    classes ``forgotten``, by 'head' or 'relabel'.
    """  # fmt: skip

    pins: Mapping[Place, float] = field(default_factory=dict[Place, float])
    still: frozenset[int] = frozenset()
    shut: frozenset[int] = frozenset()
    forgotten: Mapping[int, str] = field(default_factory=dict[int, str])

    def __bool__(self) -> bool:
        return bool(self.pins or self.still or self.forgotten)

    @property
    def columns(self) -> set[int]:
        """Columns with a held weight."""
        return {*self.still, *(k for _, k in self.pins)}

    def alive(self, width: int) -> list[int]:
        """Classes that were not forgotten."""
        return [y for y in range(width) if y not in self.forgotten]

    def free(self, model: ConceptModel) -> Tensor:
        """(Y, K) True where a fit may move the weight."""
        found = torch.ones(model.task.width, len(model.space), dtype=torch.bool)
        found[:, list(self.still)] = False
        found[list(self.forgotten)] = False
        for place in self.pins:
            found[place] = False
        return found

    def pinned(self, model: ConceptModel) -> Tensor:
        """(Y, K) True where a weight is held by itself, its concept fitted around it."""
        found = torch.zeros(model.task.width, len(model.space), dtype=torch.bool)
        for y, k in self.pins:
            found[y, k] = k not in self.still
        return found

    def told(self, model: ConceptModel) -> dict[str, Any]:
        """What an entry says of it, under ``held``; empty where nothing is held."""
        if not self:
            return {}
        classes, columns = model.task.names, model.space.columns
        weights = [{"class": classes[y], "concept": columns[k], "to": weight} for (y, k), weight in self.pins.items()]
        still = [columns[k] for k in sorted(self.still)]
        return {"held": {"weights": weights, "concepts": still, "forgotten": [classes[y] for y in self.forgotten]}}


@dataclass
class _Chain:
    """The same by the names of the time, entry after entry; a pin that was undone is NaN, for its value is the model's."""

    pins: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    still: set[str] = field(default_factory=set[str])
    gone: dict[str, str] = field(default_factory=dict[str, str])

    def read(self, edit: str, what: Mapping[str, Any], classes: Sequence[str]) -> None:
        names: dict[str, str] = what.get("names") or {}
        self.pins = {(y, _now(k, names)): weight for (y, k), weight in self.pins.items()}
        self.still = {_now(k, names) for k in self.still}
        if edit in ("pin", "reweight"):
            for row in what["weights"]:
                self.pins[row["class"], row["concept"]] = float(row["to"])
                (self.still.discard if edit == "pin" and row["concept"] not in self._shut(classes) else self.still.add)(
                    row["concept"]
                )
        elif edit == "prune":
            for k in what["concepts"]:
                self.still.add(k)
                self.pins |= {(y, k): 0.0 for y in what["classes"]}
        elif edit == "transfer":
            self._fixed([what["concept"]])
        elif edit == "adapt":
            self._fixed([*what["masked"], *what["amplified"]])
            self.pins |= {(y, k): 0.0 for k in what["masked"] for y in classes}
        elif edit == "finetune":
            self._fixed(what["without"])
            self.pins |= {(y, k): 0.0 for k in what["without"] for y in classes}
        elif edit == "forget":
            self.gone[what["class"]] = what["by"]
            self.pins = {(y, k): weight for (y, k), weight in self.pins.items() if y != what["class"]}
        elif edit == "remove":
            gone = {k for k in {*self.still, *(k for _, k in self.pins)} if any(_of(k, name) for name in what["concepts"])}
            self.still -= gone
            self.pins = {(y, k): weight for (y, k), weight in self.pins.items() if k not in gone}
        undone = set(what.get("undone") or ())
        self.pins |= {(y, k): nan for y, k in self.pins if _said(y, k) in undone}

    def _shut(self, classes: Sequence[str]) -> set[str]:
        """Columns that stand at 0 for every class that is not forgotten."""
        return {k for k in self.still if all(self.pins.get((y, k)) == 0 for y in classes if y not in self.gone)}

    def _fixed(self, columns: Sequence[str]) -> None:
        """The columns stay as the edit left them; what was set before by class is replaced."""
        self.still |= set(columns)
        self.pins = {(y, k): weight for (y, k), weight in self.pins.items() if k not in columns}


def _of(column: str, concept: str) -> bool:
    return column == concept or column.startswith(f"{concept}=")


def _said(label: str, column: str) -> str:
    """A weight as ``undone`` says it."""
    return f"{column} for {label}"


def _now(column: str, names: Mapping[str, str]) -> str:
    """A column under the new names of concepts."""
    old = next((each for each in names if _of(column, each)), None)
    return column if old is None else names[old] + column[len(old) :]


def held(model: ConceptModel, then: tuple[str, Mapping[str, Any]] | None = None) -> Holds:
    """What the edits of a model hold, and ``then`` (an edit's name and what it says) after them; nothing of a model as fitted.

    Where an entry lacks what is needed, the weights say it: concepts that stand at exactly 0 for every class are shut out.
    """
    read, vague, task, space = _Chain(), False, model.task, model.space
    for edit, what in [(row["edit"], row["what"]) for _, row in chain.edits(model.history)] + ([] if then is None else [then]):
        try:
            read.read(edit, what, task.names)
        except (KeyError, TypeError, ValueError):
            vague = True
    weights = getattr(model.head, "weights", None)
    if not isinstance(weights, nn.Parameter) or tuple(weights.shape) != (task.width, len(space)):
        return Holds(forgotten={task.names.index(y): by for y, by in read.gone.items() if y in task.names})
    weights = weights.detach().cpu()
    zero = {int(k) for k in (weights == 0).all(0).nonzero()[:, 0]}
    at = {name: k for k, name in enumerate(space.columns)}
    still = {at[k] for k in read.still if k in at} | (zero if vague else set[int]())
    places = [(task.names.index(y), at[k]) for y, k in read.pins if y in task.names and k in at]
    return Holds(
        {place: float(weights[place]) for place in places},
        frozenset(still),
        frozenset(still & zero),
        {task.names.index(y): by for y, by in read.gone.items() if y in task.names},
    )


@torch.no_grad()
def taught(model: ConceptModel, rows: Table, holds: Holds, *, bare: bool = False, never: Sequence[int] = ()) -> Table:
    """Rows to fit on, none as a forgotten class, nor, of those relabelled, as one of ``never``; their concepts are unknown.

    ``bare``: all rows of a forgotten class are left out, relabelled ones too. ``DataError`` where no row is left.
    """
    if not holds.forgotten or rows.y is None:
        return rows
    out = [y for y, by in holds.forgotten.items() if bare or by == "head"]
    stays = ~torch.isin(rows.y, torch.tensor(out, dtype=rows.y.dtype))
    if not bool(stays.any()):
        raise DataError("expected rows of classes that the model has not forgotten, got none; give rows of the others")
    rows = rows.take(stays.nonzero()[:, 0])
    assert rows.y is not None
    own = torch.isin(rows.y, torch.tensor(list(holds.forgotten), dtype=rows.y.dtype))
    if not bool(own.any()):
        return rows
    logits = logits_of(model, rows)
    logits[:, [*holds.forgotten, *never]] = -torch.inf
    made = rows.replace(y=torch.where(own, logits.argmax(1).to(rows.y), rows.y))
    if made.c is not None:
        made.c = torch.where(own[:, None], torch.nan, made.c)
    return made


@torch.no_grad()
def logits_of(model: ConceptModel, rows: Table) -> Tensor:
    """(n, Y) the model's logits, on the CPU."""
    z = encode(model.features, rows, model.device)
    return torch.cat([model.answer(part.to(model.device)).logits.cpu() for part in z.split(CHUNK)])


def undone(old: ConceptModel, new: ConceptModel, edit: str, what: Mapping[str, Any], rows: Table | None) -> dict[str, Any]:
    """What an edit undid of earlier ones, for its entry; warned of. Empty where all is held, or the edit named it itself.

    ``undone``: weights that moved. ``forgotten``: of each class that was forgotten, the share of its ``rows`` that is decided
    as the class before and after (none where there are no such rows).
    """
    was = held(old)
    if not was:
        return {}
    now, said = held(new, (edit, what)), dict[str, Any]()
    moved = _moved(old, new, was, now, edit, what)
    if moved:
        said["undone"] = moved
        warnings.warn(
            f"{edit}: this moves what an earlier edit set: {', '.join(moved[:4])}; set it again, or edit the model before",
            stacklevel=5,
        )
    shares = _returned(old, new, was, rows)
    if shares:
        said["forgotten"] = shares
        for name, share in shares.items():
            if share["after"] > share["before"]:
                warnings.warn(
                    f"{edit}: {share['after']:.0%} of the validation rows of {name!r}, a class that was forgotten, are decided "
                    f"as it now, {share['before']:.0%} before; forget it again",
                    stacklevel=5,
                )
    return said


def _moved(old: ConceptModel, new: ConceptModel, was: Holds, now: Holds, edit: str, what: Mapping[str, Any]) -> list[str]:
    """'concept for class' of weights that are held before and after, that the edit does not name, and that it moved."""
    a, b = (getattr(model.head, "weights", None) for model in (old, new))
    if not isinstance(a, nn.Parameter) or not isinstance(b, nn.Parameter):
        return []
    a, b = a.detach(), b.detach()
    named, same, found = _Chain(), len(old.space) == len(new.space), list[str]()
    with suppress(KeyError, TypeError, ValueError):  # an entry written by hand names nothing
        named.read(edit, what, new.task.names)
    at = {name: k for k, name in enumerate(new.space.columns)}
    both = torch.zeros(a.shape, dtype=torch.bool)
    both[:, list(was.still)] = True
    for place in was.pins:
        both[place] = True
    for y, k in both.nonzero().tolist():
        to = k if same else at.get(old.space.columns[k])
        if to is None or y in now.forgotten or not (to in now.still or (y, to) in now.pins):
            continue
        column, label = new.space.columns[to], new.task.names[y]
        if column not in named.still and (label, column) not in named.pins and _apart(float(b[y, to]), float(a[y, k])):
            found.append(_said(label, column))
    return found


def _apart(a: float, b: float) -> bool:
    return abs(a - b) > CLOSE * (1 + abs(b))


def _returned(old: ConceptModel, new: ConceptModel, was: Holds, rows: Table | None) -> dict[str, dict[str, float]]:
    if rows is None or rows.y is None or not was.forgotten:
        return {}
    found: dict[str, dict[str, float]] = {}
    for y in was.forgotten:
        own = (rows.y == y).nonzero()[:, 0]
        if len(own):
            before, after = (float((logits_of(each, rows.take(own)).argmax(1) == y).double().mean()) for each in (old, new))
            found[new.task.names[y]] = {"before": round(before, 6), "after": round(after, 6)}
    return found


def state(space: ConceptSpace, k: int) -> bool:
    """Is column k a state of a categorical concept?"""
    return space.concepts[int(space.owner_of[k])].kind == "categorical"


def block(space: ConceptSpace, k: int) -> slice:
    """The columns of the concept of column k."""
    return space.slices[int(space.owner_of[k])]


def ties(
    model: ConceptModel, free: Tensor, pinned: Tensor, alive: Sequence[int], loose: Container[int] = ()
) -> list[Tensor]:  # fmt: skip
    """Sets of weights (places in the flat (Y, K) array) that sum to 0: those of a concept with a ``pinned`` (Y, K) weight, over
    ``alive`` classes (but for concepts that are ``loose``), and over its states for the class; some of each set are ``free``.
    """
    place, space, found = torch.arange(free.numel()).view_as(free), model.space, list[Tensor]()
    if model.task.kind == "classes":
        concepts = {int(space.owner_of[k]) for k in pinned.any(0).nonzero()[:, 0].tolist()}
        found += [
            place[list(alive), k] for m in concepts if m not in loose for k in range(*space.slices[m].indices(len(space)))
        ]
    ours = {(y, int(space.owner_of[k])): k for y, k in pinned.nonzero().tolist() if state(space, k)}
    found += [place[y, block(space, k)] for (y, _), k in ours.items()]
    return [each for each in found if bool(free.flatten()[each].any())]


def loose(model: ConceptModel, free: Tensor, pinned: Tensor, alive: Sequence[int]) -> set[int]:
    """Categorical concepts whose states cannot sum to 0 over classes and over states at once, around what is not ``free``.

    A class that was forgotten since, or a weight that was set since, left them so: of these the sums over states stay alone.
    """
    weights, space, found = model.head.weights.detach().cpu().double(), model.space, set[int]()  # type: ignore[union-attr]
    for m in {int(space.owner_of[k]) for k in pinned.any(0).nonzero()[:, 0].tolist() if state(space, k)}:
        own = torch.zeros_like(pinned)
        own[:, space.slices[m]] = pinned[:, space.slices[m]]
        if Tied(free, weights, ties(model, free, own, alive)).contradicted:
            found.add(m)
    return found


class Tied:
    """The free weights nearest to given ones of which each set in ``ties`` sums to 0, those held included.

    ``contradicted``: there are none; these are the nearest to that.
    """

    def __init__(self, free: Tensor, start: Tensor, ties: Sequence[Tensor]) -> None:
        self.free, self.start, flat = free, start, free.flatten()
        self.at = torch.cat([each[flat[each]] for each in ties]).unique() if ties else torch.zeros(0, dtype=torch.long)
        self.sums = torch.stack([torch.isin(self.at, each).double() for each in ties]) if ties else start.new_zeros(0, 0)
        fixed = torch.where(free, 0.0, start).flatten()
        self.owed = -torch.stack([fixed[each].sum() for each in ties]) if ties else start.new_zeros(0)
        self.back = torch.linalg.pinv(self.sums)
        self.contradicted = bool(ties) and float((self.sums @ (self.back @ self.owed) - self.owed).abs().max()) > 1e-6

    def __call__(self, w: Tensor) -> Tensor:
        made = torch.where(self.free, w, self.start)
        if not len(self.at):
            return made
        flat = made.flatten()
        nearest = flat[self.at] - self.back @ (self.sums @ flat[self.at] - self.owed)
        return flat.index_copy(0, self.at, nearest).view_as(w)
