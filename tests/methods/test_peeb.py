"""PEEB: a class is a sum over parts, each a cosine of one patch and one description; what can be edited, and what is silent."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus import edit, hub
from isthmus.bottlenecks.match import PartMatch
from isthmus.data.table import Splits, Table
from isthmus.errors import DataError
from isthmus.features import Features
from isthmus.methods.peeb import PartText
from isthmus.model import ConceptModel
from isthmus.space import ConceptSpace
from tests.language import fit, identity, plan, scene, unlabelled

J, D, P = 5, 4, 3  # patches, their width, parts


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def patched(text: int = 12, seed: int = 0) -> tuple[Splits, Features]:
    """Rows of five patches; each shows one part of its class somewhere, the rest is noise."""
    data, g = unlabelled(scene(text=text)), torch.Generator().manual_seed(seed)
    look = torch.randn(3, P, D, generator=g)

    def rows(table: Table) -> Table:
        x = 0.3 * torch.randn(len(table), J, D, generator=g)
        for part in range(P):
            x[torch.arange(len(table)), torch.randint(J, (len(table),), generator=g)] += 2 * look[table.y, part]
        return table.replace(x=x.flatten(1))

    data = Splits(*(rows(getattr(data, n)) for n in ("train", "validation", "test")))
    features = identity(data)
    features.patches = J
    return data, features


def model(seed: int = 0, **options: float) -> tuple[ConceptModel, Splits]:
    data, features = patched()
    return fit("peeb", data, features=features, seed=seed, **({"epochs": 3, "contrastive_epochs": 3} | options)), data


def seen(part: PartMatch, row: Tensor) -> tuple[np.ndarray, list[int]]:
    """Unit embeddings (P, E) of one row's parts and the patches they took, by loops over parts and patches."""
    x = row.double().numpy().reshape(J, D)
    mean, spread = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    h = (x - mean) / np.sqrt(spread + part.norm.eps) * part.norm.weight.double().numpy() + part.norm.bias.double().numpy()
    found, taken = [], []
    for p in range(P):
        score = [float(h[j] @ part.query.weight[p].double().numpy() + float(part.query.bias[p])) for j in range(J)]
        taken.append(int(np.argmax(score)))
        v = h[taken[-1]]
        for layer in (part.embed[0], part.embed[2], part.embed[4]):
            v = gelu(layer.weight.double().numpy() @ v + layer.bias.double().numpy())  # after the last one too
        found.append(v / np.linalg.norm(v))
    return np.array(found), taken


def test_logits_are_the_diagonal_of_every_part_with_every_description() -> None:
    """The full (B, P, C P) product first, its diagonal then, summed over parts; ours multiplies what matches alone."""
    made, data = model(scale=3.0)
    part, x = made.bottleneck, data.test.x[:20]
    texts = {
        (c.owner, c.part): (v / v.norm()).double().numpy() for c, v in zip(data.space.concepts, data.space.vectors, strict=True)
    }
    parts = [f"part {p}" for p in range(P)]
    stack = np.array([[texts[y, name] for name in parts] for y in "abc"])
    logits = made(x).logits.numpy()
    for i, row in enumerate(x):
        v, taken = seen(part, row)
        full = np.einsum("pe,cqe->pcq", v, stack)
        want = [3 * sum(full[p, c, p] for p in range(P)) for c in range(3)]
        np.testing.assert_allclose(logits[i], want, atol=1e-4)
        assert part.chosen(x)[i].argmax(0).tolist() == taken
        assert abs(logits[i]).max() <= 3 * P
    wrong = np.einsum("pe,cqe->c", v, stack)
    assert np.abs(3 * wrong - logits[-1]).max() > 0.01, "parts do not mix"


def test_the_last_layer_has_its_gelu() -> None:
    """No embedding has a component below -.17 of before it was normalised: that is GELU's least value."""
    made, _ = model()
    assert isinstance(made.bottleneck.embed[-1], torch.nn.GELU)
    raw = made.bottleneck.embed(torch.randn(500, D) * 5)
    assert float(raw.min()) >= -0.17 - 1e-3


