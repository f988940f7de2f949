"""Pages of the site that nobody writes by hand: ``methods/`` is made from the cards when the site is built.

Named under ``hooks`` in mkdocs.yml. What is written by hand about a method, docs/methods/NAME.md, follows its card.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus import plugins
from isthmus.registry import Method, methods
from isthmus.testing import LAWS

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every method, and every page of numbers, below its index in the navigation."""
    plugins.load_all()
    docs = Path(config.docs_dir)
    below = {
        "Methods": [f"methods/{name}.md" for name in methods()],
        "Numbers": sorted(f"numbers/{file.name}" for file in docs.glob("numbers/*.md") if file.stem != "index"),
    }
    sections = [dict[str, str](entry) for entry in config.nav or []]
    config.nav = [
        {title: [index, *below[title]] if below.get(title) else index} for entry in sections for title, index in entry.items()
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """mkdocs asks once which files there are: one more page for each registered method, and their index."""
    from mkdocs.structure.files import File

    pages = {"methods/index.md": index(methods())}
    for name, found in methods().items():
        own = Path(config.docs_dir) / "methods" / f"{name}.md"
        pages[f"methods/{name}.md"] = page(found) + ("\n" + own.read_text(encoding="utf-8") if own.exists() else "")
    for place, text in pages.items():
        if written := files.get_file_from_path(place):
            files.remove(written)
        files.append(File.generated(config, place, content=text))
    return files


def index(found: dict[str, Method]) -> str:
    """The table of all methods, by family and year."""
    lines = ["# Methods", "", "Made from the cards of the registered methods; `isthmus list` prints the same.", ""]
    lines += _row("method", "what", "family", "year", "sealed"), _row(*["---"] * 5)
    for name, method in sorted(found.items(), key=lambda item: (item[1].card.family, item[1].card.year, item[0])):
        card = method.card
        sealed = "yes" if card.sealed else "no"
        lines.append(_row(f"[`{name}`]({name}.md)", card.title, card.family, str(card.year or ""), sealed))
    lines += [
        "",
        "*Sealed*: nothing but the concepts reaches the task. Of the others, the *bypass* is measured and reported.",
    ]
    return "\n".join(lines) + "\n"


def page(method: Method) -> str:
    """A method's card, its options with their defaults, and the laws that it does not keep, with the reasons."""
    card = method.card
    facts = {
        "paper": card.paper,
        "code of the authors": card.code,
        "needs": ", ".join(card.needs) or "task labels only",
        "concepts": ", ".join(card.kinds),
        "tasks": ", ".join(card.tasks),
    }
    lines = [f"# {card.title}", "", f"`isthmus fit {method.name} DATA`, `im.fit({method.name!r}, data)`", ""]
    lines += [f"- **{what}**: {said}" for what, said in facts.items() if said]
    lines += ["", card.notes, "", "## Options", "", inspect.getdoc(method.build) or "", ""]
    lines += _row("option", "type", "default", "tuned over"), _row(*["---"] * 4)
    for name, option in method.options.items():
        tuned = ", ".join(f"`{value!r}`" for value in card.tune.get(name, ()))
        default = "" if option.default is option.empty else f"`{option.default!r}`"
        kind = option.annotation if isinstance(option.annotation, str) else inspect.formatannotation(option.annotation)
        lines.append(_row(f"`{name}`", f"`{kind}`", default, tuned))
    lines += ["", "## Laws it does not keep", ""]
    lines += [f"- {number} ({LAWS[number]}): {reason}" for number, reason in sorted(card.exempt.items())] or ["None."]
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
