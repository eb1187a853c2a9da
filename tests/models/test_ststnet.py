"""STSTNet: the three streams that it computes as one, padded batches, batches shared by devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.models import count_parameters
from fexpr.models.ststnet import STREAMS, STSTNet

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(6, 28, 28, 3)).astype(np.float32)
VARIABLES = jax.tree.map(
    lambda s: (0.1 + 0.3 * RNG.random(s.shape)).astype(np.float32),
    jax.eval_shape(STSTNet(3).init, jax.random.key(0), jnp.zeros((1, 28, 28, 3))),
)
REAL = np.arange(6) < 4


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3, rtol=1e-4), a, b)


def three_streams(variables, images, train):
    """The network as described, with the standard layers."""
    params, stats = variables["params"], variables["batch_stats"]["streams_norm"]
    streams, first = [], 0
    for filters in STREAMS:
        part = slice(first, first + filters)
        first += filters
        cut = {
            name: {k: v[..., part] for k, v in params[name].items()}
            for name in ("streams", "streams_norm")
        }
        x = nn.relu(nn.Conv(filters, (3, 3), padding=1).apply({"params": cut["streams"]}, images))
        norm = {
            "params": cut["streams_norm"],
            "batch_stats": {k: v[part] for k, v in stats.items()},
        }
        x, _ = nn.BatchNorm(use_running_average=not train).apply(norm, x, mutable=["batch_stats"])
        streams.append(nn.max_pool(x, (3, 3), (3, 3), ((1, 1), (1, 1))))
    x = jnp.concatenate(streams, -1)
    x = sum(x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
    assert x.shape[1:] == (5, 5, 16)
    return nn.Dense(3).apply({"params": params["head"]}, x.reshape(len(x), -1))


@pytest.mark.parametrize("train", [False, True])
def test_equals_three_streams(train):
    model = STSTNet(3, dropout=0.0 if train else 0.5)  # which must not show in evaluation
    logits, _ = jax.jit(lambda v, x: model.apply(v, x, train=train, mutable=["batch_stats"]))(
        VARIABLES, IMAGES
    )
    close(logits, jax.jit(lambda v, x: three_streams(v, x, train))(VARIABLES, IMAGES))
    assert logits.dtype == jnp.float32
    assert np.abs(logits).max() > 1  # no softmax inside


def test_parameter_count():
    assert count_parameters(VARIABLES["params"]) == 28 * 16 + 2 * 16 + (400 + 1) * 3


def step(model, images, mask):
    """Gradients of the real rows' summed loss, logits, and the new statistics."""

    def loss(params):
        logits, new = model.apply(
            VARIABLES | {"params": params}, images, train=True, mask=mask, mutable=["batch_stats"]
        )
        return jnp.where(mask[:, None], jnp.sin(logits), 0.0).sum(), (logits, new)

    grads, (logits, new) = jax.grad(loss, has_aux=True)(VARIABLES["params"])
    return grads, logits, new


def test_padding_and_sharing_change_nothing():
    """Four rows alone, and with two rows of padding over three devices, the last of which holds
    padding alone.
    """
    alone, shared = STSTNet(3, dropout=0.0), STSTNet(3, dropout=0.0, axis_name="data")
    grads, logits, new = jax.jit(lambda x, m: step(alone, x, m))(IMAGES[:4], REAL[:4])
    by_device = jax.jit(jax.vmap(lambda x, m: step(shared, x, m), axis_name="data"))
    grads_d, logits_d, new_d = by_device(IMAGES.reshape(3, 2, 28, 28, 3), REAL.reshape(3, 2))
    close((jax.tree.map(lambda g: g.sum(0), grads_d), logits_d.reshape(6, 3)[:4]), (grads, logits))
    close(jax.tree.map(lambda s: s[0], new_d), new)
    assert all(
        np.abs(a - b).max() > 1e-3
        for a, b in zip(
            jax.tree.leaves(new), jax.tree.leaves(VARIABLES["batch_stats"]), strict=True
        )
    )


def test_dropout_is_on_in_training():
    run = jax.jit(
        lambda key: STSTNet(3).apply(
            VARIABLES, IMAGES, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )[0]
    )
    assert np.abs(run(jax.random.key(0)) - run(jax.random.key(1))).max() > 1e-3


def test_bfloat16_images():
    images = jnp.asarray(IMAGES, jnp.bfloat16)
    run = jax.jit(
        lambda x: STSTNet(3).apply(
            VARIABLES, x, train=True, rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"]
        )[0]
    )
    assert run(images).dtype == jnp.float32
    np.testing.assert_allclose(run(images), run(images.astype(jnp.float32)), rtol=0.02, atol=0.1)
