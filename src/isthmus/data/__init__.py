"""Tables, splits, data sets by name, files of one's own, synthetic worlds, and the feature cache."""

import sys
from types import ModuleType

from isthmus.data import registry
from isthmus.data.arrays import from_arrays
from isthmus.data.classes import only_classes
from isthmus.data.cooccurrence import audit
from isthmus.data.folders import file, folder
from isthmus.data.frames import from_frame
from isthmus.data.registry import dataset, load
from isthmus.data.rows import Images, Texts
from isthmus.data.substitute import substitutes
from isthmus.data.table import DataCard, Fold, Splits, Table, split, split_by

__all__ = [
    "DataCard",
    "Fold",
    "Images",
    "Splits",
    "Table",
    "Texts",
    "audit",
    "dataset",
    "datasets",  # pyright: ignore[reportUnsupportedDunderAll]
    "file",
    "folder",
    "from_arrays",
    "from_frame",
    "load",
    "only_classes",
    "split",
    "split_by",
    "substitutes",
]


class _Package(ModuleType):
    """``datasets`` is both a function here and a subpackage: importing the subpackage must not hide the function."""

    datasets = property(lambda self: registry.datasets, lambda self, value: None)


sys.modules[__name__].__class__ = _Package
