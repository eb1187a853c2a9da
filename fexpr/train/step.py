"""The training of ONE trial: its epochs, batches and optimiser steps. Parallelism over trials and
devices is in trials.py.

Shapes below are those of one trial. Where the mesh axis `data` has several devices, each sees its
slice of every batch, and gradients are summed over the axis; nothing else here depends on devices.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from fexpr.train import optim
from fexpr.train.augment import mixup
from fexpr.train.conclude_epoch import conclude
from fexpr.train.random_keys import wrap_key
from fexpr.train.row_losses import auxiliary_of, targets_of, train_losses
from fexpr.train.state import (
    NEVER,
    Batch,
    Data,
    Recipe,
    SelectedEpoch,
    State,
    Trial,
    eval_variables,
)
from fexpr.train.views import input_shape, normalized, predict_pass, recentred

# the trial's key is folded with 0 (initial weights), with epochs from 1 on, and with this
FLIPS = 2**32 - 1


def init(recipe: Recipe, data: Data, trial: Trial) -> State:
    """The initial state; variables that are not in `data.start` depend only on the trial's fold and
    seed.
    """
    image = jnp.zeros((1, *input_shape(data.images.shape[1:], recipe.crop)), jnp.float32)
    variables = recipe.model.init(jax.random.fold_in(_key(trial), 0), image, train=False)
    variables = optim.merge_params(variables, data.start)
    trained, _ = optim.partition_params(variables["params"], recipe.optimizer.freeze)
    classes = trial.class_weights.shape[0]
    nothing = SelectedEpoch(
        jnp.int32(0),
        jnp.float32(-jnp.inf),
        jnp.zeros((*trial.eval_rows.shape, classes), jnp.float32),
    )
    return State(
        variables=variables,
        average=variables if recipe.train.ema else (),
        opt_state=_optimizer(recipe, trial).init(trained),
        lr_scale=jnp.float32(1),
        epochs_since_plateau=jnp.int32(0),
        step=jnp.int32(0),
        epoch=jnp.int32(0),
        active=jnp.bool_(True),
        epochs_without_improvement=jnp.int32(0),
        failed_step=jnp.int32(NEVER),
        epoch_totals=jnp.zeros(3, jnp.float32),
        best_variables=variables,
        last=nothing,
        best_val=nothing,
        oracle=nothing,
    )


def is_early(
    recipe: Recipe, by_trial: tuple[Trial, State, Float[Array, "T passes rows K"]]
) -> Bool[Array, ""]:
    """Whether the trials of a device train on images of `early_size` now: bool [], from arrays [T,
    ...]. Trials go through their epochs together: one answer for all makes it a real branch of the
    program, even if trials are vmapped.
    """
    return jnp.max(by_trial[1].epoch) < round(recipe.train.early_share * recipe.train.epochs)


def advance(
    recipe: Recipe,
    data: Data,
    bounds: Int[Array, " 4"],
    early: Bool[Array, ""],
    by_trial: tuple[Trial, State, Float[Array, "passes rows K"]],
) -> tuple[State, Float[Array, "passes rows K"], dict[str, jax.Array]]:
    """Continues an epoch: some of its optimiser steps, some of the forward passes over validation
    and test rows, and after the last pass the end of the epoch. How much is done at once only
    affects when the devices can be stopped.

    A trial that is not active passes through unchanged.

    Args:
      bounds: int32 [4], first step (inclusive), last step (exclusive), and the same for passes.
      early: bool [], see `is_early`; without effect if the recipe has no early_size.
      by_trial: the trial, its state, and float32 [passes, rows, K], the logits of the passes so
          far.

    Returns:
      The state, the logits, and the epoch's scalars, which are only valid after the last pass.
    """
    trial, state, logits = by_trial
    first_step, last_step, first_pass, last_pass = bounds
    ended = last_pass == len(logits)
    if recipe.in_turn:
        # a trial has no more steps than batches; nothing is computed for one that has stopped, or
        # has no training rows, which are the padding of a chunk
        steps = _steps(recipe, trial)
        last_step = jnp.where(state.active, jnp.minimum(last_step, steps), 0)
        last_pass = jnp.where(state.active & (steps > 0), last_pass, 0)
    train_step = partial(
        _train_step, recipe, data, trial, batches(recipe, data, trial, state.epoch)
    )
    if recipe.train.early_size:
        small, whole = (
            partial(jax.lax.fori_loop, first_step, last_step, partial(train_step, size))
            for size in (recipe.train.early_size, 0)
        )
        state = jax.lax.cond(early, small, whole, state)
    else:
        state = jax.lax.fori_loop(first_step, last_step, partial(train_step, 0), state)
    variables = eval_variables(state)
    logits = jax.lax.fori_loop(
        first_pass,
        last_pass,
        lambda i, filled: filled.at[i].set(predict_pass(recipe, data, trial, variables, i)),
        logits,
    )

    def conclude_epoch(state: State, logits: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        return conclude(
            recipe, data, trial, state, logits.reshape(-1, logits.shape[-1])[: len(trial.eval_rows)]
        )

    def skip(state: State, logits: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        return state, jax.tree.map(
            lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(conclude_epoch, state, logits)[1]
        )

    state, scalars = jax.lax.cond(ended, conclude_epoch, skip, state, logits)
    return state, logits, scalars


def batches(recipe: Recipe, data: Data, trial: Trial, epoch_number: Int[Array, ""]) -> Batch:
    """The batches [steps, ...] of the next epoch, without images, after `epoch_number` finished
    ones.

    Every row of the data draws its own number, and every step has its own, so neither depends on
    how far a trial's table is padded.
    """
    shuffle_key, steps_key = jax.random.split(jax.random.fold_in(_key(trial), epoch_number + 1))
    draw = jax.random.uniform(shuffle_key, (len(data.labels),))[trial.train_rows]
    order = jnp.argsort(jnp.where(trial.train_mask, draw, jnp.inf))
    pad = -len(order) % recipe.batch_size
    rows = jnp.pad(trial.train_rows[order], (0, pad)).reshape(-1, recipe.batch_size)
    mask = jnp.pad(trial.train_mask[order], (0, pad)).reshape(-1, recipe.batch_size)
    numbers = jnp.arange(len(rows), dtype=jnp.int32)
    return Batch(rows, mask, steps_key, numbers)


def keys_of(key: PRNGKeyArray, number: Int[Array, ""]) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys of a step's augmentation and of its dropout: split(key, (steps, 2))[number], without
    the table of all steps, for which LLVM takes 0.7 s.
    """
    augmentation, dropout = (jax.random.fold_in(key, 2 * number + n) for n in range(2))
    return augmentation, dropout


