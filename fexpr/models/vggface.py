"""What the VGGFace networks share: preparing images as in their training, and the dense layers of
the head.

Their weights are other people's (keras-vggface: Malli; trained at Oxford by Parkhi et al. 2015, and
Cao et al. 2018), and are only meaningful for images prepared as in their training: 224x224, colours
in the order B, G, R, 0 to 255 less the mean face image of that version. To avoid mistakes, the
networks do this themselves, each with the mean of its own version, from images in 0 … 255 as they
come: grey or RGB, of any size. They ask for `train.normalize='none'`, and configs that say
otherwise are refused.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.errors import UserError
from fexpr.models.classifiers import Dense
from fexpr.models.layers import Dropout

# Subtracted from B, G, R (keras_vggface.utils.preprocess_input): version 1 is VGGFace (VGG16),
# version 2 VGGFace2 (ResNet50).
BGR_MEANS = {1: (93.5940, 104.7624, 129.1863), 2: (91.4953, 103.8827, 131.0912)}
SIDE = 224  # side of the images of both versions, in pixels


def prepared(
    images: Num[AnyArray, "B H W C"], side: int, version: int
) -> Num[Array, "B {side} {side} 3"]:
    """Images [B, H, W, 1 (grey) or 3 (R, G, B)] in 0 … 255 -> [B, side, side, 3] (B, G, R) less the
    mean of `version`, in their dtype.

    Resized bilinearly if necessary; grey faces are scaled before their channel is repeated, which
    takes a third of the work.

    Raises:
      UserError: another number of channels.
    """
    if images.shape[-1] not in (1, 3):
        raise UserError(
            "VGGFace networks read faces, not flow maps",
            [f"images: expected 1 or 3 channels, found {images.shape[-1]}"],
            fix="choose another config.model.name for this data",
        )
    x = images.astype(jnp.float32)
    if x.shape[1:3] != (side, side):
        x = jax.image.resize(x, (x.shape[0], side, side, x.shape[-1]), "bilinear")
    x = jnp.broadcast_to(x, (*x.shape[:3], 3))[..., ::-1]
    return (x - jnp.array(BGR_MEANS[version], jnp.float32).reshape(1, 1, 1, 3)).astype(images.dtype)


class Top(nn.Module):
    """Dense layers with ReLU and dropout on the flattened features, dense K: features [B, ...] ->
    logits float32 [B, num_classes].

    Keras' initial values.

    Attributes:
      num_classes: K, logits.
      hidden: width of each dense layer before the last.
      dropout: rate after each of them, in training.
      axis_name: the mapped axis that shares a batch among devices, or None.
    """

    num_classes: int
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Num[AnyArray, "B ..."],
        train: bool = False,
        mask: Bool[AnyArray, " B"] | None = None,
    ) -> Float[Array, "B K"]:
        del mask
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.hidden):
            x = Dropout(self.dropout, self.axis_name)(
                nn.relu(Dense(width, name=f"hidden_{i}")(x)), train
            )
        return Dense(self.num_classes, name="head")(x.astype(jnp.float32))
