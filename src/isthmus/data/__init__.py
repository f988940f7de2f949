"""Tables, splits, data sets by name, files of one's own, synthetic worlds, and the feature cache."""

from isthmus.data.arrays import from_arrays
from isthmus.data.folder import file, folder
from isthmus.data.frames import from_frame
from isthmus.data.registry import dataset, datasets, load
from isthmus.data.rows import Images, Texts
from isthmus.data.table import DataCard, Fold, Splits, Table, split, split_by

__all__ = [
    "DataCard",
    "Fold",
    "Images",
    "Splits",
    "Table",
    "Texts",
    "dataset",
    "datasets",
    "file",
    "folder",
    "from_arrays",
    "from_frame",
    "load",
    "split",
    "split_by",
]
