"""What a study of frame filtering found: a row a stage, study.json, figures, study.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from rich.table import Table

from experiments import filtering
from fexpr import run
from fexpr.data.dataset import Dataset
from fexpr.data.splits import Fold
from fexpr.data.synthetic_ravdess import EXPRESSIVE
from fexpr.evaluate import frame_plots, video
from fexpr.evaluate.headline import in_words, print_table
from fexpr.evaluate.page import image, render
from fexpr.recognizer import Recognizer
from fexpr.terminal import console, say

StageRow = dict
LOOKS, TRACES = 6, 6


def describe_stage(config: ConfigDict, name: str, workdir: Path, dataset: Dataset, folds: Sequence[Fold], used: Sequence[Fold],
                   own: np.ndarray) -> StageRow:
    """Figures of one finished stage.

    Args:
      folds: with all training rows; `used`: with those that the stage trained on.
      own: posteriors [T, N, K] of every frame by the stage's own models, which judge test frames without labels.
    """
    folder, text = workdir / name.replace("=", "_"), name.partition("_")[2] if name[0].isdecimal() else name
    metrics, content = run.read_json(folder / run.METRICS), run.read_json(folder / run.CONFIG)
    all_rows, kept_rows = (np.concatenate([f.train for f in which]) for which in (folds, used))
    kept, every = (np.bincount(dataset.labels[rows], minlength=len(dataset.class_names)) for rows in (kept_rows, all_rows))
    shares = kept / np.maximum(every, 1)
    row = {"name": name, "run_dir": folder.name, "kept": len(kept_rows) / len(all_rows), "kept_by_class": shares.tolist(),
           "rules": metrics["clips"]["rules"], "rule": metrics["clips"]["rule"], "frames": metrics["clips"]["frames"]["accuracy"],
           "seconds": content.get("wall_seconds"), "truth": _truth(dataset, folds, used)}
    if text != filtering.ALL:
        given = filtering.gaussians(config, dataset)
        tests = [filtering.masks(text, dataset, fold, own[t], given)[1] for t, fold in enumerate(folds)]
        row["filtered_test"] = _filtered_test(config, folder, dataset, folds, tests)
        row["test_kept"] = float(np.concatenate(tests).mean())
    return row


def _filtered_test(config: ConfigDict, folder: Path, dataset: Dataset, folds: Sequence[Fold], tests: Sequence[np.ndarray]) -> dict:
    """Every rule's figures where the frames that an unlabelled filter drops have no say in their clips."""
    found, selection = run.read_arrays(folder / run.PREDICTIONS), config.train.selection
    kept = np.ones(len(found["ids"]), bool)
    for t, (fold, mask) in enumerate(zip(folds, tests, strict=True)):
        dropped = dataset.ids[fold.test[~mask]]
        kept &= ~((found["trial"] == t) & (found["split"] == "test") & np.isin(found["ids"], dropped))
    return video.compare(found, selection, config.evaluate.resamples, kept=kept)


def _truth(dataset: Dataset, folds: Sequence[Fold], used: Sequence[Fold]) -> dict | None:
    """Precision and recall of the training frames that were kept, among the emotional clips of a release that knows what frames show."""
    if "shown" not in dataset.extras:
        return None
    emotional = dataset.labels != 0
    good = (dataset.extras["shown"] >= EXPRESSIVE) & emotional
    every = np.concatenate([f.train[emotional[f.train]] for f in folds])
    kept = np.concatenate([f.train[emotional[f.train]] for f in used])
    return {"precision": float(good[kept].mean()), "recall": float(good[kept].sum() / max(good[every].sum(), 1)),
            "share_expressive": float(good[every].mean())}


