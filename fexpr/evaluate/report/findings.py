"""Sentences that explain the figures of a run: verdict, calibration, copies, seeds, failures."""

from __future__ import annotations

from fexpr.evaluate.report import calibration_words
from fexpr.evaluate.report.headline import (
    HEADLINE_IN_WORDS,
    classes_in_words,
    in_words,
    name_of,
    of_pictures,
    part_in_words,
    rows_in_words,
)

COPIES_IN_WORDS = {
    "without_exact": "the {exact} that have an exact copy in training or validation rows,",
    "without_near": "the {rest} near or mirrored copies either",
}
FEW_GROUPS = 10  # with fewer groups an interval is rough, although it is widened (bootstrap.py)
FAILED_SHOWN = 12


def verdict(metrics: dict) -> str:
    """A sentence on whether the model beats the predictor that never looks at the image."""
    key = next(k for k in metrics if k.startswith("difference_to_"))
    constant = {
        "difference_to_always_positive": "a predictor that decides every action unit present",
        "difference_to_majority": "a predictor that always predicts the most frequent "
        f"{metrics['counts_from']} class",
    }[key]
    model, difference = metrics["test"]["macro_f1"], metrics[key]
    base = metrics["baselines"][key.removeprefix("difference_to_")]["macro_f1"]
    name = "UF1" if metrics["task"] == "multiclass" and not of_pictures(metrics) else "Macro F1"
    if model["value"] is None:
        return (
            f"The {name} is undefined: no class has enough training positives and a positive test "
            "row."
        )
    seeds = f", the mean of {len(metrics['seeds'])} seeds," if "seeds" in model else ""
    accuracy = ""
    if of_pictures(metrics):
        found, blind = (
            in_words(metrics["test"]["accuracy"]),
            metrics["baselines"]["majority"]["accuracy"]["value"],
        )
        accuracy = (
            f"Accuracy on {rows_in_words(metrics, 'test')} is {found}; {constant} reaches "
            f"{blind:.3f}. "
        )
        constant = "that predictor"
    numbers = (
        f"{accuracy}{name} is {in_words(model)}{seeds} over {classes_in_words(metrics)}; "
        f"{constant} reaches {base['value']:.3f}."
    )
    if difference["low"] is None:
        return (
            f"{numbers} A single test group gives no interval, so it is unknown whether the model "
            "beats it."
        )
    if difference["low"] > 0:
        end = "the model beats it"
    elif difference["high"] < 0:
        end = "the model is worse than it"
    else:
        end = "the interval includes zero, so these test rows do not show that the model beats it"
    few = few_groups(metrics)
    return (
        f"{numbers} The difference is {with_sign(difference['value'])} ({signed(difference)}): "
        f"{end}.{few and ' '}{few}"
    )


def calibration(metrics: dict) -> str:
    """Which map is applied, its effect, and how often sets contain the true class; '' if there is
    nothing to report.
    """
    return " ".join(
        filter(None, (calibration_words.applied(metrics), calibration_words.sets(metrics)))
    )


def few_groups(metrics: dict) -> str:
    """Which rows of figures have so few groups that their intervals are rough; '' if none."""
    group = metrics["group_name"]
    counts = metrics.get("dataset_groups") or {"the test rows": metrics["groups"]["test"]}
    few = [
        f"{part_in_words(name, metrics)} ({count} {group}{'s' * (count > 1)})"
        for name, count in counts.items()
        if 1 < count < FEW_GROUPS
    ]
    return f"Rough intervals, because of few {group}s: {', '.join(few)}." if few else ""


def copies(metrics: dict) -> str:
    """Accuracy with and without the test rows that also occur in training or validation rows; '' if
    there are none, or nothing is known.
    """
    found = metrics["copies"]
    parts = [
        f"{in_words(found[name]['accuracy'])} without {words}"
        for name, words in COPIES_IN_WORDS.items()
        if name in found
    ]
    if not parts:
        return ""
    n = found["rows"]
    counts = {"exact": f"{n['exact']:,}", "rest": f"{n['near'] + n['mirrored']:,}"}
    return (
        f"Accuracy is {in_words(metrics['test']['accuracy'])} on all {n['all']:,} test rows, "
        f"{' and '.join(parts).format(**counts)}."
    )


