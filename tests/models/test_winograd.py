"""Winograd's form of a convolution is the convolution, and is taken where it is faster."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from fexpr.models.convolution import conv2d
from fexpr.models.convolution_forms import single_conv
from fexpr.models.winograd import FEWEST_PIXELS, WIDE, winograd_conv
from tests.models.test_layers import close, normal, value_and_pull

SAME = ((1, 1), (1, 1))


@pytest.mark.parametrize(
    ("shape", "features", "pads"),
    [
        ((3, 6, 8, 5), 4, SAME),
        ((2, 7, 5, 3), 6, SAME),  # odd: the last tiles are cut
        ((2, 9, 8, 3), 6, ((0, 0), (0, 0))),
        ((1, 4, 4, 3), 2, ((2, 1), (0, 3))),
        ((1, 3, 3, 2), 2, ((0, 0), (0, 0))),  # one pixel
        ((6, 64, 64, 16), 16, SAME),  # in three parts
    ],
)
def test_it_is_the_convolution(shape, features, pads):
    x, kernel = normal(*shape), normal(3, 3, shape[3], features, seed=1)
    kernel /= np.sqrt(9 * shape[3])
    close(
        *jax.jit(lambda x, k: (winograd_conv(pads, x, k), single_conv(pads, x, k)))(x, kernel), 2e-5
    )


def test_values_and_gradients_of_a_layer_that_is_computed_so():
    x, kernel = normal(4, 24, 24, WIDE), normal(3, 3, WIDE, WIDE, seed=1) / 17
    assert x.size // WIDE >= FEWEST_PIXELS

    def of(f):
        return value_and_pull(f, x, kernel)

    layer = nn.Conv(WIDE, (3, 3), use_bias=False)
    ours, standard = jax.jit(
        lambda: (of(conv2d), of(lambda x, k: layer.apply({"params": {"kernel": k}}, x)))
    )()
    close(ours, standard, 1e-4)
    large = np.zeros((1, 224, 224, WIDE), np.float32)
    for pixels, is_winograd in ((x, True), (x[:1], False), (large, False)):
        lowered = jax.jit(conv2d).lower(pixels, kernel).as_text()
        assert ("stablehlo.while" in lowered) is is_winograd
