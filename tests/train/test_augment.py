import dataclasses
import subprocess
import sys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from configs import base
from configs.augmentations import PRESETS
from fexpr.errors import UserError
from fexpr.train import augment as module
from fexpr.train.augment import Augment, mixup
from fexpr.train.image_changes import adjusted, cut_out, mirror, shifted, upside_down, warped

IMAGE = np.random.default_rng(0).integers(0, 256, (7, 6, 3)).astype(np.float32)
KEY = jax.random.key(0)
EVERYTHING = Augment(
    kind="face",
    flip=0.5,
    shift=2,
    noise=5.0,
    vertical_flip=0.25,
    rotation=22.0,
    rotation_p=0.5,
    zoom=0.15,
    brightness=0.2,
    contrast=0.2,
    cutout=3,
)
ONE_BY_ONE = [
    Augment(**{field.name: getattr(EVERYTHING, field.name)})
    for field in dataclasses.fields(Augment)
    if getattr(EVERYTHING, field.name) != field.default
    and field.name not in ("flip", "shift", "rotation_p")
]


apply = jax.jit(
    lambda augment, key, images, places, batch: augment(key, images, places, batch),
    static_argnums=(0, 4),
)
mix = jax.jit(mixup, static_argnums=5)


def smooth(height, width):
    """A face-like image without edges, so that OpenCV's coarser interpolation table hardly
    shows.
    """
    row, column = np.mgrid[:height, :width]
    return (120 + 60 * np.sin(row / 5) + 50 * np.cos(column / 4 + row / 9)).astype(np.float32)


def keras(image, angle, zoom, shift):
    """ImageDataGenerator's own transformation, from its definition: rotation . shift . zoom about
    the centre, read by SciPy.
    """
    t, (down, right), (zoom_y, zoom_x) = np.deg2rad(angle), shift, zoom
    centre = np.array(image.shape[:2]) / 2 - 0.5
    rotation = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    matrix = rotation @ np.diag([zoom_y, zoom_x])
    offset = centre + rotation @ np.array([down, right]) - matrix @ centre
    channels = [
        ndimage.affine_transform(c, matrix, offset, order=1, mode="nearest")
        for c in np.moveaxis(image.astype(np.float64), -1, 0)
    ]
    return np.stack(channels, -1)


def warp(image, angle, zoom, shift):
    parameters = (jnp.array([x], jnp.float32) for x in (angle, zoom, shift))
    return np.asarray(jax.jit(warped)(jnp.asarray(image)[None], *parameters))[0]


def test_flips_of_a_flow_map_negate_the_flow_along_the_flipped_axis():
    across, down = (np.asarray(f(jnp.asarray(IMAGE), "flow")) for f in (mirror, upside_down))
    np.testing.assert_array_equal(across[..., 0], 255 - IMAGE[:, ::-1, 0])
    np.testing.assert_array_equal(across[..., 1:], IMAGE[:, ::-1, 1:])
    np.testing.assert_array_equal(down[..., 1], 255 - IMAGE[::-1, :, 1])
    np.testing.assert_array_equal(down[..., [0, 2]], IMAGE[::-1, :, [0, 2]])
    for flip, expected in ((mirror, IMAGE[:, ::-1]), (upside_down, IMAGE[::-1])):
        np.testing.assert_array_equal(np.asarray(flip(jnp.asarray(IMAGE), "face")), expected)
        np.testing.assert_array_equal(
            np.asarray(flip(flip(jnp.asarray(IMAGE), "flow"), "flow")), IMAGE
        )


def test_shift_is_a_window_of_the_padded_image():
    padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)), mode="edge")
    np.testing.assert_array_equal(shifted(jnp.asarray(IMAGE), jnp.array([2, 2]), 2), IMAGE)
    np.testing.assert_array_equal(
        shifted(jnp.asarray(IMAGE), jnp.array([0, 3]), 2), padded[0:7, 3:9]
    )


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-180, 180),
    zoom=st.tuples(*[st.floats(0.5, 2)] * 2),
    shift=st.tuples(*[st.floats(-4, 4)] * 2),
)
def test_warp_is_keras_own(angle, zoom, shift):
    np.testing.assert_allclose(
        warp(IMAGE, angle, zoom, shift), keras(IMAGE, angle, zoom, shift), atol=0.02
    )


