"""Whole fits of methods without concept labels, against what their published scripts do, at equal result, one thread.

PCBM (get_cavs and train_pcbm of post-hoc-cbm): 170 concepts, 50 rows of each kind to fit and 50 to choose C among five
values, d = 512; then an elastic net on 5,000 rows and 10 classes. The incumbent loops over concepts and values of C with
scikit-learn's SVC and fits the head with SGDClassifier, as its code does; embedding pictures, which it repeats for each
concept, is left out on both sides.

LaBo (select_concept): similarities, mutual information, and the mixture of it with facility location, 200 classes of 500
candidates, 50 chosen. The incumbent multiplies every word with every image and averages by class, then adds to each class the
phrase of highest gain, all gains in every round, in NumPy: apricot, which LaBo calls, compiles anew in every fit, and no
ratio to that is worth a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import SGDClassifier
from sklearn.svm import SVC

from bench.cases import Row, case
from bench.roof import against
from isthmus import registry
from isthmus.data.table import Splits, Table
from isthmus.features import build
from isthmus.methods import pcbm
from isthmus.numerics import elastic_net, words
from isthmus.space import ConceptSpace, Task

Floats = NDArray[Any]
CONCEPTS, SIDE, DIM, ROWS, CLASSES, STRENGTH = 170, 50, 512, 5000, 10, 2e-4
LABELS, CANDIDATES, CHOSEN, IMAGES = 200, 500, 50, 20


def world(rows: int, concepts: int, classes: int, seed: int = 0) -> Splits:
    """Features with ``concepts`` noisy directions in them, and classes that depend on some."""
    draw = np.random.default_rng(seed)
    planes = draw.normal(size=(concepts, DIM)) / DIM**0.5
    parts: list[Table] = []
    space, task = (
        ConceptSpace.binary(f"concept {k}" for k in range(concepts)),
        Task.classes(f"class {y}" for y in range(classes)),
    )
    mixing = draw.normal(size=(classes, concepts)) * (draw.random((classes, concepts)) < 0.1)
    for count in (rows, max(400, 10 * SIDE), 200):
        z = draw.normal(size=(count, DIM)).astype(np.float32)
        score = z @ planes.T
        c = (score + 0.5 * draw.normal(size=score.shape) > 0).astype(np.float32)
        y = (score @ mixing.T + 0.3 * draw.normal(size=(count, classes))).argmax(1)
        parts.append(Table(torch.from_numpy(z), c=torch.from_numpy(c), y=torch.from_numpy(y), space=space, task=task))
    return Splits(*parts, name="bench")


def first(rows: torch.Tensor, count: int) -> torch.Tensor:
    """The first rows: the same sets on both sides."""
    return rows[:count]


def ours_pcbm(data: Splits) -> Any:
    """The registered method, its sets taken in order."""
    kept, pcbm.drawn = pcbm.drawn, first  # type: ignore[assignment]
    try:
        features = build("identity", dim=DIM)
        return registry.get("pcbm").make(features, data.space, data.task, bank="images", strength=STRENGTH).fit(data)
    finally:
        pcbm.drawn = kept


def published_pcbm(data: Splits, concepts: int) -> tuple[Floats, Floats, Floats]:
    """Directions (C, D), offsets (C,) of the first concepts at the C that is best on validation rows, as the scripts loop."""
    x, c = data.train.x.numpy(), data.train.c.numpy()  # type: ignore[union-attr]
    v, w = data.validation.x.numpy(), data.validation.c.numpy()  # type: ignore[union-attr]
    found: dict[float, list[tuple[Floats, float, float]]] = {}
    for value in pcbm.GRID:
        for k in range(concepts):
            yes, no = (np.flatnonzero(c[:, k] == kind)[:SIDE] for kind in (1, 0))
            one = SVC(C=value, kernel="linear").fit(x[np.r_[yes, no]], np.r_[np.ones(len(yes)), np.zeros(len(no))])
            right = one.predict(v) == w[:, k]
            score = (right[w[:, k] == 1].mean() + right[w[:, k] == 0].mean()) / 2
            found.setdefault(value, []).append((one.coef_[0], float(one.intercept_[0]), score))
    best = max(found, key=lambda value: (np.mean([score for _, _, score in found[value]]), -value))
    weight, bias = np.stack([each[0] for each in found[best]]), np.array([each[1] for each in found[best]])
    length = np.linalg.norm(weight, axis=1)
    return weight / length[:, None], bias / length, x


def published_head(projections: Floats, y: Floats) -> Any:
    """The elastic net as the script calls it."""
    return SGDClassifier(
        loss="log_loss", penalty="elasticnet", alpha=STRENGTH, l1_ratio=0.99, max_iter=10000, random_state=0
    ).fit(projections, y)


@case("pcbm", "a whole post-hoc CBM, 170 concepts, against its script's way, one thread")
def pcbm_rows(quick: bool) -> Iterator[Row]:
    """Time, directions, and the head's objective."""
    part, repeats = (10, 2) if quick else (34, 3)
    data = world(ROWS, CONCEPTS, CLASSES)
    y = data.train.y.numpy()  # type: ignore[union-attr]
    model = ours_pcbm(data)
    shown = model.bottleneck.score(data.train.x).numpy().astype(np.float64)

    def theirs() -> None:
        published_pcbm(data, part)

    def head() -> None:
        published_head(shown, y)

    incumbents = {"its loop over concepts": (theirs, CONCEPTS / part), "its head alone": (head, 1.0)}
    size = f"PCBM {CONCEPTS} concepts, {ROWS} x {DIM}"
    operations = len(pcbm.GRID) * CONCEPTS * (2 * SIDE) ** 2 * DIM
    note = "ours is loop and head together, against each of the two"
    limits = {"its loop over concepts": 1 / 4}
    yield from against(
        size, lambda: ours_pcbm(data), incumbents, repeats=repeats, operations=operations, limits=limits, note=note
    )
    weight, _, _ = published_pcbm(data, part)
    cosine = float((weight * model.bottleneck.rows[:part].numpy()).sum(1).min())
    yield Row(f"{size}: directions against SVC's", 1 - cosine, "1 - least cosine", limit=1e-3, note=f"{part} concepts")
    sgd = published_head(shown, y)
    both = {}
    for name, w, b in (
        ("ours", model.head.map.weight.numpy(), model.head.map.bias.numpy()),
        ("theirs", sgd.coef_, sgd.intercept_),
    ):
        how = {"family": "ovr", "classes": CLASSES, "l1_ratio": 0.99, "standardize": False}
        both[name], _ = elastic_net.certificate(shown, y, w.astype(np.float64), b.astype(np.float64), lam=STRENGTH, **how)
    yield Row(f"{size}: head's objective", both["ours"] / both["theirs"], "of SGDClassifier's", limit=1.0, beside=both)


