"""Concepts in words on any data: frozen features, a text space they share, the words' vectors, and no concept label."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isthmus import needs
from isthmus.concepts.book import Book, fitting, read_words
from isthmus.concepts.letters import named
from isthmus.data.cache import cached
from isthmus.data.classes import apart
from isthmus.data.rows import Images
from isthmus.data.table import Splits, Table
from isthmus.encoders import learnable, resolve, train_encoder
from isthmus.errors import DataError, OptionError
from isthmus.features import Features, build
from isthmus.features.aligned import Aligned, align
from isthmus.model import ConceptModel
from isthmus.registry import Method
from isthmus.space import ConceptSpace, Task
from isthmus.train import encode

MADE = "class names and concept labels of the training rows, put into words"


def tied_suffix(method: Method, aligned: dict[str, Any] | None, task: Task) -> str:
    """What is to be said behind a method's name, where it reads texts by an ``aligned`` map (its card; None: no such map).

    A map that saw training rows of a class that is tested makes no method zero-shot that learns nothing else; where its card
    does not say which classes it saw, it may have seen all.
    """
    if not aligned:
        return ""
    if aligned.get("weak"):
        return " (weakly supervised)" if needs.tied(method) else ""
    seen = set(task.names) & set(aligned.get("classes", task.names))
    return " (classes seen by the map)" if seen and method.card.zero_shot else ""


def tie_of(model: ConceptModel) -> dict[str, Any] | None:
    """The card of the map that ties a model's features to texts; None where no map was fitted."""
    return (model.features.card or None) if isinstance(model.features, Aligned) else None


@dataclass(frozen=True, eq=False)
class Worded:
    """``splits`` with the words as concepts and no concept labels, frozen ``features`` with a text space, and ``options``.

    ``options`` are what methods may ask for beside: ``class_vectors`` (Y, d), texts of the class names. ``card`` says which
    words, which text encoder and, where the features were aligned here, with what; ``unseen``: the classes kept from that.
    """

    splits: Splits
    features: Features
    options: dict[str, Any]
    card: dict[str, Any]

    @property
    def weak(self) -> bool:
        """Did labels make the captions that tie images to texts?"""
        return bool(self.card["aligned"] and self.card["aligned"]["weak"])