def write_study(config: ConfigDict, workdir: Path, dataset: Dataset, folds: Sequence[Fold], rows: Sequence[StageRow],
                judged: np.ndarray, left_out: Mapping[str, str] | None = None) -> Path:
    """study.json, figures and study.html; the table on the terminal.

    Args:
      judged: posteriors [T, N, K] of the stage `all`. left_out: filters that could not be used, and why.

    Returns:
      The page.
    """
    title = f"{config.model.name}, {config.model.get('variant', '')} on {config.data.name}: training on fewer frames"
    content = {"format": run.FORMAT_VERSION, "title": title, "source": dataset.source, "experiment": config.experiment,
               "weights": config.filter.weights, "classes": list(dataset.class_names), "stages": list(rows),
               "left_out": dict(left_out or {})}
    run.write_json(workdir / "study.json", content)
    figures, synthetic = workdir / run.FIGURES, dataset.synthetic
    drawn = []

    def path(name: str, caption: str) -> Path:
        drawn.append((figures / f"{name}.png", caption))
        return drawn[-1][0]

    frame_plots.by_stage(path("stages", (
        "Clips right on test actors, with 95 % intervals over actors, and the share of training frames kept, by stage. "
        "Intervals of different stages share their clips: that they overlap says little.")), rows, synthetic)
    frame_plots.kept_by_class(path("kept", "Share of each emotion's training frames that a stage trained on."), rows,
                              dataset.class_names, synthetic)
    _traces(path, config, dataset, folds, judged, synthetic)
    if config.model.name == "deep_emotion" and config.model.variant != "baseline":
        _looks(path, workdir / rows[-1]["run_dir"], dataset, folds, synthetic)
    if "action_units" in dataset.extras:
        units, emotion = dataset.extras["action_units"], dataset.labels
        frame_plots.units_by_class(path("action_units", "Action units of all frames by emotion: medians and quartiles (OpenFace, 0 to 5)."),
                                   units, emotion, dataset.class_names, synthetic)
    page = workdir / "study.html"
    run.write_text(page, render(
        "study.html.j2", title=title, subtitle=f"study {workdir.resolve().name}", synthetic=synthetic, study=content,
        shown=video.SHOWN, figures=[(image(file), caption) for file, caption in drawn]))
    _print(rows, synthetic)
    return page


def _traces(path, config: ConfigDict, dataset: Dataset, folds: Sequence[Fold], judged: np.ndarray, synthetic: bool) -> None:
    """Posteriors over training clips of the first fold, with what the first filter keeps of them."""
    if not config.filter.stages:
        return
    fold, name = folds[0], config.filter.stages[0]
    mask = filtering.masks(name, dataset, fold, judged[0], filtering.gaussians(config, dataset))[0]
    clips, first = np.unique(dataset.extras["video"][fold.train], return_index=True)
    of_class = {int(dataset.labels[fold.train[i]]): clip for clip, i in zip(clips[::-1], first[::-1], strict=True)}  # one an emotion
    panels = []
    for label, clip in sorted(of_class.items())[:: max(1, len(of_class) // TRACES)][:TRACES]:
        at = np.flatnonzero(dataset.extras["video"][fold.train] == clip)
        rows = fold.train[at]
        shown = dataset.extras["shown"][rows] if "shown" in dataset.extras and label else None  # neutral clips show nothing
        panels.append((f"{dataset.class_names[label]}  {clip}", judged[0][rows], label, mask[at], shown))
    truth = " Orange: what the drawn face really shows." if synthetic else ""
    frame_plots.traces(path("traces", (
        "Posterior of the clip's emotion (blue) and the highest of another (grey) over training clips of the first fold; "
        f"dots: kept by {name}.{truth}")), panels, synthetic)


def _looks(path, folder: Path, dataset: Dataset, folds: Sequence[Fold], synthetic: bool) -> None:
    """What the spatial transformer of the first fold's model passes on, for frames of test clips."""
    rows = folds[0].test[np.linspace(0, len(folds[0].test) - 1, LOOKS).astype(int)]
    network = Recognizer.restore(folder, "best_val", 0, LOOKS).network
    seen = network.normalized(dataset.images[rows].astype(np.float32))
    sampled = np.asarray(network.model.apply(network.variables, seen, method="transform"))[..., 0]
    maps = dataset.images[rows][..., -1]
    frame_plots.looks(path("looks", (
        "Frames of test clips (above), the map that the localisation net reads, and what it samples for the trunk (below).")),
                      dataset.images[rows][..., 0], maps, 127.5 * (sampled + 1), dataset.ids[rows], synthetic)


def _print(rows: Sequence[StageRow], synthetic: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "frames kept", "clips right", "UAR", "macro F1", "test filtered", "precision", "recall", "seconds"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for row in rows:
        of, truth = row["rules"][row["rule"]], row["truth"] or {}
        filtered = in_words({**row["filtered_test"][row["rule"]]["accuracy"], "low": None}) if "filtered_test" in row else ""
        cells = [in_words(of["accuracy"]), *(f"{of[name]['value']:.3f}" for name in ("uar", "uf1")), filtered]
        cells += [f"{truth[name]:.3f}" if truth else "" for name in ("precision", "recall")]
        table.add_row(row["name"], f"{100 * row['kept']:.0f} %", *cells, f"{row['seconds'] or 0:.0f}")
    console.print()
    print_table(table, console)
    if rows[0]["truth"]:
        say(f"precision, recall: of training frames that show their emotion ({100 * rows[0]['truth']['share_expressive']:.0f} % of all)")
    if synthetic:
        say("SYNTHETIC DATA: these numbers say nothing about people", style="bold white on red")
