"""What a person reads first, on the terminal and at the head of the report: names in words, the
table's columns, the verdict.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from fexpr.evaluate import declared
from fexpr.evaluate.report import calibration_words

METRICS_IN_WORDS = {  # in the order of the report's table, by what a figure is taken over
    "macro": {
        "uf1": "UF1 (macro F1)",
        "macro_f1": "macro F1",
        "macro_f1_at_0.5": "macro F1 at threshold 0.5",
        "macro_f1_at_0.12": "macro F1 at threshold 0.12",
        "macro_precision": "macro precision",
        "macro_recall": "macro recall",
        "uar": "UAR (balanced accuracy)",
        "roc_auc": "ROC-AUC",
        "average_precision": "average precision",
    },
    "defined": {"macro_f1_all": "macro F1"},
    "all": {
        "accuracy": "accuracy",
        "top2_accuracy": "top-2 accuracy",
        "weighted_f1": "weighted F1",
        "weighted_precision": "weighted precision",
        "micro_f1": "micro F1",
        "micro_precision": "micro precision",
        "micro_recall": "micro recall",
        "nll": "negative log likelihood ↓",
        "brier": "Brier score ↓",
        "ece": "calibration error (ECE) ↓",
        "adaptive_ece": "adaptive ECE ↓",
        "classwise_ece": "class-wise ECE ↓",
        "mce": "largest gap (MCE) ↓",
    },
}
HEADLINE_IN_WORDS = {
    "uf1": "UF1",
    "uar": "UAR",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "exact_match": "exact match",
}
MONITORS_IN_WORDS = {
    "loss": "loss",
    "uf1": "UF1",
    "accuracy": "accuracy",
    "roc_auc": "ROC-AUC",
    "refinement": "log loss after a temperature",
}
SELECTIONS_IN_WORDS = {
    "best_val": "best validation epoch",
    "last": "last epoch",
    "oracle": "oracle epoch",
}
COPIES_IN_WORDS = {
    "without_exact": "the {exact} of which training or validation rows hold an exact copy,",
    "without_near": "the {rest} near or mirrored copies either",
}
SHORT = {
    "the model": "the model",
    "best validation epoch": "best val",
    "last epoch": "last",
    "oracle epoch": "oracle",
    "most frequent class": "majority",
    "always present": "always\npresent",
    "validation": "val",
    **{f"{part} prevalence": "prior" for part in ("training", "validation", "test")},
}
STYLES = {"result": "bold", "baseline": "dim", "val": "", "other": "", "oracle": "magenta"}
ORACLE_WARNING = "chosen on test rows — not a result"
FEW_GROUPS = 10  # fewer, and an interval is rough, though it is widened (bootstrap.py)
FAILED_SHOWN = 12


def columns(metrics: dict) -> list[tuple[str, str, dict]]:
    """(kind, heading, M) of the headline table; kind is 'result', 'baseline', 'val', 'other' or
    'oracle'.
    """
    chosen = metrics["selection"]
    name_of_it = "the model" if trained_elsewhere(metrics) else SELECTIONS_IN_WORDS[chosen]
    table = [("result", f"test: {name_of_it}", metrics["test"])]
    table += [
        ("baseline", f"test: {baselines_in_words(metrics)[name]}", m)
        for name, m in metrics["baselines"].items()
    ]
    if metrics["val"]:
        table.append(("val", "validation", metrics["val"]))
    for name, m in metrics["selections"].items():
        if name != chosen:
            table.append(
                ("oracle" if name == "oracle" else "other", f"test: {SELECTIONS_IN_WORDS[name]}", m)
            )
    return table


def selections(metrics: dict, of: dict[str, dict]) -> list[tuple[str, str, dict]]:
    """(kind, words, M) of the selections in `of`, the configured one first and the oracle last."""
    chosen = metrics["selection"]
    kinds = {
        name: "result" if name == chosen else "oracle" if name == "oracle" else "other"
        for name in of
    }
    order = sorted(of, key=lambda name: ("result", "other", "oracle").index(kinds[name]))
    return [
        (
            kinds[name],
            "the model" if trained_elsewhere(metrics) else SELECTIONS_IN_WORDS[name],
            of[name],
        )
        for name in order
    ]


def trained_elsewhere(metrics: dict) -> bool:
    """Not by fexpr: epochs and training rows are not known."""
    return metrics["counts_from"] != "training"


def baselines_in_words(metrics: dict) -> dict[str, str]:
    prevalence = f"{metrics['counts_from']} prevalence"
    return {
        "always_positive": "always present",
        "majority": "most frequent class",
        "prevalence": prevalence,
    }


def rows_in_words(metrics: dict, split: str) -> str:
    """'test rows', or what they are of: 'PrivateTest'."""
    parts = metrics["datasets"].get(split, [])
    return (
        " and ".join(parts)
        if 0 < len(parts) < 3
        else {"test": "test rows", "val": "validation rows"}[split]
    )


def part_in_words(name: str, metrics: dict) -> str:
    """A key of `per_dataset`; 'full' is what the micro-expression challenges call a composite, not
    what a release is made of.
    """
    return "all of them" if name == "full" and of_pictures(metrics) else name


def of_pictures(metrics: dict) -> bool:
    """Whether accuracy comes first, as it does where no row has a group."""
    return metrics["headline"]["metrics"][0] == "accuracy"


def name_of(key: str, words: str, metrics: dict) -> str:
    """UF1 is the name of micro-expression challenges for the macro F1, and unknown to those who
    sort pictures.
    """
    return "macro F1" if key == "uf1" and of_pictures(metrics) else words


def metrics_in_order(metrics: dict) -> list[tuple[str, dict[str, str]]]:
    """METRICS_IN_WORDS and the declared ones, with what is over all rows first where accuracy comes
    first.
    """
    parts = {
        **METRICS_IN_WORDS,
        "all": with_declared(METRICS_IN_WORDS["all"], "nll", lambda metric: metric.heading),
    }
    return (
        sorted(parts.items(), key=lambda item: item[0] != "all")
        if of_pictures(metrics)
        else list(parts.items())
    )


def with_declared(
    names: dict[str, str], before: str, heading: Callable[[declared.Metric], str]
) -> dict[str, str]:
    """The names with those of declared.METRICS, where they have any, in front of `before`."""
    own = {key: words for key, metric in declared.METRICS.items() if (words := heading(metric))}
    place = list(names).index(before)
    return dict([*list(names.items())[:place], *own.items(), *list(names.items())[place:]])


def is_shown(key: str, metrics: dict) -> bool:
    """Of two names of one figure, one line is enough: one-of-K tasks have their macro F1 as UF1,
    their macro recall as UAR.
    """
    return key in metrics["test"] and not (
        "uf1" in metrics["test"] and key in ("macro_f1", "macro_recall")
    )


def classes_in_words(metrics: dict) -> str:
    """What the macro figures average, such as '9 action units with at least 5 training positives
    and a positive test row'.
    """
    k, headline = metrics["test"]["macro_f1"]["classes"], metrics["headline"]
    if metrics["task"] == "multiclass":
        return f"{k} classes with a test row"
    units = "action unit" if k == 1 else "action units"
    each = " in every fold" if metrics["trials"]["count"] > 1 else ""
    return (
        f"{k} {units} with at least {headline['min_train_positives']} training positives{each} "
        "and a positive test row"
    )


def verdict(metrics: dict) -> str:
    """In plain words: does the model beat the predictor that never looks at the image?"""
    key = next(k for k in metrics if k.startswith("difference_to_"))
    constant = {
        "difference_to_always_positive": "a predictor that calls every action unit present",
        "difference_to_majority": "a predictor that always names the most frequent "
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
            f"{numbers} One test group allows no interval, so whether the model beats it cannot "
            "be told."
        )
    if difference["low"] > 0:
        end = "the model beats it"
    elif difference["high"] < 0:
        end = "the model is worse than it"
    else:
        end = "the interval includes zero, so these test rows do not show that the model beats it"
    few = few_groups(metrics)
    return (
        f"{numbers} The difference is {_with_sign(difference['value'])} ({signed(difference)}): "
        f"{end}.{few and ' '}{few}"
    )


def calibration(metrics: dict) -> str:
    """Which map is applied and what it does, and how often sets hold the truth; '' where there is
    nothing to tell.
    """
    return " ".join(
        filter(None, (calibration_words.applied(metrics), calibration_words.sets(metrics)))
    )


def few_groups(metrics: dict) -> str:
    """Which rows of figures are over so few groups that their intervals are rough; '' if none."""
    group = metrics["group_name"]
    counts = metrics.get("dataset_groups") or {"the test rows": metrics["groups"]["test"]}
    few = [
        f"{part_in_words(name, metrics)} ({count} {group}{'s' * (count > 1)})"
        for name, count in counts.items()
        if 1 < count < FEW_GROUPS
    ]
    return f"Few {group}s, hence rough intervals: {', '.join(few)}." if few else ""


def copies(metrics: dict) -> str:
    """Accuracy with and without the test rows that also occur in training or validation rows; ''
    where there are none, or nothing is known."""
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
    """(words, number of rows, M) of the report's table of copies: all test rows and parts of
    them.
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
    """A map's parameters in few words; over several trials the median and the range."""
    if "temperature" not in entry["parameters"]:
        return ""
    values = sorted(t for t in entry["parameters"]["temperature"] if t is not None)
    median = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    low, middle, high = (
        f"{t:,.0f}" if t >= 100 else f"{t:.2f}" for t in (values[0], median, values[-1])
    )
    return f"T = {middle}" if len(values) == 1 else f"T = {middle}, {low} to {high} over trials"


