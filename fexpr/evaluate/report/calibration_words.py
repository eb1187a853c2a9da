"""Sentences about calibration maps and prediction sets, for report, terminal and model cards."""

from __future__ import annotations

from fexpr.probabilities import APPLIED_IN_WORDS

MAPS_IN_WORDS = {
    **APPLIED_IN_WORDS,
    "vector": "vector scaling",
    "isotonic": "isotonic regression",
    "applied": "as applied",
}
SHORT = {"none": "– (the model)", "svs": "SVS", "sms": "SMS", "applied": "applied"}
FITTED_IN_WORDS = {  # beside the temperature, which is shown as a number
    "vector": "scale and bias of each class",
    "svs": "a scale and a bias for each class, shrunk towards the identity",
    "sms": "weights between all classes, shrunk towards the identity",
    "isotonic": "a curve for each class",
    "applied": "chosen by cross-fitting",
}
METHODS_IN_WORDS = {
    "lac": "least ambiguous (LAC)",
    "aps": "adaptive (APS)",
    "raps": "adaptive, regularised (RAPS)",
    "lac_by_class": "LAC, a threshold for each class",
}


def shown_maps(metrics: dict) -> dict[str, str]:
    """The maps that were measured, in words."""
    return {name: words for name, words in MAPS_IN_WORDS.items() if name in metrics["calibration"]}


def applied(metrics: dict) -> str:
    """Which map is applied, why, and its effect on the test rows; '' if none can be fitted."""
    entry = metrics["calibration"].get("applied")
    if not entry:
        return ""
    names = [name for name in entry["names"] if name is not None]
    used = list(dict.fromkeys(names))
    held_out = entry["held_out"]
    count = entry.get("left_out", 0)
    copies = f" {count:,} validation rows that are copies of training rows were left out of it."
    left_out = copies if count else ""
    if not held_out:
        return (
            "No calibration map is applied: validation rows of one subject do not show whether it "
            "would help another."
        )
    log_loss = {name: f"{value:.3f}" for name, value in held_out.items()}
    if used == ["none"]:
        others = {name: value for name, value in held_out.items() if name != "none"}
        best = min(others, key=others.__getitem__)
        return (
            f"No calibration map is applied: none was significantly better on validation rows that "
            f"it was not fitted on (log loss {log_loss['none']} without a map; at best "
            f"{log_loss[best]}, {MAPS_IN_WORDS[best]}).{left_out}"
        )
    if len(used) == 1:
        whose, of = MAPS_IN_WORDS[used[0]], used[0]
        why = (
            "which improved the log loss of validation rows that it was not fitted on "
            f"({log_loss['none']} to {log_loss[of]})"
        )
    else:
        whose = ", ".join(
            f"{MAPS_IN_WORDS[name]} in {names.count(name)} of {len(names)} trials" for name in used
        )
        compared = ", ".join(
            f"{MAPS_IN_WORDS[n]} {log_loss[n]}" for n in dict.fromkeys(["none", *used])
        )
        why = (
            "chosen for each by the log loss of validation rows that a map was not fitted on (of "
            f"all trials together: {compared})"
        )
    before, after = metrics["calibration"]["none"], entry
    if before["nll"]["value"] is None:
        return f"Applied: {whose}.{left_out}"
    test = f"{before['nll']['value']:.3f} to {after['nll']['value']:.3f}"
    worse = after["nll"]["value"] > before["nll"]["value"]
    but = " Contrary to the validation rows, it makes the test rows worse." if worse else ""
    return (
        f"Applied: {whose}, {why}.{left_out} On the test rows the log loss goes from {test}.{but}"
    )


def sets(metrics: dict) -> str:
    """The size of prediction sets and how often they contain the true class; '' if there are
    none.
    """
    found = metrics.get("sets")
    if not found:
        return ""
    lac, asked = found["methods"]["lac"], found["coverage"]
    units = metrics["task"] == "multilabel"
    what = "every action unit present" if units else "the true class"
    held, size = lac["coverage"], lac["size"]["value"]
    low = "" if held["low"] is None else f" ({held['low']:.3f}–{held['high']:.3f})"
    return (
        f"Prediction sets that should contain {what} in {100 * asked:.0f} % of rows do so in "
        f"{held['value']:.3f}{low} of the test rows, with {size:.1f} "
        + (
            "action units on average."
            if units
            else f"classes on average, a single one in {100 * lac['single']['value']:.0f} %."
        )
    )
