"""``Book``: candidate concepts in words, each with its classes, its part, where it came from and who approved it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, cast, get_args

from torch import Tensor

from isthmus.concepts.letters import named
from isthmus.errors import DataError, UnknownName, unknown
from isthmus.files import write
from isthmus.space import Concept, ConceptSpace

SCHEMA = "isthmus.concepts/1"
Origin = Literal["file", "person", "model", "documents", "vocabulary"]


@dataclass(frozen=True)
class Source:
    """Where a phrase came from: ``kind``, the file's or model's ``name``, when, and what it was made from.

    ``prompt`` and ``reply`` are SHA-256 of the exact texts; ``document`` and ``quote`` point into a document.
    """

    kind: Origin = "person"
    name: str = ""
    at: str = ""
    prompt: str = ""
    reply: str = ""
    document: str = ""
    quote: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Origin) or not all(isinstance(each, str) for each in vars(self).values()):
            raise DataError(
                f"source: expected texts, and a kind of {', '.join(get_args(Origin))}, got {str(vars(self))[:80]!r}"
            )


@dataclass(frozen=True)
class Phrase:
    """One candidate: its ``text``, every class it was written for (``owners``), the ``part`` it describes, its ``source``.

    ``approved`` names the person who let it in ('' = nobody yet): nothing unapproved becomes a concept.
    """

    text: str
    owners: tuple[str, ...] = ()
    part: str | None = None
    source: Source = field(default_factory=Source)
    approved: str = ""

    def __post_init__(self) -> None:
        listed: Any = self.owners
        owners: tuple[Any, ...] = tuple(listed) if isinstance(listed, list | tuple) else (None,)
        object.__setattr__(self, "owners", owners)
        told: tuple[Any, ...] = (self.text, "" if self.part is None else self.part, self.approved, *owners)
        if not all(isinstance(each, str) for each in told) or not isinstance(cast("Any", self.source), Source):
            raise DataError(f"phrase {str(self.text)[:40]!r}: expected text, part, owners and approval as texts")
        if not self.text.strip() or not self.text.isprintable():
            raise DataError(f"phrase {self.text[:40]!r}: expected a printable text of one line, not empty")

    @property
    def seal(self) -> str:
        """SHA-256 of text, part, classes and the person who let it in: what an approval holds for. No signature."""
        told = json.dumps([self.text, self.part, self.owners, self.approved], ensure_ascii=True)
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def concept(self) -> Concept:
        """The phrase as a concept; one about a part is named after its (first) class and part."""
        name = f"{self.owners[0]} / {self.part}: {self.text}" if self.part and self.owners else self.text
        owner = self.owners[0] if len(self.owners) == 1 else self.owners or None
        return Concept(name, owner=owner, text=self.text, part=self.part)


@dataclass(frozen=True)
class Measured:
    """What a language model said of the phrases: ``labels`` of each text (1, 0, None: not said), in the order of the phrases,
    and the ``prior`` of each class, {class: {concept: 1, -1 or 0}}, both as ``concepts.told`` asks for them.
    """

    labels: dict[str, tuple[float | None, ...]] = field(default_factory=dict[str, tuple[float | None, ...]])
    prior: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])


@dataclass(frozen=True)
class Book:
    """Phrases in order; the same text (with the same part) stands once for each set of classes it serves.

    ``measured``: what was asked about texts and classes, where it was.
    """

    phrases: tuple[Phrase, ...] = ()
    measured: Measured | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "phrases", tuple(self.phrases))

    def __len__(self) -> int:
        return len(self.phrases)

    def __iter__(self) -> Iterator[Phrase]:
        return iter(self.phrases)

    @property
    def texts(self) -> list[str]:
        return [phrase.text for phrase in self.phrases]

    @property
    def classes(self) -> list[str]:
        """The classes that phrases were written for, in order of appearance."""
        return list(dict.fromkeys(owner for phrase in self.phrases for owner in phrase.owners))

    @property
    def approved(self) -> Book:
        """The phrases that a person let in."""
        return self.keep(i for i, phrase in enumerate(self.phrases) if phrase.approved)

    def keep(self, index: Iterable[int]) -> Book:
        """The phrases at ``index``, in that order."""
        at, said = list(index), self.measured
        if said is not None:
            named = {phrase.concept.name for phrase in (self.phrases[i] for i in at)}
            labels = {text: tuple(row[i] for i in at) for text, row in said.labels.items()}
            prior = {name: {c: v for c, v in row.items() if c in named} for name, row in said.prior.items()}
            said = Measured(labels, prior)
        return Book(tuple(self.phrases[i] for i in at), said)

    def without(self, classes: Iterable[str]) -> Book:
        """Phrases and prior of other classes, and of none: what was written for these alone is out."""
        out = set(classes)
        kept = self.keep(i for i, phrase in enumerate(self.phrases) if not phrase.owners or set(phrase.owners) - out)
        rows = (replace(p, owners=tuple(owner for owner in p.owners if owner not in out)) for p in kept)
        said = kept.measured and replace(
            kept.measured, prior={name: row for name, row in kept.measured.prior.items() if name not in out}
        )
        return Book(tuple(rows), said)

    def joined(self, other: Book) -> Book:
        """Both books; a phrase that stands in both is written once, for the classes of either.

        What was measured is joined too: labels and prior of one book are unknown (None, 0) for the phrases of the other alone;
        where both know, this book's stay.
        """
        made = merged([*self.phrases, *other.phrases])
        said = [book for book in (other, self) if book.measured is not None]
        return replace(made, measured=_joined(made, said)) if said else made

    def by_class(self) -> dict[str, list[str]]:
        """Phrases by class; those written for no class stand under ''."""
        found: dict[str, list[str]] = {}
        for phrase in self.phrases:
            for owner in phrase.owners or ("",):
                found.setdefault(owner, []).append(phrase.text)
        return found

    def space(self, vectors: Tensor | None = None) -> ConceptSpace:
        """The approved phrases as binary concepts; ``vectors`` (K, D) are their text embeddings, in order.

        A phrase about a part of a class is named 'class / part: text', so that two classes may share a text.
        ``DataError`` where a phrase is not approved, or two would have one name.
        """
        if waiting := [phrase.text for phrase in self.phrases if not phrase.approved]:
            raise DataError(f"concept {waiting[0]!r} is not approved ({len(waiting)} are not); review them, or use .approved")
        return ConceptSpace(tuple(phrase.concept for phrase in self.phrases), vectors)

    def to_json(self) -> str:
        rows = [asdict(phrase) | {"seal": phrase.seal if phrase.approved else ""} for phrase in self.phrases]
        said = {} if self.measured is None else {"measured": asdict(self.measured)}
        return json.dumps({"schema": SCHEMA, "phrases": rows, **said}, indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, place: str = "concepts") -> Book:
        """The book written by ``to_json``; ``DataError`` when the text is not one.

        An approval holds for the text, part and classes that it was given to: a phrase that was changed since waits again, and
        a warning says so.
        """
        try:
            found = json.loads(text)
            if found["schema"] != SCHEMA:
                raise KeyError("schema")
            seals = [row.pop("seal", "") for row in found["phrases"]]
            rows = [Phrase(**{**row, "source": Source(**row["source"])}) for row in found["phrases"]]
            said = _measured(found["measured"], len(rows)) if "measured" in found else None
        except DataError as error:
            raise DataError(f"{place}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(f"{place}: expected JSON of schema {SCHEMA}, got {str(error)[:80]!r}") from error
        broken = [i for i, (row, seal) in enumerate(zip(rows, seals, strict=True)) if row.approved and row.seal != seal]
        if broken:
            listed = ", ".join(str(i + 1) for i in broken[:10])
            warnings.warn(f"{place}: changed since they were let in, so they wait again: phrases {listed}", stacklevel=2)
        return cls(tuple(replace(p, approved="") if i in broken else p for i, p in enumerate(rows)), said)

    def save(self, path: str | Path) -> Path:
        """Write the book as one JSON file, whole or not at all."""
        write(Path(path), self.to_json().encode())
        return Path(path)


def _measured(found: Any, count: int) -> Measured:
    """What ``to_json`` wrote of labels and prior, checked."""
    labels = {str(text): tuple(row) for text, row in found["labels"].items()}
    if any(len(row) != count or any(value not in (0, 1, None) for value in row) for row in labels.values()):
        raise DataError(f"measured: expected {count} labels of 0, 1 or null for each text")
    prior = {str(name): {str(c): v for c, v in row.items()} for name, row in found["prior"].items()}
    if any(v not in (-1, 0, 1) for row in prior.values() for v in row.values()):
        raise DataError("measured: expected a prior of -1, 0 or 1")
    return Measured(labels, prior)


def _joined(made: Book, books: Sequence[Book]) -> Measured:
    """What was measured of ``books``, by the phrases of ``made``, into which they were merged; the last that knows is right."""
    place = {_key(phrase): i for i, phrase in enumerate(made)}
    labels: dict[str, list[float | None]] = {}
    prior: dict[str, dict[str, int]] = {}
    for book in books:
        said, at = book.measured or Measured(), [place[_key(phrase)] for phrase in book]
        for text, row in said.labels.items():
            known = labels.setdefault(text, [None] * len(made))
            for i, value in zip(at, row, strict=True):
                known[i] = known[i] if value is None else value
        names = {phrase.concept.name: made.phrases[i].concept.name for phrase, i in zip(book, at, strict=True)}
        for owner, row in said.prior.items():
            signs = prior.setdefault(owner, {})
            signs.update({names[name]: sign or signs.get(names[name], 0) for name, sign in row.items() if name in names})
    every = [phrase.concept.name for phrase in made]
    signed = {owner: {name: row.get(name, 0) for name in every} for owner, row in prior.items()}
    return Measured({text: tuple(row) for text, row in labels.items()}, signed)


def _key(phrase: Phrase) -> tuple[Any, ...]:
    """What two phrases have alike that are one: text and part, and the classes of one about a part."""
    return phrase.text.casefold(), phrase.part, phrase.owners if phrase.part else None


def merged(phrases: Iterable[Phrase]) -> Book:
    """Phrases in order, the same text and part once, for all its classes; the first source stays.

    Its approval stays too, unless an unapproved phrase adds a class: that pair must be reviewed. A phrase
    about a part stays apart for each class: it is that class's descriptor.
    """
    found: dict[tuple[Any, ...], Phrase] = {}
    for phrase in phrases:
        key = _key(phrase)
        first = found.setdefault(key, phrase)
        if first is not phrase:
            owners = tuple(dict.fromkeys((*first.owners, *phrase.owners)))
            approved = first.approved if phrase.approved or owners == first.owners else ""
            found[key] = replace(first, owners=owners, approved=approved)
    return Book(tuple(found.values()))


def read_words(path: str | Path, classes: Sequence[str] = ()) -> Book:
    """A list of concepts from a file that a person wrote, and so approved.

    ``.txt``: a phrase on each line; a line that begins with '#' is a comment. ``.json``: a list of phrases;
    ``{class: [phrases]}``, as LaBo's lists; ``{class: {part: phrase}}``, or ``{class: ["part: phrase"]}`` with the same parts
    in each class, as PEEB's; or a saved ``Book`` (its approved phrases). Classes not among ``classes`` (where given) are
    answered with 'did you mean'.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a text file in UTF-8, got {str(error)[:80]}; check the path") from error
    source, name = Source("file", path.name), str(path)
    if path.suffix.lower() == ".json":
        try:
            found = json.loads(text, object_pairs_hook=_once)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}: expected JSON, got {str(error)[:80]}") from error
        if isinstance(found, dict) and "schema" in found:
            book = Book.from_json(text, name).approved
        else:
            book = merged(_phrases(found, source, name))
    else:
        lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
        told = ((number, line) for number, line in lines if line and not line.startswith("#"))
        book = merged(_phrase(line, source, f"{name}, line {number}") for number, line in told)
    if not len(book):
        raise DataError(f"{name}: expected at least one approved phrase, got none; review it, or write one a line")
    for owner in book.classes if classes else ():
        if owner not in classes:
            raise unknown(f"class in {name}", owner, classes)
    return book


