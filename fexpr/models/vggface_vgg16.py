"""VGG16 as VGGFace trained it (Parkhi et al., Deep Face Recognition, 2015), in the layout of
keras-vggface.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.models import layers
from fexpr.models.classifiers import KERAS
from fexpr.models.layers import check_arguments
from fexpr.models.max_pool import max_pool
from fexpr.models.vggface import SIDE, Top, prepared

Conv = partial(layers.Conv, **KERAS)
POOLINGS = ("avg", "flatten")


class VGGFaceVGG16(nn.Module):
    """Five blocks of 3x3 convolutions with ReLU, each followed by 2x2 pooling; `top`.

    images [B, H, W, C] in 0 … 255 -> logits float32 [B, num_classes]. Layers are called as in
    keras-vggface, conv1_1 … conv5_3: 14,714,688 parameters. The defaults on 7 classes are a Keras
    notebook's network, 14,847,815; `pooling='flatten', hidden=(4096, 4096)` with 2622 classes is
    the one that identifies people, 145,002,878.

    Attributes:
      num_classes: K, logits.
      pooling: of the last maps: 'avg' (over all places) or 'flatten'.
      hidden, dropout: dense layers of the top, and the rate after each.
      image_size: pixels, side that images are scaled to; published weights were trained at 224.
      widths, convolutions: channels and number of convolutions of each block.
      remat: compute each block again in the backward pass, rather than keep its maps: less memory
          for a third more time.
      axis_name: the mapped axis that shares a batch among devices, for dropout; None: one device.

    Raises:
      UserError: an argument is impossible, or the images are neither grey nor RGB.
    """

    VERSION: ClassVar[int] = 1  # version of the mean image

    num_classes: int
    pooling: str = "avg"
    hidden: tuple[int, ...] = (256,)
    dropout: float = 0.5
    image_size: int = SIDE
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    convolutions: tuple[int, ...] = (2, 2, 3, 3, 3)
    remat: bool = False
    axis_name: str | None = None

    def __post_init__(self):
        counts = {"num_classes": self.num_classes, "image_size": self.image_size}
        counts |= {
            f"{name}[{i}]": n
            for name in ("widths", "convolutions", "hidden")
            for i, n in enumerate(getattr(self, name))
        }
        wrong = (
            []
            if self.pooling in POOLINGS
            else [f"pooling: expected one of {', '.join(POOLINGS)}; found {self.pooling!r}"]
        )
        if len(self.widths) != len(self.convolutions):
            wrong.append(
                "widths and convolutions: expected as many of one as of the other, found "
                f"{self.widths} and {self.convolutions}"
            )
        check_arguments("VGGFaceVGG16", counts, {"dropout": self.dropout}, wrong)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        images: Num[AnyArray, "B H W C"],
        train: bool = False,
        mask: Bool[AnyArray, " B"] | None = None,
    ) -> Float[Array, "B K"]:
        x = prepared(images, self.image_size, self.VERSION)
        for block, (width, count) in enumerate(zip(self.widths, self.convolutions, strict=True), 1):
            one = partial(_block, block=block, width=width, count=count)
            x = (nn.remat(one) if self.remat else one)(self, x)
        if self.pooling == "avg":
            x = x.astype(jnp.float32).mean((1, 2))
        return Top(self.num_classes, self.hidden, self.dropout, self.axis_name, name="top")(
            x, train, mask
        )


def _block(module: nn.Module, x: AnyArray, block: int, width: int, count: int) -> jax.Array:
    for i in range(1, count + 1):
        x = nn.relu(Conv(width, name=f"conv{block}_{i}")(x))
    return max_pool(x, window=2, stride=2)
