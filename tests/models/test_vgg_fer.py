"""The VGG network: the published size, the standard layers' values, small sizes, initial values."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.models import build, count_parameters

RNG = np.random.default_rng(0)


def shapes(side=48, **arguments):
    model = build("vgg_fer", num_classes=7, **arguments)
    return model, jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, side, side, 1)))


def test_the_published_network():
    """conv and norm by conv; at the 40x40 crops of the published code, the last map is 2x2."""
    widths = (1, 64, 64, 128, 128, 256, 256, 512, 512)
    convolutions = sum(9 * i * o + o + 2 * o for i, o in itertools.pairwise(widths))
    for side, last in ((48, 3), (40, 2)):
        _, variables = shapes(side)
        dense = (last * last * 512 + 1) * 4096 + 4097 * 4096 + 4097 * 7
        assert count_parameters(variables["params"]) == convolutions + dense
    assert count_parameters(shapes()[1]["params"]) == 40_376_519


class Standard(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i, features in enumerate((4, 4, 4, 6, 6, 6)):
            x = nn.Conv(features, (3, 3), name=f"conv_{i}")(x)
            x = nn.relu(nn.BatchNorm(use_running_average=True, name=f"norm_{i}")(x))
            if i % 3 == 2:
                x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(9, name="hidden_0")(x.reshape(len(x), -1)))
        return nn.Dense(7, name="head")(x)


def test_equals_the_standard_layers():
    model, like = shapes(side=9, widths=[4, 6], convolutions=3, hidden=[9])
    variables = jax.tree.map(lambda s: (0.6 * RNG.random(s.shape) - 0.2).astype(np.float32), like)
    variables["batch_stats"] = jax.tree.map(
        lambda s: np.abs(s) + np.float32(0.01), variables["batch_stats"]
    )
    images = RNG.normal(size=(3, 9, 9, 1)).astype(np.float32)
    logits, expected = jax.jit(lambda v, x: (model.apply(v, x), Standard().apply(v, x)))(
        variables, images
    )
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 1e-2


def test_without_hidden_layers_the_maps_are_dropped_out():
    model, like = shapes(side=4, widths=(4,), convolutions=1, hidden=(), dropout=0.5)
    assert set(like["params"]) == {"conv_0", "norm_0", "head"}
    variables = jax.tree.map(lambda s: RNG.random(s.shape).astype(np.float32), like)
    images = RNG.normal(size=(2, 4, 4, 1)).astype(np.float32)
    run = jax.jit(
        lambda key: model.apply(
            variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )[0]
    )
    assert np.abs(run(jax.random.key(0)) - run(jax.random.key(1))).max() > 1e-3


def test_initial_values_keep_the_signal_through_relu():
    """He et al. 2015: variance 2 / fan_in."""
    model, _ = shapes(side=4, widths=(32,), hidden=(200,))
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))["params"]
    for layer, fan_in in (("conv_1", 9 * 32), ("hidden_0", 2 * 2 * 32)):
        np.testing.assert_allclose(params[layer]["kernel"].std(), np.sqrt(2 / fan_in), rtol=0.03)
        assert np.abs(params[layer]["bias"]).max() == 0


def test_all_impossible_arguments_are_named():
    with pytest.raises(UserError) as error:
        build("vgg_fer", num_classes=7, widths=(8, 0), convolutions=0, hidden=(-1,), dropout=1)
    assert [p.split(":")[0] for p in error.value.problems] == [
        "convolutions",
        "widths[1]",
        "hidden[0]",
        "dropout",
    ]
