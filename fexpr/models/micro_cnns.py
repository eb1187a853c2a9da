"""Shallow networks of the micro-expression literature, beside STSTNet: SSSNet, Off-ApexNet, RCN-A,
as in the MEB benchmark (docs/decisions.md, Publications).

All take flow maps float32 or bfloat16 [B, H, W, C] whose channels are horizontal flow, vertical
flow and strain, once or for several maps of a clip, and return logits float32 [B, num_classes].
`axis_name` is the mapped axis that shares a batch among devices, None: one device; `mask`, bool
[B], is True for the real rows of a padded batch, the only ones that batch statistics are taken
over. An impossible argument raises UserError.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.models.layers import Conv, Dense, Dropout, check_arguments
from fexpr.models.max_pool import max_pool
from fexpr.models.normalization import BatchNorm
from fexpr.models.resnet import average_grid

kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
ATTENTION = 5  # rows and columns to which RCN-A's feature maps are averaged


class SSSNet(nn.Module):
    """Shallow single-stream network (Varanka et al. 2021): 5x5 convolution (valid), ReLU, max-pool
    3, batch norm, channel dropout; 3x3 convolution (valid), ReLU, max-pool 2, batch norm, channel
    dropout; dense with ReLU, dropout; dense K.

    1,349,251 parameters for 64x64x3 and 3 classes, its published input; 28x28 maps leave 3x3
    features, 169,603 parameters.

    Attributes:
      num_classes: K, logits.
      widths: channels of the two convolutions, features of the dense layer.
      dropout: rate of all three, in training.
    """

    num_classes: int
    widths: tuple[int, int, int] = (32, 64, 256)
    dropout: float = 0.5
    axis_name: str | None = None

    def __post_init__(self):
        _check_widths(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        images: Num[AnyArray, "B H W C"],
        train: bool = False,
        mask: Bool[AnyArray, " B"] | None = None,
    ) -> Float[Array, "B K"]:
        x = images
        for i, (size, pool) in enumerate(((5, 3), (3, 2))):
            x = nn.relu(Conv(self.widths[i], size, "VALID", name=f"conv_{i}")(x))
            x = BatchNorm(self.axis_name, name=f"norm_{i}")(max_pool(x, pool, pool), train, mask)
            x = Dropout(self.dropout, self.axis_name, broadcast_dims=(1, 2))(x, train)
        x = nn.relu(Dense(self.widths[2], name="dense")(x.reshape(x.shape[0], -1)))
        x = Dropout(self.dropout, self.axis_name)(x, train)
        return Dense(self.num_classes, name="head")(x.astype(jnp.float32))


class OffApexNet(nn.Module):
    """Off-ApexNet as in MEB: twice [3x3 convolution, ReLU, max-pool 2], dropout, dense 1024
    with ReLU, dropout, dense K. It reads the flow alone: every third channel, the strain, is left
    out.

    807,909 parameters for 28x28 maps and 3 classes. (The paper, Gan et al. 2019, has two streams
    of 5x5 convolutions, one for each direction.)

    Attributes:
      num_classes: K, logits.
      widths: channels of the two convolutions, features of the dense layer.
      dropout: rate of both, in training.
    """

    num_classes: int
    widths: tuple[int, int, int] = (6, 16, 1024)
    dropout: float = 0.5
    axis_name: str | None = None

    def __post_init__(self):
        _check_widths(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Num[AnyArray, "B H W C"], train: bool = False
    ) -> Float[Array, "B K"]:
        x = images[..., np.arange(images.shape[-1]) % 3 != 2]
        for i in range(2):
            x = max_pool(nn.relu(Conv(self.widths[i], name=f"conv_{i}")(x)), 2, 2)
        x = Dropout(self.dropout, self.axis_name)(x.reshape(x.shape[0], -1), train)
        x = nn.relu(Dense(self.widths[2], name="dense")(x))
        x = Dropout(self.dropout, self.axis_name)(x, train)
        return Dense(self.num_classes, name="head")(x.astype(jnp.float32))


def _check_widths(model: SSSNet | OffApexNet) -> None:
    counts = {f"widths[{i}]": n for i, n in enumerate(model.widths)}
    counts |= {"num_classes": model.num_classes}
    problems = [] if len(model.widths) == 3 else [f"widths: expected 3, found {model.widths}"]
    check_arguments(type(model).__name__, counts, {"dropout": model.dropout}, problems)


class RCNA(nn.Module):
    """Recurrent convolutional network with parameter-free attention (Xia et al., IEEE TIP 2020).

    5x5 convolution (valid), batch norm, ReLU, max-pool 2, dropout 0.5: x. Then y = f(x) with a 1x1
    convolution, twice y = r(x + y) with ONE 3x3 convolution and its one batch norm, max-pool 2,
    dropout, averaged to 5x5, times the attention, dense K. The attention is the mean over the
    classes of their activation maps: the dense layer's weights of a class times x averaged to
    5x5, averaged over the channels, scaled to 0..1 for each image.

    51,139 parameters for three channels and 3 classes, whatever the maps' size.

    Attributes:
      num_classes: K, logits.
      width: channels.
      dropout: rate of both, in training.
    """

    num_classes: int
    width: int = 64
    dropout: float = 0.5
    axis_name: str | None = None

    def __post_init__(self):
        counts = {"num_classes": self.num_classes, "width": self.width}
        check_arguments("RCNA", counts, {"dropout": self.dropout})
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        images: Num[AnyArray, "B H W C"],
        train: bool = False,
        mask: Bool[AnyArray, " B"] | None = None,
    ) -> Float[Array, "B K"]:
        def layer(size: int, padding: str, name: str):
            zeros = nn.initializers.zeros
            convolution = Conv(self.width, size, padding, kaiming_fan_out, zeros, name=name)
            norm = BatchNorm(self.axis_name, name=f"{name}_norm")
            return lambda x: nn.relu(norm(convolution(x), train, mask))

        def downsample(x):
            return Dropout(self.dropout, self.axis_name)(max_pool(x, 2, 2), train)

        x = downsample(layer(5, "VALID", "stem")(images))
        recurrent = layer(3, "SAME", "recurrent")
        y = layer(1, "SAME", "feedforward")(x)
        for _ in range(2):
            y = recurrent(x + y)
        attended, pooled = (
            average_grid(maps.astype(jnp.float32), ATTENTION) for maps in (x, downsample(y))
        )
        kernel = self.param(
            "kernel", nn.initializers.normal(0.01), (*pooled.shape[1:], self.num_classes)
        )
        bias = self.param("bias", nn.initializers.zeros, (self.num_classes,))
        attention = class_attention(attended, kernel)
        return jnp.einsum("bijc,bij,ijck->bk", pooled, attention, kernel) + bias[None]


def class_attention(
    x: Float[AnyArray, "B H W C"], kernel: Float[AnyArray, "H W C K"]
) -> Float[Array, "B H W"]:
    """Mean over the classes of min-max scaled activation maps.

    Args:
      x: [B, H, W, C].
      kernel: [H, W, C, K], a dense layer's weights.

    Returns:
      [B, H, W], in [0, 1]; 0 for a class whose map is constant.
    """
    maps = jnp.einsum("bijc,ijck->bijk", x, kernel) / x.shape[-1]
    maps = maps - maps.min((1, 2), keepdims=True)
    top = maps.max((1, 2), keepdims=True)
    return (maps / jnp.where(top > 0, top, 1)).mean(-1)
