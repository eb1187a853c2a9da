"""The rows of a data set as inputs of machines: centred and scaled like a network's input, with
their mirror images, and with all inner products computed once. A trial's own unit for each channel
(from its training rows only) only weights that channel's inner products, so kernel matrices are not
computed from pixels again.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from fexpr.errors import UserError
from fexpr.train.image_changes import mirror
from fexpr.train.views import MIDDLE, recentred

NORMALIZATIONS = ("standardize", "median", "unit", "symmetric", "none")


class Task(NamedTuple):
    """The rows on which a machine is fitted, and those that it scores: row numbers, labels int [N]
    of all rows, the number of classes, and a weight for each class [K].
    """

    train: Int[np.ndarray, " train"]
    where: Int[np.ndarray, " where"]
    labels: Int[np.ndarray, " N"]
    classes: int
    weights: Float[np.ndarray, " K"]


class Rows:
    """N rows, and with `mirrored` their mirror images as rows N to 2N - 1.

    Args:
      images: uint8 [N, H, W, C], or feature vectors float32 [N, 1, 1, F], which have no mirror
        images.
      kind: as in Dataset. normalize: one of NORMALIZATIONS, as in config.train.
      train_mirrored: mirror images are fitted on too. test_mirrored: scores are the mean of those
        of a row and of its mirror image.

    Raises:
      UserError: another normalisation; mirror images of vectors.
    """

    def __init__(
        self,
        images: Num[np.ndarray, "N H W C"],
        kind: str,
        normalize: str,
        train_mirrored: bool = False,
        test_mirrored: bool = False,
    ):
        self.vectors = images.dtype != np.uint8
        allowed = ("standardize", "none") if self.vectors else NORMALIZATIONS
        if normalize not in allowed:
            raise UserError(
                f"train.normalize={normalize!r}: machines only support one unit per channel",
                fix=f"choose one of {', '.join(allowed)}",
            )
        if self.vectors and (train_mirrored or test_mirrored):
            raise UserError(
                "feature vectors have no mirror images",
                fix="set augment.flip=0 and train.tta=none",
            )
        self.count, self.normalize = len(images), normalize
        self.train_mirrored, self.test_mirrored = train_mirrored, test_mirrored
        pixels = images.astype(np.float32)
        if not self.vectors:
            pixels = np.asarray(jax.jit(recentred, static_argnums=1)(pixels, normalize))
        views = [pixels, mirror(pixels, kind)] if train_mirrored or test_mirrored else [pixels]
        # [V, pixel, channel]; of vectors a feature is a channel
        self._views = np.concatenate(views).reshape(-1, images[0, ..., 0].size, images.shape[-1])
        own = self._views[: self.count].astype(np.float64)
        self._sums = np.stack([own.mean(1), np.square(own).mean(1)])  # [2, N, C]
        self._products = None if self.vectors else _products_of_channels(self._views)

    def scaling(
        self, train: Int[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
        """Mean and unit of each channel [C], from these rows only; as in
        `image_statistics.statistics`.
        """
        channels = self._views.shape[-1]
        zero, one = np.zeros(channels), np.ones(channels)
        if self.normalize == "none":
            return zero, one
        if self.normalize in ("unit", "symmetric"):
            half = MIDDLE * (self.normalize == "symmetric")
            return zero + half, one * (255 - half)
        mean, square = self._sums[:, train].mean(1)
        if self.normalize == "median":
            # (x - m)^2 on average, with m fixed
            square, mean = square - 2 * MIDDLE * mean + 2 * MIDDLE**2, zero + MIDDLE
        std = np.sqrt(np.maximum(square - mean**2, 0))
        return mean, np.where(std > 0, std, 1) if self.vectors else np.maximum(std, 1)

    def train_views(self, train: Int[np.ndarray, " n"]) -> Int[np.ndarray, " views"]:
        """The views for fitting: row numbers, then those of their mirror images."""
        return np.concatenate([train, train + self.count]) if self.train_mirrored else train

    def repeated(self, values: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " views"]:
        """Repeats values of training rows for each of `train_views`."""
        return np.tile(values, 2) if self.train_mirrored else values

    def test_views(self, where: Int[np.ndarray, " n"]) -> Int[np.ndarray, " views"]:
        """The views for predictions, as `train_views`."""
        return np.concatenate([where, where + self.count]) if self.test_mirrored else where

    def mean_of_views(self, scores: Float[np.ndarray, "views ..."]) -> Float[np.ndarray, "R ..."]:
        """Averages scores [views, ...] of `test_views` over the views of each row."""
        return scores.reshape(2, -1, *scores.shape[1:]).mean(0) if self.test_mirrored else scores

    def products(self, train: Int[np.ndarray, " n"]) -> Float[np.ndarray, "V V"]:
        """Inner products [V, V] of all views, centred on the training views' mean and in units of
        their mean square distance from it: a typical row has length 1.
        """
        mean, unit = self.scaling(train)
        if self._products is None:  # of vectors
            scaled = self._scaled(mean, unit)
            products = scaled @ scaled.T
        else:
            products = np.tensordot(unit**-2, self._products, 1)
        fitted = self.train_views(train)
        columns = products[:, fitted].mean(1)
        products = products - columns[:, None] - columns[None] + columns[fitted].mean()
        return products / products[fitted, fitted].mean()

    def coordinates(
        self, train: Int[np.ndarray, " n"], components: int
    ) -> Float[np.ndarray, "V D"]:
        """Coordinates float64 [V, components] of all views: principal components of the training
        views, in units of the first one's deviation; of vectors with components=0 the scaled
        features.

        Raises:
          UserError: more components than the training views span; 0 components with images.
        """
        if self.vectors and not components:
            return self._scaled(*self.scaling(train))
        fitted = self.train_views(train)
        rank = len(fitted) - 1
        if not 0 < components <= rank:
            raise UserError(
                f"model.components={components}, but {len(train)} training rows span at most "
                f"{rank} components",
                fix=f"choose from 1 to {rank}",
            )
        products = self.products(train)
        values, vectors = np.linalg.eigh(products[np.ix_(fitted, fitted)])
        values, vectors = values[::-1][:components], vectors[:, ::-1][:, :components]
        lengths = np.sqrt(np.maximum(values, values[0] * 1e-12))
        return products[:, fitted] @ (vectors / lengths) * np.sqrt(len(fitted)) / lengths[0]

    def _scaled(self, mean: np.ndarray, unit: np.ndarray) -> np.ndarray:
        return ((self._views.astype(np.float64) - mean) / unit).reshape(len(self._views), -1)


def _products_of_channels(views: np.ndarray) -> np.ndarray:
    """Inner products of each channel alone, float64 [C, V, V], centred on MIDDLE to reduce rounding
    errors.
    """
    centred = views.astype(np.float64) - MIDDLE
    return np.stack([channel @ channel.T for channel in centred.transpose(2, 0, 1)])
