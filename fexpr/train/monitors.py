"""Scores that choose an epoch: (logits [R,K], labels, mask [R], row losses [R]) -> a scalar, higher
is better, on device.

They serve selection during training only; what is reported comes from fexpr/evaluate.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def negative_loss(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, losses: jax.Array
) -> jax.Array:
    """Minus the mean loss over the rows of the mask."""
    del logits, labels
    return -jnp.sum(jnp.where(mask, losses, 0.0)) / jnp.maximum(mask.sum().astype(jnp.float32), 1.0)


def accuracy(logits: jax.Array, labels: jax.Array, mask: jax.Array, losses: jax.Array) -> jax.Array:
    """Share of rows whose largest logit is the label's."""
    del losses
    right = (jnp.argmax(logits, axis=-1) == labels) & mask
    return right.sum().astype(jnp.float32) / jnp.maximum(mask.sum().astype(jnp.float32), 1.0)


def uf1(logits: jax.Array, labels: jax.Array, mask: jax.Array, losses: jax.Array) -> jax.Array:
    """Unweighted F1 (MEGC2019): mean over the classes present in labels or decisions of 2TP / (2TP
    + FP + FN).
    """
    del losses
    k = logits.shape[-1]
    true = jax.nn.one_hot(labels, k) * mask[:, None].astype(jnp.float32)
    said = jax.nn.one_hot(jnp.argmax(logits, axis=-1), k) * mask[:, None].astype(jnp.float32)
    total = true.sum(0) + said.sum(0)  # = 2TP + FP + FN
    f1 = 2 * (true * said).sum(0) / jnp.maximum(total, 1.0)
    return f1.sum() / jnp.maximum((total > 0).sum().astype(jnp.float32), 1.0)


def roc_auc(logits: jax.Array, labels: jax.Array, mask: jax.Array, losses: jax.Array) -> jax.Array:
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
