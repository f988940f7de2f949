"""What a method asks of the data beside its options: concept labels, concepts in words, their vectors, their classes."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import nn

from isthmus.registry import Method
from isthmus.space import EMPTY, ConceptSpace, Task

NEEDS: dict[str, tuple[str, Callable[[ConceptSpace, bool], bool]]] = {
    "concepts": ("concept labels", lambda space, labelled: labelled),
    "words": ("a list of concepts", lambda space, labelled: True),
    "vectors": ("concepts in words, in the features' text space", lambda space, labelled: space.vectors is not None),
    "texts": ("concepts in words, with their vectors", lambda space, labelled: space.vectors is not None),
    "owners": ("concepts written for the classes", lambda space, labelled: all(c.owner for c in space.concepts)),
    "parts": ("descriptors of parts", lambda space, labelled: all(c.part for c in space.concepts)),
    "patches": ("features with patches (--features cells)", lambda space, labelled: True),  # asked of features below
}
"""For each need of a card: what it is in words, and whether a space (with labels or without) has it.

'vectors' are read through the space that features share with texts; 'texts' alone are compared with what a method learns.
"""


def tied(method: Method) -> bool:
    """Does the method read the space that features share with texts, and so the map that ties them?"""
    return any("vectors" in need for need in method.card.needs)


def unmet(
    method: Method,
    space: ConceptSpace | None,
    task: Task,
    given: Collection[str] = (),
    *,
    labelled: bool = True,
    features: object = None,
) -> str | None:
    """Why the method cannot run on such data, in words; None when it can.

    ``space`` None or empty = no concepts; ``labelled`` = the rows have labels for them. A need 'concepts or vectors' is met
    by either. ``given`` are the names of the options that the caller sets. ``features``: the module, where it is known; one
    without ``patches`` has one.
    """
    space = space or EMPTY
    for need in method.card.needs:
        asked = [NEEDS[each] for each in need.split(" or ") if each in NEEDS]
        if need == "concepts" or not asked:
            continue  # the registry's own
        if not len(space) or not any(fits(space, labelled) for _, fits in asked):
            return " or ".join(said for said, _ in asked)
        if need == "patches" and isinstance(features, nn.Module) and int(getattr(features, "patches", 1)) < 2:
            return NEEDS[need][0]
        odd = sorted(space.kinds - set(method.card.kinds))
        if odd:
            return f"{' or '.join(method.card.kinds)} concepts alone, got {odd[0]} ones"
    return method.unmet(space if labelled and len(space) else None, task, given)
