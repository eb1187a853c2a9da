"""A packed run: what a recogniser needs from a finished run, in a folder that can be passed on.

    config.json, metrics.json   as in the run directory; config.json also has the SHA-256 of the
                                weights
    weights.safetensors         every trial's variables of one epoch, with a leading axis of trials,
                                under their own names; parameters as float16
    MODEL_CARD.md               data and their licence, protocol, results, limits

`Recognizer.restore` reads one like a run directory: a folder, an archive of it, an address.
`fexpr/recognizer/pack.py` writes them; those in `fexpr/zoo` are installed with fexpr.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from flax.traverse_util import unflatten_dict

from fexpr.errors import UserError
from fexpr.models.weights import files
from fexpr.storage import bounded, contents, run

ABOUT = "packed"  # the file's metadata: JSON with the selection, the model, the classes


def is_packed(folder: Path) -> bool:
    """Whether the folder holds a packed run, of which only what a recogniser needs is kept."""
    return bounded.is_file(folder / run.PACKED_WEIGHTS)


def load_variables(folder: Path, selection: str) -> dict:
    """The variables of a packed run as a tree of float32 arrays with a leading axis of trials.

    Raises:
      UserError: the file is damaged or not part of a packed run; it holds the weights of another
          epoch.
    """
    found = files.read(folder / run.PACKED_WEIGHTS)
    try:
        kept = json.loads(found.about.get(ABOUT, "{}"))["selection"]
    except (ValueError, KeyError, TypeError):
        raise _not_packed(found.path) from None
    if kept != selection:
        raise UserError(
            f"{folder} has no weights of selection {selection!r}",
            fix=f"it only has those of {kept!r}",
        )
    trials = {array.shape[:1] for array in found.arrays.values()}
    if not {"input/mean", "input/std"} <= set(found.arrays) or len(trials) != 1 or trials == {()}:
        raise _not_packed(found.path)
    content = contents.read_config(folder / run.CONFIG, contents.TRAINED)
    if content.get("weights", {}).get("sha256", found.sha256) != found.sha256:
        raise run.damaged(
            found.path, "it is not the file that was packed", "`fexpr weights pack` the run again"
        )
    return unflatten_dict(
        {
            name: array.astype(np.float32) if array.dtype == np.float16 else array
            for name, array in found.arrays.items()
        },
        sep="/",
    )


def _not_packed(path: Path) -> UserError:
    return UserError(
        f"{path} contains no packed run",
        [
            f"expected metadata {ABOUT!r} with the selection; input/mean, input/std; all arrays "
            "with the same leading axis of trials"
        ],
        fix="`fexpr weights pack` makes packed runs",
    )