@pytest.mark.parametrize(("angle", "zoom"), [(0.0, 1.0), (15.0, 1.0), (-22.0, 1.15), (90.0, 0.85)])
def test_warp_is_opencvs_rotation_about_the_centre(angle, zoom):
    image = smooth(30, 24)
    # OpenCV counts counter-clockwise
    matrix = cv2.getRotationMatrix2D(((24 - 1) / 2, (30 - 1) / 2), -angle, 1 / zoom)
    expected = cv2.warpAffine(
        image, matrix, (24, 30), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    np.testing.assert_allclose(
        warp(image[..., None], angle, (zoom, zoom), (0, 0))[..., 0], expected, atol=0.6
    )


@pytest.mark.parametrize("offset", [(2, 2), (0, 3), (4, 1)])
def test_warp_by_whole_pixels_is_the_shift(offset):
    moved = warp(IMAGE, 0.0, (1, 1), np.array(offset) - 2)
    np.testing.assert_allclose(moved, shifted(jnp.asarray(IMAGE), jnp.array(offset), 2), atol=1e-3)


@given(contrast=st.floats(0, 2), brightness=st.floats(-1, 1))
@settings(max_examples=10, deadline=None)
def test_contrast_and_brightness_are_a_line_through_each_channels_mean(contrast, brightness):
    out = np.asarray(
        adjusted(
            jnp.asarray(IMAGE)[None],
            jnp.array([contrast], jnp.float32),
            jnp.array([brightness], jnp.float32),
        )
    )[0]
    for channel in range(3):
        x = IMAGE[..., channel].astype(np.float64)
        expected = cv2.addWeighted(
            x, contrast, np.full_like(x, x.mean()), 1 - contrast, 255 * brightness
        )
        np.testing.assert_allclose(out[..., channel], expected, atol=1e-3)


@given(row=st.integers(0, 6), column=st.integers(0, 5), side=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_cutout_is_a_square_that_the_border_cuts(row, column, side):
    expected = IMAGE.copy()
    top, left = row - side // 2, column - side // 2
    expected[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = IMAGE.mean(
        (0, 1)
    )
    np.testing.assert_allclose(
        cut_out(jnp.asarray(IMAGE)[None], jnp.array([[row, column]]), side)[0], expected, atol=1e-4
    )


@pytest.mark.parametrize(
    "augment",
    [
        Augment(kind="flow", flip=0.5),
        Augment(kind="flow", shift=2),
        Augment(kind="flow", vertical_flip=0.5, zoom=0.1),
        *ONE_BY_ONE,
        EVERYTHING,
        Augment(erase=0.5),
    ],
)
def test_every_sample_draws_its_own_wherever_it_is_computed(augment):
    images = jnp.broadcast_to(IMAGE[None], (16, *IMAGE.shape))
    places = jnp.arange(16)
    out = np.asarray(apply(augment, KEY, images, places, 16))
    assert out.dtype == np.float32
    assert len({o.tobytes() for o in out}) > 1
    assert out.min() >= 0
    assert out.max() <= 255
    np.testing.assert_array_equal(out, apply(augment, KEY, images, places, 16))
    np.testing.assert_array_equal(out[::-1], apply(augment, KEY, images[::-1], places[::-1], 16))
    assert not np.array_equal(out, apply(augment, jax.random.key(1), images, places, 16))


def test_a_devices_share_is_its_part_of_the_whole_batch():
    images, places = (
        jnp.asarray(np.random.default_rng(1).uniform(0, 255, (16, *IMAGE.shape)), jnp.float32),
        jnp.arange(16),
    )
    whole = apply(EVERYTHING, KEY, images, places, 16)
    np.testing.assert_allclose(
        whole[8:], apply(EVERYTHING, KEY, images[8:], places[8:], 16), atol=1e-2
    )


def test_without_rotation_and_zoom_the_numbers_of_measured_runs_are_drawn():
    images = jnp.broadcast_to(IMAGE[None], (16, *IMAGE.shape))
    draw = np.asarray(jax.random.uniform(KEY, (16, 3)))
    padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)), mode="edge")
    expected = []
    for flip, down, right in draw:
        top, left = int(down * 5), int(right * 5)
        window = (
            padded
            if flip >= 0.5
            else np.pad(
                np.asarray(mirror(jnp.asarray(IMAGE), "flow")),
                ((2, 2), (2, 2), (0, 0)),
                mode="edge",
            )
        )
        expected.append(window[top : top + 7, left : left + 6])
    expected = np.stack(expected) + 2.0 * np.asarray(
        jax.random.normal(jax.random.fold_in(KEY, 1), images.shape)
    )
    out = apply(Augment(kind="flow", flip=0.5, shift=2, noise=2.0), KEY, images, jnp.arange(16), 16)
    np.testing.assert_allclose(out, np.clip(expected, 0, 255), atol=1e-4)


