"""Has a model forgotten a class? Membership inference, what a probe still finds, and how far it is from a retrained model.

Yeom et al. 2018, Privacy Risk in Machine Learning, section 3 (an attack by a threshold on the loss); Chundawat et al. 2023, Zero
Shot Machine Unlearning, section 4 (forget and retain accuracy beside a retrained model).
"""

from __future__ import annotations

import numpy as np

from isthmus.metrics.core import Array, Metric, Ranked, Sums
from isthmus.metrics.task import f1_of_sums


def _membership(loss: Array, member: Array) -> Ranked:
    return Ranked(-np.asarray(loss, dtype=float), np.asarray(member, dtype=bool), np.ones(len(loss), dtype=bool))


def _probe(score: Array, present: Array) -> Ranked:
    return Ranked(np.asarray(score, dtype=float), np.asarray(present, dtype=bool), np.ones(len(score), dtype=bool))


def _agreement(answer: Array, other: Array) -> Sums:
    return Sums(np.c_[answer == other, np.ones(len(answer))].astype(float), lambda s: s[:, 0] / s[:, 1])


def _divergence(p: Array, q: Array) -> Sums:
    """Of rows p (n, Y) from q (n, Y); probabilities below 1e-12 count as that."""
    p, q = (np.maximum(np.asarray(each, dtype=float), 1e-12) for each in (p, q))
    return Sums(np.c_[(p * np.log(p / q)).sum(1), np.ones(len(p))], lambda s: s[:, 0] / s[:, 1])


def _f1_gap(y: Array, answer: Array, other: Array, classes: int) -> Sums:
    truth, said, theirs = (np.eye(classes)[each] for each in (y, answer, other))
    rows = np.concatenate([truth * said, truth, said, truth * theirs, theirs], 1)

    def finish(s: Array) -> Array:
        right, true, told, right_other, told_other = np.split(s, 5, axis=1)
        pair = [(right, told), (right_other, told_other)]
        mine, other = (f1_of_sums(np.concatenate([hit, true, says], 1), classes) for hit, says in pair)
        return np.abs(mine - other)

    return Sums(rows, finish)


FORGETTING = {
    "membership": Metric(
        _membership, "membership inference", "AUROC", 0, 1, "down", "task",
        "how well the loss alone tells rows that were trained on from rows that were not; .5 is wanted, and below tells as well",
    ),
    "probe": Metric(
        _probe, "probe for the class", "AUROC", 0, 1, "down", "task",
        "how well a linear probe still finds the forgotten class in features or concepts; compare it with a retrained model's",
    ),
    "agreement": Metric(
        _agreement, "agreement", "share", 0, 1, "up", "task", "share of rows that two models decide alike"
    ),
    "divergence": Metric(
        _divergence, "KL divergence", "nats", 0, np.inf, "down", "task",
        "Kullback-Leibler divergence of a model's probabilities from the reference's (a retrained model), mean over rows",
    ),
    "f1_gap": Metric(
        _f1_gap, "F1 gap", "macro F1", 0, 1, "down", "task", "distance of the macro F1 of two models on the same rows"
    ),
}  # fmt: skip