def test_the_choice_is_hard_at_inference_and_passes_a_gradient_in_training() -> None:
    made, data = model()
    part, z = made.bottleneck, data.test.x[:9]
    hard = part.eval().chosen(z)
    assert set(hard.unique().tolist()) == {0.0, 1.0} and bool((hard.sum(1) == 1).all())
    two = torch.zeros(1, J, D)
    two[0, 2] = torch.tensor([3.0, -1, 2, 0])
    assert part.chosen(two.flatten(1)).argmax(1).shape == (1, P), "two parts may take one patch"
    part.train().requires_grad_(True)
    torch.testing.assert_close(part.chosen(z).detach(), hard)
    part(z).values.sum().backward()
    assert float(part.query.weight.grad.abs().max()) > 0
    score = part.query(part.norm(z.unflatten(-1, (J, D))))
    soft = torch.autograd.grad((score.softmax(1) ** 2).sum(), part.query.weight, retain_graph=True)[0]
    straight = torch.autograd.grad((2 * score.softmax(1).detach() * part.chosen(z)).sum(), part.query.weight)[0]
    torch.testing.assert_close(soft, straight)


def test_a_better_patch_elsewhere_changes_nothing_but_which_patch() -> None:
    """Order of patches is free: a query picks by content."""
    made, data = model()
    x = data.test.x.unflatten(1, (J, D))
    torch.testing.assert_close(made(x.flip(1).flatten(1)).logits, made(x.flatten(1)).logits)


