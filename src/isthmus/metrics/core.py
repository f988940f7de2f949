"""What a metric is: a pure function of arrays with unit, range and direction, and its value under row weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isthmus.errors import DataError

Array = NDArray[Any]
UNKNOWN = ("c", "y", "boxes", "factors")  # arguments in which NaN means: not known
APART = ("groups", "member", "other")  # arguments that are not of the same rows as the rest
SHARES = ("probabilities", "p", "q", "changed")  # arguments from 0 to 1, but for rounding
AXES: dict[str, tuple[int, ...]] = {  # how many axes an argument may have, rows first; others any
    **dict.fromkeys(("c", "values", "probabilities", "importance", "weights", "factors", "p", "q"), (2,)),
    **dict.fromkeys(
        ("confidence", "right", "share", "sure", "target", "groups", "member", "other", "changed", "shifted"), (1,)
    ),
    **dict.fromkeys(("y", "answer", "removed", "a", "b"), (1, 2)),
    **dict.fromkeys(("representation", "asked"), (2, 3)),
    "maps": (4,),
    "boxes": (3,),
}


def array(what: str, name: str, value: ArrayLike) -> Array:
    """What numpy reads as numbers: an array as it is, a list, a tensor on the CPU; the rest is refused by name."""
    wanted = f"{what}, {name}: expected numbers in an array, a list or a tensor on the CPU"
    try:
        found = np.asarray(value.detach() if hasattr(value, "detach") else value)  # type: ignore[union-attr]
    except (TypeError, ValueError, RuntimeError) as error:
        kind, why = type(value).__name__, str(error).partition("\n")[0]
        raise DataError(
            f"{wanted}, got a {kind} that numpy cannot read ({why}); rows alike, .cpu() and .float() help"
        ) from error
    if found.dtype.kind not in "biuf":
        got = f"{type(value).__name__} of {found.dtype}"
        raise DataError(f"{wanted}, got {got}; give classes by their places, and NaN where nothing is known")
    return found


def sound(what: str, arrays: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """The arguments as arrays; refused, by name, if no numbers, without rows, of unequal rows, or with NaN or infinite numbers.

    NaN is welcome where it means 'unknown' (``UNKNOWN``); ``APART`` may have rows of their own; ``AXES`` says how many axes.
    """
    first: tuple[str, int] | None = None
    made = {name: array(what, name, each) for name, each in arrays.items()}
    for name, each in made.items():
        axes = AXES.get(name)
        if axes is not None and each.ndim not in axes:
            want = " or ".join(map(str, axes))
            raise DataError(f"{what}, {name}: expected an array of {want} axes, rows first, got shape {each.shape}; reshape it")
        if not each.ndim or not each.size:
            say = "expected one row or more, of one column or more"
            raise DataError(f"{what}, {name}: {say}, got shape {each.shape}; a score needs rows")
        if name not in APART:
            first = first or (name, len(each))
            if len(each) != first[1]:
                want = f"expected {first[1]} rows, as {first[0]} has, got {len(each)}"
                raise DataError(f"{what}, {name}: {want}; give both for the same rows")
        if each.dtype.kind == "f":
            bad = int((np.isinf(each) if name in UNKNOWN else ~np.isfinite(each)).sum())
            if bad:
                may, got = ("NaN (unknown) or finite", "infinite") if name in UNKNOWN else ("finite", "NaN or infinite")
                say = f"expected {may} numbers, got {bad} that are {got}; leave such rows out, or mend what made them"
                raise DataError(f"{what}, {name}: {say}")
        if name in SHARES:
            within(what, name, each)
    return made


def within(what: str, name: str, found: Array, *, say: str = "numbers from 0 to 1") -> None:
    """Refuse numbers outside 0 to 1 by more than rounding; NaN passes."""
    wrong = (found < -1e-6) | (found > 1 + 1e-6)
    if wrong.any():
        got = f"{int(wrong.sum())} outside, such as {found[wrong].flat[0]:g}"
        raise DataError(f"{what}, {name}: expected {say}, got {got}; a softmax or sigmoid makes probabilities of logits")


def alike(what: str, **arrays: Array) -> None:
    """Refuse two arrays, by name, that are not of one shape: numpy would stretch the one over the other."""
    shapes = {name: each.shape for name, each in arrays.items()}
    if len(set(shapes.values())) > 1:
        got = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise DataError(
            f"{what}: expected {' and '.join(shapes)} of one shape, got {got}; give both for the same rows and columns"
        )


class Weighted(Protocol):
    """A score that can be had for many row weightings at once (the bootstrap's resamples)."""

    def under(self, weights: Array) -> Array:
        """weights (R, n), how often each row counts -> (R,) scores, NaN where undefined."""
        ...


@dataclass(frozen=True)
class Sums:
    """A score that is a function of sums over rows: ``rows`` (n, q), ``finish`` (R, q) sums -> (R,)."""

    rows: Array
    finish: Callable[[Array], Array]

    def under(self, weights: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.finish(weights @ self.rows)


@dataclass(frozen=True)
class Mean:
    """The mean of several scores, those undefined left out."""

    parts: tuple[Weighted, ...]

    def under(self, weights: Array) -> Array:
        return mean_known(np.stack([part.under(weights) for part in self.parts], 1))


def mean_known(found: Array) -> Array:
    """(R,) mean of found (R, Q) over its Q scores that are defined; NaN where none is."""
    known = ~np.isnan(found)
    with np.errstate(invalid="ignore"):
        return np.where(known, found, 0).sum(1) / known.sum(1)


@dataclass(frozen=True)
class Ranked:
    """Area under the ROC curve of ``scores`` (n,) for ``positive`` (n,) bool, ties counted half; rows ``known``."""

    scores: Array
    positive: Array
    known: Array

    def under(self, weights: Array) -> Array:
        at = np.flatnonzero(self.known)
        order = at[np.argsort(self.scores[at], kind="stable")]
        if not len(order):
            return np.full(len(weights), np.nan)
        ordered = self.scores[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        w, yes = weights[:, order].astype(float), self.positive[order]
        up = np.add.reduceat(w * yes, starts, axis=1)
        down = np.add.reduceat(w * ~yes, starts, axis=1)
        below = down.cumsum(1) - 0.5 * down
        with np.errstate(divide="ignore", invalid="ignore"):
            return (up * below).sum(1) / (up.sum(1) * down.sum(1))


@dataclass(frozen=True)
class Metric:
    """A named score. Call it with its arrays for the number; ``weighted`` gives the form that can be bootstrapped.

    Arrays may be lists or tensors on the CPU. Both refuse what is not ``sound``: a score of NaN, or of rows that do not belong
    together, means nothing. NaN is the answer where a score is not defined on the rows: no label is known, or one answer alone
    occurs where it takes two; reports show it as n/a.
    ``unit``, ``low`` to ``high`` and ``better`` ('up' or 'down') say how to read it; ``replicates`` caps the bootstrap
    where one evaluation is dear; ``centred`` says that resampling biases it, so that its interval is centred on the value.
    """

    weighted: Callable[..., Weighted]
    title: str
    unit: str
    low: float
    high: float
    better: Literal["up", "down"]
    of: Literal["task", "concepts", "correction", "strip", "cost"]
    text: str
    replicates: int = 1000
    centred: bool = False

    def __post_init__(self) -> None:
        made, takes = self.weighted, inspect.signature(self.weighted)
        arrays = {name: one.default is None for name, one in takes.parameters.items() if "array" in str(one.annotation).lower()}

        @wraps(made)
        def checked(*given: Any, **options: Any) -> Weighted:
            bound = takes.bind(*given, **options)
            said = bound.arguments
            left = {name for name, optional in arrays.items() if optional and said.get(name) is None}
            said |= sound(self.title, {name: each for name, each in said.items() if name in arrays and name not in left})
            return made(*bound.args, **bound.kwargs)

        object.__setattr__(self, "weighted", checked)

    def __call__(self, *arrays: Any, **options: Any) -> float:
        form = self.weighted(*arrays, **options)
        return float(form.under(np.ones((1, self._rows(form)), dtype=float))[0])

    @staticmethod
    def _rows(form: Weighted) -> int:
        while isinstance(form, Mean):
            form = form.parts[0]
        return form.n if hasattr(form, "n") else len(form.rows if isinstance(form, Sums) else form.scores)  # type: ignore

    @cached_property
    def described(self) -> dict[str, Any]:
        """Plain data for reports."""
        return {
            "title": self.title,
            "unit": self.unit,
            "low": _finite(self.low),
            "high": _finite(self.high),
            "better": self.better,
            "of": self.of,
            "text": self.text,
        }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def resamples(n: int, count: int = 1000, seed: int = 0, groups: list[str] | None = None) -> Array:
    """Bootstrap weights (count, n), read-only: how often each row is drawn; whole groups where ``groups`` is given.

    NaN where there is but one row or group: its scores then have no interval.
    """
    return _resamples(n, count, seed, None if groups is None else tuple(groups))


@lru_cache(maxsize=2)  # every row of a comparison is scored on the same rows
def _resamples(n: int, count: int, seed: int, groups: tuple[str, ...] | None) -> Array:
    rng = np.random.default_rng(seed)
    unit = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    units = int(unit.max()) + 1
    if units < 2:
        return np.full((count, n), np.nan, dtype=np.float32)  # one row or group says nothing of another: no interval
    counts = rng.multinomial(units, np.full(units, 1 / units), size=count)
    weights = counts[:, unit].astype(np.float32)
    weights.setflags(write=False)
    return weights


def interval(replicates: Array, level: float = 0.95, *, around: float | None = None) -> tuple[float, float]:
    """Percentile interval of bootstrap replicates; NaN where none is defined.

    ``around``: the value that the replicates are shifted to, mean on value, for a score that resampling biases (ECE: repeated
    rows make every bin look less calibrated than it is, by about as much as the rows did in the first place).
    """
    kept = replicates[~np.isnan(replicates)]
    if not len(kept):
        return float("nan"), float("nan")
    if around is not None:
        kept = kept + (around - kept.mean())
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
