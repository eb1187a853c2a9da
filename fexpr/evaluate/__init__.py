"""From predictions.npz to numbers and reports. NumPy alone, but for the terminal (rich), the figures (plots) and the pages (page)."""

from fexpr.evaluate.evaluation import evaluate

__all__ = ["evaluate"]
