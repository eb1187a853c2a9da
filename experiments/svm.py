"""Linear and RBF support vector machines through scikit-learn, written to the same run directory as
`fit` writes.

Pixels are standardised by each fold's training rows, and may be rotated onto their leading
principal components. Of several values of C, the one with the best accuracy on the validation rows
is kept. Both problems are convex: a seed changes nothing, and no epoch is chosen, so every row is
written once, under the selection `last`. Margins are saved as logits; a one-against-one machine's
are coupled over the pairs of classes. They are not fitted as probabilities until a temperature is
fitted to validation rows.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError
from fexpr.runs import describe, opening, people, results
from fexpr.runs.spec import RunSpec
from fexpr.storage import run
from fexpr.terminal import progress, say
from fexpr.train.losses import class_weights
from fexpr.train.machines.coupling import coupled

# of config.model, beside name and kernel
ARGUMENTS = {"linear": ("C", "components", "max_iter"), "rbf": ("C", "components", "gamma")}
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
        vectors = (
            {"support_vectors": len(self.machine.support_)} if isinstance(self.machine, SVC) else {}
        )
        return {
            "C": self.C,
            "val_accuracy": {f"{C:g}": a for C, a in self.accuracy.items()},
            "converged": self.converged,
            **vectors,
        }


def svm(config: ConfigDict, workdir: Path) -> None:
    """Writes a finished run directory to `workdir`, without history and checkpoints; an unfinished
    one starts again, a finished one is only reported again.

    Raises:
      UserError: a fault of the data, config or run directory that the user can fix.
    """
    check(config)
    dataset, folds = describe.prepare(config)
    if dataset.multilabel:
        raise UserError(
            f"experiment='svm' predicts one class per row, but the rows of {config.data.name} have "
            "several",
            fix="choose one-of-K data",
        )
    kernel, grid = config.model.kernel, costs(config)
    began = time.monotonic()
    info = {
        "data": describe.describe_data(config, dataset, folds),
        "model": {"name": f"{kernel} svm"},
        "devices": {"kind": "CPU core, scikit-learn", "count": 1, "platform": "cpu"},
    }
    info = opening.open_run(RunSpec(config, workdir), **info)
    onto = f" on {config.model.components} principal components" if config.model.components else ""
    say(
        f"model      {kernel} SVM{onto}, C of {', '.join(f'{C:g}' for C in grid)}   class "
        f"weights {config.train.class_weights:g}"
    )
    if config.split.seeds > 1:
        say(
            f"seeds      one, not {config.split.seeds}: the problem is convex, every seed "
            "would end alike",
            style="yellow",
        )
    if not (workdir / run.PREDICTIONS).exists():
        fitted = fit_folds(config, dataset, folds)
        info["versions"]["scikit-learn"] = metadata.version("scikit-learn")
        info["model"] |= {
            "parameters": max(f.parameters for f in fitted),
            "fits": [f.summary() for f in fitted],
        }
        run.write_json(
            workdir / run.CONFIG, info | {"wall_seconds": round(time.monotonic() - began, 1)}
        )
        # written last: if it exists, everything is done
        people.write(workdir, config.data.name, dataset, folds, range(len(folds)))
        run.write_arrays(workdir / run.PREDICTIONS, predictions(dataset, folds, fitted))
    say(
        f"fitted     {info['model']['parameters']:,} parameters   "
        f"{_in_words(info['model']['fits'])}"
    )
    results.report(config, dataset, workdir)


def check(config: ConfigDict) -> None:
    """Raises one UserError that lists every field of `config.model` and `config.train` that an SVM
    cannot use.
    """
    given, kernel = config.model.to_dict(), config.model.get("kernel")
    if kernel not in ARGUMENTS:
        raise UserError(
            f"config.model.kernel is {kernel!r}", fix=f"set it to one of {', '.join(ARGUMENTS)}"
        )
    wanted = ARGUMENTS[kernel]
    problems = [
        f"model.{name}: a {kernel} SVM has no such argument"
        for name in given
        if name not in ("name", "kernel", *wanted)
    ]
    problems += [f"model.{name}: missing" for name in wanted if name not in given]
    least = {
        "components": (0, "0 (all pixels) or a whole number above"),
        "max_iter": (1, "a whole number of at least 1"),
    }
    problems += [
        f"model.{name}={given[name]!r}: expected {text}"
        for name, (low, text) in least.items()
        if name in given and not (isinstance(given[name], int) and given[name] >= low)
    ]
    problems += [
        f"model.{name}={value!r}: expected {text}"
        for name, text, words in (
            ("C", "a number above 0, or several", ()),
            ("gamma", "a number above 0, 'scale' or 'auto'", GAMMA_WORDS),
        )
        for value in _each(given.get(name, 1.0))
        if value not in words and not _positive(value)
    ]
    if config.train.selection != "last":
        problems.append(
            f"train.selection={config.train.selection!r}: expected 'last', as an SVM has no "
            "epochs to choose from"
        )
    if problems:
        raise UserError(
            "an SVM cannot be made from this config",
            problems,
            fix="see configs/svm_linear_fer2013.py and svm_rbf_fer2013.py",
        )


def costs(config: ConfigDict) -> list[float]:
    """The values of C to try, ascending."""
    return sorted(map(float, _each(config.model.C)))


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
            C=C, class_weight=weights, dual=True, max_iter=model.max_iter, random_state=0
        )
    gamma = model.gamma if model.gamma in GAMMA_WORDS else float(model.gamma)
    return SVC(
        C=C,
        kernel="rbf",
        gamma=gamma,
        class_weight=weights,
        cache_size=CACHE,
        decision_function_shape="ovo",
    )


def decisions(machine: LinearSVC | SVC, rows: np.ndarray, classes: int) -> np.ndarray:
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


def pixels_of(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """The pixels of images as vectors, float64 [R, H*W*C] in 0..255."""
    return dataset.images[rows].reshape(len(rows), -1).astype(np.float64)


def predictions(
    dataset: Dataset, folds: Sequence[Fold], fitted: Sequence[Fitted]
) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz, one trial per fold; the selection is `last` alone, and there
    is no `epoch`.
    """
    classes, parts = len(dataset.class_names), []
    for t, (fold, fit) in enumerate(zip(folds, fitted, strict=True)):
        for side, rows in (("val", fold.val), ("test", fold.test)):
            logits = decisions(
                fit.machine, fit.features.transform(pixels_of(dataset, rows)), classes
            ).astype(np.float32)
            parts.append(
                (
                    rows,
                    logits,
                    np.full(len(rows), t, np.int32),
                    np.full(len(rows), side),
                    np.full(len(rows), "last"),
                )
            )
    return results.contract(
        dataset, folds, range(len(folds)), [0] * len(folds), [f.train for f in folds], parts
    )


def _in_words(fits: list[dict]) -> str:
    """Which C was kept in how many folds, in words; for a single fold also its validation
    accuracy.
    """
    kept = Counter(fit["C"] for fit in fits)
    if len(fits) > 1:
        return "C chosen: " + ", ".join(f"{C:g} in {n} folds" for C, n in sorted(kept.items()))
    (fit,) = fits
    vectors = f", {fit['support_vectors']:,} support vectors" if "support_vectors" in fit else ""
    return (
        f"C={fit['C']:g}: accuracy {max(fit['val_accuracy'].values()):.3f} on validation "
        f"rows{vectors}"
    )


def _each(value: object) -> Sequence:
    return value if isinstance(value, (tuple, list)) and value else [value]


def _positive(value: object) -> bool:
    try:
        return 0 < float(value) < float("inf")
    except (TypeError, ValueError):
        return False
