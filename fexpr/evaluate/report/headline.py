"""The headline table, on the terminal and at the head of the report: its columns,
and the names of metrics, selections and baselines in words.
"""

from __future__ import annotations

from collections.abc import Callable

from fexpr.evaluate import declared

# in the order of the report's table, grouped by the rows or classes that a figure averages
METRICS_IN_WORDS = {
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


def columns(metrics: dict) -> list[tuple[str, str, dict]]:
    """The columns of the headline table as (kind, heading, metrics); kind is 'result', 'baseline',
    'val', 'other' or 'oracle'.
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
    """The selections in `of` as (kind, words, metrics), the configured one first and the oracle
    last.
    """
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
    """Whether the model was trained outside fexpr, so that epochs and training rows are unknown."""
    return metrics["counts_from"] != "training"


def baselines_in_words(metrics: dict) -> dict[str, str]:
    prevalence = f"{metrics['counts_from']} prevalence"
    return {
        "always_positive": "always present",
        "majority": "most frequent class",
        "prevalence": prevalence,
    }


def rows_in_words(metrics: dict, split: str) -> str:
    """The name of the test rows: 'test rows', or their part, such as 'PrivateTest'."""
    parts = metrics["datasets"].get(split, [])
    return (
        " and ".join(parts)
        if 0 < len(parts) < 3
        else {"test": "test rows", "val": "validation rows"}[split]
    )


def part_in_words(name: str, metrics: dict) -> str:
    """A key of `per_dataset` in words; 'full' is the micro-expression challenges' name for the
    whole composite, and is not used for parts of one release.
    """
    return "all of them" if name == "full" and of_pictures(metrics) else name


def of_pictures(metrics: dict) -> bool:
    """Whether accuracy comes first, which it does if rows have no groups."""
    return metrics["headline"]["metrics"][0] == "accuracy"


def name_of(key: str, words: str, metrics: dict) -> str:
    """The name of a metric. Macro F1 is called UF1 only for micro-expressions, whose challenges use
    that name.
    """
    return "macro F1" if key == "uf1" and of_pictures(metrics) else words


def metrics_in_order(metrics: dict) -> list[tuple[str, dict[str, str]]]:
    """METRICS_IN_WORDS and the declared metrics; metrics over all rows come first if accuracy
    does.
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
    """The names, with those of declared.METRICS (if any) inserted before `before`."""
    own = {key: words for key, metric in declared.METRICS.items() if (words := heading(metric))}
    place = list(names).index(before)
    return dict([*list(names.items())[:place], *own.items(), *list(names.items())[place:]])


def is_shown(key: str, metrics: dict) -> bool:
    """Whether a metric gets a line: of two names of one figure only one does (in one-of-K tasks UF1
    is the macro F1, UAR the macro recall).
    """
    return key in metrics["test"] and not (
        "uf1" in metrics["test"] and key in ("macro_f1", "macro_recall")
    )


def classes_in_words(metrics: dict) -> str:
    """The classes that macro figures average, for example '9 action units with at least 5 training
    positives and a positive test row'.
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


def in_words(estimate: dict, decimals: int = 3) -> str:
    """'0.680 (0.664–0.695)' for `value`, `low`, `high`; without an interval the deviation of the
    seeds, if there is one; '–' if undefined.
    """
    if estimate["value"] is None:
        return "–"
    value = f"{estimate['value']:.{decimals}f}"
    if estimate["low"] is not None:
        return f"{value} ({estimate['low']:.{decimals}f}–{estimate['high']:.{decimals}f})"
    deviation = estimate.get("seed_std")
    return value if deviation is None else f"{value} ± {deviation:.{decimals}f}"
