"""Affine grids and bilinear sampling: one sampler for augmentation and for spatial transformers
(Jaderberg et al. 2015).

Coordinates are PyTorch's (`affine_grid` and `grid_sample` with align_corners=False): x to the
right, y downwards, -1 and 1 the outer EDGES of the first and last pixel, so that pixel j of n has
its centre at (2j + 1)/n - 1, and nothing depends on the image's size.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from fexpr.arrays import AnyArray


def affine_grid(
    theta: Float[Array, "B 2 3"], height: int, width: int
) -> Float[Array, "B {height} {width} 2"]:
    """The position at which each pixel of a warped image is sampled:
    `torch.nn.functional.affine_grid(align_corners=False)`.

    Args:
      theta: [B, 2, 3] maps OUTPUT coordinates (x, y, 1) to INPUT coordinates (x, y): to turn an
        image by some angle, give the inverse rotation; [[1, 0, .2], [0, 1, 0]] shows what was a
        tenth of the width further right.
      height, width: of the warped image, in pixels.

    Returns:
      [B, height, width, 2] of theta's dtype, (x, y) last.
    """
    x, y = ((2 * jnp.arange(n, dtype=theta.dtype) + 1) / n - 1 for n in (width, height))
    a, b, c = (rearrange(theta[:, :, i], "b xy -> b 1 1 xy") for i in range(3))
    return a * rearrange(x, "w -> 1 1 w 1") + b * rearrange(y, "h -> 1 h 1 1") + c


def bilinear_sample(
    images: Float[AnyArray, "B H W C"],
    grid: Float[Array, "B h w 2"],
    padding: str = "zeros",
) -> Float[Array, "B h w C"]:
    """Samples images at the positions of a grid: `torch.nn.functional.grid_sample(mode='bilinear',
    align_corners=False)`.

    The four neighbours of each pixel are laid side by side first, so that ONE look-up per position
    fetches them all, as gathers are the main cost. Gradients flow to the grid (cheap) and to the
    images (a scatter, only computed if needed).

    Args:
      images: floating [B, H, W, C].
      grid: float32 [B, H', W', 2], (x, y); see `affine_grid`. bfloat16 could not distinguish
          neighbouring pixels.
      padding: what lies outside the image: 'zeros', or 'border' (the nearest pixel of the edge).

    Returns:
      [B, H', W', C] of the images' dtype.

    Raises:
      ValueError: unknown padding.
    """
    if padding not in ("zeros", "border"):
        raise ValueError(f"padding: expected 'zeros' or 'border', found {padding!r}")
    batch, height, width, channels = images.shape
    # one pixel outside everything is zero, and further out nothing changes
    beyond = 1 if padding == "zeros" else 0
    x, y = (
        jnp.clip(((grid[..., i] + 1) * n - 1) / 2, -beyond, n - 1 + beyond)
        for i, n in enumerate((width, height))
    )
    left, top = (jnp.minimum(jnp.floor(p), n - 2 + beyond) for p, n in ((x, width), (y, height)))
    places = ((top + 1) * (width + 1) + left + 1).astype(jnp.int32)

    # Each cell carries its own position. If the shares below were computed from `left` and `top`,
    # XLA might round x a second time, to the other side of a whole number, and mix the neighbours
    # of one cell with the shares of the next: seen on CPU at theta = identity.
    padded = jnp.pad(images.astype(jnp.float32), ((0, 0), (1, 1), (1, 1), (0, 0)))
    corners = [padded[:, i : i + height + 1, j : j + width + 1] for i in (0, 1) for j in (0, 1)]
    position = jnp.broadcast_to(
        jnp.mgrid[-1.0:height, -1.0:width].transpose(1, 2, 0), (batch, height + 1, width + 1, 2)
    )
    cells = rearrange(jnp.concatenate([*corners, position], axis=-1), "b h w c -> b (h w) c")
    look_up = jax.vmap(lambda cell, place: cell.at[place].get(mode="clip"))
    *corners, top, left = jnp.split(
        look_up(cells, places), [channels * i for i in (1, 2, 3, 4)] + [4 * channels + 1], axis=-1
    )

    right, lower = rearrange(x, "b h w -> b h w 1") - left, rearrange(y, "b h w -> b h w 1") - top
    shares = ((1 - lower) * (1 - right), (1 - lower) * right, lower * (1 - right), lower * right)
    weighted = (corner * share for corner, share in zip(corners, shares, strict=True))
    return sum(weighted, start=jnp.float32(0)).astype(images.dtype)
