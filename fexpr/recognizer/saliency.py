"""Which pixels of an image a class depends on: input gradients, SmoothGrad, occlusion."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fexpr.recognizer.network import Network, in_batches

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float32, Num, UInt8

    from fexpr.recognizer.ensemble import Ensemble

PATCH, STRIDE = 8, 4  # side of the patch that hides a part of the image, pixels
# of SmoothGrad: noisy images, and their noise's deviation as a share of the image's range
COPIES, NOISE = 24, 0.15


def gradients(
    network: Network, image: Num[np.ndarray, "H W C"], class_id: int
) -> tuple[Float32[np.ndarray, "H W"], Float32[np.ndarray, "H W"]]:
    """How much the logit of a class changes with each pixel of an image [H, W, C] in 0..255.

    Returns:
      float32 [H, W] each, the largest over channels: |d logit / d grey level| (Simonyan et al.
      2014, arXiv 1312.6034, section 3), and its mean over COPIES noisy images (SmoothGrad: Smilkov
      et al. 2017, arXiv 1706.03825), noise drawn from a fixed seed.
    """
    image = image.astype(np.float32)
    noise = (
        np.random.default_rng(0)
        .normal(0, NOISE * np.ptp(image), (COPIES, *image.shape))
        .astype(np.float32)
    )
    maps = np.asarray(_slopes(network, np.concatenate([image[None], image + noise]), class_id))
    return maps[0], maps[1:].mean(axis=0)


@jax.jit
def _slopes(network: Network, images: jax.Array, class_id: jax.Array) -> jax.Array:
    # no logit depends on another image
    slopes = jax.grad(lambda x: network(x)[:, class_id].sum())(images)
    return jnp.abs(slopes).max(axis=-1)


def occlusion(
    recognizer: Ensemble, image: UInt8[np.ndarray, "H W C"], class_id: int
) -> Float32[np.ndarray, "H W"]:
    """How much the probability of a class falls when a patch hides a part of an image uint8 [H, W,
    C] (Zeiler and Fergus 2014, arXiv 1311.2901).

    The patch is filled with the training rows' mean, that is with zeros after normalisation.
    Averaged over all views of the run (test-time augmentation).

    Returns:
      float32 [H, W], for each pixel the mean over the patches that hide it; negative where the
      probability rises.
    """
    high, wide = image.shape[:2]
    beside = (high, wide)  # a patch at that position hides nothing
    corners = np.array([beside, *((y, x) for y in _starts(high) for x in _starts(wide))], np.int32)
    whole, *hidden = recognizer.scores(
        in_batches(partial(_logits_without, recognizer.network, image), corners)
    )[:, class_id]
    total, count = np.zeros((2, high, wide), np.float32)
    for (y, x), value in zip(corners[1:], whole - np.array(hidden), strict=True):
        total[y : y + PATCH, x : x + PATCH] += value
        count[y : y + PATCH, x : x + PATCH] += 1
    return total / count


def _starts(side: int) -> list[int]:
    """The positions at which patches start along a side; the last patch ends at the border."""
    last = max(side - PATCH, 0)
    return sorted({*range(0, last, STRIDE), last})


@jax.jit
def _logits_without(network: Network, image: jax.Array, corners: jax.Array) -> jax.Array:
    def hide(corner):
        y, x = (
            jnp.arange(side, dtype=jnp.int32) - start
            for side, start in zip(image.shape, corner, strict=False)
        )
        within = ((y >= 0) & (y < PATCH))[:, None] & ((x >= 0) & (x < PATCH))[None]
        return jnp.where(
            within[..., None],
            jnp.broadcast_to(network.mean, image.shape),
            image.astype(jnp.float32),
        )

    return network.predict(jax.vmap(hide)(corners))
