"""Which figures a report shows, in the order of the page, with their captions. `plots`, and the
files whose names end in `_plots`, draw them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fexpr.evaluate.predictions import rows_of
from fexpr.evaluate.report import (
    belief,
    calibration_words,
    class_plots,
    confidence_plots,
    examples,
    frame_plots,
    headline,
    plots,
)
from fexpr.evaluate.scored_rows import model_rows, presence_of
from fexpr.storage import run

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Num


class Drawn(NamedTuple):
    path: Path
    caption: str


def draw(
    run_dir: Path,
    metrics: dict,
    predictions: dict,
    images: Mapping[str, Num[np.ndarray, "H W C"]] | None,
    data_labels: Num[np.ndarray, " N"] | Num[np.ndarray, "N K"] | None,
    kind: str,
) -> list[Drawn]:
    """Writes `figures/*.png`. `predictions` are checked ones; the other arguments are those of
    `write_page`.
    """
    folder, synthetic = run_dir / run.FIGURES, metrics["source"] == "synthetic"
    names, multilabel = (
        [str(n) for n in predictions["class_names"]],
        metrics["task"] == "multilabel",
    )
    drawn = []

    def path(name: str, caption: str) -> Path:
        drawn.append(Drawn(folder / f"{name}.png", caption))
        return drawn[-1].path

    history, trials = run.read_history(run_dir), metrics["trials"]["count"]
    epochs = _selected_epochs(predictions)
    if history:
        means = f" Means over the trials still training ({trials} at first)." if trials > 1 else ""
        chosen = {name: int(e[0]) for name, e in epochs.items()} if trials == 1 else {}
        lines = (
            " Lines mark the selected epochs; the oracle’s was chosen on the test rows."
            if chosen
            else ""
        )
        caption = (
            "Loss on the training rows, loss and score on the validation rows, by "
            f"epoch.{means}{lines}"
        )
        plots.learning_curves(
            path("learning_curves", caption), _by_epoch(history), chosen, synthetic
        )
    if epochs and trials > 1:
        last = epochs.pop("last", np.array([0]))
        ended = f"{last.min()}" if last.min() == last.max() else f"{last.min()} to {last.max()}"
        plots.selected_epochs(
            path(
                "selected_epochs",
                (
                    "Epochs selected over the trials that did not fail; black lines are "
                    f"medians, training ended at epoch {ended}. "
                    f"Best val sees validation {metrics['group_name']}s only; "
                    "the oracle takes each trial’s best epoch on the rows it is tested on."
                ),
            ),
            epochs,
            max(int(e.max()) for e in (last, *epochs.values())),
            synthetic,
        )

    constant = headline.baselines_in_words(metrics)["always_positive" if multilabel else "majority"]
    class_plots.per_class_f1(
        path(
            "f1_by_class",
            (
                "F1 on the test rows with 95 % intervals. Upright ticks: the predictor "
                f"“{constant}”. In brackets: positives among the "
                f"{metrics['counts_from']} "
                f"rows{' (fewest of any trial)' if trials > 1 else ''} and the test rows."
            ),
        ),
        metrics["per_class"],
        constant,
        synthetic,
    )
    _confusion(path, metrics, names, synthetic)
    _confidence(path, metrics, synthetic)
    if data_labels is not None:
        class_plots.prevalence(
            path(
                "prevalence",
                "All rows of the data, before the split."
                + (
                    " A cell counts the clips that show both units; its colour is their share "
                    "among the clips of its row." * multilabel
                ),
            ),
            names,
            presence_of(data_labels, len(names)),
            synthetic,
        )
    if (run_dir / run.ATTENTION).exists():
        _attention(path, run.read_arrays(run_dir / run.ATTENTION), names, synthetic)
    if images is not None and kind != "features":
        _examples(path, metrics, predictions, names, images, kind, synthetic)
    return drawn


def _by_epoch(history: Sequence[dict]) -> list[dict]:
    """The rows of metrics.jsonl as one for each epoch: the means over the trials of all chunks,
    which are trained one after the other.
    """
    by_epoch: dict[int, list[dict]] = {}
    for row in history:
        by_epoch.setdefault(row["epoch"], []).append(row)
    return [
        {name: _mean(rows, name) for row in rows for name in row} | {"epoch": epoch}
        for epoch, rows in sorted(by_epoch.items())
    ]


def _mean(rows: Sequence[dict], name: str) -> float | None:
    known = [row for row in rows if row.get(name) is not None]
    if not known:
        return None
    trials = [row.get("trials", 1) for row in known]
    return float(np.average([row[name] for row in known], weights=trials))


def _attention(path, found: dict[str, np.ndarray], names: list[str], synthetic: bool) -> None:
    """Draws attention.npz: a test clip of each class, with figures over all clips in the
    caption.
    """
    real = found["frame"] >= 0
    caption = (
        "The weight of each frame in the decision on its clip, a test clip of each class: the "
        "first by name. "
        "Dotted: the weight if all frames had the same."
    )
    if "shown" in found:
        emotional = np.array(names)[found["labels"]] != "neutral"
        good = (found["shown"] >= 0.5) & real
        alike = real / real.sum(axis=1, keepdims=True)
        share, held = (
            100 * (good * w).sum(axis=1)[emotional].mean() for w in (alike, found["weights"])
        )
        caption += (
            " Orange: what the drawn face really shows. "
            f"Of the frames of the {emotional.sum()} emotional test clips {share:.0f} % show "
            "at least half of their emotion; "
            f"they have {held:.0f} % of the weight."
        )
    panels = []
    for k, name in enumerate(names):
        mine = np.flatnonzero(found["labels"] == k)
        if len(mine):
            i = mine[found["ids"][mine].argmin()]
            shown = found["shown"][i][real[i]] if "shown" in found and name != "neutral" else None
            panels.append(
                (
                    f"{name}  {found['ids'][i]}",
                    found["frame"][i][real[i]],
                    found["weights"][i][real[i]],
                    shown,
                )
            )
    frame_plots.attention(path("attention", caption), panels, synthetic)


def _confusion(path, metrics: dict, names: list[str], synthetic: bool) -> None:
    counts = {
        name: np.array(value) for name, value in metrics["confusion"].items() if name != "classes"
    }
    means = " Counts are means over seeds." if len(metrics["seeds"]) > 1 else ""
    if metrics["task"] == "multilabel":
        caption = (
            "Test rows by truth (down) and decision (across). Colour: share of the true "
            f"row.{means}"
        )
        counts = {name: value.tolist() for name, value in counts.items()}
        class_plots.confusion_grid(path("confusion", caption), names, **counts, synthetic=synthetic)
    else:
        pooled = " pooled over all folds" if metrics["trials"]["folds"] > 1 else ""
        caption = f"Test rows{pooled}, by true class (down) and decision (across).{means}"
        class_plots.confusion_matrix(
            path("confusion", caption), names, counts["counts"], counts["unanswered"], synthetic
        )


def _selected_epochs(predictions: dict) -> dict[str, np.ndarray]:
    """Selection -> int [trials that did not fail]; empty if the predictions contain no epochs."""
    if "epoch" not in predictions or predictions["failed"].all():
        return {}
    return dict(
        zip(
            ("last", "best_val", "oracle"),
            predictions["epoch"][~predictions["failed"]].T,
            strict=True,
        )
    )


def _confidence(path, metrics: dict, synthetic: bool) -> None:
    """Draws reliability, of the model's own probabilities and after the applied map, and risk by
    coverage, if they are defined.
    """
    shown = {
        name: entry for name, entry in metrics["selective"].items() if entry["curve"] is not None
    }
    if not shown:
        return
    curves = [(label, entry["diagram"]) for label, entry in belief.drawn(metrics).items()]
    confidence_plots.reliability_diagram(
        path(
            "reliability",
            (
                "How often test rows of a confidence are right, with 95 % bands. Below the dotted "
                "line: too confident. The distance to that line, averaged over the rows, is the "
                "smooth error. Where the band includes that line, the difference is not "
                "significant. "
                "Below: how many rows have that confidence."
            ),
        ),
        curves,
        synthetic,
    )
    confidence_plots.risk_coverage(
        path(
            "risk_coverage",
            (
                "If the model answered only the rows of which it is most confident: share of wrong "
                "answers by share of rows answered. Dots with 95 % intervals at 70, 80 and 90 %. A "
                "lower curve means that confidence ranks rows better."
            ),
        ),
        shown,
        calibration_words.MAPS_IN_WORDS,
        synthetic,
    )


def _examples(
    path,
    metrics: dict,
    predictions: dict,
    names: list[str],
    images: Mapping[str, np.ndarray],
    kind: str,
    synthetic: bool,
) -> None:
    """Draws, for faces of a one-of-K task, the most confident mistakes and each class's worst rows;
    otherwise the best and worst clips.
    """
    multilabel = metrics["task"] == "multilabel"
    thresholds = np.array(metrics["thresholds"]["per_trial"]) if multilabel else None
    answer = model_rows(predictions, metrics["selection"], "test", thresholds)
    ids = predictions["ids"][rows_of(predictions, metrics["selection"], "test")]
    # each clip once, with the prediction of the first seed's first fold
    first = np.sort(np.unique(ids[answer.pools()[0]], return_index=True)[1])
    answer, ids = answer.at(first), ids[first]
    whose = f" Decisions of seed {metrics['seeds'][0]}." if len(metrics["seeds"]) > 1 else ""
    what = "clips" if "clips" in metrics else "images"
    whose += " Shown: a clip’s middle frame." * (what == "clips")
    if kind == "face" and not multilabel:
        p = "With the probability of each class, before any calibration."
        for name, title, caption, rows in (
            (
                "mistakes",
                "The most confident mistakes",
                f"Test {what} that were misclassified, the most confident first.",
                examples.mistakes(answer, ids, names, images),
            ),
            (
                "worst_by_class",
                "The worst of each class",
                f"The test {what} of each class (left) whose true class got the lowest "
                "probability.",
                examples.worst_by_class(answer, ids, names, images),
            ),
        ):
            if rows:
                confidence_plots.picture_grid(
                    path(name, f"{caption} {p}{whose}"), title, rows, examples.ACROSS, synthetic
                )
        return
    shown, right, captions = examples.right_and_wrong(answer, ids, names)
    flow = (
        " Grey: optical strain. Arrows: flow from onset to apex, each channel in its own scale."
        if kind == "flow"
        else ""
    )
    order = (
        "most correct decisions above, fewest"
        if multilabel
        else "highest probability of the true class (in brackets) above, lowest"
    )
    plots.clips(
        path("clips", f"Test clips: {order} below.{whose}{flow}"),
        np.stack([images[i] for i in shown]),
        captions,
        right,
        kind,
        synthetic,
    )
