"""HTNet in PyTorch: the peer that benchmarks/loso.py measures against.

Written as a careful PyTorch user would: tokens in the last-but-one axis so that every product is a
plain `nn.Linear`, attention by `scaled_dot_product_attention`. `MaskedHTNet` is the same network
for torch.func's vmap.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn


class Attention(nn.Module):
    attend = staticmethod(F.scaled_dot_product_attention)

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(dim),
            nn.Linear(dim, 3 * dim, bias=False),
            nn.Linear(dim, dim),
        )

    def forward(self, x):
        q, k, v = rearrange(
            self.qkv(self.norm(x)), "s n (qkv h d) -> qkv s h n d", qkv=3, h=self.heads
        )
        return self.out(rearrange(self.attend(q, k, v), "s h n d -> s n (h d)"))


class Level(nn.Module):
    def __init__(self, dim: int, heads: int, repeats: int, tokens: int):
        super().__init__()
        self.position = nn.Parameter(torch.randn(tokens))
        self.attention = nn.ModuleList(Attention(dim, heads) for _ in range(repeats))
        self.ffn = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
            )
            for _ in range(repeats)
        )

    def forward(self, x):
        x = x + self.position[:, None]
        for attention, ffn in zip(self.attention, self.ffn, strict=True):
            x = x + attention(x)
            x = x + ffn(x)
        return x


class HTNet(nn.Module):
    """fexpr.models.htnet.HTNet without dropout, image 28: images float32 [B, 28, 28, 3] -> logits
    [B, classes].
    """

    def __init__(
        self,
        classes: int,
        patch_size: int = 7,
        dim: int = 64,
        heads: int = 4,
        num_hierarchies: int = 2,
        block_repeats: int = 2,
    ):
        super().__init__()
        self.patch, self.levels = patch_size, num_hierarchies
        tokens = (28 // patch_size // 2 ** (num_hierarchies - 1)) ** 2
        dims = [dim * 2**i for i in range(num_hierarchies)]
        self.embedding = nn.Linear(3 * patch_size**2, dim)
        self.level = nn.ModuleList(
            Level(d, heads * 2**i, block_repeats, tokens) for i, d in enumerate(dims)
        )
        self.merge = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(dims, dims[1:], strict=False)
        )
        self.merge_norm = nn.ModuleList(nn.LayerNorm(d) for d in dims[1:])
        self.head_norm, self.head = nn.LayerNorm(dims[-1]), nn.Linear(dims[-1], classes)

    def forward(self, images):
        x = self.embedding(
            rearrange(images, "b (h p) (w q) c -> b h w (p q c)", p=self.patch, q=self.patch)
        )
        for i, level in enumerate(self.level):
            blocks = 2 ** (self.levels - 1 - i)
            side = x.shape[1] // blocks
            x = level(rearrange(x, "b (y h) (z w) c -> (b y z) (h w) c", y=blocks, z=blocks))
            x = rearrange(x, "(b y z) (h w) c -> b (y h) (z w) c", y=blocks, z=blocks, h=side)
            if blocks > 1:
                x = self.merge_norm[i](
                    rearrange(
                        self.merge[i](rearrange(x, "b h w c -> b c h w")), "b c h w -> b h w c"
                    )
                )
                x = rearrange(
                    F.max_pool2d(rearrange(x, "b h w c -> b c h w"), 3, 2, 1), "b c h w -> b h w c"
                )
        return self.head(self.head_norm(x).mean((1, 2)))


class MaskedHTNet(HTNet):
    """HTNet in the form that torch_stack.py trains: (images, real bool [B]) -> (logits, no
    buffers).

    Rows do not mix, so `real` is of no use here. Attention is written as two products and a
    softmax: vmap has no rule for the gradient of PyTorch's attention kernels, and would run them
    trial after trial.
    """

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        for module in self.modules():
            if isinstance(module, Attention):
                module.attend = attend_by_products

    def forward(self, images, real):
        del real
        return super().forward(images), {}


def attend_by_products(q, k, v):
    """Attention over one sequence a leading index: [S, h, n, d] three times -> [S, h, n, d]."""
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
