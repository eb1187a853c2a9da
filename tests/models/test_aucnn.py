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


def test_equals_the_standard_layers():
    model = SimpleAUCNN(6)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 12, 12, 3)), jnp.float32)
    params = model.init(jax.random.key(0), images)
    params = params | {"params": params["params"] | {"head": jax.tree.map(lambda a: 50 * a, params["params"]["head"])}}
    mask = jnp.asarray([True, True, False])

    def step(apply):
        def loss(params):
            logits = apply(params)
            return jnp.sin(logits).mean(), logits
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    (_, logits), grads = step(lambda p: model.apply(p, images, train=True, mask=mask))
    (_, expected), expected_grads = step(lambda p: Standard().apply(p, images))
    assert logits.shape == (3, 6)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert logits.min() < 0 < 1 < logits.max()  # logits: no sigmoid inside
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), grads, expected_grads)


def test_stacked_parameters_equal_a_loop():
    model = SimpleAUCNN(2)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
    stacked = jax.vmap(lambda key: model.init(key, images))(jax.random.split(jax.random.key(0), 2))
    together = jax.jit(jax.vmap(lambda p: model.apply(p, images)))(stacked)
    one = jax.jit(model.apply)
    loop = [one(jax.tree.map(lambda a, i=i: a[i], stacked), images) for i in range(2)]
    np.testing.assert_allclose(together, jnp.stack(loop), atol=1e-5)


def test_parameter_count_of_the_notebook():
    params = jax.eval_shape(SimpleAUCNN(25).init, jax.random.key(0), jnp.zeros((1, 28, 28, 3)))
    assert count_parameters(params) == (27 + 1) * 16 + (144 + 1) * 32 + (32 * 7 * 7 + 1) * 128 + (128 + 1) * 25
