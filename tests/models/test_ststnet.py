"""STSTNet: the three streams that it computes as one, padded batches, batches shared by devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.models import count_parameters
from fexpr.models.ststnet import STREAMS, STSTNet

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(6, 28, 28, 3)), jnp.float32)
REAL = jnp.arange(6) < 4


@pytest.fixture(scope="module")
def variables():
    variables = jax.jit(STSTNet(3).init)(jax.random.key(0), IMAGES)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: a + jnp.asarray(0.3 * rng.random(a.shape), jnp.float32), variables)


def three_streams(variables, images, train):
    """The network as described, with the standard layers."""
    params, stats = variables["params"], variables["batch_stats"]["streams_norm"]
    streams, first = [], 0
    for filters in STREAMS:
        part = slice(first, first + filters)
        first += filters
        cut = {name: {k: v[..., part] for k, v in params[name].items()} for name in ("streams", "streams_norm")}
        x = nn.relu(nn.Conv(filters, (3, 3), padding=1).apply({"params": cut["streams"]}, images))
        norm = {"params": cut["streams_norm"], "batch_stats": {k: v[part] for k, v in stats.items()}}
        x, _ = nn.BatchNorm(use_running_average=not train).apply(norm, x, mutable=["batch_stats"])
        streams.append(nn.max_pool(x, (3, 3), (3, 3), ((1, 1), (1, 1))))
    x = nn.avg_pool(jnp.concatenate(streams, -1), (2, 2), (2, 2))
    assert x.shape[1:] == (5, 5, 16)
    return nn.Dense(3).apply({"params": params["head"]}, x.reshape(len(x), -1))


@pytest.mark.parametrize("train", [False, True])
def test_equals_three_streams(variables, train):
    logits, _ = STSTNet(3, dropout=0.0).apply(variables, IMAGES, train=train, mutable=["batch_stats"])
    np.testing.assert_allclose(logits, three_streams(variables, IMAGES, train), atol=1e-4)
    assert logits.dtype == jnp.float32


def test_counts_and_logits(variables):
    assert count_parameters(variables["params"]) == 28 * 16 + 2 * 16 + (400 + 1) * 3
    scaled = variables["params"] | {"head": jax.tree.map(lambda a: -50 * a, variables["params"]["head"])}
    logits = STSTNet(3).apply(variables | {"params": scaled}, IMAGES)
    assert logits.min() < -1  # no softmax inside


def step(variables, images, mask, model):
    """Gradients of the real rows' summed loss, logits, and the new statistics."""
    def loss(params):
        logits, new = model.apply(variables | {"params": params}, images, train=True, mask=mask, mutable=["batch_stats"])
        return jnp.where(mask[:, None], jnp.square(logits), 0.0).sum(), (logits, new)
    grads, (logits, new) = jax.grad(loss, has_aux=True)(variables["params"])
    return grads, logits, new


def test_padding_and_sharing_change_nothing(variables):
    """Four rows alone; the same with two rows of padding; the same over three devices, the last with padding alone."""
    def close(a, b):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-3, rtol=1e-4), a, b)

    model, shared = STSTNet(3, dropout=0.0), STSTNet(3, dropout=0.0, axis_name="data")
    grads, logits, new = step(variables, IMAGES[:4], REAL[:4], model)
    padded_grads, padded_logits, padded_new = step(variables, IMAGES, REAL, model)
    close((padded_grads, padded_logits[:4], padded_new), (grads, logits, new))
    by_device = jax.jit(jax.vmap(lambda x, m: step(variables, x, m, shared), axis_name="data"))
    grads_d, logits_d, new_d = by_device(IMAGES.reshape(3, 2, 28, 28, 3), REAL.reshape(3, 2))
    close((jax.tree.map(lambda g: g.sum(0), grads_d), logits_d.reshape(6, 3)[:4]), (grads, logits))
    close(jax.tree.map(lambda s: s[0], new_d), new)
    assert np.abs(new["batch_stats"]["streams_norm"]["mean"] - variables["batch_stats"]["streams_norm"]["mean"]).max() > 1e-3


def test_dropout_is_on_in_training_only(variables):
    run = jax.jit(lambda key, train: STSTNet(3).apply(variables, IMAGES, train=train, rngs={"dropout": key}, mutable=["batch_stats"])[0],
                  static_argnums=1)
    a, b = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(run(a, False), run(b, False))
    assert np.abs(run(a, True) - run(b, True)).max() > 1e-3
