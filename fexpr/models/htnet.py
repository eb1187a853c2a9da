"""HTNet: local transformers over blocks of a flow map, merged level by level (Wang et al. 2024,
arXiv 2307.14637).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float, Num

from fexpr.arrays import AnyArray
from fexpr.errors import UserError
from fexpr.models.layers import Conv, Dense, Dropout, check_arguments, torch_kernel
from fexpr.models.max_pool import max_pool
from fexpr.models.normalization import LayerNorm

FFN_EXPANSION = 4


class HTNet(nn.Module):
    """Hierarchical transformer on a flow map. images float32 or bfloat16 [B, S, S, C] -> logits
    float32 [B, num_classes].

    Patches are embedded on a map of S/patch_size squared tokens. Level i (0 first) cuts the map
    into 2^(L-1-i) squared blocks and runs `block_repeats[i]` transformer blocks of width dim * 2^i
    with heads * 2^i heads inside each; between levels a 3x3 convolution doubles the width, and a
    max-pool halves the map, so that blocks of every level have the same number of tokens. Values
    and parameter counts are those of the published code (weights interchange: models/weights/);
    initial values follow PyTorch's defaults, the position bias is drawn from a standard normal, as
    there.

    With image 28, patch 7 and three levels (the published configuration) a block holds ONE token.
    Attention over one token is that token's value projection, exactly, so queries and keys are not
    computed. Their weights are kept, for interchange and equal parameter counts, and get a gradient
    of exactly zero. A head is dim // heads wide. If heads do not divide dim (published: 256 and 3),
    all heads together have the largest multiple of heads below dim.

    Attributes:
      num_classes: K, logits.
      image_size: S, height and width of a map, in pixels.
      patch_size: side of a patch, in pixels; divides S.
      dim: width of the first level.
      heads: attention heads of the first level.
      num_hierarchies: L, levels; 2^(L-1) divides S / patch_size.
      block_repeats: transformer blocks of each level, first (finest) level first; one number for
          all alike.
      dropout: rate after attention weights, projections and hidden layers, in training.
      axis_name: the mapped axis that shares a batch among devices, for the dropout of the whole
          batch; None: one device.

    Raises:
      UserError: an argument is impossible, or the images are not image_size pixels high and wide.
    """

    num_classes: int
    image_size: int = 28
    patch_size: int = 7
    dim: int = 64
    heads: int = 4
    num_hierarchies: int = 2
    block_repeats: int | tuple[int, ...] = 2
    dropout: float = 0.0
    axis_name: str | None = None

    def __post_init__(self):
        names = ("num_classes", "image_size", "patch_size", "dim", "heads", "num_hierarchies")
        check_arguments(
            "HTNet", {name: getattr(self, name) for name in names}, {"dropout": self.dropout}
        )
        repeats = {f"block_repeats[{i}]": r for i, r in enumerate(self.repeats)}
        check_arguments("HTNet", repeats, others=self._misfits())
        super().__post_init__()

    @property
    def repeats(self) -> tuple[int, ...]:
        """The number of transformer blocks of each level, first level first."""
        repeats = self.block_repeats
        return repeats if isinstance(repeats, tuple) else (repeats,) * self.num_hierarchies

    def _misfits(self) -> list[str]:
        """Problems of arguments that are possible one by one, but not together."""
        side, blocks = self.image_size // self.patch_size, 2 ** (self.num_hierarchies - 1)
        problems = []
        if self.image_size % self.patch_size:
            problems.append(
                f"patch_size: expected a divisor of image_size {self.image_size}, found "
                f"{self.patch_size}"
            )
        elif side % blocks:
            problems.append(
                f"num_hierarchies: {self.num_hierarchies} levels cut a map of {side}x{side} "
                "patches into "
                f"{blocks}x{blocks} blocks; expected {blocks} to divide {side}"
            )
        if self.heads > self.dim:
            problems.append(f"heads: expected at most dim {self.dim}, found {self.heads}")
        if len(self.repeats) != self.num_hierarchies:
            problems.append(
                f"block_repeats: expected {self.num_hierarchies} numbers, one a level, found "
                f"{self.block_repeats}"
            )
        return problems

    @nn.compact
    def __call__(
        self,
        images: Num[AnyArray, "B H W C"],
        train: bool = False,
        mask: Bool[AnyArray, " B"] | None = None,
    ) -> Float[Array, "B K"]:
        """`mask` is not used, as there are no batch statistics; it is accepted so that all models
        are called alike.
        """
        del mask
        if images.shape[1:3] != (self.image_size, self.image_size):
            raise UserError(
                "HTNet was built for another image size",
                [
                    f"image_size: expected {self.image_size}x{self.image_size} images, found "
                    f"{images.shape[1]}x{images.shape[2]}"
                ],
                fix="set config.model.image_size to the size of the data's images",
            )
        patches = rearrange(
            images, "b (h p1) (w p2) c -> b h w (p1 p2 c)", p1=self.patch_size, p2=self.patch_size
        )
        x = Dense(self.dim, name="patch_embedding")(patches)
        for i, repeats in enumerate(self.repeats):
            blocks = 2 ** (self.num_hierarchies - 1 - i)
            side = x.shape[1] // blocks
            x = rearrange(x, "b (b1 h) (b2 w) c -> (b b1 b2) (h w) c", b1=blocks, b2=blocks)
            x = Level(repeats, self.heads * 2**i, self.dropout, self.axis_name, name=f"level_{i}")(
                x, train
            )
            x = rearrange(x, "(b b1 b2) (h w) c -> b (b1 h) (b2 w) c", b1=blocks, b2=blocks, h=side)
            if blocks > 1:
                x = Conv(self.dim * 2 ** (i + 1), name=f"merge_{i}")(x)
                x = max_pool(LayerNorm(name=f"merge_{i}_norm")(x), window=3, stride=2, padding=1)
        x = LayerNorm(name="head_norm")(x.astype(jnp.float32))
        return Dense(self.num_classes, name="head")(x.mean((1, 2)))


class Level(nn.Module):
    """Transformer blocks inside every block of the map. tokens [S, n, D] -> [S, n, D], S sequences
    (images x blocks).

    The position bias is one number per token, the same for all channels.
    """

    repeats: int
    heads: int
    dropout: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "S N D"], train: bool) -> Float[Array, "S N D"]:
        position = self.param("position", nn.initializers.normal(1.0), (x.shape[1],))
        x += rearrange(position.astype(x.dtype), "n -> 1 n 1")
        for r in range(self.repeats):
            attention = Attention(self.heads, self.dropout, self.axis_name, name=f"attention_{r}")
            x += attention(LayerNorm(name=f"attention_{r}_norm")(x), train)
            x += FeedForward(self.dropout, self.axis_name, name=f"ffn_{r}")(
                LayerNorm(name=f"ffn_{r}_norm")(x), train
            )
        return x


class Attention(nn.Module):
    """Multi-head self-attention, [S, n, D] -> [S, n, D]. Parameters: qkv [D, 3 * inner] without
    bias, out (dense).
    """

    heads: int
    dropout: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[AnyArray, "S N D"], train: bool) -> Float[Array, "S N D"]:
        _, tokens, dim = x.shape
        head_dim = dim // self.heads
        inner = head_dim * self.heads
        qkv = self.param("qkv", torch_kernel, (dim, 3 * inner)).astype(x.dtype)
        drop = Dropout(self.dropout, self.axis_name)
        # softmax over one score is 1, so dropout drops whole heads
        if tokens == 1:
            v = rearrange(x @ qkv[:, 2 * inner :], "s n (h d) -> s n h d", h=self.heads)
            attended = Dropout(self.dropout, self.axis_name, broadcast_dims=(-1,))(v, train)
        else:
            q, k, v = (
                rearrange(part, "s n (h d) -> s n h d", h=self.heads)
                for part in jnp.split(x @ qkv, 3, -1)
            )
            scores = _scores(q, k) * head_dim**-0.5
            attended = jnp.einsum(
                "shnm,smhd->snhd", drop(nn.softmax(scores).astype(x.dtype), train), v
            )
        return drop(Dense(dim, name="out")(rearrange(attended, "s n h d -> s n (h d)")), train)


@jax.custom_vjp
def _scores(q: Float[Array, "S N h d"], k: Float[Array, "S M h d"]) -> Float[Array, "S h N M"]:
    """Every query times every key, float32."""
    return jnp.einsum("snhd,smhd->shnm", q, k, preferred_element_type=jnp.float32)


def _scores_backward(
    inputs: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    q, k = inputs
    g = g.astype(q.dtype)
    # a product of transposed scores takes XLA seven times as long on CPU
    turned = lax.optimization_barrier(jnp.swapaxes(g, 2, 3))
    return jnp.einsum("shnm,smhd->snhd", g, k), jnp.einsum("shmn,snhd->smhd", turned, q)


_scores.defvjp(lambda q, k: (_scores(q, k), (q, k)), _scores_backward)


class FeedForward(nn.Module):
    """Two dense layers with an exact (erf) GELU between, [S, n, D] -> [S, n, D]."""

    dropout: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[AnyArray, "S N D"], train: bool) -> Float[Array, "S N D"]:
        drop = Dropout(self.dropout, self.axis_name)
        hidden = Dense(FFN_EXPANSION * x.shape[-1], name="hidden")(x)
        hidden = drop(gelu(hidden.astype(jnp.float32)).astype(x.dtype), train)
        return drop(Dense(x.shape[-1], name="out")(hidden), train)


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x times the normal distribution function at x. By `erf`, as PyTorch computes it: XLA takes
    twice as long for the `erfc` of `nn.gelu`.
    """
    return x * (0.5 + 0.5 * lax.erf(x * 0.5**0.5))
