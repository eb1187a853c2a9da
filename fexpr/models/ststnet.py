"""STSTNet: a shallow triple-stream network for flow maps (Liong et al., FG 2019, arXiv
1902.03634).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.models.layers import Conv, Dense, Dropout, check_arguments
from fexpr.models.max_pool import max_pool
from fexpr.models.normalization import BatchNorm

STREAMS = (3, 5, 8)  # filters of each stream


class STSTNet(nn.Module):
    """Three streams of one 3x3 convolution, ReLU, batch norm, max-pool 3/3 and dropout; joined,
    averaged 2x2, classified.

    images float32 or bfloat16 [B, H, W, C] -> logits float32 [B, num_classes]; 28x28 maps give
    5x5x16 = 400 features.

    The streams read the same image through kernels of the same size, and nothing in them mixes
    channels after the convolution: they ARE one convolution of 3 + 5 + 8 filters, and are computed
    as one. The channels are in the order of the streams.

    "Dense 400; classes" in descriptions of this network is read as the authors' PyTorch release has
    it: 400 is the number of pooled features, and the only dense layer maps them to the classes.
    (The release pads the convolution by 2, not by 1 as here: 30x30 instead of 28x28, both pooled to
    10x10, so that weights fit either way but outputs differ.)

    Attributes:
      num_classes: K, logits.
      dropout: rate after each stream, in training.
      axis_name: the mapped axis that shares a batch among devices, for synchronised batch
          statistics and dropout; None: one device.

    Raises:
      UserError: an argument is impossible.
    """

    num_classes: int
    dropout: float = 0.5
    axis_name: str | None = None

    def __post_init__(self):
        check_arguments("STSTNet", {"num_classes": self.num_classes}, {"dropout": self.dropout})
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
        x = nn.relu(Conv(sum(STREAMS), name="streams")(images))
        x = BatchNorm(self.axis_name, name="streams_norm")(x, train, mask)
        x = max_pool(x, window=3, stride=3, padding=1)
        x = Dropout(self.dropout, self.axis_name)(x, train)
        # nn.avg_pool divides by an integer array: not under strict promotion
        x = nn.pool(x, 0.0, lax.add, (2, 2), (2, 2), "VALID") / 4
        return Dense(self.num_classes, name="head")(x.reshape(x.shape[0], -1).astype(jnp.float32))
