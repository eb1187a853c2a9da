"""Residual networks for small faces, trained from scratch."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.models.convolution import conv2d, strided_conv2d
from fexpr.models.layers import Dense, Dropout, check_arguments
from fexpr.models.max_pool import max_pool
from fexpr.models.normalization import BatchNorm

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
        if self.stem:
            counts["stem"] = self.stem
        check_arguments(
            "ResNet",
            counts | _stage_counts(self),
            {"dropout": self.dropout},
            _unequal_stages(self),
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


class PooledResNet(nn.Module):
    """A residual network sized for CPU cores: a convolution, max-pooling, batch norm, ReLU; in each
    stage the same and then residual blocks; averages over a grid, dense K.

    images [B, H, W, C] -> logits float32 [B, num_classes]. After the ResNet9 of Page 2018 (How to
    train your ResNet, DAWNBench). Pooling comes before batch norm, as in Jordan 2024 (arXiv
    2404.00498): on a CPU, batch norm over whole maps takes as long as a convolution. With the
    defaults and 44x44x1 images 77 million multiply-adds; 1,044,439 parameters with 7 classes.

    Attributes:
      num_classes: K, logits.
      stem: channels of the first convolution.
      widths: channels of each stage.
      blocks: residual blocks of each stage.
      grid: the last maps are averaged over grid x grid parts, which may overlap; 1 = whole maps.
      dropout: rate before the dense layer, in training.
      axis_name: the mapped axis that shares a batch among devices, for batch statistics and
          dropout; None: one device.

    Raises:
      UserError: an argument is impossible.
    """

    num_classes: int
    stem: int = 48
    widths: tuple[int, ...] = (96, 192)
    blocks: tuple[int, ...] = (1, 1)
    grid: int = 2
    dropout: float = 0.3
    axis_name: str | None = None

    def __post_init__(self):
        counts = {"num_classes": self.num_classes, "stem": self.stem, "grid": self.grid}
        check_arguments(
            "PooledResNet",
            counts | _stage_counts(self),
            {"dropout": self.dropout},
            _unequal_stages(self),
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
        norm = partial(BatchNorm, self.axis_name)
        x = images
        names = ["stem", *(f"stage_{stage}" for stage in range(len(self.widths)))]
        widths, blocks = (self.stem, *self.widths), (0, *self.blocks)
        for name, width, count in zip(names, widths, blocks, strict=True):
            x = max_pool(Convolution(width, 3, name=f"{name}_conv")(x), 2, 2)
            x = nn.relu(norm(name=f"{name}_norm")(x, train, mask))
            for i in range(count):
                y = Convolution(width, 3, name=f"{name}_block_{i}_conv_0")(x)
                y = nn.relu(norm(name=f"{name}_block_{i}_norm_0")(y, train, mask))
                y = Convolution(width, 3, name=f"{name}_block_{i}_conv_1")(y)
                x = nn.relu(x + norm(name=f"{name}_block_{i}_norm_1")(y, train, mask))
        x = average_grid(x.astype(jnp.float32), self.grid).reshape(x.shape[0], -1)
        x = Dropout(self.dropout, self.axis_name)(x, train)
        return Dense(
            self.num_classes, kernel_init=he_normal, bias_init=nn.initializers.zeros, name="head"
        )(x)


def average_grid(
    x: Float[AnyArray, "B H W C"], parts: int
) -> Float[AnyArray, "B {parts} {parts} C"]:
    """Means over parts x parts rectangles: [B, H, W, C] -> [B, parts, parts, C], as PyTorch's
    AdaptiveAvgPool2d: part i spans floor(i H / parts) to ceil((i + 1) H / parts).
    """
    for axis in (1, 2):
        n = x.shape[axis]
        spans = [(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]
        means = [jax.lax.slice_in_dim(x, a, b, axis=axis).mean(axis) for a, b in spans]
        x = jnp.stack(means, axis)
    return x


def _stage_counts(net: ResNet | PooledResNet) -> dict[str, int]:
    fields = {"widths": net.widths, "blocks": net.blocks}
    return {f"{name}[{i}]": n for name, values in fields.items() for i, n in enumerate(values)}


def _unequal_stages(net: ResNet | PooledResNet) -> list[str]:
    if len(net.widths) == len(net.blocks) > 0:
        return []
    return [f"blocks: expected as many as widths ({len(net.widths)}), found {len(net.blocks)}"]


class Convolution(nn.Module):
    """A convolution without bias: x [B, H, W, I] -> [B, ceil(H / stride), ceil(W / stride),
    features]; kernel HWIO.
    """

    features: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B H W I"]) -> Float[Array, "B h w O"]:
        kernel = self.param("kernel", he_normal, (self.size, self.size, x.shape[-1], self.features))
        return conv2d(x, kernel) if self.stride == 1 else strided_conv2d(x, kernel, self.stride)
