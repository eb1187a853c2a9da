"""ResNet50 as VGGFace2 trained it (Cao et al., VGGFace2, 2018), in the layout of keras-vggface."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.models.classifiers import KERAS, keras_norm
from fexpr.models.convolution import strided_conv2d
from fexpr.models.layers import check_arguments
from fexpr.models.max_pool import max_pool
from fexpr.models.vggface import SIDE, Top, prepared


class VGGFaceResNet50(nn.Module):
    """A 7x7 convolution, max-pooling, four stages of bottleneck blocks, mean; `top`.

    images [B, H, W, C] in 0 … 255 -> logits float32 [B, num_classes]. Layers are called as in
    keras-vggface with _ for /: conv1_7x7_s2, conv2_1_1x1_reduce, …, each with its batch norm, …_bn
    (epsilon 1e-3). A stage's stride is on its FIRST 1x1 convolution and on the projection beside
    it. 23,561,152 parameters with the moving statistics, as Keras counts (23,508,032 trained). The
    defaults on 7 classes are the network of Angel 2021, 25,666,503; `hidden=()` with 8631 classes
    identifies people.

    The mean is over all places, whatever the image's size: at 224 that is keras-vggface's avg_pool
    of 7x7 on 7x7 maps.

    Attributes:
      num_classes: K, logits.
      hidden, dropout: dense layers of the top, and the rate after each.
      image_size: pixels, side that images are scaled to; published weights were trained at 224.
      width: channels of the first convolution; stages have 1, 2, 4, 8 times as many, four times
          that at their ends.
      blocks: of each stage.
      remat: compute each block again in the backward pass, rather than keep its maps: less memory
          for a third more time.
      axis_name: the mapped axis that shares a batch among devices, for batch statistics and
          dropout; None: one device.

    Raises:
      UserError: an argument is impossible, or the images are neither grey nor RGB.
    """

    VERSION: ClassVar[int] = 2  # version of the mean image

    num_classes: int
    hidden: tuple[int, ...] = (1024,)
    dropout: float = 0.0
    image_size: int = SIDE
    width: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    remat: bool = False
    axis_name: str | None = None

    def __post_init__(self):
        counts = {
            "num_classes": self.num_classes,
            "image_size": self.image_size,
            "width": self.width,
        }
        counts |= {
            f"{name}[{i}]": n
            for name in ("blocks", "hidden")
            for i, n in enumerate(getattr(self, name))
        }
        check_arguments("VGGFaceResNet50", counts, {"dropout": self.dropout})
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
        layer = partial(_layer, train=train, mask=mask)
        x = prepared(images, self.image_size, self.VERSION)
        x = max_pool(nn.relu(layer(self, x, "conv1_7x7_s2", self.width, 7, 2)), window=3, stride=2)
        for stage, count in enumerate(self.blocks):
            for b in range(count):
                one = partial(
                    _bottleneck,
                    layer=layer,
                    name=f"conv{stage + 2}_{b + 1}",
                    width=self.width * 2**stage,
                    stride=2 if stage and not b else 1,
                    project=not b,
                )
                x = (nn.remat(one) if self.remat else one)(self, x)
        x = x.astype(jnp.float32).mean((1, 2))
        return Top(self.num_classes, self.hidden, self.dropout, self.axis_name, name="top")(
            x, train, mask
        )


def _bottleneck(module, x, layer, name, width, stride, project):
    y = nn.relu(layer(module, x, f"{name}_1x1_reduce", width, 1, stride))
    y = nn.relu(layer(module, y, f"{name}_3x3", width, 3))
    y = layer(module, y, f"{name}_1x1_increase", 4 * width, 1)
    return nn.relu(
        y + (layer(module, x, f"{name}_1x1_proj", 4 * width, 1, stride) if project else x)
    )


def _layer(module, x, name, features, size, stride=1, *, train, mask):
    """A convolution and its batch norm, which are layers of `module`."""
    x = Conv(features, size, stride, name=name)(x)
    return keras_norm(module.axis_name, f"{name}_bn")(x, train, mask)


class Conv(nn.Module):
    """A convolution without bias, TF's SAME padding, Keras' initial values."""

    features: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B H W I"]) -> Float[Array, "B h w O"]:
        kernel = self.param(
            "kernel", KERAS["kernel_init"], (self.size, self.size, x.shape[-1], self.features)
        )
        return strided_conv2d(x, kernel, self.stride)