def train(recipe: Recipe, data: Data, trial: Trial, state: State, steps: Batch) -> State:
    """The optimiser steps on these batches [S, ...], whose images came with them, each image in its
    own size.
    """
    return jax.lax.fori_loop(
        0, len(steps.rows), partial(_train_step, recipe, data, trial, steps, 0), state
    )


def _train_step(
    recipe: Recipe,
    data: Data,
    trial: Trial,
    batches: Batch,
    size: int,
    i: int | Int[Array, ""],
    state: State,
) -> State:
    """The optimiser step on batch `i`, with images resized to `size` if that is not 0. A batch
    without rows, or a stopped trial, changes nothing.
    """
    rows, mask, key, number, images = batches.at(i)
    augment_key, dropout_key = keys_of(key, number)
    d = recipe.data_devices
    places = jnp.arange(len(rows), dtype=jnp.int32)
    if d > 1:
        start = jax.lax.axis_index("data") * (len(rows) // d)
        rows, mask, places = (
            jax.lax.dynamic_slice_in_dim(x, start, len(x) // d) for x in (rows, mask, places)
        )

    def total(x: jax.Array) -> jax.Array:
        return jax.lax.psum(x, "data") if d > 1 else x

    count = total(mask.sum().astype(jnp.float32))
    # random numbers depend on a row's position in the whole batch: the same on any number of
    # devices
    images = jnp.asarray(data.images[rows] if images is None else images, jnp.float32)
    images = jnp.asarray(recentred(images, recipe.train.normalize))
    mirrored_now = (_choose_mirrored(trial, rows, state.epoch),) if recipe.augment.alternate else ()
    images = recipe.augment(augment_key, images, places, recipe.batch_size, *mirrored_now)
    if size:
        images = jax.image.resize(images, (len(images), size, size, images.shape[-1]), "linear")
    mixed: tuple[jax.Array, jax.Array] | None = None  # partners, and the share of the row itself
    if recipe.augment.mixup:
        mixing = jnp.where(
            state.epoch < round(recipe.augment.mixup_until * recipe.train.epochs),
            recipe.augment.mixup_p,
            0.0,
        )
        images, partner, share = mixup(
            augment_key, images, mask, recipe.augment.mixup, places, recipe.batch_size, mixing
        )
        mixed = partner, share
    images = normalized(images, trial.mean, trial.std, recipe.train.precision)
    targets, auxiliary = targets_of(recipe, data, rows), auxiliary_of(recipe, data, rows)
    mutable = [name for name in state.variables if name != "params"]

    params, frozen = optim.partition_params(state.variables["params"], recipe.optimizer.freeze)

    def loss_of(params: PyTree) -> tuple[Float[Array, ""], dict[str, Any]]:
        variables = {**state.variables, "params": optim.merge_params(params, frozen)}
        logits, updated = recipe.model.apply(
            variables, images, train=True, mask=mask, rngs={"dropout": dropout_key}, mutable=mutable
        )
        logits = logits.astype(jnp.float32)
        losses = train_losses(recipe, trial, logits, targets, auxiliary)
        if mixed is not None:
            partner, share = mixed
            others = jax.tree.map(lambda x: x[partner], (targets, auxiliary))
            losses = share * losses + (1 - share) * train_losses(recipe, trial, logits, *others)
        return jnp.sum(jnp.where(mask, losses, 0.0)) / jnp.maximum(count, 1.0), updated

    lbfgs = None
    if recipe.optimizer.name == "lbfgs":
        (loss, updated), grads, *lbfgs = optim.lbfgs_step(
            loss_of, total, params, state.opt_state, trial.weight_decay
        )
    else:
        (loss, updated), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        loss, grads = total(loss), jax.tree.map(total, grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))
    due = state.active & (count > 0) & (state.failed_step == NEVER)
    go = due & finite
    if lbfgs:
        new_params, opt_state = lbfgs[0], optim.choose(go, lbfgs[1], state.opt_state)
    else:
        # optax raises a float to its integer step count
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = _optimizer(recipe, trial, state.lr_scale, go).update(
                grads, state.opt_state, params
            )
        new_params = optax.apply_updates(params, updates)
    new = {**updated, "params": optim.merge_params(new_params, frozen)}
    changed = (
        new,
        optim.ema_update(state.average, new, state.step, recipe.train.ema),
        state.step + 1,
    )
    variables, average, step = optim.choose(
        go, changed, (state.variables, state.average, state.step)
    )
    failed = jnp.where(due & ~finite, state.step, state.failed_step)
    largest = state.epoch_totals[2]
    if recipe.optimizer.tolerance:  # else nothing reads it, and it takes as many kernels as arrays
        largest = jnp.maximum(largest, optax.tree.norm(grads, ord=jnp.inf))
    # a step not taken counts no rows in the epoch's mean
    totals = jnp.stack(
        [state.epoch_totals[0] + loss * count, state.epoch_totals[1] + count, largest]
    )
    return state._replace(
        variables=variables,
        average=average,
        opt_state=opt_state,
        step=step,
        failed_step=failed,
        epoch_totals=jnp.where(go, totals, state.epoch_totals),
    )


def _choose_mirrored(
    trial: Trial, rows: Int[Array, " B"], epoch: Int[Array, ""]
) -> Bool[Array, " B"]:
    """The rows to mirror, bool [B]: each at random in the first epoch, then in every other
    epoch.
    """
    draws = jax.vmap(
        lambda row: jax.random.bits(jax.random.fold_in(jax.random.fold_in(_key(trial), FLIPS), row))
    )(rows)
    return (draws & 1).astype(jnp.int32) != epoch % 2


def _optimizer(
    recipe: Recipe,
    trial: Trial,
    lr_scale: float | Float[Array, ""] = 1.0,
    go: bool | Bool[Array, ""] = True,
) -> optax.GradientTransformation:
    return optim.make_optimizer(
        recipe.optimizer,
        trial.learning_rate * lr_scale,
        trial.weight_decay,
        _steps(recipe, trial) * recipe.train.epochs,
        go,
    )


def _steps(recipe: Recipe, trial: Trial) -> Int[Array, ""]:
    """The number of optimiser steps of an epoch: int32 []."""
    rows = trial.train_mask.sum().astype(jnp.int32)
    return (rows + recipe.batch_size - 1) // recipe.batch_size


def _key(trial: Trial) -> PRNGKeyArray:
    return wrap_key(trial.key)
