"""A trained network as a pytree, and its predictions for any number of images with one
compilation.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import PyTree

from fexpr.arrays import AnyArray
from fexpr.train import devices
from fexpr.train.state import Model
from fexpr.train.views import normalized, predict_views, recentred, views

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Num, Shaped

# images per forward pass: with more, activations leave a CPU's caches (the thesis CNN: 1628 images
# a second, by 64 1094)
BATCH = 16


@struct.dataclass
class Network:
    """A trained model and the normalisation of its images. A pytree: an argument of jitted
    functions, one program for all trials.

    Attributes:
      variables: what `model.apply` takes. mean, std: float32 [C] or [H, W, C], in 0..255.
      precision: of activations. tta, crop, kind, normalize: how an image becomes the model's input,
          as in fexpr/train/views.py.
    """

    model: Model = struct.field(pytree_node=False)
    precision: str = struct.field(pytree_node=False)
    tta: str = struct.field(pytree_node=False)
    variables: PyTree
    mean: Float[jax.Array, "*HxW C"]
    std: Float[jax.Array, "*HxW C"]
    crop: int = struct.field(pytree_node=False, default=0)
    kind: str = struct.field(pytree_node=False, default="face")
    normalize: str = struct.field(pytree_node=False, default="standardize")

    def normalized(self, images: Float[AnyArray, "B H W C"]) -> Float[jax.Array, "B h w C"]:
        """The model's input for images float32 [B, H, W, C] in 0..255."""
        (shown,) = views(recentred(images, self.normalize), "none", self.crop, self.kind)
        return jnp.asarray(normalized(shown, self.mean, self.std, self.precision))

    def __call__(self, images: Float[AnyArray, "B H W C"]) -> Float[jax.Array, "B K"]:
        """Logits float32 [B, K] of images float32 [B, H, W, C] in 0..255, of this one view."""
        return self._predict(images, "none")

    def predict(self, images: Float[AnyArray, "B H W C"]) -> Float[jax.Array, "B K"]:
        """Logits averaged over all views, as in predictions.npz."""
        return self._predict(images, self.tta)

    def _predict(self, images: AnyArray, tta: str) -> jax.Array:
        return predict_views(
            self.model,
            self.variables,
            images,
            self.mean,
            self.std,
            self.precision,
            tta,
            self.crop,
            self.kind,
            self.normalize,
        )


def in_batches(
    function: Callable[[np.ndarray], jax.Array],
    rows: Shaped[np.ndarray, "N ..."],
    size: int = BATCH,
    threads: int = 0,
) -> Shaped[np.ndarray, "N ..."]:
    """Applies `function`, which maps rows [size, ...] to as many rows, to N > 0 rows. The last
    batch is padded, so that a single compilation serves any N.

    Args:
      threads: batches computed at the same time; 0: one for each core of a CPU, where a convolution
          uses a single core, else one.
    """

    def batch(start: int) -> np.ndarray:
        part = rows[start : start + size]
        filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        return np.asarray(function(filled))[: len(part)]

    first, *others = range(0, len(rows), size)
    done = [batch(first)]  # compiles
    with concurrent.futures.ThreadPoolExecutor(threads or _cores()) as pool:
        return np.concatenate([*done, *pool.map(batch, others)])


def _cores() -> int:
    return devices.cpu_cores() if jax.default_backend() == "cpu" else 1


@jax.jit
def predict(network: Network, images: Num[jax.Array, "B H W C"]) -> Float[jax.Array, "B K"]:
    """Images uint8 [B, H, W, C] -> logits float32 [B, K]."""
    return network.predict(images.astype(jnp.float32))
