"""Feature extractors by name: numbers, pictures and texts to z (B, D).

``build("resnet")``, ``rebuild(recipe)``, ``names()``; importing this package imports no optional dependency.
"""

from isthmus.features.aligned import Aligned
from isthmus.features.language import sentence_encoder, text_backbone
from isthmus.features.pretrained import mobilenetv2, resnet_cifar
from isthmus.features.registry import Chain, Features, Recipe, build, chain, entries, features_builder, names, rebuild
from isthmus.features.tabular import identity, mlp
from isthmus.features.text import glove
from isthmus.features.transformers import vision_backbone
from isthmus.features.vision import cells, cnn, resnet

__all__ = [
    "Aligned",
    "Chain",
    "Features",
    "Recipe",
    "build",
    "cells",
    "chain",
    "cnn",
    "entries",
    "features_builder",
    "glove",
    "identity",
    "mlp",
    "mobilenetv2",
    "names",
    "rebuild",
    "resnet",
    "resnet_cifar",
    "sentence_encoder",
    "text_backbone",
    "vision_backbone",
]
