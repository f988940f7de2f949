"""Policies by name, with their levels: 'ectp', 'ucp:group', 'lcp:group:batch', 'eudtp:rescored', 'ucp:group:max'.

Two readings of a group's uncertainty are published: 'ucp:group:margin' is that of Shin et al. 2023, the mean of its members'
1 / (p - .5)^2; 'ucp:group:max' that of the code of Espinosa Zarlenga et al. (CEM, IntCEM), the largest 1 / |p - .5| of its
members, for binary concepts the same order as their largest entropy. Ours, 'ucp:group', is the mean entropy. For single
concepts all are one order.
"""

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
    "mean": {"pool": "mean"},
    "max": {"pool": "max"},
    "entropy": {"measure": "entropy"},
    "margin": {"measure": "margin"},
}


def policy(name: str) -> Policy:
    """A policy by name, with changes after colons: 'group', 'batch', 'rescored', 'max', 'margin' (and their opposites).

    'max': a group scores the largest of its members' scores, not their mean; 'margin', of 'ucp': 1 / (p - .5)^2, not entropy.
    """
    base, *changes = name.split(":")
    if base not in POLICIES:
        raise unknown("policy", base, POLICIES)
    found = POLICIES[base]()
    for change in changes:
        if change not in CHANGES:
            raise unknown(f"change of policy {base!r}", change, CHANGES)
        wanted = CHANGES[change]
        known = {field.name for field in fields(found)}  # type: ignore[arg-type]
        if isinstance(found, Greedy | Learned):
            known -= {"pool"}  # they score whole units
        if not set(wanted) <= known:
            raise OptionError(f"policy {name!r}: {base!r} knows no {next(iter(wanted))}; leave {change!r} out")
        found = replace(found, **wanted)  # type: ignore[type-var]
    return found


def rescores(found: Policy) -> bool:
    """Does it look at the model again after each answer?"""
    return isinstance(found, Scored) and found.rescored
