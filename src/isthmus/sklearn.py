"""The scikit-learn face: any method that predicts classes, as a classifier for pipelines, grids and pickles.

Import it by name, ``from isthmus.sklearn import ConceptBottleneckClassifier``; ``import isthmus`` does not load it.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor, nn

from isthmus import needs, registry
from isthmus.api import fit as fit_method
from isthmus.bottlenecks.linear import harden
from isthmus.data.columns import Array, as_tensor, is_frame, same_rows, to_array
from isthmus.data.concepts import concept_column, concept_labels
from isthmus.data.table import Splits, Table
from isthmus.errors import DataError, OptionError
from isthmus.given import Given, given
from isthmus.model import ConceptModel, Output
from isthmus.space import ConceptSpace, Task
from isthmus.trace import run
from isthmus.train import encode


class ConceptBottleneckClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):
    """A concept bottleneck model behind scikit-learn's calls.

    ``method`` is a registered name (``isthmus list``) and ``options`` are its own, such as ``{"epochs": 50}``.
    ``features``: None or 'identity' reads the columns as they are (scale them in a ``Pipeline``), another builder's name
    or a module with ``dim`` learns with the method. ``space`` says what the concept columns mean; None reads it off them:
    0/1 and booleans binary, texts categorical, other numbers continuous. ``validation`` is the share of the training
    rows, above 0 and below 1, that decides when to stop; ``random_state`` an int, None or a ``RandomState``.

    After ``fit``: ``classes_`` (Y,), ``model_``, ``space_`` (M concepts in K columns), ``n_features_in_`` (D), and
    ``feature_names_in_`` where X had names. In a grid, concepts travel by metadata routing: ``set_fit_request(concepts=True)``.
    """

    classes_: Array
    model_: ConceptModel
    space_: ConceptSpace
    n_features_in_: int

    def __init__(
        self,
        method: str = "cbm",
        *,
        features: str | nn.Module | None = None,
        space: ConceptSpace | None = None,
        validation: float = 0.15,
        options: dict[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.method = method
        self.features = features
        self.space = space
        self.validation = validation
        self.options = options
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, concepts: Any = None, *, sample_weight: Any = None, groups: Any = None
    ) -> ConceptBottleneckClassifier:
        """Fit on X (n, D) numbers, classes y (n,), and concepts: an array (n, M), a frame or a dict of columns.

        NaN in concepts is unknown. ``sample_weight`` (n,) at least 0; rows of weight 0 are left out. Rows of one of the
        ``groups`` (n,) are held for validation together. ``ValueError`` for a single class, or a method that needs
        concepts and gets none.
        """
        _same_index(X, concepts)
        checked: Any = validate_data(self, X, y, dtype=np.float32)
        x, y = checked[0], column_or_1d(checked[1], warn=True)
        check_classification_targets(y)
        weight = _weights(sample_weight, len(x))
        used = np.flatnonzero(weight > 0)
        classes, codes = np.unique(y[used], return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"y: expected two or more classes, got 1 class: {classes[0]!r}; a single one needs no model")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        task = Task.classes(str(name) for name in classes)
        self._needs(concepts, task)
        space, c = concept_labels(concepts, len(x), self.space if concepts is not None else None, None, None)
        parts = torch.from_numpy(used)
        table = Table(
            as_tensor(x[used]),
            c=None if c is None else c[parts],
            y=torch.from_numpy(codes),
            space=space,
            task=task,
            weight=None if sample_weight is None else as_tensor(weight[used] / weight[used].mean()),
        )
        held = carve(codes, None if groups is None else _listed(groups, len(x))[used], self.validation, seed)
        kept = table.take(np.flatnonzero(~held)) if held.any() else table
        watched = table.take(np.flatnonzero(held)) if held.any() else table
        # fitting reads no test rows: the caller scores on rows of their own
        splits = Splits(kept, watched, watched, name="arrays")
        features = "identity" if self.features is None else deepcopy(self.features)
        self.model_ = fit_method(self.method, splits, features=features, seed=seed, **(self.options or {}))
        self.classes_, self.space_ = classes, self.model_.space
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")  # a fit that failed half way has set other attributes

    def predict(self, X: Any) -> Array:
        """Classes (n,) of X (n, D)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba(self, X: Any) -> Array:
        """Class probabilities (n, Y), in the order of ``classes_``."""
        return self._probabilities(self._run(X))

    def predict_concepts(self, X: Any) -> Array:
        """Concept labels (n, M): 0 or 1, the index of a state, or a number in its unit (whole numbers as int64)."""
        check_is_fitted(self)
        values = harden(torch.from_numpy(self.predict_concepts_proba(X)), self.space_)
        rows = zip(self.space_.concepts, self.space_.slices, strict=True)
        labels = [
            values[:, part].argmax(1).double() if concept.kind == "categorical" else values[:, part.start].double()
            for concept, part in rows
        ]
        made = torch.stack(labels, 1).numpy() if labels else np.zeros((len(values), 0))
        return made if "continuous" in self.space_.kinds else made.astype(np.int64)

    def predict_concepts_proba(self, X: Any) -> Array:
        """Concept probabilities (n, K) in the order of ``space_.columns``; a continuous concept's number in its unit."""
        concepts = self._run(X).concepts
        values = concepts.values if concepts.logits is None else self.space_.activate(concepts.logits.double())
        return values.double().numpy()

    def transform(self, X: Any) -> Array:
        """The concepts as features (n, K): ``predict_concepts_proba``."""
        return self.predict_concepts_proba(X)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the K columns of ``transform``: a binary or continuous concept's name, or ``concept=state``."""
        check_is_fitted(self)
        return np.array(self.space_.columns, dtype=object)

    def intervene(self, X: Any, corrections: Any, *, proba: bool = False) -> Array:
        """Classes (n,), or probabilities (n, Y) with ``proba``, once concepts are corrected.

        ``corrections``: a mapping from concept to a value for all rows or to one value for each of the n rows, a frame,
        or an array (n, M). NaN and None leave the model's reading. A categorical concept takes a state's name, or its
        index where there is one value for each row. Unknown names: "did you mean".
        """
        check_is_fitted(self)
        out = self._run(X, corrections)
        answer = self._probabilities(out)
        return answer if proba else self.classes_[answer.argmax(1)]

    def _needs(self, concepts: Any, task: Task) -> None:
        """Refuse a method that needs concept labels when there are none."""
        lacks = None if concepts is not None else needs.unmet(registry.get(self.method), None, task, labelled=False)
        if lacks and not lacks.startswith(("a task", "option")):
            others = ", ".join(n for n, m in registry.methods().items() if needs.unmet(m, None, task, labelled=False) is None)
            raise DataError(f"method {self.method!r} needs {lacks}: pass concepts=, or use one of {others}")

    @torch.no_grad()
    def _run(self, X: Any, corrections: Any = None) -> Output:
        check_is_fitted(self)
        checked: Any = validate_data(self, X, reset=False, dtype=np.float32)
        x = as_tensor(checked)
        held = None if corrections is None else _held(self.space_, corrections, len(x))
        return run(self.model_, encode(self.model_.features, Table(x, task=self.model_.task)), held)

    def _probabilities(self, out: Output) -> Array:
        return self.model_.task.probabilities(out.logits.double()).numpy()


