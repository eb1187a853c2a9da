"""The seeds' networks against the same written with the standard layers; parameter counts as
published; feature maps.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.models import build, count_parameters

RNG = np.random.default_rng(0)


def shapes(name, num_classes=7, side=48, **arguments):
    model = build(name, num_classes=num_classes, **arguments)
    return model, jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, side, side, 1)))


@pytest.mark.parametrize(
    ("name", "num_classes", "side", "trained", "keras"),
    [
        ("fer_cnn_simple", 7, 48, 83_335, 83_335),
        ("fer_cnn_thesis", 7, 48, 783_815, 785_095),
        # Keras would count moving statistics, PyTorch does not
        ("fer_cnn_pytorch", 7, 48, 5_014_119, 5_014_119 + 2 * 2 * (32 + 64 + 128)),
        ("digits_cnn", 10, 28, 183_690, 183_690),
    ],
)
def test_parameter_counts(name, num_classes, side, trained, keras):
    _, variables = shapes(name, num_classes, side)
    assert (count_parameters(variables["params"]), count_parameters(variables)) == (trained, keras)


class Standard(nn.Module):
    """blocks: filters, size and padding of each convolution, and what follows it, in order."""

    blocks: list
    hidden: tuple = ()

    @nn.compact
    def __call__(self, x):
        for i, (features, size, padding, following) in enumerate(self.blocks):
            x = nn.Conv(features, (size, size), padding=padding, name=f"conv_{i}")(x)
            for step, value in following:
                if step == "relu":
                    x = nn.relu(x)
                elif step == "pool":
                    x = nn.max_pool(x, (value, value), (2, 2))
                else:
                    x = nn.BatchNorm(use_running_average=True, epsilon=value, name=f"norm_{i}")(x)
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, name="hidden")(x))
        return nn.Dense(7, name="head")(x)


RELU, POOL2, POOL3 = ("relu", 0), ("pool", 2), ("pool", 3)
KERAS_NORM, TORCH_NORM = ("norm", 1e-3), ("norm", 1e-5)


STANDARD = {
    "fer_cnn_simple": (14, Standard([(n, 3, "SAME", (RELU, POOL2)) for n in (32, 64)])),
    "fer_cnn_thesis": (
        33,
        Standard([(n, 3, "SAME", (RELU, POOL3, KERAS_NORM)) for n in (64, 64, 256, 256)]),
    ),
    "fer_cnn_pytorch": (
        10,
        Standard(
            [
                (n, 3, "SAME", (RELU, TORCH_NORM, *pool))
                for n in (32, 64, 128)
                for pool in ((), (POOL2,))
            ],
            hidden=(1024,),
        ),
    ),
    "digits_cnn": (
        28,
        Standard(
            [
                (256, 3, "VALID", (RELU, POOL2)),
                (128, 2, "VALID", (RELU, POOL2)),
                (64, 2, "SAME", (RELU, POOL2)),
                (64, 2, "SAME", (RELU, POOL2)),
            ]
        ),
    ),
}


@pytest.mark.parametrize("name", STANDARD)
def test_equals_the_standard_layers(name):
    side, standard = STANDARD[name]
    model, like = shapes(name, side=side)
    variables = jax.tree.map(lambda s: (0.2 * RNG.random(s.shape) - 0.08).astype(np.float32), like)
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(
            lambda s: np.abs(s) + np.float32(0.01), variables["batch_stats"]
        )
    images = RNG.normal(size=(2, side, side, 1)).astype(np.float32)
    logits, expected = jax.jit(lambda v, x: (model.apply(v, x), standard.apply(v, x)))(
        variables, images
    )
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 1e-2


def test_feature_maps_of_each_convolution():
    model, variables = shapes("fer_cnn_thesis")
    capture = lambda v, x: model.apply(
        v, x, capture_intermediates=lambda module, _: (module.name or "").startswith("conv_")
    )[1]
    maps = jax.eval_shape(capture, variables, jnp.zeros((1, 48, 48, 1)))["intermediates"]
    assert {name: m["__call__"][0].shape[1:] for name, m in maps.items()} == {
        "conv_0": (48, 48, 64),
        "conv_1": (23, 23, 64),
        "conv_2": (11, 11, 256),
        "conv_3": (5, 5, 256),
    }


@pytest.mark.parametrize(
    ("name", "bound_squared", "zero_bias"),
    [
        ("fer_cnn_simple", 6 / (9 * 32 + 9 * 64), True),  # Keras: glorot_uniform
        # PyTorch: 1 / fan_in
        pytest.param("fer_cnn_pytorch", 1 / (9 * 32), False, marks=pytest.mark.long),
    ],
)
def test_initial_values_are_the_frameworks(name, bound_squared, zero_bias):
    bound = np.sqrt(bound_squared)
    model, _ = shapes(name, side=8)
    conv = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]["conv_1"]
    assert 0.98 * bound < np.abs(conv["kernel"]).max() <= bound
    assert (np.abs(conv["bias"]).max() == 0) == zero_bias


def test_all_impossible_arguments_are_named():
    with pytest.raises(UserError) as error:
        build("fer_cnn_pytorch", num_classes=0, dropout=(0.5, 1.0, 0.2))
    assert [p.split(":")[0] for p in error.value.problems] == [
        "num_classes",
        "dropout[1]",
        "dropout",
    ]
