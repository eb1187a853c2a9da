"""A residual network for small faces, trained from scratch."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from fexpr.models.convolution import conv2d, strided_conv2d
from fexpr.models.layers import BatchNorm, Dense, Dropout, check_arguments

he_normal = nn.initializers.he_normal()  # He et al. 2015, made for ReLU


class ResNet(nn.Module):
    """Residual blocks of two 3x3 convolutions (He et al. 2016, arXiv 1512.03385), batch norm,
    global average pooling, dense K.

    images [B, H, W, C] of any size -> logits float32 [B, num_classes]. The first convolution is
    3x3, as for CIFAR; each stage but the first halves the image. The last scale of a block begins
    at 0, so that a new block is the identity (Goyal et al. 2017, arXiv 1706.02677). The defaults
    are ResNet18: 11,171,271 trained parameters for 48x48x1 and 7 classes.

    Attributes:
      num_classes: K, logits.
      widths: channels of each stage.
      blocks: residual blocks of each stage.
      stem: channels of the first convolution; 0 = those of the first stage.
      stem_stride: 2 halves the image there: a quarter of the arithmetic.
      dropout: rate before the dense layer, in training.
      axis_name: the mapped axis that shares a batch among devices, for batch statistics and
          dropout; None: one device.

    Raises:
      UserError: an argument is impossible.
    """

    num_classes: int
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    stem: int = 0
    stem_stride: int = 1
    dropout: float = 0.0
    axis_name: str | None = None

    def __post_init__(self):
        counts = {"num_classes": self.num_classes, "stem_stride": self.stem_stride}
        counts |= {
            f"{name}[{i}]": n
            for name in ("widths", "blocks")
            for i, n in enumerate(getattr(self, name))
        }
        if self.stem:
            counts["stem"] = self.stem
        same = len(self.widths) == len(self.blocks) > 0
        problems = (
            []
            if same
            else [
                f"blocks: expected as many as widths ({len(self.widths)}), found {len(self.blocks)}"
            ]
        )
        check_arguments("ResNet", counts, {"dropout": self.dropout}, problems)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """mask: bool [B], True for the real rows of a padded batch: the only ones that batch
        statistics are taken over.
        """
        norm = partial(BatchNorm, self.axis_name)
        x = Convolution(self.stem or self.widths[0], 3, self.stem_stride, name="stem")(images)
        x = nn.relu(norm(name="stem_norm")(x, train, mask))
        for stage, (width, count) in enumerate(zip(self.widths, self.blocks, strict=True)):
            for i in range(count):
                stride, name = (2 if stage > 0 and i == 0 else 1), f"stage_{stage}_block_{i}"
                y = Convolution(width, 3, stride, name=f"{name}_conv_0")(x)
                y = nn.relu(norm(name=f"{name}_norm_0")(y, train, mask))
                y = Convolution(width, 3, name=f"{name}_conv_1")(y)
                y = norm(scale_init=nn.initializers.zeros, name=f"{name}_norm_1")(y, train, mask)
                if x.shape != y.shape:
                    x = Convolution(width, 1, stride, name=f"{name}_shortcut")(x)
                    x = norm(name=f"{name}_shortcut_norm")(x, train, mask)
                x = nn.relu(x + y)
        x = Dropout(self.dropout, self.axis_name)(x.astype(jnp.float32).mean((1, 2)), train)
        return Dense(
            self.num_classes, kernel_init=he_normal, bias_init=nn.initializers.zeros, name="head"
        )(x)


class Convolution(nn.Module):
    """A convolution without bias: x [B, H, W, I] -> [B, ceil(H / stride), ceil(W / stride),
    features]; kernel HWIO.
    """

    features: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", he_normal, (self.size, self.size, x.shape[-1], self.features))
        return conv2d(x, kernel) if self.stride == 1 else strided_conv2d(x, kernel, self.stride)
