"""The networks of benchmarks/fer2013.py and an epoch on FER2013 in PyTorch: its peer.

Two ways of feeding it. `loader`: a Dataset that augments one image at a time in the workers of a
DataLoader, as the notebooks do (with torch alone: torchvision is not needed). `tensor`: all pixels
on the device, a batch augmented at once, so that the loader costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

CLASSES = 7
VERTICAL_FLIP, ROTATION, ROTATION_P = 0.25, 22.0, 0.5


def thesis() -> nn.Module:
    """fexpr's fer_cnn_thesis: images [B, 1, 48, 48] -> logits."""
    layers, channels = [], 1
    for features in (64, 64, 256, 256):
        layers += [
            nn.Conv2d(channels, features, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.BatchNorm2d(features),
            nn.Dropout(0.25),
        ]
        channels = features
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * channels, CLASSES))


def pytorch() -> nn.Module:
    """fexpr's fer_cnn_pytorch: images [B, 1, 48, 48] -> logits."""
    layers, channels = [], 1
    for features in (32, 64, 128):
        for _ in range(2):
            layers += [
                nn.Conv2d(channels, features, 3, padding=1),
                nn.ReLU(),
                nn.BatchNorm2d(features),
            ]
            channels = features
        layers.append(nn.MaxPool2d(2))
    head = [
        nn.Dropout(0.5),
        nn.Linear(36 * channels, 1024),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(1024, CLASSES),
    ]
    return nn.Sequential(*layers, nn.Flatten(), *head)


class DeepEmotion(nn.Module):
    """fexpr's deep_emotion, variant 'saliency': images [B, 2, 48, 48], a face and a map of where to
    look -> logits.
    """

    def __init__(self):
        super().__init__()
        self.localization = nn.Sequential(
            nn.Conv2d(1, 8, 7),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(8, 10, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(640, 32),
            nn.ReLU(),
            nn.Linear(32, 6),
        )
        nn.init.zeros_(self.localization[-1].weight)
        self.localization[-1].bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0])
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 10, 3),
            nn.ReLU(),
            nn.Conv2d(10, 10, 3),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(10, 10, 3),
            nn.ReLU(),
            nn.Conv2d(10, 10, 3),
            nn.BatchNorm2d(10),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(810, 50),
            nn.ReLU(),
            nn.Linear(50, CLASSES),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        face, look = images[:, :1], images[:, 1:]
        grid = F.affine_grid(
            self.localization(look).float().view(-1, 2, 3), face.shape, align_corners=False
        )
        return self.trunk(F.grid_sample(face.float(), grid, align_corners=False))


class Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), then ReLU."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.inner(x))


def resnet_small() -> nn.Module:
    """fexpr's resnet_pooled: images [B, 1, 48, 48] -> logits."""
    layers, channels = [], 1
    for features, residual in ((48, False), (96, True), (192, True)):
        layers += [
            nn.Conv2d(channels, features, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(features),
            nn.ReLU(),
        ]
        layers += [Residual(features)] * residual
        channels = features
    head = [nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * channels, CLASSES)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), *head)


NETWORKS = {
    "thesis": thesis,
    "pytorch": pytorch,
    "deep_emotion": DeepEmotion,
    "resnet_small": resnet_small,
}


def augment(images: torch.Tensor) -> torch.Tensor:
    """Float images [B, C, 48, 48]: each flipped upside down with p = 0.25 and, with p = 0.5,
    rotated by up to 22 degrees (bilinear).
    """
    device, count = images.device, len(images)
    flipped = torch.rand(count, device=device) < VERTICAL_FLIP
    images = torch.where(flipped[:, None, None, None], images.flip(2), images)
    angle = (
        (torch.rand(count, device=device) * 2 - 1)
        * math.radians(ROTATION)
        * (torch.rand(count, device=device) < ROTATION_P)
    )
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    theta = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
    return F.grid_sample(
        images,
        F.affine_grid(theta, images.shape, align_corners=False),
        padding_mode="border",
        align_corners=False,
    )


class Faces(Dataset):
    """Pixels and classes; one augmented image at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = (
            torch.as_tensor(images).permute(0, 3, 1, 2),
            torch.as_tensor(labels).long(),
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        return augment(self.images[row : row + 1].float())[0], self.labels[row]


class Training:
    """A network, its optimiser and its data; `epoch()` trains once over the training rows, then
    predicts the test rows.

    Args:
      images: uint8 [N,48,48,C]. labels: int32 [N]. train: the first `train` rows train, the others
          are predicted.
      data: 'loader' or 'tensor'. precision: 'float32' or 'bfloat16' (autocast). channels_last: that
          memory format.
      compiled: torch.compile of forward pass, loss and gradient of a training step, and of the
        augmentation of batches; once for whole batches and once for a shorter last one. The fused
        Adam is one kernel anyway.
    """

    def __init__(
        self,
        network: str,
        images: np.ndarray,
        labels: np.ndarray,
        train: int,
        batch: int,
        device: str,
        data: str,
        workers: int,
        precision: str,
        channels_last: bool,
        compiled: bool = False,
    ):
        torch.manual_seed(0)
        # as JAX does by default
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        self.device, self.batch, self.autocast = device, batch, precision == "bfloat16"
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.model = NETWORKS[network]().to(device, memory_format=self.format)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-4, fused=True)
        self.augment, self.loss = (
            torch.compile(f, dynamic=False) if compiled else f
            for f in (augment, self.cross_entropy)
        )
        faces = Faces(images, labels)
        pixels = faces.images[:train].double()
        self.mean, self.std = float(pixels.mean()), float(pixels.std(correction=0))
        self.test = faces.images[train:].to(device)
        if data == "loader":
            self.loader = DataLoader(
                Faces(images[:train], labels[:train]),
                batch,
                shuffle=True,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=device == "cuda",
            )
        else:
            self.loader = None
            self.images, self.labels = (
                faces.images[:train].to(device),
                faces.labels[:train].to(device),
            )

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.loader is not None:
            yield from (
                (x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True))
                for x, y in self.loader
            )
        else:
            for rows in torch.randperm(len(self.images), device=self.device).split(self.batch):
                yield self.augment(self.images[rows].float()), self.labels[rows]

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        x = ((images - self.mean) / self.std).contiguous(memory_format=self.format)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            return self.model(x).float()

    def cross_entropy(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.logits(images), labels)

    def epoch(self) -> np.ndarray:
        """Logits of the test rows [n, 7]. On a GPU the host synchronises only when they are
        read.
        """
        self.model.train()
        for images, labels in self.batches():
            loss = self.loss(images, labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        self.model.eval()
        with torch.inference_mode():
            logits = torch.cat([self.logits(part.float()) for part in self.test.split(256)])
        return logits.cpu().numpy()
