"""From frames to clips: rules that make one decision from a clip's frames, with probabilities, so

that every metric applies to clips too.

A rule returns log probabilities of each clip [V, K]. What it needs besides the clip's own
posteriors (their mean and deviation over clips, a temperature) is taken from the validation rows of
the same trial, never from rows that are tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fexpr import pooling
from fexpr.errors import UserError
from fexpr.evaluate import calibration
from fexpr.evaluate.calibration_report import applied_maps, choices_of
from fexpr.evaluate.evaluate_config import CLIP_RULES
from fexpr.evaluate.map_choice import calibration_rows, parts_of
from fexpr.evaluate.measure import measure
from fexpr.evaluate.predictions import checked
from fexpr.evaluate.recalibration import fit_temperature, fit_trial
from fexpr.evaluate.report.headline import in_words
from fexpr.evaluate.report.text_tables import make_table, print_table
from fexpr.evaluate.scored_rows import model_rows
from fexpr.evaluate.window_maps import window_temperatures
from fexpr.probabilities import to_json
from fexpr.terminal import console, say

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Int

RULES = CLIP_RULES
# arrays whose values all frames of a clip share
PER_FRAME = ("groups", "labels", "trial", "split", "selection", "dataset")
SHOWN = {
    "accuracy": "accuracy",
    "uar": "UAR",
    "uf1": "UF1",
    "roc_auc": "ROC-AUC",
    "nll": "NLL ↓",
    "ece": "ECE ↓",
}


def decide(
    predictions: dict[str, np.ndarray],
    rule: str = "sum",
    kept: Bool[np.ndarray, " R"] | None = None,
) -> dict[str, np.ndarray]:
    """Predictions of frames (arrays of predictions.npz, with `video` str [R]) as predictions of
    clips, in the same form.

    Args:
      rule: one of RULES.
      kept: bool [R], the frames that count (from a filter that sees no labels); by default all.

    Returns:
      The arrays of predictions.npz, a row per clip of each trial, split and selection; `ids` are
      the clips' names.

    Raises:
      UserError: an unknown rule.
      ValueError: a clip with several labels, or without a kept frame.
    """
    if rule not in RULES:
        raise UserError(f"there is no clip rule {rule!r}", fix=f"choose one of {', '.join(RULES)}")
    kept = np.ones(len(predictions["ids"]), bool) if kept is None else kept
    keys = np.stack(
        [
            np.unique(predictions[name], return_inverse=True)[1]
            for name in ("selection", "trial", "split", "video")
        ]
    )
    groups, index = np.unique(keys, axis=1, return_inverse=True)
    index, first = index.reshape(-1), np.full(groups.shape[1], -1)
    first[index[::-1]] = np.arange(len(index))[::-1]
    if (predictions["labels"] != predictions["labels"][first[index]]).any():
        raise ValueError("the frames of a clip have several labels")
    if (np.bincount(index[kept], minlength=len(first)) == 0).any():
        raise ValueError("a clip has no frame that is kept")
    logits, (name, trial) = np.empty((len(first), predictions["logits"].shape[1])), keys[:2]
    values = predictions["logits"].astype(np.float64)
    for s, t in np.unique(keys[:2], axis=1).T:
        mine = (name == s) & (trial == t)
        val = mine & (predictions["split"] == "val")
        if np.isnan(values[mine]).any():  # a failed trial has no predictions
            logits[np.unique(index[mine])] = np.nan
            continue
        clips, within = np.unique(index[mine & kept], return_inverse=True)
        logits[clips] = pooled(
            values[mine & kept], within, len(clips), rule, values[val], predictions["labels"][val]
        )
    of_frames = {key: predictions[key][first] for key in PER_FRAME if key in predictions}
    of_run = {
        key: value
        for key, value in predictions.items()
        if key not in (*PER_FRAME, "ids", "logits", "video")
    }
    return {
        **of_run,
        **of_frames,
        "ids": predictions["video"][first],
        "logits": logits.astype(np.float32),
    }


def pooled(
    logits: Float[np.ndarray, "R K"],
    index: Int[np.ndarray, " R"],
    count: int,
    rule: str,
    val_logits: Float[np.ndarray, "V K"],
    val_labels: Int[np.ndarray, " V"],
) -> Float[np.ndarray, "{count} K"]:
    """Log probabilities [count, K] of clips, from the logits [R, K] of frames; `index` [R] gives
    the clip of each frame. Rules: `pooling.pooled`.
    """
    if rule == "calibrated":
        logits = fit_temperature(val_logits, val_labels, np.full(len(val_labels), "val"))(logits)
    of_validation = posterior_moments(val_logits) if rule in ("centred", "zscored") else ()
    return pooling.pooled(pooling.frame_sums(logits, index, count), rule, *of_validation)


def posterior_moments(
    logits: Float[np.ndarray, "R K"],
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Mean and deviation [K] of the posteriors of frames with `logits` [R, K]."""
    seen = calibration.probabilities(logits, False)
    return seen.mean(axis=0), seen.std(axis=0)


