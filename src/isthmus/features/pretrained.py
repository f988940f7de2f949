"""Small image encoders with real weights: MobileNetV2 (8-bit, packed) and the CIFAR-10 residual networks.

Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks"; He et al. 2016, "Deep Residual Learning
for Image Recognition", section 4.2.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import DataError, OptionError
from isthmus.features.images import prepared
from isthmus.features.registry import Features, features_builder

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]

_MOBILENET = {"imagenet": "mobilenetv2_imagenet_q8.npz", "birds": "mobilenetv2_inat_birds_q8.npz"}
_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repeats and first stride of each stage."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def packed(weights: str | Path, known: dict[str, str], features: str) -> Arrays:
    """The arrays of an npz file: ``weights`` is a name in ``known``, found in ``$ISTHMUS_DATA/weights``, or a path."""
    if str(weights) in known:
        folder = os.environ.get("ISTHMUS_DATA")
        if not folder:
            raise DataError(
                f"{features}, weights {str(weights)!r}: expected ISTHMUS_DATA to name the folder that holds "
                f"weights/{known[str(weights)]}, got none; set it or pass weights='file.npz'"
            )
        path = Path(folder) / "weights" / known[str(weights)]
    else:
        path = Path(weights)
    if not path.is_file():
        names = ", ".join(map(repr, known))
        raise DataError(f"{features}, weights: expected {names} or an .npz file, found no {path}; check the path")
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        reason = str(error).split("\n")[0][:80]
        raise DataError(f"{path}: expected an .npz file of plain arrays, got {reason!r}; fetch it again") from error


def fill(module: nn.Module, state: dict[str, Tensor], place: str) -> None:
    """Load ``state`` whole, or say in one line which tensor is missing, foreign or of the wrong shape."""
    want = module.state_dict()
    for name in (*want, *state):
        if name not in state or name not in want:
            raise DataError(f"{place}: {'lacks' if name not in state else 'has an unknown'} tensor {name!r}")
        if state[name].shape != want[name].shape:
            shapes = tuple(want[name].shape), tuple(state[name].shape)
            raise DataError(f"{place}, tensor {name!r}: expected shape {shapes[0]}, got {shapes[1]}")
    module.load_state_dict(state)


class Conv6(nn.Conv2d):
    """A convolution with bias and ReLU6, padded at the right and bottom when it halves an even size."""

    def __init__(self, inner: int, outer: int, kernel: int, *, stride: int = 1, deep: bool = False, act: bool = True) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inner, outer, kernel, stride, padding, groups=inner if deep else 1)
        self.act = act

    def forward(self, input: Tensor) -> Tensor:
        x = F.pad(input, (0, 1, 0, 1)) if self.stride[0] == 2 else input
        x = super().forward(x)
        return F.relu6(x) if self.act else x


class Inverted(nn.Module):
    """Expand, filter each channel, project; added to the input when the shape stays."""

    def __init__(self, inner: int, outer: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inner * expansion
        self.expand = Conv6(inner, wide, 1) if expansion > 1 else None
        self.depthwise = Conv6(wide, wide, 3, stride=stride, deep=True)
        self.project = Conv6(wide, outer, 1, act=False)
        self.residual = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(Features):
    """224 x 224 pictures to the 1,280 averages before the classifier, each from 0 to 6."""

    dim = 1280
    size = (224, 224)

    def __init__(self) -> None:
        super().__init__()
        self.stem, blocks, inner = Conv6(3, 32, 3, stride=2), list[Inverted](), 32
        for expansion, outer, repeats, first in _BLOCKS:
            for step in range(repeats):
                blocks.append(Inverted(inner, outer, expansion, first if step == 0 else 1))
                inner = outer
        self.blocks, self.last = nn.Sequential(*blocks), Conv6(inner, 1280, 1)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def load(self, arrays: Arrays, place: str) -> None:
        """Take packed 8-bit weights: (q - z) s for each convolution, biases as floats."""
        state: dict[str, Tensor] = {}
        for name in (key[:-2] for key in arrays if key.endswith(".q") and not key.startswith("logits")):
            own = {"conv": "stem", "conv_1": "last"}.get(name) or "blocks." + name.removeprefix("b")
            try:
                q, z, s = (torch.from_numpy(arrays[f"{name}.{part}"].astype(np.float32)) for part in "qzs")
                state[own + ".weight"], state[own + ".bias"] = (q - z) * s, torch.from_numpy(arrays[name + ".b"])
            except KeyError as error:
                raise DataError(f"{place}: expected arrays q, z, s and b of each layer, lacks {error}") from error
        fill(self, state, place)

    def prepare(self, raw: Any) -> Tensor:
        """Pictures of any size -> float32 (B, 3, 224, 224) from -1 to 1, resized bicubically."""
        return prepared(raw, size=self.size, mean=(128.0,) * 3, std=(128.0,) * 3)

    def forward(self, x: Tensor) -> Tensor:
        """Prepared pictures (B, 3, 224, 224) -> z (B, 1280)."""
        if x.device.type == "cpu" and len(x) > 4 and not torch.is_grad_enabled():  # maps that stay in the cache: 2x
            return torch.cat([self(part) for part in x.split(4)])
        return self.last(self.blocks(self.stem(x))).mean((2, 3))


class Basic(nn.Module):
    """Two 3 x 3 convolutions; where the shape changes, the shortcut skips every other pixel and adds empty channels."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.conv2, self.bn2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
        self.stride, self.pad = stride, (outer - inner) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + short)


