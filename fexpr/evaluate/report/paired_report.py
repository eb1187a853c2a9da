"""The page of a paired comparison: comparison.json, comparison.html and its figures, the same table
on the terminal.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fexpr import terminal
from fexpr.evaluate.report import confidence_plots, drawing, headline
from fexpr.evaluate.report.comparison import COMPARISON_HTML, COMPARISON_JSON
from fexpr.evaluate.report.findings import with_sign
from fexpr.evaluate.report.page import image, write_html
from fexpr.evaluate.report.sweep_report import words
from fexpr.evaluate.report.text_tables import label_synthetic, make_table, print_table
from fexpr.storage import run

COLOURS = (
    drawing.BLUE,
    drawing.ORANGE,
    drawing.GREEN,
    drawing.RED,
    drawing.SKY,
    drawing.ORACLE,
    drawing.GREY,
)
SPLITS = {"test": "test", "val": "validation"}  # as words
CURVES = 4  # reliability curves that can still be distinguished


def write_paired(folder: Path | str, found: dict, command: str) -> Path:
    """Writes the files into `folder`; `found` is what `paired.compare` returns. Returns the path of
    comparison.html.

    Raises:
      UserError: the folder cannot be written to.
    """
    folder, synthetic = Path(folder), _source(found) == "synthetic"
    run.write_json(folder / COMPARISON_JSON, found)
    figures = {
        name: folder / run.FIGURES / f"{name}.png"
        for name in ("paired", "f1_by_class", "reliability")
    }
    draw_differences(figures["paired"], found, synthetic)
    draw_classes(figures["f1_by_class"], found, synthetic)
    curves = [
        (drawing.in_lines(f"{c['name']}: ECE {c['test']['ece']['value']:.3f}"), c["diagram"])
        for c in [c for c in found["candidates"] if c["diagram"]][:CURVES]
    ]
    if curves:
        confidence_plots.reliability_diagram(figures["reliability"], curves, synthetic)
    names = [c["name"] for c in found["candidates"]]
    return write_html(
        folder / COMPARISON_HTML,
        "paired.html.j2",
        found=found,
        rows=SPLITS[found["split"]],
        synthetic=synthetic,
        title=" against ".join(names) if len(names) < 4 else f"{len(names)} runs",
        subtitle=f"on {rows_in_words(found)}",
        command=command,
        words=words,
        mcnemar=mcnemar,
        verdict=verdict,
        signed=signed,
        figures={
            name: image(path) for name, path in figures.items() if name != "reliability" or curves
        },
        selections=headline.SELECTIONS_IN_WORDS,
    )


def draw_differences(path: Path, found: dict, synthetic: bool) -> None:
    """Draws the first metric of each candidate (left) and its difference to the first candidate
    (right), with intervals.
    """
    metric, candidates = found["metrics"][0], found["candidates"]
    names = [drawing.in_lines(c["name"]) for c in candidates]
    lines = max(name.count("\n") + 1 for name in names)
    with drawing.canvas(
        path,
        f"{words(metric)} on the common {SPLITS[found['split']]} rows",
        (drawing.WIDTH, 1.4 + (0.22 + 0.16 * lines) * len(candidates)),
        synthetic,
    ) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for y, c in enumerate(candidates):
            _estimate(left, c["test"][metric], y, drawing.BLUE)
        for y, d in enumerate(found["differences"], 1):
            _estimate(right, d[metric], y, drawing.ORANGE)
        right.axvline(0, color=drawing.GREY, lw=0.9, ls=":")
        left.set(
            yticks=range(len(candidates)),
            yticklabels=names,
            xlabel=words(metric),
        )
        right.set(xlabel=f"{words(metric)}: difference to the first")
        right.tick_params(labelleft=False)
        left.set_ylim(len(candidates) - 0.5, -0.5)


def draw_classes(path: Path, found: dict, synthetic: bool) -> None:
    """Draws the F1 of each class with intervals, one colour per candidate."""
    names, candidates = found["class_names"], found["candidates"]
    with drawing.canvas(
        path,
        "F1 by class",
        (drawing.WIDTH, 1.4 + len(names) * (0.16 + 0.1 * len(candidates))),
        synthetic,
    ) as figure:
        ax = figure.subplots()
        for i, c in enumerate(candidates):
            for k, f1 in enumerate(c["f1"]):
                _estimate(
                    ax, f1, k + 0.7 * ((i + 0.5) / len(candidates) - 0.5), COLOURS[i % len(COLOURS)]
                )
        ax.set(
            yticks=range(len(names)),
            yticklabels=names,
            xlim=(0, 1),
            xlabel=f"F1 on the common {SPLITS[found['split']]} rows",
            ylim=(len(names) - 0.45, -0.55),
        )
        handles = [
            ax.plot([], [], "o", ms=4, color=COLOURS[i % len(COLOURS)])[0]
            for i in range(len(candidates))
        ]
        labels = [drawing.in_lines(c["name"]) for c in candidates]
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(handles), 4))


def _estimate(ax, estimate: dict, y: float, colour: str) -> None:
    if estimate["value"] is None:
        return
    if estimate["low"] is not None:
        ax.plot([estimate["low"], estimate["high"]], [y, y], color=colour, lw=1.6)
    ax.plot(estimate["value"], y, "o", ms=4.5, color=colour)


def print_paired(found: dict) -> None:
    """Prints a summary of comparison.html."""
    console = terminal.console
    shown = found["metrics"][:3]
    table = make_table(
        "",
        *map(words, shown),
        f"{words(shown[0])} less {found['candidates'][0]['name']}",
        "McNemar",
    )
    for i, c in enumerate(found["candidates"]):
        difference = found["differences"][i - 1] if i else None
        table.add_row(
            c["name"],
            *(headline.in_words(c["test"][m]) for m in shown),
            signed(difference[shown[0]]) if difference else "",
            mcnemar(difference) if difference else "",
        )
    console.print(f"on {rows_in_words(found)}")
    print_table(table, console)
    for difference in found["differences"]:
        console.print(verdict(found, difference))
    label_synthetic(_source(found), console)


def _source(found: dict) -> str:
    """'synthetic' if any of them is."""
    sources = [c["source"] for c in found["candidates"]]
    return "synthetic" if "synthetic" in sources else sources[0]


def rows_in_words(found: dict) -> str:
    rows, groups = f"{found['rows']:,} {SPLITS[found['split']]} rows", found["groups"]
    return f"{rows} that all of them have" + (
        f", of {groups:,} groups" if groups != found["rows"] else ""
    )


def mcnemar(difference: dict) -> str:
    m = difference["mcnemar"]
    return f"{m['only_this']} : {m['only_first']}, p " + (
        "< 0.001" if m["p"] < 0.001 else f"= {m['p']:.3f}"
    )


def signed(estimate: dict) -> str:
    """A difference with its interval."""
    if estimate["value"] is None:
        return "–"
    value = with_sign(estimate["value"])
    if estimate["low"] is None:
        return value
    return f"{value} ({with_sign(estimate['low'])} to {with_sign(estimate['high'])})"


def verdict(found: dict, difference: dict) -> str:
    """One sentence: whether the interval of the first metric's difference excludes zero."""
    e, metric = difference[found["metrics"][0]], words(found["metrics"][0])
    if e["low"] is None:
        return (
            f"{difference['name']} less {difference['less']}: {metric} {signed(e)}; a single "
            "group, so no interval."
        )
    sentence = (
        f"the {metric} of {difference['name']} minus that of {difference['less']} is {signed(e)}"
    )
    if e["low"] <= 0 <= e["high"]:
        return f"No difference shown: {sentence}; its interval includes zero."
    return f"{'Higher' if e['low'] > 0 else 'Lower'}: {sentence}; its interval excludes zero."


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each path: its last part, or as many parts as make the names unique."""
    # of links in a circle `Path.resolve` raises
    resolved = [Path(os.path.realpath(path)).parts for path in paths]
    for parts in range(1, max(map(len, resolved)) + 1):
        names = ["/".join(path[-parts:]) for path in resolved]
        if len(set(names)) == len(names):
            return names
    return [f"{i}: {path.name}" for i, path in enumerate(paths, 1)]  # the same path twice
