"""Policies by name, with their levels: 'ectp', 'ucp:group', 'lcp:group:batch', 'eudtp:rescored'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from isthmus.errors import OptionError, unknown
from isthmus.interventions.criteria import CooP, Expected, Greedy, Scored, Uncertain, Wrong
from isthmus.interventions.kflip import KFlip
from isthmus.interventions.learned import Learned
from isthmus.interventions.policies import Fixed, Policy, Random

POLICIES: dict[str, Callable[[], Policy]] = {
    "random": Random,
    "ucp": Uncertain,
    "lcp": Wrong,
    "cctp": lambda: Expected(criterion="cctp"),
    "ectp": lambda: Expected(criterion="ectp"),
    "eudtp": lambda: Expected(criterion="eudtp"),
    "coop": CooP,
    "greedy": Greedy,
    "static": Fixed,
    "learned": Learned,
    "kflip": KFlip,
}
CHANGES: dict[str, dict[str, Any]] = {
    "concept": {"level": "concept"},
    "group": {"level": "group"},
    "single": {"scope": "single"},
    "batch": {"scope": "batch"},
    "rescored": {"rescored": True},
    "once": {"rescored": False},
}


def policy(name: str) -> Policy:
    """A policy by name, with changes after colons: 'group', 'batch', 'rescored' (and their opposites)."""
    base, *changes = name.split(":")
    if base not in POLICIES:
        raise unknown("policy", base, POLICIES)
    found = POLICIES[base]()
    for change in changes:
        if change not in CHANGES:
            raise unknown(f"change of policy {base!r}", change, CHANGES)
        wanted = CHANGES[change]
        if not set(wanted) <= {field.name for field in fields(found)}:  # type: ignore[arg-type]
            raise OptionError(f"policy {name!r}: {base!r} knows no {next(iter(wanted))}; leave {change!r} out")
        found = replace(found, **wanted)  # type: ignore[type-var]
    return found


def rescores(found: Policy) -> bool:
    """Does it look at the model again after each answer?"""
    return isinstance(found, Scored) and found.rescored