def worded(
    data: Splits,
    words: Book | str | Path,
    *,
    features: str | nn.Module | None = None,
    feature_options: dict[str, Any] | None = None,
    text: str | Features | None = None,
    training: dict[str, Any] | None = None,
    unseen: Sequence[str] | float | None = None,
    seed: int = 0,
) -> Worded:
    """The data with concepts in words instead of its own, on features that share a space with texts.

    ``words``: a ``Book`` or a file (see ``read_words``). ``features``: frozen, with weights; None takes the columns as they
    are, or MobileNetV2 for images. Features of a CLIP or SigLIP folder bring their own text tower. Others are aligned in closed
    form with ``text`` (default: the MiniLM sentence encoder) by the captions of training rows; a table without captions gets
    them from its training labels, and what is learnt so is weakly supervised. No validation or test row is used for that.
    A book that was ``told`` of captions brings its labels for training and validation rows, and its prior of the classes.
    Features without weights learn the task first (``training``: epochs, lr, batch_size) and are then frozen for every method.
    ``unseen``: classes, or a share of them above 0 and below 1 (the same ones each time), of which no row reaches the map or
    such features, nor a caption that names one; the data returned are theirs alone, so that methods that learn nothing but the
    map are zero-shot. Phrases of the other classes are left out. ``OptionError`` where features bring a map that saw them.
    Raises ``DataError`` for words that do not fit, ``UnknownName`` for a misspelt class; classes without a phrase are named in
    a warning.
    """
    book = words if isinstance(words, Book) else read_words(words)
    if not len(book):
        raise DataError("words: expected at least one phrase, got an empty list")
    place, ties, kept = "words" if isinstance(words, Book) else str(words), data, tuple[str, ...]()
    every = data.task.names if data.task.kind != "value" else ()
    if unseen is not None:
        ties, data = apart(data, unseen)
        kept = data.task.names
    fitting(book, every, place, asked=kept or every)
    if kept:
        book = book.without(name for name in book.classes if name not in kept)
        if not len(book):
            raise DataError(f"{place}: expected phrases of the unseen classes, or of none, got those of other classes alone")
    module = resolve(features or _frozen(data), ties, seed=seed, **(feature_options or {}))
    _kept_from(module, kept)
    learnt = learnable(module)
    if learnt:
        module = train_encoder(deepcopy(module) if module is features else module, ties, "task", seed=seed, **(training or {}))
    module = module.eval().requires_grad_(False)
    encoder = text if isinstance(text, Features) else _tower(module, text)
    embed = lambda texts: vectors(encoder, texts)  # noqa: E731
    if _own_tower(module) is None and not hasattr(module, "shared"):
        module, captions = _aligned(module, ties, kept, embed, seed)
    else:
        captions = {}
    space = book.space(embed(book.texts))
    parts = {name: _with(getattr(data, name), space, book, name) for name in ("train", "validation", "test")}
    splits = Splits(**parts, name=data.name, card=data.card, published={}, suggest={})
    card = {
        "words": len(book),
        "for_classes": len(book.classes),
        "source": sorted({f"{phrase.source.kind} {phrase.source.name}".strip() for phrase in book}),
        "text_encoder": "" if encoder.recipe is None else encoder.recipe.name,
        "fitted_here": bool(captions),
        "features_learnt": learnt,
        "unseen": list(kept),
        "aligned": captions or getattr(module, "card", None) or None,
    }
    options: dict[str, Any] = {"class_vectors": embed(class_texts(data.task))}
    if book.measured is not None and book.measured.prior:
        options["prior"] = {y: row for y, row in book.measured.prior.items() if y in data.task.names}
    return Worded(splits, module, options, card)


def in_words(data: Splits, words: Book | str | Path | None, unseen: Sequence[str] | float | None, **how: Any) -> Worded | None:
    """``worded``, or None where the data's own concepts stay."""
    if words is not None:
        return worded(data, words, unseen=unseen, **how)
    if unseen is not None:
        raise OptionError("unseen: expected words, too: it keeps classes from the map that ties rows to texts; add them")
    return None


def vectors(encoder: Features, texts: Sequence[str]) -> Tensor:
    """Texts -> (n, d) embeddings, 256 at a time, without gradient."""
    with torch.no_grad():
        parts = [encoder(encoder.prepare(list(texts[at : at + 256]))) for at in range(0, len(texts), 256)]
    return torch.cat(parts).float()


def class_texts(task: Task) -> list[str]:
    """Class names as texts."""
    return [name.replace("_", " ") for name in task.names]


def sentences(table: Table, without: Sequence[str] = ()) -> list[str]:
    """What is said of each row: its captions, else sentences made of its labels."""
    return captions_of(table, without) if table.caption is None else list(table.caption)


def captions_of(table: Table, without: Sequence[str] = ()) -> list[str]:
    """A sentence for each row from its labels: the class, and its concepts, but those that name a class ``without``."""
    assert table.task is not None and table.y is not None
    if table.task.kind != "classes":
        raise OptionError("words: expected captions for the training rows (a caption column), as y names no classes")
    names = class_texts(table.task)
    whose = [names[label] for label in table.y.tolist()]
    if table.c is None or not len(table.space):
        return whose
    present = table.c.nan_to_num() > 0.5
    told: list[list[str]] = [[] for _ in whose]
    for concept, part in zip(table.space.concepts, table.space.slices, strict=True):
        text = (concept.text or concept.name).replace("_", " ")
        if concept.kind == "continuous" or (without and named(text, without)):
            continue
        for row, state in present[:, part].nonzero().tolist():
            state_name = concept.states[state] if concept.states else "yes"
            told[row].append(text if state_name == "yes" else f"{state_name} {text}".replace("_", " "))
    return [", ".join([name, *more]) for name, more in zip(whose, told, strict=True)]


