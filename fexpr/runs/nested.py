"""Chooses a machine's hyper-parameters inside a fold, on its training subjects only, who validate
in turn. Every inner split is a `Fold`, and so is checked like any split. The posterior of a row is
scaled by a temperature fitted on other subjects' rows.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from fexpr.data.splits.fold import Fold
from fexpr.data.splits.validation_groups import validation_turn
from fexpr.errors import UserError
from fexpr.evaluate import calibration, metrics
from fexpr.evaluate.recalibration import fit_temperature
from fexpr.train.losses import class_weights
from fexpr.train.machines import values_of
from fexpr.train.machines.rows import Rows, Task

Machine = Callable[[Rows, Task, Sequence[Mapping]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The result of one fold.

    Attributes:
      point: the hyper-parameters that were chosen. score: theirs on the inner validation rows, all
          parts pooled; scores: of every point that was tried. temperature: that of test posteriors.
      val_rows, val_logits: every training row, predicted by the machine that it validated, and
          scaled by the other parts' temperature. test_logits: of the fold's test rows.
    """

    point: dict
    score: float
    scores: tuple[float, ...]
    temperature: float
    val_rows: np.ndarray
    val_logits: np.ndarray
    test_logits: np.ndarray

    def summary(self) -> dict:
        """Its entry in config.json."""
        return {"chosen": self.point, "inner": self.score, "temperature": self.temperature}


def grid(values: Mapping[str, object]) -> list[dict]:
    """Every combination of hyper-parameters, each of which is one value or a tuple of values, in
    the given order.
    """
    each = [values_of(value) for value in values.values()]
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*each)]


def fit_fold(
    machine: Machine,
    rows: Rows,
    fold: Fold,
    labels: Int[np.ndarray, " N"],
    groups: Shaped[np.ndarray, " N"],
    classes: int,
    points: Sequence[dict],
    parts: int,
    seed: list[int],
    monitor: str,
    weighting: tuple[float, float],
) -> Fitted:
    """Chooses among `points` by inner folds of the fold's training subjects, then fits on all of
    them.

    Args:
      rows: of the whole data set, as labels and groups are.
      parts, seed: of `validation_turn`.
      monitor: one of SCORES; the first point wins among equals.
      weighting: strength and largest value of class weights, as in `class_weights`.

    Raises:
      UserError: training rows of a single class, in the fold or in an inner part.
    """
    turns = [validation_turn(fold, groups, parts, turn, seed) for turn in range(parts)]

    def scored(train: np.ndarray, where: np.ndarray, tried: Sequence[dict]) -> np.ndarray:
        if len(np.unique(labels[train])) < 2:
            raise UserError(
                f"fold {fold.name}: all training rows are of one class", fix="choose another split"
            )
        weights = class_weights(labels[train], classes, *weighting)
        return machine(rows, Task(train, where, labels, classes, weights), tried)

    inner = [scored(turn.train, turn.val, points) for turn in turns]
    val_rows = np.concatenate([turn.val for turn in turns])
    part = np.repeat(np.arange(parts), [len(turn.val) for turn in turns])
    logits, truth = np.concatenate(inner, axis=1), labels[val_rows]
    scores = [SCORES[monitor](each, truth) for each in logits]
    best = int(np.argmax(scores))
    scaled = np.empty_like(logits[best])
    for mine in range(parts):
        scaling = _temperature(logits[best][part != mine], truth[part != mine])
        scaled[part == mine] = scaling(logits[best][part == mine])
    scaling = _temperature(logits[best], truth)
    all_rows = np.concatenate([fold.train, fold.val])
    (test,) = scored(np.sort(all_rows), fold.test, [points[best]])
    return Fitted(
        points[best],
        float(scores[best]),
        tuple(map(float, scores)),
        scaling.temperature,
        val_rows,
        calibration.log_probabilities(scaled, False),
        calibration.log_probabilities(scaling(test), False),
    )


def _temperature(logits: np.ndarray, labels: np.ndarray):
    return fit_temperature(logits, labels, np.full(len(labels), "val"))


def uf1(logits: Float[np.ndarray, "R K"], labels: Int[np.ndarray, " R"]) -> float:
    """Unweighted F1 of the likeliest classes, over the classes that occur."""
    each = np.arange(logits.shape[1])
    truth, decided = labels[:, None] == each, logits.argmax(1)[:, None] == each
    counts = metrics.confusion_counts(truth, decided, np.ones((1, len(labels))))
    return float(np.nanmean(metrics.f1(counts)))


def accuracy(logits: Float[np.ndarray, "R K"], labels: Int[np.ndarray, " R"]) -> float:
    """The share of rows whose largest logit [R, K] is that of their label int [R]."""
    return float((logits.argmax(1) == labels).mean())


def loss(logits: Float[np.ndarray, "R K"], labels: Int[np.ndarray, " R"]) -> float:
    """Negative log loss, after the single best temperature for these rows."""
    truth = labels[:, None] == np.arange(logits.shape[1])
    scaled = _temperature(logits, labels)(logits)
    return -float(calibration.nll_per_row(truth, scaled, False).mean())


# (logits [R, K], labels [R]) -> higher is better; named as in config.train.monitor
SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "uf1": uf1,
    "accuracy": accuracy,
    "loss": loss,
}