def fitting(book: Book, classes: Sequence[str], place: str = "words", *, asked: Sequence[str] | None = None) -> None:
    """Do the classes that phrases were written for stand in the data? ``classes`` are the data's.

    ``asked``: those of them whose lack of phrases is named (default: all).

    A name that is none of them, but near one that has no phrase, is a slip: the error offers it. Other names, whose phrases
    count for no class, classes that have no phrase, and phrases in which a class is named (names of three letters or more:
    "no" and "A" are plain words) are told in warnings.
    """

    def told(names: Sequence[str]) -> str:
        return ", ".join(map(repr, names[:10])) + (" ..." if len(names) > 10 else "")

    long = [name for name in classes if sum(map(str.isalpha, name)) > 2]
    if giving := [phrase.text for phrase in book if long and named(phrase.text, long)]:
        told_of = f"{len(giving)} of {len(book)} phrases name a class of the data and so give the answer away"
        warnings.warn(f"{place}: {told_of}: {told(giving)}; reword them or take them out", stacklevel=3)
    written = set(book.classes)
    bare = [name for name in classes if name not in written]
    if not written or not classes:
        return
    lacking = [name for name in bare if asked is None or name in asked]
    strange = [owner for owner in book.classes if owner not in classes]
    plain = {name.casefold().replace("_", " "): name for name in bare}
    for owner in strange:
        if near := get_close_matches(owner.casefold().replace("_", " "), plain, n=1, cutoff=0.6):
            meant = plain[near[0]]
            raise UnknownName(f"unknown class in {place} {owner!r}; did you mean {meant!r}? The data's are {told(classes)}")
    if strange:
        warnings.warn(f"{place}: phrases of {told(strange)} count for no class; the data's are {told(classes)}", stacklevel=3)
    if lacking:
        never = "methods that score a class by its own phrases and learn no weights (describe, peeb) never answer so"
        warnings.warn(f"{place}: no phrase was written for {told(lacking)}; {never}", stacklevel=3)


