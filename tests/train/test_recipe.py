"""What a recipe may ask for beside a loss and Adam: L-BFGS, a running mean, plateaus, soft labels,
mixing, bfloat16, several views.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fexpr.config import allowed
from fexpr.train.augment import Augment
from fexpr.train.train_config import TrainConfig
from fexpr.train.views import mean_prediction, views
from tests.train import toy

ONE_OF_K = {"loss": "cross_entropy", "targets": "class", "augment": Augment(kind="face")}


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, train=False, mask=None):
        x = images.reshape(len(images), -1)
        kernel = self.param("kernel", nn.initializers.zeros, (x.shape[-1], toy.CLASSES))
        bias = self.param("bias", nn.initializers.zeros, (toy.CLASSES,))
        return (x @ kernel.astype(x.dtype) + bias.astype(x.dtype)[None]).astype(jnp.float32)


def classes():
    images, labels = toy.task()
    rng = np.random.default_rng(1)
    return images, np.where(
        rng.random(len(labels)) < 0.2, rng.integers(0, 3, len(labels)), labels.argmax(1)
    ).astype(np.int32)


def solve(devices=1, epochs=200, data=None, penalty=1 / 40, **changes):
    spec = toy.spec(train=40, weight_decay=penalty)
    options = (
        ONE_OF_K
        | {
            "model": Linear(),
            "optimizer": "lbfgs",
            "schedule": "constant",
            "clip_norm": 0.0,
            "batch_size": 40,
            "tolerance": 1e-5,
        }
        | changes
    )
    return spec, toy.run(
        [spec], epochs, devices=devices, data=data or classes(), normalize="pixel", **options
    )


@pytest.mark.long
def test_lbfgs_finds_the_minimum_that_scikit_learn_finds():
    spec, (state, _) = solve()
    images, labels = classes()
    scaler = StandardScaler().fit(images[spec.train].reshape(40, -1))
    pixels = lambda rows: scaler.transform(images[rows].reshape(len(rows), -1))
    reference = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(
        pixels(spec.train), labels[spec.train]
    )
    theirs = reference.predict_proba(pixels(np.concatenate([spec.val, spec.test])))
    np.testing.assert_allclose(jax.nn.softmax(state.last.logits[0]), theirs, atol=5e-4)
    assert not state.active[0], "it stops by itself"
    assert 3 < state.epoch[0] < 200


@pytest.mark.long
def test_lbfgs_is_the_same_on_several_devices():
    alone, shared = (solve(devices, epochs=4)[1][0] for devices in (1, 4))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), alone.variables, shared.variables
    )


def test_the_running_mean_predicts_and_is_kept():
    state, _ = toy.run([toy.spec()], 1, ema=0.9, schedule="constant", batch_size=40)
    initial = toy.engine([toy.spec()], ema=0.9, schedule="constant", batch_size=40, compiled=False)
    first = initial.to_host(initial.init()).variables
    # one step: the decay of TensorFlow's rule at t = 0 is 1/10
    expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, first, state.variables)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.average, expected
    )
    jax.tree.map(np.testing.assert_array_equal, state.best_variables, state.average)


def test_without_a_running_mean_nothing_is_kept_for_it():
    assert toy.engine([toy.spec()], compiled=False).init().average == ()


@pytest.mark.long
def test_a_plateau_lowers_the_rate():
    # a learning rate of zero never gets better than its first epoch
    state, _ = toy.run(
        [toy.spec(learning_rate=0.0)], 6, schedule="plateau", plateau_patience=2, plateau_factor=0.5
    )
    assert (state.lr_scale[0], state.epochs_since_plateau[0]) == (0.25, 1)
    steady, _ = toy.run([toy.spec(learning_rate=0.0)], 6, schedule="constant", plateau_patience=2)
    assert steady.lr_scale[0] == 1.0


@pytest.mark.long
def test_the_rate_of_a_plateau_reaches_the_optimiser():
    options = {
        "schedule": "plateau",
        "optimizer": "adam",
        "plateau_patience": 1,
        "plateau_factor": 0.0,
        "monitor": "loss",
    }
    after = [toy.run([toy.spec(learning_rate=10.0)], epochs, **options)[0] for epochs in (4, 6)]
    still = [state for state in after if state.lr_scale[0] == 0]
    assert len(still) == 2, "a rate of ten makes the loss worse soon"
    jax.tree.map(np.testing.assert_array_equal, still[0].variables, still[1].variables)


def test_soft_targets_of_one_class_are_that_class():
    images, labels = classes()
    soft = np.eye(3, dtype=np.float32)[labels]
    hard_state, hard = toy.run([toy.spec(weight_strength=1.0)], data=(images, labels), **ONE_OF_K)
    soft_state, soft_rows = toy.run(
        [toy.spec(weight_strength=1.0)],
        data=(images, labels),
        soft=soft,
        **ONE_OF_K | {"targets": "soft"},
    )
    np.testing.assert_allclose(soft_rows["train_loss"], hard["train_loss"], rtol=1e-6)
    np.testing.assert_allclose(soft_state.last.logits, hard_state.last.logits, atol=1e-5)


@pytest.mark.long
def test_soft_targets_are_learned_as_shares():
    images, labels = classes()
    shares = np.tile(np.float32([0.5, 0.3, 0.2]), (len(labels), 1))
    # the penalty leaves the biases alone, so that they say the shares
    _, (state, _) = solve(
        epochs=30, data=(images, labels), soft=shares, targets="soft", penalty=1e3
    )
    np.testing.assert_allclose(jax.nn.softmax(state.last.logits[0]).mean(0), shares[0], atol=1e-3)


@pytest.mark.long
def test_mixing_is_the_same_on_several_devices():
    options = {"data": classes(), "mixup": 0.4, "optimizer": "sgd"} | ONE_OF_K
    alone, rows = toy.run([toy.spec(train=20)], 1, **options)
    shared, shared_rows = toy.run([toy.spec(train=20)], 1, devices=2, **options)
    np.testing.assert_allclose(shared_rows["train_loss"], rows["train_loss"], atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), shared.variables, alone.variables
    )
    _, plain_rows = toy.run([toy.spec(train=20)], 1, **options | {"mixup": 0.0})
    assert abs(plain_rows["train_loss"] - rows["train_loss"]).max() > 1e-3


@pytest.mark.long
def test_bfloat16_trains_with_float32_parameters():
    state, rows = toy.run(
        [toy.spec(learning_rate=0.05)],
        6,
        data=classes(),
        model=Linear(),
        precision="bfloat16",
        **ONE_OF_K,
    )
    _, exact_rows = toy.run(
        [toy.spec(learning_rate=0.05)], 6, data=classes(), model=Linear(), **ONE_OF_K
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(state.variables)} == {np.dtype(np.float32)}
    assert rows["train_loss"][-1] < 0.9 * rows["train_loss"][0]
    np.testing.assert_allclose(rows["train_loss"], exact_rows["train_loss"], rtol=0.05)
    assert (rows["train_loss"] != exact_rows["train_loss"]).any()


def test_pixel_statistics_are_the_training_rows_own():
    images, _ = toy.task()
    spec = toy.spec()
    trial = toy.engine([spec], normalize="pixel", compiled=False).trials
    np.testing.assert_allclose(trial.mean[0], images[spec.train].mean(0), rtol=1e-5)
    np.testing.assert_allclose(trial.std[0], images[spec.train].std(0), rtol=1e-5)


def test_symmetric_is_minus_one_to_one():
    trial = toy.engine([toy.spec()], normalize="symmetric", compiled=False).trials
    np.testing.assert_allclose(
        (np.float32([0, 255])[:, None] - trial.mean) / trial.std, [[-1] * 3, [1] * 3]
    )


def test_views_are_the_image_its_mirror_and_their_corners():
    images = jnp.arange(2 * 8 * 8, dtype=jnp.float32).reshape(2, 8, 8, 1)
    assert [len(views(images, name)) for name in allowed(TrainConfig, "tta")] == [1, 2, 10]
    made = views(images, "flip_crop")
    np.testing.assert_array_equal(made[1], images[:, :, ::-1])
    # shifted down and right by three
    np.testing.assert_array_equal(made[2][:, 3:, 3:], images[:, :5, :5])
    np.testing.assert_array_equal(made[5][:, :5, :5], images[:, 3:, 3:])


def test_the_mean_prediction_is_the_mean_of_probabilities():
    logits = [jnp.array([[1.0, 2.0, 0.0]]), jnp.array([[0.0, 0.0, 3.0]])]
    mean = (jax.nn.softmax(logits[0]) + jax.nn.softmax(logits[1])) / 2
    np.testing.assert_allclose(jax.nn.softmax(mean_prediction(logits)), mean, rtol=1e-6)
    np.testing.assert_array_equal(mean_prediction(logits[:1]), logits[0])


def test_views_change_what_the_trial_says():
    one, _ = toy.run([toy.spec()], 1, data=classes(), **ONE_OF_K)
    two, _ = toy.run([toy.spec()], 1, data=classes(), tta="flip", **ONE_OF_K)
    # two programs, whose arithmetic XLA may join differently
    alike = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-8)
    jax.tree.map(alike, one.variables, two.variables)
    assert abs(jax.nn.softmax(one.last.logits) - jax.nn.softmax(two.last.logits)).max() > 1e-4
