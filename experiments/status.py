"""The command `python -m experiments.status`; everything is in fexpr/runs/status.py."""

from __future__ import annotations

import sys

from fexpr.runs.status import main

if __name__ == "__main__":
    sys.exit(main())
