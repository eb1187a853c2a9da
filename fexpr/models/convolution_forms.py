"""The forms of a stride-1 convolution and of its gradients, of which convolution.py chooses: XLA's,
one product for vmap, and those that are fast on a CPU.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import export, lax
from jaxtyping import Array, Float

from fexpr.models.compute_once import compute_once
from fexpr.models.winograd import Pads, is_winograds, winograd_conv

# numbers that an output pixel is made from, 3x3 of three channels, up to which gradients of the
# image go by shifts on CPU
FEW = 27
# output channels up to which a convolution is not XLA's on CPU
NARROW = 16
# channels up to which a product with the identity, which is exact, puts channels first on CPU: XLA
# transposes one number at a time
TRANSPOSED = 32
# pixels that stay in the cache, or, of narrow pixels, numbers
PIXELS, NUMBERS = 2**11, 2**20


def single_conv(
    pads: Pads, x: Float[Array, "B H W I"], kernel: Float[Array, "kh kw I O"]
) -> Float[Array, "B h w O"]:
    """XLA's convolution."""
    return lax.conv_general_dilated(
        x, kernel.astype(x.dtype), (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def cpu_conv(
    pads: Pads, x: Float[Array, "B H W I"], kernel: Float[Array, "kh kw I O"]
) -> Float[Array, "B h w O"]:
    """The form that is fastest on CPU."""
    if kernel.shape[3] <= NARROW:
        return narrow_conv(pads, x, kernel)
    if is_winograds(x, kernel):
        return winograd_conv(pads, x, kernel)
    return single_conv(pads, x, kernel)


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
    kh, kw, channels, _ = kernel.shape
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
    count = x.shape[0]
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
    return cpu_conv(((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right)), g, turned)


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
    both = kh * channels <= channels + features
    width = kh * kw * channels + features if both else kw * channels + kh * features
    images = _images_at_once(len(x), g.shape[1] * g.shape[2], max(PIXELS, NUMBERS // width))

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


def _images_at_once(count: int, pixels: int, fitting: int = PIXELS) -> int:
    """As many of `count` images of so many pixels as stay in the cache, and divide it: four, or
    `fitting` pixels.
    """
    return max(n for n in range(1, max(4, fitting // pixels) + 1) if count % n == 0)


def _shifts(x: jax.Array, kh: int, kw: int, axis: int) -> list[jax.Array]:
    """The part of a padded x (rows `axis`, columns `axis + 1`) under each position of a kernel."""
    height, width = x.shape[axis] - kh + 1, x.shape[axis + 1] - kw + 1
    cut = lax.slice_in_dim
    return [
        cut(cut(x, i, i + height, axis=axis), j, j + width, axis=axis + 1)
        for i in range(kh)
        for j in range(kw)
    ]
