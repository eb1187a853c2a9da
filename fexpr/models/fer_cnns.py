"""The small convolutional networks of published work on FER2013 and on digits, layer by layer
(docs/decisions.md, Publications).

The convolutions are called conv_0, conv_1, … in every network, for `capture_intermediates`. All
take images [B, H, W, C], 48x48x1 unless stated otherwise, and return logits float32 [B,
num_classes]; softmax is part of the loss. Parameter counts are for the published number of classes.
Keras' "Total params" also counts the two moving statistics of batch norm; the number of trained
parameters is given as well.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.models import layers
from fexpr.models.classifiers import KERAS, Dense, keras_norm
from fexpr.models.layers import Classifier, Dropout, check_arguments
from fexpr.models.max_pool import max_pool
from fexpr.models.normalization import BatchNorm

Conv = partial(layers.Conv, **KERAS)


class SimpleFERCNN(Classifier):
    """Two 3x3 convolutions (32, 64) with ReLU and 2x2 pooling, dense K (a Keras notebook). 83,335
    parameters with 7 classes; Keras' initial values."""

    def logits(self, images: Float[AnyArray, "B H W C"]) -> Float[Array, "B K"]:
        """float [B, H, W, C] -> float32 [B, K]."""
        x = images
        for i, features in enumerate((32, 64)):
            x = max_pool(nn.relu(Conv(features, name=f"conv_{i}")(x)), window=2, stride=2)
        return Dense(self.num_classes, name="head")(_flat32(x))


class ThesisCNN(nn.Module):
    """Four times: 3x3 convolution, ReLU, max-pool 3/2 (valid), batch norm, dropout; 64, 64, 256,
    256 filters; dense K (Angel 2021).

    785,095 parameters with 7 classes as Keras counts, 783,815 of them trained. Keras' initial
    values and batch norm. The thesis divides pixels by 255.

    Attributes:
      num_classes: K, logits.
      dropout: rate after each block, in training.
      axis_name: the mapped axis that shares a batch among devices, for batch statistics and
          dropout; None: one device.

    Raises:
      UserError: an argument is impossible.
    """

    num_classes: int
    dropout: float = 0.25
    axis_name: str | None = None

    def __post_init__(self):
        check_arguments("ThesisCNN", {"num_classes": self.num_classes}, {"dropout": self.dropout})
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
        x = images
        for i, features in enumerate((64, 64, 256, 256)):
            x = max_pool(nn.relu(Conv(features, name=f"conv_{i}")(x)), window=3, stride=2)
            x = keras_norm(self.axis_name, f"norm_{i}")(x, train, mask)
            x = Dropout(self.dropout, self.axis_name)(x, train)
        return Dense(self.num_classes, name="head")(_flat32(x))


class DoubleConvCNN(nn.Module):
    """Three blocks of twice [3x3 convolution, ReLU, batch norm], then 2x2 pooling; 32, 64, 128
    filters; dropout, dense 1024 with ReLU, dropout, dense K (a PyTorch notebook).

    5,014,119 parameters with 7 classes (PyTorch counts what is trained). PyTorch's initial values.
    The published code calls `F.dropout(x, p)` without `training`, so that its dropout stays on in
    testing. Here it does not.

    Attributes:
      num_classes: K, logits.
      dropout: rate before and after dense 1024, in training.
      axis_name: the mapped axis that shares a batch among devices, for batch statistics and
          dropout; None: one device.

    Raises:
      UserError: an argument is impossible.
    """

    num_classes: int
    dropout: tuple[float, float] = (0.5, 0.2)
    axis_name: str | None = None

    def __post_init__(self):
        rates = {f"dropout[{i}]": rate for i, rate in enumerate(self.dropout)}
        wrong = [] if len(rates) == 2 else [f"dropout: expected two rates, found {self.dropout}"]
        check_arguments("DoubleConvCNN", {"num_classes": self.num_classes}, rates, wrong)
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
        x = images
        for i, features in enumerate((32, 32, 64, 64, 128, 128)):
            x = nn.relu(layers.Conv(features, name=f"conv_{i}")(x))
            x = BatchNorm(self.axis_name, name=f"norm_{i}")(x, train, mask)
            if i % 2:
                x = max_pool(x, window=2, stride=2)
        before, after = self.dropout
        x = Dropout(before, self.axis_name)(x.reshape(x.shape[0], -1), train)
        x = nn.relu(layers.Dense(1024, name="hidden")(x))
        x = Dropout(after, self.axis_name)(x, train)
        return layers.Dense(self.num_classes, name="head")(x.astype(jnp.float32))


class DigitsCNN(Classifier):
    """Convolutions 256 (3x3 valid), 128 (2x2 valid), 64 and 64 (2x2 same), each with ReLU and 2x2
    pooling; dense K (Angel 2021).

    28x28x1 and 10 classes: 183,690 parameters. Keras' initial values; the thesis divides pixels by
    255.
    """

    def logits(self, images: Float[AnyArray, "B H W C"]) -> Float[Array, "B K"]:
        """float [B, H, W, C] -> float32 [B, K]."""
        x = images
        for i, (features, size, padding) in enumerate(
            ((256, 3, "VALID"), (128, 2, "VALID"), (64, 2, "SAME"), (64, 2, "SAME"))
        ):
            x = max_pool(
                nn.relu(Conv(features, size, padding, name=f"conv_{i}")(x)), window=2, stride=2
            )
        return Dense(self.num_classes, name="head")(_flat32(x))


def _flat32(x: AnyArray) -> AnyArray:
    """Flattened in (h, w, c) order, and float32 for the logits."""
    return x.reshape(x.shape[0], -1).astype(jnp.float32)
