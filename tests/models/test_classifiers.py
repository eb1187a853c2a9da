"""Logistic regression and the perceptron by the formula; what every classifier of faces keeps to;
initial values.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.models import build, count_parameters
from fexpr.models.classifiers import MLP, Logistic
from fexpr.models.layers import Dropout
from fexpr.models.normalization import BatchNorm
from tests.marks import keep_short

RNG = np.random.default_rng(0)
CLASSES = 3
SMALL = {  # every family, small where it can be
    "logistic": ((16, 16, 1), {}),
    "mlp": ((16, 16, 1), {"hidden": (12, 8)}),
    "fer_cnn_simple": ((8, 8, 1), {}),
    "fer_cnn_thesis": ((31, 31, 1), {}),
    "fer_cnn_pytorch": ((8, 8, 1), {}),
    "digits_cnn": ((22, 22, 1), {}),
    "vgg_fer": ((8, 8, 1), {"widths": (4, 8), "hidden": (8,), "dropout": 0.5}),
    "deep_emotion": ((48, 48, 1), {"variant": "baseline"}),
    "deep_emotion_clips": ((48, 48, 2), {"variant": "baseline"}),
}
# these drop out, too
STATISTICS = (
    "mlp",
    "fer_cnn_thesis",
    "fer_cnn_pytorch",
    "vgg_fer",
    "deep_emotion",
    "deep_emotion_clips",
)
REAL = np.arange(4) < 3


def small(name, **more):
    shape, arguments = SMALL[name]
    model = build(name, num_classes=CLASSES, **arguments, **more)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    variables = jax.tree.map(
        lambda s: (RNG.normal(size=s.shape) / np.sqrt(max(np.prod(s.shape[:-1]), 1))).astype(
            np.float32
        ),
        shapes,
    )
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(
            lambda s: np.abs(s) + np.float32(1), variables["batch_stats"]
        )
    return model, variables, RNG.uniform(-1, 1, (4, *shape)).astype(np.float32)


def forward(model, variables, images, mask, key):
    """Logits of the real rows in training, and the new statistics."""
    logits, new = model.apply(
        variables, images, train=True, mask=mask, rngs={"dropout": key}, mutable=["batch_stats"]
    )
    return jnp.where(mask[:, None], logits, 0.0), new


@pytest.mark.parametrize(
    "name", keep_short(SMALL, ("logistic", "mlp", "fer_cnn_simple", "digits_cnn", "vgg_fer"))
)
def test_trains_and_predicts(name):
    """Finite gradients for every parameter; only training drops out and moves statistics; padding
    is not seen.
    """
    model, variables, images = small(name)

    @jax.jit
    def run(images, key):
        def loss(params):
            logits, new = forward(model, variables | {"params": params}, images, REAL, key)
            return jnp.sin(logits).sum(), (logits, new)

        return *jax.grad(loss, has_aux=True)(variables["params"]), model.apply(
            variables, images, mask=REAL
        )

    grads, (logits, new), predicted = run(images, jax.random.key(0))
    assert logits.shape == predicted.shape == (4, CLASSES)
    assert logits.dtype == predicted.dtype == jnp.float32
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(grads))
    images[3] = 9.0
    grads_9, trained_9, predicted_9 = run(images, jax.random.key(0))
    expected = grads, (logits, new), predicted[:3]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
        (grads_9, trained_9, predicted_9[:3]),
        expected,
    )
    assert np.abs(predicted_9[3] - predicted[3]).max() > 1e-3

    _, (other, _), predicted_other = run(images, jax.random.key(1))
    assert (np.abs(logits - other).max() > 1e-3) == (name in STATISTICS)
    np.testing.assert_array_equal(predicted_other, predicted_9)
    assert (set(new) == {"batch_stats"}) == (name in STATISTICS)
    assert all(
        np.abs(a - b).max() > 0
        for a, b in zip(
            jax.tree.leaves(new), jax.tree.leaves({k: variables[k] for k in new}), strict=True
        )
    )


@pytest.mark.parametrize("name", STATISTICS)
def test_every_layer_knows_the_axis(name):
    axes = []

    def spy(call, args, kwargs, context):
        if isinstance(context.module, BatchNorm | Dropout):
            axes.append(context.module.axis_name)
        return call(*args, **kwargs)

    with nn.intercept_methods(spy):
        small(name, axis_name="data")
    assert axes
    assert set(axes) == {"data"}


@pytest.mark.parametrize("name", keep_short(["mlp", "deep_emotion", "deep_emotion_clips"], ["mlp"]))
def test_devices_share_a_batch(name):
    (model, variables, images), shared = small(name), small(name, axis_name="data")[0]
    key = jax.random.key(0)
    expected = jax.jit(lambda x, m: forward(model, variables, x, m, key))(images, REAL)
    by_device = jax.jit(
        jax.vmap(lambda x, m: forward(shared, variables, x, m, key), axis_name="data")
    )
    logits, new = by_device(images.reshape(2, 2, *images.shape[1:]), REAL.reshape(2, 2))
    found = logits.reshape(4, CLASSES), jax.tree.map(lambda s: s[0], new)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4), found, expected
    )


@pytest.mark.parametrize("name", SMALL)
def test_half_precision_gives_float32_logits(name):
    model, variables, images = small(name)
    full, half = jax.jit(
        lambda x: (model.apply(variables, x), model.apply(variables, x.astype(jnp.bfloat16)))
    )(images)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, full, atol=0.1 * np.abs(full).max())


def test_perceptron_by_the_formula():
    """Batch norm comes once, after the last hidden layer, with Keras' epsilon."""
    model, variables, images = small("mlp")
    params, stats = variables["params"], variables["batch_stats"]["norm"]
    x = images.reshape(4, -1)
    for name in ("hidden_0", "hidden_1"):
        x = np.maximum(x @ params[name]["kernel"] + params[name]["bias"], 0)
    x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) * params["norm"]["scale"] + params[
        "norm"
    ]["bias"]
    expected = x @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(jax.jit(model.apply)(variables, images), expected, atol=1e-5)


