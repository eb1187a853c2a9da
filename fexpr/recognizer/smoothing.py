"""Posteriors of a video, smoothed over a window of time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from fexpr.probabilities import Temperature
from fexpr.recognizer.ensemble import Ensemble
from fexpr.recognizer.row_status import OK

MARGIN = 1e-6  # seconds: stamps are rounded
LEAST = 1e-6  # probability: its log odds are finite


def window_map(recognizer: Ensemble, seconds: float) -> Temperature | None:
    """The map of a mean over a window of this length: a temperature, between the lengths that were
    measured by a line in its logarithm (a single frame has 1), and beyond the longest that of the
    longest; smoothed as if one of n + 1 validation clips could be of any class. Of an ensemble the
    mean over its members. None if frames of clips were not evaluated, or the network was trained
    further.
    """
    if recognizer.maps is None:
        return None
    members = recognizer.members
    table = (recognizer.metrics.get("clips") or {"frames": {}})["frames"].get("windows")
    if not table or None in (of_members := [table["temperatures"][t] for t in members]):
        return None
    logs = np.log(np.array(of_members, np.float64)).mean(axis=0)
    temperature = np.exp(np.interp(seconds, [0.0, *table["seconds"]], [0.0, *logs]))
    share = np.mean([1 / (table["clips"][t] + 1) for t in members])
    return Temperature(float(temperature), float(share))


def smoothed(
    recognizer: Ensemble, tables: Iterable[pd.DataFrame], window: float
) -> Iterator[pd.DataFrame]:
    """Smooths the tables of a video: each row's probabilities are averaged with those of the same
    person around it.

    Log odds are averaged over the rows of one `face` less than half a window before or after; of
    one class per row the result is scaled to a sum of 1 (the normalised geometric mean). Decisions
    and entropies are computed again. The calibration map was applied to each frame; the mean is
    calibrated by a temperature if the run was evaluated on frames of clips (RAVDESS), and is not
    calibrated otherwise. Prediction sets, whose limits hold for single frames, are left out like
    `spread`. A column `window` has the seconds. Tables are delayed by half a window.

    Args:
      window: seconds.
    """
    temperature = window_map(recognizer, window)
    recognizer = dataclasses.replace(recognizer, limits=None, coverage=None)
    held = pd.DataFrame()
    pending = 0.0  # seconds: rows from here on have not been yielded
    for table in tables:
        held = pd.concat([held, table]) if len(held) else table
        until = held["seconds"].iloc[-1] - window / 2 - MARGIN
        due = (held["seconds"] >= pending) & (held["seconds"] < until)
        if due.any():
            yield _smooth(recognizer, held, due.to_numpy(), window, temperature)
            pending = until
        held = held[held["seconds"] >= pending - window / 2 - MARGIN]
    due = held["seconds"] >= pending if len(held) else held.index
    if len(held) and due.any():
        yield _smooth(recognizer, held, due.to_numpy(), window, temperature)


def _smooth(
    recognizer: Ensemble,
    held: pd.DataFrame,
    due: np.ndarray,
    window: float,
    temperature: Temperature | None,
) -> pd.DataFrame:
    classes = list(recognizer.class_names)
    p = held[classes].to_numpy(float).clip(LEAST, 1 - LEAST)
    odds = np.log(p) - np.log1p(-p) if recognizer.multilabel else np.log(p)
    seconds, face = held["seconds"].to_numpy(), held["face"].to_numpy(float, na_value=np.nan)
    ok = (held["status"] == OK).to_numpy()
    made = held[due].drop(columns=["spread", "set"], errors="ignore").copy()
    rows = np.flatnonzero(due)
    mean = np.full((len(rows), len(classes)), np.nan)
    for i, row in enumerate(rows):
        near = ok & (np.abs(seconds - seconds[row]) <= window / 2 + MARGIN)
        near &= (face == face[row]) | (np.isnan(face) & np.isnan(face[row]))
        if ok[row]:
            mean[i] = odds[near].mean(axis=0)
    if temperature is not None:
        mean = temperature(mean)
    if recognizer.multilabel:
        values = 1 / (1 + np.exp(-mean))
    else:
        values = np.exp(mean - mean.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    decided = recognizer.decide(list(made.index), values[None], list(made["status"]))
    for name in ("decision", "entropy", *classes):
        made[name] = decided[name].to_numpy()
    made.insert(list(made.columns).index("entropy"), "window", window)
    made.attrs = {"calibrated": temperature is not None}
    return made
