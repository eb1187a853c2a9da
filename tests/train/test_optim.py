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


def test_decay_leaves_biases_alone():
    params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    ours = optim.make_optimizer(
        OptimizerConfig("adamw"), jnp.float32(1.0), jnp.float32(0.5), jnp.int32(10)
    )
    with jax.numpy_dtype_promotion("standard"):
        update, _ = ours.update(jax.tree.map(jnp.zeros_like, params), ours.init(params), params)
    np.testing.assert_allclose(update["kernel"], -0.5)
    np.testing.assert_allclose(update["bias"], 0.0)
