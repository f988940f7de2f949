"""Replies of a language model on disk, by content: the same question to the same server and model is asked once.

One JSON file for each: ``<folder>/<SHA-256 of server, model, prompt, options, schema>.json``. A damaged file is no reply: it is
asked again and written anew. Failures are never kept.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from isthmus.concepts.book import Source
from isthmus.files import write_json

SCHEMA = "isthmus.reply/1"
T = TypeVar("T", bound=BaseModel)


def sha(text: str) -> str:
    """SHA-256 of a text in UTF-8, as hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def content_key(parts: Mapping[str, Any]) -> str:
    """One key for everything that the reply depends on."""
    return sha(json.dumps(parts, sort_keys=True, ensure_ascii=True, allow_nan=False))


class Replies:
    """A folder of replies; None keeps nothing. Processes may share it; where it cannot be written, one is warned once."""

    def __init__(self, folder: Path | None, most_bytes: int = 4_000_000) -> None:
        self.folder, self.most_bytes, self._warned = folder, most_bytes, False

    def get(self, key: str, output: type[T]) -> tuple[T, Source] | None:
        """The reply kept under ``key``, and where it came from; None where there is none, or a damaged one."""
        if self.folder is None:
            return None
        place = self.folder / f"{key}.json"
        try:
            if place.stat().st_size > self.most_bytes:
                return None
            found = json.loads(place.read_text(encoding="utf-8"))
            if (found["schema"], found["key"], found["sum"]) != (SCHEMA, key, _sum(found["output"], found["source"])):
                return None
            return output.model_validate(found["output"]), Source(**found["source"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, key: str, output: BaseModel, source: Source) -> None:
        """Keep a reply, whole or not at all."""
        if self.folder is None:
            return
        kept, told = output.model_dump(mode="json"), asdict(source)
        try:
            value = {"schema": SCHEMA, "key": key, "sum": _sum(kept, told), "output": kept, "source": told}
            write_json(self.folder / f"{key}.json", value)
        except OSError as error:
            if not self._warned:
                warnings.warn(f"{self.folder}: replies cannot be kept ({error.strerror}); each is asked anew", stacklevel=2)
            self._warned = True


def _sum(output: Any, source: Any) -> str:
    return content_key({"output": output, "source": source})
