"""Dropout is a sample's own: a trial drops the same values on 1, 2 and 4 devices."""

import functools

import jax
import numpy as np
import pytest

from fexpr.models.htnet import HTNet
from fexpr.models.ststnet import STSTNet
from tests.train import toy

MODELS = {
    "htnet": lambda axis: HTNet(
        3,
        12,
        6,
        dim=4,
        heads=2,
        num_hierarchies=1,
        block_repeats=1,
        dropout=0.5,
        axis_name=axis,
    ),
    "ststnet": lambda axis: STSTNet(3, dropout=0.5, axis_name=axis),
}


@functools.cache
def steps(name, devices):
    """Variables and mean loss after one epoch of three steps; the last batch is half padding."""
    images, labels = toy.task()
    large = images.repeat(2, 1).repeat(2, 2)  # 12x12: enough for STSTNet's pooling
    # plain gradients: Adam would turn the rounding of a gradient that is nearly zero into a step of
    # full length
    state, rows = toy.run(
        [toy.spec(1, 20, learning_rate=0.05)],
        1,
        devices=devices,
        model=MODELS[name]("data" if devices > 1 else None),
        data=(large, labels),
        optimizer="sgd",
    )
    return state.variables, rows["train_loss"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "devices"),
    [("htnet", 4), ("ststnet", 2), ("ststnet", 4)],
)
def test_a_trial_drops_the_same_on_any_number_of_devices(name, devices):
    alone, loss = steps(name, 1)
    shared, shared_loss = steps(name, devices)
    np.testing.assert_allclose(shared_loss, loss, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=0), shared, alone)
