import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.train.augment import Augment, mirror, shifted

IMAGE = np.random.default_rng(0).integers(0, 256, (7, 6, 3)).astype(np.float32)


def test_mirror_of_a_flow_map_negates_u_and_keeps_v_and_strain():
    flipped = np.asarray(mirror(jnp.asarray(IMAGE), "flow"))
    np.testing.assert_array_equal(flipped[..., 0], 255 - IMAGE[:, ::-1, 0])
    np.testing.assert_array_equal(flipped[..., 1:], IMAGE[:, ::-1, 1:])
    np.testing.assert_array_equal(np.asarray(mirror(mirror(jnp.asarray(IMAGE), "flow"), "flow")), IMAGE)
    np.testing.assert_array_equal(np.asarray(mirror(jnp.asarray(IMAGE), "face")), IMAGE[:, ::-1])


def test_shift_is_a_window_of_the_padded_image():
    padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)), mode="edge")
    np.testing.assert_array_equal(shifted(jnp.asarray(IMAGE), jnp.array([2, 2]), 2), IMAGE)
    np.testing.assert_array_equal(shifted(jnp.asarray(IMAGE), jnp.array([0, 3]), 2), padded[0:7, 3:9])


@pytest.mark.parametrize("augment", [Augment("flow", 0.5), Augment("flow", 0.0, 2), Augment("face", 0.0, 0, 5.0)])
def test_every_sample_draws_its_own_wherever_it_is_computed(augment):
    images = jnp.broadcast_to(IMAGE[None], (16, *IMAGE.shape))
    places = jnp.arange(16)
    out = np.asarray(augment(jax.random.key(0), images, places, 16))
    assert len({o.tobytes() for o in out}) > 1
    assert 0 <= out.min() <= out.max() <= 255
    second_half = augment(jax.random.key(0), images[8:], places[8:], 16)
    np.testing.assert_array_equal(out[8:], second_half)
    assert not np.array_equal(out, augment(jax.random.key(1), images, places, 16))


def test_nothing_asked_for_is_nothing_done():
    np.testing.assert_array_equal(Augment("flow")(jax.random.key(0), jnp.asarray(IMAGE)[None], jnp.arange(1), 1)[0], IMAGE)