def candidates(classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Words (K, d), images (n, d), labels (n,) and memberships (Y, K)."""
    g = torch.Generator().manual_seed(0)
    middle = torch.randn(classes, 1, DIM, generator=g)
    phrases = (middle + 1.4 * torch.randn(classes, CANDIDATES, DIM, generator=g)).flatten(0, 1)
    images = (middle + torch.randn(classes, IMAGES, DIM, generator=g)).flatten(0, 1) + 3
    owned = torch.eye(classes).repeat_interleave(CANDIDATES, 1)
    return torch.nn.functional.normalize(phrases + 1, dim=-1), images, torch.arange(classes).repeat_interleave(IMAGES), owned


def published_labo(phrases: Floats, images: Floats, classes: int, part: int) -> list[list[int]]:
    """Every word times every image, class means, information, and the plain greedy for the first ``part`` classes."""
    every = phrases @ images.T
    similarity = np.stack([every[:, y * IMAGES : (y + 1) * IMAGES].mean(1) for y in range(classes)], 1).astype(np.float64)
    joint = similarity / similarity.sum(0) / classes
    alone = joint.sum(1, keepdims=True)
    information = 1e7 * (joint * np.log(joint / (alone / classes))).sum(1)
    chosen: list[list[int]] = []
    for y in range(part):
        own = phrases[y * CANDIDATES : (y + 1) * CANDIDATES]
        own = own / np.linalg.norm(own, axis=1, keepdims=True)
        gram = own @ own.T
        best, taken = np.zeros(CANDIDATES), list[int]()
        for _ in range(CHOSEN):
            gain = information[y * CANDIDATES : (y + 1) * CANDIDATES] + np.maximum(gram - best, 0).sum(1)
            gain[taken] = -np.inf
            taken.append(int(gain.argmax()))
            best = np.maximum(best, gram[taken[-1]])
        chosen.append([y * CANDIDATES + k for k in taken])
    return chosen


@case("labo", "LaBo's whole selection, 200 classes of 500 candidates, against its script's way, one thread")
def labo_rows(quick: bool) -> Iterator[Row]:
    """Time, and the phrases chosen."""
    classes, part, repeats = (40, 40, 2) if quick else (LABELS, LABELS, 3)
    phrases, images, y, owned = candidates(classes)
    plain, seen = phrases.numpy(), images.numpy()

    def ours() -> list[list[int]]:
        return words.choose(words.by_class(images, phrases, y, classes), phrases, owned, CHOSEN)

    incumbents = {"its script's way": (lambda: published_labo(plain, seen, classes, part), 1.0)}
    size = f"LaBo {classes} x {CANDIDATES} -> {CHOSEN}"
    operations = classes * CANDIDATES**2 * DIM
    limits = {"its script's way": 1 / 3}
    yield from against(size, ours, incumbents, repeats=repeats, operations=operations, limits=limits)
    found, other = ours(), published_labo(plain, seen, classes, part)
    same = np.mean([a == b for a, b in zip(found, other, strict=True)])
    yield Row(f"{size}: rankings that differ", float(1 - same), "of the classes", limit=0.0)
