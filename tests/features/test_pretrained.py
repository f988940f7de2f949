"""Real weights: our networks give the packed features, classify CIFAR-10 photos, and refuse files that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.data.rows import Images
from isthmus.errors import DataError, OptionError
from isthmus.features.pretrained import mobilenetv2, resnet_cifar
from isthmus.features.registry import Recipe, rebuild

File = Callable[[str], Path]


def packed_images(path: Path, index: list[int]) -> Images:
    with np.load(path) as pack:
        buffer, off = pack["buf"], pack["off"]
    return Images([buffer[off[i] : off[i + 1]].tobytes() for i in index])


@pytest.mark.parametrize("name", ["wbcatt_128", "cifar10_8k", "cub_100cls"])
def test_mobilenetv2_gives_the_packed_features(name: str, isthmus_data: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_DATA", str(isthmus_data("weights/mobilenetv2_imagenet_q8.npz").parents[1]))
    with np.load(isthmus_data(f"features/{name}_mnv2.npz")) as file:
        q, step = file["q"], float(file["scale"])
    index = [0, 123, len(q) // 2, len(q) - 1]
    module = mobilenetv2().eval()
    with torch.no_grad():
        z = module(module.prepare(packed_images(isthmus_data(f"images/{name}.npz"), index).read()))
    assert z.shape == (4, module.dim)
    expected = torch.from_numpy(q[index].astype(np.float32)) * step
    assert step == pytest.approx(6 / 255)
    assert (z - expected).abs().max() < 0.55 * step  # rounding to 8 bits, and nothing else
    assert expected.std() > 10 * step


def test_bird_weights_give_the_packed_bird_features(isthmus_data: File) -> None:
    module = mobilenetv2(weights=isthmus_data("weights/mobilenetv2_inat_birds_q8.npz")).eval()
    with np.load(isthmus_data("features/cub_100cls_birdnet.npz")) as file:
        expected = torch.from_numpy(file["q"][[7, 999]].astype(np.float32)) * float(file["scale"])
    with torch.no_grad():
        z = module(module.prepare(packed_images(isthmus_data("images/cub_100cls.npz"), [7, 999]).read()))
    assert (z.clamp(0, 6) - expected).abs().max() < 0.55 * 6 / 255


def test_mobilenetv2_rows_are_independent_and_rebuild_needs_no_file(
    isthmus_data: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_DATA", str(isthmus_data("weights/mobilenetv2_imagenet_q8.npz").parents[1]))
    module = mobilenetv2().eval()
    monkeypatch.delenv("ISTHMUS_DATA")
    assert module.recipe == Recipe("mobilenetv2", {"weights": "imagenet"})
    again = rebuild(module.recipe).eval()
    assert module.pretrained
    assert again.pretrained
    assert not mobilenetv2(weights=None).pretrained
    again.load_state_dict(module.state_dict())
    x = torch.randint(0, 256, (6, 3, 50, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = module(module.prepare(x))
        assert torch.allclose(again(again.prepare(x[5:])), z[5:], atol=1e-5)
    assert torch.allclose(again(again.prepare(x)), z, atol=1e-5)  # in one piece where a gradient is wanted


def test_stride_two_pads_right_and_bottom() -> None:
    module = mobilenetv2(weights=None).eval()
    with torch.no_grad():
        module.stem.weight.zero_()[:, :, 0, 0] = 1.0
        module.stem.bias.zero_()
        x = torch.zeros(1, 3, 8, 8)
        x[0, 0, 2, 4] = 1.0
        assert module.stem(x)[0, 0].nonzero().tolist() == [[1, 2]]
        module.stem.weight.zero_()[:, :, 2, 2] = 1.0
        assert module.stem(x)[0, 0].nonzero().tolist() == [[0, 1]]


@pytest.mark.parametrize(("depth", "low"), [(20, 0.88), (56, 0.90)])
def test_cifar_networks_classify_test_photos(
    depth: int, low: float, isthmus_data: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_DATA", str(isthmus_data(f"weights/resnet{depth}_cifar10.npz").parents[1]))
    path = isthmus_data("images/cifar10_8k.npz")
    with np.load(path) as pack:
        y, test = torch.from_numpy(pack["y"].astype(np.int64)), np.flatnonzero(pack["split"] == "test")
    index = test[:: 5 if depth == 20 else 10]
    module = resnet_cifar(depth=depth).eval()
    with torch.no_grad():
        x = module.prepare(packed_images(path, index.tolist()).read())
        z = torch.cat([module(part) for part in x.split(100)])
        assert torch.allclose(module(x[3:4]), z[3:4], atol=1e-5)
    assert z.shape == (len(index), module.dim)
    accuracy = (module.classify(z).argmax(1) == y[index]).float().mean()
    assert low < accuracy < 0.97


def broken(path: Path, **changes: np.ndarray | None) -> Path:
    state = {name: value.numpy() for name, value in resnet_cifar(depth=8, weights=None).state_dict().items()}
    state |= {name: value for name, value in changes.items() if value is not None}
    np.savez(path, **{name: value for name, value in state.items() if changes.get(name, value) is not None})
    return path


def test_an_npz_of_the_right_shape_is_loaded(tmp_path: Path) -> None:
    weight = np.full((10, 64), 7, np.float32)
    module = resnet_cifar(depth=8, weights=broken(tmp_path / "w.npz", **{"linear.weight": weight}))
    assert torch.equal(module.linear.weight, torch.full((10, 64), 7.0))


def test_files_that_do_not_fit_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISTHMUS_DATA", raising=False)
    path = tmp_path / "w.npz"
    with pytest.raises(DataError, match=r"expected ISTHMUS_DATA to name the folder .* weights/mobilenetv2_imagenet_q8.npz"):
        mobilenetv2()
    with pytest.raises(DataError, match=r"expected 'cifar10' or an .npz file, found no .*w\.npz"):
        resnet_cifar(weights=path)
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"^mobilenetv2, weights: .* found no .*weights.*birds_q8\.npz; check the path$"):
        mobilenetv2(weights="birds")
    for content in (b"", b"no zip", broken(path).read_bytes()[:500]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"w\.npz: expected an \.npz file of plain arrays, got .*fetch it again$"):
            resnet_cifar(depth=8, weights=path)
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="expected an .npz file of plain arrays"):
        resnet_cifar(depth=8, weights=path)
    with pytest.raises(DataError, match=r"lacks tensor 'linear.bias'"):
        resnet_cifar(depth=8, weights=broken(path, **{"linear.bias": None}))
    with pytest.raises(DataError, match=r"has an unknown tensor 'extra'"):
        resnet_cifar(depth=8, weights=broken(path, extra=np.zeros(1)))
    with pytest.raises(DataError, match=r"tensor 'linear.bias': expected shape \(10,\), got \(9,\)"):
        resnet_cifar(depth=8, weights=broken(path, **{"linear.bias": np.zeros(9, np.float32)}))
    with pytest.raises(DataError, match=r"mobilenetv2, weights .*: lacks tensor 'stem.weight'"):
        mobilenetv2(weights=path)
    np.savez(path, **{"conv.q": np.zeros((32, 3, 3, 3), np.uint8)})
    with pytest.raises(DataError, match=r"expected arrays q, z, s and b of each layer, lacks 'conv.z'"):
        mobilenetv2(weights=path)


@pytest.mark.parametrize("depth", [2, 19, 57])
def test_depth_is_six_n_plus_two(depth: int) -> None:
    with pytest.raises(OptionError, match=rf"^resnet_cifar, depth: expected 6 n \+ 2 \(20, 56\), got {depth}$"):
        resnet_cifar(depth=depth, weights=None)


def test_random_weights_differ_by_seed() -> None:
    def weight(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return resnet_cifar(depth=8, weights=None).conv1.weight

    assert torch.equal(weight(1), weight(1))
    assert not torch.equal(weight(1), weight(2))
