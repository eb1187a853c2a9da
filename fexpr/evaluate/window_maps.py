"""A temperature for the mean over a window of a video, from the validation frames of clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate.map_choice import calibration_rows
from fexpr.evaluate.recalibration import fit_temperature
from fexpr.probabilities import from_json, log_probabilities

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Int, Shaped

SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)  # lengths of windows; RAVDESS' clips last 3 to 5 seconds
FRAMES_PER_SECOND = 30  # of RAVDESS' videos


def window_temperatures(
    predictions: dict[str, np.ndarray], selection: str, applied: dict
) -> dict | None:
    """For windows of SECONDS, the temperature of highest likelihood of each trial's mean log
    probabilities, on its validation frames after the map that is applied to single frames.

    Neighbouring frames repeat each other, so that the mean of many is less certain than that of as
    many independent frames. How much, only clips of known classes show, for each length.

    Args:
      predictions: of frames, one class per row; `ids` are '<clip>/<frame>'.
      applied: the table of maps of single frames (`calibration_report.applied_maps`).

    Returns:
      `seconds` [L]; `temperatures` [trials][L] (None: a trial that failed); `clips` [trials], how
      many they were fitted on. None without `applied` maps.
    """
    if not applied:
        return None
    usable = calibration_rows(predictions, selection)
    found: list[list[float] | None] = []
    clips: list[int] = []
    for trial, number in enumerate(applied["of_trial"]):
        mine = usable[predictions["trial"][usable] == trial]
        clips.append(len(np.unique(predictions["video"][mine])))
        if number is None:
            found.append(None)
            continue
        moved = from_json(applied["maps"][number])(predictions["logits"][mine].astype(np.float64))
        logs, labels = log_probabilities(moved, False), predictions["labels"][mine]
        frame = np.array([int(name.rpartition("/")[2]) for name in predictions["ids"][mine]])
        means = (
            window_means(logs, predictions["video"][mine], frame, seconds * FRAMES_PER_SECOND)
            for seconds in SECONDS
        )
        found.append(
            [fit_temperature(m, labels, predictions["split"][mine]).temperature for m in means]
        )
    return {"seconds": list(SECONDS), "temperatures": found, "clips": clips}


def window_means(
    values: Float[np.ndarray, "R K"],
    video: Shaped[np.ndarray, " R"],
    frame: Int[np.ndarray, " R"],
    width: float,
) -> Float[np.ndarray, "R K"]:
    """The mean [R, K] of `values` [R, K] over the frames of the same `video` [R] that are at most
    half of `width` frames away; `frame` int [R] are their numbers.
    """
    order = np.lexsort((frame, video))
    clip, number = np.unique(video[order], return_inverse=True)[1], frame[order]
    # clips one after the other on one axis, too far apart for a window
    place = number - number.min() + clip * (np.ptp(number) + int(width) + 1)
    first = np.searchsorted(place, place - width / 2, "left")
    last = np.searchsorted(place, place + width / 2, "right")
    sums = np.concatenate([np.zeros((1, values.shape[1])), values[order].cumsum(axis=0)])
    means = np.empty(values.shape)
    means[order] = (sums[last] - sums[first]) / (last - first)[:, None]
    return means
