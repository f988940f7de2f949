"""One file for each published method; importing this registers them all."""

from isthmus.methods import cbm, cem, intcem, scbm, sidechannel, yardsticks

__all__ = ["cbm", "cem", "intcem", "scbm", "sidechannel", "yardsticks"]
