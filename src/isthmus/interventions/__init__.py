"""Corrections: policies that choose what to ask, and the curve of what corrections are worth."""

from isthmus.interventions.curve import Curve, curve, points
from isthmus.interventions.policies import KFlip, Policy, Random, Uncertain, policy

__all__ = ["Curve", "KFlip", "Policy", "Random", "Uncertain", "curve", "points", "policy"]
