"""Compares predictors on the rows on which all of them were tested: paired bootstrap differences,
McNemar's test.

Every predictor is measured on the same rows with the same resamples of groups, so that the effect
of a hard subject on all of them cancels in a difference. Its interval shows how the difference
would vary with other subjects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from fexpr.errors import UserError
from fexpr.evaluate import calibration, smooth_error
from fexpr.evaluate.bootstrap import RESAMPLES
from fexpr.evaluate.calibration_report import by_bin
from fexpr.evaluate.evaluation import HEADLINE
from fexpr.evaluate.measure import measure
from fexpr.evaluate.predictions import checked, rows_of
from fexpr.evaluate.scored_rows import ScoredRows, model_rows, trial_thresholds

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Int, Shaped

SHOWN = 5  # ids that a problem lists


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A predictor to compare: the arrays of a predictions.npz, and the selection to use."""

    name: str
    predictions: dict[str, np.ndarray]
    selection: str
    source: str


@threadpool_limits.wrap(limits=1, user_api="blas")
def compare(
    candidates: Sequence[Candidate],
    min_train_positives: int = 5,
    resamples: int = RESAMPLES,
    seed: int = 0,
    split: str = "test",
) -> dict:
    """Measures all candidates on their common test rows, and the difference of each to the first.

    With split="val" these are validation rows: for choosing between settings before a test row is
    looked at. They have chosen the epoch of `best_val`, and the thresholds of action units.

    Action units are averaged by macro figures where every candidate had `min_train_positives`
    training positives of them. A candidate with several seeds is measured as the mean over its
    seeds. McNemar's exact test takes the first seed of each, and a row as right if all of its
    decisions are; it assumes independent rows, which clips of one subject are not: rely on the
    interval.

    Returns:
      `candidates`: name, source, selection, seeds, `left_out` (its test rows that others lack),
          `test` (M of metrics.json, of the rows compared), `f1` by class, `reliability` by bin and
          its kernel `diagram` (both None for action units).
      `differences`: for each candidate but the first: `name`, `less` (the first's name), the
          differences of all metrics, `mcnemar` {only_this, only_first, p, seeds},
      `agree` (share of rows decided alike).
      `split`, `rows`, `groups`, `class_names`, `task`, `resamples`; `metrics`: those to show first;
      `averaged`: classes of macro figures.

    Raises:
      UserError: fewer than two; classes, labels or groups of the same ids differ; no common row; a
        row tested more often by one than by another. All problems of a kind at once.
    """
    if len(candidates) < 2:
        raise UserError("a comparison needs two or more predictors", [f"found {len(candidates)}"])
    arrays = [checked(c.predictions, c.selection) for c in candidates]
    tests = [rows_of(p, c.selection, split) for p, c in zip(arrays, candidates, strict=True)]
    common = _common_ids(candidates, arrays, tests, split)
    tested = [
        _tested(c, p, rows, common, split)
        for c, p, rows in zip(candidates, arrays, tests, strict=True)
    ]
    _as_often(tested)
    first = tested[0].answer
    enough = np.ones(first.presence.shape[1], bool)
    if first.multilabel:
        enough = (
            np.min([p["train_positives"].min(axis=0) for p in arrays], axis=0)
            >= min_train_positives
        )
    measured = [measure(t.answer, enough, resamples, seed) for t in tested]
    task = "multilabel" if first.multilabel else "multiclass"
    return {
        "candidates": [
            t.summary(resamples, seed)
            | {"test": m.summary(), "f1": [m.of_class("f1", k) for k in range(len(enough))]}
            for t, m in zip(tested, measured, strict=True)
        ],
        "differences": [
            _pair(t, tested[0]) | {metric: m.less(measured[0], metric) for metric in m.summary()}
            for t, m in zip(tested[1:], measured[1:], strict=True)
        ],
        "split": split,
        "rows": len(common),
        "groups": len(np.unique(first.groups)),
        "class_names": arrays[0]["class_names"].tolist(),
        "averaged": int((enough & first.presence.any(axis=0)).sum()),
        "resamples": resamples,
        "task": task,
        "metrics": [*HEADLINE[task], "roc_auc", "nll", "brier", "ece"],
    }


@dataclasses.dataclass(frozen=True)
class Tested:
    """A candidate on the common rows: its predictions, their ids, and how many of its test rows
    were left out.
    """

    candidate: Candidate
    answer: ScoredRows
    ids: Shaped[np.ndarray, " R"]
    left_out: int

    def summary(self, resamples: int, seed: int) -> dict:
        """Its entry in the result of the comparison."""
        c, a = self.candidate, self.answer
        diagram = None
        if not (a.multilabel or a.failed().any()):
            judged = calibration.confidence_and_outcome(a.presence, a.known_logits(), False)
            diagram = smooth_error.diagram(*judged, a.groups, resamples, seed)
        return {
            "name": c.name,
            "source": c.source,
            "selection": c.selection,
            "seeds": np.unique(a.seeds).tolist(),
            "left_out": self.left_out,
            "reliability": None if a.multilabel else by_bin(a),
            "diagram": diagram,
        }

    def right(self) -> tuple[Bool[np.ndarray, " R"], Bool[np.ndarray, "R K"]]:
        """For the first seed, rows ordered by id: whether all decisions of a row are right, bool
        [R], and the decisions, bool [R, K].
        """
        pool = self.answer.pools()[0]
        order = np.argsort(self.ids[pool], kind="stable")
        truth, says = self.answer.presence[pool][order], self.answer.decisions[pool][order]
        return (truth == says).all(axis=1), says


