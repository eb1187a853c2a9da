"""Augmentation on device, random for every sample: (key, images float32 [b,H,W,C] in 0..255,
places, batch) -> images.

A batch may be spread over devices; each draws the numbers of the whole batch and uses those of its
own places, so that the result does not depend on the number of devices. For optical-flow maps a
mirror image moves the other way: a horizontal flip negates u, a vertical one v. Maps are scaled to
0..255, so -u becomes 255 - u. A map may be a stack of several, u, v and strain of each in turn.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fexpr.errors import UserError
from fexpr.train.train_config import AugmentConfig, check_kind
from fexpr.warp import affine_grid, bilinear_sample

# of a rectangle that is erased: its share of the image, height to width
AREA, RATIO = (0.02, 0.25), (0.3, 3.3)
U, V, MAP_CHANNELS = 0, 1, 3  # of each flow map: horizontal and vertical flow, then strain
Pixels = TypeVar("Pixels", np.ndarray, jax.Array, np.ndarray | jax.Array)


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
        key: jax.Array,
        images: jax.Array,
        places: jax.Array,
        batch: int,
        mirrored: jax.Array | None = None,
    ) -> jax.Array:
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


def shifted(image: jax.Array, offset: jax.Array, margin: int) -> jax.Array:
    """The window of `image`, padded by `margin` with its border, that starts at `offset` in
    0..2*margin (margin = not moved).
    """
    padded = jnp.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    return jax.lax.dynamic_slice(
        padded, (offset[0], offset[1], jnp.zeros_like(offset[0])), image.shape
    )


def cropped(images: jax.Array, corner: jax.Array, side: int) -> jax.Array:
    """The square of `side` pixels at `corner` (row, column; int32 [B, 2]) of images [B, H, W, C] ->
    [B, side, side, C].
    """

    def one(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(
            image, (corner[0], corner[1], jnp.zeros_like(corner[0])), (side, side, image.shape[-1])
        )

    return jax.vmap(one)(images, corner)


def warped(
    images: jax.Array, angle: jax.Array, zoom: jax.Array, shift: jax.Array, side: int = 0
) -> jax.Array:
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


def adjusted(images: jax.Array, contrast: jax.Array, brightness: jax.Array) -> jax.Array:
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


def cut_out(images: jax.Array, centre: jax.Array, side: int) -> jax.Array:
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


def erased(images: jax.Array, draws: jax.Array) -> jax.Array:
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


def mixup(
    key: jax.Array,
    images: jax.Array,
    mask: jax.Array,
    alpha: float,
    places: jax.Array,
    batch: int,
    probability: float | jax.Array = 1.0,
) -> tuple[jax.Array, jax.Array, jax.Array]:
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


def _about(centre: float, spread: float, draw: jax.Array) -> jax.Array:
    """Uniform within centre ± spread, from a draw in [0, 1)."""
    return centre + spread * (2 * draw - 1)


def _where(chosen: jax.Array, images: jax.Array, others: jax.Array) -> jax.Array:
    return jnp.where(chosen[:, None, None, None], images, others)
