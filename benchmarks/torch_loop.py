"""One fold trained in PyTorch by a tuned loop: the part that all fold-after-fold peers share.

Everything lies on the device and is normalised once a fold; batches are rows of it, without a
DataLoader; Adam is the fused one; nothing is read back within the loop (no `.item()`), so that a
GPU is waited for only by whoever reads the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


def allow_tf32() -> None:
    """Lets an NVIDIA device round factors of float32 products to TF32, as JAX does by default."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def train_fold(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    train: torch.Tensor,
    test: torch.Tensor,
    epochs: int,
    batch: int,
    rate: float,
    orders: Sequence[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Trains `model` on one fold; after every epoch it predicts the test rows.

    Args:
      model: images float32 [B, 28, 28, 3] -> logits [B, K], on the device.
      images: float32 [N, 28, 28, 3] in 0..255. labels: int64 [N]. train, test: their rows, int64.
      batch: rows per step. rate: Adam's learning rate.
      orders: for every epoch the order of the training rows, int64 [n]; None: random ones.

    Returns:
      The last epoch's logits [len(test), K], on the device, not waited for.
    """
    x, y, x_test = images[train], labels[train], images[test]
    std, mean = torch.std_mean(x, (0, 1, 2), correction=0)
    x, x_test = (x - mean) / std, (x_test - mean) / std
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    for epoch in range(epochs):
        model.train()
        order = orders[epoch] if orders else torch.randperm(len(y), device=y.device)
        for rows in order.split(batch):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            logits = model(x_test)
    return logits
