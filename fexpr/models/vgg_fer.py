"""A VGG network for 48x48 faces, trained from scratch: the most accurate of these models."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.models import layers
from fexpr.models.layers import Dropout, check_arguments
from fexpr.models.max_pool import max_pool
from fexpr.models.normalization import BatchNorm

# He et al. 2015, made for ReLU
HE = {"kernel_init": nn.initializers.he_normal(), "bias_init": nn.initializers.zeros}
Conv, Dense = partial(layers.Conv, **HE), partial(layers.Dense, **HE)


class VGGFER(nn.Module):
    """Blocks of 3x3 convolutions, each with batch norm and ReLU, and 2x2 pooling; dense layers with
    ReLU and dropout; dense K.

    images [B, H, W, C] -> logits float32 [B, num_classes]. The defaults are the network of
    Khaireddin and Chen (2021, arXiv 2105.03588): 73.28 % on FER2013, to their knowledge the best
    single network without other data, with SGD (Nesterov 0.9, weight decay 1e-4), a rate multiplied
    by 0.75 on a plateau, and flips, shifts, rotations, erasing and ten crops of 40x40. (A version
    of their published code validates on PrivateTest and tests on PublicTest.) Next is another VGG:
    VGG19 with batch norm and one dense layer, 73.11 %
    (github.com/WuJie1010/Facial-Expression-Recognition.Pytorch). So VGG is the strongest family.

    48x48x1 and 7 classes: 40,376,519 trained parameters, 35.7 million of them in the 4096-wide
    dense layers, which VGG19 does without. `hidden=(512,)` or `()` and narrower `widths` are the
    size for a CPU.

    Initial values by He et al. 2015. Convolutions are called conv_0, conv_1, … for
    `capture_intermediates`.

    Attributes:
      num_classes: K, logits.
      widths: channels of each block; each block halves the image.
      convolutions: of each block.
      hidden: width of each dense layer before the last.
      dropout: rate before every dense layer but the first, in training; without hidden layers,
          before the only one.
      axis_name: the mapped axis that shares a batch among devices, for batch statistics and
          dropout; None: one device.

    Raises:
      UserError: an argument is impossible.
    """

    num_classes: int
    widths: tuple[int, ...] = (64, 128, 256, 512)
    convolutions: int = 2
    hidden: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.2
    axis_name: str | None = None

    def __post_init__(self):
        counts = {"num_classes": self.num_classes, "convolutions": self.convolutions}
        counts |= {
            f"{name}[{i}]": n
            for name in ("widths", "hidden")
            for i, n in enumerate(getattr(self, name))
        }
        check_arguments("VGGFER", counts, {"dropout": self.dropout})
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
        for block, width in enumerate(self.widths):
            for i in range(block * self.convolutions, (block + 1) * self.convolutions):
                x = Conv(width, name=f"conv_{i}")(x)
                x = nn.relu(BatchNorm(self.axis_name, name=f"norm_{i}")(x, train, mask))
            x = max_pool(x, window=2, stride=2)
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.hidden):
            x = nn.relu(Dense(width, name=f"hidden_{i}")(x))
            x = Dropout(self.dropout, self.axis_name)(x, train)
        if not self.hidden:
            x = Dropout(self.dropout, self.axis_name)(x, train)
        return Dense(self.num_classes, name="head")(x.astype(jnp.float32))
