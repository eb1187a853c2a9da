"""The fast layers have the standard layers' values, gradients and parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.models import (
    MODELS,
    build,
    convolution,
    convolution_forms,
    count_parameters,
    model_class,
)
from fexpr.models.convolution import conv2d
from fexpr.models.layers import Conv, Dense, Dropout
from fexpr.models.max_pool import WIDE, max_pool
from fexpr.models.normalization import BatchNorm


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def close(a, b, tolerance=1e-5):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance, rtol=tolerance), a, b
    )


def value_and_pull(f, *args):
    """f(*args), and the gradients of sum(sin(f)), a sum that weighs every output differently."""
    y, pull = jax.vjp(f, *args)
    return y, pull(jnp.cos(y))


# The two forms of the kernel's gradient (few and many channels), an odd number of images, a window
# larger than what is left of the map.
CONVS = {
    "3 same": ((4, 7, 6, 3), 3, "SAME", 4),
    "2 same": ((2, 7, 6, 3), 2, "SAME", 4),
    "5 valid": ((5, 7, 6, 1), 5, "VALID", 9),
    "3 by 2": ((2, 7, 6, 5), 3, 2, 1),
    "1": ((3, 4, 4, 2), 1, "SAME", 3),
    "many channels": ((2, 6, 5, 34), 3, 1, 18),
}


@pytest.mark.parametrize(("shape", "size", "padding", "features"), CONVS.values(), ids=CONVS)
def test_conv_is_nn_conv(shape, size, padding, features):
    x, ours, standard = (
        normal(*shape),
        Conv(features, size, padding),
        nn.Conv(features, (size, size), padding=padding),
    )
    params = {
        "params": {
            "kernel": normal(size, size, shape[-1], features, seed=1),
            "bias": normal(features, seed=2),
        }
    }
    assert jax.eval_shape(ours.init, jax.random.key(0), x) == jax.eval_shape(
        standard.init, jax.random.key(0), x
    )
    close(
        *jax.jit(
            lambda p, x: (value_and_pull(ours.apply, p, x), value_and_pull(standard.apply, p, x))
        )(params, x),
        1e-4,
    )


def stacked_and_loop(x, kernels, axes=(0, 0)):
    one = lambda x, k: value_and_pull(conv2d, x, k)
    parts = [
        (x[i] if axes[0] == 0 else x, kernels[i] if axes[1] == 0 else kernels) for i in range(3)
    ]
    together, loop = jax.jit(
        lambda x, kernels: (jax.vmap(one, axes)(x, kernels), [one(*p) for p in parts])
    )(x, kernels)
    close(together, jax.tree.map(lambda *a: np.stack(a), *loop), 1e-4)
    return str(jax.make_jaxpr(jax.vmap(one, axes))(x, kernels))


@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_small_stacked_convs_are_one_product(axes):
    x, kernels = normal(3, 2, 5, 5, 2), normal(3, 3, 3, 2, 4, seed=1)
    assert "conv_general" not in stacked_and_loop(
        x if axes[0] == 0 else x[0], kernels if axes[1] == 0 else kernels[0], axes
    )


def test_large_stacked_convs_and_a_stack_of_one_are_not_grouped(monkeypatch):
    x, kernels = normal(3, 2, 5, 5, 2), normal(3, 3, 3, 2, 4, seed=1)
    one = str(jax.make_jaxpr(jax.vmap(conv2d))(x[:1], kernels[:1]))
    monkeypatch.setattr(convolution, "LARGE", 1)
    for jaxpr in (one, stacked_and_loop(x, kernels)):
        assert "conv_general" in jaxpr
        assert jaxpr.count("feature_group_count=1") == jaxpr.count("feature_group_count")


def test_gradients_are_xlas_own_on_accelerators():
    x, kernel = normal(4, 6, 5, 3), normal(3, 3, 3, 4, seed=1)
    traced = jax.jit(jax.grad(lambda k, x: jnp.sin(conv2d(x, k)).sum(), (0, 1))).trace(kernel, x)
    on_cpu, on_gpu = (
        traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "cuda")
    )
    assert "stablehlo.while" in on_cpu
    assert "stablehlo.while" not in on_gpu


def test_dense_is_nn_dense():
    x, params = (
        normal(2, 3, 5),
        {"params": {"kernel": normal(5, 4, seed=1), "bias": normal(4, seed=2)}},
    )
    close(Dense(4).apply(params, x), nn.Dense(4).apply(params, x))


@pytest.mark.parametrize(
    ("window", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 1), (2, 3, 0)]
)
@pytest.mark.parametrize("channels", [3, 16, WIDE])
def test_max_pool_is_nn_max_pool(window, stride, padding, channels):
    x = normal(2, 8, 7, channels) - 3  # mostly negative: a padding of zeros would win

    def standard(x):
        return nn.max_pool(
            x, (window, window), (stride, stride), ((padding, padding), (padding, padding))
        )

    def ours(x):
        return max_pool(x, window, stride, padding)

    close(*jax.jit(lambda x: (value_and_pull(ours, x), value_and_pull(standard, x)))(x))


@pytest.mark.parametrize(
    ("window", "stride", "channels"), [(2, 2, 2), (2, 2, 16), (3, 3, 16), (2, 2, WIDE), (3, 2, 2)]
)
def test_max_pool_gives_the_gradient_to_the_first_among_equals(window, stride, channels):
    x = np.random.default_rng(0).integers(0, 2, (2, 9, 9, channels)).astype(np.float32)
    standard = lambda x: nn.max_pool(x, (window, window), (stride, stride))
    close(
        *jax.jit(
            lambda x: [
                value_and_pull(f, x) for f in (lambda x: max_pool(x, window, stride), standard)
            ]
        )(x)
    )


@pytest.mark.parametrize(("channels", "features"), [(1, 8), (3, 16), (3, 17), (4, 8)])
def test_a_convolution_of_few_channels_in_either_precision(channels, features):
    """Whatever computes it: sums are float32, as XLA's own."""
    x, kernel = normal(2, 9, 8, channels), normal(3, 3, channels, features, seed=1)
    for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 8e-3)):
        made = jax.jit(conv2d)(jnp.asarray(x, dtype), kernel)
        exact = convolution_forms.single_conv(
            ((1, 1), (1, 1)), *(jnp.asarray(a, dtype).astype("f") for a in (x, kernel))
        )
        assert made.dtype == dtype
        np.testing.assert_allclose(made.astype("f"), exact, rtol=tolerance, atol=tolerance)


