"""From a row per frame to a row per clip: evenly sampled frames, concatenated along the
channels.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fexpr.data.dataset import Dataset

NONE = -1  # number of a frame that is missing


def as_clips(dataset: Dataset, count: int) -> Dataset:
    """Each clip as one row of kind 'clip': its frames, or `count` of them, from the middles of
    `count` equal parts of the clip.

    Frames are channels, so that whatever is done to an image is done to all frames of a clip alike:
    if each were flipped, moved or brightened by itself, that would look like motion.

    Args:
      dataset: rows are frames, with the extras `video` str [N] and `frame` int32 [N]; images [N, H,
          W, C].
      count: F.

    Returns:
      images uint8 [V, H, W, F * C], channels of frames that a short clip lacks are 0; ids are the
      clips' names. Extras: `frame` int32 [V, F], NONE where there is none; of a synthetic release
      `shown` float32 [V, F], NaN there.

    Raises:
      ValueError: the frames of a clip have several labels.
    """
    order = np.lexsort((dataset.extras["frame"], dataset.extras["video"]))
    names, starts, sizes = np.unique(
        dataset.extras["video"][order], return_index=True, return_counts=True
    )
    rows = np.zeros((len(names), count), np.int64)
    real = np.arange(count) < np.minimum(sizes, count)[:, None]
    for v, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        own = order[start : start + size]
        if (dataset.labels[own] != dataset.labels[own[0]]).any():
            raise ValueError(f"the frames of {names[v]} have several labels")
        chosen = own if size <= count else own[(2 * np.arange(count) + 1) * size // (2 * count)]
        rows[v, : len(chosen)] = chosen
    _, height, width, channels = dataset.images.shape
    images = np.empty((len(names), height, width, count, channels), np.uint8)
    for f in range(count):  # frame by frame: a second copy of everything would be large
        images[:, :, :, f] = np.where(real[:, f, None, None, None], dataset.images[rows[:, f]], 0)
    extras: dict[str, np.ndarray] = {
        "frame": np.where(real, dataset.extras["frame"][rows], NONE).astype(np.int32)
    }
    if "shown" in dataset.extras:
        extras["shown"] = np.where(real, dataset.extras["shown"][rows], np.nan).astype(np.float32)
    first = rows[:, 0]
    return dataclasses.replace(
        dataset,
        images=images.reshape(len(names), height, width, count * channels),
        labels=dataset.labels[first],
        groups=dataset.groups[first],
        ids=names,
        extras=extras,
        kind="clip",
    )
