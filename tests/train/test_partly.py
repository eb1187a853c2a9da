"""Trials that begin with given variables, and train some of their parameters, at rates of their
own: for one trial as for many.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fexpr.train import checkpoint, optim, trials
from fexpr.train.mesh import make_mesh
from fexpr.train.train_config import OptimizerConfig
from tests.train import toy

SPECS = [toy.spec(0, 40), toy.spec(1, 33, seed=3, learning_rate=3e-3)]
FIRST = "^Dense_0/"


def parameters(state, t=0):
    return jax.tree.map(lambda x: np.asarray(x)[t], state.variables["params"])


@pytest.fixture(scope="module")
def frozen():
    return toy.run(SPECS, 2, freeze=FIRST, clip_norm=0.0)[0]


def test_frozen_parameters_keep_their_first_values_and_cost_no_memory(frozen):
    first = toy.engine(SPECS, compiled=False).init()
    for t in range(2):
        begun, ended = parameters(first, t), parameters(frozen, t)
        jax.tree.map(np.testing.assert_array_equal, begun["Dense_0"], ended["Dense_0"])
        assert np.abs(begun["Dense_1"]["kernel"] - ended["Dense_1"]["kernel"]).max() > 1e-3
    shapes = {x.shape[1:] for x in jax.tree.leaves(frozen.opt_state)}
    assert (16, 3) in shapes  # moments of what is trained
    assert (108, 16) not in shapes  # none of what is not


def test_a_rate_of_nothing_is_freezing(frozen):
    still, _ = toy.run(SPECS, 2, rates=f"{FIRST}=0,Dense_0=1,nowhere=0", clip_norm=0.0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), still.variables, frozen.variables
    )


def test_layers_join_in_at_their_time():
    """Half of the steps are over after three of six epochs."""
    engine = toy.engine(SPECS[:1], rates=f"{FIRST}=0.5@0.5")
    state, kernels = engine.init(), []
    for _ in range(6):
        kernels.append(parameters(state)["Dense_0"]["kernel"])
        state, _ = engine.epoch(state)
    kernels.append(parameters(state)["Dense_0"]["kernel"])
    moved = [not np.array_equal(a, b) for a, b in zip(kernels[:-1], kernels[1:], strict=True)]
    assert moved == [False, False, False, True, True, True]


def test_rates_against_optaxs_own_partition():
    params = {"a": {"kernel": jnp.ones((3, 2))}, "b": {"kernel": jnp.full((2,), 2.0)}}
    ours = optim.make_optimizer(
        OptimizerConfig("adam", rates="^a/=0.1"), jnp.float32(1e-2), jnp.float32(0), jnp.int32(10)
    )
    theirs = optax.partition(
        {"low": optax.adam(1e-3), "high": optax.adam(1e-2)}, {"a": "low", "b": "high"}
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5),
        toy.followed(ours, params),
        toy.followed(theirs, params),
    )


@pytest.mark.long
def test_over_devices_and_resumed_it_is_the_same_trial(frozen, tmp_path):
    spread, _ = toy.run(SPECS, 2, devices=2, freeze=FIRST, clip_norm=0.0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), spread.variables, frozen.variables
    )
    engine = toy.engine(SPECS, devices=2, freeze=FIRST, clip_norm=0.0)
    half = engine.to_host(engine.epoch(engine.init())[0])
    saved = checkpoint.Checkpoints(tmp_path, range(len(SPECS)))
    saved.save(1, half)
    saved.wait()
    state = engine.to_devices(saved.restore(1, engine.abstract()))
    saved.close()
    resumed = engine.to_host(engine.epoch(state)[0])
    jax.tree.map(np.testing.assert_array_equal, resumed, spread)


def test_a_trial_begins_with_what_is_given():
    """Of one trial whose batch two devices share."""
    zeros = {"kernel": np.zeros((108, 16), np.float32), "bias": np.zeros(16, np.float32)}
    engine = trials.Engine(
        toy.recipe(),
        *toy.task(),
        toy.CLASSES,
        SPECS[:1],
        make_mesh(1, 8, jax.devices()[:2]),
        start={"params": {"Dense_0": zeros}},
    )
    engine.load(0)
    begun = engine.to_host(engine.init())
    for tree in (begun.variables, begun.best_variables):
        assert not any(leaf.any() for leaf in jax.tree.leaves(tree["params"]["Dense_0"]))
        assert tree["params"]["Dense_1"]["kernel"].any()
