"""Classifiers of flattened pixels: multinomial logistic regression and the multilayer perceptron
(Angel 2021).
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.models import layers
from fexpr.models.layers import Classifier, Dropout, check_arguments
from fexpr.models.normalization import BatchNorm

# Keras' initial values
KERAS = {"kernel_init": nn.initializers.glorot_uniform(), "bias_init": nn.initializers.zeros}
Dense = partial(layers.Dense, **KERAS)


def keras_norm(axis_name: str | None, name: str) -> BatchNorm:
    """Batch normalisation with Keras' defaults."""
    return BatchNorm(axis_name, momentum=0.99, epsilon=1e-3, name=name)


class Logistic(Classifier):
    """Multinomial logistic regression: one dense layer on the flattened pixels.

    The loss is convex: it can start from zeros, which give every class the same probability.
    48x48x1 and 7 classes: 2304 * 7 + 7 = 16,135 parameters.
    """

    def logits(self, images: Float[AnyArray, "B H W C"]) -> Float[Array, "B K"]:
        """float [B, H, W, C] -> float32 [B, K]."""
        x = images.reshape(images.shape[0], -1).astype(jnp.float32)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")(x)


class MLP(nn.Module):
    """Dense layers with ReLU on the flattened pixels. images [B, H, W, C] -> logits float32 [B,
    num_classes].

    The defaults are those of Angel 2021: 288-128-64-64, then, after the LAST hidden layer only,
    batch normalisation and dropout. At 48x48x1 and 7 classes that is Keras' "Total params:
    713,959", which counts the moving mean and variance (64 each); 713,831 are trained. Its digits
    network, hidden (190, 128, 64, 64) without batch norm and dropout: 186,664 at 28x28x1, 10
    classes.

    Keras' initial values and batch norm (momentum 0.99, epsilon 1e-3). The thesis divides pixels by
    255.

    Attributes:
      num_classes: K, logits.
      hidden: width of each hidden layer, first to last.
      batch_norm: whether there is batch normalisation.
      dropout: rate, in training.
      axis_name: the mapped axis that shares a batch among devices, for batch statistics and
          dropout; None: one device.

    Raises:
      UserError: an argument is impossible.
    """

    num_classes: int
    hidden: tuple[int, ...] = (288, 128, 64, 64)
    batch_norm: bool = True
    dropout: float = 0.25
    axis_name: str | None = None

    def __post_init__(self):
        widths = {f"hidden[{i}]": width for i, width in enumerate(self.hidden)}
        check_arguments(
            "MLP", {"num_classes": self.num_classes} | widths, {"dropout": self.dropout}
        )
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        images: Num[AnyArray, "B H W C"],
        train: bool = False,
        mask: Bool[AnyArray, " B"] | None = None,
    ) -> Float[Array, "B K"]:
        """mask: bool [B], True for the real rows of a padded batch: the only ones that batch
        statistics are taken over.
        """
        x = images.reshape(images.shape[0], -1)
        for i, width in enumerate(self.hidden):
            x = nn.relu(Dense(width, name=f"hidden_{i}")(x))
        if self.batch_norm:
            x = keras_norm(self.axis_name, "norm")(x, train, mask)
        x = Dropout(self.dropout, self.axis_name)(x, train)
        return Dense(self.num_classes, name="head")(x.astype(jnp.float32))
