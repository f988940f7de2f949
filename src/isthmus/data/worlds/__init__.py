"""Worlds of our own: generated data whose concepts, rule and places are known."""

from __future__ import annotations

from isthmus.data.worlds.causal_graph import causal_graph
from isthmus.data.worlds.correlated import correlated
from isthmus.data.worlds.poker import poker
from isthmus.data.worlds.robot import robot
from isthmus.data.worlds.sudoku import sudoku
from isthmus.data.worlds.toy import dot, tabular_toy, tabular_toy_information, trig, xor

__all__ = [
    "causal_graph",
    "correlated",
    "dot",
    "poker",
    "robot",
    "sudoku",
    "tabular_toy",
    "tabular_toy_information",
    "trig",
    "xor",
]
