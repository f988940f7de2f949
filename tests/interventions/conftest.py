"""Fitted models that tests of edits share; no test may change them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from isthmus import registry
from isthmus.data.table import Splits
from isthmus.features import build
from isthmus.model import ConceptModel
from isthmus.testing import world

Fit = tuple[ConceptModel, Splits]
MIXED = ("binary", "categorical", "continuous")


def fit(kinds: tuple[str, ...] = MIXED, method: str = "cbm", task: str = "classes", **options: object) -> Fit:
    data = world(kinds, task)
    return registry.get(method).make(build("identity", dim=8), data.space, data.task, **options).fit(data), data


@pytest.fixture(scope="session")
def fitted() -> Callable[..., Fit]:
    """``fitted(kinds, method, task, **options)`` -> a model and its data."""
    return fit


@pytest.fixture(scope="session")
def linear() -> Fit:
    """A joint cbm: 4 binary concepts, colour (columns 4 to 6), size (7, 8), age (9), weight (10); classes a, b, c."""
    return fit(epochs=40, lr=1e-2)


@pytest.fixture(scope="session")
def beside() -> Fit:
    """The same with a side channel beside the head."""
    return fit(method="sidechannel", epochs=20, lr=1e-2)
