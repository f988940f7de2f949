"""Real data sets, one file each, registered by name; ``cards`` holds the terms of every one."""

from __future__ import annotations

from isthmus.data.datasets import (
    agnews,
    awa2,
    car,
    cebab,
    celeba,
    cifar10,
    ctg,
    cub,
    cub100,
    derm7pt,
    dermacon,
    dermatology,
    heart_cleveland,
    mnist,
    movies,
    playing_cards,
    reviewers,
    sprites_video,
    sst2,
    sub,
    wbcatt,
    zoo,
)
from isthmus.data.table import DataCard

_MODULES = (
    agnews, awa2, car, cebab, celeba, cifar10, ctg, cub, cub100, derm7pt, dermacon, dermatology, heart_cleveland, mnist, movies,
    playing_cards, reviewers, sprites_video, sst2, sub, wbcatt, zoo,
)  # fmt: skip


def cards() -> dict[str, DataCard]:
    """The card (source, licence, terms, share) of every real data set by name, without reading any data."""
    every = [*(module.CARD for module in _MODULES), mnist.ADDITION]
    return {card.name: card for card in every}


__all__ = ["cards"]