def carve(codes: Array, groups: Array | None, share: float, seed: int) -> Array:
    """(n,) True on validation rows: every class in proportion, whole groups; all False where rows are too few.

    A class (of rows, or of groups by their first row) always keeps one to train on. At least one row is held when a
    class can spare it.
    """
    if not 0 < share < 1:
        raise OptionError(f"validation: expected a share above 0 and below 1, got {share!r}")
    n, draw = len(codes), np.random.default_rng(seed)
    unit = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    stratum = codes[np.unique(unit, return_index=True)[1]]
    held = np.zeros(len(stratum), dtype=bool)
    shift = draw.random()
    for name in np.unique(stratum):
        members = draw.permutation(np.flatnonzero(stratum == name))
        # positions at even steps from a moving start: shares add up over classes that are too small for one of their own
        held[members[1:]] = ((np.arange(len(members)) + shift) / len(members) < share)[: len(members) - 1]
        shift = (shift + 0.618033988749895) % 1
    counts = np.bincount(stratum)
    if not held.any() and counts.max() > 1:
        held[np.flatnonzero(stratum == counts.argmax())[-1]] = True
    return held[unit]


def _same_index(X: Any, concepts: Any) -> None:
    """Frames with different indexes would be joined by position, row against the wrong row."""
    both = hasattr(X, "iloc") and hasattr(concepts, "iloc") and len(X) == len(concepts)
    if both and not X.index.equals(concepts.index):
        raise DataError("concepts: expected the index of X, got another; align with .loc, or reset_index both")


def _weights(raw: Any, n: int) -> Array:
    if raw is None:
        return np.ones(n)
    weight = np.asarray(raw, dtype=np.float64)
    if weight.shape != (n,):
        raise DataError(f"sample_weight: expected shape ({n},), one number for each row, got {weight.shape}")
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise DataError("sample_weight: expected finite numbers of at least 0")
    if not weight.any():
        raise DataError("sample_weight: every weight is zero; expected a number above 0 on the rows to learn from")
    return weight


def _listed(groups: Any, n: int) -> Array:
    found = to_array(groups, "groups")
    if found.shape != (n,):
        raise DataError(f"groups: expected shape ({n},), one for each row, got {found.shape}")
    return found.astype(str)


def _held(space: ConceptSpace, corrections: Any, n: int) -> Given:
    """Corrections of n rows, by name or as columns (n, M), as what is given."""
    if not space.count:
        raise DataError("corrections: this model reads no concepts, so there is none to correct; use another method")
    if is_frame(corrections):
        corrections = {str(name): corrections.iloc[:, i] for i, name in enumerate(corrections.columns)}
    elif not isinstance(corrections, Mapping):
        array = to_array(corrections, "corrections")
        if array.shape != (n, space.count):
            raise DataError(f"corrections: expected shape ({n}, {space.count}), one column a concept, got {array.shape}")
        corrections = dict(zip(space.names, array.T, strict=True))
    single = {name: value for name, value in corrections.items() if isinstance(value, str) or np.ndim(value) == 0}
    plain: dict[Any, Any] = {k: v.item() if isinstance(v, np.generic | Tensor) else v for k, v in single.items()}
    start = given(space, plain, n)
    values, mask = start.values, start.mask
    for name in corrections.keys() - single.keys():
        at = space.index(name)
        concept, part = space.concepts[at], space.slices[at]
        same_rows(len(corrections[name]), n, f"corrections {name!r}")
        codes = concept_column(concept.name, corrections[name], concept)[1]
        block = ConceptSpace.of(concept).encode(torch.from_numpy(codes)[:, None])
        values[:, part], mask[:, part] = block.nan_to_num(), ~block.isnan()
    return Given(values, mask)
