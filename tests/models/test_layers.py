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
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def close(a, b, tolerance=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance, rtol=tolerance), a, b)


def value_and_pull(f, *args):
    """f(*args), and the gradients of sum(sin(f)), a sum that weighs every output differently."""
    y, pull = jax.vjp(f, *args)
    return y, pull(jnp.cos(y))


@pytest.mark.parametrize(("size", "padding"), [(3, "SAME"), (2, "SAME"), (5, "VALID"), (3, 2)])
def test_conv_is_nn_conv(size, padding):
    x, ours, standard = normal(2, 7, 6, 3), Conv(4, size, padding), nn.Conv(4, (size, size), padding=padding)
    params = {"params": {"kernel": normal(size, size, 3, 4, seed=1), "bias": normal(4, seed=2)}}
    assert jax.eval_shape(ours.init, jax.random.key(0), x) == jax.eval_shape(standard.init, jax.random.key(0), x)
    close(*jax.jit(lambda p, x: (value_and_pull(ours.apply, p, x), value_and_pull(standard.apply, p, x)))(params, x), 1e-4)


def test_conv_over_stacked_kernels_has_no_grouped_convolution():
    x, kernels = normal(3, 2, 5, 5, 2), normal(3, 3, 3, 2, 4, seed=1)
    together, loop = jax.jit(lambda x, kernels: (jax.vmap(conv2d)(x, kernels), [conv2d(x[i], kernels[i]) for i in range(3)]))(x, kernels)
    close(together, np.stack(loop))
    assert "conv_general" not in str(jax.make_jaxpr(jax.vmap(conv2d))(x, kernels))


def test_dense_is_nn_dense():
    x, params = normal(2, 3, 5), {"params": {"kernel": normal(5, 4, seed=1), "bias": normal(4, seed=2)}}
    close(Dense(4).apply(params, x), nn.Dense(4).apply(params, x))


@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 1), (2, 3, 0)])
def test_max_pool_is_nn_max_pool(window, stride, padding):
    x = normal(2, 8, 7, 3) - 3  # mostly negative: a padding of zeros would win

    def standard(x):
        return nn.max_pool(x, (window, window), (stride, stride), ((padding, padding), (padding, padding)))

    def ours(x):
        return max_pool(x, window, stride, padding)

    close(*jax.jit(lambda x: (value_and_pull(ours, x), value_and_pull(standard, x)))(x))


def test_max_pool_shares_the_gradient_among_equals():
    grad = jax.jit(jax.grad(lambda x: max_pool(x, 2, 2).sum()))(np.zeros((1, 2, 2, 1), np.float32))
    np.testing.assert_allclose(grad.sum(), 1.0)
    assert (grad > 0).all()


def test_initial_values_follow_pytorch():
    for model, images, bound in [(Conv(4000), normal(1, 3, 3, 4), 1 / 6), (Dense(4000), normal(2, 25), 1 / 5)]:
        params = jax.jit(model.init)(jax.random.key(0), images)["params"]
        for values in params.values():
            np.testing.assert_allclose([values.min(), values.max(), values.std()], [-bound, bound, bound / 3**0.5], rtol=0.03)


NORM = {"params": {"scale": normal(3, seed=1), "bias": normal(3, seed=2)},
        "batch_stats": {"mean": normal(3, seed=3), "var": 1 + normal(3, seed=4) ** 2}}


def normed(x, mask=None, axis_name=None):
    return BatchNorm(axis_name).apply(NORM, x, True, mask, mutable=["batch_stats"])


def test_batch_norm_is_nn_batch_norm():
    x, standard = 5 + normal(4, 3, 2, 3), nn.BatchNorm(momentum=0.9, epsilon=1e-5)

    @jax.jit
    def both(x):
        ours = normed(x), BatchNorm().apply(NORM, x, False), BatchNorm("data").init(jax.random.key(0), x, True)  # outside any axis
        return ours, (standard.apply(NORM, x, use_running_average=False, mutable=["batch_stats"]),
                      standard.apply(NORM, x, use_running_average=True),
                      standard.init(jax.random.key(0), x, use_running_average=False))

    close(*both(x), 1e-4)


def test_batch_norm_takes_real_rows_only_over_all_devices():
    x = normal(6, 3, 2, 3)
    x[4], x[5] = 1e6, np.nan
    close(jax.jit(lambda x, m: (normed(x, m)[0][:4], normed(x, m)[1]))(x, np.arange(6) < 4), jax.jit(normed)(x[:4]))
    # three devices with 2 rows each: the last one holds padding alone, and equal weights for devices would be wrong
    mask = np.asarray([[True, True], [True, False], [False, False]])
    y, shared_stats = jax.jit(jax.vmap(lambda x, m: normed(x, m, "data"), axis_name="data"))(x.reshape(3, 2, 3, 2, 3), mask)
    expected, stats = jax.jit(normed)(x[:3])
    close(y.reshape(6, 3, 2, 3)[:3], expected)
    close(jax.tree.map(lambda s: s[2], shared_stats), stats)


def test_batch_norm_keeps_its_statistics_where_no_row_is_real():
    _, stats = jax.jit(normed)(normal(2, 3, 2, 3), np.zeros(2, bool))
    close(stats["batch_stats"], NORM["batch_stats"], 0)


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
