"""Linear classifiers on principal components of images, or on feature vectors themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from fexpr.train.machines.rows import Rows, Task

ITERATIONS = 2000


def logistic(
    rows: Rows, task: Task, points: Sequence[Mapping]
) -> Float[np.ndarray, "points R {task.classes}"]:
    """Scores float64 [point, row, class] of `task.where`: multinomial logistic regression, C as in
    scikit-learn, on coordinates in units of the first component's standard deviation.
    """

    def make(point: Mapping) -> LogisticRegression:
        weights = dict(enumerate(task.weights.tolist()))
        return LogisticRegression(C=point["C"], class_weight=weights, max_iter=ITERATIONS)

    return _scores(rows, task, points, make)


def discriminant(
    rows: Rows, task: Task, points: Sequence[Mapping]
) -> Float[np.ndarray, "points R {task.classes}"]:
    """Scores as in `logistic`, of linear discriminant analysis with a shrunk covariance; a class's
    prior is its share of the training rows times its weight.
    """
    counts = np.bincount(task.labels[task.train], minlength=task.classes)
    priors = (counts * task.weights)[counts > 0]

    def make(point: Mapping) -> LinearDiscriminantAnalysis:
        shrinkage = point["shrinkage"]
        return LinearDiscriminantAnalysis(
            solver="lsqr",
            shrinkage=shrinkage if shrinkage == "auto" else float(shrinkage),
            priors=priors / priors.sum(),
        )

    return _scores(rows, task, points, make)


def _scores(
    rows: Rows,
    task: Task,
    points: Sequence[Mapping],
    make: Callable[[Mapping], LogisticRegression | LinearDiscriminantAnalysis],
) -> np.ndarray:
    """Mean log probabilities of a row's views. Fewer components are a prefix of more; with 0
    components the features themselves are used.
    """
    fitted, shown = rows.train_views(task.train), rows.test_views(task.where)
    counts = {point["components"] for point in points}
    most = {0: 0, **dict.fromkeys(counts - {0}, max(counts))}
    coordinates = {n: rows.coordinates(task.train, n) for n in {most[count] for count in counts}}
    labels = rows.repeated(task.labels[task.train])
    found = []
    for point in points:
        count = point["components"]
        seen = coordinates[most[count]][:, : count or None]
        machine = make(point).fit(seen[fitted], labels)
        scores = np.log(np.maximum(machine.predict_proba(seen[shown]), np.finfo(float).tiny))
        found.append(spread(rows.mean_of_views(scores), machine.classes_, task.classes))
    return np.stack(found)


def spread(
    scores: Float[np.ndarray, "R k"], known: Int[np.ndarray, " k"], classes: int
) -> Float[np.ndarray, "R {classes}"]:
    """Scores [R, known] as [R, classes]; a class without training rows gets 1 less than the
    smallest score.
    """
    every = np.repeat(scores.min(1, keepdims=True) - 1, classes, 1)
    every[:, known] = scores
    return every
