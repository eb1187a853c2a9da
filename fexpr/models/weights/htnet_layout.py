"""HTNet's PyTorch release (a `.pth` state dict): conversion of names and layouts in both
directions. Pure NumPy.
"""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float

from fexpr.models.weights.fitting import Layout

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


def to_torch_layout(
    path: tuple[str, ...], array: Float[np.ndarray, "*ours"]
) -> Float[np.ndarray, "*theirs"]:
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


def from_torch_layout(
    path: tuple[str, ...], array: Float[np.ndarray, "*theirs"]
) -> Float[np.ndarray, "*ours"]:
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
