"""One file for each published method; importing this registers them all."""

from isthmus.methods import autoregressive, cbm, cem, ecbm, intcem, probcbm, realigned, scbm, sidechannel, yardsticks

__all__ = [
    "autoregressive",
    "cbm",
    "cem",
    "ecbm",
    "intcem",
    "probcbm",
    "realigned",
    "scbm",
    "sidechannel",
    "yardsticks",
]
