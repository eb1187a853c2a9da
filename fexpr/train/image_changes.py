"""Changes of images by given numbers: mirrored, shifted, cropped, turned, lit, covered.

For optical-flow maps a mirror image moves the other way: a horizontal flip negates u, a vertical
one v. Maps are scaled to 0..255, so -u becomes 255 - u. A map may be a stack of several, u, v and
strain of each in turn.
"""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fexpr.warp import affine_grid, bilinear_sample

# of a rectangle that is erased: its share of the image, height to width
AREA, RATIO = (0.02, 0.25), (0.3, 3.3)
U, V, MAP_CHANNELS = 0, 1, 3  # of each flow map: horizontal and vertical flow, then strain
Pixels = TypeVar("Pixels", np.ndarray, jax.Array, np.ndarray | jax.Array)


def mirror(image: Pixels, kind: str) -> Pixels:
    """Left-right mirror image of float [..., H, W, C] in 0..255, of NumPy or JAX; of flow maps (u,
    v, strain of each in turn) also u -> 255 - u, the scaled -u.

    The only definition of a mirrored map, used by augmentation, views and support vector machines.
    """
    return _negated(image[..., ::-1, :], U, kind)


def upside_down(image: Pixels, kind: str) -> Pixels:
    """Top-bottom mirror image, like `mirror`; of flow maps also v -> 255 - v, the scaled -v."""
    return _negated(image[..., ::-1, :, :], V, kind)


def _negated(image: Pixels, channel: int, kind: str) -> Pixels:
    if kind != "flow":
        return image
    negative = np.arange(image.shape[-1]) % MAP_CHANNELS == channel
    shape = (1,) * (image.ndim - 1) + (-1,)
    sign, offset = (
        np.where(negative, *values).astype(image.dtype).reshape(shape)
        for values in ((-1.0, 1.0), (255.0, 0.0))
    )
    return image * sign + offset


def shifted(
    image: Float[Array, "H W C"], offset: Int[Array, " 2"], margin: int
) -> Float[Array, "H W C"]:
    """The window of `image`, padded by `margin` with its border, that starts at `offset` in
    0..2*margin (margin = not moved).
    """
    padded = jnp.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    return jax.lax.dynamic_slice(
        padded, (offset[0], offset[1], jnp.zeros_like(offset[0])), image.shape
    )


def cropped(
    images: Float[Array, "B H W C"], corner: Int[Array, "B 2"], side: int
) -> Float[Array, "B {side} {side} C"]:
    """The square of `side` pixels at `corner` (row, column; int32 [B, 2]) of images [B, H, W, C] ->
    [B, side, side, C].
    """

    def one(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(
            image, (corner[0], corner[1], jnp.zeros_like(corner[0])), (side, side, image.shape[-1])
        )

    return jax.vmap(one)(images, corner)


def warped(
    images: Float[Array, "B H W C"],
    angle: Float[Array, " B"],
    zoom: Float[Array, "B 2"],
    shift: Float[Array, "B 2"],
    side: int = 0,
) -> Float[Array, "B h w C"]:
    """Rotated, zoomed and shifted images: Keras' `apply_affine_transform`, bilinear, with the
    border repeated ('nearest').

    With (row, column) counted from the centre, the output pixel p is read at R (zoom * p + shift),
    R = [[cos, -sin], [sin, cos]]. So a zoom above 1 shows more of the scene, smaller; a positive
    angle turns the scene clockwise; a positive shift moves it up and left.

    Args:
      images: float32 [B, H, W, C].
      angle: degrees, [B].
      zoom: factors along rows and columns, [B, 2].
      shift: pixels along rows and columns, [B, 2].
      side: pixels of the square about the centre that is computed; 0 = the whole image.
    """
    height, width = images.shape[1:3]
    rows, columns = (side, side) if side else (height, width)
    sin, cos = jnp.sin(jnp.deg2rad(angle)), jnp.cos(jnp.deg2rad(angle))
    (zoom_y, zoom_x), (down, right) = zoom.T, shift.T
    # the same map in (x, y) of affine_grid, whose unit is half the width or half the height
    x = (
        cos * zoom_x * columns / width,
        sin * zoom_y * rows / width,
        (sin * down + cos * right) * 2 / width,
    )
    y = (
        -sin * zoom_x * columns / height,
        cos * zoom_y * rows / height,
        (cos * down - sin * right) * 2 / height,
    )
    theta = jnp.stack([jnp.stack(x, axis=-1), jnp.stack(y, axis=-1)], axis=-2)
    return bilinear_sample(images, affine_grid(theta, rows, columns), padding="border")


def adjusted(
    images: Float[Array, "B H W C"], contrast: Float[Array, " B"], brightness: Float[Array, " B"]
) -> Float[Array, "B H W C"]:
    """Each channel stretched about its own mean in that image (as tf.image.adjust_contrast), then
    made brighter; not clipped.

    Args:
      images: [B, H, W, C] in 0..255.
      contrast: factors, [B].
      brightness: shares of 255 to add, [B].
    """
    contrast, brightness = contrast[:, None, None, None], brightness[:, None, None, None]
    mean = images.mean((1, 2), keepdims=True)
    return mean + contrast * (images - mean) + 255.0 * brightness


def cut_out(
    images: Float[Array, "B H W C"], centre: Int[Array, "B 2"], side: int
) -> Float[Array, "B H W C"]:
    """Images [B,H,W,C] with a square of `side` pixels at `centre` (row, column; int32 [B,2]) set to
    each image's channel means.

    It covers the rows from centre - side//2 on, `side` of them, where they are within the image;
    columns likewise.
    """
    rows, columns = (
        (jnp.arange(n)[None] >= start[:, None]) & (jnp.arange(n)[None] < start[:, None] + side)
        for n, start in zip(images.shape[1:3], (centre - side // 2).T, strict=True)
    )
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return jnp.where(inside, images.mean((1, 2), keepdims=True), images)


def erased(images: Float[Array, "B H W C"], draws: Float[Array, "B 4"]) -> Float[Array, "B H W C"]:
    """Images [B, H, W, C] with a rectangle set to each image's channel means.

    Args:
      draws: float32 [B, 4] in [0, 1): the share of the area, uniform in AREA; the ratio of height
        to width, log-uniform in RATIO; the place of the upper left corner, among those where the
        whole rectangle lies within the image.
    """
    size = jnp.array(images.shape[1:3], jnp.float32)
    area = (AREA[0] + (AREA[1] - AREA[0]) * draws[:, 0]) * size.prod()
    ratio = jnp.exp(jnp.log(RATIO[0]) + (jnp.log(RATIO[1]) - jnp.log(RATIO[0])) * draws[:, 1])
    sides = jnp.minimum(
        jnp.round(jnp.sqrt(area[:, None] * jnp.stack([ratio, 1 / ratio], -1))), size[None]
    )
    corner = jnp.floor(draws[:, 2:] * (size[None] - sides + 1))
    rows, columns = (
        (jnp.arange(n, dtype=jnp.float32)[None] >= first[:, None])
        & (jnp.arange(n, dtype=jnp.float32)[None] < (first + side)[:, None])
        for n, first, side in zip(images.shape[1:3], corner.T, sides.T, strict=True)
    )
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return jnp.where(inside, images.mean((1, 2), keepdims=True), images)
