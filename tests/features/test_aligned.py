"""The affine map into a text space: exact where there is one, what gradient steps find, and honest on pairs held out."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from isthmus import hub, registry
from isthmus.errors import DataError
from isthmus.features import aligned, build
from tests.language import scene, unlabelled

D, E = 7, 4


def affine(rows: int = 200, noise: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, their targets W z + b (and noise), W and b; features of unequal scales, far from 0."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, D, generator=g) * torch.linspace(0.2, 3, D) + 5
    w, b = torch.randn(E, D, generator=g), torch.randn(E, generator=g)
    return z, z @ w.T + b + noise * torch.randn(rows, E, generator=g), w, b


@pytest.mark.parametrize("strength", [0.0, 1e-12])
@pytest.mark.parametrize("rows", [200, 8])
def test_an_affine_map_is_found_again_where_the_ridge_vanishes(strength: float, rows: int) -> None:
    """To 1e-6 of its size, in float64, bias and all."""
    z, _, w, b = (m.double() for m in affine(rows))
    found = aligned.ridge(z, z @ w.T + b, strength)
    for got, want in zip(found, (w, b), strict=True):
        assert float((got.double() - want).abs().max()) < 1e-6 * float(w.abs().max())


@pytest.mark.parametrize("rows", [200, 5])
@pytest.mark.parametrize("strength", [1e-3, 1.0, 50.0])
def test_a_ridge_is_scikit_learns_with_weights_or_without(rows: int, strength: float) -> None:
    """Its alpha is strength * mean variance * the sum of weights; more columns than rows take the other way round."""
    z, t, _, _ = affine(rows, noise=1.0)
    for weight in (None, torch.rand(rows, generator=torch.Generator().manual_seed(1)) + 0.1):
        share = np.full(rows, 1 / rows) if weight is None else (weight / weight.sum()).double().numpy()
        x = z.double().numpy()
        variance = float((share[:, None] * (x - share @ x) ** 2).sum() / D)
        other = Ridge(alpha=strength * variance, tol=1e-12).fit(x, t.double().numpy(), share)
        w, b = aligned.ridge(z, t, strength, weight)
        np.testing.assert_allclose(w.numpy(), other.coef_, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(b.numpy(), other.intercept_, rtol=1e-3, atol=2e-3)


def test_a_scale_of_all_features_changes_no_answer() -> None:
    """The strength is a share of their variance: one scalar a side, as the paper scales."""
    z, t, _, _ = affine(noise=1.0)
    w, b = aligned.ridge(z, t, 0.3)
    v, a = aligned.ridge(100 * z, t, 0.3)
    torch.testing.assert_close(100 * v, w, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_the_papers_gradient_steps_end_there_and_its_codes_bias_does_not() -> None:
    """min mean (W' c_s z + b' - c_t t)^2 by momentum steps; back by W' c_s / c_t and b' / c_t, not b' c_s / c_t."""
    _, _, slope, place = affine()
    z = 0.4 * torch.randn(200, D, generator=torch.Generator().manual_seed(1)) + 0.3
    t = z @ slope.T + place + 0.3 * torch.randn(200, E, generator=torch.Generator().manual_seed(2))
    c_s, c_t = (math.sqrt(4.5 / float(m.var())) for m in (z, t))
    assert abs(c_s - 1) > 0.3
    w = torch.zeros(E, D, requires_grad=True)
    b = torch.zeros(E, requires_grad=True)
    step = torch.optim.SGD([w, b], lr=0.1, momentum=0.9)
    for _ in range(500):
        loss = (c_s * z @ w.T + b - c_t * t).square().sum(1).mean() / 8
        step.zero_grad()
        loss.backward()
        step.step()
    found, bias = aligned.ridge(z, t, 0.0)
    torch.testing.assert_close(w.detach() * c_s / c_t, found, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(b.detach() / c_t, bias, atol=5e-3, rtol=2e-3)
    assert float((b.detach() * c_s / c_t - bias).abs().max()) > 0.05
    made = z @ found.T + bias
    r2 = 1 - float((made - t).square().mean() / (t - t.mean(0)).square().mean())
    whole = aligned.Fit(found, bias, torch.zeros(E), 0.0, None)
    assert aligned.quality(whole, (found, bias), z, t)["r2"] == pytest.approx(r2, abs=1e-5)


def test_quality_is_r2_and_how_often_the_own_caption_is_nearest_each_caption_counting_alike() -> None:
    texts = torch.eye(3)
    t = texts[[0, 1, 2, 0]]
    z = torch.tensor([[0.9, 0, 0], [0, 2, 1.0], [0.3, 0.2, 0.1], [0.5, 0.6, 0]])
    plain = (torch.eye(3), torch.zeros(3))
    found = aligned.quality(aligned.Fit(*plain, torch.zeros(3), 1.0, None), plain, z, t)
    assert found["retrieval"] == pytest.approx((0.5 + 1 + 0) / 3) and found["chance"] == pytest.approx(1 / 3)
    error = np.mean([(float(z[i, j]) - float(t[i, j])) ** 2 for i in range(4) for j in range(3)])
    spread = np.mean([(float(t[i, j]) - float(t[:, j].mean())) ** 2 for i in range(4) for j in range(3)])
    assert found["r2"] == pytest.approx(1 - error / spread, abs=1e-6)


@pytest.mark.parametrize("whiten", [0.1, 10.0])
def test_whitening_is_the_closed_form_of_an_embarrassingly_simple_approach(whiten: float) -> None:
    """x' (X'X + g)^-1 X' Y S (S'S + l)^-1 s, with S the different texts from their mean: what a row says of a text s."""
    z, _, _, _ = affine(60)
    texts = torch.randn(9, E, generator=torch.Generator().manual_seed(4)) + 2
    t = texts[torch.arange(60) % 9]
    plain = aligned.ridge(z, t, 0.2)
    w, b, center = aligned.whitened(plain, z, t, whiten)
    x, y, s = z.double().numpy(), t.double().numpy(), texts.double().numpy()
    x, mean = x - x.mean(0), x.mean(0)
    s = s - s.mean(0)
    left = np.linalg.inv(x.T @ x / 60 + 0.2 * (x**2).mean() * np.eye(D)) @ x.T @ (y - y.mean(0)) / 60
    right = np.linalg.inv(s.T @ s / 9 + whiten * (s**2).mean() * np.eye(E))
    own = z.double().numpy() - mean
    want = (own @ left + y.mean(0) - texts.double().numpy().mean(0)) @ right @ s.T
    e = z @ w.T + b
    found = (e @ (texts - center).T).double().numpy()
    np.testing.assert_allclose(found / np.abs(found).max(), want / np.abs(want).max(), atol=1e-4)
    assert float(e.square().sum(1).mean().sqrt()) == pytest.approx(10, rel=1e-3)
    torch.testing.assert_close(center, texts.mean(0))


def test_held_out_rows_choose_strength_and_whitening_and_the_map_is_of_all_rows() -> None:
    z, _, _, _ = affine(60, noise=0.0)
    texts = torch.randn(15, E, generator=torch.Generator().manual_seed(4))
    t = texts[torch.arange(60) % 15]
    z = t @ torch.randn(E, D, generator=torch.Generator().manual_seed(5)) + 2 * torch.randn(
        z.shape, generator=torch.Generator().manual_seed(6)
    )
    held = list(range(0, 60, 4))
    inside = [i for i in range(60) if i not in held]
    options = [(s, v) for s in (1e-4, 0.1, 1.0, 100.0) for v in (None, 0.1, 10.0)]

    def made(strength: float, whiten: float | None, rows: list[int]) -> aligned.Fit:
        plain = aligned.ridge(z[rows], t[rows], strength)
        if whiten is None:
            return aligned.Fit(*plain, torch.zeros(E), strength, None)
        return aligned._fit(plain, z[rows], t[rows], strength, whiten)

    scores = {}
    for strength, whiten in options:
        plain = aligned.ridge(z[inside], t[inside], strength)
        scores[strength, whiten] = aligned.quality(made(strength, whiten, inside), plain, z[held], t[held])
    best = max(options, key=lambda o: (scores[o]["retrieval"], scores[o]["ridge_r2"]))
    assert len({each["retrieval"] for each in scores.values()}) > 2
    found = aligned.fit(z, t, held, strengths=(1e-4, 0.1, 1.0, 100.0), whiten=(None, 0.1, 10.0), balanced=False)
    assert (found.strength, found.whiten) == best
    assert {name: getattr(found, name) for name in scores[best]} == pytest.approx(scores[best])
    want = made(*best, list(range(60)))
    for name in ("weight", "bias", "center"):
        torch.testing.assert_close(getattr(found, name), getattr(want, name))
    with pytest.raises(DataError, match="rows to fit and rows held out"):
        aligned.fit(z, t, list(range(60)))
    with pytest.raises(DataError, match="as many texts"):
        aligned.fit(z, t[:10], held)


def test_balanced_gives_every_different_caption_the_same_weight() -> None:
    """A caption of ninety rows draws the map no more than one of ten."""
    g = torch.Generator().manual_seed(0)
    texts = torch.randn(2, E, generator=g)
    code = torch.tensor([0] * 90 + [1] * 10)
    z = torch.randn(100, 1, generator=g)
    for balanced, want in ((True, texts.mean(0)), (False, 0.9 * texts[0] + 0.1 * texts[1])):
        found = aligned.fit(z, texts[code], [0, 95], strengths=(1e9,), whiten=(None,), balanced=balanced)
        torch.testing.assert_close(found.bias, want, atol=1e-3, rtol=1e-3)


def told(texts: Sequence[str]) -> Tensor:
    """A text encoder of four columns that knows nothing but the letters."""
    return torch.stack([torch.randn(E, generator=torch.Generator().manual_seed(sum(map(ord, t)))) for t in texts])


@pytest.mark.parametrize("different", [2, 19, 20])
def test_whole_captions_are_held_out_where_there_are_twenty(different: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z, _, _, _ = affine(60)
    captions = [f"caption {chr(97 + i % different)}" for i in range(60)]
    seen: list[set[int]] = []
    fit = aligned.fit
    monkeypatch.setattr(aligned, "fit", lambda z, t, held, **more: (seen.append(set(held)), fit(z, t, held, **more))[1])
    made = aligned.align(build("identity", dim=D), z, captions, told, pairs="ours", weak=True, seed=3)
    inside = {captions[i] for i in range(60) if i not in seen[0]}
    outside = {captions[i] for i in seen[0]}
    assert made.card["held_out"] == ("captions" if different == 20 else "rows")
    assert (not inside & outside) is (different == 20)
    assert len(seen[0]) == 12  # a fifth, of twenty captions of three rows or of sixty rows
    card = {"pairs": "ours", "weak": True, "rows": 60, "captions": different}
    assert {name: made.card[name] for name in card} == card
    assert not any(p.requires_grad for p in made.parameters())
    with pytest.raises(DataError, match="expected 60 captions, one for each row, got 3"):
        aligned.align(build("identity", dim=D), z, captions[:3], told, pairs="ours")


def test_features_pass_through_and_the_map_is_beside_them() -> None:
    z, _, _, _ = affine(60)
    made = aligned.align(build("identity", dim=D), z, [f"c{i % 6}" for i in range(60)], told, pairs="ours")
    assert torch.equal(made(z), z) and made.dim == D and made.shared.dim == E
    torch.testing.assert_close(made.shared(z), z @ made.shared.weight.T + made.shared.bias)


def test_a_model_on_aligned_features_is_read_back_map_card_and_all(tmp_path: Path) -> None:
    """No option has to be given again: the recipe says the backbone, the text space and what the map was learnt from."""
    data = unlabelled(scene(text=E))
    captions = [data.task.names[int(y)] for y in data.train.y]
    made = aligned.align(build("identity", dim=12), data.train.x, captions, told, pairs="names", weak=True)
    model = registry.get("text2concept").make(made, data.space, data.task, epochs=2).fit(data)
    again = hub.load(hub.save(model, tmp_path / "model"))
    assert torch.equal(again(data.test.x).logits, model(data.test.x).logits)
    assert again.features.card == made.card and again.features.card["weak"]


def test_the_r2_that_is_reported_is_that_of_the_map_in_use() -> None:
    """Whitened predictions against texts whitened alike, by a metric worked out anew; the ridge's own stands beside."""
    z, _, _, _ = affine(60, noise=1.0)
    texts = torch.randn(15, E, generator=torch.Generator().manual_seed(4))
    t = texts[torch.arange(60) % 15]
    z = t @ torch.randn(E, D, generator=torch.Generator().manual_seed(5)) + 0.5 * torch.randn(60, D)
    held = list(range(0, 60, 4))
    inside = [i for i in range(60) if i not in held]
    found = aligned.fit(z, t, held, strengths=(0.1,), whiten=(1.0,), balanced=False)
    w, b = aligned.ridge(z[inside], t[inside], 0.1)
    seen = torch.unique(t[inside], dim=0).double()
    center = seen.mean(0)
    spread = (seen - center).T @ (seen - center) / len(seen)
    metric = torch.linalg.inv(spread + float(spread.diagonal().mean()) * torch.eye(E))
    share = lambda a, b: float(1 - (a - b).square().mean() / (b - b.mean(0)).square().mean())  # noqa: E731
    plain = z[held] @ w.T + b
    assert found.ridge_r2 == pytest.approx(share(plain, t[held]), abs=1e-4)
    want = share((plain.double() - center) @ metric.T, (t[held].double() - center) @ metric.T)
    assert found.r2 == pytest.approx(want, abs=1e-3) and abs(found.r2 - found.ridge_r2) > 0.01


@pytest.mark.parametrize("bad", ["one caption", "nan", "no strength"])
def test_what_cannot_be_aligned_is_said_in_one_line(bad: str) -> None:
    z, t, _, _ = affine(40)
    if bad == "one caption":
        t = t[:1].expand(40, -1)
    elif bad == "nan":
        z = z.clone()
        z[3, 0] = torch.nan
    with pytest.raises(DataError, match="one text for all rows" if bad == "one caption" else "expected finite features"):
        aligned.fit(z, t, [0, 1], strengths=() if bad == "no strength" else (1.0,))


FRESH = """
import json, socket, sys
import torch

def refuse(*a, **k):
    raise AssertionError("network")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import isthmus as im
torch.set_num_threads(1)
model = im.load(sys.argv[1])
new = im.edit.retext(model, model.space.names[0], "other words", vector=torch.ones(4), why="a better text")
im.save(new, sys.argv[2])
x = torch.linspace(-1, 1, 24).view(2, 12)
print(json.dumps({"was": model(x).logits.tolist(), "now": new(x).logits.tolist()}))
"""


def alone(*words: str, code: int = 0) -> str:
    """What a process of its own says: nothing that this one imported is there."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "default"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stdout


def test_a_process_that_never_heard_of_words_reads_and_edits_the_model(tmp_path: Path) -> None:
    data = unlabelled(scene(text=E))
    captions = [data.task.names[int(y)] for y in data.train.y]
    made = aligned.align(build("identity", dim=12), data.train.x, captions, told, pairs="names", weak=True)
    model = registry.get("pcbm").make(made, data.space, data.task).fit(data)
    hub.save(model, tmp_path / "model")
    said = json.loads(alone("-c", FRESH, str(tmp_path / "model"), str(tmp_path / "edited")))
    x = torch.linspace(-1, 1, 24).view(2, 12)
    torch.testing.assert_close(torch.tensor(said["was"]), model(x).logits)
    torch.testing.assert_close(torch.tensor(said["now"]), hub.load(tmp_path / "edited")(x).logits)
    assert said["was"] != said["now"]


def test_the_command_line_reads_scores_and_edits_what_it_fitted_on_words(tmp_path: Path, isthmus_data: Any) -> None:
    """Each command is a process of its own, as on a terminal; photos, real words, no network."""
    isthmus_data("features/cifar10_8k_mnv2.npz")
    pytest.importorskip("tokenizers")
    words = Path(__file__).parents[2] / "claims" / "words" / "cifar10.json"
    run, edited = str(tmp_path / "run"), str(tmp_path / "edited")
    command = ("-W", "default", "-m", "isthmus.cli")
    fit = ("fit", "labo", "cifar10_8k:inputs=mobilenetv2", "--concepts", str(words), "--set", "epochs=2", "--out", run)
    alone(*command, *fit)
    assert "accuracy" in alone(*command, "evaluate", run)
    name = next(iter(json.loads(words.read_text()).values()))[0]
    how = ("--encoder", "sentence_encoder", "--why", "plainer", "--out", edited)
    alone(*command, "edit", run, "retext", name, "two long wings", *how)
    assert "two long wings" in alone(*command, "edit", edited, "history")
    (entry,) = json.loads(alone(*command, "edit", edited, "history", "--json"))["edits"]
    assert "encoder" not in entry["what"], "it is the encoder of the fit, and known as such"
    assert json.loads(alone("-c", "import sys, isthmus as im; print(len(im.load(sys.argv[1]).space))", edited)) > 90


def test_a_run_on_classes_kept_apart_is_scored_on_these_alone(tmp_path: Path, isthmus_data: Any) -> None:
    """The run notes its classes; whatever reads its data again sees no other row, and the report of a comparison says so."""
    isthmus_data("features/cifar10_8k_mnv2.npz")
    pytest.importorskip("tokenizers")
    words = Path(__file__).parents[2] / "claims" / "words" / "photos.txt"
    run, data = str(tmp_path / "run"), "cifar10_8k:inputs=mobilenetv2"
    command = ("-W", "default", "-m", "isthmus.cli")
    kept = [each for name in ("frog", "ship", "truck") for each in ("--unseen", name)]
    alone(*command, "fit", "zeroshot", data, "--concepts", str(words), *kept, "--out", run)
    said = json.loads(alone(*command, "evaluate", run, "--json"))
    assert said["data"]["rows"]["test"] == 600 and said["scores"]["accuracy"]["value"] > 0.5, "chance: .333"
    again = json.loads(alone(*command, "evaluate", run, data, "--json"))
    assert again["scores"]["accuracy"] == said["scores"]["accuracy"]
    out = str(tmp_path / "out")
    how = ("--method", "zeroshot", "--seeds", "1", "--budget", "1", "--audit", "--out", out, "--json")
    made = json.loads(alone(*command, "compare", data, "--concepts", str(words), *kept, *how))
    assert made["words"]["unseen"] == ["frog", "ship", "truck"] and made["words"]["aligned"]["rows"] < 5100
    assert made["rows"][1]["name"] == "zeroshot" and made["rows"][1]["audit"]
    with pytest.raises(AssertionError, match="unseen: expected two classes or more on either side"):
        alone(*command, "fit", "zeroshot", data, "--concepts", str(words), "--unseen", "frog", "--out", run + "2")


@pytest.mark.parametrize("captions", [4, 60])
def test_whole_groups_are_held_out_or_set_aside(captions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve rows of each patient, who all look alike: what chooses the map has seen none of those that judge it."""
    g = torch.Generator().manual_seed(0)
    patient = torch.arange(240) // 12
    z = torch.randn(20, 8, generator=g)[patient] + 0.01 * torch.randn(240, 8, generator=g)
    said = [f"caption {int(i)}" for i in torch.randint(captions, (240,), generator=g)]
    seen: dict[str, Any] = {}
    real = aligned.fit

    def fit(z: Tensor, t: Tensor, held: list[int], *, aside: list[int], **how: Any) -> Any:
        seen.update(held=held, aside=aside)
        return real(z, t, held, aside=aside, **how)

    monkeypatch.setattr(aligned, "fit", fit)
    names = [f"p{int(i)}" for i in patient]
    card = aligned.align(build("identity", dim=8), z, said, told, pairs="", groups=names).card
    fitted = set(range(240)) - set(seen["held"]) - set(seen["aside"])
    assert not {names[i] for i in fitted} & {names[i] for i in seen["held"]} and len(fitted) > 100
    assert card["held_out"] == "groups" and card["rows"] == 240
    own = [f"p{i}" for i in range(240)]
    assert aligned.align(build("identity", dim=8), z, said, told, pairs="", groups=own).card["held_out"] == (
        "captions" if captions > 20 else "groups"
    )
    one = aligned.align(build("identity", dim=8), z, said, told, pairs="", groups=["p"] * 240).card
    assert one["held_out"] == aligned.align(build("identity", dim=8), z, said, told, pairs="").card["held_out"]
    few = [f"p{int(i)}" if i < 3 else f"own {k}" for k, i in enumerate(patient)]
    mixed = aligned.align(build("identity", dim=8), z, said, told, pairs="", groups=few).card
    assert mixed["held_out"] == ("captions" if captions > 20 else "groups")
    if captions > 20:
        assert seen["aside"] and all(few[i].startswith("p") for i in seen["aside"])


@pytest.mark.parametrize("sizes", [[10, 10, 10, 10], [24, 8, 8, 8], [99, 1], [30, 1, 1, 1]])
@pytest.mark.parametrize("captions", [2, 25])
def test_groups_that_cannot_be_parted_do_not_stop_the_map(sizes: list[int], captions: int) -> None:
    """The first group has the last caption alone; two captions stay on either side, or rows are held out instead."""
    groups = [f"p{k}" for k, size in enumerate(sizes) for _ in range(size)]
    said = [f"caption {captions - 1 if k == 'p0' else i % (captions - 1)}" for i, k in enumerate(groups)]
    z = torch.randn(len(said), 6, generator=torch.Generator().manual_seed(0))
    kinds = set()
    for seed in range(8):
        card = aligned.align(build("identity", dim=6), z, said, told, pairs="", groups=groups, seed=seed).card
        kinds.add(card["held_out"])
        assert card["held_out"] == "rows" or card["chance"] <= 0.5
    assert kinds <= {"rows", "groups", "captions"}
