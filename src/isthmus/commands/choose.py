"""``concepts select`` and ``measure``: a few phrases of each class; what a language model says of captions and classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isthmus.commands.concepts import Words, app, book_of, writable_json
from isthmus.commands.console import complain, emit, say
from isthmus.commands.options import ConceptColumns, FeatureName, Json, Label, TableFile, Verbose
from isthmus.errors import DataError, OptionError

if TYPE_CHECKING:
    from isthmus.concepts import Book, Phrase

Rule = Literal["first", "random", "submodular", "group_mi", "group_clip", "frequency"]


@app.command("select")
def select(
    words: Words,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.json", help="Where to write the chosen phrases.")],
    per_class: Annotated[
        int | None,
        typer.Option(
            "--per-class",
            min=1,
            help="How many for each class; phrases shared with a class that had fewer come on top. Default: all.",
        ),
    ] = None,
    rule: Annotated[
        Rule,
        typer.Option(
            "--rule",
            metavar="RULE",
            help="Which of each class: first, random; with --data submodular (LaBo), group_mi, group_clip, frequency (V2C).",
        ),
    ] = "first",
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="Training images that rules look at, on frozen features.")
    ] = None,
    features: FeatureName = None,
    clean: Annotated[
        bool, typer.Option("--filter", help="First drop what is too long, a class name, or says the same (Label-free CBM).")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the rule random.")] = 0,
    beta: Annotated[
        float, typer.Option("--beta", min=0, help="Of submodular: the weight of coverage beside the score; 0 is group_mi.")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Keep approved phrases only, a few of each class; the file is a list of concepts for methods that take one.

    The rule frequency finds a phrase's classes in images: one that nobody let in for them waits for review again.
    """
    from isthmus.concepts import pick

    book = book_of(words)
    writable_json(out)
    if out.exists() and out.resolve() == words.resolve():
        raise OptionError(f"--out {out}: expected another file than the one that is read; what is not chosen would be lost")
    dropped: list[tuple[Phrase, str]] = []
    chosen = pick(book)
    if clean:
        chosen, dropped = _filtered(chosen)
    if rule in ("first", "random"):
        chosen = pick(chosen, per_class=per_class, rule=rule, seed=seed)
    else:
        chosen = _seen(chosen, rule, per_class, data, features, beta)
    chosen.save(out)
    waiting = len(chosen) - len(chosen.approved)
    counts = {owner or "no class": len(texts) for owner, texts in chosen.by_class().items()}
    if as_json:
        emit(
            {
                "schema": "isthmus.concepts-selected/1",
                "out": str(out),
                "phrases": len(chosen),
                "of": len(book),
                "classes": counts,
                "waiting": waiting,
                "dropped": [{"phrase": phrase.text, "why": why} for phrase, why in dropped],
            }
        )
        return
    for phrase, why in dropped:
        say(f"dropped {phrase.text!r}: {why}")
    say(f"{out}: {len(chosen)} of {len(book)} phrases; " + ", ".join(f"{owner} {count}" for owner, count in counts.items()))
    if waiting:
        said = f"{waiting} were found for classes that nobody let them in for, and are not used before a review"
        complain("note", f"{said}: isthmus concepts review {out}")


def _filtered(book: Book) -> tuple[Book, list[tuple[Phrase, str]]]:
    """Label-free CBM's text filters, with the sentence encoder for similarities; what went, and why."""
    from isthmus.concepts import filter as filters
    from isthmus.features import build
    from isthmus.worded import vectors

    encoder = build("sentence_encoder")
    similarity = filters.cosine((lambda texts: vectors(encoder, texts), 1.0))
    classes = [name for name in book.classes if name]
    found = filters.labelfree(book, classes, similarity)
    if not len(found.book):
        raise DataError("--filter: expected some phrase to stay, all were dropped; look at them without --filter")
    return found.book, list(found.dropped)


