"""VGG16 and ResNet50 against the same networks in Keras 3 from the same files, in every Keras
layout; counts; what faces are made into.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.models import build, count_parameters
from fexpr.models.convolution import strided_conv2d
from fexpr.models.vggface import prepared
from fexpr.models.weights import files, layouts
from tests.models import keras_faces as reference

MEANS = {
    "vggface_vgg16": (93.5940, 104.7624, 129.1863),
    "vggface_resnet50": (91.4953, 103.8827, 131.0912),
}
VGG = {"widths": (4, 6, 8), "convolutions": (2, 2, 3), "image_size": 24}
RESNET = {"width": 4, "blocks": (2, 1, 2), "image_size": 45}


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 48, 48, 1)))


def assert_equal(model, file, keras_model, side, name):
    """The model with the file's weights says what Keras does, within 1e-4 of the largest value."""
    variables, report = layouts.load(files.read(file), model, shapes(model))
    assert not report.problems
    images = np.random.default_rng(1).uniform(0, 255, (3, side, side, 3)).astype(np.float32)
    expected = reference.outputs(keras_model, images, MEANS[name])
    found = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
    # images differ: the comparison is not of biases
    assert np.ptp(expected, axis=0).max() > 0.01 * np.abs(expected).max()
    return report


@pytest.fixture(scope="module")
def vgg():
    return reference.randomised(
        reference.vgg16(24, VGG["widths"], VGG["convolutions"], classes=(5, 7))
    )


@pytest.fixture(scope="module")
def resnet():
    return reference.randomised(reference.resnet50(45, 4, RESNET["blocks"], classes=(6, 3)))


def test_counts_as_published():
    def counts(name, classes, **arguments):
        variables = shapes(build(name, num_classes=classes, **arguments))
        top = variables["params"].pop("top")
        return count_parameters(variables), count_parameters(variables) + count_parameters(top)

    assert counts("vggface_vgg16", 7) == (14_714_688, 14_847_815)
    assert counts("vggface_vgg16", 2622, pooling="flatten", hidden=(4096, 4096)) == (
        14_714_688,
        145_002_878,
    )
    assert counts("vggface_resnet50", 7) == (23_561_152, 25_666_503)
    assert counts("vggface_resnet50", 8631, hidden=()) == (23_561_152, 41_246_071)


@pytest.mark.parametrize("layout", ["legacy", "legacy_model", "keras3", "keras3_model"])
def test_vgg16_equals_keras_from_the_same_file(vgg, layout, tmp_path):
    file = (
        tmp_path
        / {
            "legacy": "a.h5",
            "legacy_model": "b.h5",
            "keras3": "c.weights.h5",
            "keras3_model": "d.keras",
        }[layout]
    )
    if layout == "legacy":
        reference.legacy_h5(file, vgg)
    else:
        reference.save(vgg, file)
    report = assert_equal(
        build("vggface_vgg16", num_classes=7, hidden=(5,), **VGG), file, vgg, 24, "vggface_vgg16"
    )
    assert len(report.loaded) == 2 * (7 + 2)


@pytest.mark.long
@pytest.mark.parametrize("layout", ["legacy", "keras3"])
def test_resnet50_equals_keras_from_the_same_file(resnet, layout, tmp_path):
    file = tmp_path / {"legacy": "a.h5", "keras3": "c.weights.h5"}[layout]
    reference.legacy_h5(file, resnet) if layout == "legacy" else reference.save(resnet, file)
    assert_equal(
        build("vggface_resnet50", num_classes=3, hidden=(6,), **RESNET),
        file,
        resnet,
        45,
        "vggface_resnet50",
    )


def test_a_file_with_the_published_top(tmp_path):
    """Read whole by the network that names people; for another task its top is ignored, and the
    model's starts anew.
    """
    people = reference.randomised(
        reference.vgg16(24, VGG["widths"], VGG["convolutions"], top=(9, 8, 20))
    )
    file = reference.legacy_h5(tmp_path / "top.h5", people)
    whole = build("vggface_vgg16", num_classes=20, pooling="flatten", hidden=(9, 8), **VGG)
    assert_equal(whole, file, people, 24, "vggface_vgg16")
    model = build("vggface_vgg16", num_classes=7, hidden=(5,), **VGG)
    variables, report = layouts.load(files.read(file), model, shapes(model))
    assert set(variables["params"]) == {
        f"conv{b}_{i}" for b, n in ((1, 2), (2, 2), (3, 3)) for i in range(1, n + 1)
    }
    assert {name.partition("/")[0] for name in report.ignored} == {"fc6", "fc7", "fc8"}
    assert set(report.reinitialized.values()) == {"the file has none"}
    assert "ignored: fc6, fc7, fc8" in report.summary()


