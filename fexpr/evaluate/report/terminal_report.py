"""The report on the terminal: the headline tables, and notes under them."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fexpr import terminal
from fexpr.evaluate import declared
from fexpr.evaluate.report import belief, calibration_words, findings, headline
from fexpr.evaluate.report.text_tables import label_synthetic, make_table, print_table

# fewer, and short enough that the table fits into 80 columns; {n}: classes that a macro figure
# averages
ON_THE_TERMINAL = {
    "uf1": "UF1",
    "macro_f1": "macro F1, {n} AUs",
    "macro_f1_at_0.5": "  at threshold 0.5",
    "macro_f1_at_0.12": "  at threshold 0.12",
    "macro_f1_all": "macro F1, {n} AUs",
    "uar": "UAR",
    "accuracy": "accuracy",
    "top2_accuracy": "top-2 accuracy",
    "roc_auc": "ROC-AUC",
    "average_precision": "avg. precision",
    "weighted_f1": "weighted F1",
    "micro_f1": "micro F1",
    "ece": "calib. error ↓",
}
BY_MAP = {
    "accuracy": "accuracy",
    "nll": "NLL ↓",
    "brier": "Brier ↓",
    "smooth_ece": "smooth ↓",
    "ece": "ECE ↓",
}
INTERVALS_BY_MAP = ("smooth_ece", "ece")


def print_headline(metrics: dict, console: Console | None = None) -> None:
    """Prints the headline tables: test figures with intervals and baselines, other selections, the
    oracle in another colour.
    """
    console = console or terminal.console
    if metrics["per_dataset"]:
        print_table(_by_dataset(metrics), console)
        console.print()
    print_table(_by_metric(metrics), console)
    say = lambda text, style=None: console.print(text, style=style, markup=False) if text else None
    if "temperature" in metrics["calibration"]:
        console.print()
        print_table(_by_map(metrics), console)
    say(
        f"prior: answers with the {metrics['counts_from']} prevalence. The baselines never "
        "look at the image.",
        "dim",
    )
    say(findings.seeds_in_words(metrics))
    if "oracle" in metrics["selections"]:
        say(f"oracle epoch: {headline.ORACLE_WARNING}. {findings.oracle_gap(metrics)}", "magenta")
    say(findings.verdict(metrics))
    say(findings.calibration(metrics))
    say(belief.line(metrics))
    say(findings.copies(metrics))
    for part in metrics["kaggle"].values():
        say(f"Kaggle 2013: {part['text']}")
    if metrics["undefined"]:
        say(
            "undefined on these test rows, so not averaged: "
            f"{', '.join(sorted({u['name'] for u in metrics['undefined']}))}"
        )
    say(findings.failures(metrics), "bold red")
    label_synthetic(metrics["source"], console)


def _by_metric(metrics: dict) -> Table:
    table, shown = make_table(""), headline.columns(metrics)
    for kind, heading, _ in shown:
        short = headline.SHORT[heading.removeprefix("test: ")]
        head = f"test: {short}\n(95 % interval)" if kind == "result" else short
        table.add_column(
            Text(head, headline.STYLES[kind]),
            style=headline.STYLES[kind],
            justify="right",
            vertical="bottom",
            no_wrap=True,
        )
    first = ("accuracy", "top2_accuracy") if headline.of_pictures(metrics) else ()
    named = headline.with_declared(
        ON_THE_TERMINAL,
        "ece",
        lambda metric: metric.short and metric.short + " ↓" * metric.lower_is_better,
    )
    for key, words in sorted(named.items(), key=lambda item: item[0] not in first):
        if headline.is_shown(key, metrics):
            cells = (
                headline.in_words(
                    m[key] if kind == "result" else {**m[key], "low": None}, declared.decimals(key)
                )
                for kind, _, m in shown
            )
            table.add_row(
                headline.name_of(key, words, metrics).format(n=metrics["test"][key].get("classes")),
                *cells,
            )
    return table


def _by_map(metrics: dict) -> Table:
    """The table with one row per calibration map and one column per measure of calibration."""
    shown = {key: words for key, words in BY_MAP.items() if key in metrics["calibration"]["none"]}
    table = make_table("calibrated by", *shown.values())
    for name, entry in belief.entries(metrics).items():
        cells = (
            headline.in_words(
                entry[key] if key in INTERVALS_BY_MAP else {**entry[key], "low": None}
            )
            for key in shown
        )
        words = calibration_words.MAPS_IN_WORDS[name]
        table.add_row(calibration_words.SHORT.get(name, words.split()[0]), *cells)
    return table


def _by_dataset(metrics: dict) -> Table:
    """The table with one row per data set and selection, and one column per headline metric with
    its interval.
    """
    names = metrics["headline"]["metrics"]
    table = make_table(
        "part" if headline.of_pictures(metrics) else "data",
        "epoch",
        *(headline.name_of(name, headline.HEADLINE_IN_WORDS[name], metrics) for name in names),
        left=2,
    )
    for dataset, of in metrics["per_dataset"].items():
        for i, (kind, words, m) in enumerate(headline.selections(metrics, of)):
            first = "" if i else headline.part_in_words(dataset, metrics)
            table.add_row(
                first,
                headline.SHORT[words],
                *(headline.in_words(m[name]) for name in names),
                style=headline.STYLES[kind],
            )
    return table
