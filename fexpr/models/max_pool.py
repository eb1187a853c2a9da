"""Max-pooling whose gradient is fast on a CPU, and that stays fast under vmap."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from fexpr.arrays import AnyArray
from fexpr.models.channels import NARROW

# channels from which the gradient is faster in one pass over pixels (milliseconds on one core for
# 64 maps of 48x48, 2/2: 48 channels 11.0 / 3.5; 10 channels 2.5 / 2.7); of 16 and more it is one
# pass over rows
WIDE = 48


def max_pool(
    x: Float[AnyArray, "B H W C"], window: int, stride: int, padding: int = 0
) -> Float[
    Array,
    "B (H+2*{padding}-{window})//{stride}+1 (W+2*{padding}-{window})//{stride}+1 C",
]:
    """PyTorch's MaxPool2d: `padding` rows of -inf on each side; pixels beyond the last whole window
    are left out. Values and gradients are those of `nn.max_pool` (among equal values, the first in
    row order gets the gradient), but computed along one axis after the other from shifted slices:
    for 64 maps of 48x48x64 and 3/2, 34 ms instead of 227 backward (one core), 4 instead of 15
    forward. It consists of slices and elementwise arithmetic, and so is fast under vmap and on
    accelerators.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, H', W', C] with H' = (H + 2 padding - window) // stride + 1.
    """
    if window == stride and x.shape[3] in NARROW and x.shape[3] < WIDE:
        return _pool_rows(window, padding, x.shape[1:], jnp.asarray(x))
    x = jnp.pad(
        x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=-jnp.inf
    )
    if window == stride and x.shape[3] >= WIDE:
        return _pool_cells(window, x)
    return _pool(_pool(x, window, stride, 2), window, stride, 1)


def _pool_axis(x: AnyArray, window: int, stride: int, axis: int) -> jax.Array:
    return functools.reduce(jnp.maximum, _windows(x, window, stride, axis))


_pool = jax.custom_vjp(_pool_axis, nondiff_argnums=(1, 2, 3))


def _windows(x: AnyArray, window: int, stride: int, axis: int) -> list[jax.Array]:
    """Slices: the first value of every window, the second value of every window, …"""
    last = x.shape[axis] - window  # the last position where a window may start
    return [lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(window)]


def _pool_backward(
    window: int, stride: int, axis: int, inputs: tuple[AnyArray, AnyArray], g: AnyArray
) -> tuple[jax.Array]:
    """Passes g to the first maximum of its window, summed over overlapping windows."""
    x, y = inputs
    g = lax.optimization_barrier(g)  # else what makes it is computed again for each place
    none = jnp.zeros_like(g)
    blocks = -(-x.shape[axis] // stride)
    # the n-th of every `stride` values of x
    places = [jnp.zeros((*x.shape[:axis], blocks, *x.shape[axis + 1 :]), g.dtype)] * stride
    taken = jnp.zeros(y.shape, bool)
    for i, value in enumerate(_windows(x, window, stride, axis)):
        is_maximum = ~taken & (value == y)
        taken |= is_maximum
        widths = [(0, 0)] * x.ndim
        widths[axis] = (i // stride, blocks - i // stride - g.shape[axis])
        places[i % stride] += jnp.pad(jnp.where(is_maximum, g, none), widths)
    dx = jnp.stack(places, axis + 1).reshape(*x.shape[:axis], blocks * stride, *x.shape[axis + 1 :])
    return (lax.slice_in_dim(dx, 0, x.shape[axis], axis=axis),)


def _pool_forward(
    x: AnyArray, window: int, stride: int, axis: int
) -> tuple[jax.Array, tuple[AnyArray, jax.Array]]:
    y = _pool(x, window, stride, axis)
    return y, (x, y)


_pool.defvjp(_pool_forward, _pool_backward)


def _pool_both_axes(size: int, x: AnyArray) -> jax.Array:
    """Windows that do not overlap."""
    return _pool_axis(_pool_axis(x, size, size, 2), size, size, 1)


_pool_cells = jax.custom_vjp(_pool_both_axes, nondiff_argnums=(0,))


def _pool_cells_backward(
    size: int, inputs: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array]:
    """Each pixel asks whether it is the first maximum of its window."""
    x, y = inputs
    batch, height, width, channels = y.shape
    cells = x[:, : height * size, : width * size]
    cells = cells.reshape(batch, height, size, width, size, channels)
    first = jnp.full(y.shape, size * size - 1, np.int32)
    for i in reversed(range(size * size - 1)):
        first = jnp.where(cells[:, :, i // size, :, i % size] == y, i, first)
    first = lax.optimization_barrier(first)  # else it is found again for each pixel
    place = np.arange(size * size, dtype=np.int32).reshape(1, 1, size, 1, size, 1)
    first, g = (jnp.expand_dims(a, (2, 4)) for a in (first, g))
    dx = jnp.where(place == first, g, jnp.zeros_like(g))
    dx = dx.reshape(batch, height * size, width * size, channels)
    left = [(0, n - m) for n, m in zip(x.shape, dx.shape, strict=True)]
    return (jnp.pad(dx, left),)


def _pool_cells_forward(size: int, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _pool_cells(size, x)
    return y, (x, y)


_pool_cells.defvjp(_pool_cells_forward, _pool_cells_backward)


def _pool_whole_rows(size: int, padding: int, shape: tuple[int, ...], x: AnyArray) -> jax.Array:
    """Windows that do not overlap, along rows of all columns and channels, then along columns."""
    height, width, channels = shape
    best = x.reshape(-1, height, width * channels)
    best = functools.reduce(jnp.maximum, _values(best, size, padding, 1))
    best = best.reshape(-1, best.shape[1], width, channels)
    return functools.reduce(jnp.maximum, _values(best, size, padding, 2))


_pool_rows = jax.custom_vjp(_pool_whole_rows, nondiff_argnums=(0, 1, 2))


def _values(x: AnyArray, size: int, padding: int, axis: int) -> list[jax.Array]:
    """The first value of every window along an axis, the second, …; -inf beyond the edges."""
    length = x.shape[axis]
    count = (length + 2 * padding - size) // size + 1
    found = []
    for i in range(size):
        before = -(-max(padding - i, 0) // size)  # windows that begin beyond the edge
        start = before * size + i - padding
        stop = min(start + (count - before - 1) * size + 1, length)
        part = lax.slice_in_dim(x, start, stop, size, axis)
        widths = [(0, 0, 0)] * x.ndim
        widths[axis] = (before, count - before - part.shape[axis], 0)
        found.append(lax.pad(part, jnp.asarray(-jnp.inf, x.dtype), widths))
    return found


def _pool_rows_forward(
    size: int, padding: int, shape: tuple[int, ...], x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What is kept is the place of each window's first maximum, from 0 in row order."""
    height, width, channels = shape
    values = _values(x.reshape(-1, height, width * channels), size, padding, 1)
    best = functools.reduce(jnp.maximum, values)
    row = jnp.full(best.shape, size - 1, jnp.int32)
    for i in reversed(range(size - 1)):
        row = jnp.where(values[i] == best, i, row)
    best, row = (a.reshape(-1, a.shape[1], width, channels) for a in (best, row))
    values, rows = _values(best, size, padding, 2), _values(row.astype(x.dtype), size, padding, 2)
    y = functools.reduce(jnp.maximum, values)
    place = jnp.full(y.shape, size * size, x.dtype)
    for i, (value, row) in enumerate(zip(values, rows, strict=True)):
        place = jnp.where(value == y, jnp.minimum(place, size * row + i), place)
    return y, place


