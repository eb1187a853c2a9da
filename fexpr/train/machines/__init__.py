"""Classifiers without epochs: functions of kernel matrices or feature vectors, fitted on one
trial's training rows.

Imports no library, so that a config is checked without scikit-learn.
"""

from __future__ import annotations

from fexpr.config import Entry

# what scores rows: (Rows, Task, points of the grid) -> scores [point, row, class] (rows.py).
# `reads`: its hyper-parameters, each one value or several to choose from.
MACHINES: dict[str, Entry] = {
    "svm_linear": Entry("fexpr.train.machines.support_vectors:linear", ("C",)),
    "svm_rbf": Entry("fexpr.train.machines.support_vectors:rbf", ("C", "gamma")),
    "pca_logistic": Entry("fexpr.train.machines.linear:logistic", ("C", "components")),
    "lda": Entry("fexpr.train.machines.linear:discriminant", ("shrinkage", "components")),
    "boosted_trees": Entry(
        "fexpr.train.machines.trees:boosted", ("iterations", "learning_rate", "leaves")
    ),
}
