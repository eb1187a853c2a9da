"""report.html: one file that a reader can open anywhere, and the figures beside it. Built from a run directory alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import jinja2
import numpy as np

from fexpr import run
from fexpr.evaluate import headline, plots
from fexpr.evaluate.answers import Answer, model_answer, presence_of, rows_of

CLIPS_SHOWN = 6


def write_report(
    run_dir: Path | str, images: Mapping[str, np.ndarray] | None = None, data_labels: np.ndarray | None = None,
    kind: str = "flow",
) -> Path:
    """Writes `figures/*.png` and `report.html` from config.json, metrics.jsonl, metrics.json and predictions.npz.

    config.json may hold, and the report then shows: `config`, `versions`, `devices` {kind, count}, `data` {source, rows, groups,
    group_name, parts: {part: {rows, groups}}}, `model` {name, parameters}, `command`, `wall_seconds`, and `selected_epochs`
    {selection: epoch}, which the learning curves mark.

    Args:
      run_dir: a finished run.
      images: id -> uint8 [H, W, C] of at least the test rows, to draw right and wrong clips from; without it no such figure.
      data_labels: labels of all data rows, [N, K] or [N]; without it there is no figure of prevalence and co-occurrence.
      kind: what an image is, as in Dataset: 'flow' or 'face'.

    Returns:
      The path of report.html.

    Raises:
      UserError: the directory cannot be written to.
    """
    run_dir = Path(run_dir)
    config, metrics = run.read_json(run_dir / run.CONFIG), run.read_json(run_dir / run.METRICS)
    predictions = run.read_arrays(run_dir / run.PREDICTIONS)
    figures = _draw(run_dir, config, metrics, predictions, images, data_labels, kind)
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    ).get_template("report.html.j2")
    page = template.render(
        metrics=metrics, synthetic=_synthetic(metrics), title=_title(config, metrics), run_name=run_dir.resolve().name,
        figures=[(_inline(path), caption) for path, caption in figures], columns=headline.columns(metrics),
        words=headline.METRICS_IN_WORDS, oracle_warning=headline.ORACLE_WARNING, verdict=headline.verdict(metrics),
        averaged=headline.classes_in_words(metrics), facts=_facts(config), parts=config.get("data", {}).get("parts", {}),
        group=config.get("data", {}).get("group_name", "group"), command=config.get("command", ""),
        settings=list(_flat(config.get("config", {}))), versions=config.get("versions", {}),
    )
    path = run_dir / run.REPORT
    run.write_text(path, page)
    return path


def _draw(run_dir, config, metrics, predictions, images, data_labels, kind) -> list[tuple[Path, str]]:
    """(path, caption) of each figure, in the order of the page."""
    folder, synthetic, names = run_dir / run.FIGURES, _synthetic(metrics), [str(n) for n in predictions["class_names"]]
    multilabel = metrics["task"] == "multilabel"
    thresholds = np.array(metrics["thresholds"]["per_trial"]) if multilabel else None
    answer = model_answer(predictions, metrics["selection"], "test", thresholds)
    figures = []

    history = run.read_history(run_dir)
    if history:
        epochs = {name: e for name, e in config.get("selected_epochs", {}).items() if isinstance(e, int)}
        plots.learning_curves(folder / "learning_curves.png", history, epochs, synthetic)
        figures.append(("learning_curves", "Loss, and scores on the validation rows, by epoch. Lines mark the selected epochs."))

    constant = headline.BASELINES_IN_WORDS["always_positive" if multilabel else "majority"]
    plots.per_class_f1(folder / "f1_by_class.png", metrics["per_class"], constant, synthetic)
    figures.append(("f1_by_class", f"F1 on the test rows with 95 % intervals. Red ticks: the predictor “{constant}”."))

    draw_confusion = plots.confusion_grid if multilabel else plots.confusion_matrix
    draw_confusion(folder / "confusion.png", names, answer.presence, answer.decisions, synthetic)
    figures.append(("confusion", "Test rows by truth (down) and decision (across). Colour: share of the true row."))

    if data_labels is not None:
        plots.prevalence(folder / "prevalence.png", names, presence_of(data_labels, len(names)), synthetic)
        figures.append(("prevalence", "All rows of the data, before the split." + (
            " A cell counts the clips that show both units; its colour is their share among the clips of its row." * multilabel)))

    if images is not None:
        rows = rows_of(predictions, metrics["selection"], "test")
        shown, right, captions = _chosen_clips(answer, predictions["ids"][rows], names)
        plots.clips(folder / "clips.png", np.stack([images[i] for i in shown]), captions, right, kind, synthetic)
        flow = " Grey: optical strain. Arrows: flow from onset to apex, each channel in its own scale." if kind == "flow" else ""
        figures.append(("clips", f"Test clips: most right decisions above, most wrong ones below.{flow}"))
    return [(folder / f"{name}.png", caption) for name, caption in figures]


def _chosen_clips(answer: Answer, ids: np.ndarray, names: list[str]) -> tuple[list[str], int, list[str]]:
    """Ids to draw, how many of them are right ones, and captions. Among equally right clips, those that show more come first."""
    wrong = (answer.presence != answer.decisions).sum(axis=1)
    order = np.lexsort((ids, -answer.presence.sum(axis=1), wrong))
    count = min(CLIPS_SHOWN, len(order) // 2)
    best, worst = order[:count], order[::-1][: len(order) - count][:CLIPS_SHOWN]

    def units(row: np.ndarray) -> str:
        return " + ".join(n.removeprefix("AU") for n, there in zip(names, row, strict=True) if there) or "none"

    rows = [*best, *worst]
    said = [(units(answer.presence[r]), units(answer.decisions[r])) for r in rows]
    count_of = [f": {wrong[r]} wrong" if answer.multilabel else "" for r in rows]
    captions = [f"{ids[r]}{n}\ntrue: {true}\nsaid: {ours}" for r, n, (true, ours) in zip(rows, count_of, said, strict=True)]
    return [str(ids[r]) for r in rows], len(best), captions


def _synthetic(metrics: dict) -> bool:
    return metrics["source"] == "synthetic"


def _title(config: dict, metrics: dict) -> str:
    model = config.get("model", {}).get("name", "model")
    return f"{model} on {metrics['source'].split('@')[0]}"


def _facts(config: dict) -> list[tuple[str, str]]:
    """What was run on what, in words; only what config.json holds."""
    data, model, devices = (config.get(key, {}) for key in ("data", "model", "devices"))
    group = data.get("group_name", "group")
    facts = [("data", data.get("source"))]
    if "rows" in data:
        facts.append(("rows", f"{data['rows']:,} of {data['groups']:,} {group}s" if "groups" in data else f"{data['rows']:,}"))
    facts.append(("model", model.get("name")))
    if "parameters" in model:
        facts.append(("parameters", f"{model['parameters']:,}"))
    if devices:
        facts.append(("devices", f"{devices.get('count', 1)} × {devices.get('kind', 'unknown')}"))
    if "wall_seconds" in config:
        facts.append(("wall time", _duration(config["wall_seconds"])))
    return [(name, str(value)) for name, value in facts if value is not None]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _flat(config: dict, prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False)


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
