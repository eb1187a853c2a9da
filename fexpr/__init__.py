"""fexpr: facial expressions, micro-expressions and action units in JAX and Flax."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fexpr.recognizer import Recognizer

__version__ = "0.1.0"
__all__ = ["Recognizer"]


def __getattr__(name: str) -> Any:
    """Imports `Recognizer` on first use, so that JAX is not imported for anything else."""
    if name == "Recognizer":
        return importlib.import_module("fexpr.recognizer").Recognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
