"""Keras' HDF5 files: `.h5` as keras-vggface and Keras 2 write them (weights or whole models),
`.weights.h5` and `.keras` of Keras 3.

Names become `<layer>/<leaf>`, in the order of the file, with _ for the / inside a layer's name
(conv1/7x7_s2/bn -> conv1_7x7_s2_bn: Keras 3 allows no / there, so that both generations agree);
leaves are kernel, bias, gamma, beta, moving_mean, moving_variance.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fexpr.errors import UserError
from fexpr.models.weights import hdf5_heaps

# number of arrays of a layer -> their names
LEAVES = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
UNKNOWN = re.compile(r"/variable_[0-9]+$")  # arrays of layers of other kinds, as Normalization


MOST_OBJECTS, DEEPEST = 20_000, 16  # groups and arrays of a file; groups in groups


class NotOwn(ValueError):
    """A part of the file is stored elsewhere: reading it would read another file."""


def read(
    path: Path, file: io.BufferedIOBase, most_bytes: int
) -> tuple[str, dict[str, np.ndarray], dict[str, str]]:
    """The format, all arrays, and the file's metadata.

    Args:
      path: for messages. file: its bytes, perhaps part of a larger file. most_bytes: limit for all
          arrays together.

    Raises:
      UserError: the file is cut off or damaged, contains no layers, several layers of one
          name, links to other files or places, or claims more than `most_bytes`.
    """
    try:
        hdf5_heaps.check(file)
        with h5py.File(file, "r") as h5:
            _check(h5, most_bytes)
            root = h5.get("model_weights", h5)
            if not isinstance(root, h5py.Group):
                raise ValueError("model_weights is not a group")
            about = {
                name: str(_text(attrs[name]))[:100]
                for attrs in (h5.attrs, root.attrs)
                for name in ("keras_version", "backend")
                if name in attrs
            }
            if "layer_names" in root.attrs:
                return "Keras HDF5", _legacy(root), about
            if isinstance(layers := h5.get("layers"), h5py.Group):
                arrays = _keras3(path, layers)
                unknown = dict.fromkeys(
                    name.rpartition("/")[0] for name in arrays if UNKNOWN.search(name)
                )
                about |= (
                    {"layers of a kind that is not known": ", ".join(unknown)} if unknown else {}
                )
                return "Keras 3 HDF5", arrays, about
            found = ", ".join(h5) or "nothing"
    except NotOwn as e:
        raise UserError(
            f"{path} cannot be read: {e}",
            fix="save the weights again in Keras, which stores all arrays in the file itself",
        ) from e
    except (
        AttributeError,
        KeyError,
        MemoryError,
        OSError,
        OverflowError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as e:
        raise UserError(
            f"{path} is damaged, cut off, or not in Keras' layout: {e}",
            fix="copy or download it again, and compare its size",
        ) from e
    raise UserError(
        f"{path} is HDF5, but not a file of Keras",
        [f"expected the attribute layer_names, or the group layers; found {found}"],
        fix="give weights that Keras saved",
    )


def _check(h5: h5py.File, most_bytes: int) -> None:
    """Checks everything in the file before any array is read: nothing may be stored elsewhere
    (links, external storage, virtual data sets), be nested deeper than in models, or claim more
    bytes than allowed.
    """
    seen, claimed = set(), 0
    waiting: list[tuple[str, h5py.Group, int]] = [("", h5, 0)]
    while waiting:
        place, group, depth = waiting.pop()
        for name in group:
            where = f"{place}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise NotOwn(f"{where} is a link to another place or file")
            node = group[name]
            # compiled, without type stubs
            address = h5py.h5o.get_info(node.id).addr  # pyright: ignore[reportAttributeAccessIssue]
            if address in seen:
                if isinstance(node, h5py.Group):
                    raise ValueError(f"the group {where} occurs twice")
                continue
            seen.add(address)
            if len(seen) > MOST_OBJECTS or depth == DEEPEST:
                raise ValueError(
                    f"more than {MOST_OBJECTS:,} groups and arrays, or more than {DEEPEST} nested "
                    "groups"
                )
            if isinstance(node, h5py.Group):
                waiting.append((where, node, depth + 1))
            elif isinstance(node, h5py.Dataset):
                if node.is_virtual or node.external:
                    raise NotOwn(f"the numbers of {where} are stored in another file")
                claimed += node.nbytes
                if claimed > most_bytes:
                    raise ValueError(
                        f"its arrays claim more than {most_bytes:,} bytes, far more than the file "
                        "has"
                    )


def _legacy(root: h5py.Group) -> dict[str, np.ndarray]:
    """Each layer's group lists its arrays in `weight_names`; slashes in names nest groups. A nested
    model is a single group of many layers.
    """
    arrays = {}
    for layer in _names(root.attrs["layer_names"]):
        group = root[layer]
        if not isinstance(group, h5py.Group):
            raise ValueError(f"{layer} is no group")
        names = _names(group.attrs["weight_names"])
        owners = [name.rpartition("/")[0] or layer for name in names]
        nested = len(set(owners)) > 1
        for owner in dict.fromkeys(owners):
            mine = [name for name, of in zip(names, owners, strict=True) if of == owner]
            leaves = [name.rpartition("/")[2].partition(":")[0] for name in mine]
            known = set(leaves) <= {leaf for known in LEAVES.values() for leaf in known}
            if not known and len(mine) in LEAVES:
                leaves = LEAVES[len(mine)]
            title = (owner if nested else layer).replace("/", "_")
            arrays |= {
                f"{title}/{leaf}": _array(group[name])
                for name, leaf in zip(mine, leaves, strict=True)
            }
    return arrays


def _keras3(path: Path, layers: h5py.Group) -> dict[str, np.ndarray]:
    """Groups are called after classes (conv2d_3), and carry the layer's own name as an attribute;
    arrays are numbered.
    """
    arrays: dict[str, np.ndarray] = {}
    for key in sorted(layers, key=_by_number):
        node = layers[key]
        if not isinstance(node, h5py.Group):
            raise ValueError(f"layers/{key} is not a group")
        if "layers" in node:
            if not isinstance(inner := node["layers"], h5py.Group):
                raise ValueError(f"layers/{key}/layers is not a group")
            arrays |= _keras3(path, inner)
        variables = node.get("vars")
        if variables is None:
            continue
        if not isinstance(variables, h5py.Group):
            raise ValueError(f"layers/{key}/vars is not a group")
        if not len(variables):
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
        name = _text(variables.attrs["name"]).replace("/", "_")
        values = [_array(variables[str(i)]) for i in range(len(variables))]
        leaves = LEAVES.get(len(values), [f"variable_{i}" for i in range(len(values))])
        arrays |= {f"{name}/{leaf}": value for leaf, value in zip(leaves, values, strict=True)}
    return arrays


def _by_number(name: str) -> list[int | str]:
    """A key that sorts conv2d_10 after conv2d_9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def _array(node: object) -> np.ndarray:
    if not isinstance(node, h5py.Dataset):
        raise ValueError(f"{getattr(node, 'name', node)} is not an array")
    return np.asarray(node)


def _names(value: Any) -> list[str]:
    if np.ndim(value) != 1:  # Keras writes a list even for a single name
        raise ValueError(f"expected a list of names, found {str(value)[:40]}")
    return [_text(name) for name in value]


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise ValueError(f"expected a name, found {str(value)[:40]}")
    return value
