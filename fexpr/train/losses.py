"""Losses: plain functions (logits, targets, ...) -> one loss per row. Weights come from the trial's
training rows only.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num, Shaped

from fexpr.arrays import AnyArray


def binary_cross_entropy(
    logits_BxK: Float[AnyArray, "B K"],
    targets_BxK: Float[AnyArray, "B K"],
    weights_K: Float[AnyArray, " K"],
    gamma: Float[ArrayLike, ""],
) -> Float[Array, " B"]:
    """Sum over classes of sigmoid cross entropy, averaged over K; shape [B].

    `targets` may be soft (action-unit intensity in [0, 1]); `weights` multiplies the positive part,
    as PyTorch's `pos_weight`.
    `gamma` is not used.
    """
    del gamma
    positive, negative = -jax.nn.log_sigmoid(logits_BxK), -jax.nn.log_sigmoid(-logits_BxK)
    return jnp.mean(
        weights_K[None] * targets_BxK * positive + (1 - targets_BxK) * negative, axis=-1
    )


def focal(
    logits_BxK: Float[AnyArray, "B K"],
    targets_BxK: Float[AnyArray, "B K"],
    weights_K: Float[AnyArray, " K"],
    gamma: Float[ArrayLike, ""],
) -> Float[Array, " B"]:
    """Focal loss on sigmoids (Lin et al. 2017, equation 4; for soft targets the modulating factor
    is |target - p|^gamma), shape [B].

    gamma = 0 is `binary_cross_entropy`.
    """
    p = jax.nn.sigmoid(logits_BxK)
    positive, negative = -jax.nn.log_sigmoid(logits_BxK), -jax.nn.log_sigmoid(-logits_BxK)
    # the clip keeps the gradient of x^gamma finite at x = 0 for gamma < 1
    focus = jnp.power(jnp.clip(jnp.abs(targets_BxK - p), 1e-6, 1.0), gamma)
    return jnp.mean(
        focus * (weights_K[None] * targets_BxK * positive + (1 - targets_BxK) * negative), axis=-1
    )


def known_binary_cross_entropy(
    logits_BxA: Float[AnyArray, "B A"], labels_BxA: Float[AnyArray, "B A"]
) -> Float[Array, " B"]:
    """Sigmoid cross entropy, averaged over the known (not NaN) labels of a row; 0 if none is known;
    shape [B].
    """
    known = ~jnp.isnan(labels_BxA)
    losses = optax.sigmoid_binary_cross_entropy(logits_BxA, jnp.where(known, labels_BxA, 0.0))
    return jnp.sum(jnp.where(known, losses, 0.0), -1) / jnp.maximum(
        known.sum(-1).astype(losses.dtype), 1.0
    )


def cross_entropy(
    logits_BxK: Float[AnyArray, "B K"],
    labels: Int[AnyArray, " B"] | Float[AnyArray, "B K"],
    weights_K: Float[AnyArray, " K"],
    smoothing: Float[ArrayLike, ""],
) -> Float[Array, " B"]:
    """Softmax cross entropy, label smoothing (Szegedy et al. 2016), one weight per true class;
    shape [B].

    `labels`: class ids [B], or shares of the classes [B, K], which sum to 1.
    """
    shares = (
        jax.nn.one_hot(labels, logits_BxK.shape[-1], dtype=logits_BxK.dtype)
        if labels.ndim == 1
        else labels
    )
    targets = shares * (1 - smoothing) + smoothing / logits_BxK.shape[-1]
    return optax.softmax_cross_entropy(logits_BxK, targets) * (shares @ weights_K)


def class_weights(
    labels: Num[np.ndarray, " N"] | Shaped[np.ndarray, "N K"],
    classes: int,
    strength: float,
    maximum: float,
) -> Float[np.ndarray, " K"]:
    """One weight per class from the training labels alone, float32 [K].

    Multi-label [N, K]: (negatives / positives) ** strength, the weight of a positive; a class
    without positives gets 1 (its weight is never used). Class ids [N]: (N / (K * count)) **
    strength, scikit-learn's `balanced` at strength 1.
    `strength` 0 means no weighting; every weight is at most `maximum`.
    """
    if labels.ndim == 2:
        positives = (labels > 0).sum(0)
        ratio = np.where(positives > 0, (len(labels) - positives) / np.maximum(positives, 1), 1.0)
    else:
        count = np.bincount(labels, minlength=classes)
        ratio = np.where(count > 0, len(labels) / (classes * np.maximum(count, 1)), 1.0)
    return np.minimum(np.maximum(ratio, 1e-6) ** strength, maximum).astype(np.float32)
