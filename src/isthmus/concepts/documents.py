"""Documents to passages, passages by their likeness to a query (BM25), and whether a quote stands in its document.

Retrieval by ``bm25s`` (Lù 2024, arXiv 2407.03618). Documents are untrusted: their text is only ever data.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.concepts.safe import shown
from isthmus.errors import DataError, require

PASSAGE = 1000  # characters of a passage
LEAST_QUOTE = 12  # characters of a quote without spaces; fewer stand in every document
MOST_QUOTE = 300
MOST_FILE = 50_000_000  # bytes of a file of documents


@dataclass(frozen=True)
class Passage:
    """A part of a document."""

    document: str
    text: str


def passages(documents: Mapping[str, str], size: int = PASSAGE) -> list[Passage]:
    """Documents cut at white space into parts of at most ``size`` characters, in order."""
    found: list[Passage] = []
    for name, text in documents.items():
        part = ""
        for word in text.split():
            if part and len(part) + 1 + len(word) > size:
                found.append(Passage(name, part))
                part = ""
            part = f"{part} {word}".strip()[:size]
        found += [Passage(name, part)] if part else []
    return found


def stem(word: str) -> str:
    """A word without the ending of a plural: cells, cell; biopsies, biopsy; bosses, boss. No other ending is touched."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "zes", "ches", "shes")) and len(word) > 4:
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word


class Library:
    """Passages that can be searched, each given out once."""

    def __init__(self, documents: Mapping[str, str]) -> None:
        if not isinstance(documents, Mapping) or not all(isinstance(part, str) for kv in documents.items() for part in kv):
            raise DataError(f"documents: expected texts by name, got {type(documents).__name__}")
        self.passages = passages(documents)
        if not self.passages:
            raise DataError("documents: expected at least one with text, got none")
        self._bm25s: Any = require("bm25s", "llm")
        self._index = self._bm25s.BM25()
        tokens = self._tokens([p.text for p in self.passages])
        self._index.index(tokens, show_progress=False)
        self._used: set[int] = set()
        self._whole = {name: _level(text) for name, text in documents.items()}

    def _tokens(self, texts: list[str]) -> Any:
        return self._bm25s.tokenize(texts, stopwords="en", stemmer=lambda found: list(map(stem, found)), show_progress=False)

    def search(self, query: str, *, best: int = 50, new: int = 10) -> list[Passage]:
        """Of the ``best`` passages for a query the first ``new`` that were not given out before; they are now."""
        tokens = self._tokens([query])
        count = min(best, len(self.passages))
        rows, scores = self._index.retrieve(tokens, k=count, show_progress=False, sorted=True)
        found = [int(i) for i, score in zip(rows[0], scores[0], strict=True) if score > 0 and int(i) not in self._used][:new]
        self._used.update(found)
        return [self.passages[i] for i in found]

    def about(self, name: str) -> bool:
        """Does some passage share a word with a name?"""
        scores = self._index.retrieve(self._tokens([name]), k=1, show_progress=False, sorted=True)[1]
        return bool(scores[0][0] > 0)

    def holds(self, document: str, quote: str) -> bool:
        """Whether the words of a quote really stand in the document; case and white space make no difference."""
        said = _level(quote)
        return len(said.replace(" ", "")) >= LEAST_QUOTE and said in self._whole.get(document, "")


def _level(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def clip(quote: str) -> str:
    """A quote as it is kept: one printable line, at most ``MOST_QUOTE`` characters."""
    return shown(" ".join(quote.split()), MOST_QUOTE)


def read_documents(path: str | Path) -> dict[str, str]:
    """Documents from a folder of .txt and .md files, by file name, or from a JSON file {name: text}; UTF-8."""
    path = Path(path)
    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".txt", ".md") and file.is_file())
            found: Any = {file.name: _read(file) for file in files}
        else:
            found = {path.name: _read(path)} if path.suffix.lower() in (".txt", ".md") else json.loads(_read(path))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected texts in UTF-8, or JSON of texts by name, got {shown(error)}") from error
    if not isinstance(found, dict) or not found or not all(isinstance(text, str) for text in found.values()):
        raise DataError(f"{path}: expected a folder of .txt files, one text file, or JSON of texts by name")
    return found


def _read(file: Path) -> str:
    if file.stat().st_size > MOST_FILE:
        raise DataError(f"{file}: expected at most {MOST_FILE:,} bytes; cut it")
    return file.read_text(encoding="utf-8-sig")


def nearest(text: str, others: Sequence[str], most: int) -> list[str]:
    """The texts that share the most words with ``text``, at most ``most``."""
    own = set(_level(text).split())
    shared = lambda other: -len(own & set(_level(other).split()))  # noqa: E731
    return sorted(others, key=shared)[:most]
