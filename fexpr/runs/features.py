"""Computes the features of a frozen trunk, once for every image, over all devices; they are cached
part by part.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float32, PyTree, UInt8

from fexpr.data.dataset import Dataset
from fexpr.errors import UserError
from fexpr.models.auxiliary import AuxiliaryOutputs
from fexpr.storage import bounded, npz, run
from fexpr.terminal import progress, say

PART = 1024  # images per file: what a killed run does not compute again
# arguments on which features do not depend
OF_THE_END = ("num_classes", "hidden", "dropout", "axis_name", "remat", "parent", "name")


def compute(
    trunk: Callable[[PyTree, jax.Array], jax.Array],
    model: nn.Module | AuxiliaryOutputs,
    end: str,
    frozen: PyTree,
    variables: PyTree,
    dataset: Dataset,
    precision: str,
    batch: int,
    dry_run: bool = False,
) -> Float32[np.ndarray, "N D"]:
    """Features float32 [N, D] of the images of `dataset`, by `trunk(variables, images uint8)`; read
    from the cache if it has them.

    Args:
      end: 'top' or 'head'. frozen: the variables of the trunk. batch: images at a time; rounded up
          to the devices.
      dry_run: zeros instead.
    """
    # each of several hosts computes all of them, so that no folder has to be shared
    images, devices = dataset.images[:], jax.local_devices()
    batch = -(-batch // len(devices)) * len(devices)
    width = jax.eval_shape(
        trunk, variables, jax.ShapeDtypeStruct((batch, *images.shape[1:]), np.uint8)
    ).shape[1]
    if dry_run:
        return np.zeros((len(images), width), np.float32)
    folder = run.cache_dir() / "features" / fingerprint(model, end, frozen, images, precision)
    parts = [
        (folder / f"{start:08d}.npy", images[start : start + PART])
        for start in range(0, len(images), PART)
    ]
    waiting = [(path, rows) for path, rows in parts if not path.exists()]
    began, mesh = time.monotonic(), Mesh(np.array(devices), ("data",))
    placed = jax.device_put(variables, NamedSharding(mesh, P())) if waiting else None
    forward = jax.jit(trunk)
    with progress("features", len(parts), len(parts) - len(waiting)) as advance:
        for path, rows in waiting:
            done = []
            for start in range(0, len(rows), batch):
                some = rows[start : start + batch]
                filled = np.concatenate([some, np.repeat(some[-1:], batch - len(some), axis=0)])
                done.append(
                    np.asarray(
                        forward(placed, jax.device_put(filled, NamedSharding(mesh, P("data"))))
                    )[: len(some)]
                )
            with run.atomic_path(path) as partial:
                np.save(partial, np.concatenate(done))
            advance()
    seconds, count = time.monotonic() - began, sum(len(rows) for _, rows in waiting)
    speed = f"{count:,} computed at {count / seconds:.1f} a second" if waiting else "from the cache"
    say(f"features   {len(images):,} x {width}, {speed}")
    return np.concatenate([_load(path) for path, _ in parts])


def _load(path: Path) -> Float32[np.ndarray, "n D"]:
    try:
        return npz.decode(bounded.read_bytes(path))
    except bounded.Unreadable as e:
        raise UserError(
            f"the cached features {path}: {e}", fix="remove the file; it is then computed again"
        ) from e


def fingerprint(
    model: nn.Module | AuxiliaryOutputs,
    end: str,
    frozen: PyTree,
    images: UInt8[np.ndarray, "N H W C"],
    precision: str,
) -> str:
    """A fingerprint of all that the features depend on: the trunk's arguments and parameters, the
    images, the precision.
    """
    ignored = OF_THE_END if end == "top" else tuple(name for name in OF_THE_END if name != "hidden")
    arguments = sorted(
        (name, repr(value))
        for name, value in vars(model).items()
        if name not in ignored and not name.startswith("_")
    )
    digest = hashlib.sha256(
        repr((1, type(model).__name__, arguments, precision, images.shape)).encode()
    )
    digest.update(_bytes(images))
    for path, array in sorted(flatten_dict(frozen, sep="/").items()):
        digest.update(f"{path} {array.shape} {array.dtype}".encode())
        digest.update(_bytes(np.asarray(array)))
    return digest.hexdigest()[:32]


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
