"""Pure functions of arrays, each with unit, range and direction: ``accuracy(y, answer) -> float``."""

from isthmus.metrics.concept import concept_accuracy, concept_all_right, concept_auroc, concept_error, concept_macro_f1
from isthmus.metrics.core import Metric, interval, resamples
from isthmus.metrics.forgetting import agreement, divergence, membership
from isthmus.metrics.importance import deletion, existence, insertion
from isthmus.metrics.intervention import COST, CURVE, area, bypass, smallest
from isthmus.metrics.leakage import ctl, icl
from isthmus.metrics.location import location, mass_inside, pointing, pointing_distance
from isthmus.metrics.purity import nis, ois
from isthmus.metrics.selective import aurc, automated, coverage, selective_accuracy
from isthmus.metrics.shift import SHIFT, shift
from isthmus.metrics.sparsity import nec
from isthmus.metrics.substitution import s_minus, s_plus
from isthmus.metrics.task import accuracy, auroc, balanced_accuracy, macro_f1, mae, r2, rmse
from isthmus.metrics.uncertainty import brier, concept_ece, ece

METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auroc": auroc,
    "ece": ece,
    "brier": brier,
    "mae": mae,
    "rmse": rmse,
    "r2": r2,
    "concept_accuracy": concept_accuracy,
    "concept_macro_f1": concept_macro_f1,
    "concept_auroc": concept_auroc,
    "concept_all_right": concept_all_right,
    "concept_error": concept_error,
    "concept_ece": concept_ece,
    "s_plus": s_plus,
    "s_minus": s_minus,
    **SHIFT,
    **CURVE,
    "bypass": bypass,
    "ctl": ctl,
    "icl": icl,
    "ois": ois,
    "nis": nis,
    "deletion": deletion,
    "insertion": insertion,
    "existence": existence,
    "location": location,
    "pointing": pointing,
    "pointing_distance": pointing_distance,
    "mass_inside": mass_inside,
    "coverage": coverage,
    "selective_accuracy": selective_accuracy,
    "aurc": aurc,
    "automated": automated,
    "membership": membership,
    "agreement": agreement,
    "divergence": divergence,
    "nec": nec,
    **COST,
}
MAIN = {"classes": "accuracy", "labels": "macro_f1", "value": "r2"}  # the score that a task is read by

__all__ = [
    "MAIN",
    "METRICS",
    "Metric",
    "area",
    "interval",
    "resamples",
    "shift",
    "smallest",
    *(name for name in METRICS if name in globals()),
]
