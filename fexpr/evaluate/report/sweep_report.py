"""Compares the points of a sweep, ordered by validation and never by test figures: sweep.json,
sweep.html, a table on the terminal.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from fexpr import terminal
from fexpr.evaluate import calibration, declared
from fexpr.evaluate.report import headline
from fexpr.evaluate.report.page import image, write_html
from fexpr.evaluate.report.run_report import duration
from fexpr.evaluate.report.text_tables import make_table, print_table
from fexpr.storage import run

SEED = "seed"  # the field of a config that is not a setting
SWEEP_JSON, SWEEP_HTML = "sweep.json", "sweep.html"
# other monitors have the names of their metrics; refinement is not saved for a point, so the log
# loss of its validation rows is used
METRIC_OF_MONITOR = {"loss": "nll", "refinement": "nll"}
# and those of declared.METRICS that declare it
LOWER_IS_BETTER = ("nll", "brier", "mce", *calibration.NORMS)


def ranked(points: Sequence[dict], monitor: str) -> dict:
    """The content of sweep.json, without the source.

    Args:
      points: dicts with `name`, `settings` {field: value}, `run_dir`, `val` and `test` (`val` and
          `test` of metrics.json; {} if there is none), `seconds`, `failed` (how many trials turned
          NaN).
      monitor: the metric by which points are ranked on their validation rows:
          `config.train.monitor`, or a metric of metrics.json.

    Returns:
      `metric`, `lower_is_better`, and `points`: the given dicts, merged by setting (`over_seeds`),
      with `rank`, from 1 by validation. A point without a validation figure has rank None and comes
      last.
    """
    points = over_seeds(points)
    metric = METRIC_OF_MONITOR.get(monitor, monitor)
    lower = metric in LOWER_IS_BETTER or (
        metric in declared.METRICS and declared.METRICS[metric].lower_is_better
    )
    sign = 1 if lower else -1
    values = [(value_of(p["val"], metric), p) for p in points]
    known = [(sign * value, p) for value, p in values if value is not None]
    order = [p for _, p in sorted(known, key=lambda pair: pair[0])]
    rest = [p for p in points if value_of(p["val"], metric) is None]
    placed = [{**p, "rank": i} for i, p in enumerate(order, 1)] + [
        {**p, "rank": None} for p in rest
    ]
    return {"metric": metric, "lower_is_better": sign == 1, "points": placed}


def over_seeds(points: Sequence[dict]) -> list[dict]:
    """Merges points that differ only in the seed: settings are ranked, not seeds.

    Its figures are means over the seeds, with their deviation as `seed_std` and no interval (each
    seed's own point has one); a figure that a seed lacks is undefined. `seconds` and `failed` are
    summed, and `seeds` are the original points.
    """
    groups: dict[str, list[dict]] = {}
    for point in points:
        rest = {name: value for name, value in point["settings"].items() if name != SEED}
        groups.setdefault(repr(sorted(rest.items())), []).append(point)
    return [_mean(group) if len(group) > 1 else group[0] for group in groups.values()]


def _mean(group: list[dict]) -> dict:
    first = group[0]
    settings = {name: value for name, value in first["settings"].items() if name != SEED}
    name = ",".join(f"{field.rpartition('.')[2]}={value}" for field, value in settings.items())

    def over(part: str) -> dict:
        metrics = dict.fromkeys(metric for point in group for metric in point[part])
        return {m: _mean_estimate([point[part].get(m) for point in group]) for m in metrics}

    return {
        **first,
        "name": f"{name or 'all'}, {len(group)} seeds",
        "settings": settings,
        "val": over("val"),
        "test": over("test"),
        "seconds": sum(point["seconds"] for point in group),
        "failed": sum(point["failed"] for point in group),
        "seeds": list(group),
    }


def _mean_estimate(estimates: Sequence[dict | None]) -> dict:
    values = [estimate["value"] if estimate else None for estimate in estimates]
    known = [value for value in values if value is not None]
    complete = len(known) == len(values)
    return {
        "value": float(np.mean(known)) if complete else None,
        "low": None,
        "high": None,
        "seed_std": float(np.std(known, ddof=1)) if complete else None,
        "seeds": values,
    }


def write_sweep_report(
    folder: Path | str, points: Sequence[dict], monitor: str, source: str
) -> Path:
    """Writes sweep.json, sweep.html and its figure into `folder`; points and monitor as in
    `ranked`, source as in `evaluate`.

    Returns:
      The path of sweep.html.

    Raises:
      UserError: the folder cannot be written to.
    """
    folder = Path(folder)
    sweep: dict[str, Any] = ranked(points, monitor) | {"source": source}
    run.write_json(folder / SWEEP_JSON, sweep)
    metric, synthetic = sweep["metric"], source == "synthetic"
    pairs = [
        (p["rank"], value_of(p["val"], metric), value_of(p["test"], metric))
        for p in sweep["points"]
    ]
    pairs = [(rank, val, test) for rank, val, test in pairs if val is not None and test is not None]
    figure = folder / run.FIGURES / "sweep.png"
    if pairs:
        from fexpr.evaluate.report import plots  # matplotlib

        plots.sweep_scatter(figure, pairs, words(metric), sweep["lower_is_better"], synthetic)
    return write_html(
        folder / SWEEP_HTML,
        "sweep.html.j2",
        sweep=sweep,
        synthetic=synthetic,
        title=f"sweep of {len(sweep['points'])} points",
        subtitle=folder.resolve().name,
        fields=fields(sweep["points"]),
        words=words(metric),
        figure=image(figure) if pairs else "",
        best=sweep["points"][0],
        favourite=_by_test(sweep),
        reports=[
            [(q, _report_of(q, folder)) for q in p.get("seeds", [p])] for p in sweep["points"]
        ],
        total=duration(sum(p["seconds"] for p in points)),
        duration=duration,
        undefined={"value": None},
    )


def print_sweep(points: Sequence[dict], monitor: str, console: Console | None = None) -> None:
    """Prints the same table: the best by validation in bold, failed points in red, test figures
    dimmed.
    """
    sweep = ranked(points, monitor)
    metric, names = sweep["metric"], fields(sweep["points"])
    table = make_table(
        "",
        *(name.rsplit(".", 1)[-1] for name in names),
        f"val {words(metric)}",
        "test",
        "seconds",
        "failed",
        left=0,
    )
    for p in sweep["points"]:
        settings = (str(p["settings"].get(name, "")) for name in names)
        val, test = (
            headline.in_words(p[part].get(metric, {"value": None})) for part in ("val", "test")
        )
        style = "bold" if p["rank"] == 1 else "red" if p["rank"] is None else None
        table.add_row(
            str(p["rank"] or "–"),
            *settings,
            val,
            f"[dim]{test}[/dim]",
            f"{p['seconds']:.0f}",
            str(int(p["failed"])) if p["failed"] else "",
            style=style,
        )
    console = console or terminal.console
    print_table(table, console)
    console.print(
        "ordered by validation; test figures are only to look at: choosing by them would be "
        "choosing on test rows",
        style="dim",
    )


def fields(points: Sequence[dict]) -> list[str]:
    """The settings of all points, in the order they first appear."""
    return list(dict.fromkeys(name for p in points for name in p["settings"]))


def value_of(m: dict, metric: str) -> float | None:
    return m.get(metric, {"value": None})["value"]


def words(metric: str) -> str:
    every = {key: name for part in headline.METRICS_IN_WORDS.values() for key, name in part.items()}
    every |= {key: metric.words for key, metric in declared.METRICS.items()}
    return {**every, **headline.HEADLINE_IN_WORDS}.get(metric, metric).removesuffix(" ↓")


def _by_test(sweep: dict) -> dict | None:
    """The point that a choice by test rows would have selected."""
    metric, sign = sweep["metric"], -1 if sweep["lower_is_better"] else 1
    values = [(value_of(p["test"], metric), p) for p in sweep["points"] if p["rank"]]
    known = [(sign * value, p) for value, p in values if value is not None]
    return max(known, key=lambda pair: pair[0], default=(None, None))[1]


def _report_of(point: dict, folder: Path) -> str:
    """The path of the point's own report, relative to the sweep's folder; '' if it has none."""
    report = Path(point["run_dir"]) / run.REPORT
    return Path(os.path.relpath(report, folder)).as_posix() if report.exists() else ""
