"""The generator is JAX's own."""

import jax
import numpy as np
from jax.extend.random import threefry_2x32

from fexpr.threefry import threefry


def test_both_words_are_those_of_jax():
    key, counters = np.asarray([3, 2**32 - 5], np.uint32), np.arange(8, dtype=np.uint32) * 123456789
    ours = jax.jit(threefry)(key, counters[:4].reshape(2, 2), counters[4:].reshape(2, 2))
    np.testing.assert_array_equal(np.concatenate(ours).reshape(-1), threefry_2x32(key, counters))
