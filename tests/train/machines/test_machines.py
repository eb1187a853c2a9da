"""Machines on kernel matrices against scikit-learn on the pixels themselves."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from fexpr.errors import UserError
from fexpr.train.image_changes import mirror
from fexpr.train.image_statistics import statistics
from fexpr.train.machines import MACHINES
from fexpr.train.machines.coupling import coupled
from fexpr.train.machines.rows import NORMALIZATIONS, Rows, Task

CLASSES, N = 3, 60
RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.arange(N) % CLASSES)
CENTRES = RNG.normal(0, 25, (CLASSES, 6, 6, 6))
IMAGES = np.clip(120 + CENTRES[LABELS] + RNG.normal(0, 40, (N, 6, 6, 6)), 0, 255).astype(np.uint8)
VECTORS = (CENTRES[:, 0, 0] / 20)[LABELS][:, None, None] + RNG.normal(0, 1, (N, 1, 1, 6))
VECTORS = VECTORS.astype(np.float32)
TRAIN, WHERE = np.arange(0, 40), np.arange(40, 60)
TASK = Task(TRAIN, WHERE, LABELS, CLASSES, np.array([1.0, 2.0, 0.5]))
WEIGHTS = {0: 1.0, 1: 2.0, 2: 0.5}


def pixels(images, normalize):
    """What a machine is given, by the definitions: rows and mirror images, float64 [2N, D]."""
    x = images.astype(np.float64)
    if normalize == "median":
        x = x - np.median(x, (1, 2), keepdims=True) + 127.5
    mean, std = statistics(images, TRAIN, normalize)
    views = np.concatenate([x, mirror(x, "flow")])
    return ((views - mean) / std).reshape(len(views), -1)


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_units_are_those_of_networks(normalize):
    found = Rows(IMAGES, "flow", normalize, True, True).scaling(TRAIN)
    for ours, theirs in zip(found, statistics(IMAGES, TRAIN, normalize), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_units_of_vectors_are_those_of_networks():
    found = Rows(VECTORS, "features", "standardize").scaling(TRAIN)
    for ours, theirs in zip(found, statistics(VECTORS, TRAIN, "standardize"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("normalize", ["standardize", "median"])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_a_support_vector_machine_is_that_of_the_pixels(kernel, normalize):
    rows = Rows(IMAGES, "flow", normalize, True, True)
    point = {"C": 2.0, "gamma": 0.5}
    (found,) = MACHINES[f"svm_{kernel}"](rows, TASK, [point])
    x, views = pixels(IMAGES, normalize), np.concatenate([TRAIN, TRAIN + N])
    size = np.square(x[views] - x[views].mean(0)).sum(1).mean()  # features x variance
    peer = SVC(
        C=point["C"] / (size if kernel == "linear" else 1),
        kernel=kernel,
        gamma=point["gamma"] / size,
        class_weight=WEIGHTS,
        decision_function_shape="ovo",
    ).fit(x[views], np.tile(LABELS[TRAIN], 2))
    margins = (peer.decision_function(x[WHERE]) + peer.decision_function(x[WHERE + N])) / 2
    expected = np.log(coupled(margins, CLASSES))
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert (found.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("name", ["pca_logistic", "lda"])
def test_a_linear_machine_is_that_of_principal_components(name):
    rows = Rows(IMAGES, "flow", "median", True, True)
    points = [{"C": 0.5, "shrinkage": 0.3, "components": n} for n in (4, 9)]
    found = MACHINES[name](rows, TASK, points)
    x, views = pixels(IMAGES, "median"), np.concatenate([TRAIN, TRAIN + N])
    labels = np.tile(LABELS[TRAIN], 2)
    counts = np.bincount(labels) * TASK.weights
    for point, scores in zip(points, found, strict=True):
        basis = PCA(point["components"]).fit(x[views])
        z = basis.transform(x) / np.sqrt(basis.explained_variance_[0] * (1 - 1 / len(views)))
        peer = (
            LogisticRegression(C=0.5, class_weight=WEIGHTS, max_iter=2000)
            if name == "pca_logistic"
            else LinearDiscriminantAnalysis("lsqr", shrinkage=0.3, priors=counts / counts.sum())
        ).fit(z[views], labels)
        expected = (peer.predict_log_proba(z[WHERE]) + peer.predict_log_proba(z[WHERE + N])) / 2
        np.testing.assert_allclose(scores, expected, atol=2e-2)


def test_vectors_are_taken_as_they_are():
    rows = Rows(VECTORS, "features", "standardize")
    x = (VECTORS - VECTORS[TRAIN].mean(0)).reshape(N, -1)
    x = x / x[TRAIN].std(0)
    (found,) = MACHINES["lda"](rows, TASK, [{"shrinkage": "auto", "components": 0}])
    counts = np.bincount(LABELS[TRAIN]) * TASK.weights
    peer = LinearDiscriminantAnalysis("lsqr", shrinkage="auto", priors=counts / counts.sum())
    expected = peer.fit(x[TRAIN], LABELS[TRAIN]).predict_log_proba(x[WHERE])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    point = {"iterations": 5, "learning_rate": 0.2, "leaves": 4}
    (found,) = MACHINES["boosted_trees"](rows, TASK, [point])
    peer = HistGradientBoostingClassifier(
        max_iter=5, learning_rate=0.2, max_leaf_nodes=4, early_stopping=False
    ).fit(x[TRAIN], LABELS[TRAIN], sample_weight=TASK.weights[LABELS[TRAIN]])
    np.testing.assert_allclose(found, np.log(peer.predict_proba(x[WHERE])), atol=1e-4)


@pytest.mark.parametrize("name", ["svm_linear", "svm_rbf", "pca_logistic", "lda"])
def test_a_class_without_training_rows_is_the_least_likely(name):
    rows = Rows(IMAGES, "flow", "standardize")
    train = TRAIN[LABELS[TRAIN] != 1]
    point = {"C": 1.0, "gamma": 0.3, "components": 5, "shrinkage": 0.5}
    (found,) = MACHINES[name](rows, TASK._replace(train=train), [point])
    assert found.shape == (len(WHERE), CLASSES)
    assert (found.argmin(1) == 1).all()
    right = found.argmax(1) == LABELS[WHERE]
    assert right[LABELS[WHERE] != 1].mean() > 0.8


def test_points_do_not_touch_one_another():
    rows = Rows(IMAGES, "flow", "median", True, True)
    points = [{"C": c, "gamma": g} for g in (0.1, 1.0) for c in (0.5, 5.0)]
    together = MACHINES["svm_rbf"](rows, TASK, points)
    for point, scores in zip(points, together, strict=True):
        np.testing.assert_array_equal(MACHINES["svm_rbf"](rows, TASK, [point])[0], scores)


def test_what_the_other_rows_hold_makes_no_difference():
    """Kernel matrices hold all rows; what a machine learns comes from its training rows."""
    other = IMAGES.copy()
    other[WHERE[10:]] = 255 - other[WHERE[10:]] // 3
    shown = TASK._replace(where=WHERE[:10])
    point = {"C": 1.0, "gamma": 0.3, "components": 5, "shrinkage": 0.5}
    for name in ("svm_linear", "svm_rbf", "pca_logistic", "lda"):
        a, b = (
            MACHINES[name](Rows(x, "flow", "median", True, True), shown, [point])
            for x in (IMAGES, other)
        )
        np.testing.assert_allclose(a, b, atol=1e-8)


def test_what_cannot_be():
    with pytest.raises(UserError, match="normalize='pixel'"):
        Rows(IMAGES, "flow", "pixel")
    with pytest.raises(UserError, match=r"augment.flip=0"):
        Rows(VECTORS, "features", "standardize", True, False)
    with pytest.raises(UserError, match="components=80"):
        Rows(IMAGES, "flow", "standardize").coordinates(TRAIN, 80)
    with pytest.raises(UserError, match="feature vectors"):
        MACHINES["boosted_trees"](Rows(IMAGES, "flow", "standardize"), TASK, [{}])
