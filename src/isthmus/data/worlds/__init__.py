"""Worlds of our own: generated data whose concepts, rule and places are known."""

from __future__ import annotations

from isthmus.data.worlds.poker import poker

__all__ = ["poker"]