def test_grey_faces_are_scaled_up_repeated_and_put_in_order():
    rng = np.random.default_rng(0)
    rgb = rng.uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    for version, means in ((1, MEANS["vggface_vgg16"]), (2, MEANS["vggface_resnet50"])):
        found = np.asarray(prepared(jnp.asarray(rgb), 8, version))
        for channel, mean in enumerate(means):
            np.testing.assert_allclose(found[..., channel], rgb[..., 2 - channel] - mean, atol=1e-4)
    grey = rgb[..., :1]
    grown = np.asarray(prepared(jnp.asarray(grey), 16, 1)) + np.array(
        MEANS["vggface_vgg16"], np.float32
    )
    np.testing.assert_allclose(grown, np.repeat(grown[..., :1], 3, -1), atol=1e-4)
    inner = (0.75 * grey[:, 3, 3] + 0.25 * grey[:, 3, 4]) * 0.75 + (
        0.75 * grey[:, 4, 3] + 0.25 * grey[:, 4, 4]
    ) * 0.25
    # half-pixel centres, as OpenCV, PIL and Keras
    np.testing.assert_allclose(grown[:, 7, 7, :1], inner, rtol=1e-5)
    with pytest.raises(UserError, match=r"flow maps(.|\n)*expected 1 or 3 channels"):
        prepared(jnp.zeros((1, 8, 8, 2)), 8, 1)


@pytest.mark.parametrize(
    ("size", "stride", "side"), [(7, 2, 15), (7, 2, 16), (1, 2, 7), (3, 2, 8), (5, 3, 11)]
)
def test_strides_as_in_tensorflow(size, stride, side):
    x = jax.random.normal(jax.random.key(0), (2, side, side + 1, 3))
    kernel = jax.random.normal(jax.random.key(1), (size, size, 3, 4))
    expected = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(strided_conv2d(x, kernel, stride), expected, atol=2e-5)


@pytest.mark.long
def test_rematerialised_blocks_give_the_same_gradients():
    tiny = {"num_classes": 3, "width": 2, "blocks": (1,), "image_size": 12, "hidden": ()}
    plain, again = (build("vggface_resnet50", remat=remat, **tiny) for remat in (False, True))
    images = jax.random.uniform(jax.random.key(0), (4, 12, 12, 1)) * 255
    variables = jax.jit(plain.init)(jax.random.key(1), images)
    assert jax.tree.structure(variables) == jax.tree.structure(shapes(again))

    def loss(model, params):
        logits, updated = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return jnp.square(logits).sum(), updated

    one, two = (
        jax.jit(jax.grad(partial(loss, model), has_aux=True))(variables["params"])
        for model in (plain, again)
    )
    # those before a batch norm are zero but for rounding
    largest = max(np.abs(a).max() for a in jax.tree.leaves(one))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * largest), one, two
    )


def test_half_precision_gives_the_same_answer():
    model = build(
        "vggface_vgg16",
        num_classes=3,
        widths=(3, 4),
        convolutions=(1, 2),
        image_size=16,
        hidden=(4,),
        remat=True,
    )
    images = jax.random.uniform(jax.random.key(0), (4, 12, 12, 1)) * 255
    variables = jax.jit(model.init)(jax.random.key(1), images)
    half, full = (
        jax.jit(model.apply)(variables, images.astype(dtype))
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, full, atol=0.05 * np.abs(full).max())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "vggface_vgg16",
            {"pooling": "max", "widths": (4,)},
            "pooling: expected one of avg, flatten",
        ),
        ("vggface_vgg16", {"widths": (4,)}, "widths and convolutions: expected"),
        ("vggface_resnet50", {"blocks": (1, 0)}, r"blocks\[1\]: expected a whole number above 0"),
    ],
)
def test_impossible_arguments(name, arguments, message):
    with pytest.raises(UserError, match=message):
        build(name, num_classes=3, **arguments)


def test_any_number_of_images_can_be_exported():
    model = build(
        "vggface_resnet50",
        num_classes=3,
        width=2,
        blocks=(1,),
        image_size=12,
        hidden=(),
        remat=True,
    )
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    (rows,) = jax.export.symbolic_shape("rows")
    exported = jax.export.export(jax.jit(partial(model.apply, variables)))(
        jax.ShapeDtypeStruct((rows, 8, 8, 1), jnp.float32)
    )
    assert exported.out_avals[0].shape[1] == 3
