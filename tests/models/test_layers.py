"""The fast layers have the standard layers' values, gradients and parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.models import MODELS, build, count_parameters
from fexpr.models.layers import BatchNorm, Conv, Dense, conv2d, max_pool


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def close(a, b, tolerance=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance, rtol=tolerance), a, b)


@pytest.mark.parametrize(("size", "padding"), [(3, "SAME"), (2, "SAME"), (5, "VALID"), (3, 2)])
def test_conv_is_nn_conv(size, padding):
    x = normal(2, 7, 6, 3)
    ours, standard = Conv(4, size, padding), nn.Conv(4, (size, size), padding=padding)
    params = ours.init(jax.random.key(0), x)

    def loss(model, params, x):
        y = model.apply(params, x)
        return jnp.sum(jnp.sin(y)), y

    (_, y), grads = jax.jit(jax.value_and_grad(lambda p, x: loss(ours, p, x), (0, 1), has_aux=True))(params, x)
    (_, y_standard), grads_standard = jax.jit(jax.value_and_grad(lambda p, x: loss(standard, p, x), (0, 1), has_aux=True))(params, x)
    close(y, y_standard)
    close(grads, grads_standard)


def test_conv_over_stacked_kernels_has_no_grouped_convolution():
    x, kernels = normal(3, 2, 5, 5, 2), normal(3, 3, 3, 2, 4, seed=1)
    close(jax.vmap(conv2d)(x, kernels), jnp.stack([conv2d(a, k) for a, k in zip(x, kernels, strict=True)]))
    assert "conv_general" not in str(jax.make_jaxpr(jax.vmap(conv2d))(x, kernels))


POOLS = [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 1), (2, 3, 0)]


@pytest.mark.parametrize(("window", "stride", "padding"), POOLS)
def test_max_pool_is_nn_max_pool(window, stride, padding):
    x = normal(2, 8, 7, 3) - 3.0  # mostly negative: a padding of zeros would win

    def standard(x):
        return nn.max_pool(x, (window, window), (stride, stride), ((padding, padding), (padding, padding)))

    y, pull = jax.vjp(lambda x: max_pool(x, window, stride, padding), x)
    y_standard, pull_standard = jax.vjp(standard, x)
    np.testing.assert_array_equal(y, y_standard)
    close(pull(jnp.cos(y)), pull_standard(jnp.cos(y)))


def test_max_pool_shares_the_gradient_among_equals():
    grad = jax.grad(lambda x: max_pool(x, 2, 2).sum())(jnp.zeros((1, 2, 2, 1)))
    np.testing.assert_allclose(grad.sum(), 1.0)
    assert (grad > 0).all()


def test_initial_values_follow_pytorch():
    params = Conv(4000).init(jax.random.key(0), normal(1, 3, 3, 4))["params"]
    for values in params.values():
        np.testing.assert_allclose([values.min(), values.max(), values.std()], [-1 / 6, 1 / 6, 1 / 6 / 3**0.5], rtol=0.03)
    params = Dense(4000).init(jax.random.key(0), normal(2, 25))["params"]
    for values in params.values():
        np.testing.assert_allclose([values.min(), values.max(), values.std()], [-0.2, 0.2, 0.2 / 3**0.5], rtol=0.03)


def norm_variables(channels=3):
    return {"params": {"scale": normal(channels, seed=1), "bias": normal(channels, seed=2)},
            "batch_stats": {"mean": normal(channels, seed=3), "var": 1.0 + normal(channels, seed=4) ** 2}}


def normed(x, mask=None, axis_name=None):
    return BatchNorm(axis_name).apply(norm_variables(), x, True, mask, mutable=["batch_stats"])


def test_batch_norm_is_nn_batch_norm():
    x, variables = 5.0 + normal(4, 3, 2, 3), norm_variables()
    standard = nn.BatchNorm(momentum=0.9, epsilon=1e-5)
    close(normed(x), standard.apply(variables, x, use_running_average=False, mutable=["batch_stats"]))
    close(BatchNorm().apply(variables, x, False), standard.apply(variables, x, use_running_average=True))
    fresh = BatchNorm("data").init(jax.random.key(0), x, True)  # made outside any mapped axis
    close(fresh, standard.init(jax.random.key(0), x, use_running_average=False))


def test_batch_norm_takes_real_rows_only_over_all_devices():
    x = normal(6, 3, 2, 3)
    expected, stats = normed(x[:4])
    padded = x.at[4].set(1e6).at[5].set(jnp.nan)
    y, padded_stats = normed(padded, jnp.arange(6) < 4)
    close((y[:4], padded_stats), (expected, stats))
    # three devices with 2 rows each: the last one holds padding alone, and equal weights for devices would be wrong
    mask = jnp.asarray([[True, True], [True, False], [False, False]])
    y, shared_stats = jax.vmap(lambda x, m: normed(x, m, "data"), axis_name="data")(padded.reshape(3, 2, 3, 2, 3), mask)
    expected, stats = normed(x[:3])
    close(y.reshape(6, 3, 2, 3)[:3], expected)
    close(jax.tree.map(lambda s: s[2], shared_stats), stats)


def test_batch_norm_keeps_its_statistics_where_no_row_is_real():
    _, stats = normed(normal(2, 3, 2, 3), jnp.zeros(2, bool))
    close(stats["batch_stats"], norm_variables()["batch_stats"], 0)


def test_build_names_every_mistake():
    with pytest.raises(UserError, match=r"(?s)expected one of htnet, aucnn, ststnet; found 'htnt'.*did you mean 'htnet'"):
        build("htnt", num_classes=3)
    with pytest.raises(UserError) as error:
        build("htnet", head=3, patch=7)
    assert error.value.problems == ("head: htnet has no such argument; did you mean heads?",
                                    "patch: htnet has no such argument; did you mean patch_size?", "num_classes: missing")
    assert "num_hierarchies" in error.value.fix
    with pytest.raises(UserError) as error:
        build("htnet", num_classes=0, dim="64", heads=True, dropout=1.0)
    assert [p.split(":")[0] for p in error.value.problems] == ["num_classes", "dim", "heads", "dropout"]
    for name in MODELS:
        with pytest.raises(UserError, match="num_classes"):
            build(name, num_classes=2.5)


def test_build_makes_every_model_hashable():
    assert build("htnet", num_classes=3, block_repeats=[1, 2]).repeats == (1, 2)
    for name, model_class in MODELS.items():
        model = build(name, num_classes=3)
        assert isinstance(model, model_class)
        assert hash(model) == hash(build(name, num_classes=3))


def test_count_parameters():
    assert count_parameters({"a": {"kernel": np.zeros((2, 3))}, "b": jax.ShapeDtypeStruct((5,), jnp.float32)}) == 11
