"""Which words describe which classes: LaBo's scores and choice, V2C's counts, on embeddings of images and words.

Yang et al. 2023, Language in a Bottle, section 3.2, and its code, which scores otherwise; He et al. 2025, V2C-CBM.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.errors import DataError, OptionError
from isthmus.numerics import select

Score = Literal["mi", "neg_entropy"]
Rule = Literal["submodular", "group_mi", "group_clip", "random"]


def by_class(e: Tensor, words: Tensor, y: Tensor, classes: int) -> Tensor:
    """(K, Y) mean product of each word (K, d) with the images e (n, d) of each class y (n,): words . class means.

    ``DataError`` where a class has no image.
    """
    counts = torch.bincount(y, minlength=classes)
    if bool((counts == 0).any()):
        raise DataError(f"words: expected images of every class, got none of class {int((counts == 0).nonzero()[0])}")
    means = torch.zeros(classes, e.shape[1], dtype=torch.double).index_add_(0, y.cpu(), e.double().cpu())
    return (words.double().cpu() @ (means / counts.cpu()[:, None]).T).float()


def positive(similarity: Tensor) -> Tensor:
    """Similarities above 0, as shares need them: shifted, where one is not, until the least is a thousandth of their range."""
    low, high = similarity.min(), similarity.max()
    return similarity if bool(low > 0) else similarity - low + (high - low).clamp(min=1e-12) / 1000


def information(similarity: Tensor) -> Tensor:
    """(K,) each word's share of the mutual information of words and classes, in nats; the sum is I(word; class) >= 0.

    From similarities (K, Y): P(c, y) = S(c, y) / (Y * sum over c of S(c, y)), so classes are equally likely (LaBo's code).
    """
    s = positive(similarity).double()
    joint = s / s.sum(0, keepdim=True) / s.shape[1]
    alone = joint.sum(1, keepdim=True)
    return (joint * (joint / (alone / s.shape[1])).log()).sum(1)


def negative_entropy(similarity: Tensor) -> Tensor:
    """(K,) sum over classes of p log p with p = S(c, y) / sum over y: 0 at best, -log Y for a word of all (LaBo)."""
    p = positive(similarity).double()
    p = p / p.sum(1, keepdim=True)
    return torch.xlogy(p, p).sum(1)


SCORES = {"mi": information, "neg_entropy": negative_entropy}


def unit_of(score: Tensor) -> float:
    """The factor that brings scores (K,) to the scale of coverage: one over their median distance from their median.

    LaBo's 1e7 does that for CLIP's raw products alone (it leaves about .4 there). Scores then differ by about 1, as do the sums
    of cosines that coverage gains, so that ``beta`` weighs two terms of one size. 1 where most scores are equal.
    """
    middle = float((score - score.median()).abs().median())
    return 1 / middle if middle > 1e-300 else 1.0


def choose(
    similarity: Tensor,
    words: Tensor,
    owned: Tensor,
    each: int,
    *,
    rule: Rule = "submodular",
    score: Score = "mi",
    beta: float = 1.0,
    scale: float | None = 1e7,
) -> list[list[int]]:
    """For each class at most ``each`` of the words it owns, in the order chosen; words (K, d), similarity (K, Y), owned (Y, K).

    'submodular': ``scale`` * score + ``beta`` * facility location on the words' cosines, greedily (``numerics.select``);
    'group_mi': highest information; 'group_clip': highest similarity with any class; 'random'. A word of several classes is a
    candidate of the first alone, as in LaBo. A class with no more words than ``each`` keeps all. ``scale`` None: ``unit_of``.
    """
    _sound(similarity, each)
    first = owned.argmax(0)
    index = owned.any(0).nonzero().flatten()
    if not len(index):
        raise DataError("words: expected some that were written for a class, got none; give {class: [phrases]}")
    worth = SCORES[score](similarity)
    worth = worth * (unit_of(worth) if scale is None else scale)
    groups = first[index]
    if rule == "submodular":
        unit = F.normalize(words.float().cpu(), dim=-1)
        found = select.by_group(unit[index], groups, each, scores=worth[index], weight=beta)
        return [index[found[y].index].tolist() if y in found else [] for y in range(len(owned))]
    order = {
        "group_mi": lambda k: (-information(similarity)[k]).argsort(stable=True),
        "group_clip": lambda k: (-similarity.max(1).values[k]).argsort(stable=True),
        "random": lambda k: torch.randperm(len(k)),
    }[rule]
    chosen: list[list[int]] = []
    for y in range(len(owned)):
        own = index[groups == y]
        chosen.append(own[order(own)[:each]].tolist())
    return chosen


def tokenised(
    e: Tensor, words: Tensor, y: Tensor, classes: int, *, near: int = 5, each: int = 50, pool: int = 500
) -> list[list[int]]:
    """For each class the ``each`` words most often among the ``near`` nearest (dot product) of its ``pool`` images.

    A class's pool are the images (n, d) with the highest cosine to its mean image, whatever their label. Words that no
    image came near are never chosen, a class without images has none; ties go to the lower index. An image's nearest words
    are found once.
    """
    _sound(e, min(each, near, pool))
    counts = torch.bincount(y, minlength=classes)
    means = torch.zeros(classes, e.shape[1], dtype=torch.double).index_add_(0, y, e.double()) / counts.clamp(min=1)[:, None]
    rank = F.normalize(e.double(), dim=-1) @ F.normalize(means, dim=-1).T
    nearest = torch.cat([_highest(part @ words.to(part).T, min(near, len(words))) for part in e.split(4096)])
    chosen: list[list[int]] = []
    for label in range(classes):
        rows = rank[:, label].argsort(descending=True, stable=True)[: pool if counts[label] else 0]
        count = torch.bincount(nearest[rows].flatten(), minlength=len(words))
        order = count.argsort(descending=True, stable=True)[:each]
        chosen.append(order[count[order] > 0].tolist())
    return chosen


def highest(similarity: Tensor, count: int = 5) -> Tensor:
    """(K,) mean of the ``count`` highest similarities (n, K) of each column (Label-free CBM's filter)."""
    return similarity.topk(min(count, len(similarity)), dim=0).values.mean(0)


def _sound(values: Tensor, least: int) -> None:
    if least < 1:
        raise OptionError(f"each, near, pool: expected at least 1, got {least}")
    if not bool(values.isfinite().all()):
        raise DataError("words: expected finite embeddings and similarities, got NaN or infinity")


def _highest(table: Tensor, k: int) -> Tensor:
    """(n, k) columns of the k highest entries of each row, in ascending order; of equal entries the lowest columns."""
    least = table.topk(k, dim=-1).values[:, -1:]
    above, equal = table > least, table == least
    taken = above | (equal & (equal.cumsum(-1) <= k - above.sum(-1, keepdim=True)))
    return taken.nonzero()[:, 1].view(len(table), k)