def test_editing_a_phrase_changes_the_logit_of_its_class_alone() -> None:
    made, data = model()
    before, k = made(data.test.x).logits, data.space.names.index("b 1")
    made.bottleneck.write_text(torch.tensor([k]), torch.randn(1, 12, generator=torch.Generator().manual_seed(5)))
    moved = made(data.test.x).logits - before
    assert torch.equal(moved[:, [0, 2]], torch.zeros(60, 2))
    assert float(moved[:, 1].abs().min()) > 0
    v = torch.stack([torch.tensor(seen(made.bottleneck, row)[0][1]) for row in data.test.x]).float()
    old = torch.nn.functional.normalize(data.space.vectors[k], dim=-1)
    torch.testing.assert_close(moved[:, 1], v @ (made.bottleneck.rows[k] - old), atol=1e-4, rtol=1e-3)
    assert float(made.bottleneck.rows[k].norm()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(DataError, match=r"descriptor vectors: expected \(n, 12\), got \(1, 5\)"):
        made.bottleneck.write_text(torch.tensor([k]), torch.ones(1, 5))


def test_removing_a_part_removes_its_term() -> None:
    """A sum, not a mean: what is left is as large as it was."""
    made, data = model()
    before = made(data.test.x)
    left = [k for k, concept in enumerate(data.space.concepts) if concept.part != "part 1"]
    gone = [k for k in range(9) if k not in left]
    term = torch.stack([before.concepts.values[:, k] for k in gone], 1)
    made.keep(left)
    torch.testing.assert_close(made(data.test.x).logits, before.logits - term, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("order", [[4, 3, 1, 0, 8, 6], [0, 3, 6], [7, 2]])
def test_a_model_without_a_part_or_in_another_order_is_saved_and_read_back(order: list[int], tmp_path) -> None:
    """The parts, too, stay in the order in which they were learnt; the text space has a width of its own."""
    data, features = patched(text=6)
    made = fit("peeb", data, features=features, epochs=1, contrastive_epochs=1)
    made.keep(order)
    again = hub.load(hub.save(made, tmp_path / "model"), features=features)
    assert torch.equal(again(data.test.x).logits, made(data.test.x).logits)
    assert torch.equal(again(data.test.x).concepts.values, made(data.test.x).concepts.values)
    for read in (made, again):
        named = [read.bottleneck.parts[int(i)] for i in read.bottleneck.owner]
        assert named == [concept.part for concept in read.space.concepts]


@pytest.mark.parametrize("text", ["not visible", "Not Visible ", "N/A"])
def test_a_description_that_says_nothing_counts_nought(text: str) -> None:
    data, features = patched()
    concepts = tuple(replace(c, text=text if c.name == "a 2" else c.text) for c in data.space.concepts)
    quiet = ConceptSpace(concepts, data.space.vectors)
    quiet_data = Splits(*(getattr(data, n).replace(space=quiet) for n in ("train", "validation", "test")))
    made = fit("peeb", quiet_data, features=features, epochs=2, contrastive_epochs=2)
    out, k = made(data.test.x), 2
    assert float(made.head.weights[:, k].abs().max()) == 0
    assert float(made.head.contributions(out.concepts)[:, :, k].abs().max()) == 0
    torch.testing.assert_close(out.logits[:, 0], out.concepts.values[:, 0] + out.concepts.values[:, 1])


@pytest.mark.filterwarnings("ignore:retext:UserWarning")
def test_a_silent_description_that_is_edited_speaks_and_can_be_silenced_again() -> None:
    data, features = patched()
    concepts = tuple(replace(c, text="not visible" if c.name == "a 2" else c.text) for c in data.space.concepts)
    quiet = ConceptSpace(concepts, data.space.vectors)
    parts = [getattr(data, n).replace(space=quiet) for n in ("train", "validation", "test")]
    made = fit("peeb", Splits(*parts), features=features, epochs=1, contrastive_epochs=1)
    told = edit.retext(made, "a 2", "a red tail", vector=torch.ones(12), why="it can be seen")
    out, k = told(data.test.x), told.space.names.index("a 2")
    assert float(made.head.weights[0, k]) == 0 and float(told.head.weights[0, k]) == 1
    torch.testing.assert_close(out.logits[:, 0] - made(data.test.x).logits[:, 0], out.concepts.values[:, k])
    again = edit.retext(told, "a 2", "Not visible", vector=torch.ones(12), why="it cannot")
    assert float(again.head.weights[:, k].abs().max()) == 0


@pytest.mark.parametrize("missing", [False, True])
def test_parts_and_texts_are_matched_both_ways_by_class_and_part(missing: bool) -> None:
    """Once a softmax, not twice, and the other way along columns: the two slips of the release are a different number."""
    data, features = patched()
    made = plan("peeb", data, features=features).model.requires_grad_(False)
    batch = data.train.batch(data.train.x)
    picked = torch.tensor([0, 3, 6, 9] if missing else [0, 1, 3, 5, 8])  # all of class a, or a, b, a, c, c
    rows = type(batch)(batch.x[picked], None, batch.y[picked], batch.space)
    found = PartText(made)(made(rows.x), rows, data.task)["part-text"]
    v = np.array([seen(made.bottleneck, row)[0] for row in rows.x]).reshape(-1, 12)
    labels = [(int(y), p) for y in rows.y for p in range(P)]
    classes = sorted({y for y, _ in labels})
    texts = [(y, p) for y in classes for p in range(P)]
    t = np.array([torch.nn.functional.normalize(data.space.vectors[3 * y + p], dim=-1).double().numpy() for y, p in texts])
    s = v @ t.T
    rows_ce = [-(s[i, texts.index(own)] - np.log(np.exp(s[i]).sum())) for i, own in enumerate(labels)]
    columns_ce = []
    for j, own in enumerate(texts):
        each = [-(s[i, j] - np.log(np.exp(s[:, j]).sum())) for i in range(len(labels)) if labels[i] == own]
        columns_ce.append(np.mean(each))
    want = (np.mean(rows_ce) + np.mean(columns_ce)) / 2
    assert float(found) == pytest.approx(want, abs=1e-5)
    doubled = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    double = np.mean([-(doubled[i, texts.index(o)] - np.log(np.exp(doubled[i]).sum())) for i, o in enumerate(labels)])
    assert abs(double - np.mean(rows_ce)) > 1e-3


def test_it_learns_and_texts_stay_frozen() -> None:
    data, features = patched()
    made = fit("peeb", data, features=features, epochs=40, contrastive_epochs=40, lr=0.01, patience=0)
    want = torch.nn.functional.normalize(data.space.vectors, dim=-1)
    assert torch.equal(made.bottleneck.rows, want)
    assert float((made(data.test.x).logits.argmax(-1) == data.test.y).float().mean()) > 0.7
    assert {row["stage"] for row in made.history} == {"parts and texts", "classes"}


def test_patches_that_do_not_divide_the_columns_are_refused() -> None:
    data, features = patched()
    features.patches = 7
    with pytest.raises(DataError, match="expected features of 7 patches alike, got 20 columns"):
        plan("peeb", data, features=features)


def test_a_batch_without_a_described_class_is_no_division_by_nought() -> None:
    """Rows of one class in batches of one; only another class has descriptions."""
    data = unlabelled(scene())
    kept = [k for k, concept in enumerate(data.space.concepts) if concept.owner == "a"]
    space = data.space.keep(kept)
    data = Splits(*(getattr(data, n).replace(space=space) for n in ("train", "validation", "test")))
    model = fit("peeb", data, epochs=1, contrastive_epochs=1, batch_size=1)
    logits = model(data.test.x).logits
    assert bool(logits.isfinite().all()) and logits.argmax(-1).unique().tolist() == [0], "the others are never answered"