def test_logistic_starts_undecided_and_is_linear():
    model, variables, images = small("logistic")
    start = model.init(jax.random.key(0), images)
    assert np.abs(model.apply(start, images)).max() == 0
    expected = (
        images.reshape(4, -1) @ variables["params"]["head"]["kernel"]
        + variables["params"]["head"]["bias"]
    )
    np.testing.assert_allclose(model.apply(variables, images), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "image", "trained", "keras"),
    [
        (Logistic(7), (48, 48, 1), 48 * 48 * 7 + 7, 48 * 48 * 7 + 7),
        (MLP(7), (48, 48, 1), 713_831, 713_959),
        (
            MLP(10, hidden=(190, 128, 64, 64), batch_norm=False, dropout=0.0),
            (28, 28, 1),
            186_664,
            186_664,
        ),
    ],
)
def test_parameter_counts(model, image, trained, keras):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *image)))
    assert (count_parameters(shapes["params"]), count_parameters(shapes)) == (trained, keras)


def test_initial_values_are_keras():
    params = jax.jit(MLP(7, hidden=(50,)).init)(jax.random.key(0), jnp.zeros((1, 20, 20, 1)))[
        "params"
    ]
    bound = np.sqrt(6 / (400 + 50))
    assert 0.99 * bound < np.abs(params["hidden_0"]["kernel"]).max() <= bound
    np.testing.assert_allclose(params["hidden_0"]["kernel"].std(), bound / np.sqrt(3), rtol=0.02)
    assert np.abs(params["hidden_0"]["bias"]).max() == 0


def test_all_impossible_arguments_are_named():
    with pytest.raises(UserError) as error:
        MLP(0, hidden=(3, 0), dropout=1.0)
    assert [p.split(":")[0] for p in error.value.problems] == [
        "num_classes",
        "hidden[1]",
        "dropout",
    ]
