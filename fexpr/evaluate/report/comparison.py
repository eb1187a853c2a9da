"""Classifiers side by side, with their published figures: comparison.json, comparison.html, a
figure, a table on the terminal.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fexpr import terminal
from fexpr.evaluate.report import drawing, headline
from fexpr.evaluate.report.page import image, write_html
from fexpr.evaluate.report.run_report import duration
from fexpr.evaluate.report.text_tables import label_synthetic, make_table, print_table
from fexpr.storage import run

COMPARISON_JSON, COMPARISON_HTML = "comparison.json", "comparison.html"
UNDEFINED = {"value": None, "low": None, "high": None}


def write_comparison(folder: Path | str, rows: Sequence[dict]) -> Path:
    """Writes comparison.json, comparison.html and its figure into `folder`.

    Args:
      rows: dicts with `name`, `run_dir`, `published` ({`accuracy`, `on`} or None), `test`
        (`accuracy`, `macro_f1`, `ece` as in metrics.json), `ece_after` (the ECE after temperature
        scaling, or None), `parts` {test part: accuracy}, `kaggle` (metrics.json's), `parameters`,
        `seconds`, `source`.

    Returns:
      The path of comparison.html.

    Raises:
      UserError: the folder cannot be written to.
    """
    folder, synthetic = Path(folder), any(row["source"] == "synthetic" for row in rows)
    run.write_json(folder / COMPARISON_JSON, {"rows": rows})
    figure = folder / run.FIGURES / "comparison.png"
    draw(figure, rows, synthetic)
    reports = [
        Path(os.path.relpath(Path(row["run_dir"]) / run.REPORT, folder)).as_posix() for row in rows
    ]
    return write_html(
        folder / COMPARISON_HTML,
        "comparison.html.j2",
        rows=rows,
        reports=reports,
        parts=parts(rows),
        synthetic=synthetic,
        title=f"{len(rows)} classifiers",
        subtitle=folder.resolve().name,
        source=rows[0]["source"],
        figure=image(figure),
        duration=duration,
        undefined=UNDEFINED,
        rank=rank,
    )


def draw(path: Path, rows: Sequence[dict], synthetic: bool) -> None:
    """Draws accuracies with their intervals, one line each, and published figures as open marks."""
    accuracies = [(y, row["test"]["accuracy"]) for y, row in enumerate(rows)]
    measured = [(y, a["value"]) for y, a in accuracies if a["value"] is not None]
    published = [
        (y, row["published"]["accuracy"]) for y, row in enumerate(rows) if row["published"]
    ]
    with drawing.canvas(
        path, "Accuracy on the test rows", (drawing.WIDTH, 1.3 + 0.38 * len(rows)), synthetic
    ) as figure:
        ax = figure.subplots()
        for y, a in accuracies:
            if a["low"] is not None:
                ax.plot([a["low"], a["high"]], [y, y], color=drawing.BLUE, lw=2)
        styles: tuple[tuple[list, dict[str, Any]], ...] = (
            (measured, {"marker": "o", "c": drawing.BLUE, "label": "measured here"}),
            (
                published,
                {
                    "marker": "D",
                    "c": "white",
                    "edgecolors": drawing.ORANGE,
                    "zorder": 3,
                    "label": "published",
                },
            ),
        )
        for marks, style in styles:
            if marks:
                ax.scatter([x for _, x in marks], [y for y, _ in marks], **style)
        ax.set(
            yticks=range(len(rows)),
            yticklabels=[drawing.in_lines(row["name"]) for row in rows],
            ylim=(len(rows) - 0.5, -0.5),
            xlabel="accuracy",
        )
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def print_comparison(rows: Sequence[dict]) -> None:
    """Prints the same table on the terminal."""
    table = make_table(
        "",
        "published",
        "accuracy",
        *parts(rows),
        "macro F1",
        "parameters",
        "train time",
        "ECE before",
        "after",
        "Kaggle",
    )
    for row in rows:
        published = row["published"]
        measured = [
            row["test"]["accuracy"],
            *(row["parts"].get(part, UNDEFINED) for part in parts(rows)),
            row["test"]["macro_f1"],
        ]
        table.add_row(
            row["name"],
            f"{published['accuracy']:.3f} {published['on']}" if published else "–",
            *map(headline.in_words, measured),
            f"{row['parameters']:,}",
            duration(row["seconds"]) if row["seconds"] else "–",
            *map(headline.in_words, (row["test"]["ece"], row["ece_after"] or UNDEFINED)),
            rank(row),
        )
    print_table(table, terminal.console)
    label_synthetic(rows[0]["source"], terminal.console)


def parts(rows: Sequence[dict]) -> list[str]:
    """The test parts for which any row has figures."""
    return sorted({part for row in rows for part in row["parts"]})


def rank(row: dict) -> str:
    """The rank among the published scores of the competition, with the part on which it was reached
    if that was not the competition's.
    """
    words = []
    for part, entry in row["kaggle"].items():
        place = f"{entry['rank']}" if entry["rank"] else "> 10"
        words.append(place if entry["decided_here"] else f"({place} on {part})")
    return " ".join(words) or "–"