def compare(
    predictions: dict[str, np.ndarray],
    selection: str,
    resamples: int,
    seed: int = 0,
    kept: Bool[np.ndarray, " R"] | None = None,
) -> dict:
    """Every rule's figures on the test clips of a selection: rule -> metric (SHOWN) -> value, low,
    high.
    """
    table = {}
    mine = predictions["selection"] == selection
    rows = predictions | {
        key: predictions[key][mine]
        for key in (*PER_FRAME, "ids", "logits", "video")
        if key in predictions
    }
    for rule in RULES:
        clips = checked(decide(rows, rule, None if kept is None else kept[mine]), selection)
        answer = model_rows(clips, selection, "test", None)
        measured = measure(answer, np.ones(answer.presence.shape[1], bool), resamples, seed)
        table[rule] = {name: measured.of(name) for name in SHOWN}
    return table


def of_frames(
    predictions: dict[str, np.ndarray], selection: str, resamples: int, seed: int = 0
) -> dict:
    """Results of single frames, and what a clip rule needs from them.

    Returns:
      `accuracy` of single test frames, by the same bootstrap over actors (counted by actor first,
      as frames are many), and their `rows`. Of each trial (None: it failed), from its validation
      frames: `temperature`, the map in `maps` that contains it, and in `posteriors` their mean and
          deviation. `applied`: whether a temperature calibrates the network itself, as in
          `calibration_report`; {} where trials lack validation rows. `windows`: see
          `window_temperatures`.
    """
    mine = (predictions["selection"] == selection) & (predictions["split"] == "test")
    right = predictions["logits"][mine].argmax(axis=1) == predictions["labels"][mine]
    names, index = np.unique(predictions["groups"][mine], return_inverse=True)
    hits, frames = np.bincount(index, right, len(names)), np.bincount(index, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(0, len(names), (resamples, len(names)))
    samples = hits[drawn].sum(axis=1) / frames[drawn].sum(axis=1)
    low, high = np.quantile(samples, [0.025, 0.975]) if len(names) > 1 else (None, None)
    fitted = [
        None if failed else fit_trial(predictions, selection, t, "temperature")
        for t, failed in enumerate(predictions["failed"])
    ]
    applied = _applied(checked(predictions, selection), selection)
    return {
        "accuracy": {"value": float(right.mean()), "low": low, "high": high},
        "rows": int(mine.sum()),
        "temperature": [one and float(one.temperature) for one in fitted],
        "maps": [one and to_json(one) for one in fitted],
        "posteriors": [
            None if failed else _moments(predictions, selection, t)
            for t, failed in enumerate(predictions["failed"])
        ],
        "applied": applied,
        "windows": window_temperatures(predictions, selection, applied),
    }


def _moments(predictions: dict[str, np.ndarray], selection: str, trial: int) -> dict:
    rows = (predictions["selection"] == selection) & (predictions["trial"] == trial)
    mean, deviation = posterior_moments(
        predictions["logits"][rows & (predictions["split"] == "val")]
    )
    return {"mean": mean.tolist(), "deviation": deviation.tolist()}


def _applied(predictions: dict[str, np.ndarray], selection: str) -> dict:
    validated = predictions["trial"][calibration_rows(predictions, selection)]
    working = np.flatnonzero(~predictions["failed"])
    if not len(working) or len(np.setdiff1d(working, validated)):
        return {}
    parts = parts_of(predictions, selection)
    return applied_maps(predictions, parts, choices_of(predictions, parts, ("temperature",)))


def print_rules(clips: dict) -> None:
    """Prints the table of rules, and the accuracy of single frames."""
    table = make_table("a clip by its frames'", *SHOWN.values())
    for rule, of in clips["rules"].items():
        cells = [
            in_words(of[name] if name == "accuracy" else {**of[name], "low": None})
            for name in SHOWN
        ]
        table.add_row(f"{rule}: {RULES[rule]}{' *' if rule == clips['rule'] else ''}", *cells)
    console.print()
    print_table(table, console)
    say(
        "* the rule above (config.evaluate.clips). Single frames: accuracy "
        f"{in_words(clips['frames']['accuracy'])}"
    )
