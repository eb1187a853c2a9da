"""Augmentation on device, random for every sample: (key, images float32 [b,H,W,C] in 0..255, places, batch) -> images.

A batch may be spread over devices; each draws the numbers of the whole batch and uses those of its own places, so that the result does
not depend on the number of devices. For optical-flow maps a mirror image moves the other way: the horizontal flip negates u. Maps are
min-max scaled to 0..255, so -u becomes 255 - u.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Augment:
    """What may happen to a training image.

    Attributes:
      kind: 'flow' (u, v, strain) or 'face'; decides what a flip means.
      flip: probability of a horizontal flip.
      shift: largest shift in pixels, each way, both axes; the border is repeated.
      noise: standard deviation of Gaussian noise, in grey levels of 0..255.
    """

    kind: str = "face"
    flip: float = 0.0
    shift: int = 0
    noise: float = 0.0

    def __call__(self, key: jax.Array, images: jax.Array, places: jax.Array, batch: int) -> jax.Array:
        draw = jax.random.uniform(key, (batch, 3))[places]
        if self.flip:
            images = jnp.where((draw[:, 0] < self.flip)[:, None, None, None], mirror(images, self.kind), images)
        if self.shift:
            offsets = jnp.floor(draw[:, 1:] * (2 * self.shift + 1)).astype(jnp.int32)
            images = jax.vmap(lambda image, offset: shifted(image, offset, self.shift))(images, offsets)
        if self.noise:
            normal = jax.random.normal(jax.random.fold_in(key, 1), (batch, *images.shape[1:]))[places]
            images = jnp.clip(images + self.noise * normal, 0.0, 255.0)
        return images


def mirror(image: jax.Array, kind: str) -> jax.Array:
    """Left-right mirror image [..., H, W, C]; of a flow map (u, v, strain) also u -> 255 - u, the min-max scaled -u."""
    image = image[..., ::-1, :]
    return image.at[..., 0].set(255.0 - image[..., 0]) if kind == "flow" else image


def shifted(image: jax.Array, offset: jax.Array, margin: int) -> jax.Array:
    """The window of `image`, padded by `margin` with its border, that starts at `offset` in 0..2*margin (margin = not moved)."""
    padded = jnp.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    return jax.lax.dynamic_slice(padded, (offset[0], offset[1], jnp.zeros_like(offset[0])), image.shape)
