"""A leaderboard as Markdown, CSV, LaTeX, a figure and on the terminal: all from the same cells."""

from __future__ import annotations

import csv
import html
import io
from pathlib import Path

from fexpr import terminal
from fexpr.evaluate.report import drawing
from fexpr.evaluate.report.sweep_report import words
from fexpr.evaluate.report.text_tables import label_synthetic, make_table, print_table
from fexpr.storage import run

NAME, FIGURE = "leaderboard", "leaderboard.png"
SIGNED, NOTHING = "{:+.3f}", "–"
LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "–": "--", "\\": r"\textbackslash{}"}
)


def write_tables(folder: Path, board: dict, title: str, command: str) -> list[Path]:
    """Writes leaderboard.json, .md, .csv, .tex and figures/leaderboard.png; returns them.

    Raises:
      UserError: the folder cannot be written to.
    """
    synthetic = any(row["synthetic"] for row in board["rows"])
    figure = folder / run.FIGURES / FIGURE
    texts = {
        ".md": markdown(board, title, command, synthetic, f"{run.FIGURES}/{FIGURE}"),
        ".csv": as_csv(board),
        ".tex": latex(board, title),
    }
    run.write_json(folder / f"{NAME}.json", board)
    for suffix, text in texts.items():
        run.write_text(folder / f"{NAME}{suffix}", text)
    draw(figure, board, title, synthetic)
    return [folder / f"{NAME}{suffix}" for suffix in (".json", *texts)] + [figure]


def columns(board: dict) -> list[str]:
    first, second = names_of(board)
    return [
        "predictor",
        f"{first} (95 % by {board['group_name']})",
        second,
        "F1 averaged over folds",
        *(f"{first} {name}" for name in board["datasets"] if len(board["datasets"]) > 1),
        f"{first} last",
        f"{first} inner",
        f"{first} oracle (marked: chosen on test)",
        "paired difference to the best",
        "seeds",
        "reads",
        "minutes",
        "selection",
    ]


def names_of(board: dict) -> list[str]:
    """The two metrics in words."""
    return [words(metric) for metric in board["metrics"]]


def cells(row: dict, board: dict) -> list[str]:
    """The texts of a row, in the order of `columns`."""
    of, selections = row["test"], row["selections"]
    oracle = selections.get("oracle")
    return [
        row["name"],
        *(_interval(of[metric]) for metric in board["metrics"]),
        f"{row['folds_f1']:.3f}",
        *(
            _value(row["per_dataset"].get(name))
            for name in board["datasets"]
            if len(board["datasets"]) > 1
        ),
        _value(selections.get("last")),
        _value(selections.get("best_val")),
        f"({_value(oracle)})*" if oracle else NOTHING,
        _difference(row["difference"]) if row["difference"] else "best",
        str(row["seeds"]),
        row["extraction"] or NOTHING,
        f"{row['minutes']:.1f}" if row["minutes"] is not None else NOTHING,
        row["how"],
    ]


