"""The command `python -m fexpr.export`; everything is in fexpr/recognizer/export.py."""

from __future__ import annotations

import sys

from fexpr import terminal
from fexpr.recognizer.export import main

if __name__ == "__main__":
    terminal.quiet()
    sys.exit(main())
