"""From predictions.npz to numbers and reports. Needs only NumPy, except for the terminal (rich),
the figures (plots), the pages (page) and the isotonic fit (scikit-learn). `python -m
fexpr.evaluate` evaluates models trained elsewhere.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fexpr.evaluate.evaluation import evaluate

__all__ = ["evaluate"]


def __getattr__(name: str) -> Any:
    """Imports `evaluate` on first use, so that the fields of config.evaluate can be read without
    it.
    """
    if name == "evaluate":
        return importlib.import_module("fexpr.evaluate.evaluation").evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
