"""The optimiser of one trial. Learning rate, weight decay and number of steps are arrays, so trials
that differ in them share a program.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Bool, Float, Int, Num, PyTree

from fexpr.arrays import AnyArray
from fexpr.train.train_config import OptimizerConfig, Rate, parse_rates

Tree = TypeVar("Tree")

DECAYS, EPSILON = (0.9, 0.999), 1e-8  # Adam's: of both moments, and what is added to the divisor
MEMORY = 10  # of L-BFGS: past steps kept, as scikit-learn does


def learning_rate(
    step: int | Num[AnyArray, ""],
    peak: float | Float[AnyArray, ""],
    total: Num[Array, ""],
    schedule: str,
    warmup: float,
) -> Float[Array, ""]:
    """Linear warm-up over `warmup` (a share of `total` steps), then constant, or down to zero along
    a half cosine or a line.
    """
    done = jnp.asarray(step, jnp.float32) / jnp.maximum(total.astype(jnp.float32), 1.0)
    rate = jnp.asarray(peak, jnp.float32)
    # share of the steps after the warm-up
    after = jnp.clip((done - warmup) / (1 - warmup), 0.0, 1.0)
    if schedule == "cosine":
        rate = rate * 0.5 * (1 + jnp.cos(jnp.pi * after))
    elif schedule == "linear":
        rate = rate * (1 - after)
    return (
        rate * jnp.clip((done + 1 / jnp.maximum(total.astype(jnp.float32), 1.0)) / warmup, 0.0, 1.0)
        if warmup
        else rate
    )


def make_optimizer(
    config: OptimizerConfig,
    peak: Float[AnyArray, ""],
    weight_decay: Float[AnyArray, ""],
    total: Num[Array, ""],
    go: bool | Bool[Array, ""] = True,
) -> optax.GradientTransformation:
    """Clipping by global norm (0 = none), then Adam, AdamW or SGD with Nesterov momentum 0.9. For
    'lbfgs': its memory (`lbfgs_step`).

    AdamW decays kernels only (arrays of two or more dimensions): biases, norms and position biases
    are not decayed. Adam and SGD add weight_decay * w to the gradient of the same arrays, as
    PyTorch's `weight_decay` does.

    Args:
      peak, weight_decay, total: float32 [], the peak learning rate, the weight decay and the number
          of steps, which are those of the trial, not the config.
      go: bool [], whether the step is taken; if not, the state is returned as it was.
    """
    if config.name == "lbfgs":
        return _lbfgs()
    decay = optax.add_decayed_weights(
        jnp.asarray(weight_decay), mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    )
    scale = optax.scale_by_schedule(
        lambda step: -learning_rate(jnp.asarray(step), peak, total, config.schedule, config.warmup)
    )
    chain = {
        "adam": (decay, scale_by_adam(go)),
        "adamw": (scale_by_adam(go), decay),
        "sgd": (decay, _if_taken(go, optax.trace(decay=0.9, nesterov=True))),
    }[config.name]
    clip = (optax.clip_by_global_norm(config.clip_norm),) if config.clip_norm else ()
    rates = parse_rates(config.rates)
    counted = (scale, *((scale_updates_by_path(rates, total),) if rates else ()))
    return optax.chain(*clip, *chain, *(_if_taken(go, each) for each in counted))


def scale_by_adam(go: bool | Bool[Array, ""]) -> optax.GradientTransformation:
    """`optax.scale_by_adam`, whose state stays as it was unless `go`.

    The updates are computed from moments that are already chosen. If the moments are chosen
    afterwards, XLA on CPU copies all of them in each step and computes them twice: a step of HTNet
    takes a tenth longer.
    """
    adam = optax.scale_by_adam()

    def update(updates, state, params=None):
        del params
        mu, nu = (
            choose(go, optax.tree.update_moment(updates, old, decay, order), old)
            for order, (old, decay) in enumerate(zip((state.mu, state.nu), DECAYS, strict=True), 1)
        )
        count = jnp.asarray(optax.safe_increment(state.count))
        # m / (1 - b1^t) over sqrt(v / (1 - b2^t)) + epsilon, with one division instead of three
        first, second = (1 - decay ** count.astype(jnp.float32) for decay in DECAYS)
        factor, epsilon = jnp.sqrt(second) / first, jnp.sqrt(second) * EPSILON
        updates = jax.tree.map(lambda m, v: m * factor / (jnp.sqrt(v) + epsilon), mu, nu)
        return updates, optax.ScaleByAdamState(jnp.where(go, count, state.count), mu, nu)

    return optax.GradientTransformation(adam.init, update)


def choose(go: bool | Bool[Array, ""], new: Tree, old: Tree) -> Tree:
    """`new` if `go` holds, else `old`: trees of arrays with the same shapes."""
    return jax.tree.map(lambda a, b: jnp.where(go, a, b), new, old)


def _if_taken(
    go: bool | Bool[Array, ""], transformation: optax.GradientTransformation
) -> optax.GradientTransformation:
    def update(updates, state, params=None):
        updates, new = transformation.update(updates, state, params)
        return updates, choose(go, new, state)

    return optax.GradientTransformation(transformation.init, update)


def scale_updates_by_path(
    rates: tuple[Rate, ...], total: Num[Array, ""]
) -> optax.GradientTransformation:
    """Scales updates by the first of `rates` that matches a parameter's path ('conv5_1/kernel');
    others stay as they are.
    """

    def scale(path: str, update: jax.Array, done: jax.Array) -> jax.Array:
        rate = next((rate for rate in rates if re.search(rate.pattern, path)), None)
        return (
            update
            if rate is None
            else update * jnp.where(done >= rate.start, rate.factor, 0.0).astype(update.dtype)
        )

    def init(params):
        del params
        return jnp.int32(0)

    def updated(updates, state, params=None):
        del params
        done = state.astype(jnp.float32) / jnp.maximum(total.astype(jnp.float32), 1.0)
        scaled = {
            path: scale(path, update, done)
            for path, update in flatten_dict(updates, sep="/").items()
        }
        return unflatten_dict(scaled, sep="/"), state + 1

    return optax.GradientTransformation(init, updated)


def partition_params(params: PyTree, frozen: str) -> tuple[PyTree, PyTree]:
    """Parameters that are trained, and those whose path matches the regex `frozen` ('' = none): two
    trees that `merge_params` merges again.
    """
    if not frozen:
        return params, {}
    flat = flatten_dict(params, sep="/")
    sides = [
        {path: p for path, p in flat.items() if bool(re.search(frozen, path)) is kept}
        for kept in (False, True)
    ]
    trained, kept = (unflatten_dict(side, sep="/") for side in sides)
    return trained, kept


def merge_params(trained: PyTree, others: PyTree) -> PyTree:
    """Merges two trees; if both have an array, that of `others` is used."""
    return unflatten_dict({**flatten_dict(trained), **flatten_dict(others)}) if others else trained


def lbfgs_step(
    loss_of: Callable[[PyTree], tuple[Float[Array, ""], PyTree]],
    total: Callable[[jax.Array], jax.Array],
    params: PyTree,
    state: PyTree,
    penalty: Float[AnyArray, ""],
) -> tuple[tuple[Float[Array, ""], PyTree], PyTree, PyTree, PyTree]:
    """One iteration of L-BFGS with a zoom line search (Nocedal and Wright, algorithms 7.5 and 3.5)
    on loss + penalty/2 |kernels|^2.

    Args:
      loss_of: params -> (this device's share of the loss, auxiliary); `total` sums the shares over
          devices.

    Returns:
      (loss without the penalty, auxiliary), gradient of the penalised loss, both at `params`; the
      new params; the new state.
    """

    def penalised(p):
        loss, auxiliary = loss_of(p)
        return loss, (loss, auxiliary)

    def with_gradient(p):
        (share, (loss, auxiliary)), grads = jax.value_and_grad(penalised, has_aux=True)(p)
        decayed = jax.tree.map(lambda w: w if w.ndim > 1 else jnp.zeros_like(w), p)
        grads = jax.tree.map(lambda g, w: total(g) + penalty * w, grads, decayed)
        return (
            total(share) + 0.5 * penalty * optax.tree.norm(decayed, squared=True),
            grads,
            (total(loss), auxiliary),
        )

    # the gradient is summed over the devices here: the transpose of a sum inside shard_map would
    # count it twice
    @jax.custom_vjp
    def objective(p):
        return with_gradient(p)[0]

    objective.defvjp(
        lambda p: with_gradient(p)[:2], lambda grads, g: (jax.tree.map(lambda x: g * x, grads),)
    )
    value, grads, (loss, auxiliary) = with_gradient(params)
    with jax.numpy_dtype_promotion("standard"):  # optax counts in integers
        updates, state = _lbfgs().update(
            grads, state, params, value=value, grad=grads, value_fn=objective
        )
    return (loss, auxiliary), grads, optax.apply_updates(params, updates), state


def ema_update(average: PyTree, new: PyTree, step: Int[Array, ""], decay: float) -> PyTree:
    """Exponential moving average of the variables; its decay grows to `decay` as min(decay, (1 + t)
    / (10 + t)), TensorFlow's rule.
    """
    if not decay:
        return average
    t = step.astype(jnp.float32)
    keep = jnp.minimum(decay, (1 + t) / (10 + t))
    return jax.tree.map(lambda a, b: keep * a + (1 - keep) * b, average, new)


def _lbfgs() -> optax.GradientTransformationExtraArgs:
    return optax.lbfgs(memory_size=MEMORY)