def copies_in_rows(metrics: dict) -> list[tuple[str, int, dict]]:
    """The rows of the report's table of copies as (words, number of rows, metrics): all test rows
    and parts of them.
    """
    found = metrics["copies"]
    n = found["rows"]
    any_copy = n["exact"] + n["near"] + n["mirrored"]
    table = {
        "without_exact": ("without exact copies", n["all"] - n["exact"]),
        "without_near": ("without near and mirrored copies either", n["all"] - any_copy),
        "only": ("copies alone", any_copy),
    }
    parts = [(*table[name], found[name]) for name in table if name in found]
    return [("all", n["all"], metrics["test"]), *parts]


def parameters(entry: dict) -> str:
    """A map's parameters in a few words; with several trials, their median and range."""
    if "temperature" not in entry["parameters"]:
        return ""
    values = sorted(t for t in entry["parameters"]["temperature"] if t is not None)
    median = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    low, middle, high = (
        f"{t:,.0f}" if t >= 100 else f"{t:.2f}" for t in (values[0], median, values[-1])
    )
    return f"T = {middle}" if len(values) == 1 else f"T = {middle}, {low} to {high} over trials"


def oracle_gap(metrics: dict) -> str:
    """The gain from choosing each epoch on the test rows; '' without an oracle."""
    gap = metrics["oracle_gap"]
    if not gap:
        return ""
    named = {
        name_of(name, HEADLINE_IN_WORDS[name], metrics): e
        for name, e in gap.items()
        if e["value"] is not None
    }
    parts = [
        f"{words} by {with_sign(e['value'])}" + (f" ({signed(e)})" if e["low"] is not None else "")
        for words, e in named.items()
    ]
    return (
        f"Choosing {'each trial’s' if metrics['trials']['count'] > 1 else 'the'} epoch on its "
        "test rows would have changed "
        f"{', '.join(parts)}."
    )


def failures(metrics: dict) -> str:
    """Which trials turned NaN, and the effect on the figures; '' if none did."""
    failed, count = metrics["trials"]["failed"], metrics["trials"]["count"]
    if not failed:
        return ""
    seeds = len(metrics["seeds"]) > 1
    names = [f["fold"] + (f" (seed {f['seed']})" if seeds else "") for f in failed[:FAILED_SHOWN]]
    more = f" and {len(failed) - FAILED_SHOWN} more" if len(failed) > FAILED_SHOWN else ""
    return (
        f"{len(failed)} of {count} trials turned NaN: {', '.join(names)}{more}. The test rows "
        "of a failed trial count as wrong; "
        "figures computed from scores (ROC-AUC, average precision, likelihood, Brier, calibration "
        "error) are undefined."
    )


def seeds_in_words(metrics: dict) -> str:
    """The headline metrics of each seed, their mean and standard deviation, and of the seeds as one
    predictor; '' with one seed.
    """
    spread = [
        (name_of(name, HEADLINE_IN_WORDS[name], metrics), metrics["test"][name])
        for name in metrics["headline"]["metrics"]
    ]
    parts = [
        f"{words} {e['value']:.3f} ± {e['seed_std']:.3f} "
        f"({', '.join(f'{seed:.3f}' for seed in e['seeds'])})"
        for words, e in spread
        if e.get("seed_std") is not None
    ]
    ensemble = metrics.get("ensemble") or {}  # runs of older versions lack it
    together = [
        f"{name_of(name, HEADLINE_IN_WORDS[name], metrics)} {in_words(ensemble[name])}"
        for name in metrics["headline"]["metrics"]
        if name in ensemble
    ]
    text = f"over {len(metrics['seeds'])} seeds: {', '.join(parts)}" if parts else ""
    return (
        f"{text}; by the mean of their probabilities: {', '.join(together)}"
        if text and together
        else text
    )


def signed(e: dict) -> str:
    """The interval of a difference, in words."""
    return f"95 % interval {with_sign(e['low'])} to {with_sign(e['high'])}"


def with_sign(value: float) -> str:
    """'+0.012' or '−0.012'."""
    return f"{value:+.3f}".replace("-", "−")
