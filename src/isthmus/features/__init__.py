"""Features by name: ``build("mlp", 22)`` gives a module with ``dim``, ``recipe`` and ``prepare``."""

from isthmus.features import tabular
from isthmus.features.registry import Features, Recipe, build, entries, rebuild

__all__ = ["Features", "Recipe", "build", "entries", "rebuild", "tabular"]
