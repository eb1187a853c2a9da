"""The norms have the standard layers' values, gradients and parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.models.normalization import BatchNorm, LayerNorm
from tests.models.test_layers import close, normal, value_and_pull

CHANNELS = (3, 16)  # the second is computed in whole rows on CPU
NORMS = {
    c: {
        "params": {"scale": normal(c, seed=1), "bias": normal(c, seed=2)},
        "batch_stats": {"mean": normal(c, seed=3), "var": 1 + normal(c, seed=4) ** 2},
    }
    for c in CHANNELS
}


@pytest.mark.parametrize("channels", CHANNELS)
def test_batch_norm_gradient_is_nn_batch_norms(channels):
    x, variables = 5 + normal(4, 3, 2, channels), NORMS[channels]
    ours, standard = BatchNorm(), nn.BatchNorm(use_running_average=False, momentum=0.9)

    def run(apply):
        return value_and_pull(
            lambda p, x: apply(variables | {"params": p}, x, mutable=["batch_stats"])[0],
            variables["params"],
            x,
        )

    close(
        *jax.jit(
            lambda: (run(lambda v, x, **k: ours.apply(v, x, True, **k)), run(standard.apply))
        )(),
        1e-4,
    )


def normed(x, mask=None, axis_name=None):
    return BatchNorm(axis_name).apply(NORMS[x.shape[-1]], x, True, mask, mutable=["batch_stats"])


@pytest.mark.parametrize("channels", CHANNELS)
def test_batch_norm_is_nn_batch_norm(channels):
    variables = NORMS[channels]
    x, standard = 5 + normal(4, 3, 2, channels), nn.BatchNorm(momentum=0.9, epsilon=1e-5)

    @jax.jit
    def both(x):
        # outside any axis
        ours = (
            normed(x),
            BatchNorm().apply(variables, x, False),
            BatchNorm("data").init(jax.random.key(0), x, True),
        )
        return ours, (
            standard.apply(variables, x, use_running_average=False, mutable=["batch_stats"]),
            standard.apply(variables, x, use_running_average=True),
            standard.init(jax.random.key(0), x, use_running_average=False),
        )

    close(*both(x), 1e-4)


@pytest.mark.parametrize("channels", CHANNELS)
def test_batch_norm_takes_real_rows_only_over_all_devices(channels):
    x = normal(6, 3, 2, channels)
    x[4], x[5] = 1e6, np.nan
    close(
        jax.jit(lambda x, m: (normed(x, m)[0][:4], normed(x, m)[1]))(x, np.arange(6) < 4),
        jax.jit(normed)(x[:4]),
    )
    # three devices with 2 rows each: the last one holds padding alone, and equal weights for
    # devices would be wrong
    mask = np.asarray([[True, True], [True, False], [False, False]])
    y, shared_stats = jax.jit(jax.vmap(lambda x, m: normed(x, m, "data"), axis_name="data"))(
        x.reshape(3, 2, 3, 2, channels), mask
    )
    expected, stats = jax.jit(normed)(x[:3])
    close(y.reshape(x.shape)[:3], expected)
    close(jax.tree.map(lambda s: s[2], shared_stats), stats)


def test_batch_norm_keeps_its_statistics_where_no_row_is_real():
    _, stats = jax.jit(normed)(normal(2, 3, 2, 3), np.zeros(2, bool))
    close(stats["batch_stats"], NORMS[3]["batch_stats"], 0)


@pytest.mark.parametrize("shape", [(5, 4, 3), (7, 6)])
def test_layer_norm_is_nn_layer_norm(shape):
    x = 5 + normal(*shape)
    variables = {"params": {"scale": 1 + normal(shape[-1]), "bias": normal(shape[-1], seed=1)}}
    standard = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False)

    @jax.jit
    def both(x, variables):
        def of(layer):
            return value_and_pull(lambda x, v: layer.apply(v, x), x, variables)

        key = jax.random.key(0)
        return (of(LayerNorm()), LayerNorm().init(key, x)), (of(standard), standard.init(key, x))

    close(*both(x, variables), 1e-4)
    halves = jnp.asarray(x, jnp.bfloat16)
    close(
        LayerNorm().apply(variables, halves).astype(jnp.float32), standard.apply(variables, x), 0.1
    )
