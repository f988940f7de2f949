"""Corrections: policies that choose what to ask, people who err, and the curve of what corrections are worth."""

from isthmus.interventions.criteria import CooP, Expected, Greedy, Scored, Uncertain, Wrong
from isthmus.interventions.curve import Curve, curve, points
from isthmus.interventions.kflip import KFlip
from isthmus.interventions.learned import Learned
from isthmus.interventions.look import Look
from isthmus.interventions.named import POLICIES, policy
from isthmus.interventions.policies import Case, Fixed, Ordered, Policy, Random, case

__all__ = [
    "POLICIES",
    "Case",
    "CooP",
    "Curve",
    "Expected",
    "Fixed",
    "Greedy",
    "KFlip",
    "Learned",
    "Look",
    "Ordered",
    "Policy",
    "Random",
    "Scored",
    "Uncertain",
    "Wrong",
    "case",
    "curve",
    "points",
    "policy",
]
