"""Laboratory 2 (Angel 2021): what weight sharing buys. A dense and a convolutional network learn
digits, and are tested on moved ones.

Which digits they are (fexpr/data/releases/digits.py) is printed on the terminal,
in the figure's title and in the report.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.laboratories import lab_report
from fexpr.arrays import AnyArray
from fexpr.data.releases.digits import Digits, load, moved
from fexpr.evaluate.report import drawing
from fexpr.models import count_parameters
from fexpr.runs import describe, opening, results
from fexpr.runs.spec import RunSpec
from fexpr.runs.train_run import train
from fexpr.storage import run
from fexpr.terminal import say
from fexpr.train import checkpoint, devices
from fexpr.train.state import Data
from fexpr.train.views import predict

NETWORKS = {
    "dense": {"name": "mlp", "hidden": (190, 128, 64, 64), "batch_norm": False, "dropout": 0.0},
    "convolutional": {"name": "digits_cnn"},
}
PUBLISHED = {"dense": 0.3, "convolutional": 0.7}  # Angel 2021, on mnist_corrupted/translate
SHIFTS = range(7)  # pixels, of the curve
MNIST_EPOCHS = 2  # its 55,000 training images make an epoch as long as 45 of scikit-learn's digits
FIGURE = "translation.png"


def lab_digits(config: ConfigDict, workdir: Path) -> None:
    """Writes config.json, metrics.json, figures/translation.png, report.html and the run
    directories `dense` and `convolutional` to `workdir`. Resumes like `fit`; a finished run is only
    reported again.

    Raises:
      UserError: the run directory holds another run or cannot be written;
          config.data.source='release' and MNIST cannot be downloaded.
    """
    data = load(config)
    dataset, folds = data.dataset, data.folds
    opening.open_run(
        RunSpec(config, workdir),
        data=describe.describe_data(config, dataset, folds),
        model={"name": " and ".join(NETWORKS)},
        devices=devices.facts(),
    )
    say(f"data       {dataset.source}: {len(dataset):,} images, 10 classes; tested {data.movement}")
    say(
        f"split      {len(folds)} fold{'s' * (len(folds) > 1)}: train "
        f"{len(folds[0].train):,}, val {len(folds[0].val):,}, "
        f"test {len(folds[0].test):,} images"
    )
    metrics, rows = {"source": dataset.source, "movement": data.movement, "networks": {}}, []
    for name, arguments in NETWORKS.items():
        own = config.copy_and_resolve_references()
        own.model, own.data.name = arguments, dataset.source
        if len(folds) == 1:
            own.train.epochs = min(own.train.epochs, MNIST_EPOCHS)
        parameters, decide = _trained(own, workdir / name, data)
        curve = {
            str(s): _accuracy(
                data, decide(moved(dataset.images[:], s, s, config.seed)), dataset.labels
            )
            for s in SHIFTS
        }
        translated = _accuracy(data, decide(data.moved), data.moved_labels)
        metrics["networks"][name] = {
            "parameters": parameters,
            "accuracy": curve["0"],
            "translated": translated,
            "by_shift": curve,
            "published_translated": PUBLISHED[name],
        }
        rows.append(
            (
                name,
                f"{parameters:,}",
                lab_report.in_words(curve["0"]),
                lab_report.in_words(translated),
                f"{PUBLISHED[name]:.1f}",
            )
        )
    _draw(workdir / run.FIGURES / FIGURE, dataset.source, metrics["networks"])
    dense, convolutional = (metrics["networks"][name] for name in NETWORKS)
    lab_report.finish(
        workdir,
        "Digits under translation: dense against convolutional",
        metrics,
        ("network", "parameters", "accuracy", "moved", "published, moved"),
        rows,
        (
            f"Tested {data.movement}, the dense network falls from "
            f"{dense['accuracy']['mean']:.3f} to {dense['translated']['mean']:.3f}, the "
            f"convolutional one from {convolutional['accuracy']['mean']:.3f} to "
            f"{convolutional['translated']['mean']:.3f}. "
            f"Data: {dataset.source}. The published figures are on mnist_corrupted/translate."
        ),
        [
            (
                FIGURE,
                (
                    "Accuracy on test digits moved by that many pixels along one axis and by "
                    "at most as many along the other, as drawn for each; "
                    "what enters at the border is black. No network was trained on moved "
                    "digits. Bands: standard deviation over folds."
                ),
            )
        ],
    )


def _trained(config: ConfigDict, workdir: Path, data: Digits):
    """Trains one network on every fold, as the trials of one program, and returns its parameter
    count and a function from images [N,H,W,1] to every trial's predictions for its validation and
    test rows, int [T, m].
    """
    say(f"network    {workdir.name}")
    engine = train([RunSpec(config, workdir)], data.dataset, data.folds, workdir)
    if not (workdir / run.REPORT).exists():
        results.report(config, data.dataset, workdir, quiet=True)
    recipe, variables = (
        dataclasses.replace(engine.recipe, data_devices=1),
        checkpoint.load_variables(workdir, config.train.selection),
    )

    @jax.jit
    def decide(images):
        one = partial(predict, recipe, Data(images, data.dataset.labels))
        return jax.lax.map(lambda trial: one(*trial), (engine.trials, variables)).argmax(-1)

    return count_parameters(engine.abstract_params()), decide


def _accuracy(data: Digits, decisions: AnyArray, labels: np.ndarray) -> dict:
    """Test accuracy of every fold, from its predictions [T, m] for validation rows followed by test
    rows.
    """
    starts = [len(fold.val) for fold in data.folds]
    return lab_report.spread(
        [
            np.mean(np.asarray(row)[start : start + len(fold.test)] == labels[fold.test])
            for row, start, fold in zip(decisions, starts, data.folds, strict=True)
        ]
    )


def _draw(path: Path, source: str, networks: dict[str, dict]) -> None:
    """Draws accuracy against shift, a line for each network, with a band of one standard deviation
    over folds.
    """
    with drawing.canvas(path, f"Moved digits: {source}", (6.8, 3.8), False) as figure:
        ax = figure.subplots()
        for (name, of), colour in zip(
            networks.items(), (drawing.ORANGE, drawing.BLUE), strict=True
        ):
            mean = np.array([a["mean"] for a in of["by_shift"].values()])
            std = np.array([a["std"] or 0.0 for a in of["by_shift"].values()])
            ax.fill_between(SHIFTS, mean - std, mean + std, color=colour, alpha=0.2, lw=0)
            ax.plot(
                SHIFTS,
                mean,
                "o-",
                color=colour,
                ms=4,
                label=f"{name}, {of['parameters']:,} parameters",
            )
        ax.axhline(0.1, color=drawing.GREY, lw=0.8, ls=":", label="chance")
        ax.set(xlabel="shift (pixels)", ylabel="accuracy on test digits", ylim=(0, 1.02))
        ax.legend(loc="lower left")
