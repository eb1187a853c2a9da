"""`python -m fexpr.models.pretrained`, the former name of `python -m fexpr.weights`; `main` starts
that command. This module imports nothing of it until then, as that command is in a higher layer
than the models.
"""

from __future__ import annotations

import importlib
import sys


def main(argv: list[str] | None = None) -> int:
    return importlib.import_module("fexpr.weights").main(argv)


if __name__ == "__main__":
    sys.exit(main())
