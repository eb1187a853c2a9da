"""The folder for files that fexpr can recreate."""

from __future__ import annotations

import os
from pathlib import Path

from fexpr.errors import UserError


def cache_dir() -> Path:
    """`$FEXPR_CACHE_DIR`, else `fexpr` in the user's cache folder (`$XDG_CACHE_HOME` or
    `~/.cache`). Errors as in `expand_home`.
    """
    if os.environ.get("FEXPR_CACHE_DIR"):
        return expand_home(os.environ["FEXPR_CACHE_DIR"])
    return expand_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "fexpr"


def expand_home(path: Path | str) -> Path:
    """`path` with a leading ~ replaced by the user's home folder.

    Raises:
      UserError: there is no such user, or the home folder is unknown.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as e:
        raise UserError(
            f"{path}: {e}",
            fix="give the whole path, or set $HOME, $FEXPR_CACHE_DIR, $FEXPR_DATA_DIR",
        ) from e
