"""What a person reads first, on the terminal and at the head of the report: names in words, the table's columns, the verdict."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fexpr import terminal

METRICS_IN_WORDS = {  # in the order of the table
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_f1_all": "macro F1, every defined action unit",
    "macro_f1_at_0.5": "macro F1 at threshold 0.5",
    "macro_f1_at_0.12": "macro F1 at threshold 0.12",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "weighted_f1": "F1 weighted by support",
    "uar": "unweighted average recall (UAR)",
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "micro_f1": "micro F1",
    "micro_precision": "micro precision",
    "micro_recall": "micro recall",
    "exact_match": "exact match",
    "hamming": "Hamming loss ↓",
    "nll": "negative log likelihood ↓",
    "brier": "Brier score ↓",
    "ece": "expected calibration error ↓",
}
ON_THE_TERMINAL = {  # fewer, and short enough that the table fits into 80 columns
    "accuracy": "accuracy", "macro_f1": "macro F1", "macro_f1_all": "  all defined", "macro_f1_at_0.5": "  threshold 0.5",
    "macro_f1_at_0.12": "  threshold 0.12", "weighted_f1": "weighted F1", "uar": "average recall", "roc_auc": "ROC-AUC",
    "average_precision": "avg. precision", "micro_f1": "micro F1", "exact_match": "exact match", "ece": "calib. error ↓",
}
SHORT = {
    "best validation epoch": "best val", "last epoch": "last", "oracle epoch": "oracle", "most frequent class": "most\nfrequent",
    "always present": "always\npresent", "training prevalence": "preva-\nlence", "validation": "val",
}
SELECTIONS_IN_WORDS = {"last": "last epoch", "best_val": "best validation epoch", "oracle": "oracle epoch"}
BASELINES_IN_WORDS = {
    "always_positive": "always present", "majority": "most frequent class", "prevalence": "training prevalence",
}
ORACLE_WARNING = "chosen on test rows — not a result"


def columns(metrics: dict) -> list[tuple[str, str, dict]]:
    """(kind, heading, M) of the headline table; kind is 'result', 'baseline', 'val', 'other' or 'oracle'."""
    chosen = metrics["selection"]
    table = [("result", f"test: {SELECTIONS_IN_WORDS[chosen]}", metrics["test"])]
    table += [("baseline", f"test: {BASELINES_IN_WORDS[name]}", m) for name, m in metrics["baselines"].items()]
    if metrics["val"]:
        table.append(("val", "validation", metrics["val"]))
    for name, m in metrics["selections"].items():
        if name != chosen:
            table.append(("oracle" if name == "oracle" else "other", f"test: {SELECTIONS_IN_WORDS[name]}", m))
    return table


def classes_in_words(metrics: dict) -> str:
    """What the macro figures average, such as '9 action units with at least 5 training positives and a positive test row'."""
    k, headline = metrics["test"]["macro_f1"]["classes"], metrics["headline"]
    if metrics["task"] == "multiclass":
        return f"{k} classes with a test row"
    units = "action unit" if k == 1 else "action units"
    return f"{k} {units} with at least {headline['min_train_positives']} training positives and a positive test row"


def verdict(metrics: dict) -> str:
    """In plain words: does the model beat the predictor that never looks at the image?"""
    key = next(k for k in metrics if k.startswith("difference_to_"))
    constant = {"difference_to_always_positive": "a predictor that calls every action unit present",
                "difference_to_majority": "a predictor that always names the most frequent training class"}[key]
    model, difference = metrics["test"]["macro_f1"], metrics[key]
    base = metrics["baselines"][key.removeprefix("difference_to_")]["macro_f1"]
    if model["value"] is None:
        return "The macro F1 is undefined: no class has enough training positives and a positive test row."
    numbers = f"Macro F1 is {in_words(model)} over {classes_in_words(metrics)}; {constant} reaches {base['value']:.3f}."
    if difference["low"] is None:
        return f"{numbers} One test group allows no interval, so whether the model beats it cannot be told."
    if difference["low"] > 0:
        end = "the model beats it"
    elif difference["high"] < 0:
        end = "the model is worse than it"
    else:
        end = "the interval holds zero, so these test rows do not show that the model beats it"
    low, high = (f"{difference[b]:+.3f}" for b in ("low", "high"))
    return f"{numbers} The difference is {difference['value']:+.3f} (95 % interval {low} to {high}): {end}."


def in_words(estimate: dict) -> str:
    if estimate["value"] is None:
        return "–"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f} ({estimate['low']:.3f}–{estimate['high']:.3f})"


def print_headline(metrics: dict, console: Console | None = None) -> None:
    """The headline table: test figures with intervals and baselines, other selections, the oracle in another colour."""
    console = console or terminal.console
    styles = {"result": "bold", "baseline": "dim", "val": "", "other": "", "oracle": "magenta"}
    shown = columns(metrics)
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("", no_wrap=True)
    for kind, heading, _ in shown:
        short = SHORT[heading.removeprefix("test: ")]
        head = f"test: {short}\n(95 % interval)" if kind == "result" else short
        table.add_column(Text(head, styles[kind]), style=styles[kind], justify="right", vertical="bottom", no_wrap=True)
    for name, words in ON_THE_TERMINAL.items():
        if name in metrics["test"]:
            cells = (in_words(m[name]) if kind == "result" else in_words({**m[name], "low": None}) for kind, _, m in shown)
            table.add_row(words, *cells)
    console.print(table)
    if any(kind == "oracle" for kind, _, _ in shown):
        console.print(f"oracle epoch: {ORACLE_WARNING}", style="magenta")
    console.print(verdict(metrics), markup=False)
    if metrics["undefined"]:
        names = ", ".join(sorted({u["name"] for u in metrics["undefined"]}))
        console.print(f"undefined on these test rows, in no average: {names}", markup=False)
    if metrics["source"] == "synthetic":
        console.print("SYNTHETIC DATA: these numbers say nothing about people", style="bold white on red")
