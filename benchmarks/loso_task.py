"""What leave-one-subject-out benchmarks train: flow maps, and HTNet of the notebook's size."""

from __future__ import annotations

import os

import numpy as np

MODEL = {"patch_size": 7, "dim": 64, "heads": 4, "num_hierarchies": 2, "block_repeats": 2}
CLASSES, RATE = 3, 1e-4


def data() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Maps uint8 [N,28,28,3], classes int32 [N], and the rows of every subject."""
    if os.environ.get("FEXPR_DATA_DIR"):
        from configs import base
        from fexpr.data import data_sets

        config = base.get_config().data
        config.name = "megc2019"
        found = data_sets.load(config)
        images, labels, groups = found.images, found.labels, found.groups
    else:
        rng = np.random.default_rng(0)
        images, labels = (
            rng.integers(0, 256, (278, 28, 28, 3)).astype(np.uint8),
            rng.integers(0, CLASSES, 278).astype(np.int32),
        )
        groups = np.sort(rng.integers(0, 52, 278))
    return images, labels, [np.flatnonzero(groups == g) for g in np.unique(groups)]