class ResNetCifar(Features):
    """32 x 32 photos to 64 averages, at least 0; ``classify`` gives the logits of the ten CIFAR-10 classes."""

    dim = 64

    def __init__(self, depth: int) -> None:
        super().__init__()
        count, inner = (depth - 2) // 6, 16
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        stages: list[nn.Sequential] = []
        for outer, first in ((16, 1), (32, 2), (64, 2)):
            blocks = [Basic(inner if step == 0 else outer, outer, first if step == 0 else 1) for step in range(count)]
            stages.append(nn.Sequential(*blocks))
            inner = outer
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(64, 10)

    def prepare(self, raw: Any) -> Tensor:
        """Pictures of any size -> float32 (B, 3, 32, 32), standardised by the ImageNet channel statistics."""
        mean, std = tuple(255 * v for v in _MEAN), tuple(255 * v for v in _STD)
        return prepared(raw, size=(32, 32), mean=mean, std=std)

    def forward(self, x: Tensor) -> Tensor:
        """Prepared photos (B, 3, 32, 32) -> z (B, 64)."""
        x = F.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))

    def classify(self, z: Tensor) -> Tensor:
        """z (B, 64) -> logits (B, 10)."""
        return self.linear(z)


@features_builder("mobilenetv2", blank={"weights": None})
def mobilenetv2(*, weights: str | Path | None = "imagenet") -> MobileNetV2:
    """MobileNetV2, 1,280 features: ``weights`` are 'imagenet', 'birds' (iNaturalist birds) or a packed .npz file.

    The names are looked up in ``$ISTHMUS_DATA/weights``. None leaves random weights.
    """
    module = MobileNetV2()
    if weights is not None:
        module.load(packed(weights, _MOBILENET, "mobilenetv2"), f"mobilenetv2, weights {str(weights)!r}")
        module.pretrained = True
    return module


@features_builder("resnet_cifar", blank={"weights": None})
def resnet_cifar(*, depth: int = 20, weights: str | Path | None = "cifar10") -> ResNetCifar:
    """A CIFAR-10 residual network of ``depth`` 20 or 56 (any 6 n + 2 without weights), 64 features.

    ``weights``: 'cifar10', looked up in ``$ISTHMUS_DATA/weights``, an .npz file, or None for random ones.
    """
    if depth < 8 or depth % 6 != 2:
        raise OptionError(f"resnet_cifar, depth: expected 6 n + 2 (20, 56), got {depth}")
    module = ResNetCifar(depth)
    if weights is not None:
        known = {"cifar10": f"resnet{depth}_cifar10.npz"}
        state = {name: torch.from_numpy(array) for name, array in packed(weights, known, "resnet_cifar").items()}
        counters = {name: value for name, value in module.state_dict().items() if name.endswith("num_batches_tracked")}
        fill(module, {**counters, **state}, f"resnet_cifar of depth {depth}, weights {str(weights)!r}")
        module.pretrained = True
    return module
