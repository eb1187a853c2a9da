"""Which figures a report shows, in the order of the page, with their captions. `plots` draws them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fexpr import run
from fexpr.evaluate import headline, plots
from fexpr.evaluate.answers import Answer, model_answer, presence_of
from fexpr.evaluate.predictions import rows_of

CLIPS_SHOWN = 6


class Drawn(NamedTuple):
    path: Path
    caption: str


def draw(run_dir: Path, metrics: dict, predictions: dict, images: Mapping[str, np.ndarray] | None, data_labels: np.ndarray | None,
         kind: str) -> list[Drawn]:
    """Writes `figures/*.png`. `predictions` are checked ones; the other arguments are those of `write_report`."""
    folder, synthetic = run_dir / run.FIGURES, metrics["source"] == "synthetic"
    names, multilabel = [str(n) for n in predictions["class_names"]], metrics["task"] == "multilabel"
    drawn = []

    def path(name: str, caption: str) -> Path:
        drawn.append(Drawn(folder / f"{name}.png", caption))
        return drawn[-1].path

    history, trials = run.read_history(run_dir), metrics["trials"]["count"]
    epochs = _selected_epochs(predictions)
    if history:
        means = f" Means over the trials still training ({trials} at first)." if trials > 1 else ""
        chosen = {name: int(e[0]) for name, e in epochs.items()} if trials == 1 else {}
        lines = " Lines mark the selected epochs; the oracle’s was chosen on the test rows." if chosen else ""
        caption = f"Loss on the training rows, loss and score on the validation rows, by epoch.{means}{lines}"
        plots.learning_curves(path("learning_curves", caption), history, chosen, synthetic)
    if epochs and trials > 1:
        last = epochs.pop("last", np.array([0]))
        ended = f"{last.min()}" if last.min() == last.max() else f"{last.min()} to {last.max()}"
        plots.selected_epochs(path("selected_epochs", (
            f"Epochs selected over the trials that did not fail; black lines are medians, training ended at epoch {ended}. "
            "Best val sees validation subjects only; the oracle takes each trial’s best epoch on the rows it is tested on.")),
            epochs, max(int(e.max()) for e in (last, *epochs.values())), synthetic)

    constant = headline.BASELINES_IN_WORDS["always_positive" if multilabel else "majority"]
    plots.per_class_f1(path("f1_by_class", (
        f"F1 on the test rows with 95 % intervals. Red ticks: the predictor “{constant}”. In brackets: positives among the training "
        f"rows{' (fewest of any trial)' if trials > 1 else ''} and the test rows.")),
                       metrics["per_class"], constant, synthetic)
    _confusion(path, metrics, names, synthetic)
    if data_labels is not None:
        plots.prevalence(path("prevalence", "All rows of the data, before the split." + (
            " A cell counts the clips that show both units; its colour is their share among the clips of its row." * multilabel)),
            names, presence_of(data_labels, len(names)), synthetic)
    if images is not None:
        thresholds = np.array(metrics["thresholds"]["per_trial"]) if multilabel else None
        answer = model_answer(predictions, metrics["selection"], "test", thresholds)
        ids = predictions["ids"][rows_of(predictions, metrics["selection"], "test")]
        first = np.sort(np.unique(ids[answer.pools()[0]], return_index=True)[1])  # a clip once, as the first seed's first fold says
        shown, right, captions = _chosen_clips(answer.at(first), ids[first], names)
        flow = " Grey: optical strain. Arrows: flow from onset to apex, each channel in its own scale." if kind == "flow" else ""
        order = ("most right decisions above, most wrong ones" if multilabel
                 else "highest probability of the true class (in brackets) above, lowest")
        whose = f" Decisions of seed {metrics['seeds'][0]}." if len(metrics["seeds"]) > 1 else ""
        plots.clips(path("clips", f"Test clips: {order} below.{whose}{flow}"),
                    np.stack([images[i] for i in shown]), captions, right, kind, synthetic)
    return drawn


def _confusion(path, metrics: dict, names: list[str], synthetic: bool) -> None:
    counts = {name: np.array(value) for name, value in metrics["confusion"].items() if name != "classes"}
    means = " Counts are means over seeds." if len(metrics["seeds"]) > 1 else ""
    if metrics["task"] == "multilabel":
        caption = f"Test rows by truth (down) and decision (across). Colour: share of the true row.{means}"
        plots.confusion_grid(path("confusion", caption), names, **counts, synthetic=synthetic)
    else:
        pooled = " pooled over all folds" if metrics["trials"]["folds"] > 1 else ""
        caption = f"Test rows{pooled}, by true class (down) and decision (across).{means}"
        plots.confusion_matrix(path("confusion", caption), names, counts["counts"], counts["unanswered"], synthetic)


def _selected_epochs(predictions: dict) -> dict[str, np.ndarray]:
    """Selection -> int [trials that did not fail]; empty where the predictions hold no epochs."""
    if "epoch" not in predictions or predictions["failed"].all():
        return {}
    return dict(zip(("last", "best_val", "oracle"), predictions["epoch"][~predictions["failed"]].T, strict=True))


def _chosen_clips(answer: Answer, ids: np.ndarray, names: list[str]) -> tuple[list[str], int, list[str]]:
    """Ids to draw, how many of them are right ones, and captions. Among equally right clips, those that show more come first."""
    wrong = (answer.presence != answer.decisions).sum(axis=1)
    if not answer.multilabel:
        wrong = 1 - np.where(answer.failed(), 0.0, answer.scores[answer.presence])
    order = np.lexsort((ids, -answer.presence.sum(axis=1), wrong))
    count = min(CLIPS_SHOWN, len(order) // 2)
    best, worst = order[:count], order[::-1][: len(order) - count][:CLIPS_SHOWN]

    def units(row: np.ndarray) -> str:
        return " + ".join(n.removeprefix("AU") for n, there in zip(names, row, strict=True) if there) or "none"

    def caption(r: int) -> str:
        lost, how = answer.failed()[r], f": {wrong[r]} wrong" if answer.multilabel else ""
        sure = "" if answer.multilabel or lost else f" ({1 - wrong[r]:.2f})"
        return f"{ids[r]}{how}\ntrue: {units(answer.presence[r])}{sure}\npred.: {'no answer' if lost else units(answer.decisions[r])}"

    rows = [*best, *worst]
    return [str(ids[r]) for r in rows], len(best), [caption(r) for r in rows]
