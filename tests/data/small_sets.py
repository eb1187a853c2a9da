"""Data sets that are split: labels, groups and parts as releases have them, images of nothing; and
the fields of `config.split`.
"""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset


def dataset(labels, groups, datasets=None) -> Dataset:
    n = len(groups)
    names = tuple("abcdefgh"[: labels.shape[1] if labels.ndim == 2 else labels.max() + 1])
    extras = {} if datasets is None else {"dataset": np.asarray(datasets)}
    ids = np.array([f"c{i}" for i in range(n)])
    return Dataset(
        np.zeros((n, 8, 8, 3), np.uint8),
        labels,
        np.asarray(groups),
        ids,
        names,
        "synthetic",
        extras=extras,
    )


def imbalanced(seed: int = 0, subjects: int = 24, clips: int = 140) -> Dataset:
    """Three classes, the third rare and held by few; subjects of very different size; two data
    sets.
    """
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(subjects, 0.8))
    owner = np.concatenate([np.arange(subjects), rng.choice(subjects, clips - subjects, p=share)])
    labels = rng.choice(3, clips, p=[0.66, 0.24, 0.1]).astype(np.int32)
    groups = np.array([f"{'samm' if s % 2 else 'casme2'}/{s:03d}" for s in owner])
    return dataset(labels, groups, np.array([g.split("/")[0] for g in groups]))


def faces(*sizes: int, seed: int = 0) -> Dataset:
    """Every image its own group; rows of the parts mixed; classes of very different size."""
    rng = np.random.default_rng(seed)
    parts = rng.permutation(np.repeat(["Training", "PublicTest", "PrivateTest"], sizes))
    labels = rng.choice(4, len(parts), p=[0.5, 0.3, 0.15, 0.05]).astype(np.int32)
    return dataclasses.replace(
        dataset(labels, [f"i{i:05d}" for i in range(len(parts))]), split=parts
    )


def split(protocol: str, **changes) -> ConfigDict:
    fields = {
        "protocol": protocol,
        "test_fraction": 0.2,
        "val_fraction": 0.2,
        "folds": 5,
        "repeats": 4,
        "seed": 42,
        "file": "",
    }
    return ConfigDict({**fields, **changes})
