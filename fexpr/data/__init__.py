"""The data room: every release becomes a `Dataset`. NumPy, no JAX."""

from fexpr.data import samm

LOADERS = {"samm": samm.load}