def test_flips_come_as_often_as_asked_and_independently():
    n = 4000
    corner = jnp.zeros((n, 2, 2, 1)).at[:, 0, 0].set(255.0)
    out = np.asarray(apply(Augment(flip=0.5, vertical_flip=0.25), KEY, corner, jnp.arange(n), n))
    counts = (out[..., 0] > 0).sum(0)
    expected = n * np.array([[0.375, 0.375], [0.125, 0.125]])
    assert (abs(counts - expected) < 4 * np.sqrt(expected)).all()


def test_warps_are_drawn_from_the_ranges_asked_for(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        module,
        "warped",
        lambda images, *parameters: drawn.extend(map(np.asarray, parameters)) or images,
    )
    n = 4000
    Augment(rotation=22.0, rotation_p=0.5, zoom=0.15, shift=4)(
        KEY, jnp.zeros((n, 2, 2, 1)), jnp.arange(n), n
    )
    angle, zoom, shift, _ = drawn
    assert abs((angle != 0).sum() - n / 2) < 4 * np.sqrt(n / 4)
    numbers = np.column_stack(
        [
            angle[angle != 0] / 22,
            *((zoom - 1) / 0.15).T[:, angle != 0],
            *(shift / 4).T[:, angle != 0],
        ]
    )
    assert abs(numbers).max() <= 1.0001
    np.testing.assert_allclose(numbers.mean(0), 0, atol=4 * np.sqrt(1 / 3 / len(numbers)))
    np.testing.assert_allclose(numbers.var(0), 1 / 3, rtol=0.1)
    np.testing.assert_allclose(np.corrcoef(numbers.T), np.eye(5), atol=0.1)  # each on its own


def test_light_is_drawn_from_the_ranges_asked_for():
    n = 2000
    images = jnp.broadcast_to(jnp.array([100.0, 140.0])[None, :, None, None], (n, 2, 1, 1))
    out = np.asarray(apply(Augment(contrast=0.2, brightness=0.1), KEY, images, jnp.arange(n), n))[
        ..., 0, 0
    ]
    brightness, contrast = out.mean(1) - 120, (out[:, 1] - out[:, 0]) / 40 - 1
    for drawn, spread in ((brightness, 25.5), (contrast, 0.2)):
        assert -1.0001 * spread <= drawn.min() < -0.97 * spread
        assert 0.97 * spread < drawn.max() <= 1.0001 * spread
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.1


def test_the_square_is_cut_out_last_and_flat():
    images = jnp.asarray(np.random.default_rng(1).uniform(0, 255, (32, 12, 12, 1)), jnp.float32)
    out = np.asarray(
        apply(dataclasses.replace(EVERYTHING, cutout=5), KEY, images, jnp.arange(32), 32)
    )[..., 0]
    sizes = [
        np.unique(image[(image > 0) & (image < 255)], return_counts=True)[1].max() for image in out
    ]
    assert min(sizes) >= 9  # in a corner
    assert max(sizes) == 25


def test_nothing_asked_for_is_nothing_done():
    images, places = jnp.asarray(IMAGE)[None], jnp.arange(1)
    np.testing.assert_array_equal(Augment(kind="flow")(KEY, images, places, 1), images)
    assert not jax.make_jaxpr(lambda key, images: Augment(kind="flow")(key, images, places, 1))(
        KEY, images
    ).eqns


def test_flow_maps_are_not_rotated():
    with pytest.raises(UserError, match=r"augment.rotation=10"):
        Augment(kind="flow", rotation=10.0)


def test_trials_side_by_side_are_as_each_alone():
    keys, places = jax.random.split(KEY, 2), jnp.arange(16)
    images = jnp.asarray(
        np.random.default_rng(2).uniform(0, 255, (2, 16, *IMAGE.shape)), jnp.float32
    )
    together = jax.vmap(lambda key, x: apply(EVERYTHING, key, x, places, 16))(keys, images)
    alone = np.stack(
        [apply(EVERYTHING, key, x, places, 16) for key, x in zip(keys, images, strict=True)]
    )
    np.testing.assert_allclose(together, alone, atol=1e-2)
    _, partner, share = jax.vmap(
        lambda key, x: mix(key, x, jnp.ones(12, bool), 0.4, jnp.arange(12), 12)
    )(keys, jnp.zeros((2, 12, 2, 2, 1)))
    assert partner.shape == (2, 12)
    assert len(set(np.asarray(share).ravel().tolist())) == 24


