"""Weights of other frameworks, renamed and laid out for the models here, and back. Pure NumPy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fexpr.errors import UserError

# Parameter paths here -> module names in HTNet's PyTorch release. Both count levels and blocks from 0, the finest level first.
_HTNET_MODULES = (
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
    """The parameters of an HTNet under the names and in the layouts of its PyTorch release (a `.pth` state dict)."""
    return {_htnet_name(path): np.ascontiguousarray(_to_torch(path, np.asarray(array))) for path, array in _leaves(params)}


def htnet_from_torch(state: Mapping[str, np.ndarray], like: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an HTNet from a state dict of its PyTorch release.

    Args:
      state: name -> array, all tensors of the file.
      like: the parameters of the model that is to take them; only shapes are read, so
        `jax.eval_shape(model.init, key, images)["params"]` will do.

    Returns:
      A new tree like `like`, of NumPy arrays in the dtype of `state`.

    Raises:
      UserError: names are missing, unknown, or of another shape; it lists all of them.
    """
    leaves = list(_leaves(like))
    wanted = {_htnet_name(path): _to_torch(path, np.broadcast_to(np.float32(0), leaf.shape)).shape for path, leaf in leaves}
    problems = [f"{name}: missing, expected {shape}" for name, shape in wanted.items() if name not in state]
    problems += [f"{name}: not part of this model, found {np.shape(state[name])}" for name in state if name not in wanted]
    problems += [
        f"{name}: expected {shape}, found {np.shape(state[name])}"
        for name, shape in wanted.items()
        if name in state and np.shape(state[name]) != shape
    ]
    if problems:
        raise UserError(
            f"the weights do not fit this HTNet ({len(problems)} of {len(wanted)} names differ)", problems,
            fix="build the model with the arguments that the weights were trained with (dim, heads, block_repeats …)",
        )
    params: dict[str, Any] = {}
    for path, leaf in leaves:
        *modules, name = path
        node = params
        for module in modules:
            node = node.setdefault(module, {})
        node[name] = _from_torch(np.asarray(state[_htnet_name(path)]), leaf.shape)
    return params


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, node in tree.items():
        if isinstance(node, Mapping):
            yield from _leaves(node, (*path, name))
        else:
            yield (*path, name), node


def _is_norm(path: tuple[str, ...]) -> bool:
    return path[-2].endswith("_norm")


def _htnet_name(path: tuple[str, ...]) -> str:
    leaf_names = {"scale": "g", "bias": "b"} if _is_norm(path) else {"kernel": "weight", "bias": "bias"}
    *modules, leaf = path
    ours = "/".join([*modules, leaf_names.get(leaf, leaf)])
    for pattern, theirs in _HTNET_MODULES:
        if re.match(pattern, ours):
            return re.sub(f"^{pattern}", theirs, ours)
    raise ValueError(f"{'/'.join(path)} is no parameter of HTNet")


def _to_torch(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    """HWIO -> OIHW; [I, O] -> [O, I], as a 1x1 convolution but for the classifier; norms [C] -> [1, C, 1, 1]."""
    if _is_norm(path):
        return array.reshape(1, -1, 1, 1)
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2:
        return array.T if path[0] == "head" else array.T[:, :, None, None]
    return array


def _from_torch(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 4:
        array = array.transpose(2, 3, 1, 0)
    elif len(shape) == 2:
        array = array.reshape(array.shape[:2]).T
    return np.ascontiguousarray(array.reshape(shape))