def _pool_rows_backward(
    size: int, padding: int, shape: tuple[int, ...], place: jax.Array, g: jax.Array
) -> tuple[jax.Array]:
    """Each pixel asks whether it is its window's place."""
    height, width, channels = shape
    _, rows, columns, _ = g.shape
    repeat = np.tile(np.eye(channels, dtype=np.float32), size)

    def widened(a: jax.Array) -> jax.Array:
        """Every pixel `size` times in its row; a product, as in `by_channel`."""
        pixels = a.astype(jnp.float32).reshape(-1, channels)
        made = lax.dot(pixels, repeat, precision=lax.Precision.HIGHEST)
        return made.reshape(-1, rows, 1, columns * size * channels)

    column = np.repeat(np.arange(columns * size) % size, channels)
    here = (np.arange(size)[:, None] * size + column).astype(np.float32)
    dx = jnp.where(widened(place) == here[None, None], widened(g), 0.0)
    dx = dx.reshape(-1, rows * size, columns * size * channels)
    dx = dx[:, padding : padding + height, padding * channels : (padding + width) * channels]
    dx = jnp.pad(dx, ((0, 0), (0, height - dx.shape[1]), (0, width * channels - dx.shape[2])))
    return (dx.reshape(-1, height, width, channels).astype(g.dtype),)


_pool_rows.defvjp(_pool_rows_forward, _pool_rows_backward)