def _phrases(found: Any, source: Source, place: str) -> list[Phrase]:
    """The phrases of the JSON shapes that authors publish."""
    if isinstance(found, list) and all(isinstance(each, str) for each in cast("list[Any]", found)):
        return [_phrase(text, source, f"{place}, number {i}") for i, text in enumerate(cast("list[str]", found), 1)]
    if not isinstance(found, Mapping):
        raise DataError(f"{place}: expected a list of phrases, or classes with theirs, got {type(found).__name__}")
    rows: list[Phrase] = []
    shared = _parts(cast("Mapping[str, Any]", found))
    for owner, own in cast("Mapping[str, Any]", found).items():
        if not isinstance(own, Mapping | list):
            raise DataError(f"{place}, class {owner!r}: expected its phrases, got {type(own).__name__}")
        pairs: list[tuple[str | None, Any]] = [*own.items()] if isinstance(own, Mapping) else [(None, each) for each in own]
        for part, text in pairs:
            if not isinstance(text, str):
                raise DataError(f"{place}, class {owner!r}: expected phrases as text, got {type(text).__name__}")
            if part is None and shared:
                part, text = (each.strip() for each in text.split(":", 1))
            rows.append(_phrase(text, source, f"{place}, class {owner!r}", (owner,), part))
    return rows


