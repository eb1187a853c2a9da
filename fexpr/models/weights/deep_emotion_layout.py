"""Weights of Deep-Emotion's PyTorch release (a `.pt` state dict), renamed and laid out for
DeepEmotion, and back. Pure NumPy.
"""

from __future__ import annotations

import numpy as np

from fexpr.models.weights.fitting import Layout

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


def _theirs(path: tuple[str, ...]) -> str:
    """The release's name of a path: ('params', 'localization', 'conv_0', 'kernel') ->
    'localization.0.weight'.
    """
    _, *modules, leaf = path
    return f"{_MODULES['/'.join(modules)]}.{_LEAVES[leaf]}"


def _transposed(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    """HWIO -> OIHW, [I, O] -> [O, I]; vectors as they are. Flattened features are in PyTorch's
    order here too.
    """
    del path
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _back(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    del path
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


LAYOUT = Layout(_theirs, _transposed, _back, ignored=r"\.num_batches_tracked$")
