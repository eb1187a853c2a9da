"""Deep-Emotion: a small network behind a spatial transformer (Minaee et al., Sensors 2021, doi
10.3390/s21093046), which looks at the image itself or at a map that guides it (Luna-Jiménez et al.,
Guided Spatial Transformers, Applied Sciences 2021)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.errors import UserError
from fexpr.models.layers import Conv, Dense, Dropout, check_arguments
from fexpr.models.max_pool import max_pool
from fexpr.models.normalization import BatchNorm
from fexpr.warp import affine_grid, bilinear_sample

# of the images, by variant
CHANNELS = {"baseline": 1, "original": 1, "saliency": 2, "landmarks": 2}
DROPOUT = 0.5
WIDTH = 10  # channels of each convolution of the trunk


class DeepEmotion(nn.Module):
    """images [B, 48, 48, C], scaled to -1 … 1 (`train.normalize = 'symmetric'`) -> logits float32
    [B, num_classes].

    The trunk is four 3x3 convolutions of ten channels and two dense layers. Before it, in all
    variants but the baseline, a spatial transformer computes an affine map from the image
    ('original') or from a map of where to look, and samples the image through it. That map is the
    second channel of the images: a saliency map ('saliency'), or a mask of facial landmarks, soft
    or dilated ('landmarks': the same network under another name). It is scaled to -1 … 1 like the
    image. The first affine map is the identity.

    Outputs are those of the published PyTorch code in evaluation, to float32 rounding (weights:
    weights/deep_emotion_layout.py). In training that code calls `F.dropout(x, self.training)`,
    which means a rate of one: everything is dropped. Here the rate is the intended 0.5. PyTorch's
    initial values. 66,928 parameters with 8 classes, 66,877 with 7, 66,673 with 3; 23,120 fewer in
    the baseline.

    Attributes:
      num_classes: K, logits.
      variant: 'baseline', 'original', 'saliency' or 'landmarks'.
      regularised: a second dropout of 0.5 before the last layer (to go with a weight decay of
          1e-3).
      axis_name: the mapped axis that shares a batch among devices, for batch statistics and
          dropout; None: one device.

    Raises:
      UserError: an argument is impossible, or the images are not 48x48 with as many channels as the
          variant reads.
    """

    num_classes: int
    variant: str = "original"
    regularised: bool = False
    axis_name: str | None = None

    def __post_init__(self):
        known = self.variant in CHANNELS
        wrong = (
            []
            if known
            else [f"variant: expected one of {', '.join(CHANNELS)}; found {self.variant!r}"]
        )
        check_arguments("DeepEmotion", {"num_classes": self.num_classes}, others=wrong)
        super().__post_init__()

    def setup(self):
        if self.variant != "baseline":
            self.localization = Localization()
        self.conv_0, self.conv_1, self.conv_2, self.conv_3 = (
            Conv(WIDTH, padding="VALID") for _ in range(4)
        )
        self.norm = BatchNorm(self.axis_name)
        self.drop, self.drop_hidden = (
            Dropout(DROPOUT, self.axis_name),
            Dropout(DROPOUT if self.regularised else 0.0, self.axis_name),
        )
        self.hidden = Dense(50)
        self.head = Dense(self.num_classes)

    def __call__(
        self,
        images: Num[AnyArray, "B H W C"],
        train: bool = False,
        mask: Bool[AnyArray, " B"] | None = None,
    ) -> Float[Array, "B K"]:
        """mask: bool [B], True for the real rows of a padded batch: the only ones that batch
        statistics are taken over.
        """
        _, hidden = self.features(images, train, mask)
        return self.head(self.drop_hidden(hidden, train).astype(jnp.float32))

    def features(
        self,
        images: Num[AnyArray, "B H W C"],
        train: bool = False,
        mask: Bool[AnyArray, " B"] | None = None,
    ) -> tuple[Float[Array, "B 810"], Float[Array, "B 50"]]:
        """The embeddings [B, 810] (PyTorch's order: channel, row, column) and [B, 50], through
        `model.apply(…, method="features")`.
        """
        x = nn.relu(self.conv_0(self.transform(images)))
        x = nn.relu(max_pool(self.conv_1(x), window=2, stride=2))
        x = nn.relu(self.conv_2(x))
        x = nn.relu(max_pool(self.norm(self.conv_3(x), train, mask), window=2, stride=2))
        flat = rearrange(self.drop(x, train), "b h w c -> b (c h w)")
        return flat, nn.relu(self.hidden(flat))

    def transform(self, images: Num[AnyArray, "B H W C"]) -> Num[AnyArray, "B 48 48 1"]:
        """The image as the trunk sees it, [B, 48, 48, 1], through `model.apply(…,
        method="transform")`.
        """
        expected = (48, 48, CHANNELS[self.variant])
        if images.shape[1:] != expected:
            height, width, channels = expected
            raise UserError(
                f"DeepEmotion, variant {self.variant!r}, cannot read these images",
                [
                    f"images: expected {height}x{width} with {channels} "
                    f"channel{'s: image and map' if channels > 1 else ''}, "
                    f"found {'x'.join(str(n) for n in images.shape[1:])}"
                ],
                fix="set config.model.variant to one that fits the data, or prepare the data as "
                "expected",
            )
        if self.variant == "baseline":
            return images
        image, look = images[..., :1], images[..., -1:]
        return bilinear_sample(image, affine_grid(self.localization(look), *image.shape[1:3]))


class Localization(nn.Module):
    """Computes an affine map from an image or map, [B, 48, 48, 1] -> theta float32 [B, 2, 3]."""

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B 48 48 1"]) -> Float[Array, "B 2 3"]:
        x = nn.relu(
            max_pool(Conv(8, size=7, padding="VALID", name="conv_0")(x), window=2, stride=2)
        )
        x = nn.relu(
            max_pool(Conv(10, size=5, padding="VALID", name="conv_1")(x), window=2, stride=2)
        )
        x = nn.relu(Dense(32, name="hidden")(rearrange(x, "b h w c -> b (c h w)")))

        def identity(key, shape, dtype):
            return jnp.eye(2, 3, dtype=dtype).reshape(shape)

        theta = nn.Dense(6, kernel_init=nn.initializers.zeros, bias_init=identity, name="theta")(
            x.astype(jnp.float32)
        )
        return rearrange(theta, "b (i j) -> b i j", i=2)
