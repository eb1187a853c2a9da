"""How full the devices are: the arithmetic that a model needs, over what they can do."""

from __future__ import annotations

import functools
import time
from functools import partial
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from fexpr.models.arithmetic import count_products
from fexpr.train.trials import Engine
from fexpr.train.views import input_shape, views

# FLOP/s of dense bfloat16 (V100, T4: float16) products of one JAX device, by their makers' data
# sheets; of TPU v2 and v3 a device is half a chip
PEAKS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "V100": 125e12,
    "T4": 65e12,
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
}
SIDE = 1024  # of the matrices whose product says what a CPU can do
# multiply-adds of a forward pass, and the views of an image that is evaluated
_arithmetic: WeakKeyDictionary[Engine, tuple[int, int]] = WeakKeyDictionary()


def epoch_flops(engine: Engine, ran: Bool[np.ndarray, " T"] | None = None) -> float:
    """FLOPs that an epoch of the loaded trials needs, of those that `ran`: two for each
    multiply-add of a convolution or matrix product, three forward passes for a training row
    (Chowdhery et al. 2022, PaLM, appendix B), one for each view of an evaluated row. Padding,
    augmentation and smaller images of the first epochs (`train.early_size`) are not taken into
    account.
    """
    tables, recipe = engine.trials, engine.recipe
    if engine not in _arithmetic:  # tracing a model takes as long as some epochs
        shape = engine.images.shape[1:]
        seen = jax.eval_shape(
            partial(views, name=recipe.train.tta, crop=recipe.crop),
            jax.ShapeDtypeStruct((1, *shape), jnp.float32),
        )
        _arithmetic[engine] = (
            count_products(recipe.model, input_shape(shape, recipe.crop)),
            len(seen),
        )
    products, count = _arithmetic[engine]
    rows = 3 * tables.train_mask.sum(1) + count * (tables.val_mask | tables.test_mask).sum(1)
    rows = rows[engine.loaded.start : engine.loaded.stop]
    return 2.0 * products * float(rows.sum() if ran is None else rows[ran].sum())


def of_epoch(
    engine: Engine, seconds: float, ran: Bool[np.ndarray, " T"] | None = None
) -> dict[str, float]:
    """`model_flops_utilization`: the part of what the engine's devices can do that an epoch of
    `seconds` used. Empty for an accelerator that is not in PEAKS.
    """
    peak = peak_flops(engine.mesh.devices.flat[0].device_kind, engine.mesh.size)
    if peak is None:
        return {}
    used = epoch_flops(engine, ran) / (seconds * peak)
    return {"model_flops_utilization": float(f"{used:.3g}")}


@functools.lru_cache
def peak_flops(kind: str, devices: int) -> float | None:
    """FLOP/s of `devices` of this kind. Of CPUs, all devices of a process together: the rate of one
    float32 product of large matrices on all cores, measured.
    """
    if jax.default_backend() == "cpu":
        return jax.process_count() * _measured()
    # the longest name that fits: "TPU v5 lite" is no "TPU v5", "NVIDIA L40S" no "L4"
    names = sorted((name for name in PEAKS if name in kind), key=len)
    return devices * PEAKS[names[-1]] if names else None


def _measured() -> float:
    matrix = jnp.ones((SIDE, SIDE), jnp.float32)
    product = jax.jit(jnp.dot).lower(matrix, matrix).compile()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        seconds.append(time.perf_counter() - began)
    return 2 * SIDE**3 / min(seconds)
