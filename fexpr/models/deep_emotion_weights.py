"""Weights of Deep-Emotion's PyTorch release (a `.pt` state dict), renamed and laid out for DeepEmotion, and back. Pure NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fexpr.errors import UserError

_MODULES = {
    "conv_0": "conv1", "conv_1": "conv2", "conv_2": "conv3", "conv_3": "conv4", "norm": "norm", "hidden": "fc1", "head": "fc2",
    "localization/conv_0": "localization.0", "localization/conv_1": "localization.3",
    "localization/hidden": "fc_loc.0", "localization/theta": "fc_loc.2",
}  # module path here -> name there
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def deep_emotion_to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The variables of a DeepEmotion (`params`, `batch_stats`) under the names and in the layouts of its PyTorch release."""
    return {_theirs(path): np.ascontiguousarray(_transposed(leaf)) for path, leaf in _leaves(variables)}


def deep_emotion_from_torch(state: Mapping[str, np.ndarray], like: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a DeepEmotion from a state dict of its PyTorch release.

    Args:
      state: name -> array, all tensors of the file. PyTorch's batch counter (`num_batches_tracked`), which no output depends on,
        may be there.
      like: the variables of the model that is to take them; only shapes are read, so `jax.eval_shape(model.init, key, images)` will do.

    Returns:
      A new tree like `like` (`params` and `batch_stats`), of NumPy arrays in the dtype of `state`.

    Raises:
      UserError: names are missing, unknown, or of another shape; it lists all of them.
    """
    leaves = [(path, _theirs(path), leaf.shape) for path, leaf in _leaves(like)]
    wanted = {name: _shape_there(shape) for _, name, shape in leaves}
    given = {name: np.asarray(array) for name, array in state.items() if not name.endswith(".num_batches_tracked")}
    problems = [f"{name}: missing, expected {shape}" for name, shape in wanted.items() if name not in given]
    problems += [f"{name}: not part of this model, found {array.shape}" for name, array in given.items() if name not in wanted]
    problems += [
        f"{name}: expected {shape}, found {given[name].shape}"
        for name, shape in wanted.items()
        if name in given and given[name].shape != shape
    ]
    if problems:
        raise UserError(
            f"the weights do not fit this DeepEmotion ({len(problems)} problems)", problems,
            fix="build the model with the variant (the baseline has no localization, fc_loc) and num_classes (fc2) of the weights",
        )
    variables: dict[str, Any] = {}
    for path, name, _ in leaves:
        node = variables
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = np.ascontiguousarray(_transposed(given[name], back=True))
    return variables


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()):
    for name, node in tree.items():
        if isinstance(node, Mapping):
            yield from _leaves(node, (*path, name))
        else:
            yield (*path, name), node


def _theirs(path: tuple[str, ...]) -> str:
    """('params', 'localization', 'conv_0', 'kernel') -> 'localization.0.weight'."""
    _, *modules, leaf = path
    return f"{_MODULES['/'.join(modules)]}.{_LEAVES[leaf]}"


def _transposed(array: Any, back: bool = False) -> np.ndarray:
    """HWIO -> OIHW, [I, O] -> [O, I]; vectors as they are. Flattened features are in PyTorch's order here too."""
    array = np.asarray(array)
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0) if back else array.transpose(3, 2, 0, 1)
    return array.T


def _shape_there(shape: tuple[int, ...]) -> tuple[int, ...]:
    return _transposed(np.broadcast_to(np.float32(0), shape)).shape
