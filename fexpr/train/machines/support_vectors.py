"""Support vector machines on kernel matrices (libsvm's exact solution, one class against one
other)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.svm import SVC

from fexpr.train.machines.coupling import coupled
from fexpr.train.machines.rows import Rows, Task

CACHE = 200  # MiB of kernel rows that libsvm keeps


def linear(
    rows: Rows, task: Task, points: Sequence[Mapping]
) -> Float[np.ndarray, "points R {task.classes}"]:
    """Scores float64 [point, row, class] of `task.where`; C is in units of the training views'
    mean square length.
    """
    kernel = rows.products(task.train)
    return np.stack([_scores(rows, task, kernel, point["C"]) for point in points])


def rbf(
    rows: Rows, task: Task, points: Sequence[Mapping]
) -> Float[np.ndarray, "points R {task.classes}"]:
    """Scores as in `linear`, with the kernel exp(-gamma |x - y|^2); gamma in units of
    scikit-learn's 'scale': 1 / (features x variance), over the training views.
    """
    products = rows.products(task.train)
    lengths = np.diagonal(products)
    distances = np.maximum(lengths[:, None] + lengths[None] - 2 * products, 0)
    scores = {}
    for gamma, group in _by(points, "gamma"):
        kernel = np.exp(-gamma * distances)
        for i, point in group:
            scores[i] = _scores(rows, task, kernel, point["C"])
    return np.stack([scores[i] for i in range(len(points))])


def _by(points: Sequence[Mapping], name: str) -> Iterator[tuple]:
    """Groups the numbered points by their value of a hyper-parameter."""
    for value in dict.fromkeys(point[name] for point in points):
        yield value, [(i, point) for i, point in enumerate(points) if point[name] == value]


def _scores(rows: Rows, task: Task, kernel: np.ndarray, cost: float) -> np.ndarray:
    fitted, shown = rows.train_views(task.train), rows.test_views(task.where)
    weights = dict(enumerate(task.weights.tolist()))
    machine = SVC(
        C=cost,
        kernel="precomputed",
        class_weight=weights,
        cache_size=CACHE,
        decision_function_shape="ovo",
    )
    machine.fit(kernel[np.ix_(fitted, fitted)], rows.repeated(task.labels[task.train]))
    margins = machine.decision_function(kernel[np.ix_(shown, fitted)])
    return of_margins(rows.mean_of_views(margins), machine.classes_, task.classes)


def of_margins(
    margins: Float[np.ndarray, "R pairs"] | Float[np.ndarray, " R"],
    known: Int[np.ndarray, " k"],
    classes: int,
) -> Float[np.ndarray, "R {classes}"]:
    """Log probabilities [R, classes] of the margins of pairs of the `known` classes [R, pairs], or
    [R] of a single pair; a class without training rows gets 1 less than the row's smallest score.
    """
    margins = margins[:, None] * [-1] if margins.ndim == 1 else margins
    values = np.log(coupled(margins, len(known)))
    every = np.repeat(values.min(1, keepdims=True) - 1, classes, 1)
    every[:, known] = values
    return every
