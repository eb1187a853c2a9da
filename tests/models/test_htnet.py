"""HTNet: the reference implementation's outputs, its counts, and the contract of the models
room.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.models import count_parameters
from fexpr.models.htnet import Attention, HTNet, gelu
from fexpr.models.weights import layouts
from tests.models.torch_state import load

FIXTURES = Path(__file__).parent.parent / "fixtures"
TINY = {
    "htnet_tiny_2level": HTNet(5, dim=8, heads=2, num_hierarchies=2, block_repeats=2, dropout=0.5),
    "htnet_tiny_3level": HTNet(
        3, dim=6, heads=3, num_hierarchies=3, block_repeats=(1, 2, 3), dropout=0.5
    ),
}


def shapes(model):
    return jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((1, model.image_size, model.image_size, 3))
    )["params"]


def load_params(model, state):
    return load(model, state, {"params": shapes(model)})["params"]


def read(path):
    with np.load(path, allow_pickle=False) as file:
        state = {
            name.removeprefix("param:"): file[name]
            for name in file.files
            if name.startswith("param:")
        }
        return state, jnp.asarray(file["input_nchw"].transpose(0, 2, 3, 1)), file["output"]


@pytest.fixture(scope="module", params=TINY)
def tiny(request):
    """A tiny model with the fixture's weights and images. Its dropout must not show in
    evaluation.
    """
    model = TINY[request.param]
    state, images, expected = read(FIXTURES / f"{request.param}.npz")
    return model, state, images, expected, load_params(model, state)


def test_equals_the_reference_implementation(tiny):
    model, _, images, expected, params = tiny
    logits = jax.jit(model.apply)({"params": params}, images)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=0)


def test_equals_the_reference_implementation_at_notebook_size():
    if not os.environ.get("FEXPR_FIXTURES_DIR"):
        pytest.skip("the notebook-size weights are not in the repository: set FEXPR_FIXTURES_DIR")
    model = HTNet(25)
    state, images, expected = read(
        Path(os.environ["FEXPR_FIXTURES_DIR"]) / "htnet_samm_notebook.npz"
    )
    params = load_params(model, state)
    np.testing.assert_allclose(
        jax.jit(model.apply)({"params": params}, images), expected, atol=1e-5, rtol=0
    )


def test_parameter_counts_as_published():
    assert count_parameters(shapes(HTNet(25))) == 582_433
    paper = HTNet(3, dim=256, heads=3, num_hierarchies=3, block_repeats=(2, 2, 10))
    assert count_parameters(shapes(paper)) == 139_582_982  # "139.6 M"


def test_weights_make_the_round_trip(tiny):
    model, state, _, _, params = tiny
    back = layouts.to_torch(model, {"params": params})
    assert back.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array)


def test_weights_that_do_not_fit_are_all_named(tiny):
    model, state, *_ = tiny
    wrong = dict(state) | {"fc.weight": np.zeros((2, 2)), "mlp_head.0.g": np.zeros(9)}
    del wrong["layers.0.0.pos_emb"]
    with pytest.raises(UserError) as error:
        load_params(model, wrong)
    assert [p.split(":")[0] for p in error.value.problems] == [
        "layers.0.0.pos_emb",
        "fc.weight",
        "mlp_head.0.g",
    ]
    assert error.value.problems[2].endswith("found (9,)")


@pytest.mark.parametrize(
    ("tokens", "hierarchies"), [(4, 1), pytest.param(1, 2, marks=pytest.mark.long)]
)
def test_stacked_parameters_gradients_and_logits(tokens, hierarchies):
    """Two sets of parameters in one vmap give each one's own logits, finite gradients, and q and k
    no gradient at length 1.
    """
    model = HTNet(
        9, image_size=2, patch_size=1, dim=4, heads=2, num_hierarchies=hierarchies, block_repeats=1
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 2, 2, 3)).astype(np.float32)
    stacked = jax.tree.map(
        lambda s: rng.normal(size=(2, *s.shape)).astype(np.float32), shapes(model)
    )

    def loss(params):
        logits = model.apply({"params": params}, images, train=True, mask=np.ones(3, bool))
        return jnp.square(logits).mean(), logits

    (_, logits), grads = jax.jit(jax.vmap(jax.value_and_grad(loss, has_aux=True)))(stacked)
    alone = jax.jit(model.apply)
    loop = [alone({"params": jax.tree.map(lambda a, i=i: a[i], stacked)}, images) for i in range(2)]
    np.testing.assert_allclose(logits, np.stack(loop), atol=1e-4)
    assert logits.min() < 0 < 1 < logits.max()  # logits: no sigmoid inside
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    q, k, v = np.split(grads["level_0"]["attention_0"]["qkv"], 3, axis=-1)
    assert np.abs(v).max() > 0
    assert (np.abs(q).max() == np.abs(k).max() == 0) == (tokens == 1)


def test_dropout_is_on_in_training():
    model = HTNet(
        40,
        image_size=2,
        patch_size=1,
        dim=4,
        heads=2,
        num_hierarchies=1,
        block_repeats=1,
        dropout=0.5,
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 2, 2, 3)).astype(np.float32)
    params = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes(model))
    run = jax.jit(
        lambda key: model.apply({"params": params}, images, train=True, rngs={"dropout": key})
    )
    a, b = jax.random.key(0), jax.random.key(1)
    np.testing.assert_array_equal(run(a), run(a))
    assert np.abs(run(a) - run(b)).max() > 1e-3


@pytest.mark.long
def test_dropout_of_a_batch_shared_by_devices():
    """With one token a head is dropped as a whole, in sequences that lie block by block within an
    image.
    """
    kwargs = {
        "image_size": 2,
        "patch_size": 1,
        "dim": 4,
        "heads": 2,
        "num_hierarchies": 2,
        "block_repeats": 1,
        "dropout": 0.5,
    }
    whole, shared = HTNet(9, **kwargs), HTNet(9, **kwargs, axis_name="data")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(6, 2, 2, 3)).astype(np.float32)
    params = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes(whole))
    run = lambda model, x: model.apply(
        {"params": params}, x, train=True, rngs={"dropout": jax.random.key(3)}
    )
    by_device = jax.vmap(lambda x: run(shared, x), axis_name="data")
    logits, by_device = jax.jit(lambda x: (run(whole, x), by_device(x.reshape(3, 2, 2, 2, 3))))(
        images
    )
    np.testing.assert_allclose(by_device.reshape(6, 9), logits, atol=1e-5)


@pytest.mark.parametrize("hierarchies", [1, pytest.param(2, marks=pytest.mark.long)])
def test_bfloat16_images(hierarchies):
    """Logits float32, near those of float32 images."""
    model = HTNet(
        9,
        image_size=4,
        patch_size=2,
        dim=8,
        heads=2,
        num_hierarchies=hierarchies,
        block_repeats=1,
        dropout=0.2,
    )
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(3, 4, 4, 3)), jnp.bfloat16)
    params = jax.tree.map(
        lambda s: (0.3 * rng.normal(size=s.shape)).astype(np.float32), shapes(model)
    )
    run = jax.jit(
        lambda x: model.apply(
            {"params": params}, x, train=True, rngs={"dropout": jax.random.key(0)}
        )
    )
    logits = run(images)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, run(images.astype(jnp.float32)), atol=0.05)


def test_one_token_attends_to_itself_without_a_softmax():
    """And dropping its one attention weight drops a head as a whole: two channels survive both
    dropouts in 1/2 * 1/4 of cases.
    """
    eye = np.eye(4, dtype=np.float32)
    params = {"qkv": np.tile(eye, 3), "out": {"kernel": eye, "bias": 0 * eye[0]}}
    tokens, attention = np.ones((3000, 1, 4), np.float32), Attention(heads=2, dropout=0.5)
    assert " exp " not in str(
        jax.make_jaxpr(lambda x: attention.apply({"params": params}, x, False))(tokens)
    )
    out = attention.apply({"params": params}, tokens, True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(out)) == {0.0, 4.0}
    np.testing.assert_allclose(
        (np.asarray(out).reshape(3000, 2, 2) > 0).all(-1).mean(), 1 / 8, atol=0.015
    )


def test_impossible_arguments_are_all_named():
    with pytest.raises(UserError) as error:
        HTNet(3, patch_size=5, heads=80, block_repeats=(1, 2, 3))
    assert [p.split(":")[0] for p in error.value.problems] == [
        "patch_size",
        "heads",
        "block_repeats",
    ]
    with pytest.raises(UserError, match=r"4x4 patches.* 8x8 blocks"):
        HTNet(3, num_hierarchies=4)
    with pytest.raises(
        UserError, match=r"block_repeats\[1\]: expected a whole number above 0, found 0"
    ):
        HTNet(3, block_repeats=(1, 0))
    with pytest.raises(UserError, match=r"28x28.*, found 48x48"):
        jax.eval_shape(HTNet(3).init, jax.random.key(0), jnp.zeros((1, 48, 48, 3)))


def test_gradients_of_attention_and_gelu_are_those_of_the_standard_functions():
    """Attention: `jax.nn.dot_product_attention`; GELU: `jax.nn.gelu`."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, 4, 8)).astype(np.float32)
    params = {
        "qkv": rng.normal(size=(8, 24)).astype(np.float32),
        "out": {"kernel": np.eye(8, dtype=np.float32), "bias": np.zeros(8, np.float32)},
    }

    def ours(params, x):
        return Attention(heads=2, dropout=0.0).apply({"params": params}, x, False)

    def standard(params, x):
        parts = (part.reshape(3, 4, 2, 4) for part in jnp.split(x @ params["qkv"], 3, -1))
        attended = jax.nn.dot_product_attention(*parts).reshape(3, 4, 8)
        return attended @ params["out"]["kernel"] + params["out"]["bias"].reshape(1, 1, -1)

    def of(f, *args):
        y, pull = jax.vjp(f, *args)
        return y, pull(jnp.cos(y))

    x = np.linspace(-8, 8, 101, dtype=np.float32)
    pairs = (
        (of(ours, params, tokens), of(standard, params, tokens)),
        (of(gelu, x), of(lambda x: jax.nn.gelu(x, approximate=False), x)),
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        *zip(*pairs, strict=True),
    )
