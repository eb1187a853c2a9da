"""From predictions.npz to numbers and reports. NumPy alone, but for the terminal (rich), the figures (plots), the pages (page) and the
isotonic fit (scikit-learn). `python -m fexpr.evaluate` does it for models trained elsewhere."""

from fexpr.evaluate.evaluation import evaluate

__all__ = ["evaluate"]
