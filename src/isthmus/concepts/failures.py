"""Errors of language models: each is one line, and an ``IsthmusError``."""

from __future__ import annotations

from isthmus.errors import IsthmusError


class LanguageModelError(IsthmusError):
    """A language model's server that cannot be reached, or that refuses."""


class ReplyError(LanguageModelError):
    """A language model's reply that cannot be used: too long, or not the JSON that was asked for."""


class CostCap(LanguageModelError):
    """The next call to a language model could pass the limit that was set; it was not made."""
