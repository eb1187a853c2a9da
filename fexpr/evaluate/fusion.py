"""Late fusion: combines the predictions of several runs, and of the seeds of each, into those of
one predictor. NumPy, from predictions.npz alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fexpr.errors import UserError
from fexpr.evaluate import calibration
from fexpr.evaluate.predictions import checked

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Int

RULES = ("mean", "product")  # means of posteriors: arithmetic or geometric
# criteria to choose a fold's run; 'weights' takes all runs, with weights
CHOICES = ("nll", "accuracy", "weights")
STEPS = 500  # of the search for weights
LEAST_WEIGHT = 1e-3  # a run with a smaller weight is left out
Predictions = dict[str, np.ndarray]


def fuse(
    runs: Mapping[str, Predictions],
    selection: str | Mapping[str, str],
    rule: str = "mean",
    choose: str = "",
) -> tuple[Predictions, dict[str, str]]:
    """Fuses the posteriors of each fold's trials into one trial per fold: first over the seeds of
    each run, then over the runs.

    With `choose`, a fold takes the one run instead that is best on that fold's validation rows,
    seeds fused: hyper-parameters are chosen fold by fold, without the rows that the fold tests. A
    validation row is predicted by the trials that it validates; if validation groups take turns
    (config.split.inner), that is every training row. 'weights' chooses members and their shares of
    the posterior there, instead of one run (`mixture_weights`).

    Args:
      runs: name -> arrays of predictions.npz, one-of-K, of the same folds.
      selection: 'last' or 'best_val', of all runs or by name.
      rule: one of RULES, for seeds and runs alike.
      choose: one of CHOICES, or '' for a fusion of all runs.

    Returns:
      Arrays of predictions.npz of a single seed 0, under the selection 'best_val' if any run has it
      (with a single run, its own); and the run or the weights chosen for each fold ({} if nothing
      is chosen).

    Raises:
      UserError: classes, folds, test rows or labels that differ between runs; a failed
          trial; action units; an unknown rule.
    """
    for value, allowed, what in ((rule, RULES, "rule"), (choose, ("", *CHOICES), "choose")):
        if value not in allowed:
            raise UserError(
                f"{what} is {value!r}", fix=f"expected one of {', '.join(map(repr, allowed))}"
            )
    if rule != "mean" and choose == "weights":
        raise UserError("choose='weights' needs the rule 'mean'", fix="leave out --rule")
    by_name = dict.fromkeys(runs, selection) if isinstance(selection, str) else dict(selection)
    found = {name: checked(p, by_name[name]) for name, p in runs.items()}
    _same(found, by_name)
    first = next(iter(found.values()))
    parts, chosen = [], {}
    for f, fold in enumerate(first["fold_names"].tolist()):
        if not (first["trial_fold"] == f).any():
            continue
        tables = {
            name: {
                split: _seeds_fused(p, by_name[name], split, f, rule) for split in ("val", "test")
            }
            for name, p in found.items()
        }
        weights = None
        if choose == "weights":
            weights = _weights([table["val"] for table in tables.values()], fold)
            chosen[fold] = " + ".join(
                f"{weight:.2f} {name}"
                for name, weight in zip(tables, weights, strict=True)
                if weight > 0
            )
        elif choose:
            best = min(tables, key=lambda name: _loss(tables[name]["val"], choose, fold, name))
            tables, chosen[fold] = {best: tables[best]}, best
        for split in ("val", "test"):
            rows = _fused([table[split] for table in tables.values()], rule, weights)
            parts.append(
                {
                    **rows,
                    "split": np.full(len(rows["ids"]), split),
                    "trial": np.full(len(rows["ids"]), len(parts) // 2, np.int32),
                }
            )
    folds = [f for f in range(len(first["fold_names"])) if (first["trial_fold"] == f).any()]
    ones = [np.flatnonzero(first["trial_fold"] == f)[0] for f in folds]
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    arrays |= {
        "selection": np.full(len(arrays["ids"]), fused_selection(by_name)),
        "class_names": first["class_names"],
        "fold_names": first["fold_names"],
        "trial_fold": np.array(folds, np.int32),
        "trial_seed": np.zeros(len(folds), np.int32),
        "failed": np.zeros(len(folds), bool),
        "train_positives": first["train_positives"][ones],
        "train_rows": first["train_rows"][ones],
    }
    return arrays, chosen


def fused_selection(by_name: Mapping[str, str]) -> str:
    """The selection under which the fused rows are saved."""
    return "best_val" if "best_val" in by_name.values() else "last"


def mixture_weights(
    posteriors: Float[np.ndarray, "M R K"], labels: Int[np.ndarray, " R"]
) -> Float[np.ndarray, " M"]:
    """The non-negative weights [M], of sum 1, under which the mixture of M members' posteriors [M,
    R, K] makes `labels` [R] likeliest, with every class weighted equally. The likelihood is concave
    in the weights; expectation maximisation (Dempster et al. 1977) starts from equal ones.
    """
    # [M, R], of each row's true class
    true_posteriors = np.take_along_axis(posteriors, labels[None, :, None], axis=2)[..., 0]
    share = 1.0 / np.bincount(labels, minlength=posteriors.shape[2])[labels]
    weights = np.full(len(posteriors), 1 / len(posteriors))
    for _ in range(STEPS):
        part = weights[:, None] * true_posteriors
        weights = (part / np.maximum(part.sum(0), 1e-300)) @ share / share.sum()
    weights = np.where(weights < LEAST_WEIGHT, 0, weights)
    return weights / weights.sum()


def _weights(tables: list[Predictions], fold: str) -> np.ndarray:
    """Weights from the rows that validate in every run."""
    kept, ids = _common(tables)
    if not len(ids):
        raise UserError(
            f"fold {fold} has no validation row that all runs share, so weights cannot be chosen",
            fix="train with split.inner above 0 and as many seeds as parts, so that every training "
            "row validates once",
        )
    posteriors = np.exp([calibration.log_probabilities(t["logits"], False) for t in kept])
    return mixture_weights(posteriors, kept[0]["labels"])


def _same(runs: Mapping[str, Predictions], selection: Mapping[str, str]) -> None:
    (name, first), *others = runs.items()
    problems = [
        f"{run}: its labels are action units, one class per row is needed"
        for run, p in runs.items()
        if p["labels"].ndim == 2
    ]
    problems += [
        f"{run}: {p['failed'].sum()} of its trials failed"
        for run, p in runs.items()
        if p["failed"].any()
    ]
    for other, p in others:
        if p["class_names"].tolist() != first["class_names"].tolist():
            problems.append(f"{other}: other classes than {name}: {', '.join(p['class_names'])}")
        elif p["fold_names"].tolist() != first["fold_names"].tolist():
            problems.append(f"{other}: other folds than {name}: {', '.join(p['fold_names'][:6])}")
        elif _truth(p, selection[other]) != _truth(first, selection[name]):
            problems.append(
                f"{other}: its folds test other rows than those of {name}, or have other labels"
            )
    if problems:
        raise UserError(
            "these runs cannot be fused",
            problems,
            fix="train them on the same release with the same split.* settings",
        )


def _truth(p: Predictions, selection: str) -> set[tuple]:
    rows = np.flatnonzero((p["selection"] == selection) & (p["split"] == "test"))
    fold = p["trial_fold"][p["trial"][rows]]
    return set(zip(fold.tolist(), p["ids"][rows].tolist(), p["labels"][rows].tolist(), strict=True))


def _seeds_fused(p: Predictions, selection: str, split: str, fold: int, rule: str) -> Predictions:
    """Each row of the fold once: ids, groups, labels, and its posteriors over the seeds as
    `logits`.
    """
    rows = np.flatnonzero(
        (p["selection"] == selection)
        & (p["split"] == split)
        & (p["trial_fold"][p["trial"]] == fold)
    )
    ids, where, index = np.unique(p["ids"][rows], return_index=True, return_inverse=True)
    logits = pooled(p["logits"][rows].astype(np.float64), index, len(ids), rule)
    extra = {name: p[name][rows][where] for name in ("dataset", "video") if name in p}
    return {
        "ids": ids,
        "groups": p["groups"][rows][where],
        "labels": p["labels"][rows][where],
        "logits": logits,
        **extra,
    }


def pooled(
    logits: Float[np.ndarray, "R K"],
    index: Int[np.ndarray, " R"],
    count: int,
    rule: str,
    weights: Float[np.ndarray, " R"] | None = None,
) -> Float[np.ndarray, "{count} K"]:
    """Log posteriors [count, K], pooled over the rows of `logits` [R, K] with the same `index` [R]:
    the arithmetic or geometric mean, weighted by `weights` [R] (None: equally).
    """
    weights = np.ones(len(index)) if weights is None else weights
    values = calibration.log_probabilities(logits, False)
    values = np.exp(values) if rule == "mean" else values
    total = np.zeros((count, logits.shape[1]))
    np.add.at(total, index, values * weights[:, None])
    mean = total / np.bincount(index, weights, minlength=count)[:, None]
    return (
        np.log(np.maximum(mean, 1e-300))
        if rule == "mean"
        else calibration.log_probabilities(mean, False)
    )


def _common(tables: list[Predictions]) -> tuple[list[Predictions], np.ndarray]:
    """The tables, reduced to the rows that all have and sorted by id; and the ids."""
    ids = tables[0]["ids"]
    for table in tables[1:]:
        ids = np.intersect1d(ids, table["ids"])
    kept = [
        {key: value[np.searchsorted(table["ids"], ids)] for key, value in table.items()}
        for table in tables
    ]
    return kept, ids


def _fused(tables: list[Predictions], rule: str, weights: np.ndarray | None = None) -> Predictions:
    """Fuses the rows that every run has, sorted by id, with runs weighted by `weights`."""
    kept, ids = _common(tables)
    index = np.tile(np.arange(len(ids)), len(kept))
    logits = (
        pooled(
            np.concatenate([table["logits"] for table in kept]),
            index,
            len(ids),
            rule,
            None if weights is None else np.repeat(weights, len(ids)),
        )
        if len(kept) > 1
        else kept[0]["logits"]
    )
    return {**kept[0], "logits": logits.astype(np.float32)}


def _loss(table: Predictions, by: str, fold: str, run: str) -> float:
    if not len(table["ids"]):
        raise UserError(f"{run}: fold {fold} has no validation rows to choose by")
    if by == "accuracy":
        return -float((table["logits"].argmax(1) == table["labels"]).mean())
    presence = table["labels"][:, None] == np.arange(table["logits"].shape[1])
    return float(calibration.nll_per_row(presence, table["logits"], False).mean())
