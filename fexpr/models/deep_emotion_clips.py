"""Deep-Emotion over a clip: the features of its frames, pooled by attention, give one decision."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.errors import UserError
from fexpr.models.deep_emotion import CHANNELS, DeepEmotion
from fexpr.models.layers import Dense, check_arguments


class DeepEmotionClips(DeepEmotion):
    """Clips [B, 48, 48, F x C], scaled to -1 … 1 (`train.normalize = 'symmetric'`), -> logits
    float32 [B, num_classes].

    The channels are those of F frames one after the other (Dataset, kind 'clip'), C each, as the
    variant of Deep-Emotion reads them. A frame whose face is uniformly grey counts as missing: it
    changes neither logits nor batch statistics. F may be any number.

    Each frame goes through Deep-Emotion down to its 50 features h_f, then (Ilse, Tomczak and
    Welling, Attention-based Deep Multiple Instance Learning, ICML 2018, arXiv 1802.04712, equations
    7 and 8)

        a_f = softmax over the clip's frames of w' tanh(V h_f),    logits = head(sum of a_f h_f).

    An acted clip is such a bag: it has a label, and some of its frames show it; a_f says which. The
    order of frames is not used. A recurrent head would use it, but gives no weights of single
    frames, and the order matters little to an expression that rises and falls once. w starts at
    zero, so that the initial prediction is that of the mean over frames, just as the spatial
    transformer starts from the identity.

    Names and shapes are DeepEmotion's, so that the weights of a run on frames fit. It has 52 *
    attention parameters more: 68,592 with 8 classes.

    Attributes:
      attention: width of V h.

    Raises:
      UserError: an argument is impossible, or the channels are not those of whole frames.
    """

    attention: int = 32

    # networks whose weights fit, and the modules that they lack
    BEGINS_WITH: ClassVar[dict[str, str]] = {"deep_emotion": "^attend"}

    def __post_init__(self):
        check_arguments("DeepEmotionClips", {"attention": self.attention})
        super().__post_init__()

    def setup(self):
        super().setup()
        self.attend = Dense(self.attention)
        self.attend_score = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros)

    def __call__(
        self,
        images: Num[AnyArray, "B H W C"],
        train: bool = False,
        mask: Bool[AnyArray, " B"] | None = None,
    ) -> Float[Array, "B K"]:
        """mask: bool [B], as in DeepEmotion."""
        hidden, weights = self._attended(images, train, mask)
        pooled = jnp.einsum("bf,bfd->bd", weights, hidden.astype(jnp.float32))
        return self.head(self.drop_hidden(pooled, train))

    def attention_weights(self, images: Num[AnyArray, "B H W C"]) -> Float[Array, "B F"]:
        """a float32 [B, F], 0 where there is no frame; through `model.apply(…,
        method="attention_weights")`.
        """
        return self._attended(images, False, None)[1]

    def _attended(
        self, images: AnyArray, train: bool, mask: AnyArray | None
    ) -> tuple[jax.Array, jax.Array]:
        """Features [B, F, 50] and attention weights float32 [B, F] of all frames."""
        channels = CHANNELS[self.variant]
        if images.shape[-1] % channels:
            raise UserError(
                f"DeepEmotionClips, variant {self.variant!r}, cannot read clips of "
                f"{images.shape[-1]} channels",
                [f"a frame has {channels}: the image" + " and its map" * (channels > 1)],
                fix="choose config.model.variant and config.data.map to match",
            )
        count = images.shape[-1] // channels
        frames = rearrange(images, "b h w (f c) -> (b f) h w c", c=channels)
        face = frames[..., 0]
        valid = (face != face[:, :1, :1]).any((1, 2))
        seen = valid if mask is None else valid & repeat(mask, "b -> (b f)", f=count)
        _, hidden = self.features(frames, train, seen)
        scores = self.attend_score(jnp.tanh(self.attend(hidden)).astype(jnp.float32))
        valid, scores, hidden = (
            rearrange(x, "(b f) ... -> b f ...", f=count) for x in (valid, scores[:, 0], hidden)
        )
        # padding of a batch may be blank, and must stay finite
        valid |= ~valid.any(axis=1, keepdims=True)
        return hidden, jax.nn.softmax(jnp.where(valid, scores, -jnp.inf), axis=1)
