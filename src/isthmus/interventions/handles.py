"""What an edit takes hold of in a model: columns and classes by name, the head's weights, the spaces of its parts, a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from numbers import Real
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus import registry
from isthmus.data.table import Splits
from isthmus.errors import DataError, IsthmusError, OptionError, unknown
from isthmus.heads.residual import ResidualHead
from isthmus.interventions.chain import plain
from isthmus.model import ConceptModel
from isthmus.space import ConceptSpace, Task

Names = str | int | Iterable[str | int]
Encoder = Callable[..., Any]
SAME = 0.999  # cosine of two vectors of one text by one encoder; rounding and padding part them by far less
BESIDE = "the side channel beside the head was not edited and keeps what this took from the concepts"


def listed(names: Names, what: str) -> list[str | int]:
    """Names or indices as a list, at least one."""
    given: list[Any] = [names] if isinstance(names, str | int | np.integer) else list(names)
    found = [int(each) if isinstance(each, np.integer) else each for each in given]
    if not found:
        raise OptionError(f"{what}: expected at least one, got none")
    return found


def columns_of(space: ConceptSpace, concepts: Names) -> list[int]:
    """Columns of concepts by name or index, a state alone as ``concept=state``; each once. Unknown: "did you mean"."""
    found: dict[int, None] = {}
    for name in listed(concepts, "concepts"):
        if isinstance(name, str) and name not in space.names:
            if name not in space.columns:
                raise unknown("concept", name, {*space.names, *space.columns})
            found[space.columns.index(name)] = None
        else:
            part = space.slices[space.index(name)]
            found |= dict.fromkeys(range(part.start, part.stop))
    return list(found)


def one_column(space: ConceptSpace, concept: str | int, edit: str) -> int:
    """The column of a concept that has only one, or of a state."""
    found = columns_of(space, [concept])
    if len(found) > 1:
        states = ", ".join(repr(space.columns[k]) for k in found[:3])
        raise OptionError(f"{edit}: {concept!r} has {len(found)} columns, one for each state; name one of them: {states}")
    return found[0]


def splits(model: ConceptModel, data: Any, edit: str) -> None:
    """Refuse other things than train, validation and test of the model's task."""
    if not isinstance(data, Splits):
        raise DataError(f"{edit}: expected Splits, got {type(data).__name__}; isthmus.data.split cuts a Table")
    if (data.task.kind, data.task.names) != (model.task.kind, model.task.names):
        raise DataError(f"{edit}: expected the task {list(model.task.names[:4])}, got {list(data.task.names[:4])}")


