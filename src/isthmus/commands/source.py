"""The data argument of a command: a data set by name, a table of columns, or a folder of images, with options."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.commands.console import one_line
from isthmus.commands.values import named, typed
from isthmus.errors import DataError, OptionError, unknown

if TYPE_CHECKING:
    from isthmus.data.table import Splits

TABLES = (".csv", ".tsv", ".tab", ".txt", ".parquet", ".pq")
NOTE = "data.json"  # beside the table of a folder written by `isthmus data make`


@dataclass(frozen=True)
class Loaded:
    """Splits, and the names of the input columns where the rows are numbers from a table."""

    splits: Splits
    inputs: list[str] | None = None


def read(
    text: str, *, label: str | None = None, concepts: str | None = None, table: Path | None = None, worded: bool = False
) -> Loaded:
    """Data as a command names it: ``poker:cards=5``, ``rows.csv:group=patient``, ``images/`` with ``table``.

    ``label`` and ``concepts`` are columns by comma; ``worded``: words will take the concepts' place. Raises ``UnknownName``,
    ``DataError``, ``OptionError``.
    """
    from isthmus.data.table import replacing

    with replacing(worded):
        return _read(text, label, concepts, table)


def _read(text: str, label: str | None, concepts: str | None, table: Path | None) -> Loaded:
    name, options = (text, {}) if _is_place(text) else named(text)
    for key, value in (("label", label), ("concepts", concepts), ("table", None if table is None else str(table))):
        if value is not None and key in options:
            raise OptionError(f"{key}: given twice, as --{key} {value} and in {text!r}; keep one")
        options |= {} if value is None else {key: value}
    place = Path(name)
    if place.is_dir() and _is_place(name):
        return _folder(place, options)
    if place.suffix.lower() in TABLES:
        return _table(place, options)
    return _named(name, options)


def word_file(concepts: str | None) -> tuple[Path | None, str | None]:
    """--concepts as (a list of concepts in words, None) where it names such a file, else as (None, columns)."""
    if concepts is None or Path(concepts).suffix.lower() not in (".txt", ".json"):
        return None, concepts
    if not Path(concepts).is_file():
        raise DataError(f"--concepts {concepts}: expected a file of concepts in words, found none; check the path")
    return Path(concepts), None


def unseen_classes(texts: list[str] | None) -> list[str] | float | None:
    """--unseen as names of classes, or, given once as a number, as a share of them."""
    if not texts:
        return None
    try:
        return float(texts[0]) if len(texts) == 1 else texts
    except ValueError:
        return texts


def pinned(text: str, *, label: str | None, concepts: str | None, table: Path | None) -> dict[str, str | None]:
    """The same data argument with files by their whole path, as a saved model keeps it to find its data again."""
    name = text if _is_place(text) else named(text)[0]
    whole = f"{Path(name).resolve()}{text[len(name) :]}" if _is_place(name) else text
    if table is not None and not (Path(name) / table).exists():
        table = table.resolve()
    return {"name": whole, "label": label, "concepts": concepts, "table": None if table is None else str(table)}


def _is_place(text: str) -> bool:
    """True for a file or folder that is there; a data set's bare name is that data set (``./poker`` is the folder)."""
    from isthmus.data.registry import datasets

    return Path(text).exists() and text not in datasets()


def _named(name: str, options: dict[str, str]) -> Loaded:
    from isthmus.data.registry import datasets, load

    known = datasets()
    if name not in known:
        error = unknown("data set", name, known)
        raise type(error)(f"{error}; or a file that ends in {', '.join(TABLES[:2])} or .parquet, or a folder of images")
    for key in ("label", "concepts", "table"):
        if key in options and key not in known[name].options:
            raise OptionError(f"--{key}: {name!r} is a data set with columns of its own; --{key} goes with a file or a folder")
    return Loaded(load(name, **typed(options, known[name].build, f"data set {name!r}")))


def _table(place: Path, options: dict[str, str]) -> Loaded:
    from isthmus.data import file

    _label(place, options)
    asked = typed(options, file, f"data file {place.name!r}")
    splits = file(place, **asked)
    return Loaded(splits, _inputs(splits, place, asked))


def _folder(place: Path, options: dict[str, str]) -> Loaded:
    from isthmus.data import folder

    if (place / NOTE).is_file() and "label" not in options and "table" not in options:
        return _written(place, options)
    if "table" not in options:
        raise OptionError(f"{place}: expected --table FILE, the CSV or Parquet file that has a row for each image")
    _label(place, options)
    return Loaded(folder(place, **typed(options, folder, f"folder {place.name!r}")))


def _label(place: Path, options: dict[str, str]) -> None:
    if "label" not in options:
        raise OptionError(f"{place}: expected --label COLUMN, the column to predict (and --concepts for the concept columns)")


def _written(place: Path, options: dict[str, str]) -> Loaded:
    """A folder of ``isthmus data make``: its note says what the columns are."""
    from isthmus.data import DataCard, file, folder
    from isthmus.space import Concept, Task

    note = place / NOTE
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
        how = told["read"]
        table = place / how["table"]
        concepts = {
            name: Concept(
                name,
                kind,
                tuple(how["states"].get(name, ())),
                group=how["groups"].get(name),
                unit=how["units"].get(name),
            )
            for name, kind in how["kinds"].items()
        }
        asked: dict[str, Any] = {
            "label": how["label"] if len(how["label"]) > 1 else how["label"][0],
            "task": Task(how["task"], tuple(how["names"]), how["unit"]),
            "concepts": concepts or None,
            "group": how["group"],
            "caption": how.get("caption"),
            "split_column": how["split"],
            "card": None if told["card"] is None else DataCard(**told["card"]),
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{note}: expected the note of isthmus data make, got {one_line(repr(error))[:80]}; or pass --table"
        ) from error
    given = typed(options, folder if how["file"] else file, f"folder {place.name!r}")
    if how["text"]:
        asked["features"] = how["text"]
    if how["file"]:
        asked |= {"table": how["table"], "image": how["file"], "size": how["size"]}
    asked |= given
    splits = folder(place, **asked) if how["file"] else file(table, **asked)
    splits.name = str(told["name"])
    return Loaded(splits, None if how["file"] else _inputs(splits, table, asked))


def _inputs(splits: Splits, place: Path, asked: dict[str, Any]) -> list[str] | None:
    """Names of the columns that became x, in order; None for texts."""
    from isthmus.data.frames import read_columns

    x = splits.train.x
    if not hasattr(x, "ndim"):
        return None
    if asked.get("features") is not None:
        return list(asked["features"])
    used = {
        name
        for key in ("label", "concepts", "group", "weight", "facts", "caption", "split_column")
        for name in _names(asked.get(key))
    }
    found = [str(name) for name in read_columns(place, asked.get("separator")).columns if str(name) not in used]
    return found if len(found) == x.shape[1] else None


def _names(columns: Any) -> Iterable[str]:
    return [] if columns is None else [columns] if isinstance(columns, str) else list(columns)