def _seen(book: Book, rule: str, per_class: int | None, data: str | None, features: str | None, beta: float = 1.0) -> Book:
    """The phrases that a rule chooses on training images."""
    from isthmus.commands.source import read
    from isthmus.commands.train import feature_choice
    from isthmus.concepts import select as chooser
    from isthmus.encoders import encoded
    from isthmus.worded import worded

    if data is None or per_class is None:
        raise OptionError(f"--rule {rule}: looks at training images; give --data and --per-class")
    name, options = feature_choice(features)
    made = worded(read(data, worded=True).splits, book, features=name, feature_options=options)
    train = encoded(made.splits, made.features).train
    shared = getattr(made.features, "shared", None)
    e = train.x if shared is None else shared(train.x)
    vectors = made.splits.space.vectors
    assert vectors is not None and train.y is not None
    words = vectors if shared is None else vectors - shared.center
    task = made.splits.task
    if rule != "frequency":
        return chooser.by_class(book, words, e, train.y, task, per_class, rule=rule, beta=beta)  # type: ignore[arg-type]
    found = chooser.by_frequency(book, words, e, train.y, task, per_class)
    kept = book.keep(i for i, phrase in enumerate(book) if any(phrase.text in own for own in found.values()))
    return replace(kept, phrases=tuple(_found(phrase, found, data) for phrase in kept))


def _found(phrase: Phrase, found: dict[str, list[str]], data: str) -> Phrase:
    """The phrase for the classes in whose images it was found; about a part, for the class that it describes.

    Its approval stays where it was given for these classes; a class that is new must be reviewed.
    """
    from isthmus.concepts import Source

    owners = phrase.owners if phrase.part else tuple(name for name, own in found.items() if phrase.text in own)
    if set(owners) == set(phrase.owners):
        return phrase
    source = Source("vocabulary", phrase.source.name, document=data)
    return replace(phrase, owners=owners, source=source, approved=phrase.approved if set(owners) <= set(phrase.owners) else "")


@app.command("measure")
def measure(
    words: Words,
    data: Annotated[str, typer.Option("--data", metavar="DATA", help="The data whose captions and classes are asked about.")],
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="An OpenAI-compatible server: http://localhost:11434/v1.")
    ],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The model's name at the server.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.json", help="A new file: the phrases with their labels and their prior.")
    ],
    key_env: Annotated[
        str | None, typer.Option("--key-env", metavar="NAME", help="The environment variable that holds the server's key.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Concepts in one question.")] = 20,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for one answer.")] = 60.0,
    most_calls: Annotated[int, typer.Option("--most-calls", help="The most requests, retries included.")] = 2_000,
    most_tokens: Annotated[int, typer.Option("--most-tokens", help="The most tokens, asked and answered.")] = 2_000_000,
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Ask whether each caption of training and validation rows shows each concept, and what each class usually has (KnoBo)."""
    from isthmus.commands.source import read
    from isthmus.concepts import LanguageModel, pick, told
    from isthmus.progress import Bar
    from isthmus.worded import sentences

    book = pick(book_of(words))
    writable_json(out)
    if out.exists():
        raise DataError(f"--out {out}: expected a new file, got one that is there; choose another")
    splits = read(data, label=label, concepts=concepts, table=table_file).splits
    if splits.task.kind != "classes":
        raise OptionError(f"--data {data}: expected a task with classes, got {splits.task.kind}")
    texts = [*sentences(splits.train), *sentences(splits.validation)]
    ask = LanguageModel(
        server, model, key_env=key_env, timeout=timeout, most_calls=most_calls, most_tokens=most_tokens, temperature=0.0
    )
    with Bar("measure", verbose=verbose) as bar:
        made = told(book, texts, splits.task.names, ask, batch=batch, progress=bar)
    made.save(out)
    assert made.measured is not None
    known = [value is not None for row in made.measured.labels.values() for value in row]
    share, spent = sum(known) / max(len(known), 1), ask.spending
    if as_json:
        facts = {"phrases": len(made), "captions": len(made.measured.labels), "known": share, "calls": spent.calls}
        emit({"schema": "isthmus.concepts-measured/1", "out": str(out), **facts})
        return
    say(
        f"{out}: {len(made)} phrases on {len(made.measured.labels)} different captions, {share:.0%} answered; "
        f"{spent.calls} calls, {spent.cached} answers from the cache",
        f"next: isthmus compare {data} --concepts {out} --method knobo",
    )