def class_indices(task: Task, classes: Names | None = None) -> list[int]:
    """Classes (labels, or the number) of a task by name or index, all by default; each once. Unknown: "did you mean"."""
    if classes is None:
        return list(range(task.width))
    found: dict[int, None] = {}
    for name in listed(classes, "classes"):
        if isinstance(name, str):
            if name not in task.names:
                raise unknown("class", name, task.names)
            name = task.names.index(name)
        if isinstance(name, bool) or not isinstance(name, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OptionError(f"class: expected a name or an index, got {name!r}")
        if not 0 <= name < task.width:
            raise DataError(f"class index {name}: expected 0 to {task.width - 1}")
        found[name] = None
    return list(found)


def weights_of(model: ConceptModel, edit: str) -> nn.Parameter:
    """(Y, K) the weights of a linear head, to be set in place; ``OptionError`` where the head has none of its own."""
    weights = getattr(model.head, "weights", None)
    shape = (model.task.width, len(model.space))
    if not isinstance(weights, nn.Parameter) or tuple(weights.shape) != shape or not hasattr(model.head, "contributions"):
        kind = type(model.head.inner if isinstance(model.head, ResidualHead) else model.head).__name__
        raise OptionError(
            f"{edit}: needs a linear head with a weight for each class and concept, got {kind}; remove concepts instead, "
            "or fit a method with such a head"
        )
    return weights


def weight_of(value: object, like: Tensor, what: str) -> float:
    """A number that a weight of ``like``'s type can be; ``OptionError`` names ``what`` where it is none, or too large."""
    number: Any = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    most = torch.finfo(like.dtype).max
    if isinstance(number, bool) or not isinstance(number, Real) or not -most <= cast("float", number) <= most:
        raise OptionError(f"{what}: expected a finite weight, from {-most:.3g} to {most:.3g}, got {value!r}")
    return float(number)


def bias_of(model: ConceptModel, edit: str) -> nn.Parameter:
    """(Y,) the bias of a linear head, to be set in place; ``OptionError`` where it has none, or more than one."""
    head = model.head.inner if isinstance(model.head, ResidualHead) else model.head
    found = [p for name, p in head.named_parameters() if name.endswith("bias") and p.shape == (model.task.width,)]
    if len(found) != 1:
        raise OptionError(f"{edit}: needs a linear head with one bias for each class, got {type(head).__name__}")
    return found[0]


def beside(model: ConceptModel) -> dict[str, str]:
    """What the entry says of a side channel; empty where nothing passes beside the head."""
    return {"beside": BESIDE} if isinstance(model.head, ResidualHead) else {}


def renamed(space: ConceptSpace, names: Mapping[str, str]) -> ConceptSpace:
    """The space with concepts under other names; the rules for names are the space's own. Two may swap."""
    for name in names.values():
        if name in space.names and name not in names:
            raise DataError(f"rename: another concept is named {name!r} already; choose another name")
    return replace(space, concepts=tuple(replace(each, name=names.get(each.name, each.name)) for each in space.concepts))


def respace(model: ConceptModel, space: ConceptSpace) -> None:
    """Tell every part that knew the model's space what the columns now mean."""
    old = model.space
    for part in (*model.modules(), model.solver):
        if getattr(part, "space", None) == old:
            setattr(part, "space", space)  # noqa: B010


def rebuilt(model: ConceptModel, edit: str) -> None:
    """Refuse a space from which the model's method would not build this model again: it could be saved, but not loaded."""
    if not model.origin:
        return
    method = registry.get(model.origin["method"])
    options = {name: value for name, value in model.origin["options"].items() if plain(value)}
    try:
        made = method.make(model.features, model.space, model.task, seed=model.origin["seed"], **options).model
    except IsthmusError as error:
        raise OptionError(f"{edit}: method {method.name!r} has no model of these concepts ({error})") from error
    if _shapes(made) != _shapes(model):
        raise OptionError(
            f"{edit}: method {method.name!r} makes its concepts itself, so they cannot be taken from it; prune them"
        )


def _shapes(model: ConceptModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if not name.startswith("features.")}


def vector_of(text: str, vector: Tensor | None, encoder: Encoder | None) -> Tensor:
    """(D,) where a text lies: ``vector``, or what ``encoder`` makes of it; finite and not 0."""
    if (vector is None) == (encoder is None):
        raise OptionError("retext: expected either a vector or an encoder, to place the text in the model's text space")
    if encoder is not None:
        was = encoder.training if isinstance(encoder, nn.Module) else False
        if isinstance(encoder, nn.Module):
            encoder.eval()
        prepare = getattr(encoder, "prepare", None)
        vector = encoder([text] if prepare is None else prepare([text]))
        if isinstance(encoder, nn.Module):
            encoder.train(was)
    found = torch.as_tensor(vector).detach()
    row = found[0] if found.ndim == 2 and len(found) == 1 else found
    if row.ndim != 1 or not row.is_floating_point():
        raise DataError(f"retext: expected numbers of shape (D,) or (1, D) for the text, got {tuple(found.shape)}")
    if not bool(row.isfinite().all()) or not bool(row.any()):
        raise DataError(f"retext: expected a finite vector other than 0 for {text!r}; does the encoder know these words?")
    return row


def foreign(encoder: Encoder, space: ConceptSpace, m: int) -> str:
    """Why a text that the encoder makes cannot be compared with the space's others; '' where it knows one of them again.

    It is asked for the text of concept m (without one, the first that has a text) and must make of it the vector that the
    space has for it, but for rounding. Blanks may stand for '_', as class names are embedded.
    """
    with_text = [i for i in (m, *range(space.count)) if space.concepts[i].text]
    if not with_text or space.vectors is None:
        return "no concept has a text to try the encoder with"
    text, had = str(space.concepts[with_text[0]].text), space.vectors[space.columns_of(with_text[:1])[0]]
    near: list[float] = []
    for said in dict.fromkeys((text, text.replace("_", " "))):
        try:
            made = vector_of(said, None, encoder)
        except IsthmusError:
            continue
        if len(made) != len(had):
            return ""  # another width is an error of its own
        near.append(float(F.cosine_similarity(made.to(had), had, dim=0)))
    if near and max(near) > SAME:
        return ""
    how = f"cosine {max(near):.2f}" if near else "it makes none"
    return f"the encoder does not make of {text!r} the vector that the model has for it ({how})"
