"""The multiply-adds of convolutions, counted by hand."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
from jax import lax

from fexpr import models
from fexpr.models.arithmetic import count_convolutions

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
