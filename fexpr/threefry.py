"""The generator behind JAX's random numbers, as one elementwise pass.

`jax.random` runs it on CPU round after round through memory: 31 ms for a dropout of 64x23x23x64
values on one core, 5 ms written out as here; and its loop takes XLA most of a second to compile
for every array of random numbers.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, UInt32

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # Salmon et al. 2011, table 4
PARITY = 0x1BD11BDA


def threefry(
    key: UInt32[Array, " 2"], a: UInt32[Array, "*n"], b: UInt32[Array, "*n"]
) -> tuple[UInt32[Array, "*n"], UInt32[Array, "*n"]]:
    """Threefry-2x32, 20 rounds (Salmon et al. 2011): two random words for every pair of counters.

    Args:
      key: uint32 [2].
      a, b: counters, uint32 of one shape [...].

    Returns:
      uint32 [...] and [...].
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY))
    a, b = (x + jnp.broadcast_to(k, x.shape) for x, k in ((a, keys[0]), (b, keys[1])))
    for i in range(5):
        for turn in ROTATIONS[i % 2]:
            a = a + b
            b = a ^ (b << jnp.uint32(turn) | b >> jnp.uint32(32 - turn))
        a = a + jnp.broadcast_to(keys[(i + 1) % 3], a.shape)
        b = b + jnp.broadcast_to(keys[(i + 2) % 3] + jnp.uint32(i + 1), b.shape)
    return a, b
