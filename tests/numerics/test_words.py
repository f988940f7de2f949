"""LaBo's and V2C's sums against loops, brute force, and an information that is counted elsewhere."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from isthmus.errors import DataError, OptionError
from isthmus.numerics import words

CLASSES, OWN, D = 3, 4, 6


def world(seed: int, lowest: float | None = 0.05) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(words (K, d), similarity (K, Y) from ``lowest`` up, owned (Y, K)): four words for each of three classes."""
    g = torch.Generator().manual_seed(seed)
    rows, table = torch.randn(CLASSES * OWN, D, generator=g), torch.randn(CLASSES * OWN, CLASSES, generator=g)
    if lowest is not None:
        table = table - table.min() + lowest
    return rows, table, torch.eye(CLASSES).repeat_interleave(OWN, 1)


def shares(table: np.ndarray) -> np.ndarray:
    """m(c) of the dossier, one cell at a time."""
    k, y = table.shape
    joint = [[table[c, j] / (y * sum(table[i, j] for i in range(k))) for j in range(y)] for c in range(k)]
    return np.array([sum(joint[c][j] * math.log(joint[c][j] / (sum(joint[c]) / y)) for j in range(y)) for c in range(k)])


def coverage(rows: np.ndarray, own: list[int], chosen: list[int]) -> float:
    """Facility location on cosines over a class's own words, as the definition says it."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return sum(max(0.0, max(float(unit[a] @ unit[b]) for b in chosen)) for a in own)


def test_similarity_is_the_mean_product_with_each_image_of_the_class() -> None:
    g = torch.Generator().manual_seed(0)
    e, rows, y = torch.randn(20, D, generator=g), torch.randn(5, D, generator=g), torch.arange(20) % 3
    found = words.by_class(e, rows, y, 3)
    for c, j in itertools.product(range(5), range(3)):
        own = [float(rows[c] @ e[i]) for i in range(20) if int(y[i]) == j]
        assert float(found[c, j]) == pytest.approx(sum(own) / len(own), abs=1e-5)
    with pytest.raises(DataError, match="none of class 3"):
        words.by_class(e, rows, y, 4)


@pytest.mark.parametrize("seed", range(4))
def test_shares_add_up_to_the_information_of_a_table_counted_elsewhere(seed: int) -> None:
    """scikit-learn counts I(C; Y) from a contingency table, here one of a billion draws; it is never negative."""
    _, table, _ = world(seed)
    found = words.information(table)
    np.testing.assert_allclose(found.numpy(), shares(table.double().numpy()), rtol=1e-6)
    drawn = np.rint(1e9 * (table / table.sum(0) / CLASSES).double().numpy()).astype(np.int64)
    assert float(found.sum()) == pytest.approx(mutual_info_score(None, None, contingency=drawn), abs=1e-7)
    assert float(found.sum()) >= 0
    assert float(words.information(torch.ones(4, 3)).sum()) == pytest.approx(0, abs=1e-12)


def test_classes_count_alike_however_large_their_similarities_are() -> None:
    _, table, _ = world(0)
    torch.testing.assert_close(words.information(table * torch.tensor([1.0, 50.0, 0.01])), words.information(table))


@pytest.mark.parametrize("low", [-3.0, 0.0])
def test_similarities_at_or_below_zero_make_no_nan(low: float) -> None:
    """The reference takes their logarithm. Here they are shifted until the least is a thousandth of the range."""
    _, table, _ = world(0)
    bad = table - table.min() + low
    found = words.information(bad)
    assert bool(found.isfinite().all()) and float(found.sum()) >= 0
    shifted = (bad - bad.min()).double() + float(bad.max() - bad.min()) / 1000
    np.testing.assert_allclose(found.numpy(), shares(shifted.numpy()), rtol=1e-4)
    assert bool(words.negative_entropy(bad).isfinite().all())
    assert bool(words.information(torch.zeros(4, 3)).isfinite().all())
    assert torch.equal(words.positive(table), table)


def test_negative_entropy_is_the_papers_and_ranks_otherwise() -> None:
    _, table, _ = world(1)
    t = table.double().numpy()
    p = t / t.sum(1, keepdims=True)
    want = [sum(p[c, j] * math.log(p[c, j]) for j in range(CLASSES)) for c in range(len(t))]
    np.testing.assert_allclose(words.negative_entropy(table).numpy(), want, rtol=1e-6)
    sharp = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.2, 0.1, 0.1], [4.0, 1.0, 1.0]]) + 1e-9
    assert words.negative_entropy(sharp)[:2].tolist() == pytest.approx([0, -math.log(3)], abs=1e-6)
    mi, entropy = words.information(sharp), words.negative_entropy(sharp)
    assert mi[3] > mi[2], "a word that is said more has the larger share"
    assert float(entropy[2]) > -math.log(3) and mi.argsort().tolist() != entropy.argsort().tolist()


@pytest.mark.parametrize("score", ["mi", "neg_entropy"])
@pytest.mark.parametrize("rule", ["submodular", "group_mi", "group_clip", "random"])
def test_what_is_chosen_are_candidates_within_budget_and_once(rule: words.Rule, score: words.Score) -> None:
    for seed, each in itertools.product(range(3), (1, 3, 4, 9)):
        rows, table, owned = world(seed, None)
        chosen = words.choose(table, rows, owned, each, rule=rule, score=score)
        for y, own in enumerate(chosen):
            assert len(own) == len(set(own)) == min(each, OWN)
            assert set(own) <= set(range(y * OWN, (y + 1) * OWN))


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("beta", [0.3, 5.0])
def test_greedy_reaches_its_share_of_the_best_that_brute_force_finds(beta: float, scale: float) -> None:
    for seed in range(5):
        rows, table, owned = world(seed)
        m = shares(table.double().numpy())
        assert (m >= 0).all(), "the bound is for a modular part that is not negative"

        def value(chosen: tuple[int, ...], own: list[int], m: np.ndarray = m, rows: torch.Tensor = rows) -> float:
            return scale * m[list(chosen)].sum() + beta * coverage(rows.numpy(), own, list(chosen))

        for y, found in enumerate(words.choose(table, rows, owned, 2, beta=beta, scale=scale)):
            own = list(range(y * OWN, (y + 1) * OWN))
            best = max(value(each, own) for each in itertools.combinations(own, 2))
            assert (1 - 1 / math.e) * best <= value(tuple(found), own) + 1e-9
            first = max(own, key=lambda k, own=own: value((k,), own))
            second = max(set(own) - {first}, key=lambda k, own=own, first=first: value((first, k), own))
            assert found == [first, second]


def test_without_coverage_it_is_the_top_of_the_score() -> None:
    for seed in range(4):
        rows, table, owned = world(seed)
        m = shares(table.double().numpy())
        tops = [sorted(range(y * OWN, (y + 1) * OWN), key=lambda k, m=m: -m[k])[:3] for y in range(CLASSES)]
        assert words.choose(table, rows, owned, 3, beta=0.0) == tops
        assert words.choose(table, rows, owned, 3, rule="group_mi") == tops


def test_without_score_it_is_facility_location() -> None:
    """With scale 0 the similarities decide nothing, and the choice is the plain greedy of coverage; with it they do."""
    moved = False
    for seed in range(6):
        rows, table, owned = world(seed)
        found = words.choose(table, rows, owned, 2, scale=0.0, beta=2.0)
        assert found == words.choose(table.flip(0), rows, owned, 2, scale=0.0, beta=2.0)
        for y, chosen in enumerate(found):
            own, e = list(range(y * OWN, (y + 1) * OWN)), rows.double().numpy()
            assert coverage(e, own, chosen[:1]) >= max(coverage(e, own, [k]) for k in own) - 1e-9
            assert coverage(e, own, chosen) >= max(coverage(e, own, [chosen[0], k]) for k in own) - 1e-9
        moved |= found != words.choose(table, rows, owned, 2, scale=1e7, beta=2.0)
    assert moved


def test_a_word_of_several_classes_is_a_candidate_of_the_first_alone() -> None:
    rows, table, owned = world(0)
    owned[:, 0] = 1.0
    owned[2, 5] = 1.0  # the second class's own already
    for rule in ("submodular", "group_mi", "group_clip", "random"):
        chosen = words.choose(table, rows, owned, 9, rule=rule)
        assert [sorted(own) for own in chosen] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_word_of_no_class_is_never_chosen_and_a_class_without_words_has_none() -> None:
    rows, table, owned = world(0)
    owned[0] = 0.0
    for rule in ("submodular", "group_mi", "group_clip", "random"):
        chosen = words.choose(table, rows, owned, 2, rule=rule)
        assert [len(own) for own in chosen] == [0, 2, 2]
        assert not {k for own in chosen for k in own} & {0, 1, 2, 3}
    with pytest.raises(DataError, match="written for a class"):
        words.choose(table, rows, torch.zeros(3, 12), 2)
    with pytest.raises(OptionError, match="at least 1"):
        words.choose(table, rows, owned, 0)


def test_the_clip_rule_takes_the_most_similar_to_any_class() -> None:
    rows, table, owned = world(3)
    for y, own in enumerate(words.choose(table, rows, owned, 2, rule="group_clip")):
        assert own == sorted(range(y * OWN, (y + 1) * OWN), key=lambda k: -float(table[k].max()))[:2]


def counted(e: np.ndarray, rows: np.ndarray, y: np.ndarray, classes: int, near: int, each: int, pool: int) -> list[list[int]]:
    """V2C with lists alone; whatever is equal goes to the lower index."""
    chosen = []
    for label in range(classes):
        mean = np.mean([e[i] for i in range(len(e)) if y[i] == label], axis=0)
        cosine = [float(e[i] @ mean / (np.linalg.norm(e[i]) * np.linalg.norm(mean))) for i in range(len(e))]
        count = dict.fromkeys(range(len(rows)), 0)
        for i in sorted(range(len(e)), key=lambda i, cosine=cosine: (-cosine[i], i))[:pool]:
            for k in sorted(range(len(rows)), key=lambda k, i=i: (-float(e[i] @ rows[k]), k))[:near]:
                count[k] += 1
        order = sorted(count, key=lambda k, count=count: (-count[k], k))[:each]
        chosen.append([k for k in order if count[k]])
    return chosen


@pytest.mark.parametrize("whole", [False, True])
def test_tokens_are_those_that_brute_force_counts(whole: bool) -> None:
    """With small whole numbers there are many ties, between words of one image and between counts of words."""
    for seed, (near, each, pool) in itertools.product(range(4), ((1, 3, 5), (3, 4, 10), (5, 20, 500))):
        pool = 500 if whole else pool  # images that are equally near are no ties of words
        draw = np.random.default_rng(seed)
        e, rows = (draw.integers(-2, 3, s).astype(float) if whole else draw.normal(size=s) for s in ((24, 4), (15, 4)))
        e[:, 0] += 3  # no image is 0, and no mean
        y = np.arange(24) % 3
        found = words.tokenised(*(torch.from_numpy(a) for a in (e, rows, y)), 3, near=near, each=each, pool=pool)
        assert found == counted(e, rows, y, 3, near, each, pool)


def test_words_alike_are_told_apart_by_their_order_alone() -> None:
    e = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).abs()
    found = words.tokenised(e, torch.ones(200, 3), torch.arange(50) % 2, 2, near=3, each=5)
    assert found == [[0, 1, 2], [0, 1, 2]]


def test_tokens_use_products_not_cosines() -> None:
    """An averaged word vector that is shorter, for prompts that disagree, is nearer to fewer images."""
    e, rows = torch.eye(2).repeat(4, 1) + 0.1, torch.tensor([[1.0, 0.9], [0.5, 0.0], [0.0, 0.5]])
    assert words.tokenised(e, rows, torch.arange(8) % 2, 2, near=1) == [[0], [0]]


def test_a_class_without_images_has_no_tokens() -> None:
    e = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    assert words.tokenised(e, torch.eye(3), torch.zeros(10, dtype=torch.long), 2, near=1)[1] == []
