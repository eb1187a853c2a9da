"""Convolution and max-pooling with gradients that are fast on a CPU, and that stay fast under vmap;
elsewhere they are XLA's.

Images are NHWC, kernels HWIO. Both are differentiable in reverse mode only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import export, lax
from jaxtyping import Array, Float

from fexpr.arrays import AnyArray
from fexpr.models.compute_once import compute_once

Pads = tuple[tuple[int, int], tuple[int, int]]
LARGE = 2**26  # multiply-adds from which a single convolution keeps any device busy
# numbers that an output pixel is made from, 3x3 of three channels, up to which gradients of the
# image go by shifts on CPU
FEW = 27
# output channels up to which a convolution is not XLA's on CPU
NARROW = 16
# channels up to which a product with the identity, which is exact, puts channels first on CPU: XLA
# transposes one number at a time
TRANSPOSED = 32
# channels from which the gradient of max-pooling is faster in one pass (64 maps of 48x48, 2/2,
# milliseconds on one core: 48 channels 11.0 / 3.5; 10 channels 2.5 / 2.7)
WIDE = 16


def conv2d(
    x: Float[AnyArray, "B H W I"],
    kernel: Float[AnyArray, "kh kw I O"],
    padding: str | int = "SAME",
) -> Float[Array, "B h w O"]:
    """Stride-1 convolution. `vmap` over kernels does not turn it into a grouped convolution, which
    is slow everywhere. A single convolution is XLA's (`single_conv`), on CPU with hand-written
    gradients. Under `vmap` small ones become one product (`shifted_conv`), large ones are computed
    one after the other.

    Args:
      x: [B, H, W, I].
      kernel: [kh, kw, I, O], of x's dtype or float32; its gradient has its own dtype.
      padding: 'SAME' (for an even kernel, one more zero after than before, as in XLA and Keras),
        'VALID', or PyTorch's: that many zeros on each side.

    Returns:
      [B, H', W', O] in the dtype of x.
    """
    pads = (
        [(padding, padding)] * 2
        if isinstance(padding, int)
        else lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (1, 1), padding)
    )
    return _conv(tuple(pads), x, kernel)


def strided_conv2d(
    x: Float[AnyArray, "B H W I"],
    kernel: Float[AnyArray, "kh kw I O"],
    stride: int,
) -> Float[Array, "B -(-H//{stride}) -(-W//{stride}) O"]:
    """Convolution with `stride` and TF's SAME padding (an odd zero goes at the end): [B, H, W, I]
    -> [B, ceil(H / stride), …, O].

    Computed as a stride-1 convolution of the image's stride x stride cells, with their pixels as
    channels and the kernel zero-padded to whole cells, so that `conv2d` and its gradients are used.
    A 1x1 kernel only reads the first pixel of a cell.
    """
    if stride == 1 or kernel.shape[:2] == (1, 1):
        return conv2d(x[:, ::stride, ::stride], kernel)
    pads, fill = [], []
    for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        out, whole = -(-n // stride), -(-k // stride) * stride
        before = max((out - 1) * stride + k - n, 0) // 2
        pads.append((before, (out - 1) * stride + whole - n - before))
        fill.append((0, whole - k))
    cells = rearrange(
        jnp.pad(x, ((0, 0), *pads, (0, 0))), "b (h m) (w n) c -> b h w (m n c)", m=stride, n=stride
    )
    kernel = rearrange(
        jnp.pad(kernel, (*fill, (0, 0), (0, 0))),
        "(kh m) (kw n) i o -> kh kw (m n i) o",
        m=stride,
        n=stride,
    )
    return conv2d(cells, kernel, "VALID")


def single_conv(
    pads: Pads, x: Float[Array, "B H W I"], kernel: Float[Array, "kh kw I O"]
) -> Float[Array, "B h w O"]:
    """XLA's convolution."""
    return lax.conv_general_dilated(
        x, kernel.astype(x.dtype), (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def narrow_conv(
    pads: Pads, x: Float[Array, "B H W I"], kernel: Float[Array, "kh kw I O"]
) -> Float[Array, "B h w O"]:
    """On CPU, a convolution into a few channels. XLA's own pads so small a product to the width of
    a large one. Of one to three channels: the sum of shifted images, each times a number of the
    kernel. Of more: a few images at a time, a product with each row of the kernel, shifted and
    summed up.

    Milliseconds on one core for 128 images, XLA's / this: sums, 48x48, 3x3, 1 to 8 channels 30 / 4;
    3x3, 3 to 8 27 / 5; 7x7, 1 to 8 47 / 14; products, 46x46, 3x3, 10 to 10 13 / 9; 28x28, 5x5, 6 to
    6 9.0 / 2.6; 24x24, 3x3, 16 to 16 4.0 / 3.5. From 24 channels on XLA's own is as fast or faster.
    """
    (kh, kw, channels, _), count = kernel.shape, x.shape[0]

    kernel = kernel.astype(x.dtype).astype(jnp.float32)

    def add_up(part: jax.Array, kernel: jax.Array) -> jax.Array:
        part = part.astype(jnp.float32)
        shifts = _shifts(jnp.pad(part, ((0, 0), *pads, (0, 0))), kh, kw, 1)
        terms = (
            shift[..., c : c + 1] * kernel[i // kw, i % kw, c].reshape(1, 1, 1, -1)
            for i, shift in enumerate(shifts)
            for c in range(channels)
        )
        return functools.reduce(jnp.add, terms).astype(x.dtype)

    def add_rows(part: jax.Array) -> jax.Array:
        part = jnp.pad(part.astype(jnp.float32), ((0, 0), *pads, (0, 0)))
        columns = jnp.concatenate(_shifts(part, 1, kw, 1), -1)
        rows = rearrange(kernel, "kh kw i o -> (kw i) (kh o)")
        products = jnp.split(lax.optimization_barrier(columns @ rows), kh, -1)
        height = columns.shape[1] - kh + 1
        terms = (product[:, i : i + height] for i, product in enumerate(products))
        return functools.reduce(jnp.add, terms).astype(x.dtype)

    if channels <= 3:
        return compute_once(add_up, x, kernel)
    if export.is_symbolic_dim(count):
        return add_rows(x)
    images = _images_at_once(count, x.shape[1] * x.shape[2])
    made = lax.map(add_rows, x.reshape(-1, images, *x.shape[1:]))
    return made.reshape(count, *made.shape[2:])


def shifted_conv(
    pads: Pads, x: Float[Array, "B H W I"], kernel: Float[Array, "kh kw I O"]
) -> Float[Array, "B h w O"]:
    """Concatenated shifts of x and one matrix product, which remains one product under vmap. Needs
    kh*kw copies of x.
    """
    kh, kw = kernel.shape[:2]
    columns = jnp.concatenate(_shifts(jnp.pad(x, ((0, 0), *pads, (0, 0))), kh, kw, 1), -1)
    return columns @ rearrange(kernel.astype(x.dtype), "kh kw i o -> (kh kw i) o")


def input_gradient(
    pads: Pads,
    x: Float[Array, "B H W I"],
    kernel: Float[Array, "kh kw I O"],
    g: Float[Array, "B h w O"],
) -> Float[Array, "B H W I"]:
    """The gradient of `single_conv` with respect to x, on CPU: a convolution of g with the rotated
    kernel.

    The barrier keeps XLA from merging the rotation into the convolution, which inside a loop takes
    twenty to a hundred times as long. For an image of one to three channels, a convolution of many
    channels into so few would be slow: instead, one product and a sum of shifts (milliseconds on
    two cores for 128 images of 48x48, 3x3 kernels, 1 to 10 channels: 10.4 / 2.5).
    """
    if kernel.size // kernel.shape[3] <= FEW:
        return jax.vjp(lambda x: shifted_conv(pads, x, kernel), x)[1](g)[0]
    turned = lax.optimization_barrier(rearrange(kernel[::-1, ::-1], "kh kw i o -> kh kw o i"))
    (kh, kw), ((top, bottom), (left, right)) = kernel.shape[:2], pads
    convolve = narrow_conv if turned.shape[3] <= NARROW else single_conv
    return convolve(((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right)), g, turned)


def kernel_gradient(
    pads: Pads,
    x: Float[Array, "B H W I"],
    kernel: Float[Array, "kh kw I O"],
    g: Float[Array, "B h w O"],
) -> Float[Array, "kh kw I O"]:
    """The gradient of `single_conv` with respect to its kernel, on CPU: products of shifts over a
    few images at a time, summed up.

    Either x is shifted along both axes, or x along one and g along the other: whichever takes fewer
    copies. XLA computes this as a convolution with a window as large as the map, far below the
    arithmetic rate of a CPU, and much slower still inside a loop. Milliseconds on one core for 64
    images and 3x3 kernels, XLA's (no loop) / this / arithmetic at full rate: 48x48 maps, 32 to 32
    channels 125 / 51 / 20; 24x24, 64 to 64 83 / 35 / 20; 12x12, 128 to 128 60 / 27 / 20; 48x48, 1
    to 64 42 / 9 / 1.
    """
    kh, kw, channels, features = kernel.shape
    images = _images_at_once(len(x), g.shape[1] * g.shape[2])
    both = kh * channels <= channels + features

    def add(n: jax.Array, total: jax.Array) -> jax.Array:
        part, rows = (
            lax.dynamic_slice_in_dim(a, n * images, images).astype(jnp.float32) for a in (x, g)
        )
        part = jnp.pad(_channels_first(part), ((0, 0), (0, 0), *pads))
        columns = jnp.concatenate(_shifts(lax.optimization_barrier(part), kh if both else 1, kw, 2))
        if not both:
            rows = lax.optimization_barrier(
                jnp.pad(rows, ((0, 0), (kh - 1, kh - 1), (0, 0), (0, 0)))
            )
            rows = jnp.concatenate(_shifts(rows, kh, 1, 1)[::-1], -1)
        # a product of transposed rows is half as fast
        columns = lax.optimization_barrier(rearrange(columns, "i b h w -> i (b h w)"))
        return total + lax.dot(columns, rearrange(rows, "b h w o -> (b h w) o"))

    total = jnp.zeros(
        (kh * kw * channels, features) if both else (kw * channels, kh * features), jnp.float32
    )
    total = lax.fori_loop(0, len(x) // images, add, total)
    return rearrange(
        total, "(kh kw i) o -> kh kw i o" if both else "(kw i) (kh o) -> kh kw i o", kh=kh, kw=kw
    ).astype(kernel.dtype)


def _channels_first(x: jax.Array) -> jax.Array:
    """Float32 [B, H, W, I] -> [I, B, H, W]."""
    if x.shape[3] > TRANSPOSED:
        return rearrange(x, "b h w i -> i b h w")
    pixels = lax.optimization_barrier(rearrange(x, "b h w i -> (b h w) i"))
    turned = lax.dot(jnp.eye(x.shape[3]), pixels.T, precision=lax.Precision.HIGHEST)
    return lax.optimization_barrier(turned.reshape(x.shape[3], *x.shape[:3]))


def _images_at_once(count: int, pixels: int) -> int:
    """As many of `count` images of so many pixels as stay in the cache, and divide it."""
    return max(n for n in range(1, max(4, 2048 // pixels) + 1) if count % n == 0)


def _shifts(x: jax.Array, kh: int, kw: int, axis: int) -> list[jax.Array]:
    """The part of a padded x (rows `axis`, columns `axis + 1`) under each position of a kernel."""
    height, width = x.shape[axis] - kh + 1, x.shape[axis + 1] - kw + 1
    cut = lax.slice_in_dim
    return [
        cut(cut(x, i, i + height, axis=axis), j, j + width, axis=axis + 1)
        for i in range(kh)
        for j in range(kw)
    ]


def _by_itself(
    one: Callable[..., jax.Array],
    stacked: Callable[..., jax.Array],
    large: bool,
    *arrays: AnyArray,
) -> jax.Array:
    """Computes one(*arrays); under vmap `stacked`, or, if the arrays are large or only one is
    mapped, `one` in a loop.
    """
    call = jax.custom_batching.custom_vmap(one)

    @call.def_vmap
    def _(size: int, mapped: Sequence[bool], *arrays: AnyArray) -> tuple[jax.Array, bool]:
        if not large and size > 1:
            return jax.vmap(stacked, [0 if m else None for m in mapped])(*arrays), True

        def each(parts: list[AnyArray]) -> jax.Array:
            part = iter(parts)
            return _by_itself(
                one,
                stacked,
                large,
                *(next(part) if m else a for a, m in zip(arrays, mapped, strict=True)),
            )

        return lax.map(each, [a for a, m in zip(arrays, mapped, strict=True) if m]), True

    return call(*arrays)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(pads: Pads, x: AnyArray, kernel: AnyArray) -> jax.Array:
    one = single = partial(single_conv, pads)
    if kernel.shape[3] <= NARROW:
        on_cpu = partial(narrow_conv, pads)
        one = lambda *arrays: lax.platform_dependent(*arrays, cpu=on_cpu, default=single)
    return _by_itself(one, partial(shifted_conv, pads), _large(x, kernel), x, kernel)


def _conv_backward(
    pads: Pads, inputs: tuple[AnyArray, AnyArray], g: AnyArray
) -> tuple[jax.Array, jax.Array]:
    def gradient(i: int) -> jax.Array:
        single, stacked = (
            lambda x, kernel, g, f=f: jax.vjp(partial(f, pads), x, kernel)[1](g)[i]
            for f in (single_conv, shifted_conv)
        )
        on_cpu = partial((input_gradient, kernel_gradient)[i], pads)
        one = lambda *arrays: lax.platform_dependent(*arrays, cpu=on_cpu, default=single)
        return _by_itself(one, stacked, _large(*inputs), *inputs, g)

    return gradient(0), gradient(1)


_conv.defvjp(lambda pads, x, kernel: (_conv(pads, x, kernel), (x, kernel)), _conv_backward)


def _large(x: AnyArray, kernel: AnyArray) -> bool:
    # an exported program takes batches of any size: one convolution at a time suits large ones
    if export.is_symbolic_dim(x.shape[0]):
        return True
    return x.size * kernel.size // x.shape[-1] >= LARGE


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


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool_cells(size: int, x: jax.Array) -> jax.Array:
    """Windows that do not overlap."""
    return _pool_axis(_pool_axis(x, size, size, 2), size, size, 1)


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
