"""SSSNet, Off-ApexNet, RCN-A: outputs equal to PyTorch's, published sizes, stacked maps, devices."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fexpr import models
from fexpr.errors import UserError
from fexpr.models.micro_cnns import class_attention
from fexpr.models.resnet import average_grid
from tests.marks import keep_short

FIXTURE = Path(__file__).parents[1] / "fixtures" / "micro_cnns.npz"
SMALL = {
    "sssnet": {"widths": (3, 4, 5)},
    "off_apexnet": {"widths": (2, 3, 4)},
    "rcn_a": {"width": 4},
}


def from_torch(arrays, sides):
    """The variables of a network from PyTorch's arrays by name; dense layers that read maps of
    `sides` rows and columns, by name, from (C, H, W) to (H, W, C).
    """
    params, stats = {}, {}
    for name, value in arrays.items():
        layer, kind = name.split(".")
        if kind in ("running_mean", "running_var"):
            stats.setdefault(layer, {})[{"running_mean": "mean", "running_var": "var"}[kind]] = (
                value
            )
            continue
        if kind == "weight":
            kind = "scale" if value.ndim == 1 else "kernel"
            if value.ndim == 4:
                value = value.transpose(2, 3, 1, 0)
            elif value.ndim == 2 and layer in sides:
                maps = value.reshape(len(value), -1, sides[layer], sides[layer])
                value = maps.transpose(2, 3, 1, 0).reshape(-1, len(value))
            elif value.ndim == 2:
                value = value.T
        params.setdefault(layer, {})[kind] = value
    return {"params": params} | ({"batch_stats": stats} if stats else {})


@pytest.mark.parametrize("name", SMALL)
def test_equals_pytorch(name):
    with np.load(FIXTURE) as stored:
        arrays = {k.removeprefix(f"{name}/"): v for k, v in stored.items() if k.startswith(name)}
    weights = {k.removeprefix("weights/"): v for k, v in arrays.items() if k.startswith("weights/")}
    sides = {"sssnet": {"dense": 9}, "off_apexnet": {"dense": 7}, "rcn_a": {"head": 5}}[name]
    variables = from_torch(weights, sides)
    if name == "rcn_a":  # its dense layer's weights are the attention's, too
        head = variables["params"].pop("head")
        variables["params"] |= {"kernel": head["kernel"].reshape(5, 5, 4, 3), "bias": head["bias"]}
    images = arrays["images"].transpose(0, 2, 3, 1)
    if name == "off_apexnet":  # a strain that it must not read
        images = np.concatenate([images, np.full_like(images[..., :1], np.nan)], -1)
    model = models.build(name, num_classes=3, **SMALL[name])
    expected = jax.eval_shape(model.init, jax.random.key(0), images)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda s: s.shape, dict(expected))
    logits = jax.jit(model.apply)(variables, images)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, arrays["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "side", "classes", "count"),
    [
        ("sssnet", 64, 3, 1_349_251),
        ("sssnet", 28, 3, 169_603),
        ("off_apexnet", 28, 3, 807_909),
        ("rcn_a", 60, 3, 51_139),
        ("rcn_a", 28, 3, 51_139),
    ],
)
def test_parameter_counts(name, side, classes, count):
    model = models.build(name, num_classes=classes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))
    assert models.count_parameters(shapes["params"]) == count
    assert f"{count:,} parameters" in models.model_class(name).__doc__


@pytest.mark.parametrize("name", keep_short(SMALL, ["off_apexnet"]))
def test_dropout_acts_in_training_alone(name):
    model = models.build(name, num_classes=3, **SMALL[name])
    images = np.random.default_rng(0).normal(size=(4, 28, 28, 3)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    predict = jax.jit(model.apply)

    @jax.jit
    def trained(key):
        return model.apply(
            variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )[0]

    one, other = trained(jax.random.key(1)), trained(jax.random.key(2))
    assert not np.allclose(one, other)
    np.testing.assert_array_equal(predict(variables, images), predict(variables, images))


def test_off_apexnet_reads_the_flow_of_every_stacked_map():
    model = models.build("off_apexnet", num_classes=2, widths=(2, 2, 2))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 9)))
    assert shapes["params"]["conv_0"]["kernel"].shape == (3, 3, 6, 2)


def test_a_constant_map_has_no_attention():
    maps, kernel = jnp.ones((1, 2, 2, 3)), jnp.ones((2, 2, 3, 2))
    np.testing.assert_array_equal(class_attention(maps, kernel), np.zeros((1, 2, 2)))


@pytest.mark.long
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 17), st.integers(1, 17))
def test_means_over_a_grid(height, width):
    x = np.random.default_rng(0).normal(size=(1, height, width, 2)).astype(np.float32)
    found = average_grid(jnp.asarray(x), 5)
    for i in range(5):
        rows = slice(i * height // 5, -(-(i + 1) * height // 5))
        columns = slice(i * width // 5, -(-(i + 1) * width // 5))
        np.testing.assert_allclose(
            found[0, i, i], x[0, rows, columns].mean((0, 1)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", SMALL)
def test_impossible_arguments(name):
    with pytest.raises(UserError, match="dropout"):
        models.build(name, num_classes=3, dropout=1.5)
