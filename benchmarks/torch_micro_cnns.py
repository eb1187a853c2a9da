"""SSSNet, Off-ApexNet and RCN-A in PyTorch's own layers, with small widths, for parity tests.

python -m benchmarks.torch_micro_cnns

writes tests/fixtures/micro_cnns.npz: weights and buffers drawn at random, images, and logits in
evaluation, under `<network>/weights/<PyTorch name>`, `<network>/images`, `<network>/logits`. Made
with torch 2.11.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FIXTURE = Path(__file__).parents[1] / "tests" / "fixtures" / "micro_cnns.npz"


class SSSNet(nn.Module):
    """Images [B, 3, 64, 64] -> logits [B, classes]."""

    def __init__(self, classes: int, widths: tuple[int, int, int]):
        super().__init__()
        first, second, dense = widths
        self.conv_0, self.norm_0 = nn.Conv2d(3, first, 5), nn.BatchNorm2d(first)
        self.conv_1, self.norm_1 = nn.Conv2d(first, second, 3), nn.BatchNorm2d(second)
        self.dense, self.head = nn.Linear(81 * second, dense), nn.Linear(dense, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm_0(F.max_pool2d(F.relu(self.conv_0(x)), 3))
        x = self.norm_1(F.max_pool2d(F.relu(self.conv_1(x)), 2))
        return self.head(F.relu(self.dense(x.flatten(1))))


class OffApexNet(nn.Module):
    """Flow [B, 2, 28, 28] -> logits [B, classes]."""

    def __init__(self, classes: int, widths: tuple[int, int, int]):
        super().__init__()
        self.conv_0 = nn.Conv2d(2, widths[0], 3, padding=1)
        self.conv_1 = nn.Conv2d(widths[0], widths[1], 3, padding=1)
        self.dense = nn.Linear(49 * widths[1], widths[2])
        self.head = nn.Linear(widths[2], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution in (self.conv_0, self.conv_1):
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        return self.head(F.relu(self.dense(x.flatten(1))))


class RCNA(nn.Module):
    """Images [B, 3, H, W] -> logits [B, classes]."""

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, width, 5), nn.BatchNorm2d(width)
        self.feedforward, self.feedforward_norm = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
        self.recurrent = nn.Conv2d(width, width, 3, padding=1)
        self.recurrent_norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(25 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.stem_norm(self.stem(x))), 2)
        y = F.relu(self.feedforward_norm(self.feedforward(x)))
        for _ in range(2):
            y = F.relu(self.recurrent_norm(self.recurrent(x + y)))
        pooled = F.adaptive_avg_pool2d(F.max_pool2d(y, 2), 5)
        weights = self.head.weight.unflatten(1, (-1, 5, 5))  # [K, C, 5, 5]
        maps = (weights * F.adaptive_avg_pool2d(x, 5)[:, None]).mean(2)  # [B, K, 5, 5]
        maps = maps - maps.amin((2, 3), keepdim=True)
        attention = (maps / maps.amax((2, 3), keepdim=True)).mean(1, keepdim=True)
        return self.head((pooled * attention).flatten(1))


def main():
    torch.manual_seed(0)
    networks = {
        "sssnet": (SSSNet(3, (3, 4, 5)), (2, 3, 64, 64)),
        "off_apexnet": (OffApexNet(3, (2, 3, 4)), (2, 2, 28, 28)),
        "rcn_a": (RCNA(3, 4), (2, 3, 28, 28)),
    }
    arrays = {}
    for name, (network, shape) in networks.items():
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(
                    torch.rand(value.shape) + 0.5 if "var" in key else torch.randn_like(value) / 2
                )
                arrays[f"{name}/weights/{key}"] = value.numpy()
        images = torch.randn(shape)
        with torch.inference_mode():
            logits = network.eval()(images)
        arrays |= {f"{name}/images": images.numpy(), f"{name}/logits": logits.numpy()}
    np.savez_compressed(FIXTURE, **arrays)


if __name__ == "__main__":
    main()
