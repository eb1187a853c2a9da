"""What the laboratories share: a run directory of config.json, metrics.json, figures and one page,
and a table on the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fexpr import terminal
from fexpr.evaluate.report.page import image, write_html
from fexpr.evaluate.report.text_tables import make_table, print_table
from fexpr.storage import mirror, run


def spread(folds: Sequence[float]) -> dict:
    """Accuracy over folds, as metrics.json holds it: mean, standard deviation (n - 1), and each
    fold's.
    """
    deviation = float(np.std(folds, ddof=1)) if len(folds) > 1 else None
    return {"mean": float(np.mean(folds)), "std": deviation, "folds": [float(f) for f in folds]}


def in_words(accuracy: dict) -> str:
    """The text '0.823 ± 0.021'; for a single fold without the spread."""
    return f"{accuracy['mean']:.3f}" + (
        f" ± {accuracy['std']:.3f}" if accuracy["std"] is not None else ""
    )


def finish(
    workdir: Path,
    title: str,
    metrics: dict,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    verdict: str,
    figures: Sequence[tuple[str, str]],
) -> None:
    """Writes metrics.json and report.html, and prints the table with the verdict.

    Args:
      headings: of the table's columns; rows: its cells, as text.
      figures: names of files in the run directory's `figures/`, already drawn, with captions.
    """
    run.write_json(workdir / run.METRICS, metrics)
    pictures = [(image(workdir / run.FIGURES / name), caption) for name, caption in figures]
    write_html(
        workdir / run.REPORT,
        "lab.html.j2",
        synthetic=False,
        title=title,
        subtitle=metrics["source"],
        verdict=verdict,
        headings=headings,
        rows=rows,
        pictures=pictures,
        command=run.read_json(workdir / run.CONFIG)["command"],
    )
    table = make_table(*headings)
    for row in rows:
        table.add_row(*row)
    terminal.say()
    print_table(table, terminal.console)
    terminal.say(verdict)
    terminal.say(f"\nreport     {mirror.display_path(workdir / run.REPORT)}")