def test_dropout_drops_at_its_rate_and_keeps_the_mean():
    x = 1 + np.zeros((200, 30, 10), np.float32)
    out = jax.jit(lambda x: Dropout(0.2).apply({}, x, True, rngs={"dropout": jax.random.key(0)}))(x)
    assert set(np.unique(out)) == {0.0, np.float32(1.25)}
    np.testing.assert_allclose((out == 0).mean(), 0.2, atol=0.01)
    # samples are independent
    assert np.abs(np.corrcoef((np.asarray(out) == 0).reshape(200, -1)) - np.eye(200)).max() < 0.35
    for same in (Dropout(0.2).apply({}, x, False), Dropout(0.0).apply({}, x, True)):
        np.testing.assert_array_equal(same, x)


def test_dropout_of_shared_batches_and_of_whole_channels():
    x = 1 + np.zeros((6, 4, 5), np.float32)
    drop = lambda x, **kwargs: Dropout(0.5, **kwargs).apply(
        {}, x, True, rngs={"dropout": jax.random.key(7)}
    )
    shared = jax.jit(jax.vmap(lambda x: drop(x, axis_name="data"), axis_name="data"))(
        x.reshape(3, 2, 4, 5)
    )
    np.testing.assert_array_equal(shared.reshape(x.shape), drop(x))
    for axis in (1, -1):
        assert len(np.unique(drop(x, broadcast_dims=(axis,)), axis=axis)[0]) <= 5
        together = np.moveaxis(np.asarray(drop(x, broadcast_dims=(axis,))), axis, 0)
        assert (together == together[:1]).all()
        assert len(np.unique(together)) == 2


