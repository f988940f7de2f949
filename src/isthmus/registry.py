"""Methods by name: ``@method(Card(...))`` drives the laws, the docs, the command line and the rows of a comparison."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Interval
from torch import nn

from isthmus.errors import OptionError, unknown
from isthmus.space import EMPTY, ConceptSpace, Task
from isthmus.train import Plan, seeded

EXEMPTABLE = {3, 5, 7}
Whole = Annotated[int, Ge(1)]  # what an option may be
Count = Annotated[int, Ge(0)]
Rate = Annotated[float, Interval(gt=0, lt=float("inf"))]
Weight = Annotated[float, Interval(ge=0, lt=float("inf"))]
Share = Annotated[float, Interval(ge=0, le=1)]


@dataclass(frozen=True)
class Card:
    """What a method is, where it comes from, what it needs, and which laws it does not keep.

    ``needs``: keys of ``needs.NEEDS`` such as 'concepts' (labels), or a resource option's name. ``exempt`` maps a law (3,
    5 or 7 only) to the reason; a method exempt from 5 is not sealed and its bypass is reported. ``tune``: for each
    option, the values that validation may choose among. ``variants`` are rows of their own in a comparison; ``encoder``
    says what an encoder trained for it learns; ``zero_shot``: it learns nothing but what its features and texts bring.
    """

    title: str
    paper: str
    year: int
    family: str = "supervised"
    code: str = ""
    needs: tuple[str, ...] = ("concepts",)
    kinds: tuple[str, ...] = ("binary", "categorical", "continuous")
    tasks: tuple[str, ...] = ("classes", "labels")
    exempt: dict[int, str] = field(default_factory=dict[int, str])
    tune: dict[str, tuple[Any, ...]] = field(default_factory=dict[str, tuple[Any, ...]])
    variants: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    encoder: str = "concepts"
    zero_shot: bool = False
    notes: str = ""

    @property
    def sealed(self) -> bool:
        """True when nothing but the concepts reaches the task (law 5)."""
        return 5 not in self.exempt


@dataclass(frozen=True)
class Method:
    """A registered method: ``make(features, space, task, **options) -> Plan``."""

    name: str
    card: Card
    build: Callable[..., Plan]

    @cached_property
    def options(self) -> dict[str, inspect.Parameter]:
        return {name: p for name, p in inspect.signature(self.build).parameters.items() if p.kind is p.KEYWORD_ONLY}

    def unmet(self, space: ConceptSpace | None, task: Task, given: Collection[str] = ()) -> str | None:
        """Why the method cannot run on such data, in words; None when it can. ``space`` None = no concept labels.

        ``given`` are the names of the options that the caller sets: what has no default must be among them.
        """
        if task.kind not in self.card.tasks:
            return f"a task of {' or '.join(self.card.tasks)}, not of {task.kind}"
        if "concepts" in self.card.needs:
            if space is None or not len(space):
                return "concept labels"
            odd = sorted(space.kinds - set(self.card.kinds))
            if odd:
                return f"{' or '.join(self.card.kinds)} concepts alone, got {odd[0]} ones"
        for name, option in self.options.items():
            if name not in given and (name in self.card.needs or option.default is inspect.Parameter.empty):
                return f"option {name!r}"
        return None

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options by the builder's annotations; strings are parsed. Unknown or ill-typed: one-line ``OptionError``."""
        from pydantic import TypeAdapter, ValidationError

        hints = get_type_hints(self.build, include_extras=True)
        clean: dict[str, Any] = {}
        for name, value in options.items():
            if name not in self.options:
                raise unknown(f"option of method {self.name!r}", name, self.options)
            try:
                clean[name] = TypeAdapter(hints[name], config={"arbitrary_types_allowed": True}).validate_python(value)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise OptionError(f"option {name!r} of method {self.name!r}: {reason}, got {value!r}") from error
        return clean

    def make(
        self, features: nn.Module, space: ConceptSpace = EMPTY, task: Task | None = None, *, seed: int = 0, **options: Any
    ) -> Plan:
        """Build the model (seeded) and its stages; the caller's random generator is left as it was."""
        if task is None:
            raise OptionError(f"method {self.name!r}: expected a task, got none")
        clean = self.checked(options)
        with seeded(seed):
            plan = self.build(features, space, task, **clean)
        plan.model.origin = {"method": self.name, "options": clean, "seed": seed}
        return plan


_found: dict[str, Method] = {}
_loaded: list[str] = []


def method(card: Card) -> Callable[[Callable[..., Plan]], Callable[..., Plan]]:
    """Register a builder ``(features, space, task, *, options) -> Plan`` under its function's name."""

    def register(build: Callable[..., Plan]) -> Callable[..., Plan]:
        name = build.__name__
        wrong = set(card.exempt) - EXEMPTABLE
        if wrong:
            raise OptionError(f"method {name!r}: laws {sorted(wrong)} have no exemption; only {sorted(EXEMPTABLE)} do")
        made = Method(name, card, build)
        stray = [option for option in card.tune if option not in made.options]
        if stray:
            raise unknown(f"tuned option of method {name!r}", stray[0], made.options)
        if name in _found and _found[name].build.__module__ != build.__module__:
            raise OptionError(f"method {name!r} is registered by {_found[name].build.__module__} already; rename it")
        _found[name] = made
        return build

    return register


def methods() -> dict[str, Method]:
    """All registered methods by name. Ours come by the same door as those of any installed package: an entry point."""
    for entry in () if _loaded else entry_points(group="isthmus.methods"):
        _loaded.append(entry.value)
        try:
            entry.load()
        except Exception as error:
            raise OptionError(f"plugin {entry.name!r} ({entry.value}): {type(error).__name__}: {error}") from error
    return dict(_found)


def get(name: str) -> Method:
    """A method by name; an unknown one is answered with 'did you mean'."""
    if name not in methods():
        raise unknown("method", name, _found)
    return _found[name]
