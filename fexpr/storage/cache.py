"""Where fexpr keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$FEXPR_CACHE_DIR`, else `fexpr` in the user's cache folder (`$XDG_CACHE_HOME` or
    `~/.cache`).
    """
    if os.environ.get("FEXPR_CACHE_DIR"):
        return Path(os.environ["FEXPR_CACHE_DIR"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fexpr"
