"""Text from a language model, a document or a stranger's file is data: what may become a concept, and why the rest may not.

``checked`` lets a short plain phrase through and gives a reason for every other text. Nothing here asks a model.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isthmus.concepts.letters import consecutive, mixed, named, plain, words

LONGEST = 100  # characters of a phrase
LONGEST_WORD = 40  # letters of one word
SHOWN = 80  # characters of a refused text that are kept
INVISIBLE = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
PUNCTUATION = set(" '’‘\"“”-‐–—,.;:()/%&+±×÷°≤≥≈⁄′″?!·、。・「」،؟।")
_MARKUP = (
    (r"[a-z][a-z0-9+.-]*:/", "an address"),
    (r"\b(?:www\.|javascript:|data:|mailto:|file:)", "an address"),
    (r"[a-z]{2,}\.[a-z]{2,}", "an address"),
    (r"&#?\w+;", "markup"),
    (r"^\W*[-+]\s", "a list mark at the beginning"),
    (r"^\s*[-+]", "a formula or list mark at the beginning"),
    (r"^\W*\d+[.)]\s", "a list number at the beginning"),
    (r"---|///|\.\.\.\.", "markup"),
)
_ORDERS = (
    r"\b(?:system|assistant|user|human|developer|tool|ai|bot|model)\s*:",
    r"\b(?:ignore|disregard|forget|override|bypass)\b.*\b(?:previous|prior|above|earlier|all|any|instructions?|rules?|prompts?)\b",
    r"\b(?:you|your|yours|yourself)\b",
    r"\b(?:i am|i m|i cannot|i can ?t|i will|sorry|as an ai|language model|chatgpt|jailbreak)\b",
    r"\b(?:prompt|prompts|instruction|instructions|approve|approved|approves|password|api key)\b",
    r"\b(?:please|respond with|reply with|answer with|act as|pretend|execute|run the|follow these|print the|return the)\b",
)


@dataclass(frozen=True)
class Refused:
    """A text that may not become a concept: its first characters, escaped, the ``reason``, the class it was written for."""

    text: str
    reason: str
    owner: str = ""


def shown(text: object, most: int = SHOWN) -> str:
    """A text for a terminal or an error: whatever is not printable escaped, at most ``most`` characters."""
    made = "".join(ch if ch.isprintable() and ord(ch) not in INVISIBLE else ascii(ch)[1:-1] for ch in str(text)[:most])
    return made if len(made) <= most and len(str(text)) <= most else made[: most - 1] + "…"


def quoted(text: str) -> str:
    """A text as data inside a prompt: one JSON string without ``<`` and ``>``: it can end no quotation and no message."""
    made = json.dumps(text, ensure_ascii=False)
    return re.sub("[<>\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", made)


def checked(text: object, *, classes: Sequence[str] = (), longest: int = LONGEST) -> str | Refused:
    """The text, normalised (NFKC, single spaces), if it may be a concept; else ``Refused`` with the reason.

    Allowed is one line of at most ``longest`` characters, at least one letter, words of at most ``LONGEST_WORD`` letters of
    one script each, and the marks of ``PUNCTUATION``. Refused are control, direction and invisible characters, markup and
    addresses, text that gives orders or plays a role in a conversation (no visual attribute says "you"), and every text
    that holds the name of one of ``classes``, also in a simple plural or in look-alike letters.
    """
    if not isinstance(text, str):
        return Refused(shown(text), f"expected text, got {type(text).__name__}")
    reason = _size(text, longest) or _hidden(text.strip(" \t\r\n"))
    if reason is None:
        clean = " ".join(unicodedata.normalize("NFKC", text).split())
        reason = _hidden(clean) or _form(clean, longest) or _markup(clean) or _orders(clean)
        if reason is None and (owner := named(clean, classes)) is not None:
            reason = f"it names the class {shown(owner, 40)!r}"
        if reason is None:
            return clean
    return Refused(shown(text), reason)


def sieve(
    texts: Iterable[object], *, classes: Sequence[str] = (), longest: int = LONGEST, owner: str = ""
) -> tuple[list[str], list[Refused]]:
    """The texts that may be concepts, in order and each once, and those refused with their reasons."""
    kept: dict[str, str] = {}
    out: list[Refused] = []
    for text in texts:
        found = checked(text, classes=classes, longest=longest)
        if isinstance(found, Refused):
            out.append(Refused(found.text, found.reason, owner))
        elif found.casefold() in kept:
            out.append(Refused(shown(found), "it stands there already", owner))
        else:
            kept[found.casefold()] = found
    return list(kept.values()), out


def _size(text: str, longest: int) -> str | None:
    """Refused before anything is made of it: a text many times too long."""
    return f"it has {len(text):,} characters; expected at most {longest}" if len(text) > 20 * longest else None


def _hidden(text: str) -> str | None:
    for ch in text:
        kind = unicodedata.category(ch)
        if ch in "\n\r\t\v\f\x85\u2028\u2029":
            return "it has more than one line"
        if kind[0] == "C" or kind in ("Zl", "Zp", "Me") or ord(ch) in INVISIBLE:
            return f"it holds the control, direction or invisible character U+{ord(ch):04X}"
    return "it stacks marks on a letter" if consecutive(text, "Mn") > 2 else None


def _form(text: str, longest: int) -> str | None:
    if not any(ch.isalpha() for ch in text):
        return "it has no letters"
    if len(text) > longest:
        return f"it has {len(text):,} characters; expected at most {longest}"
    if long := [word for word in words(text) if len(word) > LONGEST_WORD]:
        return f"it has a word of {len(long[0])} letters; expected at most {LONGEST_WORD}"
    if odd := [ch for ch in text if ch not in PUNCTUATION and unicodedata.category(ch)[0] not in "LMN"]:
        return f"it holds {odd[0]!r}, which belongs to markup or code"
    if (word := mixed(text)) is not None:
        return f"it mixes letters of several scripts in one word: {word!a}"
    return None


def _markup(text: str) -> str | None:
    lower = text.casefold()
    return next((f"it holds {what}" for pattern, what in _MARKUP if re.search(pattern, lower)), None)


def _orders(text: str) -> str | None:
    """Also when the order is written in look-alike letters."""
    spoken = plain(text).replace("’", "'")
    for each in (spoken, re.sub(r"[^\w:]+", " ", spoken)):
        if any(re.search(pattern, each) for pattern in _ORDERS):
            return "it reads like an instruction or a part of a conversation"
    return None
