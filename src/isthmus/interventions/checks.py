"""What a policy or a curve was given, checked: budgets, features, true answers, what is allowed, a policy's fields."""

from __future__ import annotations

import math
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from isthmus.data.table import Splits, Table
from isthmus.errors import DataError, OptionError, unknown
from isthmus.model import ConceptModel
from isthmus.space import Task


def counted(found: Any) -> tuple[int, ...] | None:
    """Budgets as whole numbers of at least 0, or None where they are not: a sequence, an array or a tensor of them."""
    listed = found.tolist() if isinstance(found, Tensor | np.ndarray) else found
    if isinstance(listed, str | bytes) or not hasattr(listed, "__iter__") or not hasattr(listed, "__len__"):
        return None
    whole = all(isinstance(k, Integral) and not isinstance(k, bool) and int(k) >= 0 for k in listed)
    return tuple(int(k) for k in listed) if len(listed) and whole else None


def counts_of(found: Any) -> tuple[int, ...]:
    """Budgets of a curve."""
    if (counts := counted(found)) is None:
        raise OptionError(f"curve: expected budgets as whole numbers of at least 0, got {found!r}; (0, 1, 3) is none, 1 and 3")
    return counts


def budget_of(found: Any) -> int:
    """One budget."""
    if isinstance(found, bool) or not isinstance(found, Integral) or int(found) < 0:
        raise OptionError(f"intervene: expected a budget of at least 0, got {found!r}; it is a whole number of questions")
    return int(found)


def numbers(found: Any, name: str, expected: str) -> Tensor:
    """A tensor of real numbers, from an array or list of them too."""
    try:
        tensor = found if isinstance(found, Tensor) else torch.as_tensor(found)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise DataError(f"{name}: expected {expected}, got {type(found).__name__} of other things than numbers") from None
    if tensor.is_complex():
        raise DataError(f"{name}: expected {expected}, got {tensor.dtype}")
    return tensor


def features_of(found: Any, model: ConceptModel) -> Tensor:
    """Features z (n, D) as the model computes with them."""
    width = getattr(model.features, "dim", None)
    z = numbers(found, "z", f"features of shape (n, {'D' if width is None else width})")
    if z.ndim < 2 or (z.ndim == 2 and isinstance(width, int) and z.shape[1] != width):
        wanted = f"(n, {'D' if width is None else width})"
        raise DataError(f"z: expected features of shape {wanted}, got {tuple(z.shape)}; model.encode(x) makes them of rows")
    own = next((p.dtype for p in model.bottleneck.parameters() if p.is_floating_point()), torch.float32)
    return z.to(own)


def answers_of(found: Any, task: Task, rows: int) -> Tensor:
    """True answers as the task has them: numbers of classes (n,), labels (n, Y) of 0, 1 or NaN, or numbers (n,)."""
    many = task.kind == "labels"
    y = numbers(found, "y", f"{rows} true answers")
    if y.ndim != (2 if many else 1) or len(y) != rows or (many and y.shape[1] != task.width):
        shape, got = f" of shape ({rows}, {task.width})" if many else "", len(y) if y.ndim == 1 and not many else tuple(y.shape)
        raise DataError(f"y: expected {rows} true answers{shape}, one for each row of features, got {got}")
    if task.kind == "value":
        return y.float()
    if many:
        wrong = (y != 0) & (y != 1) & ~y.isnan()
        said = "labels of 0, 1 or NaN (unknown)"
    else:
        wrong = (
            (y < 0) | (y >= task.width) | (y != y.floor() if y.is_floating_point() else torch.zeros_like(y, dtype=torch.bool))
        )
        wrong, said = wrong | y.isnan(), f"the number of a class, 0 to {task.width - 1}"
    if bool(wrong.any()):
        at = wrong.nonzero()[0].tolist()
        raise DataError(f"y, row {at[0]}: expected {said}, got {y[tuple(at)].item():g}")
    return y.float() if many else y.long()


def allowed_of(found: Any, shape: tuple[int, int], expected: str) -> Tensor:
    """(rows, M) what may be asked about: booleans, as a tensor, an array or a list."""
    may = numbers(found, "allowed", expected)
    if may.dtype != torch.bool or (may.shape != shape and (shape[0] != 1 or may.shape != shape[1:])):
        raise DataError(f"allowed: expected {expected}, got {may.dtype} of shape {tuple(may.shape)}")
    return may.reshape(shape)


def share_of(found: Any, name: str) -> float:
    """A share from 0 to 1."""
    if isinstance(found, bool) or not isinstance(found, Real) or not 0 <= float(found) <= 1:
        raise OptionError(f"{name}: expected a share from 0 to 1, got {found!r}")
    return float(found)


def whole_of(found: Any, name: str, least: int) -> int:
    """A whole number of at least ``least``."""
    if isinstance(found, bool) or not isinstance(found, Integral) or int(found) < least:
        raise OptionError(f"{name}: expected a whole number of at least {least}, got {found!r}")
    return int(found)


def rate_of(found: Any, name: str) -> float:
    """A learning rate: a finite number above 0."""
    if isinstance(found, bool) or not isinstance(found, Real) or not 0 < float(found) < math.inf:
        raise OptionError(f"{name}: expected a finite number above 0, got {found!r}")
    return float(found)


def table_of(found: Any, name: str, role: str) -> Table:
    """A table of at least one row; splits and empty ones are refused."""
    if not isinstance(found, Table):
        hint = "; take a part of it, such as data.validation" if isinstance(found, Splits) else ""
        raise DataError(f"{name}: expected a Table, {role}, got {type(found).__name__}{hint}")
    if not len(found):
        raise DataError(f"{name}: expected {role}, at least one, got none")
    return found


@cache
def _kinds(policy: type) -> dict[str, Any]:
    try:
        return get_type_hints(policy)
    except NameError:  # of a policy from outside, with names for a type checker alone
        return {}


def checked(policy: Any) -> None:
    """Refuse a policy (a dataclass) whose fields are not what they are declared as: words of a list, yes or no, numbers."""
    kinds, name = _kinds(type(policy)), type(policy).__name__
    for field in fields(policy):
        kind, value = kinds.get(field.name), getattr(policy, field.name)
        if get_origin(kind) is Literal:
            if not isinstance(value, str):
                raise OptionError(f"{name}: expected {field.name} as one of {', '.join(get_args(kind))}, got {value!r}")
            if value not in get_args(kind):
                raise unknown(f"{field.name} of {name}", value, get_args(kind))
        elif kind is bool and not isinstance(value, bool | np.bool_):
            raise OptionError(f"{name}: expected {field.name} as True or False, got {value!r}")
        elif kind is float and (isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value)):
            raise OptionError(f"{name}: expected {field.name} as a finite number, got {value!r}")
        elif kind is int and (isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 0):
            raise OptionError(f"{name}: expected {field.name} as a whole number of at least 0, got {value!r}")
