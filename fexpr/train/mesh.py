"""Arranges the devices as a mesh with the axes `trial` and `data`."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from fexpr.errors import UserError


def make_mesh(
    trials: int,
    batch_size: int,
    devices: Sequence[jax.Device]  # pyright: ignore[reportInvalidTypeForm]  # compiled, no stubs
    | None = None,
) -> Mesh:
    """One trial: all devices share its batch. Several: all devices share the trials.

    Raises:
      UserError: one trial, and the batch does not divide over the devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    shape = (1, len(devices)) if trials == 1 else (len(devices), 1)
    if trials == 1 and batch_size % len(devices):
        raise UserError(
            f"train.batch_size={batch_size} does not divide over {len(devices)} devices",
            fix=f"choose a multiple of {len(devices)}",
        )
    return Mesh(np.array(devices).reshape(shape), ("trial", "data"))
