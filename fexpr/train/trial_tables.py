"""From row numbers to tables: the index tables and masks of all trials, padded to one shape, which
data of nearly the same size share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped

from fexpr.train.image_statistics import Images, statistics
from fexpr.train.losses import class_weights
from fexpr.train.state import Trial


@dataclasses.dataclass(frozen=True)
class TrialSpec:
    """The description of a trial by an experiment: row numbers of the data set, fold, seed and
    hyper-parameters. `scaling`: mean and deviation by which images are normalised; None: those of
    the training rows.
    """

    train: Int[np.ndarray, " n"]
    val: Int[np.ndarray, " v"]
    test: Int[np.ndarray, " t"]
    fold: int = 0
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    weight_strength: float = 0.0
    weight_maximum: float = 20.0
    scaling: tuple[Float[np.ndarray, "*HxW C"], Float[np.ndarray, "*HxW C"]] | None = None


def stack(
    specs: Sequence[TrialSpec],
    images: Images,
    labels: Int[np.ndarray, " N"] | Float[np.ndarray, "N K"],
    classes: int,
    normalize: str,
) -> Trial:
    """Index tables, masks, and the statistics of each trial's own training rows (docs/design.md,
    rule 2), as NumPy arrays [T, ...].
    """
    n = padded_count(max(len(s.train) for s in specs))
    m = padded_count(max(len(s.val) + len(s.test) for s in specs))

    def one(s: TrialSpec) -> Trial:
        mean, std = s.scaling or statistics(images, s.train, normalize)
        return Trial(
            key=np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key(s.seed), s.fold))),
            train_rows=_pad(s.train, n),
            train_mask=np.arange(n) < len(s.train),
            eval_rows=_pad(np.concatenate([s.val, s.test]), m),
            val_mask=np.arange(m) < len(s.val),
            test_mask=(np.arange(m) >= len(s.val)) & (np.arange(m) < len(s.val) + len(s.test)),
            class_weights=class_weights(
                labels[s.train], classes, s.weight_strength, s.weight_maximum
            ),
            mean=mean,
            std=std,
            learning_rate=np.array(s.learning_rate, np.float32),
            weight_decay=np.array(s.weight_decay, np.float32),
            label_smoothing=np.array(s.label_smoothing, np.float32),
        )

    return jax.tree.map(lambda *rows: np.stack(rows), *(one(s) for s in specs))


def padded_count(count: int) -> int:
    """`count` rounded up to a number with no more than four significant binary digits: at most an
    eighth more. Arrays have these lengths, so that a program that was compiled for other rows, some
    more or fewer, is found in the cache.
    """
    step = 1 << max(0, count.bit_length() - 4)
    return -(-count // step) * step


def pad_rows(table: Shaped[np.ndarray, "N ..."]) -> Shaped[np.ndarray, "M ..."]:
    """`table` [N, ...] with rows of zeros behind its own: [padded_count(N), ...]."""
    missing = padded_count(len(table)) - len(table)
    if not missing:
        return table
    return np.concatenate([table, np.zeros((missing, *table.shape[1:]), table.dtype)])


def _pad(rows: Int[np.ndarray, " R"], n: int) -> Int[np.ndarray, " {n}"]:
    return np.concatenate([rows, np.zeros(n - len(rows), rows.dtype)]).astype(np.int32)
