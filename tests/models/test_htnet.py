"""HTNet: the reference implementation's outputs, its counts, and the contract of the models room."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.models import count_parameters
from fexpr.models.htnet import HTNet
from fexpr.models.pretrained import htnet_from_torch, htnet_to_torch

FIXTURES = Path(__file__).parent.parent / "fixtures"
TINY = {"htnet_tiny_2level": HTNet(5, dim=8, heads=2, num_hierarchies=2, block_repeats=2),
        "htnet_tiny_3level": HTNet(3, dim=6, heads=3, num_hierarchies=3, block_repeats=(1, 2, 3))}


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, model.image_size, model.image_size, 3)))["params"]


def read(path):
    with np.load(path, allow_pickle=False) as file:
        state = {name.removeprefix("param:"): file[name] for name in file.files if name.startswith("param:")}
        return state, jnp.asarray(file["input_nchw"].transpose(0, 2, 3, 1)), file["output"]


@pytest.fixture(scope="module", params=TINY)
def tiny(request):
    """A tiny model with the fixture's weights and images."""
    model = TINY[request.param]
    state, images, expected = read(FIXTURES / f"{request.param}.npz")
    return model, state, images, expected, htnet_from_torch(state, shapes(model))


def test_equals_the_reference_implementation(tiny):
    model, _, images, expected, params = tiny
    logits = jax.jit(model.apply)({"params": params}, images)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=0)


def test_equals_the_reference_implementation_at_notebook_size():
    if not os.environ.get("FEXPR_FIXTURES_DIR"):
        pytest.skip("the notebook-size weights are not in the repository: set FEXPR_FIXTURES_DIR")
    model = HTNet(25)
    state, images, expected = read(Path(os.environ["FEXPR_FIXTURES_DIR"]) / "htnet_samm_notebook.npz")
    params = htnet_from_torch(state, shapes(model))
    np.testing.assert_allclose(jax.jit(model.apply)({"params": params}, images), expected, atol=1e-5, rtol=0)


def test_parameter_counts_as_published():
    assert count_parameters(shapes(HTNet(25))) == 582_433
    paper = HTNet(3, dim=256, heads=3, num_hierarchies=3, block_repeats=(2, 2, 10))
    assert count_parameters(shapes(paper)) == 139_582_982  # "139.6 M"


def test_weights_make_the_round_trip(tiny):
    _, state, _, _, params = tiny
    back = htnet_to_torch(params)
    assert back.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array)


def test_weights_that_do_not_fit_are_all_named(tiny):
    model, state, *_ = tiny
    wrong = dict(state) | {"fc.weight": np.zeros((2, 2)), "mlp_head.2.bias": np.zeros(9)}
    del wrong["layers.0.0.pos_emb"]
    with pytest.raises(UserError) as error:
        htnet_from_torch(wrong, shapes(model))
    assert [p.split(":")[0] for p in error.value.problems] == ["layers.0.0.pos_emb", "fc.weight", "mlp_head.2.bias"]
    assert f"expected ({model.num_classes},), found (9,)" in error.value.problems[2]


def test_logits_gradients_and_stacked_parameters(tiny):
    """Stacked parameters in one vmap give each model's own logits and gradients; no sigmoid at the end; q and k at length 1."""
    model, _, images, expected, params = tiny
    larger = params | {"head": jax.tree.map(lambda a: 30 * a, params["head"])}
    stacked = jax.tree.map(lambda *a: jnp.stack(a), params, larger)

    def loss(params):
        logits = model.apply({"params": params}, images, train=True)
        return jnp.square(logits).mean(), logits

    step = jax.value_and_grad(loss, has_aux=True)
    (_, logits), grads = jax.jit(jax.vmap(step))(stacked)
    np.testing.assert_allclose(logits[1], 30 * expected, atol=1e-4)
    assert not ((logits[1] >= 0) & (logits[1] <= 1)).any(axis=None) or np.ptp(logits[1]) > 1
    (_, alone), grads_alone = jax.jit(step)(params)
    np.testing.assert_allclose(logits[0], alone, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-5), grads, grads_alone)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))

    inner = 2 * grads_alone["level_0"]["attention_0"]["qkv"].shape[1] // 3
    q_and_k, v = np.split(grads_alone["level_0"]["attention_0"]["qkv"], [inner], axis=1)
    assert np.abs(v).max() > 0
    one_token = model.num_hierarchies == 3
    assert (np.abs(q_and_k).max() == 0) == one_token


@pytest.mark.parametrize("hierarchies", [1, 2])
def test_dropout_is_on_in_training_only(hierarchies):
    """One level of one token, and of four: there the shortcut and the full attention drop out."""
    model = HTNet(40, image_size=2 * hierarchies - 1, patch_size=1, dim=4, heads=2, num_hierarchies=1, block_repeats=1, dropout=0.5)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(8, model.image_size, model.image_size, 3)), jnp.float32)
    params = model.init(jax.random.key(0), images)
    run = jax.jit(lambda key, train: model.apply(params, images, train=train, rngs={"dropout": key}), static_argnums=1)
    keys = jax.random.split(jax.random.key(1), 2)
    np.testing.assert_array_equal(run(keys[0], False), run(keys[1], False))
    np.testing.assert_array_equal(run(keys[0], True), run(keys[0], True))
    assert np.abs(run(keys[0], True) - run(keys[1], True)).max() > 1e-3


def test_impossible_arguments_are_all_named():
    with pytest.raises(UserError) as error:
        HTNet(3, patch_size=5, heads=80, block_repeats=(1, 2, 3))
    assert [p.split(":")[0] for p in error.value.problems] == ["patch_size", "heads", "block_repeats"]
    with pytest.raises(UserError, match="cut a map of 4x4 patches into 8x8 blocks"):
        HTNet(3, num_hierarchies=4)
    with pytest.raises(UserError, match=r"block_repeats\[1\]: expected a whole number above 0, found 0"):
        HTNet(3, block_repeats=(1, 0))
    with pytest.raises(UserError, match="expected 28x28 images, found 48x48"):
        jax.eval_shape(HTNet(3).init, jax.random.key(0), jnp.zeros((1, 48, 48, 3)))
