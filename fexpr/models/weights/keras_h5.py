"""Keras' HDF5 files: `.h5` as keras-vggface and Keras 2 write them (weights or whole models),
`.weights.h5` and `.keras` of Keras 3.

Names become `<layer>/<leaf>`, in the order of the file, with _ for the / inside a layer's name
(conv1/7x7_s2/bn -> conv1_7x7_s2_bn: Keras 3 allows no / there, so that both generations agree);
leaves are kernel, bias, gamma, beta, moving_mean, moving_variance.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from fexpr.errors import UserError

# by number of arrays of a layer
LEAVES = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


def read(
    path: Path, file: IO[bytes] | None = None
) -> tuple[str, dict[str, np.ndarray], dict[str, str]]:
    """The format, all arrays, and what the file says of itself. `file`: its bytes, where they are
    part of a larger file.

    Raises:
      UserError: the file is cut off or damaged, holds no layers, or layers that cannot be told
          apart.
    """
    try:
        with h5py.File(file or path, "r") as h5:
            root = h5.get("model_weights", h5)
            about = {
                name: str(_text(value))
                for attrs in (h5.attrs, root.attrs)
                for name, value in attrs.items()
                if name in ("keras_version", "backend")
            }
            if "layer_names" in root.attrs:
                return "Keras HDF5", _legacy(root), about
            if isinstance(h5.get("layers"), h5py.Group):
                return "Keras 3 HDF5", _keras3(path, h5["layers"]), about
            found = ", ".join(h5) or "nothing"
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as e:
        raise UserError(
            f"{path} is damaged, cut off, or not laid out as Keras does: {e}",
            fix="copy or download it again, and compare its size",
        ) from e
    raise UserError(
        f"{path} is HDF5, but no file of Keras",
        [f"expected the attribute layer_names, or the group layers; found {found}"],
        fix="give weights that Keras saved",
    )


def _legacy(root: h5py.Group) -> dict[str, np.ndarray]:
    """Each layer's group lists its arrays in `weight_names`; slashes in names nest groups. A model
    in a model is one group of many.
    """
    arrays = {}
    for layer in map(_text, root.attrs["layer_names"]):
        group = root[layer]
        names = [_text(name) for name in group.attrs["weight_names"]]
        owners = [name.rpartition("/")[0] or layer for name in names]
        nested = len(set(owners)) > 1
        for owner in dict.fromkeys(owners):
            mine = [name for name, of in zip(names, owners, strict=True) if of == owner]
            leaves = [name.rpartition("/")[2].partition(":")[0] for name in mine]
            if not set(leaves) <= {leaf for known in LEAVES.values() for leaf in known}:
                leaves = _by_place(owner, [group[name] for name in mine])
            title = (owner if nested else layer).replace("/", "_")
            arrays |= {
                f"{title}/{leaf}": np.asarray(group[name])
                for name, leaf in zip(mine, leaves, strict=True)
            }
    return arrays


def _keras3(path: Path, layers: h5py.Group) -> dict[str, np.ndarray]:
    """Groups are called after classes (conv2d_3), and carry the layer's own name as an attribute;
    arrays are numbered.
    """
    arrays: dict[str, np.ndarray] = {}
    for key in sorted(
        layers,
        key=lambda name: [
            int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)
        ],
    ):
        node = layers[key]
        if "layers" in node:
            arrays |= _keras3(path, node["layers"])
        variables = node.get("vars")
        if variables is None or not len(variables):
            continue
        if "name" not in variables.attrs:
            raise UserError(
                f"{path} does not say which layer is which",
                [
                    f"layers/{key}: no name; the first versions of Keras 3 number layers by "
                    "class and leave their names out"
                ],
                fix="load it with the Keras that wrote it, and save it as .h5, or again with a "
                "newer Keras",
            )
        name = str(_text(variables.attrs["name"])).replace("/", "_")
        values = [variables[str(i)] for i in range(len(variables))]
        arrays |= {
            f"{name}/{leaf}": np.asarray(value)
            for leaf, value in zip(_by_place(name, values), values, strict=True)
        }
    return arrays


def _by_place(layer: str, values: list[Any]) -> tuple[str, ...]:
    if len(values) not in LEAVES:
        raise ValueError(
            f"layer {layer} has {len(values)} arrays, expected those of a convolution, a "
            "dense layer or a batch norm"
        )
    return LEAVES[len(values)]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value
