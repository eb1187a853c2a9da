"""The PyTorch peers of leave-one-subject-out training: the same network, and the same training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks import fexpr_loso, torch_loso  # noqa: E402
from benchmarks.torch_ststnet import MaskedSTSTNet, STSTNet  # noqa: E402
from fexpr.models import ststnet  # noqa: E402

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (14, 28, 28, 3)).astype(np.uint8)
LABELS = (np.arange(14) % 3).astype(np.int32)
FOLDS = [np.arange(1), np.arange(1, 4), np.arange(4, 10)]  # 13, 11 and 8 train: 4, 3 and 2 steps
EPOCHS, BATCH, RATE = 2, 4, 1e-3


def torch_state(variables):
    """fexpr's STSTNet as a PyTorch state dict."""
    params, stats = variables["params"], variables["batch_stats"]["streams_norm"]
    arrays = {
        "streams.weight": params["streams"]["kernel"].transpose(3, 2, 0, 1),
        "streams.bias": params["streams"]["bias"],
        "norm.weight": params["streams_norm"]["scale"],
        "norm.bias": params["streams_norm"]["bias"],
        "norm.running_mean": stats["mean"],
        "norm.running_var": stats["var"],
        "head.weight": params["head"]["kernel"].T,
        "head.bias": params["head"]["bias"],
    }
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(ststnet.STSTNet(3).init, jax.random.key(0), jnp.zeros((1, 28, 28, 3)))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: (0.1 + 0.2 * rng.random(s.shape)).astype(np.float32), shapes)


def apply_fexpr(variables, images, train, mask=None):
    model = ststnet.STSTNet(3, dropout=0.0)
    return jax.jit(lambda v, x: model.apply(v, x, train=train, mask=mask, mutable=["batch_stats"]))(
        variables, images
    )


def test_ststnet_equals_fexpr(variables):
    images = RNG.normal(size=(5, 28, 28, 3)).astype(np.float32)
    expected, _ = apply_fexpr(variables, images, train=False)
    for model in (STSTNet(3).eval(), MaskedSTSTNet(3).eval()):
        model.load_state_dict(torch_state(variables), strict=False)
        with torch.no_grad():
            said = model(torch.from_numpy(images), *[None] * isinstance(model, MaskedSTSTNet))
        logits = said[0] if isinstance(said, tuple) else said
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_padded_training_batch_equals_fexpr(variables):
    images, real = RNG.normal(size=(5, 28, 28, 3)).astype(np.float32), np.arange(5) < 3
    expected, new = apply_fexpr(variables, images, train=True, mask=real)
    model = MaskedSTSTNet(3, dropout=0.0)
    model.load_state_dict(torch_state(variables))
    with torch.no_grad():
        logits, buffers = model(torch.from_numpy(images), torch.from_numpy(real))
    np.testing.assert_allclose(logits[:3], expected[:3], rtol=1e-5, atol=1e-4)
    for name, value in new["batch_stats"]["streams_norm"].items():
        np.testing.assert_allclose(buffers[f"norm.running_{name}"], value, rtol=1e-5, atol=1e-6)


def given(network):
    rng = np.random.default_rng(2)
    torch.manual_seed(0)
    states = [torch_loso.make_network(network, True).state_dict() for _ in FOLDS]
    orders = [[rng.permutation(14 - len(test)) for _ in range(EPOCHS)] for test in FOLDS]
    return torch_loso.Given(states, orders)


@pytest.mark.parametrize(
    ("network", "products"), [("ststnet", True), ("ststnet", False), ("htnet", True)]
)
def test_vmapped_equals_loop(network, products):
    """Folds of different lengths: in some steps a trial has few rows or none."""
    common = (network, IMAGES, LABELS, FOLDS, [0], EPOCHS, BATCH, RATE, "cpu", 0.0)
    start = given(network)
    alone = torch_loso.train_loop(*common, given=start)
    together = torch_loso.train_vmapped(*common, products=products, given=start)
    assert [len(a) for a in alone] == [1, 3, 6]
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-3)
    untrained = torch_loso.make_stack(*common[:5], *common[6:], products=products)
    untrained.init(start.states)
    untrained.predict()
    moved = [np.abs(a - b).max() for a, b in zip(together, untrained.logits(), strict=True)]
    assert min(moved) > 0.02, moved


def test_sides_train_every_fold_with_every_seed():
    data = ("ststnet", IMAGES, LABELS, FOLDS, [0, 1])
    runs = (
        fexpr_loso.fexpr_side(*data, 1, BATCH, RATE, "vmap"),
        torch_loso.loop_side(*data, 1, BATCH, RATE, "cpu"),
        torch_loso.vmapped_side(*data, BATCH, RATE, "cpu", epochs=1),
    )
    for run in runs:
        logits = run()
        assert [said.shape for said in logits] == [(1, 3), (3, 3), (6, 3)] * 2
        assert all(np.isfinite(said).all() for said in logits)
        assert not np.allclose(logits[2], logits[5])  # another seed
