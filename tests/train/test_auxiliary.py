"""A second task beside the classes: what is unknown teaches nothing, and only the classes are
predicted.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fexpr.models.auxiliary import AuxiliaryOutputs
from fexpr.train.losses import known_binary_cross_entropy
from tests.train.toy import CLASSES, Engine, make_mesh, recipe, share_programs, spec, task

IMAGES, PRESENCE = task()
LABELS = PRESENCE.argmax(1).astype(np.int32)
UNITS = 2


class TwoTasks(nn.Module):
    @nn.compact
    def __call__(self, images, train=False, mask=None):
        x = nn.relu(nn.Dense(8)(images.reshape(len(images), -1)))
        return nn.Dense(CLASSES + UNITS, name="head")(x)


def trained(units, **fields):
    model = AuxiliaryOutputs(TwoTasks(), CLASSES)
    settings = {"targets": "class", "loss": "cross_entropy", "epochs": 2, "monitor": "accuracy"}
    engine = Engine(
        recipe(model, **settings | fields),
        IMAGES,
        LABELS,
        CLASSES,
        [spec()],
        make_mesh(1, 8),
        auxiliary=units,
    )
    share_programs(engine)
    engine.load(0)
    state = engine.init()
    start = jax.tree.map(np.array, engine.to_host(state).variables["params"])
    for _ in range(2):
        state, _ = engine.epoch(state)
    state = engine.to_host(state)
    return start, state


def test_the_loss_is_the_mean_over_known_labels():
    logits = jnp.array([[1.0, -2.0], [0.5, 3.0], [7.0, 7.0]])
    labels = jnp.array([[1.0, 0.0], [jnp.nan, 1.0], [jnp.nan, jnp.nan]])
    expected = [
        (np.log1p(np.exp(-1.0)) + np.log1p(np.exp(-2.0))) / 2,
        np.log1p(np.exp(-3.0)),
        0.0,
    ]
    np.testing.assert_allclose(known_binary_cross_entropy(logits, labels), expected, rtol=1e-6)
    gradient = jax.grad(lambda x: known_binary_cross_entropy(x, labels).sum())(logits)
    assert np.isfinite(gradient).all()
    assert gradient[1, 0] == 0


def test_only_the_classes_are_predicted():
    _, state = trained(PRESENCE[:, :UNITS], auxiliary="action_units")
    assert state.last.logits.shape[-1] == CLASSES
    assert state.variables["params"]["head"]["bias"].shape == (1, CLASSES + UNITS)


def test_what_is_unknown_teaches_nothing():
    unknown = np.full((len(IMAGES), UNITS), np.nan, np.float32)
    start, state = trained(unknown, auxiliary="action_units")
    bias = state.variables["params"]["head"]["bias"]
    np.testing.assert_array_equal(bias[:, CLASSES:], start["head"]["bias"][:, CLASSES:])
    assert (bias[:, :CLASSES] != start["head"]["bias"][:, :CLASSES]).all()
    _, alone = trained(None)
    np.testing.assert_allclose(state.last.logits, alone.last.logits, rtol=1e-5, atol=1e-5)
    _, known = trained(PRESENCE[:, :UNITS], auxiliary="action_units")
    assert np.abs(known.last.logits - alone.last.logits).max() > 1e-3


def test_labels_of_test_rows_change_nothing():
    labels = PRESENCE[:, :UNITS].copy()
    _, one = trained(labels, auxiliary="action_units")
    rows = spec()
    labels[np.concatenate([rows.val, rows.test])] = (
        1 - labels[np.concatenate([rows.val, rows.test])]
    )
    _, other = trained(labels, auxiliary="action_units")
    np.testing.assert_array_equal(one.last.logits, other.last.logits)
