"""Reports of a study of frame filtering: tables with one row per stage and per filter, study.json,
figures, study.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from experiments import filter_stages, filtering
from fexpr.data.dataset import SYNTHETIC, Dataset
from fexpr.data.splits.fold import Fold
from fexpr.data.synthetic.ravdess_clips import EXPRESSIVE
from fexpr.evaluate import clip_rules
from fexpr.evaluate.report import frame_plots
from fexpr.evaluate.report.headline import in_words
from fexpr.evaluate.report.page import image, write_html
from fexpr.evaluate.report.text_tables import make_table, print_table
from fexpr.recognizer import Recognizer
from fexpr.storage import contents, run
from fexpr.terminal import console, say

StageRow = dict
FilterRow = dict
LOOKS, TRACES = 6, 6


def describe_stage(
    config: ConfigDict,
    name: str,
    workdir: Path,
    dataset: Dataset,
    folds: Sequence[Fold],
    used: Sequence[Fold],
    own: np.ndarray,
) -> StageRow:
    """Figures of one finished stage.

    Args:
      folds: with all training rows; `used`: with those that the stage trained on.
      own: posteriors [T, N, K] of every frame by the stage's own models, which judge test frames
          without labels.
    """
    folder, text = (
        workdir / name.replace("=", "_"),
        name.partition("_")[2] if name[0].isdecimal() else name,
    )
    metrics, content = (
        contents.read_metrics(folder / run.METRICS),
        contents.read_config(folder / run.CONFIG),
    )
    all_rows, kept_rows = (np.concatenate([f.train for f in which]) for which in (folds, used))
    kept, every = (
        np.bincount(dataset.labels[rows], minlength=len(dataset.class_names))
        for rows in (kept_rows, all_rows)
    )
    shares = kept / np.maximum(every, 1)
    row = {
        "name": name,
        "run_dir": folder.name,
        "kept": len(kept_rows) / len(all_rows),
        "kept_by_class": shares.tolist(),
        "rules": metrics["clips"]["rules"],
        "rule": metrics["clips"]["rule"],
        "frames": metrics["clips"]["frames"]["accuracy"],
        "seconds": content.get("wall_seconds"),
    }
    if text != filter_stages.ALL:
        given = filtering.gaussians(config, dataset)
        tests = [
            filtering.masks(text, dataset, fold, own[t], given)[1] for t, fold in enumerate(folds)
        ]
        row["filtered_test"] = _filtered_test(config, folder, dataset, folds, tests)
        row["test_kept"] = float(np.concatenate(tests).mean())
    return row


def _filtered_test(
    config: ConfigDict,
    folder: Path,
    dataset: Dataset,
    folds: Sequence[Fold],
    tests: Sequence[np.ndarray],
) -> dict:
    """Every rule's figures when clips are decided without the frames that an unlabelled filter
    drops.
    """
    found, selection = contents.read_predictions(folder / run.PREDICTIONS), config.train.selection
    kept = np.ones(len(found["ids"]), bool)
    for t, (fold, mask) in enumerate(zip(folds, tests, strict=True)):
        dropped = dataset.ids[fold.test[~mask]]
        kept &= ~(
            (found["trial"] == t) & (found["split"] == "test") & np.isin(found["ids"], dropped)
        )
    return clip_rules.compare(found, selection, config.evaluate.resamples, kept=kept)


def describe_filter(
    name: str,
    dataset: Dataset,
    folds: Sequence[Fold],
    masks: Sequence[tuple[np.ndarray, np.ndarray]],
) -> FilterRow:
    """The share of training and of test frames that a filter keeps, over all folds.

    Where the release knows what frames show: the precision and recall of those that show their
    emotion, from half of their clip's apex on. Neutral clips show none and are left out of both.
    `precision` is None where nothing is kept.

    Args:
      masks: of each fold, the training and the test rows that are kept (`filtering.masks`).
    """
    row: FilterRow = {"name": name}
    for i, side in enumerate(("train", "test")):
        rows, mask = (
            np.concatenate([getattr(fold, side) for fold in folds]),
            np.concatenate([pair[i] for pair in masks]),
        )
        row[side] = {"kept": float(mask.mean())}
        if "shown" in dataset.extras:
            emotional = np.array(dataset.class_names)[dataset.labels[rows]] != "neutral"
            good, chosen = dataset.extras["shown"][rows][emotional] >= EXPRESSIVE, mask[emotional]
            row[side] |= {
                "precision": float(good[chosen].mean()) if chosen.any() else None,
                "recall": float(chosen[good].mean()),
            }
    return row


def every_frame(dataset: Dataset, folds: Sequence[Fold]) -> FilterRow:
    """The row of no filter: its precision is the share of frames that show their emotion."""
    return describe_filter(
        filter_stages.ALL,
        dataset,
        folds,
        [(np.ones(len(f.train), bool), np.ones(len(f.test), bool)) for f in folds],
    )


def write_study(
    config: ConfigDict,
    workdir: Path,
    dataset: Dataset,
    folds: Sequence[Fold],
    rows: Sequence[StageRow],
    judged: np.ndarray,
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
    judged: np.ndarray,
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
        dataset.ids[rows],
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
    if study["source"] == SYNTHETIC:
        say("SYNTHETIC DATA: these numbers say nothing about people", style="bold white on red")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
