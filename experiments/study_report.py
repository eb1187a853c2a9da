"""Reports of a study of frame filtering: tables with one row per stage and per filter, study.json,
figures, study.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from experiments import filtering
from experiments.study_rows import FilterRow, StageRow, every_frame
from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.evaluate import clip_rules
from fexpr.evaluate.report import frame_plots
from fexpr.evaluate.report.headline import in_words
from fexpr.evaluate.report.page import image, write_html
from fexpr.evaluate.report.text_tables import label_synthetic, make_table, print_table
from fexpr.recognizer import Recognizer
from fexpr.storage import run
from fexpr.terminal import console, say

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float

LOOKS, TRACES = 6, 6


def write_study(
    config: ConfigDict,
    workdir: Path,
    dataset: Dataset,
    folds: Sequence[Fold],
    rows: Sequence[StageRow],
    judged: Float[np.ndarray, "T N K"],
    kept: Sequence[FilterRow],
    left_out: Mapping[str, str] | None = None,
) -> Path:
    """Writes study.json, figures and study.html, and prints the tables.

    Args:
      judged: posteriors [T, N, K] of the stage `all`. kept: what each filter keeps. left_out:
          filters that could not be used, and why.

    Returns:
      The path of the page.
    """
    title = (
        f"{config.model.name}, {config.model.get('variant', '')} on {config.data.name}: training "
        "on fewer frames"
    )
    content = {
        "format": run.FORMAT_VERSION,
        "title": title,
        "source": dataset.source,
        "experiment": config.experiment,
        "weights": config.filter.weights,
        "classes": list(dataset.class_names),
        "stages": list(rows),
        "filters": [every_frame(dataset, folds), *kept],
        "left_out": dict(left_out or {}),
    }
    run.write_json(workdir / "study.json", content)
    figures, synthetic = workdir / run.FIGURES, dataset.synthetic
    drawn = []

    def path(name: str, caption: str) -> Path:
        drawn.append((figures / f"{name}.png", caption))
        return drawn[-1][0]

    frame_plots.by_stage(
        path(
            "stages",
            (
                "Clips right on test actors, with 95 % intervals over actors, and the share "
                "of training frames kept, by stage. "
                "Intervals of different stages share their clips: that they overlap says little."
            ),
        ),
        rows,
        synthetic,
    )
    frame_plots.kept_by_class(
        path("kept", "Share of each emotion's training frames that a stage trained on."),
        rows,
        dataset.class_names,
        synthetic,
    )
    _traces(path, config, dataset, folds, judged, synthetic)
    if config.model.name == "deep_emotion" and config.model.variant != "baseline":
        _looks(path, workdir / rows[-1]["run_dir"], dataset, folds, synthetic)
    if "action_units" in dataset.extras:
        units, emotion = dataset.extras["action_units"], dataset.labels
        frame_plots.units_by_class(
            path(
                "action_units",
                "Action units of all frames by emotion: medians and quartiles (OpenFace, 0 to 5).",
            ),
            units,
            emotion,
            dataset.class_names,
            synthetic,
        )
    page = write_html(
        workdir / "study.html",
        "study.html.j2",
        title=title,
        subtitle=f"study {workdir.resolve().name}",
        synthetic=synthetic,
        study=content,
        shown=clip_rules.SHOWN,
        figures=[(image(file), caption) for file, caption in drawn],
    )
    _print(content)
    return page


def _traces(
    path,
    config: ConfigDict,
    dataset: Dataset,
    folds: Sequence[Fold],
    judged: Float[np.ndarray, "T N K"],
    synthetic: bool,
) -> None:
    """Draws posteriors over training clips of the first fold, and the frames that the first filter
    keeps.
    """
    if not config.filter.stages:
        return
    fold, name = folds[0], config.filter.stages[0]
    mask = filtering.masks(name, dataset, fold, judged[0], filtering.gaussians(config, dataset))[0]
    clips, first = np.unique(dataset.extras["video"][fold.train], return_index=True)
    # one an emotion
    of_class = {
        int(dataset.labels[fold.train[i]]): clip
        for clip, i in zip(clips[::-1], first[::-1], strict=True)
    }
    panels = []
    for label, clip in sorted(of_class.items())[:: max(1, len(of_class) // TRACES)][:TRACES]:
        at = np.flatnonzero(dataset.extras["video"][fold.train] == clip)
        rows = fold.train[at]
        # neutral clips show nothing
        shown = dataset.extras["shown"][rows] if "shown" in dataset.extras and label else None
        panels.append(
            (f"{dataset.class_names[label]}  {clip}", judged[0][rows], label, mask[at], shown)
        )
    truth = " Orange: what the drawn face really shows." if synthetic else ""
    frame_plots.traces(
        path(
            "traces",
            (
                "Posterior of the clip's emotion (blue) and the highest of another (grey) "
                "over training clips of the first fold; "
                f"dots: kept by {name}.{truth}"
            ),
        ),
        panels,
        synthetic,
    )


def _looks(path, folder: Path, dataset: Dataset, folds: Sequence[Fold], synthetic: bool) -> None:
    """Draws what the spatial transformer of the first fold's model samples from frames of test
    clips.
    """
    rows = folds[0].test[np.linspace(0, len(folds[0].test) - 1, LOOKS).astype(int)]
    network = Recognizer.restore(folder, "best_val", 0, LOOKS).network
    seen = network.normalized(dataset.images[rows].astype(np.float32))
    sampled = np.asarray(network.model.apply(network.variables, seen, method="transform"))[..., 0]
    maps = dataset.images[rows][..., -1]
    frame_plots.looks(
        path(
            "looks",
            (
                "Frames of test clips (above), the map that the localisation net reads, and "
                "what it samples for the trunk (below)."
            ),
        ),
        dataset.images[rows][..., 0],
        maps,
        127.5 * (sampled + 1),
        dataset.ids[rows].tolist(),
        synthetic,
    )


def _print(study: dict) -> None:
    stages = make_table(
        "stage", "frames kept", "clips right", "UAR", "macro F1", "test filtered", "seconds"
    )
    for row in study["stages"]:
        of = row["rules"][row["rule"]]
        filtered = (
            in_words({**row["filtered_test"][row["rule"]]["accuracy"], "low": None})
            if "filtered_test" in row
            else ""
        )
        cells = [
            in_words(of["accuracy"]),
            *(f"{of[name]['value']:.3f}" for name in ("uar", "uf1")),
            filtered,
        ]
        stages.add_row(row["name"], _percent(row["kept"]), *cells, f"{row['seconds'] or 0:.0f}")
    known = "precision" in study["filters"][0]["train"]
    measures = ("precision", "recall") if known else ()
    filters = make_table(
        "filter", "training frames kept", *measures, "test frames, no labels: kept", *measures
    )
    for row in study["filters"]:
        filters.add_row(
            row["name"],
            *(
                cell
                for side in ("train", "test")
                for cell in (
                    _percent(row[side]["kept"]),
                    *(in_words({"value": row[side][name], "low": None}) for name in measures),
                )
            ),
        )
    for table in (stages, filters):
        console.print()
        print_table(table, console)
    if known:
        say(
            "precision, recall: of frames of emotional clips, for those that show their "
            "emotion from half of its apex on"
        )
    label_synthetic(study["source"], console)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
