"""The data room: every release becomes a `Dataset`. NumPy, no JAX."""
