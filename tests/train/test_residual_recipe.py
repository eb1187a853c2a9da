"""Crops, erasing, alternating flips, probabilities of a change, growing images, a clean end: each
equal to NumPy, by sample.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fexpr.errors import UserError
from fexpr.train import optim, step
from fexpr.train.augment import Augment, mixup
from fexpr.train.image_changes import AREA, RATIO, cropped, erased, warped
from fexpr.train.views import views
from tests.train import toy

IMAGES = np.random.default_rng(0).uniform(0, 255, (64, 12, 10, 2)).astype(np.float32)
PLACES, KEY = jnp.arange(64), jax.random.key(3)
ONE_OF_K = {"loss": "cross_entropy", "targets": "class"}
apply = jax.jit(
    lambda augment, key, images, mirrored=None: augment(key, images, PLACES, 64, mirrored),
    static_argnums=0,
)


def classes():
    images, labels = toy.task()
    return images, labels.argmax(1).astype(np.int32)


def test_crops_are_windows_at_random_places():
    out = np.asarray(apply(Augment(crop=7), KEY, jnp.asarray(IMAGES)))
    corners = set()
    for image, crop in zip(IMAGES, out, strict=True):
        windows = {(y, x): image[y : y + 7, x : x + 7] for y in range(6) for x in range(4)}
        found = [corner for corner, window in windows.items() if np.array_equal(window, crop)]
        assert len(found) == 1
        corners |= set(found)
    assert {y for y, _ in corners} == set(range(6))
    assert {x for _, x in corners} == set(range(4))


def test_a_crop_within_a_warp_is_the_warps_own_window():
    angle, zoom, shift = jnp.full(64, 20.0), jnp.full((64, 2), 1.1), jnp.zeros((64, 2))
    whole = np.asarray(jax.jit(warped)(jnp.asarray(IMAGES), angle, zoom, shift))
    part = np.asarray(jax.jit(warped, static_argnums=4)(jnp.asarray(IMAGES), angle, zoom, shift, 6))
    np.testing.assert_allclose(part, whole[:, 3:9, 2:8], atol=2e-2)  # places are rounded in float32


def test_a_crop_within_a_warp_reaches_every_corner():
    marked = np.zeros((64, 12, 12, 1), np.float32)
    marked[:, 0, 0] = marked[:, -1, -1] = 255
    out = np.asarray(
        jax.jit(lambda key, x: Augment(crop=8, zoom=1e-6)(key, x, PLACES, 64))(
            KEY, jnp.asarray(marked)
        )
    )
    assert (out[:, 0, 0] > 50).any()
    assert (out[:, -1, -1] > 50).any()


@given(y=st.integers(0, 5), x=st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_cropped_is_a_slice(y, x):
    out = cropped(jnp.asarray(IMAGES[:1]), jnp.array([[y, x]]), 7)
    np.testing.assert_array_equal(out[0], IMAGES[0, y : y + 7, x : x + 7])


@given(draws=st.lists(st.integers(0, 999).map(lambda n: n / 1000), min_size=4, max_size=4))
@settings(max_examples=40, deadline=None)
def test_erased_is_a_rectangle_of_the_images_mean(draws):
    area = (AREA[0] + (AREA[1] - AREA[0]) * draws[0]) * 120
    ratio = np.exp(np.log(RATIO[0]) + (np.log(RATIO[1]) - np.log(RATIO[0])) * draws[1])
    exact = np.sqrt(area * np.array([ratio, 1 / ratio]))
    high, wide = np.minimum(np.round(exact), [12, 10])
    if (abs(exact - np.floor(exact) - 0.5) < 1e-4).any():
        return  # float32 may round it to the other side
    top, left = np.floor(draws[2] * (12 - high + 1)), np.floor(draws[3] * (10 - wide + 1))
    expected = IMAGES[0].copy()
    expected[int(top) : int(top + high), int(left) : int(left + wide)] = IMAGES[0].mean((0, 1))
    np.testing.assert_allclose(
        erased(jnp.asarray(IMAGES[:1]), jnp.array([draws], jnp.float32))[0], expected, atol=1e-3
    )


def test_erasing_is_as_frequent_as_asked_for():
    out = np.asarray(apply(Augment(erase=0.5), KEY, jnp.asarray(IMAGES)))
    changed = (out != IMAGES).any((1, 2, 3))
    assert 16 < changed.sum() < 48
    share = (out != IMAGES).any(-1).mean((1, 2))[changed]
    assert share.min() > 0.01
    assert share.max() < 0.3


def test_a_shift_and_light_of_some_samples_alone():
    shifted = np.asarray(apply(Augment(shift=3, shift_p=0.5), KEY, jnp.asarray(IMAGES)))
    assert 16 < (shifted == IMAGES).all((1, 2, 3)).sum() < 48
    lit = np.asarray(
        apply(Augment(contrast=0.3, brightness=0.1, light_p=0.25), KEY, jnp.asarray(IMAGES))
    )
    assert 36 < np.isclose(lit, IMAGES, atol=1e-3).all((1, 2, 3)).sum() < 60


def test_an_image_is_mirrored_in_every_other_epoch():
    engine = toy.engine([toy.spec()], augment=Augment(kind="face", alternate=True))
    trial = jax.tree.map(lambda x: jnp.asarray(x[0]), engine.trials)
    turns = np.stack(
        [step._choose_mirrored(trial, jnp.arange(96), jnp.int32(epoch)) for epoch in range(4)]
    )
    assert 30 < turns[0].sum() < 66
    np.testing.assert_array_equal(turns[1], ~turns[0])
    np.testing.assert_array_equal(turns[2:], turns[:2])
    out = np.asarray(
        apply(Augment(alternate=True), KEY, jnp.asarray(IMAGES), jnp.asarray(turns[0][:64]))
    )
    np.testing.assert_array_equal(out[turns[0][:64]], IMAGES[turns[0][:64]][:, :, ::-1])
    np.testing.assert_array_equal(out[~turns[0][:64]], IMAGES[~turns[0][:64]])


def test_flips_are_random_or_in_turn():
    with pytest.raises(UserError, match=r"random.*turn"):
        Augment(flip=0.5, alternate=True)


def test_mixing_some_samples():
    mask = jnp.ones(64, bool)
    shares = np.asarray(mixup(KEY, jnp.asarray(IMAGES), mask, 1.0, PLACES, 64, 0.5)[2])
    assert 16 < (shares == 1).sum() < 48


@pytest.mark.long
def test_mixing_none_at_the_end():
    options = {"data": classes(), "optimizer": "sgd", "augment": Augment(kind="face")} | ONE_OF_K
    mixed, _ = toy.run([toy.spec()], 3, mixup=1.0, mixup_until=0.5, **options)  # of six epochs
    further, rows = toy.run([toy.spec()], 5, mixup=1.0, mixup_until=0.5, **options)
    plain = toy.engine([toy.spec()], **options)
    state = plain.to_devices(mixed)
    for epoch in (3, 4):
        state, scalars = plain.epoch(state)
        np.testing.assert_allclose(
            plain.to_host(scalars)["train_loss"], rows["train_loss"][epoch], rtol=1e-5
        )
    np.testing.assert_allclose(plain.to_host(state).last.logits, further.last.logits, atol=1e-5)
    without, _ = toy.run([toy.spec()], 3, **options)
    assert abs(without.last.logits - mixed.last.logits).max() > 1e-3


@pytest.mark.long
@pytest.mark.parametrize("trial_axis", ["vmap", "map"])
def test_the_first_epochs_see_smaller_images(trial_axis):
    from fexpr.models.resnet import ResNet

    options = {
        "data": classes(),
        "optimizer": "sgd",
        "augment": Augment(kind="face"),
        "trial_axis": trial_axis,
        "model": ResNet(3, (4,), (1,)),
        "schedule": "constant",
    } | ONE_OF_K
    specs = [toy.spec(), toy.spec(fold=1)]
    # of six epochs the first
    grown, rows = toy.run(specs, 2, early_size=4, early_share=1 / 6, **options)
    small = toy.engine(specs, early_size=4, early_share=1.0, **options)
    whole = toy.engine(specs, **options)
    state, first = small.epoch(small.init())
    first = small.to_host(first)
    state, second = whole.epoch(whole.to_devices(small.to_host(state)))
    np.testing.assert_allclose(rows["train_loss"][0], first["train_loss"], rtol=1e-5)
    np.testing.assert_allclose(
        rows["train_loss"][1], whole.to_host(second)["train_loss"], rtol=1e-4
    )
    np.testing.assert_allclose(grown.last.logits, whole.to_host(state).last.logits, atol=1e-4)


def test_one_cycle_rises_and_falls_along_lines():
    total, steps = jnp.int32(100), np.arange(100)
    rates = np.array(
        [optim.learning_rate(jnp.int32(i), jnp.float32(2.0), total, "linear", 0.2) for i in steps]
    )
    expected = (
        2
        * np.minimum(np.clip((steps + 1) / 20, 0, 1), 1)
        * np.clip(1 - (steps / 100 - 0.2) / 0.8, 0, 1)
    )
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-6)


def test_ten_crops_are_the_middle_and_the_corners():
    x = jnp.asarray(IMAGES[:2])
    np.testing.assert_array_equal(views(x, "none", 6)[0], IMAGES[:2, 3:9, 2:8])
    ten = views(x, "flip_crop", 6)
    assert {v.shape for v in ten} == {(2, 6, 6, 2)}
    np.testing.assert_array_equal(ten[1], IMAGES[:2, 3:9, ::-1][:, :, 2:8])
    np.testing.assert_array_equal(ten[2], IMAGES[:2, :6, :6])
    np.testing.assert_array_equal(ten[5], IMAGES[:2, 6:, 4:])
    np.testing.assert_array_equal(ten[9], IMAGES[:2, 6:, ::-1][:, :, 4:])
