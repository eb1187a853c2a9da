"""HTNet's PyTorch release (a `.pth` state dict): conversion of names and layouts in both
directions. Pure NumPy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from fexpr.models.weights.fitting import Layout, fit_arrays, refuse_problems

# Parameter paths here -> module names in HTNet's PyTorch release. Both count levels and blocks from
# 0, the finest level first.
_MODULES = (
    (r"patch_embedding/", r"to_patch_embedding.1."),
    (r"level_(\d+)/position", r"layers.\1.0.pos_emb"),
    (r"level_(\d+)/attention_(\d+)_norm/", r"layers.\1.0.layers.\2.0.norm."),
    (r"level_(\d+)/attention_(\d+)/qkv", r"layers.\1.0.layers.\2.0.fn.to_qkv.weight"),
    (r"level_(\d+)/attention_(\d+)/out/", r"layers.\1.0.layers.\2.0.fn.to_out.0."),
    (r"level_(\d+)/ffn_(\d+)_norm/", r"layers.\1.0.layers.\2.1.norm."),
    (r"level_(\d+)/ffn_(\d+)/hidden/", r"layers.\1.0.layers.\2.1.fn.net.0."),
    (r"level_(\d+)/ffn_(\d+)/out/", r"layers.\1.0.layers.\2.1.fn.net.3."),
    (r"merge_(\d+)/", r"layers.\1.1.0."),
    (r"merge_(\d+)_norm/", r"layers.\1.1.1."),
    (r"head_norm/", r"mlp_head.0."),
    (r"head/", r"mlp_head.2."),
)


def htnet_to_torch(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The parameters of an HTNet, renamed and laid out as in its PyTorch release (a
    `.pth` state dict).
    """
    return {
        name(path): np.ascontiguousarray(to_torch_layout(path, np.asarray(array)))
        for path, array in flatten_dict(params).items()
    }


def htnet_from_torch(state: Mapping[str, np.ndarray], like: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an HTNet from a state dict of its PyTorch release.

    Args:
      state: name -> array, all tensors of the file.
      like: the parameters of the model that is to take them; only shapes are read, so
        `jax.eval_shape(model.init, key, images)["params"]` will do.

    Returns:
      A new tree like `like`, of NumPy arrays, float32.

    Raises:
      UserError: names are missing, unknown, or of another shape; it lists all of them.
    """
    tree, report = fit_arrays(state, {"params": like}, LAYOUT, whole=True)
    refuse_problems(
        report,
        "the weights do not fit this HTNet",
        "build the model with the arguments that the weights were trained with (dim, heads, "
        "block_repeats …)",
    )
    return tree["params"]


def name(path: tuple[str, ...]) -> str:
    """The release's name of a path: ('level_0', 'position') -> 'layers.0.0.pos_emb'."""
    leaf_names = (
        {"scale": "g", "bias": "b"} if _is_norm(path) else {"kernel": "weight", "bias": "bias"}
    )
    *modules, leaf = path
    ours = "/".join([*modules, leaf_names.get(leaf, leaf)])
    for pattern, theirs in _MODULES:
        if re.match(pattern, ours):
            return re.sub(f"^{pattern}", theirs, ours)
    raise ValueError(f"{'/'.join(path)} is not a parameter of HTNet")


def to_torch_layout(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    """HWIO -> OIHW; [I, O] -> [O, I], as a 1x1 convolution but for the classifier; norms [C] -> [1,
    C, 1, 1].
    """
    if _is_norm(path):
        return array.reshape(1, -1, 1, 1)
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2:
        return array.T if path[0] == "head" else array.T[:, :, None, None]
    return array


def from_torch_layout(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    """The inverse of `to_torch_layout`. A 1x1 convolution that is a dense layer here gets two
    axes.
    """
    if _is_norm(path):
        return array.reshape(-1)
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0) if path[0].startswith("merge_") else array[:, :, 0, 0].T
    return array.T if array.ndim == 2 else array


def _is_norm(path: tuple[str, ...]) -> bool:
    return path[-2].endswith("_norm")


LAYOUT = Layout(
    lambda path: name(path[1:]),
    lambda path, array: to_torch_layout(path[1:], array),
    lambda path, array: from_torch_layout(path[1:], array),
)
