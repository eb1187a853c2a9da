"""The weights of a recogniser as safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

import fexpr
from fexpr.models.weights import layouts
from fexpr.models.weights.files import CHECKSUM, checksum, write_safetensors
from fexpr.recognizer.ensemble import Ensemble
from fexpr.storage import run
from fexpr.storage.seen_people import to_metadata


def write_weights(recognizer: Ensemble, path: Path, layout: str = "fexpr") -> dict[str, np.ndarray]:
    """Writes the weights as safetensors, and returns them: a single network's under its own names,
    or under those of its PyTorch release (layout 'pytorch'); an ensemble's as 'trial_3/params/…'.

    Raises:
      UserError: a model without that layout; an ensemble under PyTorch's names; the file cannot be
          written.
    """
    arrays, config = {}, recognizer.content
    for trial, network in zip(recognizer.members, recognizer.networks, strict=True):
        prefix = f"trial_{trial}/" if len(recognizer.networks) > 1 else ""
        tree = {**network.variables, "input": {"mean": network.mean, "std": network.std}}
        arrays |= {
            prefix + name: np.asarray(array) for name, array in flatten_dict(tree, sep="/").items()
        }
    if layout == "pytorch":
        arrays = layouts.to_torch(recognizer.network.model, recognizer.network.variables)
    about = {
        "fexpr": fexpr.__version__,
        "model": config["config"]["model"],
        "classes": recognizer.class_names,
        "image": recognizer.shape,
        "data": config["data"]["source"],
        "selection": recognizer.selection,
        "trained_further": recognizer.further,
        "trials": recognizer.members,
        "layout": layout,
        CHECKSUM: checksum(arrays),
    }
    # hashed names, so that a run that starts from these weights does not test these people
    if recognizer.seen:
        about["people"] = to_metadata(recognizer.seen)
    with run.atomic_path(path) as partial:
        write_safetensors(
            partial,
            arrays,
            {
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in about.items()
            },
        )
    return arrays
