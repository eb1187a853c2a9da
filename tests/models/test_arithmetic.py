"""The multiply-adds of convolutions, counted by hand."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
from jax import lax

from fexpr import models
from fexpr.models import layers
from fexpr.models.arithmetic import count_convolutions, count_products

POOLED = {"stem": 3, "widths": (4, 5), "blocks": (1, 1)}


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("logistic", {}, 0),
        ("mlp", {}, 0),
        ("fer_cnn_simple", {}, 48**2 * 9 * 32 + 24**2 * 9 * 32 * 64),
        # 48 -> 24 -> 12 -> 6; a stage's convolution comes before its pooling
        (
            "resnet_pooled",
            POOLED,
            9 * (48**2 * 3 + 24**2 * 12 + 2 * 12**2 * 16 + 12**2 * 20 + 2 * 6**2 * 25),
        ),
    ],
)
def test_convolutions_are_counted(name, arguments, expected):
    model = models.build(name, num_classes=7, **arguments)
    assert count_convolutions(model, (48, 48, 1)) == expected


class Looped(nn.Module):
    """Three times a convolution of 2 to 2 channels, in a loop; one of its branches does none."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, images, train=False):
        kernel = self.param("kernel", nn.initializers.ones, (3, 3, 2, 2))

        def step(x, _):
            y = lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return lax.cond(x.sum() > 0, lambda: y, lambda: x), None

        return lax.scan(step, jnp.tile(images, 2), None, length=3)[0].mean((1, 2))


def test_a_loop_counts_every_turn():
    assert count_convolutions(Looped(), (5, 4, 1)) == 3 * 5 * 4 * 9 * 2 * 2


def test_dense_layers_are_counted_with_convolutions():
    simple = models.build("fer_cnn_simple", num_classes=7)
    convolutions = count_convolutions(simple, (48, 48, 1))
    assert count_products(simple, (48, 48, 1)) == convolutions + 12**2 * 64 * 7
    assert count_products(models.build("logistic", num_classes=7), (48, 48, 1)) == 48**2 * 7


@pytest.mark.parametrize("channels", [2, 10])
def test_a_convolution_that_is_something_else_on_cpu_counts_as_one(channels):
    class Narrow(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            return layers.Conv(8)(jnp.tile(images, channels))

    assert count_products(Narrow(), (6, 5, 1)) == 6 * 5 * 9 * channels * 8
