"""The residual network: its size, images of any size, blocks that begin as the identity,
arguments.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr import models
from fexpr.errors import UserError
from fexpr.models.convolution import strided_conv2d
from fexpr.models.resnet import average_grid
from tests.marks import keep_short

SMALL = {"widths": (4, 8), "blocks": (1, 2)}
BOTH = [("resnet", SMALL), ("resnet_pooled", {"stem": 3, **SMALL})]


def variables_of(model, shape=(1, 48, 48, 1)):
    initialize = jax.jit(partial(model.init, train=False))
    return initialize(jax.random.key(0), jnp.zeros(shape, jnp.float32))


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        ("resnet", {}, 11_171_271),
        ("resnet", {"widths": (32, 64, 128), "blocks": (2, 2, 2), "stem_stride": 2}, 695_655),
        ("resnet_pooled", {}, 1_044_439),
    ],
)
def test_it_has_as_many_parameters_as_it_says(name, arguments, count):
    model = models.build(name, num_classes=7, **arguments)
    assert models.count_parameters(jax.eval_shape(lambda: variables_of(model))["params"]) == count


@pytest.mark.parametrize("side", keep_short([11, 32, 48], [11]))
@pytest.mark.parametrize(("name", "arguments"), BOTH)
def test_images_of_any_size(name, arguments, side):
    model = models.build(name, num_classes=7, **arguments)
    predict = jax.jit(partial(model.apply, train=False))
    logits = predict(variables_of(model), jnp.ones((2, side, side, 1)))
    assert logits.shape == (2, 7)
    assert logits.dtype == jnp.float32


def test_a_block_begins_as_the_identity():
    """Without its second convolution the network answers the same, as long as nothing is
    trained.
    """
    model = models.build("resnet", num_classes=7, **SMALL)
    variables, images = variables_of(model), jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    predict = jax.jit(partial(model.apply, train=False))
    before = predict(variables, images)
    kernel = variables["params"]["stage_1_block_1_conv_1"]["kernel"]
    variables["params"]["stage_1_block_1_conv_1"]["kernel"] = kernel * 5
    np.testing.assert_array_equal(predict(variables, images), before)
    variables["params"]["stage_1_block_1_norm_1"]["scale"] = jnp.ones(8)
    assert abs(predict(variables, images) - before).max() > 1e-3


def test_the_grid_is_pytorchs_adaptive_average_pool():
    """Of 5 rows in two parts the middle one is in both."""
    x = np.arange(25.0, dtype=np.float32).reshape(1, 5, 5, 1)
    found = average_grid(jnp.asarray(x), 2)[0, :, :, 0]
    expected = [
        [x[0, r, c].mean() for c in (slice(0, 3), slice(2, 5))] for r in (slice(0, 3), slice(2, 5))
    ]
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(average_grid(jnp.asarray(x), 1)[0, 0, 0, 0], x.mean())
    np.testing.assert_array_equal(average_grid(jnp.asarray(x), 5), x)


@pytest.mark.parametrize(("name", "arguments"), BOTH)
def test_padded_rows_do_not_count(name, arguments):
    model = models.build(name, num_classes=7, **arguments)
    if name == "resnet_pooled":
        model = model.clone(dropout=0.0)
    variables, images = variables_of(model), jax.random.normal(jax.random.key(1), (6, 16, 16, 1))
    mask = jnp.arange(6) < 4
    train = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    padded, statistics = train(variables, images, mask=mask)
    alone, expected = train(variables, images[:4])
    np.testing.assert_allclose(padded[:4], alone, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), statistics, expected)


def test_a_strided_convolution_is_xlas_own():
    x = jax.random.normal(jax.random.key(0), (2, 11, 12, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 5))
    expected = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(strided_conv2d(x, kernel, 2), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet", "resnet_pooled"])
def test_impossible_arguments_are_named_at_once(name):
    with pytest.raises(UserError) as raised:
        models.build(name, num_classes=7, widths=(4, 0), blocks=(1,), dropout=2.0)
    text = "\n".join(raised.value.problems)
    assert all(name in text for name in ("widths[1]", "blocks", "dropout"))
