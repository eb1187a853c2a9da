"""Row numbers become tables of one shape; what is padded does not count."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fexpr.train.image_statistics import statistics
from fexpr.train.losses import class_weights
from fexpr.train.trial_tables import TrialSpec, pad_rows, padded_count, stack

SIZES = ((5, 2, 3), (2, 4, 0), (7, 0, 4))  # rows to train, validate and test


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (20, 4, 4, 2), np.uint8), rng.integers(0, 3, 20).astype(np.int32)


def specs():
    rng = np.random.default_rng(1)
    for i, sizes in enumerate(SIZES):
        parts = np.split(rng.permutation(np.arange(1, 20))[: sum(sizes)], np.cumsum(sizes)[:-1])
        yield TrialSpec(
            *parts,
            fold=i,
            seed=7 * i,
            learning_rate=0.1 * (i + 1),
            weight_decay=0.2 * i,
            label_smoothing=0.03 * i,
            weight_strength=0.5 * i,
            weight_maximum=1.0 + i,
            scaling=(np.float32([1, 2]), np.float32([3, 4])) if i == 1 else None,
        )


def test_every_row_counts_once_for_its_part(task):
    images, labels = task
    found = stack(list(specs()), images, labels, 3, "standardize")
    assert found.train_rows.shape == found.train_mask.shape == (3, 7)
    assert found.eval_rows.shape == found.val_mask.shape == found.test_mask.shape == (3, 5)
    assert found.train_rows.dtype == found.eval_rows.dtype == np.int32
    for i, spec in enumerate(specs()):
        for rows, mask, expected in (
            (found.train_rows, found.train_mask, spec.train),
            (found.eval_rows, found.val_mask, spec.val),
            (found.eval_rows, found.test_mask, spec.test),
        ):
            assert rows[i][mask[i]].tolist() == expected.tolist()
        assert not (found.val_mask & found.test_mask).any()
        assert not found.eval_rows[i][~(found.val_mask[i] | found.test_mask[i])].any()


def test_numbers_of_a_trial_are_its_own(task):
    images, labels = task
    found = stack(list(specs()), images, labels, 3, "standardize")
    for i, spec in enumerate(specs()):
        key = jax.random.fold_in(jax.random.key(spec.seed), spec.fold)
        assert found.key[i].tolist() == jax.random.key_data(key).tolist()
        mean, std = spec.scaling or statistics(images, spec.train, "standardize")
        np.testing.assert_array_equal(found.mean[i], mean)
        np.testing.assert_array_equal(found.std[i], std)
        weights = class_weights(labels[spec.train], 3, spec.weight_strength, spec.weight_maximum)
        np.testing.assert_array_equal(found.class_weights[i], weights)
        for name in ("learning_rate", "weight_decay", "label_smoothing"):
            assert getattr(found, name)[i] == np.float32(getattr(spec, name))


@given(st.integers(1, 10**7))
def test_a_padded_length_is_shared_by_those_just_below(count):
    padded = padded_count(count)
    assert count <= padded <= 9 * count / 8
    assert padded_count(padded) == padded
    assert count < 16 or padded % 2 == 0
    assert len({padded_count(n) for n in range(count, padded + 1)}) == 1


def test_rows_of_zeros_are_added():
    table = np.arange(1, 35, dtype=np.int8).reshape(17, 2)
    padded = pad_rows(table)
    assert padded.dtype == np.int8
    np.testing.assert_array_equal(padded[:17], table)
    assert padded[17:].tolist() == [[0, 0]]
    assert pad_rows(padded) is padded
