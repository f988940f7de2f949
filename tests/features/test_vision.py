"""Pictures in, features out: preparation, sizes, pooling, batch independence, and that the networks learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from isthmus.errors import DataError, OptionError
from isthmus.features.images import picture, pictures, prepared
from isthmus.features.registry import build
from isthmus.features.vision import cnn, resnet


def noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_every_form_of_a_picture_is_the_same() -> None:
    x = noise(2, 3, 5, 7)
    arrays = [row.permute(1, 2, 0).numpy() for row in x]
    for raw in (x, list(x), arrays, np.stack(arrays), tuple(Image.fromarray(a) for a in arrays)):
        assert torch.equal(pictures(raw), x)
    alpha = np.concatenate([arrays[0], np.full((5, 7, 1), 9, np.uint8)], 2)
    assert torch.equal(picture(alpha, 0), x[0])


def test_grey_pictures_get_three_equal_channels() -> None:
    x = noise(2, 1, 5, 7)
    assert torch.equal(pictures(x), x.expand(2, 3, 5, 7))
    assert torch.equal(pictures([x[0, 0].numpy()]), x[:1].expand(1, 3, 5, 7))
    assert torch.equal(pictures([Image.fromarray(x[1, 0].numpy())]), x[1:].expand(1, 3, 5, 7))


def test_resizing_is_pillows_bicubic() -> None:
    x = noise(2, 3, 20, 30)
    expected = Image.fromarray(x[1].permute(1, 2, 0).numpy()).resize((8, 12), Image.Resampling.BICUBIC)
    assert torch.equal(pictures(x, (12, 8))[1], torch.from_numpy(np.array(expected)).permute(2, 0, 1))
    mixed = pictures([noise(3, 9, 9), noise(3, 12, 8)], (12, 8))
    assert torch.equal(mixed[1], noise(3, 12, 8))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([noise(3, 4, 4), noise(3, 5, 4)], "image 1: expected 4x4 pixels like the first, got 5x4"),
        ([noise(3, 4, 4), noise(4, 4, 4)], r"image 1: expected uint8 of shape \(3, height, width\), got torch.uint8"),
        ([torch.zeros(3, 4, 4)], "image 0: expected uint8 .* got torch.float32"),
        ([np.zeros((2, 2, 2, 2), np.uint8)], "image 0: expected an array of shape"),
        (noise(2, 5, 4, 4), "image 0: expected uint8"),
        (noise(3, 4, 4), "x: expected pictures"),
        (["a.png"], "image 0: expected a uint8 tensor, an array or a PIL image, got str"),
        (3, "x: expected pictures .* got int"),
        (torch.zeros(2, 4, 4, 4), "x: expected prepared pictures"),
    ],
)
def test_what_is_no_picture_is_one_line(raw: object, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        build("cnn", width=2, dim=2).prepare(raw)


def test_prepare_is_normalised_and_idempotent() -> None:
    x = noise(2, 3, 8, 8)
    z = prepared(x, size=None, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    assert torch.allclose(z[:, 2], (x[:, 2].float() - 3) / 8)
    module = resnet(width=2, dim=4)
    once = module.prepare(x)
    assert torch.allclose(once, (x.float() - 127.5) / 64)
    assert module.prepare(once) is once
    assert module.prepare([]).shape == (0, 3, 0, 0)


@pytest.mark.parametrize("name", ["cnn", "resnet"])
@pytest.mark.parametrize(("pool", "dim"), [("max", 6), ("mean", 6), ("both", 12)])
def test_rows_are_independent_in_eval(name: str, pool: str, dim: int) -> None:
    torch.manual_seed(0)
    module = build(name, width=4, dim=6, pool=pool)
    x = module.prepare(noise(5, 3, 20, 36))
    module.train()(x)  # statistics move
    module.eval()
    z = module(x)
    assert z.shape == (5, dim)
    assert module.dim == dim
    assert torch.allclose(z, torch.cat([module(row[None]) for row in x]), atol=1e-5)


def test_size_resizes_pictures_of_any_size() -> None:
    module = cnn(width=2, dim=3, size=(16, 24)).eval()
    assert module.prepare([noise(3, 16, 24), noise(3, 50, 9)]).shape == (2, 3, 16, 24)
    assert module.recipe is not None
    assert module.recipe.options["size"] == [16, 24]


def test_pooling_both_is_max_beside_mean() -> None:
    torch.manual_seed(0)
    both = cnn(width=2, dim=3, pool="both").eval()
    x = both.prepare(noise(2, 3, 16, 16))
    places = both.layers(x)
    assert torch.allclose(both(x), torch.cat([places.flatten(2).max(2).values, places.flatten(2).mean(2)], 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "sum"}, "pool: expected 'max'"),
        ({"size": (3,)}, "size: expected"),
        ({"size": (3, 0)}, "size: expected"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    for name in ("cnn", "resnet"):
        with pytest.raises(OptionError, match=f"^{name}, {message}"):
            build(name, **options)


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_a_small_mark_anywhere_is_learnt(name: str) -> None:
    torch.manual_seed(0)
    x, y = torch.full((256, 3, 24, 48), 90, dtype=torch.uint8), (torch.rand(256, 2) < 0.5).float()
    for row in range(256):
        for kind in range(2):
            if y[row, kind]:
                top, left = torch.randint(0, 20, (1,)).item(), torch.randint(0, 44, (1,)).item()
                x[row, :, top : top + 4, left : left + 4] = torch.tensor([230, 20, 20] if kind else [20, 20, 230])[
                    :, None, None
                ]
    module = build(name, width=8, dim=16)
    model = nn.Sequential(module, nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(8):
        for part in torch.randperm(192).split(32):
            loss = nn.functional.binary_cross_entropy_with_logits(model(module.prepare(x[part])), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    right = ((model(module.prepare(x[192:])) > 0) == (y[192:] > 0)).float().mean()
    assert right > 0.9


def test_cells_are_each_read_by_the_same_network_row_by_row() -> None:
    torch.manual_seed(0)
    module = build("cells", grid=(2, 3), width=4, dim=5).eval()
    x = torch.randn(2, 3, 21, 34)  # a row and a column that fill no cell are cut
    z = module(x)
    assert (module.patches, module.dim, tuple(z.shape)) == (6, 30, (2, 30))
    for at, (row, column) in enumerate([(r, c) for r in range(2) for c in range(3)]):
        cell = x[:, :, 10 * row : 10 * row + 10, 11 * column : 11 * column + 11]
        torch.testing.assert_close(z[:, 5 * at : 5 * at + 5], module.inner(cell), atol=1e-5, rtol=1e-5)
    with pytest.raises(DataError, match="at least 2 x 3 pixels"):
        module(torch.randn(1, 3, 1, 9))
