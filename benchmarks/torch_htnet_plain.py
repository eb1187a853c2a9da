"""HTNet and its training loop in PyTorch the way published micro-expression code is written: maps
stay NCHW, every linear map is a 1x1 convolution, attention is two products and a softmax, the
channel norm is spelled out, batches come from a DataLoader, Adam is the default one and the running
loss is read after every batch. The plainer of the two peers of benchmarks/loso.py.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class ChannelNorm(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.g, self.b = (
            nn.Parameter(torch.ones(1, dim, 1, 1)),
            nn.Parameter(torch.zeros(1, dim, 1, 1)),
        )

    def forward(self, x):
        var, mean = (
            torch.var(x, dim=1, unbiased=False, keepdim=True),
            torch.mean(x, dim=1, keepdim=True),
        )
        return (x - mean) / (var + 1e-5).sqrt() * self.g + self.b


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.to_qkv, self.to_out = nn.Conv2d(dim, 3 * dim, 1, bias=False), nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        height = x.shape[2]
        q, k, v = (
            rearrange(t, "b (h d) y x -> b h (y x) d", h=self.heads)
            for t in self.to_qkv(x).chunk(3, dim=1)
        )
        weights = (torch.einsum("b h i d, b h j d -> b h i j", q, k) * self.scale).softmax(dim=-1)
        out = torch.einsum("b h i j, b h j d -> b h i d", weights, v)
        return self.to_out(rearrange(out, "b h (y x) d -> b (h d) y x", y=height))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList((ChannelNorm(dim), ChannelNorm(dim)))
        self.attention = Attention(dim, heads)
        self.ffn = nn.Sequential(nn.Conv2d(dim, 4 * dim, 1), nn.GELU(), nn.Conv2d(4 * dim, dim, 1))

    def forward(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.ffn(self.norms[1](x))


class HTNet(nn.Module):
    """The network of benchmarks/torch_htnet.py: images float32 [B, 3, 28, 28] -> logits [B,
    classes].
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
        side = 28 // patch_size // 2 ** (num_hierarchies - 1)
        dims = [dim * 2**i for i in range(num_hierarchies)]
        self.embedding = nn.Conv2d(3 * patch_size**2, dim, 1)
        self.position = nn.ParameterList(nn.Parameter(torch.randn(side * side)) for _ in dims)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Block(d, heads * 2**i) for _ in range(block_repeats)))
            for i, d in enumerate(dims)
        )
        self.merge = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, padding=1), ChannelNorm(b), nn.MaxPool2d(3, stride=2, padding=1)
            )
            for a, b in zip(dims, dims[1:], strict=False)
        )
        self.head = nn.Sequential(
            ChannelNorm(dims[-1]),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(dims[-1], classes),
        )

    def forward(self, images):
        x = self.embedding(
            rearrange(images, "b c (h p) (w q) -> b (p q c) h w", p=self.patch, q=self.patch)
        )
        for i, (position, blocks) in enumerate(zip(self.position, self.blocks, strict=True)):
            cut = 2 ** (self.levels - 1 - i)
            x = rearrange(x, "b c (y h) (z w) -> (b y z) c h w", y=cut, z=cut)
            x = blocks(x + rearrange(position, "(h w) -> () () h w", h=x.shape[2]))
            x = rearrange(x, "(b y z) c h w -> b c (y h) (z w)", y=cut, z=cut)
            if cut > 1:
                x = self.merge[i](x)
        return self.head(x)


def train_fold(
    images: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    epochs: int,
    batch_size: int,
    classes: int,
    learning_rate: float,
    seed: int,
    device: str,
    model_arguments: dict,
) -> np.ndarray:
    """Trains one fold; after every epoch predicts the test rows. Returns the last epoch's logits
    [len(test), classes].
    """
    torch.manual_seed(seed)
    x, y = (
        rearrange(torch.as_tensor(images).float(), "n h w c -> n c h w"),
        torch.as_tensor(labels).long(),
    )
    std, mean = torch.std_mean(x[train], (0, 2, 3), correction=0, keepdim=True)
    x = (x - mean) / std
    loader = DataLoader(TensorDataset(x[train], y[train]), batch_size=batch_size, shuffle=True)
    test_loader = DataLoader(TensorDataset(x[test], y[test]), batch_size=batch_size)
    model = HTNet(classes, **model_arguments).to(device)
    criterion, optimizer = (
        nn.CrossEntropyLoss(),
        torch.optim.Adam(model.parameters(), lr=learning_rate),
    )
    for _ in range(epochs):
        model.train()
        running_loss = 0.0
        for batch, target in loader:
            batch, target = batch.to(device), target.to(device)
            optimizer.zero_grad()
            loss = criterion(model(batch), target)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        model.eval()
        with torch.no_grad():
            logits = torch.cat([model(batch.to(device)) for batch, _ in test_loader])
    return logits.cpu().numpy()
