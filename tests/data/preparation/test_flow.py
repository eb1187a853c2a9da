"""Flow against known warps, strain against known fields, maps against their symmetries."""

import cv2
import numpy as np
import pytest

from fexpr.data.preparation import flow

SIDE = 96
MARGIN = 14  # pixels that the warp brings in from outside the frame are nobody's ground truth


@pytest.fixture(scope="module")
def texture():
    noise = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)


def grid():
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    return x, y


def warped(image, matrix):
    """apex(M p) = image(p) for the affine 2x3 `matrix`, and the flow M p - p that this is."""
    apex = cv2.warpAffine(
        image, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    x, y = grid()
    moved = np.stack([x, y, np.ones_like(x)], -1) @ matrix.T
    return np.clip(apex, 0, 255).astype(np.uint8), moved - np.stack([x, y], -1)


@pytest.mark.parametrize(
    "matrix",
    [
        pytest.param([[1, 0, 1.5], [0, 1, 0]], id="right"),
        pytest.param([[1, 0, 0], [0, 1, -1.25]], id="up"),
        pytest.param([[1.02, 0.01, -1.4], [-0.015, 0.985, 1.1]], id="affine"),
    ],
)
def test_a_known_warp_is_recovered_to_a_tenth_of_a_pixel(texture, matrix):
    apex, truth = warped(texture, np.float32(matrix))
    found = flow.tvl1(texture.astype(np.uint8), apex)
    assert found.dtype == np.float32
    assert found.shape == (SIDE, SIDE, 2)
    inner = slice(MARGIN, -MARGIN)
    error = np.linalg.norm(found - truth, axis=-1)[inner, inner]
    assert error.mean() < 0.1
    # or the test would pass on zeros
    assert np.linalg.norm(truth, axis=-1)[inner, inner].mean() > 0.5


def test_frames_of_two_sizes_and_colour_frames_are_refused(texture):
    grey = texture.astype(np.uint8)
    with pytest.raises(ValueError, match=r"\(96, 96\).*\(96, 95\)"):
        flow.tvl1(grey, grey[:, 1:])
    with pytest.raises(ValueError, match="float32"):
        flow.tvl1(texture, grey)


def test_strain_of_a_linear_field_is_exact():
    x, y = grid()
    ux, uy, vx, vy = 0.3, -0.2, 0.6, -0.4
    field = np.stack([ux * x + uy * y + 3, vx * x + vy * y - 1], -1).astype(np.float64)
    expected = np.sqrt(ux**2 + vy**2 + (uy + vx) ** 2 / 2)
    np.testing.assert_allclose(flow.optical_strain(field), expected, rtol=1e-5)


def test_translation_and_rotation_have_no_strain():
    x, y = grid()
    np.testing.assert_array_equal(flow.optical_strain(np.full((SIDE, SIDE, 2), 1.7)), 0)
    np.testing.assert_allclose(
        flow.optical_strain(np.stack([-0.02 * y, 0.02 * x], -1)), 0, atol=1e-5
    )


def test_channels_are_u_v_strain_over_the_full_range():
    x, y = grid()
    bump = np.exp(-((x - 60) ** 2 + (y - 30) ** 2) / 200)
    encoded = flow.encode(np.stack([bump, -bump], -1))
    assert encoded.shape == (28, 28, 3)
    assert encoded.dtype == np.uint8
    np.testing.assert_array_equal(encoded.min((0, 1)), 0)
    np.testing.assert_array_equal(encoded.max((0, 1)), 255)
    row, column = np.unravel_index(encoded[..., 0].argmax(), (28, 28))
    assert (row, column) == (30 * 28 // SIDE, 60 * 28 // SIDE)  # rows are y
    np.testing.assert_array_equal(encoded[..., 1], 255 - encoded[..., 0].astype(int))
    assert encoded[row, column, 2] < 128  # the strain of a bump lies on its flanks


def test_scaling_before_the_resize_as_well_changes_nothing():
    field = cv2.GaussianBlur(np.random.default_rng(1).normal(size=(SIDE, SIDE, 2)), (0, 0), 6)
    np.testing.assert_array_equal(flow.encode(field), flow.encode((field - field.min()) * 40))


def test_no_motion_is_a_black_map(texture):
    grey = texture.astype(np.uint8)
    np.testing.assert_array_equal(flow.flow_map(grey, grey), 0)


def test_a_mirrored_flow_field_is_the_mirrored_map_with_u_as_255_minus_u():
    field = cv2.GaussianBlur(np.random.default_rng(2).normal(size=(84, 84, 2)), (0, 0), 5)
    mirrored = flow.encode(field[:, ::-1] * [-1, 1])[:, ::-1]
    expected = flow.encode(field).astype(int) * [-1, 1, 1] + [255, 0, 0]
    assert np.abs(mirrored - expected).max() <= 1  # rounding


def test_a_mirrored_pair_of_frames_negates_u(texture):
    x, y = grid()
    bump = 2 * np.exp(-((x - 40) ** 2 + (y - 50) ** 2) / 150)
    apex = cv2.remap(
        texture, x - bump, y + bump / 2, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    onset, apex = texture.astype(np.uint8), apex.clip(0, 255).astype(np.uint8)
    seen = flow.flow_map(onset, apex)
    mirrored = flow.flow_map(onset[:, ::-1].copy(), apex[:, ::-1].copy())[:, ::-1]
    u, v = (np.corrcoef(seen[..., c].ravel(), mirrored[..., c].ravel())[0, 1] for c in (0, 1))
    assert u < -0.95  # TV-L1's one-sided differences are not themselves symmetric
    assert v > 0.95


# --- the level of no motion ----------------------------------------------------------------------


def known_warp(seed):
    """A field with a large still region, another offset and size in every seed."""
    x, y = grid()
    bump = np.exp(-((x - 30 - 5 * seed) ** 2 + (y - 50) ** 2) / 60)
    return np.stack([(1 + seed) * bump, (0.5 - seed) * bump], -1)


@pytest.mark.parametrize("seed", range(3))
def test_a_signed_map_keeps_zero_where_nothing_moves(seed):
    encoded = flow.encode(known_warp(seed), scale="signed")
    np.testing.assert_array_equal(encoded[-3:], np.broadcast_to([128, 128, 0], (3, 28, 3)))
    sign = np.sign(known_warp(seed)[50, 30 + 5 * seed])
    peak = encoded[..., :2].astype(int) - 128
    for channel, direction in enumerate(sign):
        found = peak[..., channel].ravel()
        assert np.sign(found[np.abs(found).argmax()]) == direction
    # scaled min to max, the same still region lies at another level for each direction
    levels = {int(level) for level in flow.encode(known_warp(seed))[-1, 0, :2]}
    assert levels <= {0, 255}


def test_signed_maps_agree_with_the_published_form_but_for_the_level():
    field = cv2.GaussianBlur(np.random.default_rng(3).normal(size=(84, 84, 2)), (0, 0), 6)
    signed, published = (flow.encode(field, scale=s).astype(float) for s in ("signed", "minmax"))
    for channel in range(3):
        assert np.corrcoef(signed[..., channel].ravel(), published[..., channel].ravel())[0, 1] > (
            0.9999
        )


def test_a_mirrored_signed_map_is_255_minus_u():
    field = cv2.GaussianBlur(np.random.default_rng(2).normal(size=(84, 84, 2)), (0, 0), 5)
    mirrored = flow.encode(field[:, ::-1] * [-1, 1], scale="signed")[:, ::-1]
    expected = flow.encode(field, scale="signed").astype(int) * [-1, 1, 1] + [255, 0, 0]
    assert np.abs(mirrored - expected).max() <= 1


def test_no_motion_of_a_signed_map_is_its_zero(texture):
    grey = texture.astype(np.uint8)
    still = np.broadcast_to(np.uint8([128, 128, 0]), (28, 28, 3))
    np.testing.assert_array_equal(flow.flow_map(grey, grey, scale="signed"), still)
