"""STSTNet in PyTorch, plain and for torch.func's vmap: a peer that benchmarks/torch_loso.py trains.

`STSTNet` is what a loop over folds trains, with `nn.BatchNorm2d`. That layer updates its running
statistics in place, which vmap does not allow, and knows no padded rows. `MaskedSTSTNet` has the
same parameters and buffers under the same names, but normalises by the statistics of the real rows
alone and returns the new running statistics instead of writing them: they are explicit state.

The work of a step is the same: one 3x3 convolution of 16 filters, batch statistics, two poolings,
one dense layer, and running statistics that move by a tenth. (The running variance is the biased
one here, as fexpr's, and the unbiased one in `nn.BatchNorm2d`: 4e-5 apart at a batch of 32.) What
differs is that batch normalisation is written in elementary operations, which take more passes over
memory than a fused kernel unless torch.compile joins them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

FILTERS, MOMENTUM, EPSILON = 3 + 5 + 8, 0.1, 1e-5


class STSTNet(nn.Module):
    """fexpr.models.ststnet.STSTNet: images float32 [B, 28, 28, 3] -> logits [B, classes]."""

    def __init__(self, classes: int, dropout: float = 0.5):
        super().__init__()
        self.streams = nn.Conv2d(3, FILTERS, 3, padding=1)
        self.norm = nn.BatchNorm2d(FILTERS, eps=EPSILON, momentum=MOMENTUM)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(25 * FILTERS, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.norm(self.convolve(images)))

    def convolve(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 28, 28, 3] -> rectified maps [B, 16, 28, 28]."""
        return F.relu(self.streams(images.permute(0, 3, 1, 2)))

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised maps [B, 16, 28, 28] -> logits [B, classes]; features in fexpr's order."""
        x = F.avg_pool2d(self.dropout(F.max_pool2d(x, 3, 3, 1)), 2)
        return self.head(x.permute(0, 2, 3, 1).flatten(1))


class MaskedNorm(nn.Module):
    """Batch normalisation over the real rows of a padded batch, without writing to its buffers."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(f(channels)) for f in (torch.ones, torch.zeros))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """x [B, C, H, W], real bool [B] -> the same shape, and the new running mean and variance.

        Without any real row, and out of training, the statistics stay as they are.
        """
        mean, var = self.running_mean, self.running_var
        if self.training:
            rows = real.to(x.dtype)[:, None]
            count = (rows.sum() * (x.shape[2] * x.shape[3])).clamp(min=1)
            mean = (x.sum((2, 3)) * rows).sum(0) / count
            x = x - mean[:, None, None]
            var = (x.square().sum((2, 3)) * rows).sum(0) / count
            moved = MOMENTUM * real.any().to(x.dtype)
            new_mean = self.running_mean + moved * (mean.detach() - self.running_mean)
            new_var = self.running_var + moved * (var.detach() - self.running_var)
        else:
            new_mean, new_var, x = mean, var, x - mean[:, None, None]
        factor = torch.rsqrt(var + EPSILON) * self.weight
        return x * factor[:, None, None] + self.bias[:, None, None], new_mean, new_var


class Dropout(nn.Module):
    """`nn.Dropout` in elementary operations: vmap has no rule for the gradient of CUDA's kernel."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.rate:
            return x
        return x / (1 - self.rate) * (torch.rand_like(x) >= self.rate)


class MaskedSTSTNet(STSTNet):
    """STSTNet for padded batches and vmap: (images, real bool [B]) -> (logits, new buffers)."""

    def __init__(self, classes: int, dropout: float = 0.5):
        super().__init__(classes, dropout)
        self.norm, self.dropout = MaskedNorm(FILTERS), Dropout(dropout)

    def forward(self, images: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, dict]:
        x, mean, var = self.norm(self.convolve(images), real)
        return self.classify(x), {"norm.running_mean": mean, "norm.running_var": var}
