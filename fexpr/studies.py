"""Where `configs`, `experiments` and `launch.py` are: beside fexpr in a clone, inside fexpr once
installed, so that an installation adds no other package names. A script that uses an installed
fexpr starts with these lines, and is then the same as in a clone:

    from fexpr import studies

    studies.add_to_path()
"""

from __future__ import annotations

import sys
from pathlib import Path

_INSTALLED = Path(__file__).parent / "_clone"  # pyproject.toml puts them there
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[1]
LAUNCH = FOLDER / "launch.py"


def add_to_path() -> None:
    """Makes `configs`, `experiments` and `launch` importable, before other modules of these
    names.
    """
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
