"""`python -m fexpr.models.pretrained`, the former name of `python -m fexpr.weights`; it starts that
command and imports nothing of it.
"""

import runpy

runpy.run_module("fexpr.weights", run_name="__main__", alter_sys=True)
