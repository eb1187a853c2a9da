"""From images in 0..255 to logits: centring, normalisation, and test-time augmentation by views of
an image whose predictions are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num, PyTree

from fexpr.arrays import AnyArray
from fexpr.train.image_changes import mirror
from fexpr.train.state import Data, Model, Recipe, Trial

# pixels: without a crop, the four corners of 42 pixels of a 48-pixel face, as shifts with a
# repeated border
CROP_SHIFT = 3
MIDDLE = 127.5  # of 0..255; a mirrored map keeps it: 255 - 127.5


def input_shape(shape: Sequence[int], crop: int) -> tuple[int, int, int]:
    """The shape of a model's input for images of this shape [H, W, C]."""
    height, width, channels = shape
    return (crop, crop, channels) if crop else (height, width, channels)


def views(
    images: Float[AnyArray, "B H W C"], name: str, crop: int = 0, kind: str = "face"
) -> list[Float[AnyArray, "B h w C"]]:
    """The views of images [B,H,W,C]: 'none' (the images), 'flip' (also mirrored by `mirror`),
    'flip_crop' (both, also shifted to the four corners). With a crop, the images are the middle
    squares of that side, and 'flip_crop' the ten crops of Krizhevsky et al. 2012: middle and
    corners, each mirrored too.
    """
    height, width = images.shape[1:3]
    s = CROP_SHIFT
    middle, ends = (0, 0), ((0, 0), (0, 2 * s), (2 * s, 0), (2 * s, 2 * s))
    if crop:
        down, right = height - crop, width - crop
        middle, ends = (down // 2, right // 2), ((0, 0), (0, right), (down, 0), (down, right))
    size = (crop, crop) if crop else (height, width)

    def cut(x: AnyArray, corner: tuple[int, int]) -> AnyArray:
        return x[:, corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]

    if name == "none":
        return [cut(images, middle)]
    both = [images, mirror(images, kind)]
    if name == "flip":
        return [cut(v, middle) for v in both]
    wide = (
        both if crop else [jnp.pad(v, ((0, 0), (s, s), (s, s), (0, 0)), mode="edge") for v in both]
    )
    return [*(cut(v, middle) for v in both), *(cut(v, end) for v in wide for end in ends)]


def mean_prediction(logits: Sequence[Float[AnyArray, "B K"]]) -> Float[Array, "B K"]:
    """Logits [B,K] of V views -> the logarithm of their mean class probabilities; with one view,
    its logits unchanged.
    """
    if len(logits) == 1:
        return jnp.asarray(logits[0])
    return jax.nn.logsumexp(jnp.stack([jax.nn.log_softmax(v) for v in logits]), axis=0) - jnp.log(
        float(len(logits))
    )


def recentred(images: Float[AnyArray, "B H W C"], normalize: str) -> Float[AnyArray, "B H W C"]:
    """Images float32 [B, H, W, C] in 0..255; with normalize='median' each channel of each image is
    shifted so that its own median is MIDDLE.

    Applied before everything else, so that mirrored, shifted, cropped and erased images have the
    same zero.
    """
    return images - medians(images) + MIDDLE if normalize == "median" else images


def medians(images: Float[AnyArray, "B H W C"]) -> Float[AnyArray, "B 1 1 C"]:
    """The median of each channel of images [B, H, W, C] in 0..255: [B, 1, 1, C].

    As numpy.median, exact for whole numbers, otherwise to 1/256. By bisection: sorting pixels takes
    a CPU longer than a small network.
    """
    count = images.shape[1] * images.shape[2]
    rank = (count - 1) // 2 + 1  # rank of the lower of the two middle values

    def not_above(level: jax.Array) -> jax.Array:
        return (images <= level).sum((1, 2), keepdims=True)

    high = jnp.full_like(images[:, :1, :1], 255.0)
    step = 128.0
    for _ in range(16):
        high = jnp.where(not_above(high - step) >= rank, high - step, high)
        step /= 2
    upper = jnp.where(images > high, images, jnp.inf).min((1, 2), keepdims=True)
    odd = count % 2 == 1
    return jnp.where(odd | (not_above(high) > rank), high, (high + upper) / 2)


def normalized(
    images: Float[AnyArray, "B H W C"],
    mean: Float[AnyArray, "*HxW C"],
    std: Float[AnyArray, "*HxW C"],
    precision: str,
) -> Float[AnyArray, "B H W C"]:
    """A model's input for images float32 [B,H,W,C] in 0..255, in the type in which it computes.
    mean, std: [C] or [H,W,C].
    """
    lead = (None,) * (images.ndim - mean.ndim)
    return ((images - mean[lead]) / std[lead]).astype(precision)


def predict_views(
    model: Model,
    variables: PyTree,
    images: Float[AnyArray, "B H W C"],
    mean: Float[AnyArray, "*HxW C"],
    std: Float[AnyArray, "*HxW C"],
    precision: str,
    tta: str,
    crop: int = 0,
    kind: str = "face",
    normalize: str = "standardize",
) -> Float[Array, "B K"]:
    """Logits float32 [B,K] of images float32 [B,H,W,C] in 0..255, over the views of `tta`. kind: of
    the images, as in Augment. normalize: of the run's config.train.
    """
    image_views = views(recentred(images, normalize), tta, crop, kind)
    inputs = (normalized(view, mean, std, precision) for view in image_views)
    return mean_prediction(
        [model.apply(variables, view, train=False).astype(jnp.float32) for view in inputs]
    )


def passes(recipe: Recipe, rows: int) -> tuple[int, int]:
    """The number of forward passes for this many rows, and the rows per device in one pass."""
    each = min(recipe.train.eval_batch, -(-rows // recipe.data_devices))
    return -(-rows // (recipe.data_devices * each)), each


def predict_pass(
    recipe: Recipe, data: Data, trial: Trial, variables: PyTree, number: Int[ArrayLike, ""]
) -> Float[Array, "rows K"]:
    """Logits of the trial's eval_rows of one forward pass, 0 .. passes - 1, of all devices on
    `data`: float32 [devices x rows, K].
    """
    d, (count, each) = recipe.data_devices, passes(recipe, len(trial.eval_rows))
    rows = jnp.pad(trial.eval_rows, (0, count * d * each - len(trial.eval_rows))).reshape(
        count, d, each
    )[number]
    rows = rows[jax.lax.axis_index("data")] if d > 1 else rows[0]
    return _forward_batches(
        recipe, trial, variables, rows[None], lambda rows_B: data.images[rows_B]
    )


def predict(recipe: Recipe, data: Data, trial: Trial, variables: PyTree) -> Float[Array, "m K"]:
    """Logits of all of the trial's eval_rows, float32 [m, K]."""
    m = len(trial.eval_rows)
    logits = jax.lax.map(
        lambda i: predict_pass(recipe, data, trial, variables, i), jnp.arange(passes(recipe, m)[0])
    )
    return logits.reshape(-1, logits.shape[-1])[:m]


def predict_images(
    recipe: Recipe, trial: Trial, variables: PyTree, images: Num[AnyArray, "R H W C"]
) -> Float[Array, "rows K"]:
    """Logits of images that are not in the data: from a device's share uint8 [R, H, W, C], float32
    [R x devices, K] for all shares.
    """
    count = -(-len(images) // recipe.train.eval_batch)
    padded = jnp.pad(
        images, ((0, count * recipe.train.eval_batch - len(images)), (0, 0), (0, 0), (0, 0))
    )
    logits = _forward_batches(
        recipe,
        trial,
        variables,
        padded.reshape(count, -1, *images.shape[1:]),
        lambda images_B: images_B,
    )
    return logits.reshape(recipe.data_devices, count * recipe.train.eval_batch, -1)[
        :, : len(images)
    ].reshape(-1, logits.shape[-1])


def _forward_batches(
    recipe: Recipe,
    trial: Trial,
    variables: PyTree,
    batches: jax.Array,
    images_of: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Logits of passes [P, B, ...], those of all devices one after the other: float32 [devices x P
    x B, K].
    """

    def forward(batch):
        images = recentred(images_of(batch).astype(jnp.float32), recipe.train.normalize)
        image_views = views(images, recipe.train.tta, recipe.crop, recipe.augment.kind)
        inputs = [normalized(v, trial.mean, trial.std, recipe.train.precision) for v in image_views]
        # one view after the other, so that the network is compiled only once
        return mean_prediction([*jax.lax.map(apply, jnp.stack(inputs))])

    def apply(view):
        return recipe.model.apply(variables, view, train=False).astype(jnp.float32)

    logits = jax.lax.map(forward, batches) if len(batches) > 1 else forward(batches[0])[None]
    if recipe.data_devices > 1:
        logits = jax.lax.all_gather(logits, "data")
    return logits.reshape(-1, logits.shape[-1])
