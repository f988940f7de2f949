"""Was a class forgotten? Who was a member, and how far an unlearnt model lies from one that never saw the class.

The protocol of unlearning by retraining (Hu et al., ICML 2025, arXiv 2405.15476; 2405.15662): forget and retain accuracy,
membership inference, agreement with a model trained without the class.
"""

from __future__ import annotations

import numpy as np

from isthmus.metrics.core import Array, Metric, Ranked, Sums, alike


def _membership(member: Array, other: Array) -> Ranked:
    """Rows of ``member`` (a,) and ``other`` (b,) losses, one after the other: does a lower loss tell who was trained on?"""
    scores = -np.concatenate([member, other])
    return Ranked(scores, np.arange(len(scores)) < len(member), np.ones(len(scores), dtype=bool))


def _agreement(a: Array, b: Array) -> Sums:
    alike("agreement", a=a, b=b)
    same = (a == b).reshape(len(a), -1).all(1)
    return Sums(np.c_[same, np.ones(len(same))].astype(float), lambda s: s[:, 0] / s[:, 1])


def _divergence(p: Array, q: Array) -> Sums:
    """p, q (n, Y) probabilities, of the retrained model and of the unlearnt one."""
    alike("divergence", p=p, q=q)
    nats = np.where(p > 0, p * (np.log(np.maximum(p, 1e-12)) - np.log(np.maximum(q, 1e-12))), 0).sum(1)
    return Sums(np.c_[nats, np.ones(len(nats))], lambda s: s[:, 0] / s[:, 1])


membership = Metric(
    _membership, "membership inference", "AUC", 0, 1, "down", "task",
    "can losses tell rows that were trained on from rows that were not? .5: they cannot; below .5 they stand out as unlearnt",
    200,
)  # fmt: skip
agreement = Metric(
    _agreement,
    "agreement with retraining",
    "share",
    0,
    1,
    "up",
    "task",
    "share of rows decided as a model decides that never saw it",
)
divergence = Metric(
    _divergence, "divergence from retraining", "nats", 0, np.inf, "down", "task",
    "mean Kullback-Leibler divergence of the unlearnt model's probabilities from those of a model that never saw it",
)  # fmt: skip
