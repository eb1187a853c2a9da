"""How far a one-of-K model's probabilities can be trusted: one line, and the tables under it."""

from __future__ import annotations

from fexpr.evaluate.report.calibration_words import MAPS_IN_WORDS, shown_maps
from fexpr.evaluate.report.headline import in_words

ERRORS_IN_WORDS = {  # columns of the first table: calibration errors
    "smooth_ece": "smooth error ↓",
    "debiased_rms": "debiased error ↓",
    "ece": "ECE ↓",
    "adaptive_ece": "adaptive ECE ↓",
    "classwise_ece": "class-wise ECE ↓",
    "mce": "MCE ↓",
    "over_confidence": "too high by",
    "under_confidence": "too low by",
}
LOSSES_IN_WORDS = {  # columns of the second table: the loss that a map could save, and the rest
    "accuracy": "accuracy",
    "nll": "NLL ↓",
    "nll_refinement": "of it refinement",
    "nll_calibration": "calibration",
    "brier": "Brier ↓",
    "brier_refinement": "of it refinement",
    "brier_calibration": "calibration",
}
APPLIED = "applied"  # the entry of the map that predictions go through, where one was chosen
EXAMPLE = 0.8  # the confidence of the line's example, if rows have it


def is_measured(entry: dict) -> bool:
    """Whether an entry of `calibration` has the measures of this page; runs of older versions and
    runs with a failed trial lack them.
    """
    return bool(entry.get("diagram")) and entry["smooth_ece"]["value"] is not None


def entries(metrics: dict) -> dict[str, dict]:
    """The entries of `calibration` by name, the model's own probabilities first."""
    return {name: metrics["calibration"][name] for name in shown_maps(metrics)}


def drawn(metrics: dict) -> dict[str, dict]:
    """The entries of the diagram by label: the model's own probabilities, and those after the
    applied map, if any.
    """
    found = {name: e for name, e in entries(metrics).items() if is_measured(e)}
    names = ["none"] if "none" in found else []
    names += [APPLIED] if is_applied(found.get(APPLIED)) else []
    return {
        f"{MAPS_IN_WORDS[n]}: smooth error {found[n]['smooth_ece']['value']:.3f}": found[n]
        for n in names
    }


def is_applied(entry: dict | None) -> bool:
    """Whether a map is applied to any trial's probabilities."""
    return bool(entry) and not set(entry["names"]) <= {"none", None}


def line(metrics: dict) -> str:
    """One line on how far the probabilities can be trusted; '' if nothing was measured."""
    found = {name: e for name, e in entries(metrics).items() if is_measured(e)}
    if "none" not in found:
        return ""
    own = f"The model’s own probabilities are {_how_far(found['none'])}"
    after = found.get(APPLIED)
    if after is None or not is_applied(after):
        return f"{own}. {_example(found['none'])}"
    used = [name for name in dict.fromkeys(after["names"]) if name is not None]
    words = MAPS_IN_WORDS[used[0]] if len(used) == 1 else "the maps that are applied"
    harm = " On these rows the map does harm." if _does_harm(found["none"], after) else ""
    return f"{own}; after {words} they are {_how_far(after)}.{harm} {_example(after)}"


def _does_harm(before: dict, after: dict) -> bool:
    """Whether the map makes both measures significantly worse."""
    return after["nll"]["value"] > before["nll"]["value"] and after["smooth_ece"]["value"] > max(
        before["smooth_ece"]["value"], _luck(after)
    )


def _luck(entry: dict) -> float:
    return entry["perfect"]["smooth_ece"]["high"]


def _how_far(entry: dict) -> str:
    error, luck = entry["smooth_ece"], _luck(entry)
    off = f"off by {in_words(error)} on average"
    if error["value"] <= luck:
        return f"{off}, no more than by chance (up to {luck:.3f})"
    if error["low"] == 0:
        return f"{off}, where chance alone gives up to {luck:.3f}; the interval reaches zero"
    too = [
        words
        for words, name in (("too high", "over_confidence"), ("too low", "under_confidence"))
        if entry[name]["low"] is not None and entry[name]["low"] > 0
    ]
    way = " for some rows and ".join(too) + (" for others" if len(too) > 1 else "")
    return f"{off}{', ' if way else ''}{way}, where chance alone gives up to {luck:.3f}"


def _example(entry: dict) -> str:
    """The accuracy at one confidence: EXAMPLE, or the nearest that rows have."""
    d = entry["diagram"]
    shown = [i for i, low in enumerate(d["low"]) if low is not None]
    if not shown:
        return ""
    i = min(shown, key=lambda i: abs(d["mesh"][i] - EXAMPLE))
    right, low, high = (round(100 * d[key][i]) for key in ("curve", "low", "high"))
    return (
        f"A confidence of {d['mesh'][i]:.2f} means: right in {right} of 100 cases (95 % "
        f"interval {low} to {high})."
    )