def _tested(
    candidate: Candidate,
    predictions: dict,
    rows: Int[np.ndarray, " rows"],
    common: Shaped[np.ndarray, " common"],
    split: str,
) -> Tested:
    ids = predictions["ids"][rows]
    at = np.flatnonzero(np.isin(ids, common))
    fitted = trial_thresholds(predictions, candidate.selection)
    answer = model_rows(predictions, candidate.selection, split, fitted and fitted[0]).at(at)
    return Tested(candidate, answer, ids[at], len(np.unique(ids)) - len(common))


def _as_often(tested: Sequence[Tested]) -> None:
    """Checks that every common row occurs equally often in each candidate: repeated splits may test
    a row several times, files may contain one twice.
    """
    counts = [
        dict(zip(*np.unique(t.ids[t.answer.pools()[0]], return_counts=True), strict=True))
        for t in tested
    ]
    first, problems = counts[0], []
    for t, count in zip(tested[1:], counts[1:], strict=True):
        if differ := [
            i for i in sorted(first.keys() | count.keys()) if count.get(i, 0) != first.get(i, 0)
        ]:
            shown = ", ".join(
                f"{i} {count.get(i, 0)} and {first.get(i, 0)} times" for i in differ[:SHOWN]
            )
            problems.append(
                f"{t.candidate.name}: {len(differ)} rows are tested more or less often than by "
                f"{tested[0].candidate.name}: {shown}"
            )
    if problems:
        raise UserError(
            "these predictions cannot be compared row by row",
            problems,
            fix="give every test row once per seed, or the same repeats in all",
        )


def _pair(this: Tested, first: Tested) -> dict:
    from scipy.stats import binomtest  # comes with scikit-learn

    (right, says), (first_right, first_says) = this.right(), first.right()
    only_this, only_first = int((right & ~first_right).sum()), int((first_right & ~right).sum())
    p = binomtest(only_this, only_this + only_first).pvalue if only_this + only_first else 1.0
    return {
        "name": this.candidate.name,
        "less": first.candidate.name,
        "agree": float((says == first_says).all(axis=1).mean()),
        "mcnemar": {
            "only_this": only_this,
            "only_first": only_first,
            "p": float(p),
            "seeds": [int(t.answer.seeds[0]) for t in (this, first)],
        },
    }


def _common_ids(
    candidates: Sequence[Candidate],
    arrays: list[dict],
    tests: list[Int[np.ndarray, " _"]],
    split: str,
) -> Shaped[np.ndarray, " common"]:
    """The sorted ids that all candidates test; checks that their labels and groups agree."""
    first, names = arrays[0], arrays[0]["class_names"].tolist()
    problems = [
        f"{c.name}: classes {', '.join(p['class_names'])}, expected those of "
        f"{candidates[0].name}: {', '.join(names)}"
        for c, p in zip(candidates, arrays, strict=True)
        if p["class_names"].tolist() != names
    ]
    problems += [
        f"{c.name}: {'several classes' if p['labels'].ndim == 2 else 'one class'} a row, "
        f"unlike {candidates[0].name}"
        for c, p in zip(candidates, arrays, strict=True)
        if p["labels"].ndim != first["labels"].ndim
    ]
    if problems:
        raise UserError(
            "these predictions cannot be compared: their classes or labels differ", problems
        )
    by_id = [
        dict(zip(p["ids"][rows], rows, strict=True)) for p, rows in zip(arrays, tests, strict=True)
    ]
    common = sorted(set.intersection(*map(set, by_id)))
    if not common:
        raise UserError(
            "these predictions cannot be compared: no row is common to all",
            [
                f"{c.name}: "
                + (
                    f"{len(rows)} {split} rows, as {', '.join(list(rows)[:SHOWN])}"
                    if rows
                    else f"no {split} rows"
                )
                for c, rows in zip(candidates, by_id, strict=True)
            ],
            fix="compare runs on the same data; predictions from elsewhere need a column of ids",
        )
    for c, p, rows in zip(candidates[1:], arrays[1:], by_id[1:], strict=True):
        for what in ("labels", "groups"):
            expected, found = (
                first[what][[by_id[0][i] for i in common]],
                p[what][[rows[i] for i in common]],
            )
            differ = (expected != found).reshape(len(common), -1).any(axis=1)
            if differ.any():
                shown = ", ".join(np.array(common)[differ][:SHOWN])
                problems.append(
                    f"{c.name}: {what} of {differ.sum()} of {len(common)} common rows are not "
                    "those of "
                    f"{candidates[0].name}, for example {shown}"
                )
    if problems:
        raise UserError(
            "these predictions cannot be compared",
            problems,
            fix="an id must name the same clip, label and subject in all of them",
        )
    return np.array(common)
