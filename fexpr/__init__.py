"""fexpr: facial expressions, micro-expressions and action units in JAX and Flax."""

__version__ = "0.1.0"
