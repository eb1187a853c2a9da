"""Arithmetic between images and one number per channel, and sums by channel, fast on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped

from fexpr.arrays import AnyArray

# channels of images whose rows are taken as a whole on CPU, as XLA's loops over so few channels are
# slow: microseconds on one core for (x - a) * b + a, loops over channels / over rows, 16 images of
# 28x28x16 69 / 11; 64 of 48x48x32 1269 / 307; 64 of 24x24x64 91 / 136. Fewer than a vector
# register holds gain nothing.
NARROW = range(16, 64)


def by_channel(
    function: Callable[..., jax.Array],
    images: Sequence[Shaped[AnyArray, "B ..."]],
    *vectors: Float[AnyArray, " C"],
) -> Float[Array, "B ... C"]:
    """function(*images, *vectors), which must be elementwise.

    Args:
      images: float32 [B, ..., C]; all but the first may be [B, 1, ..., 1], also bool.
      vectors: float32 [C], broadcast over all other axes.
    """
    shape = images[0].shape

    def plain(*arrays: AnyArray) -> jax.Array:
        rows = (v.reshape((1,) * (len(shape) - 1) + (-1,)) for v in arrays[len(images) :])
        return function(*arrays[: len(images)], *rows)

    def in_rows(*arrays: AnyArray) -> jax.Array:
        _, height, width, channels = shape
        repeat = np.tile(np.eye(channels, dtype=np.float32), width)
        # a product is computed once; XLA would make a broadcast a part of every loop that reads it
        rows = lax.dot(
            jnp.stack(arrays[len(images) :]), repeat, precision=lax.Precision.HIGHEST
        ).reshape(len(vectors), 1, 1, -1)
        flat = (
            x.reshape(-1, height, width * channels) if x.shape[1:] == shape[1:] else x[..., 0]
            for x in arrays[: len(images)]
        )
        return function(*flat, *rows).reshape(-1, height, width, channels)

    if not _is_narrow(images[0]):
        return plain(*images, *vectors)
    return lax.platform_dependent(*images, *vectors, cpu=in_rows, default=plain)


def sum_by_channel(x: Float[AnyArray, "B ... C"]) -> Float[Array, "B C"]:
    """Sums over all axes between the first and the last."""
    if _is_narrow(x):
        x = x.reshape(*x.shape[:2], -1).sum(1).reshape(x.shape[0], -1, x.shape[-1])
    return jnp.asarray(x.sum(tuple(range(1, x.ndim - 1))))


def _is_narrow(x: AnyArray) -> bool:
    return x.ndim == 4 and x.shape[3] in NARROW
