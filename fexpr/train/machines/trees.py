"""Gradient-boosted trees on feature vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from sklearn.ensemble import HistGradientBoostingClassifier

from fexpr.errors import UserError
from fexpr.train.machines.linear import spread
from fexpr.train.machines.rows import Rows, Task


def boosted(
    rows: Rows, task: Task, points: Sequence[Mapping]
) -> Float[np.ndarray, "points R {task.classes}"]:
    """Scores float64 [point, row, class] of `task.where`: scikit-learn's histogram-based boosting
    of trees with `leaves` leaves each.

    Raises:
      UserError: images, which this machine does not read.
    """
    if not rows.vectors:
        raise UserError(
            "model.name='boosted_trees' reads feature vectors, not images",
            fix="choose another machine",
        )
    features, labels = rows.coordinates(task.train, 0), task.labels[task.train]
    found = []
    for point in points:
        machine = HistGradientBoostingClassifier(
            max_iter=point["iterations"],
            learning_rate=point["learning_rate"],
            max_leaf_nodes=point["leaves"],
            early_stopping=False,  # pyright: ignore[reportArgumentType]  # read off its default
            random_state=0,
        )
        machine.fit(features[task.train], labels, sample_weight=task.weights[labels])
        scores = np.log(machine.predict_proba(features[task.where]))
        found.append(spread(scores, np.asarray(machine.classes_), task.classes))
    return np.stack(found)
