"""The former location of the command `python -m fexpr.weights`."""
