"""Parts of a batch computed one after the other give what the whole batch gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.models.compute_once import compute_once


@pytest.mark.parametrize("count", [1, 2, 5, 9, 12])
def test_as_at_once(count):
    x = np.random.default_rng(0).normal(size=(count, 3, 2)).astype(np.float32)
    scale = jnp.float32(3)

    def function(x, scale):
        return jnp.tanh(x * scale)[:, :2]

    made = jax.jit(lambda x, scale: compute_once(function, x, scale))(x, scale)
    np.testing.assert_allclose(made, function(x, scale), rtol=1e-6)


def test_what_is_computed_is_kept():
    """One loop, whose result the sum and the maximum read."""

    def both(x):
        made = compute_once(jnp.sin, x)
        return made.sum(), made.max()

    text = jax.jit(both).lower(np.ones((4, 8), np.float32)).compile().as_text()
    assert text.count(" sine(") == 1
    assert " while(" in text
