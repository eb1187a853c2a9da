"""Hyper-parameters are chosen by a fold's training subjects and by nobody else."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError
from fexpr.runs import nested
from fexpr.train.machines import MACHINES
from fexpr.train.machines.rows import Rows

N, CLASSES = 72, 3
RNG = np.random.default_rng(1)
LABELS = RNG.permutation(np.arange(N) % CLASSES).astype(np.int32)
GROUPS = np.repeat([f"s{i}" for i in range(12)], 6)
CENTRES = RNG.normal(0, 20, (CLASSES, 5, 5, 3))
IMAGES = np.clip(120 + CENTRES[LABELS] + RNG.normal(0, 45, (N, 5, 5, 3)), 0, 255).astype(np.uint8)
FOLD = Fold("s0", np.arange(18, 72), np.arange(6, 18), np.arange(6), GROUPS)
POINTS = nested.grid({"C": (0.01, 1.0, 30.0), "gamma": (0.1, 1.0)})


def fit(images=IMAGES, labels=LABELS, points=POINTS, monitor="uf1", machine="svm_rbf"):
    rows = Rows(images, "flow", "median", True, True)
    return nested.fit_fold(
        MACHINES[machine],
        rows,
        FOLD,
        labels,
        GROUPS,
        CLASSES,
        points,
        4,
        [0, 0],
        monitor,
        (1.0, 100.0),
    )


def test_test_rows_choose_nothing():
    """Neither their labels nor their pixels reach the choice, the scaling, or validation rows."""
    found, labels, images = fit(), LABELS.copy(), IMAGES.copy()
    labels[FOLD.test] = (labels[FOLD.test] + 1) % CLASSES
    np.testing.assert_array_equal(fit(labels=labels).test_logits, found.test_logits)
    images[FOLD.test] = 0
    other = fit(images, labels)
    assert (other.point, other.scores, other.temperature) == (
        found.point,
        found.scores,
        found.temperature,
    )
    np.testing.assert_array_equal(other.val_logits, found.val_logits)
    assert not np.array_equal(other.test_logits, found.test_logits)


def test_every_training_row_is_predicted_by_others():
    """What a subject's own labels are makes no difference to its scores: its posteriors differ by
    one temperature, which other machines' predictions of other subjects give, and keep their order.
    """
    found, labels = fit(points=POINTS[2:3]), LABELS.copy()
    assert sorted(found.val_rows.tolist()) == list(range(6, N))
    part = found.val_rows[:18]  # the subjects who validate first
    assert len(set(GROUPS[part])) == 3
    labels[part] = (labels[part] + 1) % CLASSES
    other = fit(labels=labels, points=POINTS[2:3])
    before, after = (each.val_logits[:18].argsort(1) for each in (found, other))
    np.testing.assert_array_equal(before, after)
    assert not np.allclose(other.val_logits[18:], found.val_logits[18:])


@pytest.mark.parametrize("monitor", nested.SCORES)
def test_the_best_point_is_chosen(monitor):
    found = fit(monitor=monitor)
    assert found.score == max(found.scores)
    assert found.point == POINTS[int(np.argmax(found.scores))]
    (alone,) = fit(points=[found.point], monitor=monitor).scores
    assert alone == pytest.approx(found.score)


def test_scores_are_those_of_scikit_learn():
    logits, labels = RNG.normal(0, 1, (50, 3)), RNG.integers(0, 2, 50)
    expected = f1_score(labels, logits.argmax(1), average=None, labels=[0, 1]).mean()
    assert nested.uf1(logits, labels) == pytest.approx(expected)
    best = nested._temperature(logits, labels)
    p = np.exp(best(logits))
    expected = -log_loss(labels, p / p.sum(1, keepdims=True), labels=[0, 1, 2])
    assert nested.loss(logits, labels) == pytest.approx(expected)


def test_posteriors_of_test_rows_are_probabilities_that_a_temperature_made():
    found = fit(points=POINTS[3:4])
    np.testing.assert_allclose(np.exp(found.test_logits).sum(1), 1)
    assert found.summary()["temperature"] > 0


def test_one_class_alone_is_refused():
    labels = np.where(np.arange(N) < 6, 1, 0).astype(np.int32)
    with pytest.raises(UserError, match=r"fold .*: all training rows .*one class"):
        fit(labels=labels)