@pytest.mark.parametrize(
    "layer",
    [Conv(4), Dense(4), BatchNorm(), lambda x: max_pool(x, 3, 2, 1), Dropout(0.5)],
    ids=["conv", "dense", "batch norm", "max pool", "dropout"],
)
def test_bfloat16_in_bfloat16_out_with_float32_parameters(layer):
    """Values and gradients are those of float32 to the three digits that bfloat16 has; every
    parameter and its gradient is float32.
    """
    x = jnp.asarray(normal(4, 6, 6, 3), jnp.bfloat16)
    extra = {"train": True} if isinstance(layer, BatchNorm | Dropout) else {}
    variables = layer.init(jax.random.key(0), x, **extra) if isinstance(layer, nn.Module) else {}

    def run(x):
        def f(params, x):
            if not variables:
                return (
                    layer(x)
                    if not isinstance(layer, nn.Module)
                    else layer.apply({}, x, True, rngs={"dropout": jax.random.key(1)})
                )
            return layer.apply(variables | {"params": params}, x, mutable=["batch_stats"], **extra)[
                0
            ]

        y, pull = jax.vjp(f, variables.get("params", {}), x)
        return y, pull((y * 0 + 1) * jnp.asarray(normal(*y.shape, seed=3), y.dtype))

    (y, (grads, dx)), expected = jax.jit(run)(x), jax.jit(run)(x.astype(jnp.float32))
    assert y.dtype == dx.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((variables, grads)))
    to32 = lambda tree: jax.tree.map(lambda a: np.asarray(a, np.float32), tree)
    close(to32((y, (grads, dx))), expected, 0.1)


def test_initial_values_follow_pytorch():
    for model, images, bound in [
        (Conv(4000), normal(1, 3, 3, 4), 1 / 6),
        (Dense(4000), normal(2, 25), 1 / 5),
    ]:
        params = jax.jit(model.init)(jax.random.key(0), images)["params"]
        for values in params.values():
            np.testing.assert_allclose(
                [values.min(), values.max(), values.std()],
                [-bound, bound, bound / 3**0.5],
                rtol=0.03,
            )


def test_build_names_every_mistake():
    with pytest.raises(
        UserError, match=r"(?s)expected one of htnet, .*; found 'htnt'.*did you mean 'htnet'"
    ):
        build("htnt", num_classes=3)
    with pytest.raises(UserError) as error:
        build("htnet", head=3, patch=7)
    assert error.value.problems == (
        "head: htnet has no such argument; did you mean heads?",
        "patch: htnet has no such argument; did you mean patch_size?",
        "num_classes: missing",
    )
    assert "num_hierarchies" in error.value.fix
    with pytest.raises(UserError) as error:
        build("htnet", num_classes=0, dim="64", heads=True, dropout=1.0)
    assert [p.split(":")[0] for p in error.value.problems] == [
        "num_classes",
        "dim",
        "heads",
        "dropout",
    ]
    for name in MODELS:
        with pytest.raises(UserError, match="num_classes"):
            build(name, num_classes=2.5)


def test_build_makes_every_model_hashable():
    assert build("htnet", num_classes=3, block_repeats=[1, 2]).repeats == (1, 2)
    for name in MODELS:
        model = build(name, num_classes=3)
        assert isinstance(model, model_class(name))
        assert hash(model) == hash(build(name, num_classes=3))


def test_count_parameters():
    assert (
        count_parameters(
            {"a": {"kernel": np.zeros((2, 3))}, "b": jax.ShapeDtypeStruct((5,), jnp.float32)}
        )
        == 11
    )
