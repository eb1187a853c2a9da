"""Scores that choose an epoch: (logits [R,K], labels, mask [R], row losses [R]) -> a scalar, higher
is better, on device.

They are only used for selection during training; reported metrics are computed in fexpr/evaluate.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from fexpr.arrays import AnyArray


def negative_loss(
    logits: Float[AnyArray, "R K"],
    labels: Int[AnyArray, " R"] | Num[AnyArray, "R K"],
    mask: Bool[AnyArray, " R"],
    losses: Float[AnyArray, " R"],
) -> Float[Array, ""]:
    """Minus the mean loss over the rows of the mask."""
    del logits, labels
    return -jnp.sum(jnp.where(mask, losses, 0.0)) / jnp.maximum(mask.sum().astype(jnp.float32), 1.0)


def accuracy(
    logits: Float[AnyArray, "R K"],
    labels: Int[AnyArray, " R"],
    mask: Bool[AnyArray, " R"],
    losses: Float[AnyArray, " R"],
) -> Float[Array, ""]:
    """Share of rows whose largest logit is the label's."""
    del losses
    right = (jnp.argmax(logits, axis=-1) == labels) & mask
    return right.sum().astype(jnp.float32) / jnp.maximum(mask.sum().astype(jnp.float32), 1.0)


def uf1(
    logits: Float[AnyArray, "R K"],
    labels: Int[AnyArray, " R"],
    mask: Bool[AnyArray, " R"],
    losses: Float[AnyArray, " R"],
) -> Float[Array, ""]:
    """Unweighted F1 (MEGC2019): mean over the classes present in labels or decisions of 2TP / (2TP
    + FP + FN).
    """
    del losses
    k = logits.shape[-1]
    true = jax.nn.one_hot(labels, k) * mask[:, None].astype(jnp.float32)
    predicted = jax.nn.one_hot(jnp.argmax(logits, axis=-1), k) * mask[:, None].astype(jnp.float32)
    total = true.sum(0) + predicted.sum(0)  # = 2TP + FP + FN
    f1 = 2 * (true * predicted).sum(0) / jnp.maximum(total, 1.0)
    return f1.sum() / jnp.maximum((total > 0).sum().astype(jnp.float32), 1.0)


def roc_auc(
    logits: Float[AnyArray, "R K"],
    labels: Num[AnyArray, "R K"],
    mask: Bool[AnyArray, " R"],
    losses: Float[AnyArray, " R"],
) -> Float[Array, ""]:
    """Macro ROC-AUC over the classes that have positives and negatives (ties count half); 0.5 if
    there is none. Labels [R, K].
    """
    del losses

    def one(scores, positive):
        pos, neg = positive & mask, ~positive & mask
        negatives = jnp.sort(jnp.where(neg, scores, jnp.inf))
        below = jnp.searchsorted(negatives, scores, side="left") + jnp.searchsorted(
            negatives, scores, side="right"
        )
        pairs = (pos.sum() * neg.sum()).astype(jnp.float32)
        return jnp.sum(jnp.where(pos, below.astype(jnp.float32), 0.0)) / 2 / jnp.maximum(
            pairs, 1.0
        ), pairs > 0

    auc, defined = jax.vmap(one, in_axes=1)(logits, labels > 0)
    n = defined.sum().astype(jnp.float32)
    return jnp.where(n > 0, jnp.where(defined, auc, 0.0).sum() / jnp.maximum(n, 1.0), 0.5)


WIDEST = 16.0  # |log| of the factor of logits of scale 1, as in evaluate/recalibration.py
BISECTIONS = 40


def refinement(
    logits: Float[AnyArray, "R K"],
    labels: Int[AnyArray, " R"] | Num[AnyArray, "R K"],
    mask: Bool[AnyArray, " R"],
    losses: Float[AnyArray, " R"],
) -> Float[Array, ""]:
    """Minus the log loss of the rows of the mask after the temperature that is best for the same
    rows: the loss that remains after calibration, so that an epoch is chosen by how well it
    separates classes ("Refine, then calibrate", Berta et al. 2025). One-of-K, or multi-label with
    labels [R, K]: one temperature for all units, the mean over them.
    """
    del losses
    multilabel, k = labels.ndim == 2, logits.shape[-1]
    presence = (labels > 0).astype(jnp.float32) if multilabel else jax.nn.one_hot(labels, k)
    share = mask.astype(jnp.float32) / jnp.maximum(mask.sum().astype(jnp.float32), 1.0)
    logits = jnp.where(mask[:, None], logits, 0.0)
    distance = logits if multilabel else logits - logits.mean(axis=-1, keepdims=True)
    scale = (jnp.abs(distance).mean(axis=-1) * share).sum()
    unit = distance / jnp.where(scale > 0, scale, 1.0)

    def probabilities(factor: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(factor * unit) if multilabel else jax.nn.softmax(factor * unit)

    def halve(_, between: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = between
        middle = (low + high) / 2
        wrong = probabilities(jnp.exp(middle)) - presence
        rising = ((wrong * unit).sum(axis=-1) * share).sum() > 0
        return jnp.where(rising, low, middle), jnp.where(rising, middle, high)

    ends = (jnp.float32(-WIDEST), jnp.float32(WIDEST))
    factor = jnp.exp(sum(jax.lax.fori_loop(0, BISECTIONS, halve, ends)) / 2)
    if multilabel:
        nll = jax.nn.softplus((1 - 2 * presence) * factor * unit).mean(axis=-1)
    else:
        nll = -(presence * jax.nn.log_softmax(factor * unit)).sum(axis=-1)
    return -(nll * share).sum()
