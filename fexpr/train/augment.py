"""Augmentation on device, random for every sample: (key, images float32 [b,H,W,C] in 0..255,
places, batch) -> images.

A batch may be spread over devices; each draws the numbers of the whole batch and uses those of its
own places, so that the result does not depend on the number of devices.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from fexpr.errors import UserError
from fexpr.train.image_changes import (
    adjusted,
    cropped,
    cut_out,
    erased,
    mirror,
    shifted,
    upside_down,
    warped,
)
from fexpr.train.train_config import AugmentConfig, check_kind


@dataclasses.dataclass(frozen=True)
class Augment(AugmentConfig):
    """The augmentation of a training image, in this order; a field at its default costs nothing.

    flip, vertical_flip; rotation, zoom and shift as ONE affine warp with one bilinear resampling,
    or, where neither rotation nor zoom is set, the shift by whole pixels without any; crop;
    contrast, brightness, noise, clipped to 0..255; cutout; erasing. Mixup, which needs two images,
    is a function of its own. (Keras flips after it warps: the same in distribution, as angles and
    shifts are symmetric.)

    Details of fields:
      alternate: each image is mirrored with probability 1/2 in the first epoch, then in every other
        epoch (alternating flip, Jordan 2024, arXiv 2404.00498): two epochs in a row show an image
        and its mirror image.
      shift, crop: whole pixels; any fraction within a warp. Evaluated images are cropped too
          (views.py).
      zoom: rows and columns independently, as Keras' ImageDataGenerator(zoom_range=z) does.
      contrast: each channel is stretched about its own mean in that image.
      erase: a rectangle of 2 to 25 % of the image, its sides in a ratio of 0.3 to 3.3, is filled
        with the image's mean (random erasing, Zhong et al. 2020, arXiv 1708.04896, which fills it
        with noise or the data's mean).
      cutout: a square centred anywhere, so that the border may cut it (DeVries & Taylor 2017, arXiv
        1708.04552); filled with the image's mean.

    Attributes:
      centred: images are those of `views.recentred`, whose values reach 127.5 further both ways.
      kind: 'flow' (u, v, strain) or 'face'; decides what a flip means. 'clip': faces one after the
          other in the channels, which are all changed alike (except by noise); channels that are 0
          contain no frame and stay 0. 'features' cannot be augmented.

    Raises:
      UserError: rotation of flow maps; anything done to feature vectors; alternating flips together
          with random ones.
    """

    kind: str = "face"
    centred: bool = False

    def __post_init__(self):
        problems = [f"augment.{p}" for p in (*self.problems(), *check_kind(self, self.kind))]
        if problems:
            raise UserError(
                "images of this kind cannot be augmented in this way",
                problems,
                fix="leave these fields of augment at their defaults",
            )

    @property
    def idle(self) -> bool:
        """Whether single images are left unchanged."""
        return self.pictures == Augment(kind=self.kind, centred=self.centred)

    def __call__(
        self,
        key: PRNGKeyArray,
        images: Float[Array, "b H W C"],
        places: Int[Array, " b"],
        batch: int,
        mirrored: Bool[Array, " b"] | None = None,
    ) -> Float[Array, "b h w C"]:
        """mirrored: bool [b], the rows to mirror in this epoch (`alternate`); [b, H,
        W, C] -> [b, crop or H, crop or W, C].
        """
        if self.idle:
            return images
        flip, *moved = jax.random.uniform(key, (batch, 3))[places].T
        vertical, turned, angle, zoom_y, zoom_x, contrast, brightness, *centre = jax.random.uniform(
            jax.random.fold_in(key, 2), (9, batch)
        )[:, places]

        # random numbers [9, b] of fields that were added later, so that those of measured runs do
        # not change
        def more() -> jax.Array:
            return jax.random.uniform(jax.random.fold_in(key, 4), (9, batch))[:, places]

        blank = (images == 0).all((1, 2), keepdims=True) if self.kind == "clip" else None

        if self.alternate:
            if mirrored is None:
                raise ValueError("augment.alternate: `mirrored` says whose turn it is")
            images = _where(mirrored, mirror(images, self.kind), images)
        if self.flip:
            images = _where(flip < self.flip, mirror(images, self.kind), images)
        if self.vertical_flip:
            images = _where(vertical < self.vertical_flip, upside_down(images, self.kind), images)
        if self.rotation or self.zoom:
            angle = jnp.where(turned < self.rotation_p, _about(0.0, self.rotation, angle), 0.0)
            zoom = _about(1.0, self.zoom, jnp.stack([zoom_y, zoom_x], axis=-1))
            shift = _about(0.0, self.shift, jnp.stack(moved, axis=-1))
            if self.shift_p < 1:
                shift = jnp.where(more()[0][:, None] < self.shift_p, shift, 0.0)
            if self.crop:
                room = (jnp.array(images.shape[1:3], jnp.float32) - self.crop) / 2
                shift += room[None] * (2 * jnp.stack(more()[1:3], axis=-1) - 1)
            images = warped(images, angle, zoom, shift, self.crop)
        else:
            if self.shift:
                offsets = jnp.floor(jnp.stack(moved, axis=-1) * (2 * self.shift + 1)).astype(
                    jnp.int32
                )
                if self.shift_p < 1:
                    offsets = jnp.where(more()[0][:, None] < self.shift_p, offsets, self.shift)
                images = jax.vmap(lambda image, offset: shifted(image, offset, self.shift))(
                    images, offsets
                )
            if self.crop:
                room = jnp.array(images.shape[1:3], jnp.float32) - self.crop + 1
                images = cropped(
                    images,
                    jnp.floor(jnp.stack(more()[1:3], axis=-1) * room[None]).astype(jnp.int32),
                    self.crop,
                )
        if self.contrast or self.brightness:
            factor, offset = (
                _about(1.0, self.contrast, contrast),
                _about(0.0, self.brightness, brightness),
            )
            if self.light_p < 1:
                lit = more()[3] < self.light_p
                factor, offset = jnp.where(lit, factor, 1.0), jnp.where(lit, offset, 0.0)
            images = adjusted(images, factor, offset)
        if self.noise:
            normal = jax.random.normal(jax.random.fold_in(key, 1), (batch, *images.shape[1:]))[
                places
            ]
            images = images + self.noise * normal
        if self.contrast or self.brightness or self.noise:
            reach = 127.5 if self.centred else 0.0
            images = jnp.clip(images, -reach, 255.0 + reach)
        if self.cutout:
            size = jnp.array(images.shape[1:3], jnp.float32)
            images = cut_out(
                images,
                jnp.floor(jnp.stack(centre, axis=-1) * size[None]).astype(jnp.int32),
                self.cutout,
            )
        if self.erase:
            chosen, *rectangle = more()[4:9]
            images = _where(
                chosen < self.erase, erased(images, jnp.stack(rectangle, axis=-1)), images
            )
        return images if blank is None else jnp.where(blank, 0.0, images)


def mixup(
    key: PRNGKeyArray,
    images: Float[Array, "b H W C"],
    mask: Bool[Array, " b"],
    alpha: float | Float[Array, ""],
    places: Int[Array, " b"],
    batch: int,
    probability: float | Float[Array, ""] = 1.0,
) -> tuple[Float[Array, "b H W C"], Int[Array, " b"], Float[Array, " b"]]:
    """Convex combinations of two samples (mixup, Zhang et al. 2018, arXiv 1710.09412): lam * image
    + (1 - lam) * partner's image.

    Place p is mixed with place p ^ 1: batches are shuffled, so neighbours are random pairs. lam ~
    Beta(alpha, alpha) as in the paper, drawn for every sample, and not folded to its larger half.
    Padding is never mixed: there lam is 1. The loss that goes with it is lam *
    loss(labels) + (1 - lam) * loss(labels[partner]).

    Args:
      key: may be the one that Augment got; other numbers are drawn from it.
      images: this device's share of the batch, float32 [b, H, W, C].
      mask: bool [b], the real rows.
      alpha: above 0; 1 is uniform, smaller stays closer to the two samples.
      places: int [b], positions of the rows in the whole batch: an even number of consecutive
          places from an even one on.
      batch: rows of the whole batch.
      probability: that a sample is mixed at all.

    Returns:
      The mixed images [b, H, W, C], the partners' indices within the share [b], lam float32 [b].

    Raises:
      UserError: an odd share, which leaves a row without its partner.
    """
    b = len(images)
    if b % 2:
        raise UserError(
            f"augment.mixup: {b} rows of the batch are on each device, but mixup needs pairs",
            fix="choose train.batch_size as an even multiple of the number of devices that share "
            "a batch",
        )
    partner = jnp.arange(b) ^ 1
    lam = jax.random.beta(jax.random.fold_in(key, 3), alpha, alpha, (batch,))[places]
    chosen = jax.random.uniform(jax.random.fold_in(key, 5), (batch,))[places] < probability
    lam = jnp.where(mask & mask[partner] & chosen, lam, 1.0)
    share = lam[:, None, None, None]
    return share * images + (1 - share) * images[partner], partner, lam


def _about(centre: float, spread: float, draw: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Uniform within centre ± spread, from a draw in [0, 1)."""
    return centre + spread * (2 * draw - 1)


def _where(
    chosen: Bool[Array, " b"], images: Float[Array, "b H W C"], others: Float[Array, "b H W C"]
) -> Float[Array, "b H W C"]:
    return jnp.where(chosen[:, None, None, None], images, others)
