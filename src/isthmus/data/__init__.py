"""Tables, splits, data sets by name, synthetic worlds, and the feature cache."""

from isthmus.data.registry import dataset, datasets, load
from isthmus.data.rows import Images, Texts
from isthmus.data.table import DataCard, Fold, Splits, Table, split

__all__ = ["DataCard", "Fold", "Images", "Splits", "Table", "Texts", "dataset", "datasets", "load", "split"]
