"""DeepEmotion against outputs of its PyTorch release, weights to and fro, embeddings, and what the
spatial transformer learns from.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.models import build, count_parameters
from fexpr.models.deep_emotion import CHANNELS, DeepEmotion
from fexpr.models.weights import layouts
from tests.models.torch_state import load

FIXTURES = Path(__file__).parents[1] / "fixtures"


def shapes(model):
    return jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((2, 48, 48, CHANNELS[model.variant]))
    )


def published(variant):
    """Model, its PyTorch state, images NHWC with the map as second channel, and the outputs."""
    with np.load(FIXTURES / f"deep_emotion_{variant}.npz") as file:
        arrays = dict(file)
    state = {
        name.removeprefix("param:"): array
        for name, array in arrays.items()
        if name.startswith("param:")
    }
    channels = [arrays[name] for name in ("input_nchw", "saliency_nchw") if name in arrays]
    return (
        DeepEmotion(3, variant),
        state,
        np.concatenate(channels, axis=1).transpose(0, 2, 3, 1),
        arrays,
    )


@pytest.mark.parametrize("variant", ["baseline", "original", "saliency"])
def test_equals_the_pytorch_release(variant):
    model, state, images, expected = published(variant)
    variables = load(model, state, shapes(model))
    logits = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(logits, expected["output"], atol=2e-6)
    sampled = jax.jit(lambda v, x: model.apply(v, x, method="transform"))(variables, images)
    wanted = expected.get("stn_output_nchw", expected["input_nchw"]).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(sampled, wanted, atol=3e-5)
    back = layouts.to_torch(model, variables)
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[name], state[name]) for name in state)


def test_landmarks_are_read_as_saliency_is():
    _, state, images, expected = published("saliency")
    landmarks = DeepEmotion(3, "landmarks")
    variables = load(landmarks, state, shapes(landmarks))
    np.testing.assert_allclose(
        jax.jit(landmarks.apply)(variables, images), expected["output"], atol=2e-6
    )


def test_embeddings_lead_to_the_logits():
    model, state, images, expected = published("baseline")
    variables = load(model, state | {"norm.num_batches_tracked": np.int64(7)}, shapes(model))
    flat, hidden = map(
        np.asarray, jax.jit(lambda v, x: model.apply(v, x, method="features"))(variables, images)
    )
    assert (flat.shape, hidden.shape) == ((2, 810), (2, 50))
    np.testing.assert_allclose(
        np.maximum(flat @ state["fc1.weight"].T + state["fc1.bias"], 0), hidden, atol=1e-5
    )
    np.testing.assert_allclose(
        hidden @ state["fc2.weight"].T + state["fc2.bias"], expected["output"], atol=1e-5
    )


def test_half_precision_looks_at_the_same_place():
    model, state, images, expected = published("original")
    variables = load(model, state, shapes(model))
    logits = jax.jit(model.apply)(variables, jnp.asarray(images, jnp.bfloat16))
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected["output"], atol=0.02)


def test_misfits_are_all_named():
    state = published("original")[1]
    wrong = {name: array for name, array in state.items() if name != "conv2.bias"} | {
        "lstm.weight": np.zeros((2, 2)),
        "fc1.weight": np.zeros((7, 810)),
        "fc1.bias": np.zeros(7),
    }
    with pytest.raises(UserError) as error:
        load(DeepEmotion(3), wrong, shapes(DeepEmotion(3)))
    text = error.value.text()
    assert len(error.value.problems) == 4
    for part in (
        "conv2.bias: missing",
        "lstm.weight: not part",
        "fc1.weight: expected (50, 810), found (7, 810)",
        "fc1.bias: expected (50,)",
    ):
        assert part in text


@pytest.mark.parametrize(("num_classes", "count"), [(8, 66_928), (7, 66_877), (3, 66_673)])
def test_parameter_count(num_classes, count):
    assert (
        count_parameters(shapes(build("deep_emotion", num_classes=num_classes))["params"]) == count
    )
    baseline = build("deep_emotion", num_classes=num_classes, variant="baseline")
    assert count_parameters(shapes(baseline)["params"]) == count - 23_120


@pytest.mark.long
def test_starts_as_the_identity_and_learns_to_look():
    model, images = DeepEmotion(7, "saliency"), published("saliency")[2]
    variables = jax.jit(model.init)(jax.random.key(0), images)

    def loss(params):
        sampled = model.apply(variables | {"params": params}, images, method="transform")
        return jnp.sin(sampled).sum(), sampled

    grads, sampled = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    np.testing.assert_allclose(sampled, images[..., :1], atol=1e-4)
    theta = grads["localization"]["theta"]
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(theta))


def test_regularised_drops_a_second_time():
    _, state, images, expected = published("baseline")
    plain, regularised = (DeepEmotion(3, "baseline", regularised=r) for r in (False, True))
    variables = load(plain, state, shapes(plain))

    @jax.jit
    def hidden_and_logits(key):
        """The 50 features as the last layer gets them in training, by either model; and what the
        regularised one predicts.
        """
        settings = {
            "train": True,
            "rngs": {"dropout": key},
            "mutable": ["batch_stats", "intermediates"],
        }
        runs = [
            m.apply(
                variables,
                images,
                capture_intermediates=lambda module, _: module.name == "drop_hidden",
                **settings,
            )[1]
            for m in (plain, regularised)
        ]
        return *(r["intermediates"]["drop_hidden"]["__call__"][0] for r in runs), regularised.apply(
            variables, images
        )

    seen, dropped, logits = map(np.asarray, hidden_and_logits(jax.random.key(1)))
    assert 0.2 < np.mean(dropped[seen > 0] == 0) < 0.8
    np.testing.assert_allclose(dropped[dropped > 0], 2 * seen[dropped > 0], rtol=1e-6)
    np.testing.assert_allclose(logits, expected["output"], atol=2e-6)


def test_impossible_arguments_and_images():
    with pytest.raises(
        UserError,
        match=r"(?s)num_classes: expected a whole number above 0, found 0.*variant: expected one of "
        r"baseline",
    ):
        DeepEmotion(0, "gaze")
    with pytest.raises(UserError, match=r"expected 48x48 with 2 channels.*, found 48x48x1"):
        DeepEmotion(7, "saliency").init(jax.random.key(0), jnp.zeros((1, 48, 48, 1)))
