"""Columns of a pandas frame, or of a CSV, TSV or Parquet file, picked by name as a ``Table``."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isthmus.data.arrays import from_arrays
from isthmus.data.check import missing
from isthmus.data.columns import is_frame, show
from isthmus.data.rows import Images, Texts
from isthmus.data.table import Table
from isthmus.data.targets import TaskKind
from isthmus.errors import DataError, require, unknown
from isthmus.space import Concept, Kind, Task

Frame = Any  # a pandas DataFrame
ConceptColumns = Sequence[str] | Mapping[str, str | Concept]
KINDS: tuple[Kind, ...] = ("binary", "categorical", "continuous")
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ","}


def from_frame(
    frame: Frame,
    *,
    label: str | Sequence[str],
    features: str | Sequence[str] | None = None,
    concepts: ConceptColumns | None = None,
    group: str | None = None,
    weight: str | None = None,
    facts: str | Sequence[str] | None = None,
    caption: str | None = None,
    task: Task | TaskKind | None = None,
    class_names: Sequence[str] | None = None,
) -> Table:
    """A ``Table`` from the columns of a pandas frame, by name; a wrong name is answered with "did you mean".

    label: one column (classes or a value, see ``from_arrays``) or several of 0/1 (labels). features: columns of numbers
    (B, D), or the name of one column of texts; None = every column not named otherwise. concepts: columns, or
    ``{column: kind}``, ``{column: new name}``, ``{column: Concept(...)}``; cells may be missing. group: rows that
    belong together (a patient). facts: columns that no model reads (the site, the age), by which an audit groups rows;
    numbers, or texts. caption: the column of a sentence about each row, from which frozen features are aligned with texts;
    none may be missing, and no model reads it. No column may serve twice, so that the label is never among the features.
    """
    if not is_frame(frame):
        raise DataError(f"frame: expected a pandas DataFrame, got {type(frame).__name__}; see data.from_arrays")
    return pick(frame, "the frame", None, label, features, concepts, group, weight, facts, task, class_names, caption=caption)


def read_columns(path: Path, separator: str | None = None, texts: Sequence[str] = ()) -> Frame:
    """A CSV, TSV or Parquet file as a pandas frame; ``texts`` are columns kept as written ("007" stays "007").

    Empty cells and what pandas takes for missing (NA, NaN, None, null, ...) are missing.
    """
    pandas = require("pandas", "data")
    if not path.is_file():
        raise DataError(f"{path}: expected a CSV, TSV or Parquet file, found none; check the path")
    if path.suffix.lower() not in (*SEPARATORS, ".parquet", ".pq") and separator is None:
        raise DataError(f"{path.name}: expected .csv, .tsv or .parquet, got {path.suffix!r}; rename it or pass separator=")
    if path.suffix.lower() in (".parquet", ".pq"):
        require("pyarrow", "data")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # it warns where it drops cells
            if path.suffix.lower() in (".parquet", ".pq"):
                return pandas.read_parquet(path)
            how = {"sep": separator or SEPARATORS[path.suffix.lower()], "encoding": "utf-8-sig", "index_col": False}
            header = pandas.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, **how)
            _unique([str(name) for name in header.iloc[0]], path.name)
            return pandas.read_csv(path, low_memory=False, dtype=dict.fromkeys(texts, str), **how)
    except DataError:
        raise
    except Exception as error:  # pandas and pyarrow raise many kinds on a damaged file
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{path.name}: expected a readable table, got {reason!r}; check separator and encoding") from error


def _unique(names: Sequence[str], place: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{place}: column {name!r} stands {count} times; column names must be unique")


def column_of(frame: Frame, name: str, place: str) -> Any:
    """One column by name; an unknown name is answered with "did you mean"."""
    if name not in frame.columns:
        names = [str(column) for column in frame.columns]
        error = unknown(f"column of {place}", str(name), names)
        raise type(error)(f"{error}; pass separator=") if len(names) == 1 and not names[0].isidentifier() else error
    found = frame[name]
    if is_frame(found):
        raise DataError(f"{place}: column {name!r} stands {found.shape[1]} times; column names must be unique")
    return found


def pick(
    frame: Frame, place: str, split_column: str | None, label: Any, features: Any, concepts: Any, group: str | None,
    weight: str | None, facts: Any, task: Any, class_names: Any, image: str | None = None,
    caption: str | None = None,
) -> Table:  # fmt: skip
    """Pick the columns of a frame by name and hand them to ``from_arrays``."""
    frame = frame.reset_index(drop=True)
    labels = [label] if isinstance(label, str) else list(label)
    given = {} if concepts is None else concepts
    if isinstance(given, str):
        raise DataError(f"concepts: expected a list or a dict of columns, got {show(given)}; put it into a list")
    beside = [] if facts is None else [facts] if isinstance(facts, str) else list(facts)
    used = [*labels, *given, *beside, *(name for name in (group, weight, split_column, image, caption) if name is not None)]
    if features is None:
        features = [name for name in frame.columns if name not in used]
    texts = isinstance(features, str)
    named = [] if isinstance(features, Images) else [features] if texts else list(features)
    for name, count in Counter([*used, *named]).items():
        column_of(frame, name, place)
        if count > 1:
            raise DataError(f"{place}: column {name!r} is asked for {count} times; each serves once (label, concept, ...)")
    x = features if isinstance(features, Images) else frame[named]
    if texts:
        x = _texts(frame[features], place, "a text", "drop the row")
    told = None if caption is None else _texts(frame[caption], place, "a caption", "write one or drop the row").texts
    columns, kinds = _concepts(frame, given)
    made = from_arrays(
        x, frame[labels[0]] if len(labels) == 1 else frame[labels], columns or None, kinds=kinds or None, task=task,
        class_names=class_names, groups=None if group is None else frame[group],
        weight=None if weight is None else frame[weight], ids=None if image is None else [str(v) for v in frame[image]],
        captions=told,
    )  # fmt: skip
    return made.replace(facts={str(name): _fact(frame[name]) for name in beside}) if beside else made


def _fact(column: Any) -> Tensor | list[str]:
    """Numbers, NaN = unknown; or texts, 'unknown' where there is none."""
    if column.dtype.kind in "biuf":
        return torch.from_numpy(column.to_numpy(dtype="float32").copy())
    return ["unknown" if missing(cell) else str(cell).strip() for cell in column]


def _texts(column: Any, place: str, what: str, todo: str) -> Texts:
    for row, cell in enumerate(column):
        if missing(cell):
            where = f"{place}, column {str(column.name)!r}, row {row}"
            raise DataError(f"{where}: expected {what}, got nothing (in a file NA, None and the like are nothing); {todo}")
    return Texts([str(cell) for cell in column])


def _concepts(frame: Frame, given: ConceptColumns) -> tuple[dict[str, Any], dict[str, Any]]:
    """Concept columns under their concept's name, and the kinds that were said."""
    columns: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    for column in given:
        said = given[column] if isinstance(given, Mapping) else None
        if not (said is None or isinstance(said, str | Concept)):
            raise DataError(f"concepts, column {column!r}: expected a name, a kind or a Concept, got {type(said).__name__}")
        name = said.name if isinstance(said, Concept) else str(column) if said in (None, *KINDS) else str(said)
        if name in columns:
            raise DataError(f"concept name {name!r} stands 2 times; names must be unique")
        columns[name] = frame[column]
        if isinstance(said, Concept) or said in KINDS:
            kinds[name] = said
    return columns, kinds
