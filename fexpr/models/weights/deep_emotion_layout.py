"""Weights of Deep-Emotion's PyTorch release (a `.pt` state dict), renamed and laid out for
DeepEmotion, and back. Pure NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from fexpr.models.weights.fitting import Layout, fit_arrays, refuse_problems

_MODULES = {
    "conv_0": "conv1",
    "conv_1": "conv2",
    "conv_2": "conv3",
    "conv_3": "conv4",
    "norm": "norm",
    "hidden": "fc1",
    "head": "fc2",
    "localization/conv_0": "localization.0",
    "localization/conv_1": "localization.3",
    "localization/hidden": "fc_loc.0",
    "localization/theta": "fc_loc.2",
}  # module path in fexpr -> name in the release
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def deep_emotion_to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The variables of a DeepEmotion (`params`, `batch_stats`), renamed and laid out as in its
    PyTorch release.
    """
    return {
        _theirs(path): np.ascontiguousarray(_transposed(path, leaf))
        for path, leaf in flatten_dict(variables).items()
    }


def deep_emotion_from_torch(
    state: Mapping[str, np.ndarray], like: Mapping[str, Any]
) -> dict[str, Any]:
    """The variables of a DeepEmotion from a state dict of its PyTorch release.

    Args:
      state: name -> array, all tensors of the file. PyTorch's batch counter
        (`num_batches_tracked`), which no output depends on, may be present.
      like: the variables of the model that is to take them; only shapes are read, so
          `jax.eval_shape(model.init, key, images)` will do.

    Returns:
      A new tree like `like` (`params` and `batch_stats`), of NumPy arrays, float32.

    Raises:
      UserError: names are missing, unknown, or of another shape; it lists all of them.
    """
    variables, report = fit_arrays(state, like, LAYOUT, whole=True)
    refuse_problems(
        report,
        "the weights do not fit this DeepEmotion",
        "build the model with the variant (the baseline has no localization, fc_loc) and "
        "num_classes (fc2) of the weights",
    )
    return variables


def _theirs(path: tuple[str, ...]) -> str:
    """The release's name of a path: ('params', 'localization', 'conv_0', 'kernel') ->
    'localization.0.weight'.
    """
    _, *modules, leaf = path
    return f"{_MODULES['/'.join(modules)]}.{_LEAVES[leaf]}"


def _transposed(path: tuple[str, ...], array: Any) -> np.ndarray:
    """HWIO -> OIHW, [I, O] -> [O, I]; vectors as they are. Flattened features are in PyTorch's
    order here too.
    """
    del path
    array = np.asarray(array)
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _back(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    del path
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


LAYOUT = Layout(_theirs, _transposed, _back, ignored=r"\.num_batches_tracked$")
