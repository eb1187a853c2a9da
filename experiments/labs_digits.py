"""Laboratory 2 (seed 003): what weight sharing buys. A dense and a convolutional network learn digits, and are tested on moved ones.

MNIST and MNIST-C's `translate` (Mu & Gilmer 2019) once they are downloaded, else scikit-learn's 8x8 digits, scaled to 28x28 and moved by
up to 3 pixels. Which of the two it was is said on the terminal, in the figure's title and in the report.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import socket
import time
import zipfile
from functools import partial
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import getproxies

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from experiments import labs, pipeline, program, results, run_dir
from fexpr import run
from fexpr.data.dataset import Dataset
from fexpr.data.splits import Fold, make_folds
from fexpr.errors import UserError
from fexpr.evaluate import plots
from fexpr.terminal import say
from fexpr.train import checkpoint, trials
from fexpr.train.step import Data, predict

NETWORKS = {
    "dense": {"name": "mlp", "hidden": (190, 128, 64, 64), "batch_norm": False, "dropout": 0.0},
    "convolutional": {"name": "digits_cnn"},
}
PUBLISHED = {"dense": 0.3, "convolutional": 0.7}  # seed 003, on mnist_corrupted/translate
SIDE, SHIFT, SHIFTS = 28, 3, range(7)  # pixels: of an image, largest shift of the headline, shifts of the curve
MNIST_EPOCHS, MNIST_VALIDATION = 2, 5000  # its 55,000 training images make an epoch as long as 45 of those digits
FIGURE = "translation.png"


@dataclasses.dataclass(frozen=True)
class Digits:
    """Digits to train on, and the same kind of digits moved: `moved` images and `moved_labels` stand in place of all rows of `dataset`,
    of which only test rows are looked at."""

    dataset: Dataset
    folds: list[Fold]
    moved: np.ndarray
    moved_labels: np.ndarray
    movement: str


def digits(config: ConfigDict, workdir: Path) -> None:
    """Leaves config.json, metrics.json, figures/translation.png, report.html and the run directories `dense` and `convolutional` at
    `workdir`. Resumes like `fit`; a finished run is only reported again.

    Raises:
      UserError: the run directory holds another run or cannot be written; config.data.source='release' and MNIST cannot be had.
    """
    data = load(config)
    dataset, folds = data.dataset, data.folds
    run_dir.open_run(config, workdir, data=pipeline.describe_data(config, dataset, folds), model={"name": " and ".join(NETWORKS)},
                     devices=trials.devices())
    say(f"data       {dataset.source}: {len(dataset):,} images, 10 classes; tested {data.movement}")
    say(f"split      {len(folds)} fold{'s' * (len(folds) > 1)}: train {len(folds[0].train):,}, val {len(folds[0].val):,}, "
        f"test {len(folds[0].test):,} images")
    metrics, rows = {"source": dataset.source, "movement": data.movement, "networks": {}}, []
    for name, arguments in NETWORKS.items():
        own = config.copy_and_resolve_references()
        own.model, own.data.name = arguments, dataset.source
        if len(folds) == 1:
            own.train.epochs = min(own.train.epochs, MNIST_EPOCHS)
        parameters, said = _trained(own, workdir / name, data)
        curve = {str(s): _accuracy(data, said(moved(dataset.images, s, s, config.seed)), dataset.labels) for s in SHIFTS}
        translated = _accuracy(data, said(data.moved), data.moved_labels)
        metrics["networks"][name] = {"parameters": parameters, "accuracy": curve["0"], "translated": translated, "by_shift": curve,
                                     "published_translated": PUBLISHED[name]}
        rows.append((name, f"{parameters:,}", labs.in_words(curve["0"]), labs.in_words(translated), f"{PUBLISHED[name]:.1f}"))
    _draw(workdir / run.FIGURES / FIGURE, dataset.source, metrics["networks"])
    dense, convolutional = (metrics["networks"][name] for name in NETWORKS)
    labs.finish(workdir, "Digits under translation: dense against convolutional", metrics,
                ("network", "parameters", "accuracy", "moved", "published, moved"), rows, (
        f"Tested {data.movement}, the dense network falls from {dense['accuracy']['mean']:.3f} to {dense['translated']['mean']:.3f}, the "
        f"convolutional one from {convolutional['accuracy']['mean']:.3f} to {convolutional['translated']['mean']:.3f}. "
        f"Data: {dataset.source}. The published figures are on mnist_corrupted/translate."), [(FIGURE, (
            "Accuracy on test digits moved by that many pixels along one axis and by at most as many along the other, as drawn for each; "
            "what enters at the border is black. No network was trained on moved digits. Bands: standard deviation over folds."))])


def _trained(config: ConfigDict, workdir: Path, data: Digits):
    """A finished run directory of one network, every fold a trial of one program: its parameters, and a function from images
    [N,H,W,1] to the answers of every trial to its own validation and test rows, int [T, m]."""
    began, point = time.monotonic(), program.Point(config, workdir)
    engine = program.make_engine([point], data.dataset, data.folds)
    facts = pipeline.describe(config, data.dataset, data.folds, engine)
    info = run_dir.open_run(config, workdir, **facts)
    say(f"model      {workdir.name}, {facts['model']['parameters']:,} parameters   {len(engine.specs)} trials, one program")
    if not point.finished:
        program.train([point], data.dataset, data.folds, engine, workdir)
        pipeline.finish(point, info, time.monotonic() - began)
    if not (workdir / run.REPORT).exists():
        results.report(config, data.dataset, workdir, quiet=True)
    recipe, variables = dataclasses.replace(engine.recipe, data_devices=1), checkpoint.load_variables(workdir, config.train.selection)

    @jax.jit
    def said(images):
        one = partial(predict, recipe, Data(images, data.dataset.labels))
        return jax.lax.map(lambda trial: one(*trial), (engine.trials, variables)).argmax(-1)

    return facts["model"]["parameters"], said


def _accuracy(data: Digits, said: np.ndarray, labels: np.ndarray) -> dict:
    """Accuracy of answers [T, m] to validation rows, then test rows: on the test rows of every fold."""
    starts = [len(fold.val) for fold in data.folds]
    return labs.spread([np.mean(np.asarray(row)[start : start + len(fold.test)] == labels[fold.test])
                        for row, start, fold in zip(said, starts, data.folds, strict=True)])


def moved(images: np.ndarray, least: int, most: int, seed: int) -> np.ndarray:
    """Images [N,H,W,C], each moved by a whole (dy, dx) drawn evenly from least <= max(|dy|, |dx|) <= most; zeros enter at the border."""
    every = [(y, x) for y in range(-most, most + 1) for x in range(-most, most + 1) if max(abs(y), abs(x)) >= least]
    shifts = np.array(every)[np.random.default_rng(seed).integers(len(every), size=len(images))]
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    return np.stack([p[most - y : most - y + image.shape[0], most - x : most - x + image.shape[1]]
                     for p, image, (y, x) in zip(padded, images, shifts, strict=True)])


def load(config: ConfigDict) -> Digits:
    """config.data.source: 'auto' takes MNIST once it has been downloaded, else scikit-learn's digits; 'release' wants MNIST, and downloads
    it (11 MB, and MNIST-C's 240 MB).

    Raises:
      UserError: 'release', and MNIST is neither there nor to be had.
    """
    path = run.cache_dir() / "prepared" / "mnist_translate.npz"
    if config.data.source == "release" and not path.exists():
        run.write_arrays(path, download_mnist(run.cache_dir() / "downloads"))
    if path.exists():
        return mnist_digits(run.read_arrays(path))
    say("MNIST is not on this machine: scikit-learn's digits instead, which are fewer, coarser and fill the whole image "
        "(--config.data.source=release downloads MNIST)", style="yellow")
    return scikit_digits(config)


def scikit_digits(config: ConfigDict) -> Digits:
    """scikit-learn's 1,797 handwritten digits, 8x8 and 17 grey levels, scaled bilinearly; folds by config.split."""
    small = load_digits()
    grey = [cv2.resize(image * (255 / 16), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for image in small.images]
    images, ids = np.rint(grey).astype(np.uint8)[..., None], np.array([f"digit {i}" for i in range(len(grey))])
    dataset = Dataset(images, small.target.astype(np.int32), ids, ids, tuple("0123456789"), f"scikit-learn digits scaled to {SIDE}x{SIDE}")
    return Digits(dataset, make_folds(config.split, dataset), moved(images, 0, SHIFT, config.seed + 1), dataset.labels,
                  f"moved by up to {SHIFT} pixels")


def mnist_digits(sets: dict[str, np.ndarray]) -> Digits:
    """The arrays of `download_mnist` as one fold: MNIST's own split, whose last training images validate."""
    joined = lambda *parts: [np.concatenate([sets[f"{part}_{column}"] for part in parts]) for column in ("images", "labels")]
    images, labels = joined("train", "test")
    ids, n = np.array([f"digit {i}" for i in range(len(labels))]), len(sets["train_labels"])
    dataset = Dataset(images, labels, ids, ids, tuple("0123456789"), "MNIST")
    fold = Fold("mnist", np.arange(n - MNIST_VALIDATION), np.arange(n - MNIST_VALIDATION, n), np.arange(n, len(labels)), ids)
    return Digits(dataset, [fold], *joined("train", "moved"), "on mnist_corrupted/translate")


def download_mnist(folder: Path) -> dict[str, np.ndarray]:
    """`train`, `test` and `moved` (MNIST-C's translated test images), each `_images` uint8 [n,28,28,1] and `_labels` int32 [n].

    TFDS knows the addresses and checksums, and downloads; to unpack the files and to encode the images it would need TensorFlow.

    Raises:
      UserError: no network, or what came is not what it should be.
    """
    import tensorflow_datasets as tfds  # seconds; nothing else here needs it
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.image_classification import mnist, mnist_corrupted

    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    urls = {name: f"{mnist.MNIST.URL}{name}.gz" for name in names} | {"mnist_c": mnist_corrupted._DOWNLOAD_URL}
    known = mnist.MNIST.url_infos | mnist_corrupted.MNISTCorrupted.url_infos
    try:
        if not getproxies():
            socket.create_connection((urlparse(mnist.MNIST.URL).hostname, 443), timeout=10).close()  # TFDS would try for minutes
        manager = tfds.download.DownloadManager(download_dir=folder, url_infos=known, force_checksums_validation=True)
        files = manager.download(urls)
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as e:
        raise UserError(f"MNIST cannot be downloaded: {str(e).splitlines()[0]}",
                        fix="check the network, or take scikit-learn's digits: --config.data.source=auto") from e
    train, train_labels, test, test_labels = (np.frombuffer(gzip.decompress(files[name].read_bytes()), np.uint8) for name in names)
    with zipfile.ZipFile(files["mnist_c"]) as archive:
        moved, moved_labels = (np.load(io.BytesIO(archive.read(f"mnist_c/translate/test_{column}.npy"))) for column in ("images", "labels"))
    found = {"train": (train[16:], train_labels[8:]), "test": (test[16:], test_labels[8:]),  # behind the headers of the IDX format
             "moved": (moved, moved_labels)}
    return {f"{part}_{column}": array for part, (images, labels) in found.items()
            for column, array in (("images", images.reshape(-1, SIDE, SIDE, 1)), ("labels", labels.astype(np.int32)))}


def _draw(path: Path, source: str, networks: dict[str, dict]) -> None:
    """Accuracy against shift, a line a network, with a band of one standard deviation over folds."""
    with plots.canvas(path, f"Moved digits: {source}", (6.8, 3.8), False) as figure:
        ax = figure.subplots()
        for (name, of), colour in zip(networks.items(), (plots.ORANGE, plots.BLUE), strict=True):
            mean = np.array([a["mean"] for a in of["by_shift"].values()])
            std = np.array([a["std"] or 0.0 for a in of["by_shift"].values()])
            ax.fill_between(SHIFTS, mean - std, mean + std, color=colour, alpha=0.2, lw=0)
            ax.plot(SHIFTS, mean, "o-", color=colour, ms=4, label=f"{name}, {of['parameters']:,} parameters")
        ax.axhline(0.1, color=plots.GREY, lw=0.8, ls=":", label="chance")
        ax.set(xlabel="shift (pixels)", ylabel="accuracy on test digits", ylim=(0, 1.02))
        ax.legend(loc="lower left")
