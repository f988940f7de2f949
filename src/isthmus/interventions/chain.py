"""The history of edits as a chain of hashes: each entry names the entry before it and the model before and after.

What the chain shows: an entry that was changed, dropped from the middle, added or moved, training rows that were changed before
an edit, and weights, concepts, task or options that are not those the last edit left. What it cannot show: whoever may write
the files can rewrite every entry with new hashes, drop the newest edits together with what they changed, or drop all of them.
A hash is no signature, and ``who`` is what was typed. To know the chain again, keep the last entry's hash in another place.
"""

from __future__ import annotations

import getpass
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, cast

import torch

from isthmus.errors import DataError
from isthmus.model import ConceptModel

Entry = dict[str, Any]
KEYS = ("edit", "who", "when", "why", "what", "effect", "training", "before", "after", "previous", "hash")
STRAY = "the training after the last edit has no edit of its own"


def now() -> datetime:
    """The time in UTC; tests put another clock here."""
    return datetime.now(UTC)


def user() -> str:
    """The name of the operating system's user, 'unknown' where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def line(text: object, what: str) -> str:
    """A person's text as it came, or ``DataError`` when it is not a non-empty printable line."""
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise DataError(f"{what}: expected a non-empty printable text on one line, got {text!r}")
    return text


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, ASCII: equal values give equal bytes, before and after they were saved."""
    return json.dumps(json.loads(json.dumps(value)), sort_keys=True, separators=(",", ":")).encode()


def sha(value: Any) -> str:
    """SHA-256 of the canonical JSON, as hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def sealed(entry: Mapping[str, Any]) -> str:
    """The hash that an entry must have: that of all it says but the hash itself."""
    return sha({key: value for key, value in entry.items() if key != "hash"})


def digest(model: ConceptModel) -> str:
    """SHA-256 of what a model answers from: all weights and buffers, its concepts and their vectors, task, method and options.

    The same on any device, and after saving and loading. Options that are no JSON (tensors) are left out, as in the card.
    Not in it: how the features are built (their weights are), and the version of the library.
    """
    origin = dict(model.origin)
    origin["options"] = {name: value for name, value in origin.get("options", {}).items() if plain(value)}
    head = {"space": [asdict(concept) for concept in model.space.concepts], "task": asdict(model.task), "origin": origin}
    found = hashlib.sha256(canonical(head))
    tensors: dict[str, Any] = dict(model.state_dict())
    if model.space.vectors is not None:
        tensors[" vectors of the concepts"] = model.space.vectors  # a space: no weight has such a name
    for name, tensor in sorted(tensors.items()):
        found.update(canonical([name, str(tensor.dtype), list(tensor.shape)]))
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def plain(value: Any) -> bool:
    """Whether a value is JSON, as the card keeps options."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def edits(history: object) -> list[tuple[int, Entry]]:
    """The edits of a history, each with its place in it."""
    rows = cast("list[Any]", history) if isinstance(history, list) else []
    return [(place, row) for place, row in enumerate(rows) if isinstance(row, dict) and "edit" in row]


def broken(model: ConceptModel) -> str | None:
    """What is wrong with the chain of a model's history, naming the entry; None when it holds, or nothing was edited."""
    found = edits(model.history)
    if not found:
        return None
    previous: str | None = None
    after: str | None = None
    start = 0
    for place, entry in found:
        if reason := _fault(entry, previous, after, model.history[start:place]):
            return f"{named(place, entry)} {reason}"
        previous, after, start = entry["hash"], entry["after"], place + 1
    if start < len(model.history):
        return f"entry {start}: {STRAY}"
    if after != digest(model):
        place, entry = found[-1]
        return f"{named(place, entry)} left another model: weights, concepts, task or options were changed since"
    return None


def named(place: int, entry: Entry) -> str:
    """An entry in an error: its place and its kind."""
    return f"entry {place} ({str(entry['edit'])[:40]!r})"


def _fault(entry: Entry, previous: str | None, after: str | None, training: list[Any]) -> str | None:
    lacking = [key for key in KEYS if key not in entry]
    if lacking:
        return f"lacks {lacking[0]!r}"
    if entry["hash"] != sealed(entry):
        return "was changed since it was written (SHA-256)"
    if entry["previous"] != previous:
        return "does not follow the edit before it: an edit was dropped, added or moved"
    if after is not None and entry["before"] != after:
        return "begins from another model than the edit before it left"
    if entry["training"] != sha(training):
        return "stands after other training rows than when it was written"
    return None


def entry(
    old: ConceptModel,
    new: ConceptModel,
    edit: str,
    what: Mapping[str, Any],
    *,
    why: str,
    who: str,
    effect: dict[str, Any] | None,
) -> Entry:
    """The entry for what was done to ``old``; ``new.history`` holds the training rows that belong to it, if any."""
    before = edits(old.history)
    start = before[-1][0] + 1 if before else 0
    made: Entry = {
        "edit": line(edit, "edit"),
        "who": who,
        "when": now().isoformat(timespec="seconds"),
        "why": why,
        "what": json.loads(json.dumps(dict(what))),
        "effect": effect,
        "training": sha(new.history[start:]),
        "before": digest(old),
        "after": digest(new),
        "previous": before[-1][1]["hash"] if before else None,
    }
    return made | {"hash": sealed(made)}