@given(real=st.integers(0, 12), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_mixup_mixes_pairs_of_real_rows(real, seed):
    images = np.random.default_rng(seed).uniform(0, 255, (12, 2, 2, 1)).astype(np.float32)
    mask, places = jnp.arange(12) < real, jnp.arange(12)
    mixed, partner, share = (
        np.asarray(x) for x in mix(jax.random.key(seed), jnp.asarray(images), mask, 0.4, places, 12)
    )
    np.testing.assert_array_equal(partner, [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10])
    assert ((share >= 0) & (share <= 1)).all()
    paired = real // 2 * 2  # the last of an odd number has padding for a partner
    assert (share[paired:] == 1).all()
    np.testing.assert_array_equal(mixed[paired:], images[paired:])
    expected = (
        share[:, None, None, None] * images + (1 - share[:, None, None, None]) * images[partner]
    )
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixups_shares_follow_the_beta_distribution(alpha):
    n = 4000
    share = np.asarray(
        mix(KEY, jnp.zeros((n, 1, 1, 1)), jnp.ones(n, bool), alpha, jnp.arange(n), n)[2]
    )
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean() - 0.5) < 4 * np.sqrt(variance / n)
    np.testing.assert_allclose(share.var(), variance, rtol=0.06)
    assert abs(np.corrcoef(share[::2], share[1::2])[0, 1]) < 0.1


def test_mixup_does_not_depend_on_the_number_of_devices():
    images = jnp.asarray(np.random.default_rng(3).uniform(0, 255, (12, 2, 2, 1)), jnp.float32)
    mask, places = jnp.arange(12) < 11, jnp.arange(12)
    mixed, _, share = mix(KEY, images, mask, 0.4, places, 12)
    there = mix(KEY, images[6:], mask[6:], 0.4, places[6:], 12)
    np.testing.assert_allclose(there[0], mixed[6:], rtol=1e-6)
    np.testing.assert_array_equal(there[2], share[6:])
    with pytest.raises(UserError, match="3 rows"):
        mix(KEY, images[:3], mask[:3], 0.4, places[:3], 12)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_the_config(name):
    config = base.get_config()
    # locked and type-safe: an unknown field or another type raises
    config.augment.update(PRESETS[name])
    fields = {k: v for k, v in config.augment.to_dict().items() if not k.startswith("mixup")}
    assert (Augment(kind="face", **fields) == Augment(kind="face")) == (name == "none")


def test_presets_load_without_jax():
    code = "import sys, configs.augmentations; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_feature_vectors_are_left_alone():
    vectors = jnp.float32([[[[3.0, -4.0]]]])
    np.testing.assert_array_equal(
        Augment(kind="features")(jax.random.key(0), vectors, jnp.arange(1), 1), vectors
    )
    with pytest.raises(UserError, match="feature vectors"):
        Augment(kind="features", noise=1.0)


def test_what_happens_to_a_clip_happens_to_all_of_its_frames_and_no_frame_comes_of_none():
    rng = np.random.default_rng(1)
    images = np.zeros((4, 9, 9, 6), np.float32)
    # two frames with the same face and the same map; a third is missing
    images[..., [0, 2]] = rng.uniform(60, 180, (4, 9, 9, 1))
    images[..., [1, 3]] = rng.uniform(60, 180, (4, 9, 9, 1))
    everything = dataclasses.replace(
        EVERYTHING, kind="clip", noise=0.0, brightness=0.1, contrast=0.1, flip=0.5
    )
    done = np.asarray(apply(everything, KEY, images, jnp.arange(4), 4))
    np.testing.assert_array_equal(done[..., 0], done[..., 2])
    np.testing.assert_array_equal(done[..., 1], done[..., 3])
    assert np.abs(done[..., 0] - images[..., 0]).max() > 5
    noisy = np.asarray(
        apply(dataclasses.replace(everything, noise=5.0), KEY, images, jnp.arange(4), 4)
    )
    assert (noisy[..., :4] != done[..., :4]).mean() > 0.9
    assert (noisy[..., 0] != noisy[..., 2]).any()
    np.testing.assert_array_equal(noisy[..., 4:], 0)
