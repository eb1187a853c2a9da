"""Checksums of the arrays of a checkpoint: computed when it is saved, compared when it is read."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree


def flatten(tree: PyTree) -> dict[str, Any]:
    """The arrays of a tree, or their shapes, by path ('variables/params/Dense_0/kernel'), the same
    for named tuples and for the dicts that Orbax restores them as.
    """
    return {
        "/".join(_name(part) for part in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def checksums(tree: PyTree) -> dict[str, str]:
    """The CRC-32 (hex) of each array's type, shape and bytes, by path."""
    return {path: _checksum(np.asarray(array)) for path, array in flatten(tree).items()}


def find_damage(tree: PyTree, expected: Mapping[str, str]) -> list[str]:
    """One line for each array that differs from the one from which `expected` was computed."""
    found = checksums(tree)
    return [
        f"{path}: {'missing' if path not in found else 'its bytes are not those that were saved'}"
        for path in sorted({*found, *expected})
        if found.get(path) != expected.get(path)
    ]


def _checksum(array: np.ndarray) -> str:
    about = f"{array.dtype.name} {array.shape}".encode()
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return f"{zlib.crc32(content, zlib.crc32(about)):08x}"


def _name(part: object) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(part, attribute):
            return str(getattr(part, attribute))
    return str(part)
