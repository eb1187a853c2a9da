"""The end of an epoch of ONE trial: scores, selection, early stopping, plateaus."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fexpr.train.optim import choose
from fexpr.train.row_losses import row_losses, targets_of
from fexpr.train.state import NEVER, Data, Recipe, SelectedEpoch, State, Trial, eval_variables
from fexpr.train.train_config import MONITORS


def conclude(
    recipe: Recipe, data: Data, trial: Trial, state: State, logits: Float[Array, "m K"]
) -> tuple[State, dict[str, jax.Array]]:
    """The end of an epoch: scores, selection and stopping, from the logits [m, K] of the trial's
    eval_rows after its last step.
    """
    labels = data.labels[trial.eval_rows]
    losses = row_losses(recipe, trial, logits, targets_of(recipe, data, trial.eval_rows))
    monitor = MONITORS[recipe.train.monitor]
    val_score = monitor(logits, labels, trial.val_mask, losses)
    test_score = monitor(logits, labels, trial.test_mask, losses)

    now = state.epoch + 1
    valid = state.failed_step == NEVER
    better_val = valid & (val_score > state.best_val.score)
    better_test = valid & (test_score > state.oracle.score)
    epochs_without_improvement = jnp.where(better_val, 0, state.epochs_without_improvement + 1)
    stopped = now >= recipe.train.epochs
    if recipe.train.patience:
        stopped |= epochs_without_improvement >= recipe.train.patience
    if recipe.optimizer.tolerance:
        stopped |= state.epoch_totals[2] <= recipe.optimizer.tolerance
    epochs_since_plateau = jnp.where(better_val, 0, state.epochs_since_plateau + 1)
    plateau = (epochs_since_plateau >= recipe.optimizer.plateau_patience) & (
        recipe.optimizer.schedule == "plateau"
    )
    new = state._replace(
        epoch=now,
        epochs_without_improvement=epochs_without_improvement,
        active=valid & ~stopped,
        epochs_since_plateau=jnp.where(plateau, 0, epochs_since_plateau),
        lr_scale=jnp.where(
            plateau, state.lr_scale * recipe.optimizer.plateau_factor, state.lr_scale
        ),
        last=choose(valid, SelectedEpoch(now, val_score, logits), state.last),
        best_val=choose(better_val, SelectedEpoch(now, val_score, logits), state.best_val),
        oracle=choose(better_test, SelectedEpoch(now, test_score, logits), state.oracle),
    )
    n_val = jnp.maximum(trial.val_mask.sum().astype(jnp.float32), 1.0)
    kept = choose(state.active, new, state)._replace(
        epoch_totals=jnp.zeros_like(state.epoch_totals),
        # arrays are copied, or not; each would be compiled for itself if they were chosen
        best_variables=jax.lax.cond(
            state.active & better_val,
            lambda new, _: new,
            lambda _, old: old,
            eval_variables(state),
            state.best_variables,
        ),
    )
    return kept, {
        "train_loss": state.epoch_totals[0] / jnp.maximum(state.epoch_totals[1], 1.0),
        "val_loss": jnp.sum(jnp.where(trial.val_mask, losses, 0.0)) / n_val,
        "val_score": val_score,
        "ran": state.active,
        "active": kept.active,
    }
