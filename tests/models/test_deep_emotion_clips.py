"""Attention over the frames of a clip: the formula, frames that are missing, their order, where
it begins.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from fexpr.errors import UserError
from fexpr.models import build, count_parameters
from fexpr.models.deep_emotion import DeepEmotion
from fexpr.models.deep_emotion_clips import DeepEmotionClips

MODEL, FRAME_MODEL = DeepEmotionClips(3, "saliency"), DeepEmotion(3, "saliency")
RNG = np.random.default_rng(0)


def clips(frames, batch=2):
    """[B, 48, 48, F, 2]"""
    return RNG.uniform(-1, 1, (batch, 48, 48, frames, 2)).astype(np.float32)


def flat(clips):
    return rearrange(clips, "b h w f c -> b h w (f c)")


@pytest.fixture(scope="module")
def variables():
    """As they are first made, but for attention that differs between frames."""
    made = jax.device_get(jax.jit(MODEL.init)(jax.random.key(0), flat(clips(2))))
    made["params"]["attend_score"]["kernel"] = RNG.normal(size=(32, 1)).astype(np.float32) * 40
    return made


@jax.jit
def answer(variables, images):
    return MODEL.apply(variables, images), MODEL.apply(
        variables, images, method="attention_weights"
    )


@jax.jit
def trained(variables, images):
    return MODEL.apply(
        variables, images, train=True, rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"]
    )[1]


@pytest.mark.long
def test_the_pooled_features_of_the_frames_decide(variables):
    images = clips(4)
    logits, weights = answer(variables, flat(images))
    _, hidden = jax.jit(
        lambda x: FRAME_MODEL.apply(frame_variables(variables), x, method="features")
    )(rearrange(images, "b h w f c -> (b f) h w c"))
    hidden, p = np.asarray(hidden, np.float64).reshape(2, 4, 50), variables["params"]
    scores = (
        np.tanh(hidden @ p["attend"]["kernel"] + p["attend"]["bias"]) @ p["attend_score"]["kernel"]
    )[..., 0]
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert np.ptp(expected, axis=1).min() > 0.02
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    pooled = np.einsum("bf,bfd->bd", expected, hidden)
    np.testing.assert_allclose(logits, pooled @ p["head"]["kernel"] + p["head"]["bias"], atol=1e-5)


def frame_variables(variables):
    return variables | {
        "params": {
            name: p for name, p in variables["params"].items() if not name.startswith("attend")
        }
    }


@pytest.mark.long
@pytest.mark.parametrize("frames", [1, 3])
def test_frames_that_are_not_there_do_not_matter(variables, frames):
    """Blank ones, of any grey, before or behind the others: not to logits, weights or batch
    statistics.
    """
    images = clips(frames)
    black, grey = (np.full((2, 48, 48, 1, 2), value, np.float32) for value in (-1, 0.3))
    longer = np.concatenate([black, images, grey], axis=3)
    (logits, weights), (more, spread) = (
        answer(variables, flat(images)),
        answer(variables, flat(longer)),
    )
    np.testing.assert_allclose(more, logits, atol=1e-5)
    np.testing.assert_allclose(spread[:, 1:-1], weights, atol=1e-5)
    np.testing.assert_array_equal(spread[:, [0, -1]], 0)
    stats, others = trained(variables, flat(images)), trained(variables, flat(longer))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), stats, others)


def test_the_order_of_frames_does_not_matter(variables):
    images, order = clips(4), [2, 0, 3, 1]
    (logits, weights), (moved, as_moved) = (
        answer(variables, flat(images)),
        answer(variables, flat(images[:, :, :, order])),
    )
    np.testing.assert_allclose(moved, logits, atol=1e-5)
    np.testing.assert_allclose(as_moved, weights[:, np.array(order)], atol=1e-5)


@pytest.mark.long
def test_it_begins_as_the_mean_over_frames_and_learns_where_to_look():
    images = clips(3)
    first = jax.device_get(jax.jit(MODEL.init)(jax.random.key(1), flat(images)))
    logits, weights = answer(first, flat(images))
    np.testing.assert_allclose(weights, 1 / 3, atol=1e-6)
    alone = jax.jit(FRAME_MODEL.apply)(
        frame_variables(first), rearrange(images, "b h w f c -> (b f) h w c")
    )
    np.testing.assert_allclose(logits, np.asarray(alone).reshape(2, 3, 3).mean(axis=1), atol=1e-5)
    grads = jax.jit(
        jax.grad(lambda p: jnp.sin(MODEL.apply(first | {"params": p}, flat(images))).sum())
    )(first["params"])
    assert np.abs(grads["attend_score"]["kernel"]).max() > 0
    assert np.abs(grads["conv_0"]["kernel"]).max() > 0


def test_parameter_count():
    model = build("deep_emotion_clips", num_classes=8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 48, 48, 5)))
    assert count_parameters(shapes["params"]) == 66_928 + 50 * 32 + 32 + 32 == 68_592


def test_what_cannot_be():
    with pytest.raises(UserError, match="attention: expected a whole number above 0, found 0"):
        DeepEmotionClips(3, attention=0)
    with pytest.raises(
        UserError,
        match=r"(?s)5 channels.*frame .*2",
    ):
        MODEL.init(jax.random.key(0), jnp.zeros((1, 48, 48, 5)))
