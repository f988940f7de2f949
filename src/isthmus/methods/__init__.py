"""One file for each published method; importing this registers them all."""

from isthmus.methods import cbm, cem, ecbm, probcbm, sidechannel, yardsticks

__all__ = ["cbm", "cem", "ecbm", "probcbm", "sidechannel", "yardsticks"]
