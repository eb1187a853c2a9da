import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fexpr.train import optim
from fexpr.train.train_config import OptimizerConfig
from tests.train import toy


def test_schedule_warms_up_and_ends_at_zero():
    def rate(step, schedule="cosine", warmup=0.1):
        return float(
            optim.learning_rate(jnp.int32(step), jnp.float32(2.0), jnp.int32(100), schedule, warmup)
        )

    assert rate(0) == pytest.approx(0.2)
    assert rate(9) == pytest.approx(2.0)
    assert rate(55) == pytest.approx(1.0, abs=0.01)
    assert rate(100) == pytest.approx(0.0, abs=1e-6)
    assert rate(57, "constant", 0.0) == 2.0


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", optax.adam(1e-2)),
        ("adamw", optax.adamw(1e-2, weight_decay=0.0)),
        ("sgd", optax.sgd(1e-2, momentum=0.9, nesterov=True)),
    ],
)
def test_without_extras_it_is_optaxs_own(name, reference):
    params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}
    ours = optim.make_optimizer(
        OptimizerConfig(name), jnp.float32(1e-2), jnp.float32(0.0), jnp.int32(10)
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6),
        toy.followed(ours, params),
        toy.followed(reference, params),
    )


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_step_that_is_not_taken_leaves_the_state_as_it_was(name):
    """Whatever the gradient is."""
    params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}

    def stepped(go, state, gradient):
        optimizer = optim.make_optimizer(
            OptimizerConfig(name, schedule="cosine", rates="kernel=0.5"),
            jnp.float32(1e-2),
            jnp.float32(0.1),
            jnp.int32(10),
            go,
        )
        with jax.numpy_dtype_promotion("standard"):
            if state is None:
                return optimizer.init(params)
            grads = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
            return optimizer.update(grads, state, params)[1]

    state = stepped(True, stepped(True, None, 0.0), 1.0)
    expected = jax.tree.map(np.asarray, state)
    for gradient in (2.0, jnp.nan):
        after = jax.jit(stepped)(jnp.bool_(False), state, gradient)
        jax.tree.map(np.testing.assert_array_equal, after, expected)
    moved = jax.jit(stepped)(jnp.bool_(True), state, 2.0)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), moved, state)))


def test_decay_leaves_biases_alone():
    params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    ours = optim.make_optimizer(
        OptimizerConfig("adamw"), jnp.float32(1.0), jnp.float32(0.5), jnp.int32(10)
    )
    with jax.numpy_dtype_promotion("standard"):
        update, _ = ours.update(jax.tree.map(jnp.zeros_like, params), ours.init(params), params)
    np.testing.assert_allclose(update["kernel"], -0.5)
    np.testing.assert_allclose(update["bias"], 0.0)


def test_lbfgs_is_ridge_regression_without_a_penalty_on_the_bias():
    """The penalty is on kernels alone; loss and gradient are those at the parameters before."""
    rng = np.random.default_rng(0)
    x, y, penalty = rng.normal(size=(30, 2)), rng.normal(size=30), 0.3
    x32, y32 = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)

    def loss_of(p):
        wrong = x32 @ p["kernel"][:, 0] + p["bias"] - y32
        return 0.25 * (wrong**2).mean(), {"seen": wrong.sum()}  # this device's share

    def total(value):
        return 2 * value  # of two devices that have the same rows

    def half_mse(p):
        return 0.5 * ((x @ p["kernel"][:, 0] + p["bias"] - y) ** 2).mean()

    params = {"kernel": jnp.ones((2, 1)), "bias": jnp.zeros(1)}
    name = OptimizerConfig("lbfgs")
    state = optim.make_optimizer(name, jnp.float32(1), jnp.float32(1), jnp.int32(9)).init(params)
    step = jax.jit(lambda p, s: optim.lbfgs_step(loss_of, total, p, s, jnp.float32(penalty)))
    for _ in range(12):
        before = jax.tree.map(np.asarray, params)
        (loss, auxiliary), grads, params, state = step(params, state)
        assert loss == pytest.approx(half_mse(before), rel=1e-4)
        wrong = x @ before["kernel"][:, 0] + before["bias"] - y
        assert auxiliary["seen"] == pytest.approx(wrong.sum(), abs=1e-3)
        slope = x.T @ wrong / 30 + penalty * before["kernel"][:, 0]
        np.testing.assert_allclose(grads["kernel"][:, 0], slope, atol=1e-4)
        np.testing.assert_allclose(grads["bias"], wrong.mean(), atol=1e-4)
    centred = x - x.mean(0)
    best = np.linalg.solve(centred.T @ centred / 30 + penalty * np.eye(2), centred.T @ y / 30)
    np.testing.assert_allclose(params["kernel"][:, 0], best, atol=1e-4)
    np.testing.assert_allclose(params["bias"], y.mean() - x.mean(0) @ best, atol=1e-4)


def test_the_running_mean_follows_tensorflows_rule():
    average, new = {"w": jnp.full(2, 1.0)}, {"w": jnp.full(2, 3.0)}
    for step, keep in ((0, 0.1), (8, 0.5), (10_000, 0.9)):
        found = optim.ema_update(average, new, jnp.int32(step), 0.9)
        np.testing.assert_allclose(found["w"], keep * 1 + (1 - keep) * 3, rtol=1e-6)
    assert optim.ema_update((), new, jnp.int32(3), 0.0) == ()