def oracle_gap(metrics: dict) -> str:
    """What choosing each epoch on the test rows would have bought; '' without an oracle."""
    gap = metrics["oracle_gap"]
    if not gap:
        return ""
    named = {
        name_of(name, HEADLINE_IN_WORDS[name], metrics): e
        for name, e in gap.items()
        if e["value"] is not None
    }
    parts = [
        f"{words} by {_with_sign(e['value'])}" + (f" ({signed(e)})" if e["low"] is not None else "")
        for words, e in named.items()
    ]
    return (
        f"Choosing {'each trial’s' if metrics['trials']['count'] > 1 else 'the'} epoch on its "
        "test rows would have moved "
        f"{', '.join(parts)}."
    )


def failures(metrics: dict) -> str:
    """Which trials turned NaN, and what that does to the figures; '' if none did."""
    failed, count = metrics["trials"]["failed"], metrics["trials"]["count"]
    if not failed:
        return ""
    seeds = len(metrics["seeds"]) > 1
    names = [f["fold"] + (f" (seed {f['seed']})" if seeds else "") for f in failed[:FAILED_SHOWN]]
    more = f" and {len(failed) - FAILED_SHOWN} more" if len(failed) > FAILED_SHOWN else ""
    return (
        f"{len(failed)} of {count} trials turned NaN: {', '.join(names)}{more}. The test rows "
        "of a failed trial count as wrong; "
        "figures made of scores (ROC-AUC, average precision, likelihood, Brier, calibration "
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
    return f"95 % interval {_with_sign(e['low'])} to {_with_sign(e['high'])}"


def _with_sign(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def in_words(estimate: dict, decimals: int = 3) -> str:
    if estimate["value"] is None:
        return "–"
    value = f"{estimate['value']:.{decimals}f}"
    if estimate["low"] is not None:
        return f"{value} ({estimate['low']:.{decimals}f}–{estimate['high']:.{decimals}f})"
    deviation = estimate.get("seed_std")
    return value if deviation is None else f"{value} ± {deviation:.{decimals}f}"


def decimals(key: str) -> int:
    """Of a metric in tables."""
    return declared.decimals(key)


def make_table(*headings: str, left: int = 1) -> Table:
    """A table without lines; its first `left` columns are text, the others numbers."""
    table = Table(box=None, pad_edge=False, header_style="")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i < left else "right", no_wrap=True)
    return table


def print_table(table: Table, console: Console) -> None:
    """At its full width: a terminal too narrow wraps the lines, where rich would cut the
    numbers.
    """
    table.width = Measurement.get(console, console.options.update(width=1000), table).maximum
    console.print(table, crop=False)
