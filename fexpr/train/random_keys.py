"""JAX's own random numbers, bit for bit, that compile in a fifth of the time on a CPU.

`jax.random` computes Threefry-2x32 on CPU as a loop over its rounds, which takes XLA most of a
second to compile for every array of random numbers: a third of the compile time of a small CNN's
program, and all of that of its initialisation. Here the twenty rounds are written out, as one
elementwise pass.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.random import define_prng_impl
from jaxtyping import PRNGKeyArray, UInt32

from fexpr.arrays import AnyArray
from fexpr.threefry import threefry


def wrap_key(data: UInt32[AnyArray, " 2"]) -> PRNGKeyArray:
    """A key for `jax.random` from the data uint32 [2] of a Threefry key; its numbers are those of
    `jax.random.wrap_key_data(data)` with `jax_threefry_partitionable`, JAX's default.
    """
    return jax.random.wrap_key_data(jnp.asarray(data), impl=IMPLEMENTATION)


def _words(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Two words for each place of an array of this shape, counted row by row."""
    size = math.prod(shape)
    if size >= 2**32:
        raise ValueError(f"an array of {size:,} random numbers: at most 4,294,967,295")
    return threefry(key, jnp.zeros(shape, jnp.uint32), lax.iota(jnp.uint32, size).reshape(shape))


def _seed(seed: jax.Array) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.stack(_words(key, shape), axis=-1)


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    a, b = _words(key, shape)
    if bit_width == 64:
        return a.astype(jnp.uint64) << jnp.uint64(32) | b.astype(jnp.uint64)
    return (a ^ b).astype({8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}[bit_width])


def _fold_in(key: jax.Array, data: int | jax.Array) -> jax.Array:
    # the key of a seed below 2**32 is (0, seed)
    return jnp.stack(threefry(key, jnp.zeros((), jnp.uint32), jnp.asarray(data, jnp.uint32)))


IMPLEMENTATION = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="fexpr_threefry2x32",
    tag="fxt",
)
