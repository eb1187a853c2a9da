"""train.normalize='median': each channel of each map by its own median, in training, views and
statistics alike."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from configs import base, stn_ravdess_clips, ststnet_megc2019
from fexpr.data.preparation import regions
from fexpr.errors import UserError
from fexpr.train.augment import Augment
from fexpr.train.image_changes import mirror, upside_down
from fexpr.train.image_statistics import statistics
from fexpr.train.views import MIDDLE, medians, normalized, predict_views, recentred, views
from tests.train import toy

MAPS = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 6)).astype(np.float32)


@pytest.mark.long
@settings(deadline=None, max_examples=60)
@given(
    arrays.arrays(np.uint8, st.tuples(*(st.integers(1, n) for n in (2, 4, 4, 2)))),
)
def test_medians_are_those_of_numpy(images):
    expected = np.median(images, (1, 2), keepdims=True)
    np.testing.assert_array_equal(medians(jnp.float32(images)), expected)


def test_medians_of_fractions_are_close():
    images = np.random.default_rng(1).uniform(0, 255, (3, 9, 7, 2)).astype(np.float32)
    np.testing.assert_allclose(
        medians(images), np.median(images, (1, 2), keepdims=True), atol=1 / 256
    )


def test_another_level_in_every_clip_makes_no_difference():
    moved = MAPS * 0.4 + np.random.default_rng(2).integers(0, 100, (5, 1, 1, 6))
    np.testing.assert_allclose(
        recentred(jnp.float32(moved), "median"),
        recentred(jnp.float32(MAPS * 0.4), "median"),
        atol=1 / 128,
    )


@pytest.mark.parametrize("turn", [mirror, upside_down])
def test_a_turned_map_has_the_same_zero(turn):
    there = recentred(turn(jnp.asarray(MAPS), "flow"), "median")
    np.testing.assert_array_equal(there, turn(recentred(jnp.asarray(MAPS), "median"), "flow"))


def test_no_motion_is_zero_to_the_network():
    """A map that does not move but for one corner, whatever level it was scaled to."""
    images = np.full((2, 8, 8, 3), 90, np.uint8)
    images[1] += 77
    images[:, :3, :3] += 30
    mean, std = statistics(images, np.arange(2), "median")
    seen = normalized(recentred(jnp.float32(images), "median"), mean, std, "float32")
    assert not np.asarray(seen[:, 3:]).any()
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_allclose(np.square(seen).mean((0, 1, 2)), 1, rtol=1e-6)


def test_the_unit_is_that_of_the_rows_alone():
    images = MAPS.astype(np.uint8)
    other = images.copy()
    other[3:] = 0
    for ours, theirs in zip(
        statistics(images, np.arange(3), "median"),
        statistics(other, np.arange(3), "median"),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_training_sees_centred_maps():
    """A brightness that differs from image to image changes neither steps nor predictions."""
    images, labels = toy.task()
    images = images // 2
    moved = images + np.random.default_rng(3).integers(0, 100, (len(images), 1, 1, 3), np.uint8)
    found = [
        toy.run([toy.spec()], data=(each, labels), normalize="median")[0]
        for each in (images, moved)
    ]
    jax.tree.map(np.testing.assert_array_equal, found[0].variables, found[1].variables)
    np.testing.assert_array_equal(found[0].last.logits, found[1].last.logits)


class OneNumber(nn.Module):
    """Looks at the left half of u alone: it tells a map from its mirror image."""

    @nn.compact
    def __call__(self, images, train=False):
        one = images[:, :, : images.shape[2] // 2, 0].mean((1, 2))
        return jnp.stack([one, -one], 1)


@pytest.mark.parametrize("normalize", ["median", "symmetric"])
@pytest.mark.parametrize("kind", ["flow", "face"])
def test_views_of_a_flow_map_and_of_its_mirror_image_agree(kind, normalize):
    mean, std = np.full(6, MIDDLE, np.float32), np.full(6, 50, np.float32)

    def predict(images):
        arguments = (OneNumber(), {}, jnp.asarray(images), mean, std, "float32", "flip")
        return predict_views(*arguments, kind=kind, normalize=normalize)

    np.testing.assert_allclose(
        predict(MAPS), predict(np.asarray(mirror(MAPS, kind))), rtol=1e-4, atol=1e-5
    )


def test_the_mirrored_view_of_flow_negates_u_of_every_map():
    seen = np.asarray(views(jnp.asarray(MAPS), "flip", kind="flow")[1])
    np.testing.assert_array_equal(seen[..., [0, 3]], 255 - MAPS[:, :, ::-1][..., [0, 3]])
    np.testing.assert_array_equal(seen[..., [1, 2, 4, 5]], MAPS[:, :, ::-1][..., [1, 2, 4, 5]])


def test_four_regions_of_a_mirrored_map_are_the_mirrored_regions():
    """In the order left eye, right eye, nose, mouth corners: a mirror image swaps left and right."""
    maps = np.random.default_rng(4).integers(0, 256, (2, 28, 28, 6)).astype(np.float32)
    points = np.float32([[64, 80], [152, 88], [112, 120], [80, 160], [144, 152]])[None].repeat(2, 0)
    turned = points[:, [1, 0, 2, 4, 3]] * [-1, 1] + [224, 0]
    expected = mirror(regions.join_regions(maps, points), "flow")
    found = regions.join_regions(mirror(maps, "flow"), turned)
    np.testing.assert_array_equal(found, expected)
    there = recentred(jnp.asarray(found), "median")
    centred = recentred(jnp.asarray(regions.join_regions(maps, points)), "median")
    np.testing.assert_array_equal(there, mirror(centred, "flow"))


def test_a_mirror_image_of_numpy_is_that_of_jax():
    np.testing.assert_array_equal(mirror(MAPS, "flow"), mirror(jnp.asarray(MAPS), "flow"))
    assert isinstance(mirror(MAPS, "flow"), np.ndarray)
    assert mirror(MAPS.astype(np.float64), "flow").dtype == np.float64


def test_noise_does_not_cut_off_what_centring_moved_beyond_the_grey_levels():
    images = jnp.full((1, 4, 4, 3), -100.0)
    augment = Augment(kind="flow", noise=1e-3, centred=True)
    made = augment(jax.random.key(0), images, jnp.arange(1), 1)
    np.testing.assert_allclose(made, images, atol=0.1)


@pytest.mark.parametrize(
    ("module", "fields"),
    [(stn_ravdess_clips, {}), (ststnet_megc2019, {"data.name": "ravdess_aus"})],
)
def test_what_has_no_channels_of_its_own_is_refused(module, fields):
    config = module.get_config()
    config.update_from_flattened_dict({**fields, "train.normalize": "median"})
    with pytest.raises(UserError, match=r"train\.normalize"):
        base.validate(config)
