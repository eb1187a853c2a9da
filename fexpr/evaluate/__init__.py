"""From predictions.npz to numbers and a report. NumPy alone, but for the two files that draw (plots) and write HTML (report)."""

from fexpr.evaluate.evaluation import evaluate

__all__ = ["evaluate"]
