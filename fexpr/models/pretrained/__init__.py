"""The former place of the command `python -m fexpr.weights`."""
