"""What the columns of a bottleneck mean (``ConceptSpace``) and what is predicted from them (``Task``)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.errors import DataError, unknown

Kind = Literal["binary", "categorical", "continuous"]


@dataclass(frozen=True)
class Concept:
    """One human-readable concept.

    ``states`` names the values of a categorical concept; ``group`` names concepts that are asked together; ``owner``
    the class or classes it was written for; ``text`` a sentence, ``part`` a place; ``unit``, ``center``, ``scale``, ``low``
    and ``high`` (training 5th and 95th percentile) belong to continuous concepts; ``cost`` is what one correction costs.
    """

    name: str
    kind: Kind = "binary"
    states: tuple[str, ...] = ()
    group: str | None = None
    owner: str | tuple[str, ...] | None = None
    text: str | None = None
    part: str | None = None
    unit: str | None = None
    cost: float = 1.0
    center: float = 0.0
    scale: float = 1.0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "states", tuple(self.states))
        object.__setattr__(self, "owner", self.owner if isinstance(self.owner, str | None) else tuple(self.owner))
        if not self.name or not self.name.isprintable():
            raise DataError(f"concept {self.name!r}: expected a non-empty printable name; rename the column")
        if self.kind not in ("binary", "categorical", "continuous"):
            raise DataError(f"concept {self.name!r}: expected kind binary, categorical or continuous, got {self.kind!r}")
        if self.kind == "categorical" and (len(self.states) < 2 or len(set(self.states)) < len(self.states)):
            raise DataError(f"concept {self.name!r}: expected two or more different states, got {list(self.states)}")
        if self.kind != "categorical" and self.states:
            raise DataError(f"concept {self.name!r}: only a categorical concept has states; set kind='categorical'")
        if not (0 < self.scale < math.inf and math.isfinite(self.center) and 0 <= self.cost < math.inf):
            raise DataError(f"concept {self.name!r}: expected finite numbers: center, scale above 0 and cost of at least 0")

    @property
    def width(self) -> int:
        """How many of the K columns this concept takes: its number of states, else 1."""
        return len(self.states) or 1

    @property
    def owners(self) -> tuple[str, ...]:
        """Every class that the concept was written for."""
        return (self.owner,) if isinstance(self.owner, str) else self.owner or ()


@dataclass(frozen=True, eq=False)
class ConceptSpace:
    """The M concepts of a bottleneck and the K columns they take; frozen, and saved with the weights.

    A binary or continuous concept is one column, a categorical concept a block of one column for each state.
    ``vectors`` (K, D) are text embeddings, where the concepts came from words.
    """

    concepts: tuple[Concept, ...] = ()
    vectors: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "concepts", tuple(self.concepts))
        if wrong := [c for c in self.concepts if not isinstance(c, Concept)]:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(f"concepts: expected Concept objects, got {wrong[0]!r}; ConceptSpace.binary takes names")
        for what, names in (("concept", self.names), ("column", self.columns)):
            if twice := [name for name, count in Counter(names).items() if count > 1]:
                raise DataError(f"{what} name {twice[0]!r} stands {names.count(twice[0])} times; names must be unique")
        if self.vectors is not None and (self.vectors.ndim != 2 or len(self.vectors) != len(self)):
            raise DataError(f"vectors: expected shape ({len(self)}, D), got {tuple(self.vectors.shape)}")

    @classmethod
    def binary(cls, names: Iterable[str], groups: Iterable[str] | None = None) -> ConceptSpace:
        """A space of binary concepts, with an optional group name for each."""
        rows = [names] if isinstance(names, str) else list(names)
        owned: list[str | None] = [None] * len(rows) if groups is None else list(groups)
        if len(owned) != len(rows):
            raise DataError(f"groups: expected {len(rows)}, one for each name, got {len(owned)}")
        return cls(tuple(Concept(name, group=group) for name, group in zip(rows, owned, strict=True)))

    @classmethod
    def of(cls, *concepts: Concept) -> ConceptSpace:
        return cls(concepts)

    def __len__(self) -> int:
        return sum(concept.width for concept in self.concepts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConceptSpace) and self.concepts == other.concepts

    def __hash__(self) -> int:
        return hash(self.concepts)

    @property
    def count(self) -> int:
        """M, the number of concepts."""
        return len(self.concepts)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The M names of the concepts."""
        return tuple(concept.name for concept in self.concepts)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The K names of the columns; a state's column is ``concept=state``."""
        return tuple(f"{c.name}={s}" if s else c.name for c in self.concepts for s in (c.states or ("",)))

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """For each concept, its columns."""
        ends = accumulate((concept.width for concept in self.concepts), initial=0)
        return tuple(slice(a, b) for a, b in pairwise(ends))

    @cached_property
    def owner_of(self) -> Tensor:
        """(K,) index of the concept that each column belongs to."""
        return torch.tensor([m for m, concept in enumerate(self.concepts) for _ in range(concept.width)], dtype=torch.long)

    @cached_property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Concept indices by group name, in order; a concept without a group is a group of its own."""
        found: dict[str, list[int]] = {}
        for index, concept in enumerate(self.concepts):
            found.setdefault(concept.group or concept.name, []).append(index)
        return {name: tuple(members) for name, members in found.items()}

    @cached_property
    def kinds(self) -> frozenset[str]:
        return frozenset(concept.kind for concept in self.concepts)

    @cached_property
    def plain(self) -> bool:
        """True when every concept is binary: the fast path of every function over blocks."""
        return self.kinds <= {"binary"}

    @cached_property
    def continuous(self) -> Tensor:
        """(K,) True on continuous columns."""
        return torch.tensor([c.kind == "continuous" for c in self.concepts for _ in range(c.width)], dtype=torch.bool)

    @cached_property
    def blocks(self) -> tuple[Tensor, ...]:
        """Categorical columns by number of states: one (blocks, states) index for each width."""
        rows = zip(self.concepts, self.slices, strict=True)
        every = [list(range(s.start, s.stop)) for c, s in rows if c.kind == "categorical"]
        return tuple(torch.tensor([own for own in every if len(own) == w]) for w in sorted(set(map(len, every))))

    @cached_property
    def centers(self) -> Tensor:
        """(K,) center of each column; 0 unless continuous."""
        return torch.tensor([c.center for c in self.concepts for _ in range(c.width)])

    @cached_property
    def scales(self) -> Tensor:
        """(K,) scale of each column; 1 unless continuous."""
        return torch.tensor([c.scale for c in self.concepts for _ in range(c.width)])

    def index(self, name: str | int) -> int:
        """Index of a concept, by name (or index); an unknown name is answered with 'did you mean'."""
        if isinstance(name, int):
            if not -self.count <= name < self.count:
                raise DataError(f"concept index {name}: expected below {self.count}")
            return name % self.count
        if name not in self.names:
            raise unknown("concept", name, self.names)
        return self.names.index(name)

    def widen(self, concepts: Tensor) -> Tensor:
        """(..., M) over concepts -> (..., K) over columns."""
        return concepts if self.count == len(self) else concepts[..., self.owner_of.to(concepts.device)]

    def narrow(self, columns: Tensor) -> Tensor:
        """(..., K) bool over columns -> (..., M): True where any column of the concept is."""
        if self.count == len(self):
            return columns
        return torch.stack([columns[..., part].any(-1) for part in self.slices], -1)

    def encode(self, values: Tensor) -> Tensor:
        """(B, M) one number for each concept (a state's index if categorical) -> (B, K); NaN = unknown, kept so."""
        if values.ndim != 2 or values.shape[1] != self.count:
            raise DataError(f"encode: expected shape (rows, {self.count}), one for a concept, got {tuple(values.shape)}")
        parts: list[Tensor] = []
        for m, concept in enumerate(self.concepts):
            column = values[:, m].float()
            if concept.kind == "categorical":
                missing, code = column.isnan()[:, None], column.nan_to_num().long()
                if bool((wrong := (code < 0) | (code >= concept.width) | (code != column.nan_to_num())).any()):
                    got = f"expected a state index below {concept.width}, got {column[wrong][0].item():g}"
                    raise DataError(f"concept {concept.name!r}, row {int(wrong.nonzero()[0])}: {got}")
                parts.append(F.one_hot(code, concept.width).float().masked_fill(missing, math.nan))
            else:
                parts.append(column[:, None])
        return torch.cat(parts, 1) if parts else values.new_zeros((len(values), 0), dtype=torch.float32)

    def activate(self, logits: Tensor) -> Tensor:
        """(..., K) logits -> values: probability, block of probabilities, or a number in the concept's unit."""
        values = logits.sigmoid()
        for index in self.blocks:
            values = values.index_copy(-1, index.flatten().to(logits.device), logits[..., index].softmax(-1).flatten(-2))
        if "continuous" in self.kinds:
            number = logits * self.scales.to(logits) + self.centers.to(logits)
            values = torch.where(self.continuous.to(logits.device), number, values)
        return values

    def standardised(self, values: Tensor) -> Tensor:
        """Values with continuous columns as (value - center) / scale; the rest as they are."""
        if "continuous" not in self.kinds:
            return values
        return (values - self.centers.to(values)) / self.scales.to(values)

    def fitted(self, c: Tensor) -> ConceptSpace:
        """The space with center, scale and the 5th and 95th percentile of continuous concepts read off ``c`` (B, K)."""
        if "continuous" not in self.kinds:
            return self
        rows: list[Concept] = []
        for concept, part in zip(self.concepts, self.slices, strict=True):
            column = c[:, part][~c[:, part].isnan()].double()
            if concept.kind == "continuous" and len(column):
                low, high = (float(column.quantile(q)) for q in (0.05, 0.95))
                mean, scale = float(column.mean()), float(column.std(correction=0))
                concept = replace(concept, center=mean, scale=scale if scale > 1e-12 else 1.0, low=low, high=high)
            rows.append(concept)
        return replace(self, concepts=tuple(rows))

    def keep(self, index: Sequence[int]) -> ConceptSpace:
        """The space with the concepts at ``index`` (into M), in that order."""
        vectors = None if self.vectors is None else self.vectors[self.columns_of(index)]
        return ConceptSpace(tuple(self.concepts[i] for i in index), vectors)

    def columns_of(self, index: Sequence[int]) -> Tensor:
        """Column indices of the concepts at ``index``, in that order."""
        return torch.tensor([k for i in index for k in range(*self.slices[i].indices(len(self)))], dtype=torch.long)

    def to_json(self) -> str:
        return json.dumps([asdict(concept) for concept in self.concepts], indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ConceptSpace:
        return cls(tuple(Concept(**row) for row in json.loads(text)))


EMPTY = ConceptSpace()


@dataclass(frozen=True)
class Task:
    """What is predicted: one of ``names`` (classes), each of ``names`` (labels), or one number (value, with ``unit``).

    ``center`` and ``scale`` put a continuous target on the unit scale of the logits.
    """

    kind: Literal["classes", "labels", "value"]
    names: tuple[str, ...]
    unit: str | None = None
    center: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        least = 2 if self.kind == "classes" else 1
        if len(self.names) < least or len(set(self.names)) < len(self.names):
            raise DataError(f"task: expected {least} or more different names for {self.kind}, got {list(self.names)}")

    @classmethod
    def classes(cls, names: Iterable[str]) -> Task:
        return cls("classes", tuple(names))

    @classmethod
    def labels(cls, names: Iterable[str]) -> Task:
        return cls("labels", tuple(names))

    @classmethod
    def value(cls, name: str, unit: str | None = None) -> Task:
        return cls("value", (name,), unit)

    @property
    def width(self) -> int:
        """Y, the number of logits."""
        return len(self.names)

    def fitted(self, y: Tensor) -> Task:
        """The task with the center and scale of a continuous target read off ``y``."""
        if self.kind != "value":
            return self
        known = y[~y.isnan()].double()
        scale = float(known.std(correction=0)) if len(known) > 1 else 1.0
        return replace(self, center=float(known.mean()) if len(known) else 0.0, scale=scale if scale > 1e-12 else 1.0)

    def predict(self, logits: Tensor) -> Tensor:
        """Logits (B, Y) -> decisions: class index (B,), labels (B, Y) in {0, 1}, or the number (B,) in its unit."""
        if self.kind == "classes":
            return logits.argmax(-1)
        if self.kind == "labels":
            return (logits > 0).float()
        return logits.squeeze(-1) * self.scale + self.center

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits (B, Y) -> probabilities (B, Y); a continuous target has none and gives the number as (B, 1)."""
        if self.kind == "classes":
            return logits.softmax(-1)
        return logits.sigmoid() if self.kind == "labels" else self.predict(logits)[:, None]
