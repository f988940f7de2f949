"""``concepts``: propose phrases with a language model, let them in one by one, take a few of each class, look at a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from isthmus.commands.console import complain, emit, say, table
from isthmus.commands.options import ConceptColumns, Json, Label, TableFile, Verbose
from isthmus.errors import DataError, OptionError

if TYPE_CHECKING:
    from isthmus.concepts import Book, LanguageModel, Phrase, Proposal

app = typer.Typer(
    no_args_is_help=False, help="Propose concepts in words with a language model, review them, choose among them."
)
MOST = 40  # phrases shown without --all
Words = Annotated[
    Path,
    typer.Argument(metavar="WORDS", help="A file of isthmus concepts propose; or a list of your own, words.txt or words.json."),
]
Everything = Annotated[bool, typer.Option("--all", help=f"Show every phrase, not only the first {MOST}.")]


@app.callback(invoke_without_command=True)
def root(ctx: typer.Context) -> None:
    """Concepts in words: propose, review, select, measure, show. Nothing is used unreviewed."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command("propose")
def propose(
    out: Annotated[
        Path, typer.Option("--out", metavar="WORDS.json", help="A new file for the phrases, none of them approved.")
    ],
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="An OpenAI-compatible server: http://localhost:11434/v1.")
    ],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The model's name at the server.")],
    classes: Annotated[str | None, typer.Option("--classes", metavar="A,B,C", help="The classes, by comma.")] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help="Or a data set as in fit: its classes.")] = None,
    style: Annotated[
        Literal["labo", "labelfree", "parts", "medical"],
        typer.Option("--style", metavar="labo|labelfree|parts|medical", help="Whose way to ask."),
    ] = "labo",
    per_class: Annotated[int, typer.Option("--per-class", min=1, help="The most phrases of each class.")] = 10,
    parts: Annotated[str | None, typer.Option("--parts", metavar="A,B,C", help="For the style parts: the parts.")] = None,
    documents: Annotated[
        Path | None,
        typer.Option("--documents", metavar="PATH", help="Ask for yes/no questions found in these texts instead (KnoBo)."),
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="With --documents: the most questions.")] = 200,
    domain: Annotated[str, typer.Option("--domain", metavar="TEXT", help="What the images are.")] = "photographs",
    key_env: Annotated[
        str | None, typer.Option("--key-env", metavar="NAME", help="The environment variable that holds the server's key.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for one answer.")] = 60.0,
    retries: Annotated[int, typer.Option("--retries", help="How often a busy or failing server is asked again.")] = 4,
    temperature: Annotated[float, typer.Option("--temperature", help="How freely the model draws its words.")] = 0.7,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="The longest answer.")] = 2048,
    most_calls: Annotated[int, typer.Option("--most-calls", help="The most requests, retries included.")] = 2_000,
    most_tokens: Annotated[int, typer.Option("--most-tokens", help="The most tokens, asked and answered.")] = 2_000_000,
    label: Label = None,
    concepts: ConceptColumns = None,
    table_file: TableFile = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Ask a language model for concepts of each class; what it says is checked, and waits in a file for your review."""
    from isthmus.concepts import LanguageModel
    from isthmus.progress import Bar

    if out.exists():
        raise DataError(f"--out {out}: expected a new file, got one that is there; its reviews would be lost; choose another")
    writable_json(out)
    ask = LanguageModel(
        server,
        model,
        key_env=key_env,
        timeout=timeout,
        retries=retries,
        temperature=temperature,
        max_tokens=max_tokens,
        most_calls=most_calls,
        most_tokens=most_tokens,
    )
    names = _classes(classes, data, label, concepts, table_file)
    if documents is not None and (parts is not None or style != "labo"):
        raise OptionError("--documents: expected no --style and no --parts with it; the questions come from the texts")
    with Bar("concepts", verbose=verbose) as bar:
        if documents is not None:
            from isthmus.concepts import questions
            from isthmus.concepts.documents import read_documents

            found = questions(read_documents(documents), names, ask, most=most, domain=domain, progress=bar)
        else:
            from isthmus.concepts import propose as asked

            found = asked(names, ask, style=style, per_class=per_class, parts=_listed(parts), domain=domain, progress=bar)
    if not len(found.book):
        raise DataError(f"{model}: expected phrases, got none that may be used; {_why(found)}; nothing was written")
    found.book.save(out)
    _proposed(found, ask, out, as_json)


def _proposed(found: Proposal, ask: LanguageModel, out: Path, as_json: bool) -> None:
    """Say what came, what was refused, and what it cost."""
    spent = ask.spending
    if as_json:
        refused = [{"class": r.owner, "text": r.text, "reason": r.reason} for r in found.refused]
        emit(
            {
                "schema": "isthmus.concepts-proposed/1",
                "out": str(out),
                "phrases": len(found.book),
                "refused": refused,
                "calls": spent.calls,
                "tokens": spent.tokens,
                "cached": spent.cached,
            }
        )
        return
    if found.refused:
        rows = [(r.owner, r.text, r.reason) for r in found.refused[:MOST]]
        table(("class", "refused", "why"), rows)
        if len(found.refused) > MOST:
            say(f"and {len(found.refused) - MOST} more were refused: --json lists them")
    say(
        f"{out}: {len(found.book)} phrases, none approved; {len(found.refused)} refused; {spent.calls} calls, "
        f"{spent.tokens} tokens, {spent.cached} answers from the cache",
        f"next: isthmus concepts review {out} --who NAME",
    )


def _why(found: Proposal) -> str:
    return f"first refusal: {found.refused[0].reason}" if found.refused else "the answers were empty"


def _classes(
    classes: str | None, data: str | None, label: str | None, concepts: str | None, table_file: Path | None
) -> list[str]:
    """The classes by name, or those of a data set."""
    if (classes is None) == (data is None):
        raise OptionError("expected --classes A,B,C or --data DATA, one of the two")
    if classes is not None:
        return _listed(classes)
    from isthmus.commands.source import read

    assert data is not None
    task = read(data, label=label, concepts=concepts, table=table_file).splits.task
    if task.kind not in ("classes", "labels"):
        raise OptionError(f"--data {data}: expected a task with classes, got {task.kind}; name them: --classes A,B,C")
    return list(task.names)


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def writable_json(out: Path) -> None:
    """Can this file be written, and does it end in .json?"""
    from isthmus.commands.places import writable

    writable(out.parent)
    if out.suffix.lower() != ".json":
        raise OptionError(f"--out {out}: expected a file that ends in .json")


@app.command("review")
def review(
    words: Words,
    who: Annotated[str, typer.Option("--who", metavar="NAME", help="Who lets them in; it stands beside each phrase.")],
    approve: Annotated[
        str | None, typer.Option("--approve", metavar="all|1,3,5-9", help="Let these in, by their numbers in `show`.")
    ] = None,
    refuse: Annotated[str | None, typer.Option("--refuse", metavar="all|1,3,5-9", help="Take these out of the file.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", help="Where to write; default: the same file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let phrases in or take them out: asked one by one on a terminal, or by their numbers.

    A list of your own is let in as it is, and stays as you wrote it: give --out.
    """
    from isthmus.concepts import approve as let_in
    from isthmus.concepts import refuse as take_out

    book = book_of(words)
    if out is None and _saved(words) is None:
        raise OptionError(f"{words}: expected --out FILE.json beside a list of your own, got none; the list stays as it is")
    place = words if out is None else out
    writable_json(place)
    let_in(book, (), who)  # refuses a bad name before anything is asked
    if approve is None and refuse is None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()) or as_json:
            raise OptionError(
                "expected --approve or --refuse where there is no terminal to ask on; isthmus concepts show lists"
            )
        good, bad = _asked(book)
    else:
        waiting = [i for i, phrase in enumerate(book) if not phrase.approved]
        bad = _numbers(refuse, "--refuse", range(len(book)))
        good = _numbers(approve, "--approve", range(len(book)), [i for i in waiting if i not in bad])
        if both := sorted(good & bad):
            raise OptionError(f"phrase {both[0] + 1}: expected in --approve or in --refuse, got it in both")
    made = take_out(let_in(book, good, who), bad)
    made.save(place)
    told = {"approved": len(made.approved), "waiting": len(made) - len(made.approved), "taken_out": len(book) - len(made)}
    if as_json:
        emit({"schema": "isthmus.concepts-reviewed/1", "out": str(place), "who": who, **told})
        return
    say(f"{place}: {told['approved']} approved, {told['waiting']} waiting, {told['taken_out']} taken out")