def _phrase(text: str, source: Source, place: str, owners: tuple[str, ...] = (), part: str | None = None) -> Phrase:
    """A phrase of a person's file, and so approved; ``DataError`` names its ``place``."""
    try:
        return Phrase(text.strip(), owners, part, source, source.name)
    except DataError as error:
        raise DataError(f"{place}: {error}; mend it or take it out") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names stand once; of two the last would win without a word."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise DataError(f"{next(n for n in names if names.count(n) > 1)!r} stands twice; join its lists")
    return made


def _parts(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts that every class describes as 'part: phrase', in the same order; else none, with a warning if most do."""
    lists = [cast("list[Any]", own) if isinstance(own, list) else [] for own in found.values()]
    every: set[tuple[str, ...]] = set()
    for own in lists:
        if not own or not all(isinstance(t, str) and ":" in t for t in own):
            every.add(())
        else:
            every.add(tuple(text.split(":", 1)[0].strip() for text in cast("list[str]", own)))
    parts = every.pop() if len(every) == 1 else ()
    if parts and len(set(parts)) == len(parts):
        return parts
    texts = [text for own in lists for text in own if isinstance(text, str)]
    marked = sum(":" in text for text in texts)
    if texts and 2 * marked > len(texts):
        said = f"{marked} of {len(texts)} phrases read 'part: phrase', but the classes do not all list the same parts once"
        warnings.warn(f"words: {said}; taken as plain phrases", stacklevel=4)
    return ()
