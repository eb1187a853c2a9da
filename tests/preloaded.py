"""What launch.py imports sooner or later, imported once, in the process that launches are forked
from. It looks for no devices: each launch finds its own.
"""

import importlib
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from experiments import EXPERIMENTS
from fexpr.config import resolve

for _entry in EXPERIMENTS.values():
    resolve(_entry)
for _name in ("fexpr.evaluate.report.plots", "fexpr.runs.launchers.dispatch", "fexpr.runs.opening"):
    importlib.import_module(_name)
