"""The optimiser of one trial. Learning rate, weight decay and length are arrays, so trials that differ in them share a program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine")


def learning_rate(step: jax.Array, peak: jax.Array, total: jax.Array, schedule: str, warmup: float) -> jax.Array:
    """Linear warm-up over `warmup` (a share of `total` steps), then constant or a half cosine down to zero."""
    done = step.astype(jnp.float32) / jnp.maximum(total.astype(jnp.float32), 1.0)
    rate = jnp.asarray(peak, jnp.float32)
    if schedule == "cosine":
        rate = rate * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip((done - warmup) / (1 - warmup), 0.0, 1.0)))
    return rate * jnp.clip((done + 1 / jnp.maximum(total.astype(jnp.float32), 1.0)) / warmup, 0.0, 1.0) if warmup else rate


def optimizer(
    name: str, schedule: str, warmup: float, clip_norm: float, peak: jax.Array, weight_decay: jax.Array, total: jax.Array
) -> optax.GradientTransformation:
    """Clipping by global norm (0 = none), then Adam, AdamW or SGD with Nesterov momentum 0.9.

    AdamW decays kernels only (arrays of two or more dimensions): biases, norms and position biases are left alone. Adam and SGD
    add weight_decay * w to the gradient of the same arrays, as PyTorch's `weight_decay` does.
    """
    decay = optax.add_decayed_weights(weight_decay, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params))
    scale = optax.scale_by_schedule(lambda step: -learning_rate(step, peak, total, schedule, warmup))
    chain = {
        "adam": (decay, optax.scale_by_adam()),
        "adamw": (optax.scale_by_adam(), decay),
        "sgd": (decay, optax.trace(decay=0.9, nesterov=True)),
    }[name]
    return optax.chain(*((optax.clip_by_global_norm(clip_norm),) if clip_norm else ()), *chain, scale)
