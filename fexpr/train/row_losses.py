"""The loss of each row of ONE trial: for its classes, and for a second task."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fexpr.arrays import AnyArray
from fexpr.train.losses import known_binary_cross_entropy
from fexpr.train.state import Data, Recipe, Trial
from fexpr.train.train_config import LOSSES


def targets_of(
    recipe: Recipe, data: Data, rows: Int[AnyArray, " R"]
) -> Int[Array, " R"] | Float[Array, "R K"]:
    """The targets of the loss: presences or intensities [R,K], class ids [R], or shares of votes
    [R,K].
    """
    if recipe.targets == "soft":
        if data.soft is None:
            raise ValueError("a recipe with targets='soft' needs Data.soft")
        return jnp.asarray(data.soft)[rows]
    labels = data.labels[rows]
    return (labels > 0).astype(jnp.float32) if recipe.targets == "presence" else labels


def auxiliary_of(recipe: Recipe, data: Data, rows: Int[Array, " R"]) -> Float[Array, "R A"] | None:
    """Labels [R,A] of the second task, None without one."""
    if recipe.train.auxiliary == "none":
        return None
    if data.auxiliary is None:
        raise ValueError("a recipe with a second task needs Data.auxiliary")
    return jnp.asarray(data.auxiliary)[rows]


def train_losses(
    recipe: Recipe,
    trial: Trial,
    logits: Float[Array, "R outputs"],
    targets: Int[Array, " R"] | Float[Array, "R K"],
    auxiliary: Float[Array, "R A"] | None,
) -> Float[Array, " R"]:
    """A loss for each row of logits [R, K + A]: for the classes plus the second task."""
    classes = trial.class_weights.shape[0]
    losses = row_losses(recipe, trial, logits[:, :classes], targets, train=True)
    if auxiliary is None:
        return losses
    second = known_binary_cross_entropy(logits[:, classes:], auxiliary)
    return losses + recipe.train.auxiliary_weight * second


def row_losses(
    recipe: Recipe,
    trial: Trial,
    logits: Float[Array, "R K"],
    targets: Int[Array, " R"] | Float[Array, "R K"],
    train: bool = False,
) -> Float[Array, " R"]:
    """A loss for each row; labels are smoothed in training only."""
    if recipe.train.loss == "cross_entropy":
        extra = trial.label_smoothing if train else jnp.zeros_like(trial.label_smoothing)
    else:
        extra = jnp.float32(recipe.loss_number)
    return LOSSES[recipe.train.loss](logits, targets, trial.class_weights, extra)