def _aligned(module: Features, data: Splits, unseen: Sequence[str], embed: Any, seed: int) -> tuple[Aligned, dict[str, Any]]:
    train, weak = data.train, data.train.caption is None
    pairs = MADE if weak else str(data.suggest.get("captions", "captions of the training rows"))
    z = cached(module, train.x) if getattr(module, "pretrained", False) else encode(module, train)
    captions, groups = sentences(train, unseen), train.group
    if unseen:  # what a caption names, its row may show
        telling = {caption for caption in set(captions) if named(caption, unseen)}
        mute = [row for row, caption in enumerate(captions) if caption not in telling]
        if not mute:
            raise DataError("unseen: expected captions of other classes that name none of these, got none; leave fewer out")
        z, captions, groups = z[mute], [captions[row] for row in mute], groups and [groups[row] for row in mute]
        gone = f", {len(train) - len(mute)} left out, as their captions name an unseen one" if telling else ""
        pairs += f"; rows of the other {data.task.width} classes alone{gone}"
    classes = data.task.names if data.task.kind != "value" else ()
    made = align(module, z, captions, embed, pairs=pairs, weak=weak, classes=classes, groups=groups, seed=seed)
    return made, made.card


def _kept_from(module: Features, unseen: Sequence[str]) -> None:
    """Refuse features that bring a map which saw rows of a class that is to be unseen, or does not say which it saw."""
    seen = [name for name in unseen if name in module.card.get("classes", unseen)] if isinstance(module, Aligned) else []
    if seen:
        said = f"may have seen rows of {seen[0]!r}; give features without a map of their own, and one is fitted here"
        raise OptionError(f"unseen: expected features whose map these classes were kept from, got one that {said}")


def _with(table: Table, space: ConceptSpace, book: Book, name: str) -> Table:
    """The rows with these concepts, and no label for them but those that a language model read off captions.

    Test rows have none: what was asked about captions is for learning.
    """
    c = None
    if book.measured is not None:
        nothing = (None,) * len(book)
        said = [] if name == "test" else [book.measured.labels.get(text, nothing) for text in sentences(table)]
        c = torch.tensor([[torch.nan if v is None else v for v in row] for row in said or [nothing] * len(table)])
        if name == "train" and bool(c.isnan().all()):
            raise DataError(
                "words: expected labels of the captions of these rows, got none; isthmus concepts measure asks for them"
            )
    return replace(table, c=c, where=None, askable=None, space=space, caption=None, checked=False)


def _frozen(data: Splits) -> str | nn.Module:
    x = data.train.x
    if isinstance(x, Tensor) and x.ndim == 2:
        return "identity"
    if isinstance(x, Images) or (isinstance(x, Tensor) and x.ndim == 4):
        return "mobilenetv2"
    raise OptionError("words: these rows have no default features; name frozen ones, as in --features vision_backbone:NAME")


def _own_tower(module: Features) -> str | None:
    """The folder or hub name of a two-tower model whose picture side these features are; else None."""
    recipe = module.recipe
    if recipe is None or recipe.name != "vision_backbone":
        return None
    kind = str(recipe.options.get("config", {}).get("model_type", ""))
    shared = recipe.options.get("pooling") == ("pooler" if kind.startswith("siglip") else "projection")
    return str(recipe.options["name_or_folder"]) if kind.startswith(("clip", "siglip", "metaclip")) and shared else None


def _tower(module: Features, text: str | None) -> Features:
    """The text encoder by name, the one that belongs to the features, or the sentence encoder."""
    own = _own_tower(module)
    if own is not None and text is None:
        pooling = "pooler" if "siglip" in str(module.recipe and module.recipe.options.get("config")) else "projection"
        return build("text_backbone", own, pooling=pooling)
    if text is None or text == "sentence_encoder":
        return build("sentence_encoder")
    return build("sentence_encoder", text)
