"""The sampler against its definition in slow NumPy: values, whole-pixel transforms, gradients.
(Against PyTorch: test_deep_emotion.py.)
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.warp import affine_grid, bilinear_sample

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 5, 7, 2)).astype(np.float32)
THETA = (np.eye(2, 3) + 0.4 * RNG.normal(size=(3, 2, 3))).astype(np.float32)
IDENTITY = np.tile(np.eye(2, 3, dtype=np.float32), (3, 1, 1))


@jax.jit
def warped(images, theta):
    return bilinear_sample(images, affine_grid(theta, *images.shape[1:3]))


def reference(image, theta, height, width, padding):
    """Pixel by pixel, as the definition says, in float64."""
    rows, columns, _ = image.shape

    def pixel(row, column):
        if padding == "border":
            return image[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
        return image[row, column] if 0 <= row < rows and 0 <= column < columns else 0.0

    out = np.zeros((height, width, image.shape[-1]))
    for i in range(height):
        for j in range(width):
            x, y = theta.astype(float) @ [(2 * j + 1) / width - 1, (2 * i + 1) / height - 1, 1]
            x, y = ((x + 1) * columns - 1) / 2, ((y + 1) * rows - 1) / 2
            left, top = int(np.floor(x)), int(np.floor(y))
            for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                out[i, j] += (1 - abs(y - r)) * (1 - abs(x - c)) * pixel(r, c)
    return out


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_equals_the_definition(padding):
    sample = jax.jit(
        lambda images, theta: bilinear_sample(images, affine_grid(theta, 6, 4), padding)
    )
    expected = np.stack(
        [reference(image, theta, 6, 4, padding) for image, theta in zip(IMAGES, THETA, strict=True)]
    )
    np.testing.assert_allclose(sample(IMAGES, THETA), expected, atol=1e-5)


def test_far_outside():
    far = IDENTITY + np.float32([[0, 0, 1e6], [0, 0, 0]])  # the image lies far to the left
    grid = affine_grid(jnp.asarray(far), 5, 7)
    np.testing.assert_array_equal(jax.jit(bilinear_sample)(IMAGES, grid), 0)
    border = jax.jit(bilinear_sample, static_argnums=2)(IMAGES, grid, "border")
    np.testing.assert_allclose(border, np.repeat(IMAGES[:, :, -1:], 7, axis=2), atol=1e-5)


def test_whole_pixels_come_back_as_they_were():
    """Where an index rounded one way and a share rounded the other would be a pixel apart: as
    optimised for users, not for tests.
    """
    optimised = jax.jit(warped, compiler_options={"xla_backend_optimization_level": 3})
    images = RNG.normal(size=(64, 48, 48, 1)).astype(np.float32)
    noise = (1e-7 * RNG.normal(size=(64, 2, 3))).astype(np.float32)
    turn = np.float32([[0, -1, 0], [1, 0, 0]])
    shift = np.float32([[1, 0, 2 * 3 / 48], [0, 1, 0]])
    np.testing.assert_allclose(optimised(images, IDENTITY[:1] + noise), images, atol=1e-3)
    np.testing.assert_allclose(
        optimised(images, turn + noise), np.rot90(images, 1, (1, 2)), atol=1e-3
    )
    np.testing.assert_allclose(
        optimised(images, shift + noise)[:, :, :-3], images[:, :, 3:], atol=1e-3
    )
    np.testing.assert_array_equal(np.abs(optimised(images, shift + noise)[:, :, -3:]) < 1e-3, True)


def test_gradients_are_finite_differences():
    weights = RNG.normal(size=IMAGES.shape).astype(np.float32)

    def total(images, theta):
        return (warped(images, theta) * weights).sum()

    by_image, by_theta = jax.jit(jax.grad(total, (0, 1)))(IMAGES, THETA)
    direction = RNG.normal(size=IMAGES.shape).astype(np.float32)
    # linear in the images
    np.testing.assert_allclose((by_image * direction).sum(), total(direction, THETA), rtol=1e-4)

    def exact(theta):
        return sum(
            (reference(i, t, 5, 7, "zeros") * w).sum()
            for i, t, w in zip(IMAGES, theta, weights, strict=True)
        )

    for place in ((0, 0, 0), (1, 0, 2), (2, 1, 1)):
        step = np.zeros(THETA.shape)
        step[place] = 1e-6
        np.testing.assert_allclose(
            by_theta[place],
            (exact(THETA + step) - exact(THETA - step)) / 2e-6,
            rtol=1e-3,
            atol=1e-3,
        )


def test_trials_side_by_side_and_half_precision():
    stacked = jax.jit(jax.vmap(warped))(np.stack([IMAGES, 2 * IMAGES]), np.stack([THETA, IDENTITY]))
    np.testing.assert_allclose(stacked[0], warped(IMAGES, THETA), atol=1e-5)
    np.testing.assert_allclose(stacked[1], 2 * IMAGES, atol=1e-5)
    half = warped(jnp.asarray(IMAGES, jnp.bfloat16), THETA)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), stacked[0], atol=0.03)


def test_unknown_padding_is_refused():
    with pytest.raises(ValueError, match=r"padding: .*'zeros' or 'border'.* 'wrap'"):
        bilinear_sample(IMAGES, affine_grid(jnp.asarray(THETA), 5, 7), "wrap")
