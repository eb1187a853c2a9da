"""The command `python -m experiments.status`; everything is in fexpr/runs/list_runs.py."""

from __future__ import annotations

import sys

from fexpr.runs.list_runs import main

if __name__ == "__main__":
    sys.exit(main())