def markdown(board: dict, title: str, command: str, synthetic: bool, figure: str) -> str:
    head = columns(board)
    lines = [f"# {title}", ""]
    if synthetic:
        lines += ["**Synthetic data: these figures say nothing about people.**", ""]
    lines += [f"<code>{html.escape(command, quote=False)}</code>", "", _about(board), ""]
    table = [head, ["---"] * len(head), *(cells(row, board) for row in board["rows"])]
    lines += ["| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in table]
    return "\n".join([*lines, "", f"![Every row with its interval]({figure})", ""])


def as_csv(board: dict) -> str:
    """One line per predictor, numbers in full."""
    datasets = board["datasets"] if len(board["datasets"]) > 1 else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    bounds = ("value", "low", "high")
    writer.writerow(
        [
            "predictor",
            *(
                f"{metric}{'' if b == 'value' else '_' + b}"
                for metric in board["metrics"]
                for b in bounds
            ),
            "f1_averaged_over_folds",
            *(f"{board['metrics'][0]}_{name}" for name in datasets),
            *(f"{board['metrics'][0]}_{name}" for name in ("last", "best_val", "oracle")),
            *(f"difference{'' if b == 'value' else '_' + b}" for b in bounds),
            "seeds",
            "reads",
            "minutes",
            "selection",
        ]
    )
    for row in board["rows"]:
        difference = row["difference"] or {}
        writer.writerow(
            [
                row["name"],
                *(row["test"][metric][b] for metric in board["metrics"] for b in bounds),
                row["folds_f1"],
                *((row["per_dataset"].get(name) or {}).get("value") for name in datasets),
                *(
                    (row["selections"].get(name) or {}).get("value")
                    for name in ("last", "best_val", "oracle")
                ),
                *(difference.get(b) for b in bounds),
                row["seeds"],
                row["extraction"],
                row["minutes"],
                row["how"],
            ]
        )
    return text.getvalue()


def latex(board: dict, title: str) -> str:
    """A LaTeX table (booktabs); columns of long texts are paragraphs."""
    head, count = columns(board), len(columns(board))
    body = [
        " & ".join(text.translate(LATEX) for text in line) + r" \\"
        for line in (head, *(cells(row, board) for row in board["rows"]))
    ]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table*}",
            rf"\caption{{{(title + '. ' + _about(board)).translate(LATEX)}}}",
            rf"\begin{{tabular}}{{l{'c' * (count - 4)}p{{6em}}cp{{10em}}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def draw(path: Path, board: dict, title: str, synthetic: bool) -> None:
    """Draws the UF1 of every row with its interval, and that of the best test epoch as an open
    mark.
    """
    rows = board["rows"]
    with drawing.canvas(path, title, (drawing.WIDTH, 1.3 + 0.38 * len(rows)), synthetic) as figure:
        ax = figure.subplots()
        for y, row in enumerate(rows):
            value, oracle = row["test"][board["metrics"][0]], row["selections"].get("oracle")
            if value["low"] is not None:
                ax.plot([value["low"], value["high"]], [y, y], color=drawing.BLUE, lw=2)
            ax.scatter([value["value"]], [y], color=drawing.BLUE, zorder=3)
            if oracle:
                ax.scatter(
                    [oracle["value"]],
                    [y],
                    c="white",
                    marker="D",
                    edgecolors=drawing.ORACLE,
                    zorder=3,
                )
        ax.scatter([], [], color=drawing.BLUE, label="as selected, 95 %")
        ax.scatter(
            [],
            [],
            c="white",
            marker="D",
            edgecolors=drawing.ORACLE,
            label="oracle: best test epoch",
        )
        ax.set(
            yticks=range(len(rows)),
            yticklabels=[drawing.in_lines(row["name"]) for row in rows],
            ylim=(len(rows) - 0.5, -0.5),
            xlabel=f"{names_of(board)[0]}, pooled over folds",
        )
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def print_board(board: dict) -> None:
    """Prints the table without its long texts."""
    names = board["datasets"] if len(board["datasets"]) > 1 else []
    table = make_table("", *names_of(board), *names, "to the best", "seeds", "minutes")
    for text in (cells(row, board) for row in board["rows"]):
        n = len(names)
        table.add_row(*text[:3], *text[4 : 4 + n], text[7 + n], text[8 + n], text[10 + n])
    print_table(table, terminal.console)
    label_synthetic(
        "synthetic" if any(row["synthetic"] for row in board["rows"]) else "", terminal.console
    )


def _about(board: dict) -> str:
    return (
        f"{board['clips']} clips of {board['groups']} {board['group_name']}s, "
        f"{len(board['class_names'])} classes. {' and '.join(names_of(board))}: counts pooled over "
        f"folds; several seeds: their mean. Intervals: bootstrap over {board['group_name']}s, "
        f"{board['resamples']} resamples, the same for all rows. Oracle: "
        "the best epoch on the test rows, never a result."
    )


def _interval(m: dict) -> str:
    if m["value"] is None:
        return NOTHING
    text = f"{m['value']:.3f}"
    return text if m["low"] is None else f"{text} ({m['low']:.3f}–{m['high']:.3f})"


def _value(m: dict | None) -> str:
    return f"{m['value']:.3f}" if m and m["value"] is not None else NOTHING


def _difference(m: dict) -> str:
    texts = [NOTHING if m[b] is None else SIGNED.format(m[b]) for b in ("value", "low", "high")]
    return f"{texts[0]} ({texts[1]} to {texts[2]})"
