"""SimpleAUCNN: the small convolutional network that the action-unit notebook starts from (seed 000)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from fexpr.models.convolution import max_pool
from fexpr.models.layers import Conv, Dense, check_arguments


class SimpleAUCNN(nn.Module):
    """Two 3x3 convolutions (16, 32) with ReLU and 2x2 pooling, dense 128 with ReLU, dense K.

    images float32 or bfloat16 [B, H, W, C] -> logits float32 [B, num_classes] (the notebook's network ends in a sigmoid).
    PyTorch's default initialisation. The flattened features are in (h, w, c) order.

    Attributes:
      num_classes: K, logits.

    Raises:
      UserError: num_classes is not a whole number above 0.
    """

    num_classes: int

    def __post_init__(self):
        check_arguments("SimpleAUCNN", {"num_classes": self.num_classes})
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """`train` and `mask` are of no use here (no dropout, no batch statistics); all models are called alike."""
        del train, mask
        x = max_pool(nn.relu(Conv(16, name="conv_0")(images)), window=2, stride=2)
        x = max_pool(nn.relu(Conv(32, name="conv_1")(x)), window=2, stride=2)
        x = nn.relu(Dense(128, name="hidden")(x.reshape(len(x), -1)))
        return Dense(self.num_classes, name="head")(x.astype(jnp.float32))
