"""The normalisation of images: statistics of the training rows of one trial."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, Num

from fexpr.errors import UserError
from fexpr.train.views import MIDDLE

BLOCK = 1024  # rows per block when statistics are computed


@runtime_checkable
class Images(Protocol):
    """An array uint8 [N, H, W, C] or float32 [N, 1, 1, F], or what reads its rows off the disk."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | Int[np.ndarray, " R"], /) -> Num[np.ndarray, "_ H W C"]: ...


def statistics(
    images: Images, rows: Int[np.ndarray, " R"], normalize: str
) -> tuple[Float32[np.ndarray, "*HxW C"], Float32[np.ndarray, "*HxW C"]]:
    """The mean to subtract and the deviation to divide by, in 0..255 (or the features' own units):
    float32 [C] each, for 'pixel' [H,W,C].

    'standardize': mean and deviation of each channel; 'pixel': of each pixel; 'median': for images
    whose channels are already centred (`recentred`), the value on which they are centred, and the
    root mean square distance from it; 'unit': 0 to 1; 'symmetric': -1 to 1; 'none': unchanged.
    Computed from these rows only. Images are read in blocks, as they may be on the disk.
    """
    channels = images.shape[-1]
    if normalize == "none":
        return np.zeros(channels, np.float32), np.ones(channels, np.float32)
    if images.dtype != np.uint8:  # feature vectors have no fixed range
        if normalize != "standardize":
            raise UserError(
                f"train.normalize={normalize!r} is for images",
                fix="set train.normalize=standardize (or none) for vectors",
            )
        vectors = images[rows].reshape(-1, channels).astype(np.float64)
        std = vectors.std(0)
        return vectors.mean(0).astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32)
    if normalize == "unit":
        return np.zeros(channels, np.float32), np.full(channels, 255.0, np.float32)
    if normalize == "symmetric":
        return np.full(channels, 127.5, np.float32), np.full(channels, 127.5, np.float32)
    blocks = (images[rows[i : i + BLOCK]] for i in range(0, len(rows), BLOCK))
    if normalize == "pixel":
        sums = np.zeros((2, *images.shape[1:]), np.int64)
        for block in blocks:
            sums += [block.sum(0, dtype=np.int64), np.square(block, dtype=np.int64).sum(0)]
        mean, square = sums / len(rows)
    elif normalize == "median":
        distances = sum(
            np.square(block - np.median(block, (1, 2), keepdims=True)).mean((1, 2)).sum(0)
            for block in blocks
        )
        mean = np.full(channels, MIDDLE)
        square = distances / len(rows) + mean**2
    else:
        count = np.zeros((channels, 256), np.int64)
        for block in blocks:
            count += [
                np.bincount(block[..., c].reshape(-1), minlength=256) for c in range(channels)
            ]
        grey, total = np.arange(256.0), count.sum(1)
        mean, square = count @ grey / total, count @ grey**2 / total
    std = np.sqrt(np.maximum(square - mean**2, 0))
    # keeps constant channels finite
    return mean.astype(np.float32), np.maximum(std, 1.0).astype(np.float32)
