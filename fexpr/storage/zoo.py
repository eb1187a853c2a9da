"""The trained models that are installed with fexpr: packed runs
(fexpr/recognizer/packed_run.py) under `fexpr/zoo`, each named by its folder.
"""

from __future__ import annotations

from pathlib import Path

from fexpr.errors import UserError
from fexpr.storage import run
from fexpr.storage.addresses import path_or_url

FOLDER = Path(__file__).parents[1] / "zoo"


def names() -> list[str]:
    """The names of the trained models that are installed, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{run.PACKED_WEIGHTS}"))


def folder(name: str) -> Path:
    """The folder of a model. Raises a UserError if there is no such model."""
    if name not in names():
        raise UserError(
            f"there is no trained model {name!r} in this installation",
            [f"there are {', '.join(names()) or 'none'}"],
            fix="`fexpr weights` describes them; run directories and packed runs are read by "
            "Recognizer.restore",
        )
    return FOLDER / name


def run_or_model(text: str) -> str:
    """Resolves a command-line argument: a model of the zoo, or else a run (`./fer2013`: a run of
    that name). Errors as in `path_or_url`.
    """
    return str(FOLDER / text if text in names() else path_or_url(text))