def book_of(path: Path) -> Book:
    """A saved book with everything in it, also what nobody approved; or a person's own list, which is approved.

    ``DataError`` names a file that is neither, or has no phrase.
    """
    from isthmus.concepts import Book, read_words

    text = _saved(path)
    if text is None:
        if path.suffix.lower() not in (".txt", ".json"):
            raise DataError(f"{path}: expected a list of concepts that ends in .txt or .json, got {path.suffix!r}; rename it")
        return read_words(path)
    book = Book.from_json(text, str(path))
    if not len(book):
        raise DataError(f"{path}: expected at least one phrase, got none")
    return book


def _saved(path: Path) -> str | None:
    """The text of a book that Isthmus wrote, known by its schema; None for any other file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a list of concepts, .json or .txt, got {str(error)[:80]}; check the path") from error
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return text if isinstance(found, dict) and "schema" in found else None


def _numbers(text: str | None, option: str, known: range, everything: list[int] | None = None) -> set[int]:
    """``1,3,5-9`` as positions from 0; ``all`` is ``everything``."""
    if text is None:
        return set()
    if text.strip().lower() == "all":
        return set(known if everything is None else everything)
    found: set[int] = set()
    for part in _listed(text):
        low, dash, high = part.partition("-")
        ends = (low.strip(), high.strip() if dash else low.strip())
        if not all(end.isascii() and end.isdigit() and len(end) < 9 for end in ends):
            raise OptionError(f"{option} {text!r}: expected all, or numbers such as 1,3,5-9, got {part!r}")
        first, last = int(ends[0]), int(ends[1])
        if not 1 <= first <= last <= len(known):
            raise OptionError(f"{option} {text!r}: expected numbers from 1 to {len(known)}, got {part!r}")
        found.update(range(first - 1, last))
    return found


def _asked(book: Book) -> tuple[set[int], set[int]]:
    """Ask a person about each phrase that waits; what was decided before 'quit' counts."""
    good: set[int] = set()
    bad: set[int] = set()
    waiting = [i for i, phrase in enumerate(book) if not phrase.approved]
    for count, i in enumerate(waiting, 1):
        table(_COLUMNS, [_row(i, book.phrases[i])], title=f"{count} of {len(waiting)}")
        answer = ""
        while answer not in ("a", "r", "s", "q"):
            answer = typer.prompt("[a]pprove, [r]efuse, [s]kip, [q]uit", default="s").strip().lower()[:1]
        if answer == "q":
            break
        (good if answer == "a" else bad if answer == "r" else set()).add(i)
    return good, bad


@app.command("show")
def show(words: Words, everything: Everything = False, as_json: Json = False) -> None:
    """List the phrases of a file: number, class, text, letters, approval, where each came from."""
    book = book_of(words)
    if as_json:
        phrases = [{"number": i + 1, **_told(phrase)} for i, phrase in enumerate(book)]
        emit({"schema": "isthmus.concepts-shown/1", "file": str(words), "approved": len(book.approved), "phrases": phrases})
        return
    rows = [_row(i, phrase) for i, phrase in enumerate(book)][: len(book) if everything else MOST]
    table(_COLUMNS, rows, title=f"{words}: {len(book)} phrases, {len(book.approved)} approved", right=("no.",))
    if len(rows) < len(book):
        say(f"and {len(book) - len(rows)} more: --all")
    if len(book.approved) < len(book):
        complain("note", "phrases that nobody approved are not used: isthmus concepts review")


_COLUMNS = ("no.", "class", "phrase", "letters", "approved by", "from")


def _row(i: int, phrase: Phrase) -> tuple[object, ...]:
    """A phrase for a person: escaped, with the scripts of its letters, for look-alikes cannot be seen."""
    from isthmus.concepts.letters import scripts
    from isthmus.concepts.safe import shown

    source = phrase.source
    text = f"{phrase.part}: {phrase.text}" if phrase.part else phrase.text
    origin = ", ".join(
        part for part in (source.kind, source.name, source.document, source.quote and f'"{source.quote}"') if part
    )
    letters = ", ".join(name.capitalize() for name in scripts(text))
    owners = ", ".join(phrase.owners)
    return i + 1, shown(owners, 60), shown(text, 200), letters, shown(phrase.approved) or "nobody", shown(origin, 200)


def _told(phrase: Phrase) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(phrase)
