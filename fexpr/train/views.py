"""From images in 0..255 to logits: normalisation, and test-time augmentation by views of an image whose predictions are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

CROP_SHIFT = 3  # pixels: the four corner crops of 42 pixels of a 48-pixel face, as shifts with a repeated border
VIEWS = ("none", "flip", "flip_crop")


def views(images: jax.Array, name: str) -> list[jax.Array]:
    """The views of images [B,H,W,C]: 'none' (themselves), 'flip' (and mirrored), 'flip_crop' (both, shifted to the four corners too)."""
    if name == "none":
        return [images]
    both = [images, images[:, :, ::-1]]
    if name == "flip":
        return both
    s, (height, width) = CROP_SHIFT, images.shape[1:3]
    padded = [jnp.pad(v, ((0, 0), (s, s), (s, s), (0, 0)), mode="edge") for v in both]
    corners = [v[:, y : y + height, x : x + width] for v in padded for y in (0, 2 * s) for x in (0, 2 * s)]
    return [*both, *corners]


def mean_prediction(logits: Sequence[jax.Array]) -> jax.Array:
    """Logits [B,K] of V views -> the logarithm of their mean class probabilities; of one view, its logits as they are."""
    if len(logits) == 1:
        return logits[0]
    return jax.nn.logsumexp(jnp.stack([jax.nn.log_softmax(v) for v in logits]), axis=0) - jnp.log(float(len(logits)))


def normalized(images: jax.Array, mean: jax.Array, std: jax.Array, precision: str) -> jax.Array:
    """What a model sees of images float32 [B,H,W,C] in 0..255, in the type that it is to compute in. mean, std: [C] or [H,W,C]."""
    lead = (None,) * (images.ndim - mean.ndim)
    return ((images - mean[lead]) / std[lead]).astype(precision)


def predict_views(
    model: nn.Module, variables: Any, images: jax.Array, mean: jax.Array, std: jax.Array, precision: str, tta: str
) -> jax.Array:
    """Logits float32 [B,K] of images float32 [B,H,W,C] in 0..255, over the views of `tta`."""
    said = [model.apply(variables, normalized(view, mean, std, precision), train=False).astype(jnp.float32) for view in views(images, tta)]
    return mean_prediction(said)
