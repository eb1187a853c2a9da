"""Support vector machines of all folds of a protocol, on pixels: fitted, and their decisions."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError
from fexpr.terminal import progress, say
from fexpr.train.losses import class_weights
from fexpr.train.machines.coupling import coupled

GAMMA_WORDS = ("scale", "auto")  # scikit-learn's 1 / (features x variance) and 1 / features
CACHE = 1000  # MiB of kernel rows that libsvm keeps


@dataclasses.dataclass(frozen=True)
class Fitted:
    """One fold's fitted machine and the accuracies of all values of C.

    Attributes:
      features: from float64 [R, pixels] to what `machine` takes.
      accuracy: C -> accuracy on the validation rows, of every C that was tried; C: the best, the
          smallest among equals.
      converged: whether the solver of that C reached its tolerance.
    """

    features: Pipeline
    machine: LinearSVC | SVC
    C: float
    accuracy: dict[float, float]
    converged: bool

    @property
    def parameters(self) -> int:
        """The numbers that the decision values of a row are computed from; the principal components
        are not among them.
        """
        names = ("support_vectors_", "dual_coef_") if isinstance(self.machine, SVC) else ("coef_",)
        return sum(getattr(self.machine, name).size for name in (*names, "intercept_"))

    def summary(self) -> dict:
        """What metrics.json records of the machine."""
        vectors = (
            {"support_vectors": len(self.machine.support_)} if isinstance(self.machine, SVC) else {}
        )
        return {
            "C": self.C,
            "val_accuracy": {f"{C:g}": a for C, a in self.accuracy.items()},
            "converged": self.converged,
            **vectors,
        }


def costs(config: ConfigDict) -> list[float]:
    """The values of C to try, ascending."""
    return sorted(map(float, values_of(config.model.C)))


def fit_folds(config: ConfigDict, dataset: Dataset, folds: Sequence[Fold]) -> list[Fitted]:
    """The best machine of every fold, with one progress bar over folds and values of C.

    Raises:
      UserError: more components than training rows or pixels; training rows of a single class.
    """
    fitted, grid = [], costs(config)
    with progress(f"fitting {config.model.kernel} SVM", len(folds) * len(grid)) as advance:
        for fold in folds:
            fitted.append(fit_fold(config, dataset, fold, grid, advance))
    for fold, fit in zip(folds, fitted, strict=True):
        if not fit.converged:
            say(
                f"{fold.name}: C={fit.C:g} did not converge in {config.model.max_iter} "
                "iterations; raise config.model.max_iter, or lower C",
                style="yellow",
            )
    return fitted


def fit_fold(
    config: ConfigDict,
    dataset: Dataset,
    fold: Fold,
    grid: Sequence[float],
    advance=lambda *a, **k: None,
) -> Fitted:
    """Tries every C of `grid` on the fold's training rows and keeps the best on its validation
    rows.
    """
    labels = dataset.labels[fold.train]
    weights = class_weights(
        labels, len(dataset.class_names), config.train.class_weights, config.train.class_weights_max
    )
    pixels, count = pixels_of(dataset, fold.train), config.model.components
    if len(np.unique(labels)) < 2:
        raise UserError(
            f"fold {fold.name}: all training rows are of one class", fix="choose another split"
        )
    if count > min(pixels.shape):
        raise UserError(
            f"config.model.components={count}: there are {len(pixels):,} training rows of "
            f"{pixels.shape[1]:,} pixels",
            fix=f"choose at most {min(pixels.shape):,}",
        )
    # exact, not randomised
    features = make_pipeline(
        StandardScaler(), *([PCA(count, svd_solver="covariance_eigh")] if count else [])
    )
    train, val = features.fit_transform(pixels), features.transform(pixels_of(dataset, fold.val))
    machines, accuracy = {}, {}
    for C in grid:
        advance(0, note=f"C={C:g}")
        machines[C] = make_machine(config.model, C, dict(enumerate(weights.tolist())))
        with warnings.catch_warnings():
            # reported once, and only for the C that is kept
            warnings.simplefilter("ignore", ConvergenceWarning)
            machines[C].fit(train, labels)
        accuracy[C] = float(
            np.mean(decisions(machines[C], val, len(weights)).argmax(1) == dataset.labels[fold.val])
        )
        advance(note=f"C={C:g}  val {accuracy[C]:.3f}")
    best = max(grid, key=lambda C: accuracy[C])
    converged = isinstance(machines[best], SVC) or bool(
        np.max(machines[best].n_iter_) < config.model.max_iter
    )
    return Fitted(features, machines[best], best, accuracy, converged)


def make_machine(model: ConfigDict, C: float, weights: dict[int, float]) -> LinearSVC | SVC:
    """Linear: one class against the rest, squared hinge, liblinear's dual solver (at the small C
    that many pixels need, some ten times as fast as its primal one). RBF: libsvm's exact solution,
    one class against one other."""
    if model.kernel == "linear":
        return LinearSVC(
            C=C,
            class_weight=weights,
            dual=True,  # pyright: ignore[reportArgumentType]  # its annotation is read off a default
            max_iter=model.max_iter,
            random_state=0,
        )
    gamma = model.gamma if model.gamma in GAMMA_WORDS else float(model.gamma)
    return SVC(
        C=C,
        kernel="rbf",
        gamma=gamma,  # pyright: ignore[reportArgumentType]  # likewise
        class_weight=weights,
        cache_size=CACHE,
        decision_function_shape="ovo",
    )


def decisions(
    machine: LinearSVC | SVC, rows: Float[np.ndarray, "R D"], classes: int
) -> Float[np.ndarray, "R {classes}"]:
    """Scores that are saved as logits, float64 [R, classes]; the class with the largest is
    predicted.

    For a linear machine, its decision values (one against the rest). For an RBF kernel (one against
    one), the logarithms of `coupled` probabilities: scikit-learn's own values are votes, which
    change in whole steps and cannot be scaled into probabilities. A class without training rows
    gets 1 less than the row's smallest score.
    """
    values = machine.decision_function(rows)
    values = np.column_stack([-values, values]) if values.ndim == 1 else values
    # of two, the softmax is the pair's probability already
    if isinstance(machine, SVC) and len(machine.classes_) > 2:
        values = np.log(coupled(values, len(machine.classes_)))
    every = np.repeat(values.min(1, keepdims=True) - 1, classes, 1)
    every[:, machine.classes_] = values
    return every


def pixels_of(dataset: Dataset, rows: Int[np.ndarray, " R"]) -> Float[np.ndarray, "R D"]:
    """float64 [R, H*W*C] in 0..255."""
    return dataset.images[rows].reshape(len(rows), -1).astype(np.float64)


def values_of(value: object) -> Sequence:
    """The values of a config field that takes one or several."""
    return value if isinstance(value, (tuple, list)) and value else [value]
