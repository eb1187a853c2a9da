"""SimpleAUCNN against the same network written with the standard layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fexpr.models import count_parameters
from fexpr.models.aucnn import SimpleAUCNN


class Standard(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i, features in enumerate((16, 32)):
            x = nn.max_pool(nn.relu(nn.Conv(features, (3, 3), name=f"conv_{i}")(x)), (2, 2), (2, 2))
        x = nn.relu(nn.Dense(128, name="hidden")(x.reshape(len(x), -1)))
        return nn.Dense(6, name="head")(x)


def test_stacked_parameters_equal_a_loop_over_the_standard_layers():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 9, 8, 3)).astype(np.float32)
    shapes = jax.eval_shape(Standard().init, jax.random.key(0), images)
    stacked = jax.tree.map(
        lambda s: 0.2 * rng.normal(size=(2, *s.shape)).astype(np.float32), shapes
    )

    def loss(params):
        logits = SimpleAUCNN(6).apply(params, images, train=True, mask=np.arange(3) < 2)
        return jnp.square(logits).mean(), logits

    (_, logits), grads = jax.jit(jax.vmap(jax.value_and_grad(loss, has_aux=True)))(stacked)
    standard = jax.jit(Standard().apply)
    expected = np.stack(
        [standard(jax.tree.map(lambda a, i=i: a[i], stacked), images) for i in range(2)]
    )
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    assert logits.shape == (2, 3, 6)
    assert logits.dtype == jnp.float32
    assert logits.min() < 0 < 1 < logits.max()  # logits: no sigmoid inside
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_parameter_count_of_the_notebook():
    params = jax.eval_shape(SimpleAUCNN(25).init, jax.random.key(0), jnp.zeros((1, 28, 28, 3)))
    assert (
        count_parameters(params)
        == (27 + 1) * 16 + (144 + 1) * 32 + (32 * 7 * 7 + 1) * 128 + (128 + 1) * 25
    )
