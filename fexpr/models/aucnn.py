"""SimpleAUCNN: the small convolutional network of a public notebook on SAMM's action units
(docs/decisions.md).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fexpr.arrays import AnyArray
from fexpr.models.layers import Classifier, Conv, Dense
from fexpr.models.max_pool import max_pool


class SimpleAUCNN(Classifier):
    """Two 3x3 convolutions (16, 32) with ReLU and 2x2 pooling, dense 128 with ReLU, dense K.

    The notebook's network ends in a sigmoid, this one does not. Initial values are PyTorch's. The
    flattened features are in (h, w, c) order.
    """

    def logits(self, images: Float[AnyArray, "B H W C"]) -> Float[Array, "B K"]:
        """float [B, H, W, C] -> float32 [B, K]."""
        x = max_pool(nn.relu(Conv(16, name="conv_0")(images)), window=2, stride=2)
        x = max_pool(nn.relu(Conv(32, name="conv_1")(x)), window=2, stride=2)
        x = nn.relu(Dense(128, name="hidden")(x.reshape(x.shape[0], -1)))
        return Dense(self.num_classes, name="head")(x.astype(jnp.float32))
