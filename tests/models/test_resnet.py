"""The residual network: its size, images of any size, blocks that begin as the identity,
arguments.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr import models
from fexpr.errors import UserError
from fexpr.models.convolution import strided_conv2d

SMALL = {"widths": (4, 8), "blocks": (1, 2)}


def variables_of(model, shape=(1, 48, 48, 1)):
    return model.init(jax.random.key(0), jnp.zeros(shape, jnp.float32), train=False)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 11_171_271),
        ({"widths": (32, 64, 128), "blocks": (2, 2, 2), "stem_stride": 2}, 695_655),
    ],
)
def test_it_has_as_many_parameters_as_it_says(arguments, count):
    model = models.build("resnet", num_classes=7, **arguments)
    assert models.count_parameters(jax.eval_shape(lambda: variables_of(model))["params"]) == count


@pytest.mark.parametrize("side", [11, 32, 48])
def test_images_of_any_size(side):
    model = models.build("resnet", num_classes=7, **SMALL)
    logits = model.apply(variables_of(model), jnp.ones((2, side, side, 1)), train=False)
    assert logits.shape == (2, 7)
    assert logits.dtype == jnp.float32


def test_a_block_begins_as_the_identity():
    """Without its second convolution the network answers the same, as long as nothing is
    trained.
    """
    model = models.build("resnet", num_classes=7, **SMALL)
    variables, images = variables_of(model), jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    before = model.apply(variables, images, train=False)
    kernel = variables["params"]["stage_1_block_1_conv_1"]["kernel"]
    variables["params"]["stage_1_block_1_conv_1"]["kernel"] = kernel * 5
    np.testing.assert_array_equal(model.apply(variables, images, train=False), before)
    variables["params"]["stage_1_block_1_norm_1"]["scale"] = jnp.ones(8)
    assert abs(model.apply(variables, images, train=False) - before).max() > 1e-3


def test_padded_rows_do_not_count():
    model = models.build("resnet", num_classes=7, **SMALL)
    variables, images = variables_of(model), jax.random.normal(jax.random.key(1), (6, 16, 16, 1))
    mask = jnp.arange(6) < 4
    padded, statistics = model.apply(
        variables, images, train=True, mask=mask, mutable=["batch_stats"]
    )
    alone, expected = model.apply(variables, images[:4], train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(padded[:4], alone, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), statistics, expected)


def test_a_strided_convolution_is_xlas_own():
    x = jax.random.normal(jax.random.key(0), (2, 11, 12, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 5))
    expected = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(strided_conv2d(x, kernel, 2), expected, atol=1e-4)


def test_impossible_arguments_are_named_at_once():
    with pytest.raises(UserError) as raised:
        models.build("resnet", num_classes=7, widths=(4, 0), blocks=(1,), dropout=2.0)
    text = "\n".join(raised.value.problems)
    assert all(name in text for name in ("widths[1]", "blocks", "dropout"))
