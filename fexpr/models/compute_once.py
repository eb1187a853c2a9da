"""Elementwise arithmetic that XLA on CPU computes once."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax import export, lax
from jaxtyping import Array, Shaped

from fexpr.arrays import AnyArray


def compute_once(
    function: Callable[..., jax.Array], batch: Shaped[AnyArray, "B ..."], *others: AnyArray
) -> Shaped[Array, "B ..."]:
    """function(batch, *others), [B, ...], a part of the rows of `batch` [B, ...] after the other.

    XLA on CPU makes elementwise arithmetic a part of every loop that reads its result. If it is
    long, and a pooling layer or a gradient reads it, it is computed many times: for each value of
    each window, and again in the backward pass. What a loop has computed is kept, and
    optimization_barrier is removed before loops are fused.

    A program of any batch size computes all rows at once.
    """
    count = batch.shape[0]
    if export.is_symbolic_dim(count):
        return function(batch, *others)
    parts = next((n for n in range(2, count + 1) if count % n == 0), 1)
    made = lax.map(lambda part: function(part, *others), batch.reshape(parts, -1, *batch.shape[1:]))
    return made.reshape(count, *made.shape[2:])
